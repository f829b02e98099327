# SPDX-License-Identifier: Apache-2.0
"""ls, get, set, create, delete, stat, watch and lock, on three machines."""
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

from cluster import Failed, connect, inside, wait_for
from commands_bed import (OP_CREATE2, OP_GET, OP_SET, Relay, ask, expect, kernel_addresses, started,
                          switch_on, wait_ok, words_in)

SESSION = 10.0  # seconds: how long a command's session outlives it when it is killed


def reads(m, path, value, limit=5):
    """Until a read on that machine gives the value: followers may be a moment behind."""
    wait_for(lambda: ask(m.ns, "get", path).out == value, limit,
             lambda: f"{value!r} at {path} on {m.name}: {ask(m.ns, 'get', path)}", 0.01)


# ---- znodes ----

def znodes(bed):
    a, b, c = bed.a, bed.b, bed.c
    expect(ask(a.ns, "create", "/cmd", "hello"), 0, "/cmd")
    reads(b, "/cmd", "hello")
    expect(ask(b.ns, "set", "/cmd", "other"), 0)
    reads(c, "/cmd", "other")
    said = expect(ask(b.ns, "set", "--json", "/cmd", "again"), 0)
    if json.loads(said.out)["stat"]["version"] != 2:
        raise Failed(f"version 2 expected: {said.out}")
    expect(ask(b.ns, "set", "--if-version", "1", "/cmd", "late"), 6, "muster stat")
    expect(ask(b.ns, "delete", "--if-version", "1", "/cmd"), 6)
    reads(a, "/cmd", "again")
    names = [expect(ask(m.ns, "create", "-s", "/cmd/job-"), 0).out.strip() for m in (a, b, c)]
    if names != [f"/cmd/job-{i:010d}" for i in range(3)]:
        raise Failed(f"numbers: {names}")
    expect(ask(c.ns, "create", "-p", "/cmd/deep/er/most", "x"), 0)
    expect(ask(c.ns, "create", "-p", "/cmd/deep/er/most", "y"), 0)  # it does not mind
    reads(c, "/cmd/deep/er/most", "x")
    if ask(c.ns, "ls", "/cmd").out.split() != ["deep"] + [n[5:] for n in names]:
        raise Failed(f"ls: {ask(c.ns, 'ls', '/cmd').out}")
    if sorted(json.loads(ask(c.ns, "ls", "--json", "/cmd").out))[0] != "deep":
        raise Failed("ls --json")
    stat = expect(ask(c.ns, "stat", "/cmd"), 0, "version", "zxid").out
    if not re.search(r"^children +4$", stat, re.M):
        raise Failed(f"stat: {stat}")
    expect(ask(a.ns, "delete", "/cmd"), 6, "delete -r")
    expect(ask(a.ns, "delete", "-r", "/cmd"), 6, "--yes")
    expect(ask(a.ns, "delete", "-r", "--yes", "/cmd"), 0)
    expect(ask(a.ns, "get", "/cmd"), 5)


def data_as_it_is(bed):
    """Any bytes, from stdin and to stdout; none; a million, and more than a znode holds."""
    a, b = bed.a, bed.b
    data = bytes(range(256)) * 40 + b"\xff\x00\n"
    expect(ask(a.ns, "create", "/bytes", "-", data=data), 0)

    def got():
        return subprocess.run(words_in(b.ns, "get", "/bytes"), stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=10, check=False).stdout
    wait_for(lambda: got() == data, 5, "the same bytes again", 0.01)
    json.loads(expect(ask(a.ns, "get", "--json", "/bytes"), 0).out)
    expect(ask(a.ns, "set", "/bytes", "-", data=b""), 0)
    wait_for(lambda: got() == b"", 5, "no bytes", 0.01)
    expect(ask(a.ns, "set", "/bytes", "-", data=b"\n" * 1000000), 0)
    wait_for(lambda: got() == b"\n" * 1000000, 5, "a million bytes", 0.01)
    expect(ask(a.ns, "set", "/bytes", "-", data=b"x" * (2 << 20)), 1, "1 MiB")
    expect(ask(a.ns, "set", "/bytes", "-", data=b"x" * (1 << 20)), 1, "1 MiB")
    expect(ask(a.ns, "delete", "/bytes"), 0)


def refusals(bed):
    ns = bed.a.ns
    for words in (("get", "/none"), ("ls", "/none"), ("stat", "/none"), ("set", "/none", "x"),
                  ("delete", "/none"), ("delete", "-r", "--yes", "/none"),
                  ("create", "/none/below", "x"), ("apply", "/none.yml")):
        expect(ask(ns, *words), 5, "none")
    for words in (("get",), ("get", "none"), ("get", "/a/"), ("get", "/a//b"), ("get", "/../a"),
                  ("set", "/a"), ("set", "/a", "b", "c"), ("get", "/a", "--jsn"), ("gte", "/a"),
                  ("set", "--if-version", "x", "/a", "b"), ("watch",), ("lock", "x"),
                  ("lock", "x", "--"), ("lock", "a/b", "--", "true"), ("create", "/a", "-x"),
                  ("lock", "--wait", "soon", "x", "--", "true"), ("get", "--timeout", "0", "/a"),
                  ("get", "--server", "127.0.0.1:x", "/"), ("delete", "-r", "--if-version", "1",
                                                            "/a")):
        expect(ask(ns, *words), 2)
    expect(ask(ns, "create", "/muster", "x"), 1, "exists")
    expect(ask(ns, "delete", "/zookeeper"), 6, "the servers'")
    nobody = ("--server", "127.0.0.1:1", "--timeout", "0.5")
    for words in (("get", "/"), ("set", "/a", "b"), ("watch", "/"), ("apply", bed.plain),
                  ("lock", "x", "--", "true"), ("ls",)):
        said = expect(ask(ns, words[0], *nobody, *words[1:]), 4, "no server answers",
                      "127.0.0.1:1", "muster status")
        if said.took > 3:
            raise Failed(f"{words[0]} --timeout 0.5 took {said.took:.1f} s")
    # The first of the servers is switched off: the next is asked.
    said = expect(ask(ns, "ls", "/muster", "--server", f"{bed.site.net}.77,{bed.b.address}"), 0)
    if "site" not in said.out.split():
        raise Failed(f"ls: {said.out}")
    return f"after a server that is silent, the next one answered in {said.took:.1f} s"


def lost_answers(bed):
    """A write whose answer does not come may have happened: exit code 7 says it, and a read
    is asked again."""
    m = bed.a
    expect(ask(m.ns, "create", "/lost", "0"), 0)
    with Relay(m, OP_SET, "swallow") as relay:
        expect(ask(m.ns, "set", "/lost", "1", "--server", relay.server(), "--timeout", "1"), 7,
               "may have happened", "muster get")
    reads(m, "/lost", "0")
    with Relay(m, OP_SET, "cut") as relay:
        expect(ask(m.ns, "set", "/lost", "2", "--server", relay.server()), 7, "may have happened")
    reads(m, "/lost", "2")
    with Relay(m, OP_CREATE2, "cut") as relay:
        expect(ask(m.ns, "create", "/lost/child", "", "--server", relay.server()), 7,
               "may have happened")
    with Relay(m, OP_GET, "cut") as relay:
        if expect(ask(m.ns, "get", "/lost", "--server", relay.server()), 0).out != "2":
            raise Failed("a read that was cut off gave another value")
        relay.wait_reached()
    expect(ask(m.ns, "delete", "-r", "--yes", "/lost"), 0)


def ephemeral(bed):
    """There while its command runs, on all machines; gone at once when that ends."""
    a, c = bed.a, bed.c
    took = []
    for how, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with started(a.ns, "create", "-e", "/here", "x") as p:
            p.wait_says("until Ctrl-C")
            reads(c, "/here", "x")
            expect(ask(c.ns, "stat", "/here"), 0, "ephemeral")
            begun = time.monotonic()
            if p.end(how) != code:
                raise Failed(f"exit code {p.p.returncode} instead of {code}")
        wait_for(lambda: ask(c.ns, "get", "/here").code == 5, 2, "/here to go", 0.01)
        took.append(time.monotonic() - begun)
    return f"gone after {max(took):.2f} s"


# ---- watch ----

def watch(bed):
    a, b = bed.a, bed.b
    expect(ask(a.ns, "create", "/w", "0"), 0)
    with started(b.ns, "watch", "-r", "/w") as all_of_it, \
            started(b.ns, "watch", "/w") as alone, \
            started(b.ns, "watch", "--json", "-r", "/w/deep") as as_json:
        for p in (all_of_it, alone, as_json):
            p.wait_says("Ctrl-C ends it")
        expect(ask(a.ns, "set", "/w", "1"), 0)
        expect(ask(a.ns, "create", "-p", "/w/deep/er", "1"), 0)
        expect(ask(a.ns, "set", "/w/deep/er", "2"), 0)
        expect(ask(a.ns, "delete", "-r", "--yes", "/w"), 0)
        for p in (all_of_it, alone, as_json):
            p.wait_says("/w", 5)
        all_of_it.wait_says("deleted  /w\n", 5)
        alone.wait_says("deleted  /w\n", 5)
        as_json.wait_says('"path": "/w/deep"' if '": "' in as_json.out() else '"path":"/w/deep"', 5)
        codes = [p.end(signal.SIGINT) for p in (all_of_it, alone, as_json)]
        if codes != [130] * 3:
            raise Failed(f"Ctrl-C: exit codes {codes}")
        seen = re.findall(r"^\d\d:\d\d:\d\d\.\d{3} (\w+) +(\S+)$", all_of_it.out(), re.M)
        want = [("changed", "/w"), ("created", "/w/deep"), ("created", "/w/deep/er"),
                ("changed", "/w/deep/er"), ("deleted", "/w/deep/er"), ("deleted", "/w/deep"),
                ("deleted", "/w")]
        if seen != want:
            raise Failed(f"watch -r saw {seen}")
        seen = re.findall(r"^\S+ (\w+) +(\S+)$", alone.out(), re.M)
        if seen != [("changed", "/w"), ("children", "/w"), ("children", "/w"), ("deleted", "/w")]:
            raise Failed(f"watch saw {seen}")
        seen = [(e["event"], e["path"]) for e in map(json.loads, json_documents(as_json.out()))]
        if seen != want[1:6]:
            raise Failed(f"watch --json saw {seen}")


def json_documents(text):
    """Each of the JSON values that stand one after the other."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text.rstrip()):
        while text[at].isspace():
            at += 1
        _, end = decoder.raw_decode(text, at)
        yield text[at:end]
        at = end


def watch_moves(bed):
    """The server it was connected to dies: it goes on at another one."""
    a, b, c = bed.a, bed.b, bed.c
    expect(ask(c.ns, "create", "/moves", "0"), 0)
    with started(a.ns, "watch", "-r", "/moves", "--server", bed.servers(b, a, c)) as p:
        p.wait_says("Ctrl-C ends it")
        expect(ask(c.ns, "set", "/moves", "1"), 0)
        p.wait_says("changed  /moves\n", 5)
        begun = time.monotonic()
        b.kill_daemon()
        p.wait_says("connected again", 8)
        again = time.monotonic() - begun
        expect(ask(c.ns, "create", "/moves/on", "1"), 0)
        p.wait_says("created  /moves/on\n", 5)
        b.start_muster()
        b.wait_ready()
        expect(ask(b.ns, "set", "/moves/on", "2"), 0)
        p.wait_says("changed  /moves/on\n", 5)
        if p.end(signal.SIGINT) != 130:
            raise Failed(f"exit code {p.p.returncode}")
    expect(ask(c.ns, "delete", "-r", "--yes", "/moves"), 0)
    wait_ok(bed.site)
    return f"connected again after {again:.2f} s"


# ---- lock ----

def held(path):
    """A command that writes down when it has the lock, and with which token."""
    return ("sh", "-c", f'echo "in $MUSTER_LOCK_TOKEN" >> {path}; sleep 0.03; '
            f'echo "out $MUSTER_LOCK_TOKEN" >> {path}')


def lines(path):
    try:
        with open(path, encoding="ascii") as f:
            return [x.split() for x in f.read().splitlines()]
    except FileNotFoundError:
        return []


def lock_contended(bed):
    """Three machines, many holders: one at a time, and the token grows from one to the next."""
    path, each = os.path.join(bed.site.dir, "contended"), 5
    running = []
    try:
        for _ in range(each):
            for m in bed.site.machines.values():
                p = started(m.ns, "lock", "many", "--", *held(path))
                running.append((p, p.__enter__()))
        codes = [p.end(limit=30) for _, p in running]
    finally:
        for manager, _ in running:
            manager.__exit__(None, None, None)
    if codes != [0] * len(codes):
        raise Failed(f"exit codes {codes}")
    seen = lines(path)
    if len(seen) != 2 * len(running):
        raise Failed(f"{len(seen)} lines of {len(running)} holders")
    for i in range(0, len(seen), 2):
        if seen[i][0] != "in" or seen[i + 1] != ["out", seen[i][1]]:
            raise Failed(f"two held it at once: {seen[i]}, {seen[i + 1]}")
    tokens = [int(x[1]) for x in seen[::2]]
    if any(x >= y for x, y in zip(tokens, tokens[1:])):
        raise Failed(f"the tokens do not grow: {tokens}")
    if ask(bed.a.ns, "ls", "/locks/many").out.strip():
        raise Failed("places were left behind: " + ask(bed.a.ns, "ls", "/locks/many").out)
    return f"{len(running)} holders"


def lock_exit_codes(bed):
    ns = bed.a.ns
    for words, code in ((("true",), 0), (("sh", "-c", "exit 7"), 7),
                        (("sh", "-c", "exit 200"), 200), (("sh", "-c", "kill -9 $$"), 137),
                        (("sh", "-c", "kill -15 $$"), 143)):
        said = ask(ns, "lock", "codes", "--", *words)
        if said.code != code:
            raise Failed(f"{words}: exit code {said.code} instead of {code}: {said.err}")
    expect(ask(ns, "lock", "codes", "--", "/none/such"), 127, "cannot run /none/such")
    said = expect(ask(ns, "lock", "codes", "--", "sh", "-c", "echo out; echo err >&2"), 0)
    if (said.out, said.err) != ("out\n", "err\n"):
        raise Failed(f"what the command says is not passed on: {said}")


def lock_waits(bed):
    """The second waits and says for whom; --wait; Ctrl-C of the waiting and of the holding."""
    a, b = bed.a, bed.b
    with started(a.ns, "lock", "wait", "--", "sleep", "60") as holder:
        wait_for(lambda: ask(b.ns, "ls", "/locks/wait").out.strip(), 5, "the lock to be taken")
        said = expect(ask(b.ns, "lock", "--wait", "0", "wait", "--", "true"), 7, "not run",
                      "not free")
        if said.took > 2:
            raise Failed(f"--wait 0 took {said.took:.1f} s")
        said = expect(ask(b.ns, "lock", "--wait", "1", "wait", "--", "true"), 7, "sleep")
        if not 0.9 < said.took < 3:
            raise Failed(f"--wait 1 took {said.took:.1f} s")
        for how, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            with started(b.ns, "lock", "wait", "--", "true") as second:
                second.wait_says("waiting for the lock wait; before us")
                if second.end(how, 3) != code:
                    raise Failed(f"exit code {second.p.returncode} instead of {code}")
        if len(ask(b.ns, "ls", "/locks/wait").out.split()) != 1:
            raise Failed("who gave up still stands in the queue")
        with started(b.ns, "lock", "wait", "--", "true") as second:
            second.wait_says("before us")
            if holder.end(signal.SIGINT, 3) != 130:
                raise Failed(f"Ctrl-C of the holder: exit code {holder.p.returncode}")
            if second.end(limit=3) != 0:
                raise Failed(f"the next in the queue: exit code {second.p.returncode}")


def lock_killed(bed):
    """Its command dies with `muster lock`; the lock is free when the session has ended."""
    a, b = bed.a, bed.b
    path = os.path.join(bed.site.dir, "killed")
    with started(a.ns, "lock", "--session", "2", "dies", "--", "sh", "-c",
                 f"while sleep 0.01; do echo held >> {path}; done") as holder:
        wait_for(lambda: lines(path), 5, "the lock to be taken")
        begun = time.monotonic()
        holder.p.kill()
        expect(ask(b.ns, "lock", "dies", "--", "true"), 0)
        took = time.monotonic() - begun
        count = len(lines(path))
        time.sleep(0.2)  # ok: twenty times as long as the command's own beat
        if len(lines(path)) != count:
            raise Failed("the command runs on without its lock")
    if took > 4:
        raise Failed(f"free after {took:.1f} s, with a session of 2 s")
    return f"free after {took:.2f} s, with a session of 2 s"


def lock_power_off(bed):
    """The holder's machine dies: the other has the lock within the session's timeout."""
    m = next(m for m in (bed.c, bed.b) if bed.site.vip not in kernel_addresses(m.ns))
    b = bed.a
    path = os.path.join(bed.site.dir, "power")
    with started(m.ns, "lock", "--session", "3", "power", "--", *held(path)[:2],
                 f"echo taken > {path}; sleep 60"):
        wait_for(lambda: lines(path), 5, "the lock to be taken")
        with started(b.ns, "lock", "power", "--", "true") as second:
            second.wait_says("before us")
            begun = time.monotonic()
            m.power_off()
            code = second.end(limit=3 + 8)
            took = time.monotonic() - begun
            if code != 0:
                raise Failed(f"exit code {code}: {second.err()}")
    switch_on(m)
    m.wait_ready()
    wait_ok(bed.site)
    if took > 3 + 2:
        raise Failed(f"free after {took:.1f} s, with a session of 3 s")
    return f"free after {took:.2f} s, with a session of 3 s"


STUBBORN = """trap 'echo asked $(date +%s.%N) >> {0}' TERM
while :; do echo run $(date +%s.%N) >> {0}; sleep 0.02; done"""


def lock_cut_off(bed):
    """The holder's machine is cut off: its command is stopped before another has the lock, and
    it is killed when it does not listen."""
    m = next(m for m in (bed.c, bed.b) if bed.site.vip not in kernel_addresses(m.ns))
    polite, stubborn = (os.path.join(bed.site.dir, n) for n in ("polite", "stubborn"))
    loop = f"while :; do echo run $(date +%s.%N) >> {polite}; sleep 0.02; done"
    after = os.path.join(bed.site.dir, "after")
    with started(m.ns, "lock", "--session", "3", "cut", "--", "sh", "-c", loop) as one, \
            started(m.ns, "lock", "--session", "3", "cut2", "--", "sh", "-c",
                    STUBBORN.format(stubborn)) as two:
        wait_for(lambda: lines(polite) and lines(stubborn), 5, "the locks to be taken")
        now = "date +%s.%N > "
        with started(bed.a.ns, "lock", "cut", "--", "sh", "-c", now + after) as next1, \
                started(bed.a.ns, "lock", "cut2", "--", "sh", "-c", now + after + "2") as next2:
            next1.wait_says("before us")
            next2.wait_says("before us")
            begun = time.time()
            m.cut()
            try:
                codes = [p.end(limit=10) for p in (one, two)]
                if codes != [13, 13]:
                    raise Failed(f"exit codes {codes} instead of 13: {one.err()} {two.err()}")
                if [p.end(limit=10) for p in (next1, next2)] != [0, 0]:
                    raise Failed("the others did not get the lock")
            finally:
                m.uncut()
        expect(ask(bed.a.ns, "ls", "/locks"), 0)
        if "the lock is being lost" not in one.err() or "muster status" not in one.err():
            raise Failed(f"it does not say what happened: {one.err()}")
    got = [float(lines(after)[0][0]), float(lines(after + "2")[0][0])]
    last = [float(lines(p)[-1][1]) for p in (polite, stubborn)]
    if not any(x[0] == "asked" for x in lines(stubborn)):
        raise Failed("it was killed without having been asked")
    for name, end, start in zip(("polite", "stubborn"), last, got):
        if end >= start:
            raise Failed(f"{name}: still ran {end - start:.3f} s after the next had the lock")
        if start > begun + 3 + 3:
            raise Failed(f"{name}: the next had to wait for {start - begun:.1f} s")
    wait_ok(bed.site)
    return ", ".join(f"stopped {e - begun:.2f} s, next {s - begun:.2f} s after the cut"
                     for e, s in zip(last, got))


def lock_expired_place(bed):
    """Somebody deletes the place of one who waits: it queues again, and gets the lock."""
    with started(bed.a.ns, "lock", "place", "--", "sleep", "60") as holder:
        wait_for(lambda: ask(bed.b.ns, "ls", "/locks/place").out.strip(), 5, "the lock to be taken")
        first = ask(bed.b.ns, "ls", "/locks/place").out.strip()
        with started(bed.b.ns, "lock", "place", "--", "true") as second:
            second.wait_says("before us")
            places = ask(bed.b.ns, "ls", "/locks/place").out.split()
            own = next(x for x in places if x != first)
            expect(ask(bed.b.ns, "delete", f"/locks/place/{own}"), 0)
            holder.end(signal.SIGTERM, 3)
            if second.end(limit=5) != 0:
                raise Failed(f"exit code {second.p.returncode}: {second.err()}")


def is_alive_after_garbage(bed):
    """The commands against something that is no server: no hang, no crash."""
    with inside(bed.a.ns):
        listener = socket.create_server(("127.0.0.1", 12999))
    listener.settimeout(0.1)
    over = threading.Event()

    def serve():
        answers = [b"HTTP/1.1 400 Bad\r\n\r\n", b"\xff" * 64, b"", b"\0\0\0\x10" + b"\0" * 7]
        while not over.is_set():
            try:
                s, _ = listener.accept()
            except OSError:
                continue
            with s:
                s.sendall(answers[0])
                answers.append(answers.pop(0))
    t = threading.Thread(target=serve, daemon=True)
    t.start()
    try:
        for words in (("get", "/"), ("lock", "x", "--", "true"), ("watch", "/")):
            expect(ask(bed.a.ns, words[0], "--server", "127.0.0.1:12999", "--timeout", "1",
                       *words[1:]), 4, "no server answers")
        expect(ask(bed.a.ns, "status", "--http", "127.0.0.1:12999"), 4, "DOWN")
    finally:
        over.set()
        t.join(5)
        listener.close()
    with connect(bed.a.ns, bed.a.address, 2181) as s:
        s.sendall(b"ruok")
        if s.recv(4) != b"imok":
            raise Failed("the real one does not answer")


TESTS = (
    ("ls, get, set, create, delete, stat on three machines", znodes),
    ("data as it is: any bytes, none, a million, too many", data_as_it_is),
    ("what is wrong is refused: exit codes 1, 2, 4, 5, 6", refusals),
    ("writes whose answer is lost: exit code 7; reads are asked again", lost_answers),
    ("what is no server", is_alive_after_garbage),
    ("create -e", ephemeral),
    ("watch, watch -r, what another machine changes", watch),
    ("watch goes on when its server dies", watch_moves),
    ("lock, three machines contend", lock_contended),
    ("lock, the command's exit code and words are passed on", lock_exit_codes),
    ("lock, waiting, --wait, Ctrl-C", lock_waits),
    ("lock, a deleted place in the queue", lock_expired_place),
    ("lock, the holder is killed", lock_killed),
    ("lock, the holder's machine is switched off", lock_power_off),
    ("lock, the holder's machine is cut off", lock_cut_off),
)
