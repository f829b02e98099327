# SPDX-License-Identifier: Apache-2.0
"""init, join, token and up: how a machine becomes part of a cluster, on a site of its own."""
import contextlib
import hashlib
import hmac
import os
import signal
import struct
import subprocess
import time

from cluster import Failed, Site, run, wait_for
from commands_bed import ask, expect, started, words_in

STOP_LIMIT = 5.0  # seconds in which a machine without a site has ended


class Birth:
    """Three machines that are nothing yet, and become a cluster by and by."""

    def __init__(self):
        self.site = Site("mtcb", f"/tmp/muster-birth-{os.getpid()}")
        self.a, self.b, self.c = self.site.machines.values()

    def open(self):
        self.site.open()
        for m in self.site.machines.values():
            os.makedirs(m.dir)

    def close(self, failed):
        if failed:
            for m in self.site.machines.values():
                print(f"--- {m.name}, joining\n{m.log_tail(lines=20)}")
        self.site.close()
        self.site.remove_files()

    def where(self, m, data=None, name=None, address=None):
        return ("--data", data or m.data, "--name", name or m.name, "--address",
                address or m.address)

    def token(self, m):
        """Of that machine: (address, token)."""
        return Site.token_in(expect(ask(m.ns, "token", "--data", m.data), 0).out)

    def names(self):
        """Who belongs to the cluster, says a."""
        status = self.a.status() or {}
        return sorted(x["name"] for x in (status.get("quorum") or {}).get("members", []))


def contents(directory):
    """Every file below it with a hash of what is in it."""
    found = {}
    for top, _, names in os.walk(directory):
        for n in names:
            with open(os.path.join(top, n), "rb") as f:
                found[os.path.join(top, n)] = hashlib.sha256(f.read()).hexdigest()
    return found


def init_refused(birth):
    a = birth.a
    for name in ("", "Upper", "a b", "-a", "a/b", "x" * 80, "ä"):
        expect(ask(a.ns, "init", *birth.where(a)[:2], "--name", name, "--address", a.address), 2,
               "cannot be a machine's name", "--name NAME")
    for address in ("", "10.77.0", "10.77.0.256", "a.example", "10.77.0.11:2182", "::1"):
        expect(ask(a.ns, "init", *birth.where(a)[:4], "--address", address), 2, "--address IP")
    expect(ask(a.ns, "init", *birth.where(a)[:4]), 2, "--address IP")
    expect(ask(a.ns, "init", *birth.where(a), "--adress", "1.2.3.4"), 2, 'did you mean "--address"')
    if os.path.exists(a.data):
        raise Failed("a refused init left something behind")
    # Where nothing can be written: below a file, in a directory that is not there, read-only.
    file = os.path.join(a.dir, "file")
    with open(file, "w", encoding="utf-8"):
        pass
    fixed = os.path.join(a.dir, "fixed")
    os.makedirs(fixed)
    run("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", fixed)
    try:
        for data, why in ((os.path.join(file, "data"), "not a directory"),
                          (os.path.join(a.dir, "none", "data"), "no such file"),
                          (os.path.join(fixed, "data"), "read-only"), (fixed, "be written")):
            expect(ask(a.ns, "init", *birth.where(a, data)), 1, data, why)
    finally:
        run("umount", fixed, check=False)


def init_twice(birth):
    a = birth.a
    said = expect(ask(a.ns, "init", *birth.where(a)), 0, f"muster up --data {a.data}")
    if said.out.count("\n") != 1 or not said.out.startswith("muster join " + a.address):
        raise Failed(f"the join command is not all of stdout: {said.out}")
    before = contents(a.data)
    expect(ask(a.ns, "init", *birth.where(a)), 6, "already", f"{a.data} holds the machine a")
    expect(ask(a.ns, "init", *birth.where(a, name="z")), 6, "already")
    if contents(a.data) != before:
        raise Failed("the second init changed the files of the first")
    for path in (a.data, os.path.join(a.data, "secret")):
        if os.stat(path).st_mode & 0o077:
            raise Failed(f"others may read {path}: {os.stat(path).st_mode & 0o777:o}")


def not_a_machine(birth):
    """up, token and status where there is no machine."""
    nowhere = os.path.join(birth.a.dir, "nowhere")
    expect(ask(birth.a.ns, "up", "--data", nowhere), 1, "muster init", "muster join")
    expect(ask(birth.a.ns, "token", "--data", nowhere), 1, "no token", "muster token --data")
    expect(ask(birth.a.ns, "status", "--data", nowhere), 4, "DOWN", "next: muster up")
    if os.path.exists(nowhere):
        raise Failed("it made the directory")


def join_nobody(birth):
    """The machine that is asked does not run, or its network swallows everything."""
    token = birth.token(birth.a)[1]
    said = expect(ask(birth.b.ns, "join", birth.a.address, token, *birth.where(birth.b)), 1,
                  "connection refused", "port 2182")
    away = expect(ask(birth.b.ns, "join", f"{birth.site.net}.77", token, *birth.where(birth.b)), 1,
                  f"{birth.site.net}.77")
    for took in (said.took, away.took):
        if took > 15:
            raise Failed(f"it took {took:.0f} s to say so")
    expect(ask(birth.b.ns, "join", "nonsense", token, *birth.where(birth.b)), 2, "not an address")
    expect(ask(birth.b.ns, "join", birth.a.address), 2, "muster token")
    if os.path.exists(birth.b.data):
        raise Failed("it wrote files though it did not join")
    return f"refused after {said.took:.2f} s, no answer after {away.took:.1f} s"


def stopped_while_starting(birth):
    """SIGTERM at any moment of the start: it ends, and starts again as if nothing had been."""
    a, ended = birth.a, []
    # Some time after it began to run, and after it has said that it came so far.
    moments = [("", ms) for ms in (0, 1, 2, 5, 10, 15, 20, 30, 50, 100, 200)]
    moments += [(word, ms) for word in ("raft_role", "serving", "session_connected")
                for ms in (0, 0.5, 1, 2, 3, 5)]
    for i, (word, delay_ms) in enumerate(moments):
        how = (signal.SIGTERM, signal.SIGINT)[i % 2]
        with started(a.ns, "up", "--data", a.data) as p:
            wait_for(lambda: a.pids("muster"), 5, "it to be started", 0.0005)
            p.wait_says(word, 5, step=0.0002)
            time.sleep(delay_ms / 1000)  # ok: the moment is what is varied
            begun = time.monotonic()
            code = p.end(how, STOP_LIMIT)
            ended.append(time.monotonic() - begun)
            if code not in (0, 128 + how):
                raise Failed(f"exit code {code}, {delay_ms} ms after {word!r}: {p.err()}")
    a.start_muster()
    a.wait_ready()
    return f"{len(ended)} starts, the longest end took {max(ended):.2f} s"


def wrong_tokens(birth):
    a, b = birth.a, birth.b
    # One that has expired: made with the cluster's secret, as `muster token` does it, an hour
    # and a minute ago.
    with open(os.path.join(a.data, "secret"), encoding="ascii") as f:
        secret = bytes.fromhex(f.read().strip())
    address, good = birth.token(a)
    ident, expires = (int(x, 16) for x in good.split(".")[:2])

    def made(expires_s):
        key = hmac.new(secret, b"muster join token\0" + struct.pack(">QQ", ident, expires_s),
                       "sha256").digest()[:16]
        return f"{ident:x}.{expires_s:x}.{key.hex()}"
    if made(expires) != good:
        raise Failed("tokens are made otherwise than this test believes")
    if not 3000 < expires - time.time() <= 3601:
        raise Failed(f"the token is good for {expires - time.time():.0f} s, not for an hour")
    expect(ask(b.ns, "join", address, made(int(time.time()) - 60), *birth.where(b)), 1,
           "not joined", "token", "hour")
    # One whose end was moved by hand, and one of another cluster.
    head, _, tail = good.split(".")
    expect(ask(b.ns, "join", address, f"{head}.{expires + 7200:x}.{tail}", *birth.where(b)), 1,
           "not of this cluster")
    other = os.path.join(b.dir, "other")
    foreign = Site.token_in(expect(ask(b.ns, "init", *birth.where(b, other)), 0).out)[1]
    expect(ask(b.ns, "join", address, foreign, *birth.where(b)), 1, "not of this cluster")
    if birth.names() != ["a"] or os.path.exists(b.data):
        raise Failed(f"it had an effect: members {birth.names()}")


def join_interrupted(birth):
    """The command is repeated with the same token until it succeeds."""
    a, b = birth.a, birth.b
    address, token = birth.token(a)
    away = os.path.join(b.dir, "later", "data")
    expect(ask(b.ns, "join", address, token, *birth.where(b, away)), 1, "could not be written",
           "same command again")
    for delay_ms in (1, 3, 6, 10, 20, 40):
        p = subprocess.Popen(words_in(b.ns, "join", address, token, *birth.where(b)),
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        time.sleep(delay_ms / 1000)  # ok: the moment is what is varied
        p.kill()
        if p.wait(5) == 0:
            break
    if not os.path.exists(os.path.join(b.data, "machine")):
        expect(ask(b.ns, "join", address, token, *birth.where(b)), 0,
               "b is a machine of the cluster of 2", f"muster up --data {b.data}")
    expect(ask(b.ns, "join", address, token, *birth.where(b)), 6, "holds the machine b already")
    if birth.names() != ["a", "b"]:
        raise Failed(f"members: {birth.names()}")
    b.start_muster()
    b.wait_ready()


def join_taken(birth):
    """A used token, a name and an address that are another machine's."""
    a, b, c = birth.a, birth.b, birth.c
    with open(os.path.join(b.data, "machine"), encoding="ascii") as f:
        ident = next(int(x[3:]) for x in f if x.startswith("id="))
    with open(os.path.join(a.data, "secret"), encoding="ascii") as f:
        secret = bytes.fromhex(f.read().strip())
    expires = int(time.time()) + 3000
    key = hmac.new(secret, b"muster join token\0" + struct.pack(">QQ", ident, expires),
                   "sha256").digest()[:16]
    used = f"{ident:x}.{expires:x}.{key.hex()}"
    where = (a.address, used, *birth.where(c))
    expect(ask(c.ns, "join", *where), 1, "already", "token was used")
    for name, address in (("b", c.address), ("c", b.address), ("a", a.address)):
        address_of, token = birth.token(a)
        expect(ask(c.ns, "join", address_of, token, *birth.where(c, name=name, address=address)), 1,
               "already", "name or address")
    if birth.names() != ["a", "b"] or os.path.exists(c.data):
        raise Failed(f"it had an effect: members {birth.names()}")


def join_by_follower(birth):
    """The token of any machine, shown to any machine, also to one that does not lead."""
    leader = wait_for(birth.site.leader, 15, "one leader")
    follower = next(m for m in (birth.a, birth.b) if m.name != leader)
    address, token = birth.token(follower)
    if address != follower.address:
        raise Failed(f"the token of {follower.name} names {address}")
    expect(ask(birth.c.ns, "join", address, token, *birth.where(birth.c)), 0, "cluster of 3")
    birth.c.start_muster()
    birth.c.wait_ready()
    wait_for(lambda: birth.names() == ["a", "b", "c"], 10, "three members")


def join_without_quorum(birth):
    """Two of three are gone: nobody can be taken in, and that is said."""
    m, gone = birth.a, (birth.b, birth.c)
    token = birth.token(m)[1]
    for x in gone:
        x.kill_daemon()
    wait_for(lambda: not m.is_ready(), 10, "it to notice")
    data = os.path.join(m.dir, "d")
    said = expect(ask(m.ns, "join", m.address, token, "--data", data, "--name", "d", "--address",
                      f"{birth.site.net}.14"), 1, "not joined", "quorum", "muster status")
    for x in gone:
        x.start_muster()
    for x in gone:
        x.wait_ready()
    if os.path.exists(data) or birth.names() != ["a", "b", "c"]:
        raise Failed(f"it had an effect: members {birth.names()}")
    return f"said after {said.took:.1f} s"


TESTS = (
    ("init refuses bad names, bad addresses, places it cannot write", init_refused),
    ("init twice into one directory", init_twice),
    ("up, token, status where there is no machine", not_a_machine),
    ("join where nobody answers", join_nobody),
    ("up, stopped at any moment of its start", stopped_while_starting),
    ("join with an expired, an altered, another cluster's token", wrong_tokens),
    ("join, interrupted, with the same token again", join_interrupted),
    ("join with a used token, a taken name, a taken address", join_taken),
    ("join by a machine that does not lead", join_by_follower),
    ("join without a quorum", join_without_quorum),
)


@contextlib.contextmanager
def bed(report):
    birth = Birth()
    try:
        birth.open()
        yield birth
    finally:
        birth.close(report.failed)
