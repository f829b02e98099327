#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Backups under load, restored at several points and compared znode by znode; a lost quorum,
recovered, with clients that have seen newer zxids and old machines that come back.

    backup.py [restore|interrupt|damage|recover]...     none: all
"""
import glob
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from kazoo import exceptions
from kazoo.client import KazooClient, KazooState

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from cluster import MUSTER, Failed, Site, http_get, wait_for  # noqa: E402
from report import Report  # noqa: E402

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                                "clients"))
from ensemble import free_ports  # noqa: E402

EXIT_UNSAFE, EXIT_DAMAGED, EXIT_INTERRUPTED = 6, 9, 130
JUMP = 1 << 40
BACKUPS, POINTS = 6, 4
SEED = int(os.environ.get("MUSTER_SEED", "1"))


def muster(*words, code=0, env=None):
    """Its output, both streams; Failed if it ends with another code."""
    r = subprocess.run([MUSTER, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
                       env={**os.environ, **(env or {})})
    if r.returncode != code:
        raise Failed(f"muster {' '.join(words)}: exit code {r.returncode} instead of {code}: "
                     f"{r.stdout.strip()}")
    return r.stdout


class Lone:
    """One server on loopback, on ports that were free."""

    def __init__(self, top, data):
        self.top, self.data = top, data
        self.port, self.http = free_ports(2)
        self.process = None

    def start(self):
        log = open(os.path.join(self.top, "server.log"), "ab")
        self.process = subprocess.Popen(
            [MUSTER, "server", "--data", self.data, "--listen", f"127.0.0.1:{self.port}",
             "--http", f"127.0.0.1:{self.http}"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        wait_for(lambda: http_get(None, "127.0.0.1", self.http, "/readyz", 1.0)[0] == 200, 20,
                 "the server to be ready", 0.05)
        return self

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
        self.process = None

    def client(self):
        k = KazooClient(hosts=f"127.0.0.1:{self.port}", timeout=10)
        k.start(20)
        return k

    def backup(self, *words, code=0):
        return muster("backup", "--data", self.data, "--http", f"127.0.0.1:{self.http}", *words,
                      code=code)


class Writer(threading.Thread):
    """Changes znodes below a path of its own, and writes down what each change was, with its
    zxid. One request at a time, so that the last zxid is that of the last change."""

    def __init__(self, server, n):
        super().__init__(daemon=True)
        self.k = server.client()
        self.root = f"/w{n}"
        self.random = random.Random(SEED * 1000 + n)
        self.log = []  # (zxid, path, None or (data, version, czxid))
        self.now = {}
        self.stopped = threading.Event()
        self.error = None

    def note(self, path, value):
        self.log.append((self.k.last_zxid, path, value))
        if value is None:
            del self.now[path]
        else:
            self.now[path] = value

    def one(self):
        r = self.random
        data = b"%d " % len(self.log) + bytes(r.randrange(256) for _ in range(r.randrange(60)))
        what = r.randrange(10)
        if what < 4 or not self.now:
            path = f"{self.root}/n{len(self.log)}"
            _, stat = self.k.create(path, data, include_data=True)
            self.note(path, (data, 0, stat.czxid))
        elif what < 8:
            path = r.choice(sorted(self.now))
            stat = self.k.set(path, data)
            self.note(path, (data, stat.version, stat.czxid))
        elif what < 9:
            path = r.choice(sorted(self.now))
            self.k.delete(path)
            self.note(path, None)
        else:  # gone at every restore, as its session is
            self.k.create(f"{self.root}/e-", b"", ephemeral=True, sequence=True)

    def run(self):
        try:
            self.k.create(self.root, b"root")
            while not self.stopped.is_set():
                self.one()
        except Exception as e:  # pylint: disable=broad-except
            self.error = e

    def end(self):
        self.stopped.set()
        self.join(30)
        self.k.stop()
        self.k.close()
        if self.error is not None:
            raise Failed(f"a writer failed: {self.error!r}")

    def at(self, zxid):
        model = {}
        for z, path, value in self.log:
            if z > zxid:
                break
            if value is None:
                model.pop(path, None)
            else:
                model[path] = value
        return model


def tree_of(k, root):
    found = {}
    try:
        children = k.get_children(root)
    except exceptions.NoNodeError:
        return found
    for name in children:
        data, stat = k.get(f"{root}/{name}")
        if stat.ephemeralOwner != 0:
            raise Failed(f"{root}/{name} is an ephemeral, restored")
        found[f"{root}/{name}"] = (data, stat.version, stat.czxid)
    return found


def restored_is(top, name, where, zxid, writers, newest):
    """Restores that point, starts a server on it, and compares everything."""
    data = os.path.join(top, name)
    muster("restore", where, "--at", str(zxid), "--data", data)
    server = Lone(top, data).start()
    try:
        k = server.client()
        for w in writers:
            have, want = tree_of(k, w.root), w.at(zxid)
            if have != want:
                wrong = sorted(set(have.items()) ^ set(want.items()))[:3]
                raise Failed(f"at zxid {zxid}: {w.root} differs: {wrong}")
        k.create("/after", b"")
        if k.last_zxid <= newest + JUMP:
            raise Failed(f"zxids go on at {k.last_zxid}, and clients have seen {newest}")
        k.stop()
        k.close()
    finally:
        server.stop()
    shutil.rmtree(data)


def restore(report, top):
    where = os.path.join(top, "backup")
    server = Lone(top, os.path.join(top, "data")).start()
    writers = [Writer(server, n) for n in range(3)]
    for w in writers:
        w.start()

    def under_load():
        made = []
        for i in range(BACKUPS):
            goal = 150 * (i + 1)
            wait_for(lambda goal=goal: any(w.error for w in writers) or
                     min(len(w.log) for w in writers) >= goal, 60, f"{goal} changes")
            made.append(json.loads(server.backup("--json", where)))
        kinds = [m["made"] for m in made]
        if kinds != ["full"] + ["more"] * (BACKUPS - 1):
            raise Failed(f"made: {kinds}")
        return f"{sum(m['entries'] for m in made)} entries in {BACKUPS} backups"
    report.run("backup: full, then what is new, under load", under_load)
    for w in writers:
        w.end()

    def nothing_new_is_said():
        server.backup(where)  # the ends of the sessions
        if "nothing new" not in server.backup(where):
            raise Failed("nothing was written, and something was backed up")
    report.run("backup: nothing new makes no file", nothing_new_is_said)
    files = json.loads(muster("backup", "--list", "--json", where))["files"]
    newest = files[-1]["to"]

    def verify():
        said = json.loads(muster("backup", "--verify", "--json", where))
        if not said["good"] or not said["restored_aside"] or \
                said["ranges"][0]["from"] != files[0]["from"] or \
                said["ranges"][0]["to"] != newest or len(said["ranges"]) != 1:
            raise Failed(str(said))
    report.run("backup --verify: replayed, and restored aside", verify)

    def points():
        pick = random.Random(SEED)
        all_points = [pick.randrange(files[0]["from"] + 10, newest) for _ in range(POINTS - 2)]
        for i, zxid in enumerate([*all_points, files[2]["to"], newest]):
            restored_is(top, f"restored{i}", where, zxid, writers, newest)
        return f"zxids {all_points} and two ends"
    report.run("restore: every znode as it was at that zxid", points)

    def by_time():
        w = writers[0]
        k = server.client()
        k.create("/before", b"")
        time.sleep(2.1)  # the time that is asked for below has whole seconds: nothing is awaited
        then = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() - 1))
        k.create("/afterwards", b"")
        server.backup(where)
        k.stop()
        k.close()
        data = os.path.join(top, "then")
        muster("restore", where, "--at", then, "--data", data)
        other = Lone(top, data).start()
        try:
            k = other.client()
            if k.exists("/before") is None or k.exists("/afterwards") is not None:
                raise Failed(f"at {then}: {sorted(k.get_children('/'))}")
            if tree_of(k, w.root) != w.now:
                raise Failed("the writers' znodes are not there")
            k.stop()
            k.close()
        finally:
            other.stop()
    report.run("restore --at TIME", by_time)

    def refused():
        muster("restore", where, "--at", str(newest + 10 ** 6), "--data",
               os.path.join(top, "no"), code=5)
        muster("restore", where, "--data", server.data, code=EXIT_UNSAFE)
        other = Lone(top, os.path.join(top, "other")).start()
        try:
            if "another site" not in other.backup(where, code=EXIT_UNSAFE):
                raise Failed("another site's backup was not refused by name")
        finally:
            other.stop()
    report.run("restore, backup: what would mix or overwrite is refused", refused)

    def keeps():
        for _ in range(3):
            server.backup("--full", "--keep", "2", where)
        left = json.loads(muster("backup", "--list", "--json", where))["files"]
        names = sorted(os.path.basename(f) for f in glob.glob(os.path.join(where, "*-*")))
        if [f["kind"] for f in left] != ["full", "full"] or \
                names != sorted({f["file"] for f in left}):
            raise Failed(f"{left}, {names}")
        muster("backup", "--verify", where)
    report.run("backup --keep: what is older goes", keeps)
    server.stop()


def interrupt(report, top):
    where = os.path.join(top, "backup")
    server = Lone(top, os.path.join(top, "data")).start()
    k = server.client()
    block = os.urandom(400_000)
    server.backup(where)
    for i in range(60):
        k.create(f"/big{i}", block)
    k.stop()
    k.close()

    def broken_off(how):
        """Breaks a backup off while its file is being written: it may be too fast, sometimes."""
        for _ in range(30):
            p = subprocess.Popen(
                [MUSTER, "backup", "--full", "--data", server.data, "--http",
                 f"127.0.0.1:{server.http}", where],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            new = os.path.join(where, "new")
            while p.poll() is None and not (os.path.exists(new) and os.path.getsize(new) > 0):
                pass
            p.send_signal(how)
            said = p.communicate(timeout=30)[0].decode()
            if p.returncode != 0:
                return p.returncode, said
        raise Failed("thirty backups were all faster than the signal")

    def unharmed(before):
        with open(os.path.join(where, "manifest"), "rb") as f:
            if f.read() != before:
                raise Failed("the manifest is another one")
        muster("backup", "--verify", where)

    def manifest():
        with open(os.path.join(where, "manifest"), "rb") as f:
            return f.read()

    def ctrl_c():
        before = manifest()
        code, said = broken_off(signal.SIGINT)
        while code == 0:
            before = manifest()
            code, said = broken_off(signal.SIGINT)
        if code != EXIT_INTERRUPTED or "as it was" not in said:
            raise Failed(f"code {code}: {said}")
        if os.path.exists(os.path.join(where, "new")):
            raise Failed("it left its temporary file")
        muster("backup", "--verify", where)
    report.run("backup: Ctrl-C in the middle", ctrl_c)

    def killed():
        code, _ = broken_off(signal.SIGKILL)
        if code != -signal.SIGKILL:
            raise Failed(f"code {code}")
        unharmed(manifest())
        server.backup("--full", where)
        if os.path.exists(os.path.join(where, "new")):
            raise Failed("what a killed backup left was not removed by the next")
        muster("backup", "--verify", where)
    report.run("backup: killed in the middle", killed)

    def verify_ctrl_c():
        env = {**os.environ, "TMPDIR": top}
        p = subprocess.Popen([MUSTER, "backup", "--verify", where], stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
        p.stderr.readline()
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=30)
        if p.returncode not in (0, EXIT_INTERRUPTED):
            raise Failed(f"code {p.returncode}")
        if glob.glob(os.path.join(top, "muster-verify*")):
            raise Failed("the directory aside was left")
    report.run("backup --verify: Ctrl-C leaves nothing", verify_ctrl_c)
    server.stop()


def damage(report, top):
    where = os.path.join(top, "backup")
    server = Lone(top, os.path.join(top, "data")).start()
    k = server.client()
    for part in range(3):
        for i in range(20):
            k.create(f"/d{part}-{i}", b"x" * 50)
        server.backup(where)
    k.stop()
    k.close()
    server.stop()
    files = [f["file"] for f in json.loads(muster("backup", "--list", "--json", where))["files"]]

    def flip(name, at):
        path = os.path.join(where, name)
        with open(path, "r+b") as f:
            f.seek(at)
            old = f.read(1)
            f.seek(at)
            f.write(bytes([old[0] ^ 0x10]))

    def verdict(of):
        r = subprocess.run([MUSTER, "backup", "--verify", "--json", of], capture_output=True,
                           text=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
        if r.returncode != EXIT_DAMAGED:
            raise Failed(f"exit code {r.returncode}: {r.stdout} {r.stderr}")
        return json.loads(r.stdout)

    def found():
        pick = random.Random(SEED)
        for name in files:
            size = os.path.getsize(os.path.join(where, name))
            for at in [0, size - 1] + [pick.randrange(size) for _ in range(4)]:
                flip(name, at)
                said = verdict(where)
                if said["good"] or not any(name in d and "at byte" in d
                                           for d in said["damage"]):
                    raise Failed(f"{name} at {at}: {said}")
                flip(name, at)
        muster("backup", "--verify", where)
    report.run("backup --verify: a flipped bit is found, with file and byte", found)

    def what_is_left():
        flip(files[2], 100)
        muster("restore", where, "--data", os.path.join(top, "r1"), code=EXIT_DAMAGED)
        end = json.loads(muster("backup", "--list", "--json", where))["files"][1]["to"]
        muster("restore", where, "--at", str(end), "--data", os.path.join(top, "r2"))
        os.unlink(os.path.join(where, files[1]))
        if files[1] not in muster("backup", "--verify", where, code=EXIT_DAMAGED):
            raise Failed("the missing file was not named")
    report.run("restore: what is in front of the damage can be had", what_is_left)


# ---- a lost quorum ----

class Client:
    """kazoo on all three machines, from the host; it notes what becomes of its session."""

    def __init__(self, site):
        self.states = []
        self.k = KazooClient(hosts=",".join(f"{m.address}:2181"
                                            for m in site.machines.values()), timeout=4)
        self.k.add_listener(self.states.append)
        self.k.start(20)

    def close(self):
        self.k.stop()
        self.k.close()


def quorum_of(m):
    found = [line for line in m.word("mntr").splitlines() if line.startswith("zk_quorum_size\t")]
    return int(found[0].split("\t")[1]) if found else 0


def replica(m):
    code, body = http_get(m.ns, m.address, 2180, "/replica", 1.0)
    return json.loads(body) if code == 200 else {}


def said_by(m, *words, code=0):
    r = subprocess.run(["ip", "netns", "exec", m.ns, MUSTER, *words], stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
                       check=False)
    if r.returncode != code:
        raise Failed(f"{m.name}: muster {' '.join(words)}: exit code {r.returncode} instead of "
                     f"{code}: {r.stdout.strip()}")
    return r.stdout


def recover(report, top):
    site = Site("bkup", os.path.join(top, "site"), net="10.79.3", host=True)
    site.close()
    site.open()
    client = None
    try:
        site.form()
        a, b, c = (site[n] for n in "abc")
        wait_for(lambda: all(quorum_of(m) == 3 for m in (a, b, c)), 30, "three to vote")
        client = Client(site)
        client = recover_steps(report, site, client, top)
    finally:
        if client is not None:
            client.close()
        report.stop_well(site)
        site.close()


def recover_steps(report, site, client, top):
    a, b, c = (site[n] for n in "abc")
    where = os.path.join(top, "backup")
    k = client.k
    k.create("/lock", b"", ephemeral=True)
    for i in range(20):
        k.create(f"/kept{i}", b"%d" % i)
    said_by(c, "backup", "--data", c.data, where)

    def refused_with_quorum():
        if "quorum" not in said_by(c, "recover", "--data", c.data, code=EXIT_UNSAFE):
            raise Failed("it was not said that there is a quorum")
    report.run("recover: refused while there is a quorum", refused_with_quorum)

    wait_for(lambda: replica(c).get("applied", 0) >= k.last_zxid, 20, "c to have all")
    began = time.time()  # what it knows of the others is written down every few seconds
    wait_for(lambda: os.path.exists(os.path.join(c.data, "status.json")) and
             os.path.getmtime(os.path.join(c.data, "status.json")) > began, 20, "status.json")
    c.end("muster")
    for i in range(10):
        k.create(f"/lost{i}", b"only a and b")
    newest = k.last_zxid

    def refused_cut_off():
        said = said_by(c, "recover", "--data", c.data, "--yes", "c", code=EXIT_UNSAFE)
        if "serves" not in said:
            raise Failed(said)
    report.run("recover: refused where only this machine is away", refused_cut_off)

    a.end("muster")
    b.end("muster")

    def shows():
        said = said_by(c, "recover", "--data", c.data, code=EXIT_UNSAFE)
        for word in ("missing", "last heard", "its log ends at zxid", "may be lost", "--yes"):
            if word not in said:
                raise Failed(f"not a word of {word!r}: {said}")
        said_by(c, "recover", "--data", c.data, "--yes", "b", code=EXIT_UNSAFE)
        if len(glob.glob(os.path.join(c.data, "store*"))) != 1:
            raise Failed("something was changed")
    report.run("recover: says who is missing, and wants the name", shows)

    def recovered():
        said_by(c, "recover", "--data", c.data, "--yes", "c")
        c.start_muster()
        c.wait_ready()
        wait_for(lambda: k.state == KazooState.CONNECTED and KazooState.LOST in client.states,
                 40, lambda: f"the client's new session: {client.states}")
        for i in range(20):
            if k.get(f"/kept{i}")[0] != b"%d" % i:
                raise Failed(f"/kept{i} is another one")
        if k.exists("/lock") is not None:
            raise Failed("an ephemeral has outlived the recovery")
        k.create("/goes-on", b"")
        if k.last_zxid <= newest:
            raise Failed(f"zxid {k.last_zxid} after {newest}")
        return f"a client that had seen zxid {newest} goes on at {k.last_zxid:#x}"
    if not report.run("recover: the survivor goes on, clients come back", recovered):
        return client

    def they_join():
        a.start_muster()
        b.start_muster()
        wait_for(lambda: all(quorum_of(m) == 3 for m in (a, b, c)) and
                 all(replica(m).get("epoch") == 1 for m in (a, b, c)), 60,
                 lambda: "a and b to join: " + " ".join(
                     f"{m.name}: quorum {quorum_of(m)}, {m.log_tail(lines=2)}" for m in (a, b)))
        wait_for(lambda: len({replica(m).get("digest") for m in (a, b, c)}) == 1, 20,
                 "equal trees")
        if k.exists("/lost0") is not None:
            raise Failed("an entry of the old epoch is back")
        for m in (a, b):
            if not os.path.exists(os.path.join(m.data, "store", "aside")):
                raise Failed(f"{m.name}: its old store is not set aside")
    report.run("recover: the old machines set their data aside and join", they_join)

    def inspects():
        said = said_by(a, "recover", "--inspect", "--data", a.data)
        for i in range(10):
            if f"/lost{i}" not in said:
                raise Failed(f"/lost{i} is not shown: {said}")
        if "/kept0" in said:
            raise Failed(f"/kept0 is shown, though all have it: {said}")
        listed = json.loads(said_by(b, "recover", "--inspect", "--json", "--data", b.data))
        if sum("/lost" in (e["path"] or "") for e in listed["only_here"]) != 10:
            raise Failed(str(listed))
    report.run("recover --inspect: what only they had", inspects)

    def survives_next():
        """The joined ones are full members: they go on when the recovered one dies."""
        c.end("muster")
        wait_for(lambda: k.state == KazooState.CONNECTED, 30, "a server")
        k.retry(k.create, "/without-c", b"")
        c.start_muster()
        c.wait_ready()
    report.run("recover: afterwards any one machine may die", survives_next)

    def backed_up():
        said = said_by(c, "backup", "--data", c.data, where)
        if "new epoch" not in said:
            raise Failed(said)
        muster("backup", "--verify", where)
    report.run("backup: a new epoch makes a new full one, by itself", backed_up)
    return client


PARTS = {"restore": restore, "interrupt": interrupt, "damage": damage, "recover": recover}


def main():
    report = Report("")
    for name in sys.argv[1:] or PARTS:
        if name == "recover" and os.geteuid() != 0:
            report.fail("recover", "needs root for network namespaces: not run")
            continue
        top = tempfile.mkdtemp(prefix=f"muster-{name}-")
        try:
            PARTS[name](report, top)
        except (Failed, OSError, exceptions.KazooException) as e:
            report.fail(name, repr(e))
        finally:
            shutil.rmtree(top, ignore_errors=True)
    report.end()


if __name__ == "__main__":
    main()
