#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Moving from Apache ZooKeeper (Debian's package) to muster and back, with real processes.

    moving.py [--operations N]     the whole test; prints "ok ..." and "FAILED ..." lines
    moving.py --measure ZNODES     only: import of so many znodes of 100 bytes, time and memory

A ZooKeeper that takes a snapshot every few hundred changes (so that they are fuzzy) is killed
-9 under load. Its directory is imported, and every znode that muster then shows is compared,
field by field, with what ZooKeeper itself shows when it is started on a copy of the same
directory. Then export, a ZooKeeper on what was exported, and the same again. Then a live copy,
and one that follows under load through a restart of the source. Everything is on loopback
ports of its own. Exit code: 0 all well, 1 not, 77 there is no ZooKeeper.
"""
import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib

sys.dont_write_bytecode = True
import zk  # noqa: E402

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MUSTER = os.environ.get("MUSTER", os.path.join(TOP, "build", "muster"))
SECRET = "mover:secret"
AUTH = [("digest", SECRET)]
MINE = ((31, "digest", zk.digest("mover", "secret")),)
MINE_AND_ALL = (*MINE, (1, "world", "anyone"))
LOCAL = ((31, "ip", "127.0.0.1"), (1, "world", "anyone"))
PROPERTIES = ("zookeeper.extendedTypesEnabled=true", "zookeeper.snapCount=400",
              "zookeeper.preAllocSize=256", "znode.container.checkIntervalMs=3600000")
STATS = "/zookeeper/quota/q/zookeeper_stats"  # counts ephemerals, and the log has no trace of it


class Failed(Exception):
    pass


class Muster:
    def __init__(self, directory):
        self.directory, self.process = directory, None
        self.port, self.http = zk.free_port(), zk.free_port()
        self.log = directory + ".txt"

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [MUSTER, "server", "--data", self.directory, "--listen", f"127.0.0.1:{self.port}",
                 "--http", f"127.0.0.1:{self.http}"], stderr=log, stdin=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process.poll() is None:
            try:
                zk.Connection(self.port).close()
                return self
            except (OSError, EOFError):
                time.sleep(0.05)
        with open(self.log, encoding="utf-8") as f:
            raise Failed("muster does not start: " + f.read()[-1500:])

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


def muster(*words, codes=(0,)):
    r = subprocess.run([MUSTER, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                       timeout=300, check=False)
    if r.returncode not in codes:
        raise Failed(f"muster {' '.join(words)}: exit code {r.returncode}\n{r.stdout}{r.stderr}")
    return r


# ---- load ----

class Load:
    """Requests in all shapes, from one seed."""

    def __init__(self, seed, ephemerals=True, kinds=True):
        self.random, self.ephemerals, self.kinds = random.Random(seed), ephemerals, kinds

    def path(self):
        r = self.random
        depth = r.choice((1, 1, 2, 2, 2, 3))
        return "/" + "/".join(r.choice("abcdeq") + str(r.randrange(4)) for _ in range(depth))

    def data(self):
        r = self.random
        return r.choice((None, b"", b"x", r.randbytes(r.randrange(1, 300)),
                         "\u00fcber \u20ac".encode()))

    def one(self):
        r, path = self.random, self.path()
        entries = r.choice((zk.OPEN, zk.OPEN, zk.OPEN, MINE_AND_ALL, MINE, LOCAL))
        what = r.randrange(100)
        if what < 35:
            flags = r.choice((0, 0, 0, 2))
            return r.choice((zk.CREATE, zk.CREATE2)), zk.create(path, self.data(), entries, flags)
        if what < 42 and self.ephemerals:
            return zk.CREATE, zk.create(path + "/e-", self.data(), entries, r.choice((1, 3)))
        if what < 46 and self.kinds:
            return zk.CONTAINER, zk.create(path, self.data(), entries, 4)
        if what < 50 and self.kinds:
            return zk.CREATE_TTL, zk.create(path, self.data(), entries, r.choice((5, 6)),
                                            r.randrange(10**8, 2**40))
        if what < 65:
            return zk.SET, zk.text(path) + zk.text(self.data()) + zk.i32(r.choice((-1, -1, 0)))
        if what < 72:
            return zk.SETACL, zk.text(path) + zk.acl(entries) + zk.i32(-1)
        if what < 90:
            return zk.DELETE, zk.text(path) + zk.i32(-1)
        parts = []
        for _ in range(r.randrange(1, 5)):
            path = self.path()
            parts.append(r.choice((
                (zk.CREATE, zk.create(path, self.data(), entries, r.choice((0, 2)))),
                (zk.SET, zk.text(path) + zk.text(self.data()) + zk.i32(-1)),
                (zk.DELETE, zk.text(path) + zk.i32(-1)),
                (zk.CHECK, zk.text(path) + zk.i32(r.choice((-1, 0)))))))
        return zk.MULTI, zk.multi(*parts)


def connect(port):
    c = zk.Connection(port)
    for scheme, secret in AUTH:
        c.auth(scheme, secret)
    return c


def wide(c):
    """What random requests seldom make: many children, a quota, deep paths."""
    for path, data in (("/q", b"quota"), ("/zookeeper/quota/q", b""),
                       ("/zookeeper/quota/q/zookeeper_limits", b"count=100000,bytes=-1"),
                       ("/zookeeper/quota/q/zookeeper_stats", b"count=0,bytes=0"),
                       ("/wide", b""), ("/seq", b"")):
        c.must(zk.CREATE, zk.create(path, data))
    path = ""
    for i in range(60):
        path += f"/deep{i}"
        c.must(zk.CREATE, zk.create(path, b"d"))
    c.many([(zk.CREATE, zk.create(f"/wide/{i:05}", b"w" * (i % 50))) for i in range(2000)])
    c.many([(zk.CREATE, zk.create("/seq/s-", b"", flags=2)) for _ in range(500)])
    c.many([(zk.DELETE, zk.text(f"/seq/s-{i:010}") + zk.i32(-1)) for i in range(0, 500, 3)])
    c.many([(zk.CREATE, zk.create(f"/q/{i}", b"12")) for i in range(20)])
    c.must(zk.CREATE, zk.create("/large", bytes(range(256)) * 3000))


# ---- comparing ----

def without_ephemerals(nodes, zxid):
    """What is left when every session is closed with the change zxid."""
    left = {p: v for p, v in nodes.items() if v.stat["owner"] == 0}
    for path, v in nodes.items():
        if v.stat["owner"] == 0:
            continue
        parent = left[path.rpartition("/")[0] or "/"]
        parent.stat["children"] -= 1
        parent.stat["cversion"] += 1
        parent.stat["pzxid"] = zxid
    return left


def quota_of(nodes):
    below = [v for p, v in nodes.items() if p == "/q" or p.startswith("/q/")]
    return f"count={len(below)},bytes={sum(len(v.data or b'') for v in below)}".encode()


def compare(wanted, got, fields=zk.Node.FIELDS):
    wrong = [f"{p} is missing" for p in wanted if p not in got]
    wrong += [f"{p} is too many" for p in got if p not in wanted]
    for path, v in wanted.items():
        other = got.get(path)
        if other is None:
            continue
        if v.data != other.data:
            wrong.append(f"{path}: data {v.data!r:.60} {other.data!r:.60}")
        if v.acl != other.acl:
            wrong.append(f"{path}: access list {v.acl} {other.acl}")
        wrong += [f"{path}: {f} {v.stat[f]} {other.stat[f]}" for f in fields
                  if v.stat[f] != other.stat[f]]
    if wrong:
        raise Failed(f"{len(wrong)} differences: " + "; ".join(sorted(wrong)[:10]))
    return len(wanted)


# ---- the test ----

class Test:
    def __init__(self, directory, operations):
        self.directory, self.operations = directory, operations
        self.failed = 0
        self.running = []

    def at(self, name):
        return os.path.join(self.directory, name)

    def keep(self, thing):
        self.running.append(thing)
        return thing

    def run(self, name, part):
        begun = time.monotonic()
        try:
            fact = part()
            print(f"ok moving: {name}" + (f" ({fact}, {time.monotonic() - begun:.1f} s)"
                                          if fact else ""), flush=True)
            return True
        except (Failed, SystemExit, OSError, EOFError, KeyError,
                subprocess.TimeoutExpired) as e:
            print(f"FAILED moving: {name}: {type(e).__name__}: {e}", flush=True)
            self.failed += 1
            return False

    def zookeeper(self, name, settings=(), properties=PROPERTIES):
        return self.keep(zk.Server(self.at(name), settings, properties)).start()

    def killed_under_load(self):
        """Fills one, and kills it while requests are on their way."""
        server = self.zookeeper("source")
        sessions = [connect(server.port) for _ in range(4)]
        self.old = sessions[0].session
        wide(sessions[0])
        load = Load(7)
        for i in range(self.operations // 100):
            sessions[i % 4].many([load.one() for _ in range(100)])
        sessions[3].close()
        done = threading.Event()

        def hammer(c, seed):
            more = Load(seed)
            with contextlib.suppress(OSError, EOFError):
                while True:
                    c.many([more.one() for _ in range(200)], window=200)
                    done.set()

        threads = [threading.Thread(target=hammer, args=(c, n))
                   for n, c in enumerate(sessions[:3])]
        for t in threads:
            t.start()
        if not done.wait(60):
            raise Failed("no answers")
        server.kill()
        for t in threads:
            t.join(60)
        files = os.listdir(os.path.join(server.data, "version-2"))
        return f"{sum(f.startswith('snapshot') for f in files)} snapshots, " \
               f"{sum(f.startswith('log') for f in files)} logs"

    def imported(self):
        source = os.path.join(self.at("source"), "data")
        os.makedirs(self.at("judge"))
        shutil.copytree(source, os.path.join(self.at("judge"), "data"))
        before = sorted(os.listdir(os.path.join(source, "version-2")))
        dry = json.loads(muster("import", "--json", "-n", source).stdout)
        found = json.loads(muster("import", "--json", source, "--data", self.at("m")).stdout)
        if before != sorted(os.listdir(os.path.join(source, "version-2"))) or dry != found:
            raise Failed(f"the dry run differs, or something was changed: {dry} {found}")
        if found["digest"] != "right" or found["ephemerals_left_out"] == 0:
            raise Failed(f"the test is not what it should be, or the tree is not: {found}")
        judge = self.zookeeper("judge")
        wanted = without_ephemerals(zk.dump(judge.port, AUTH), found["zxid"])
        judge.kill()
        self.m = self.keep(Muster(self.at("m"))).start()
        got = zk.dump(self.m.port, AUTH)
        wanted[STATS].data = quota_of(wanted)
        wanted[STATS].stat["length"] = len(wanted[STATS].data)
        n = compare(wanted, got)
        # A client that was ZooKeeper's: it has seen the last zxid, and its session has ended.
        zk.Connection(self.m.port, seen=found["zxid"]).close()
        if zk.Connection(self.m.port, seen=found["zxid"], session=self.old).timeout_ms != 0:
            raise Failed("an old session is taken for a living one")
        c = connect(self.m.port)
        path = c.must(zk.CREATE2, zk.create("/seq/s-", b"", flags=2))
        if not path[4:].startswith(b"/seq/s-0000000500"):
            raise Failed(f"the sequence goes on at {path[:30]}")
        c.close()
        return f"{n} znodes, {found['replayed']} entries replayed, " \
               f"{found['ephemerals_left_out']} ephemerals left out"

    def source_ignored_when_damaged(self):
        """A copy with one byte of the last log changed: refused, and no machine is made."""
        bad = self.at("bad")
        shutil.copytree(os.path.join(self.at("source"), "data", "version-2"), bad)
        log = max((f for f in os.listdir(bad) if f.startswith("log.")),
                  key=lambda f: int(f[4:], 16))
        with open(os.path.join(bad, log), "r+b") as f:
            f.seek(60)
            byte = f.read(1)
            f.seek(60)
            f.write(bytes((byte[0] ^ 1,)))
        r = muster("import", bad, "--data", self.at("m-bad"), codes=(1,))
        if "checksum" not in r.stderr or os.path.exists(self.at("m-bad/machine")):
            raise Failed(r.stderr)
        logs = sorted((f for f in os.listdir(bad) if f.startswith("log.")),
                      key=lambda f: int(f[4:], 16))
        shots = sorted((f for f in os.listdir(bad) if f.startswith("snapshot.")),
                       key=lambda f: int(f[9:], 16))
        for name in shots[2:] + [logs[-1]]:
            os.unlink(os.path.join(bad, name))
        os.unlink(os.path.join(bad, logs[len(logs) // 2]))
        r = muster("import", bad, "--data", self.at("m-bad"), codes=(6,))
        if "are missing" not in r.stderr:
            raise Failed(r.stderr)
        return "checksum, missing entries"

    def exported(self):
        c = connect(self.m.port)
        load = Load(11, kinds=False)
        c.many([load.one() for _ in range(1000)])
        c.many([(zk.CREATE, zk.create("/wide/e-", b"", flags=3)) for _ in range(5)])
        wanted = zk.dump(self.m.port, AUTH)
        c.drop()
        r = muster("export", "--data", self.at("m"), self.at("out"), codes=(1, 6))
        if "another muster process runs" not in r.stderr:
            raise Failed("a running machine was exported: " + r.stderr)
        self.m.stop()
        written = json.loads(muster("export", "--json", "--data", self.at("m"),
                                    self.at("out")).stdout)
        muster("export", "--data", self.at("m"), self.at("out"), codes=(6,))
        os.makedirs(self.at("back"))
        shutil.move(self.at("out"), os.path.join(self.at("back"), "data"))
        back = self.zookeeper("back")
        got = zk.dump(back.port, AUTH)
        wanted = without_ephemerals(wanted, written["zxid"])
        for nodes in (wanted, got):  # ZooKeeper counts a quota anew as it starts
            nodes[STATS].data = b""
            nodes[STATS].stat["length"] = 0
        n = compare(wanted, got)
        told = [line for line in back.log_text().splitlines()
                if ("WARN" in line or "ERROR" in line) and "maxCnxns" not in line and
                "admin" not in line.lower() and "No server failure" not in line]
        bad = [t for t in told if any(w in t.lower() for w in ("digest", "snapshot", "acl",
                                                               "mismatch", "datatree"))]
        if bad or written["ephemerals_left_out"] < 5:
            raise Failed(f"{written} {bad}")
        c = connect(back.port)
        path = c.must(zk.CREATE2, zk.create("/seq/s-", b"", flags=2))
        if not path[4:].startswith(b"/seq/s-0000000501"):
            raise Failed(f"the sequence goes on at {path[:30]}")
        c.close()
        back.kill()
        return f"{n} znodes, {len(told)} other warnings"

    def to_and_fro(self):
        """ZooKeeper restarts from its own snapshot after ours, and muster imports that."""
        back = self.zookeeper("back")
        wanted = zk.dump(back.port, AUTH)
        back.kill()
        found = json.loads(muster("import", "--json", os.path.join(self.at("back"), "data"),
                                  "--data", self.at("m2")).stdout)
        m = self.keep(Muster(self.at("m2"))).start()
        got = zk.dump(m.port, AUTH)
        for nodes in (wanted, got):
            nodes[STATS].data = b""
            nodes[STATS].stat["length"] = 0
        n = compare(without_ephemerals(wanted, found["zxid"]), got)
        m.stop()
        return f"{n} znodes, digest {found['digest']}"

    # ---- a live copy ----

    def equal(self, source, copy, root=""):
        a, b = zk.dump(source.port, AUTH), zk.dump(copy.port, AUTH, root)
        a = {p: v for p, v in a.items() if v.stat["owner"] == 0 and
             p.partition("/zookeeper")[0] != ""}
        b = {p[len(root):] or "/": v for p, v in b.items()
             if p.partition("/zookeeper")[0] != ""}
        return compare(a, b, fields=("length",))

    def copied(self):
        self.live = self.zookeeper("live", properties=("zookeeper.extendedTypesEnabled=true",))
        self.copy = self.keep(Muster(self.at("copy"))).start()
        c = connect(self.live.port)
        wide(c)
        # Access lists that only their owner may read whole are left for later.
        load = Load(21)
        c.many([r for r in (load.one() for _ in range(3000)) if b"digest" not in r[1]])
        self.live_session = c
        words = ("import", "--from", f"127.0.0.1:{self.live.port}", "--server",
                 f"127.0.0.1:{self.copy.port}")
        r = muster(*words, "--compare", codes=(8,))
        if "missing" not in r.stdout:
            raise Failed(r.stdout)
        muster(*words)
        n = self.equal(self.live, self.copy)
        muster(*words, "--compare")
        # Into a part of the tree; what only the copy has goes.
        d = connect(self.copy.port)
        d.must(zk.CREATE, zk.create("/part", b""))
        for path in ("/part/only", "/part/only/here", "/part/only/here/too"):
            d.must(zk.CREATE, zk.create(path, b""))
        muster(*words, "--to", "/part", "--keep", codes=(0,))
        if "/part/only/here/too" not in zk.dump(self.copy.port, AUTH, "/part"):
            raise Failed("--keep did not keep")
        muster(*words, "--to", "/part")
        self.equal(self.live, self.copy, "/part")
        # A part of the source, and back to nothing below it.
        muster("import", "--from", f"127.0.0.1:{self.live.port}/wide", "--to", "/new/place",
               "--server", f"127.0.0.1:{self.copy.port}")
        if sum(p.startswith("/new/place/0") for p in zk.dump(self.copy.port, AUTH)) != 2000:
            raise Failed("the part of the tree is not whole")
        gone = [p for p in sorted(zk.dump(self.copy.port, AUTH), reverse=True)
                if p.startswith(("/part", "/new"))]
        if any(err for err, _ in d.many([(zk.DELETE, zk.text(p) + zk.i32(-1)) for p in gone])):
            raise Failed("the test's own deletions failed")
        d.close()
        return f"{n} znodes"

    def followed(self):
        words = [MUSTER, "import", "--from", f"127.0.0.1:{self.live.port}", "--server",
                 f"127.0.0.1:{self.copy.port}"]
        with open(self.at("follow.txt"), "wb") as out, open(self.at("follow-err.txt"), "wb") as e:
            p = subprocess.Popen([*words, "--follow"], stdout=out, stderr=e,
                                 stdin=subprocess.DEVNULL)
        try:
            self.until(lambda: "in step" in self.read("follow-err.txt"), "it is in step")
            for seed in (31, 32):
                load = Load(seed, ephemerals=False)
                c = connect(self.live.port)
                for _ in range(20):
                    c.many([r for r in (load.one() for _ in range(200)) if b"digest" not in r[1]
                            and r[0] != zk.SETACL])
                c.close()
                self.until(self.is_equal, "the copy is equal after load")
                if seed == 31:
                    # The source goes away and is changed before the follower can be back.
                    p.send_signal(signal.SIGSTOP)
                    self.live.kill()
                    self.live.start()
                    c = connect(self.live.port)
                    c.must(zk.CREATE, zk.create("/while-away", b"1"))
                    c.close()
                    p.send_signal(signal.SIGCONT)
                    self.until(self.is_equal, "the copy is equal after a restart")
            lines = self.read("follow.txt").splitlines()
            p.send_signal(signal.SIGINT)
            if p.wait(20) != 130:
                raise Failed(f"exit code {p.returncode}")
        finally:
            if p.poll() is None:
                p.kill()
                p.wait()
        r = subprocess.run([*words, "--compare"], stdout=subprocess.PIPE, check=False, text=True)
        if r.returncode != 0:
            raise Failed(r.stdout)
        return f"{self.equal(self.live, self.copy)} znodes, {len(lines)} changes followed"

    def read(self, name):
        with open(self.at(name), encoding="utf-8", errors="replace") as f:
            return f.read()

    def is_equal(self):
        try:
            self.equal(self.live, self.copy)
            return True
        except Failed as e:
            self.last = str(e)
            return False

    def until(self, condition, what, limit_s=60):
        until = time.monotonic() + limit_s
        self.last = ""
        while not condition():
            if time.monotonic() > until:
                raise Failed(f"not within {limit_s} s: {what}: {self.last}\n" +
                             self.read("follow-err.txt")[-800:])
            time.sleep(0.2)

    def all(self):
        if self.run("a ZooKeeper is filled and killed -9 under load", self.killed_under_load):
            if self.run("import: every znode, Stat and access list", self.imported):
                self.run("import: damage is refused", self.source_ignored_when_damaged)
                if self.run("export: ZooKeeper starts from it", self.exported):
                    self.run("import of what was exported", self.to_and_fro)
        if self.run("a live copy", self.copied):
            self.run("a copy that follows", self.followed)

    def end(self):
        for thing in self.running:
            thing.stop()


# ---- measuring ----

def snapshot_of(path, znodes):
    """A snapshot with so many znodes of 100 bytes, a thousand in each parent."""
    total = zlib.adler32(b"")
    with open(path, "wb") as f:
        def put(data):
            nonlocal total
            total = zlib.adler32(data, total)
            f.write(data)

        def node(name, data, creates=0, children_zxid=1):
            return zk.text(name) + zk.text(data) + zk.i64(-1) + struct.pack(
                ">qqqqiiiqq", 1, 1, 10**12, 10**12, 0, creates, 0, 0, children_zxid)

        put(struct.pack(">iiqii", 0x5a4b534e, 2, -1, 0, 0))
        put(node("", b"", znodes // 1000) + node("/zookeeper", b"") + node("/zookeeper/quota", b"") +
            node("/zookeeper/config", b""))
        for parent in range(znodes // 1000):
            put(node(f"/{parent}", b"", 1000))
            put(b"".join(node(f"/{parent}/{i}", b"x" * 100) for i in range(1000)))
        put(zk.text("/"))
        put(zk.i64(total) + zk.text("/"))


def measure(znodes):
    directory = tempfile.mkdtemp(prefix="muster-moving-")
    try:
        os.makedirs(directory + "/version-2")
        snapshot_of(directory + "/version-2/snapshot.100", znodes)
        size = os.path.getsize(directory + "/version-2/snapshot.100")
        begun = time.monotonic()
        r = muster("import", "--json", directory, "--data", directory + "/m")
        took = time.monotonic() - begun
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        print(f"{json.loads(r.stdout)['znodes']} znodes, snapshot of {size >> 20} MB: "
              f"{took:.1f} s, {peak >> 10} MB at most")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--operations", type=int, default=4000)
    parser.add_argument("--measure", type=int)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return 0
    if not zk.is_there():
        print("there is no ZooKeeper here")
        return 77
    directory = tempfile.mkdtemp(prefix="muster-moving-")
    test = Test(directory, options.operations)
    try:
        test.all()
    finally:
        test.end()
        if test.failed == 0:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            print(f"its files are in {directory}", file=sys.stderr)
    return 1 if test.failed else 0


if __name__ == "__main__":
    sys.exit(main())
