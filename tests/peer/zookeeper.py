#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The tree beside Apache ZooKeeper (Debian's package `zookeeper`), request by request.

    zookeeper.py [--seed N] [--requests N]

Random requests go to both; errors, zxids, answers (Stats without the times) and watch
events must be the same. What is left out, because we differ on purpose:
  - ACLs that nobody may read: events of such znodes are not filtered yet, and those
    with identities, which are not enforced yet
  - create2 and createContainer inside a multi, which 3.8.0 takes for create
  - malformed UTF-8 outside of writes, which ZooKeeper changes into U+FFFD
  - an ACL without an id, which ends in an internal error there
  - getAllChildrenNumber of "", which counts the root twice there
  - checkWatches of a path without '/', an internal error there
ZooKeeper runs in its own directory, on its own loopback port, and for 5 minutes at most.
Exit code: 0 the same, 1 different, 77 there is no ZooKeeper.
"""
import argparse
import glob
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
JARS = ("zookeeper", "zookeeper-jute", "slf4j-api", "slf4j-nop", "netty-*", "metrics-core",
        "snappy-java", "commons-*", "audience-annotations*")
CREATE, DELETE, EXISTS, GET, SET, GETACL, SETACL, CHILDREN = 1, 2, 3, 4, 5, 6, 7, 8
CHILDREN2, CHECK, MULTI, CREATE2, CHECKWATCHES, REMOVEWATCHES, CONTAINER = 12, 13, 14, 15, 17, 18, 19
SETWATCHES, EPHEMERALS, ALLCHILDREN, ADDWATCH = 101, 103, 104, 106
MOST_SHOWN = 12


def i32(v):
    return struct.pack(">i", v)


def i64(v):
    return struct.pack(">q", v)


def text(s):
    if s is None:
        return i32(-1)
    s = s.encode() if isinstance(s, str) else s
    return i32(len(s)) + s


class Record:
    """Takes an answer apart; `base` is what the zxids of this side begin with."""

    def __init__(self, data, base):
        self.data, self.at, self.base = data, 0, base

    def take(self, form):
        v, = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return v

    def i(self):
        return self.take("i")

    def zxid(self):
        z = self.take("q")
        return z - self.base if z > 0 else z

    def text(self):
        n = self.i()
        if n < 0:
            return None
        self.at += n
        return self.data[self.at - n:self.at]

    def stat(self):
        czxid, mzxid = self.zxid(), self.zxid()
        times = (self.take("q") == 0, self.take("q") == 0)
        versions = (self.i(), self.i(), self.i())
        owned = self.take("q") != 0
        return czxid, mzxid, times, versions, owned, self.i(), self.i(), self.zxid()

    def texts(self):
        return sorted(self.text() for _ in range(self.i()))

    def acl(self):
        return [(self.i(), self.text(), self.text()) for _ in range(self.i())]

    def result(self, op):
        if op == CREATE:
            return self.text()
        if op in (CREATE2, CONTAINER):
            return self.text(), self.stat()
        if op in (EXISTS, SET, SETACL):
            return self.stat()
        if op == GET:
            return self.text(), self.stat()
        if op == GETACL:
            return self.acl(), self.stat()
        if op in (CHILDREN, EPHEMERALS):
            return self.texts()
        if op == CHILDREN2:
            return self.texts(), self.stat()
        if op in (ALLCHILDREN, ADDWATCH, -1):
            return self.i()
        if op == MULTI:
            return self.multi()
        return None

    def multi(self):
        results = []
        while True:
            op, done, err = self.i(), self.take("?"), self.i()
            results.append((op, err, None if done else self.result(op)))
            if done:
                return results

    def whole(self, op):
        r = self.result(op)
        return r if self.at == len(self.data) else ("bytes too many", r)


class Java:
    """A client connection to a ZooKeeper of our own."""

    def __init__(self, directory):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        os.mkdir(directory + "/data")
        with open(directory + "/zoo.cfg", "w", encoding="utf-8") as f:
            f.write(f"tickTime=2000\ndataDir={directory}/data\nclientPort={port}\n"
                    "clientPortAddress=127.0.0.1\nadmin.enableServer=false\n"
                    "maxSessionTimeout=60000\n")
        jars = [j for name in JARS for j in glob.glob(f"/usr/share/java/{name}.jar")]
        self.process = subprocess.Popen(
            ["timeout", "300", "java", "-cp", ":".join(jars),
             "org.apache.zookeeper.server.quorum.QuorumPeerMain", directory + "/zoo.cfg"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=directory)
        self.xid = 0
        self.socket = self.connect(port)

    def connect(self, port):
        hello = i32(0) + i64(0) + i32(30000) + i64(0) + text(bytes(16)) + b"\0"
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                s = socket.create_connection(("127.0.0.1", port), timeout=30)
                s.sendall(i32(len(hello)) + hello)
                self.socket = s
                self.frame()
                return s
            except (OSError, EOFError):
                time.sleep(0.1)
        raise SystemExit("ZooKeeper does not answer after 60 s")

    def exactly(self, n):
        data = b""
        while len(data) < n:
            more = self.socket.recv(n - len(data))
            if not more:
                raise EOFError("ZooKeeper closed the connection")
            data += more
        return data

    def frame(self):
        return self.exactly(struct.unpack(">i", self.exactly(4))[0])

    def ask(self, op, body):
        self.xid += 1
        packet = i32(self.xid) + i32(op) + body
        self.socket.sendall(i32(len(packet)) + packet)
        events = []
        while True:
            frame = self.frame()
            xid, zxid, err = struct.unpack_from(">iqi", frame)
            if xid != -1:
                return err, zxid, events, frame[16:]
            kind, _, n = struct.unpack_from(">iii", frame, 16)
            events.append((kind, frame[28:28 + n]))

    def close(self):
        self.process.terminate()
        self.process.wait()


class Ours:
    def __init__(self, directory):
        program = directory + "/tree_pipe"
        sources = [TOP + "/tests/peer/tree_pipe.c"]
        for pattern in ("wire/*", "tree/*", "base/buf", "base/mem", "base/hash", "base/err",
                        "base/check", "base/mutant"):
            sources += glob.glob(f"{TOP}/src/{pattern}.c")
        subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-g", "-I" + TOP + "/src", "-o", program,
                        "-fsanitize=address,undefined", *sources], check=True)
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def ask(self, op, body):
        self.process.stdin.write(i32(len(body)) + i32(op) + body)
        self.process.stdin.flush()
        out = self.process.stdout
        err, zxid, n = struct.unpack(">iqi", out.read(16))
        raw, events, at = out.read(n), [], 0
        while at < n:
            kind, size = struct.unpack_from(">ii", raw, at)
            events.append((kind, raw[at + 8:at + 8 + size]))
            at += 8 + size
        return err, zxid, events, out.read(struct.unpack(">i", out.read(4))[0])

    def close(self):
        self.process.stdin.close()
        if self.process.wait() != 0:
            raise SystemExit("tree_pipe failed")


class Requests:
    ODD = ["", "/", "//", "x", "/.", "/..", "/a/", "/a//b", "/a/./b", "x/y", "/\x01", "/\x7f",
           "/a\0b", "/\u00e4", "/\ud7ff", "/\ue000", "/\uf900", "/\uffef", "/\ufff0", "/zookeeper",
           "/zookeeper/quota", "/zookeeper/config", "/zookeeper/x", "a/b", "/b/",
           b"/\xf0\x9f\x98\x80"]
    BROKEN = [b"/\xff", b"/\xc0\x80", b"/a/\xe2\x82"]
    IDS = [("ip", "1.2.3.4"), ("ip", "1.2.3.4/8"), ("ip", "1.2.3.4/33"), ("ip", "1.2.3.4/"),
           ("ip", "/8"), ("ip", "1.2.3.4/8/9"), ("ip", "1.2.3"), ("ip", "300.1.1.1"),
           ("ip", "::1"), ("digest", "a:b"), ("digest", "a:"), ("digest", "a:b:"),
           ("digest", "a:b:c"), ("digest", ":b"), ("digest", "::"), ("digest", ""),
           ("world", "anyone"), ("world", "all"), ("auth", ""), ("sasl", "a"), ("super", "a"),
           (None, "a")]

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.zxid = 1

    def path(self, writes=False):
        if self.r.random() < 0.04:
            return self.r.choice(self.ODD + (self.BROKEN if writes else []))
        depth = self.r.choice([1, 1, 2, 2, 2, 3])
        return "".join("/" + self.r.choice("abc") for _ in range(depth))

    def acl(self):
        world, x = text("world") + text("anyone"), self.r.random()
        if x < 0.75:
            return i32(1) + i32(31) + world
        if x < 0.8:
            return i32(1) + i32(self.r.choice([1, 3, 5, 9, 17, 13])) + world
        if x < 0.85:
            return i32(self.r.choice([0, -1]))
        if x < 0.9:
            return i32(3) + 2 * (i32(31) + world) + i32(31) + text("digest") + text("a:b")
        scheme, name = self.r.choice(self.IDS)
        return i32(2) + i32(31) + world + i32(self.r.choice([1, 99])) + text(scheme) + text(name)

    def data(self):
        return text(self.r.choice([None, b"", b"x", b"y" * self.r.randrange(200)]))

    def version(self):
        return i32(self.r.choice([-1, -1, -1, 0, 0, 1, 2, -2]))

    def one(self):
        kind = self.r.choice([CREATE] * 6 + [DELETE] * 4 + [SET] * 4 + [CHECK])
        path = text(self.path(writes=True))
        if kind == CREATE:
            op = self.r.choice([CREATE, CREATE, CREATE, CREATE2, CREATE2, CONTAINER])
            flags = [4, 4, 0, 2] if op == CONTAINER else [0, 0, 0, 1, 1, 2, 3, 4, 7, -1, 5, 6]
            return op, path + self.data() + self.acl() + i32(self.r.choice(flags))
        if kind == SET:
            return SET, path + self.data() + self.version()
        return kind, path + self.version()

    def several(self):
        body = b""
        for _ in range(self.r.randrange(6)):
            op, part = self.one()
            while op in (CREATE2, CONTAINER):
                op, part = self.one()
            body += i32(op) + b"\0" + i32(-1) + part
        return MULTI, body + i32(-1) + b"\1" + i32(-1)

    def again(self):
        def paths():
            some = [text(self.path()) for _ in range(self.r.randrange(4))]
            return i32(len(some)) + b"".join(some)
        seen = max(0, self.zxid - self.r.randrange(20))
        return SETWATCHES, i64(seen) + paths() + paths() + paths()

    def any(self):
        x, path = self.r.random(), text(self.path())
        if x < 0.45:
            op, body = self.one()
            while op == CHECK:
                op, body = self.one()
            return op, body
        if x < 0.6:
            return self.several()
        if x < 0.65:
            return SETACL, text(self.path(writes=True)) + self.acl() + self.version()
        if x < 0.67:
            return EPHEMERALS, text(self.r.choice([None, "", "/", "/a", "/a/b", "  "]))
        if x < 0.69:
            return ALLCHILDREN, text(self.path() or "/")
        if x < 0.72:
            return GETACL, path
        if x < 0.73:
            op = self.r.choice([CHECKWATCHES, REMOVEWATCHES])
            path = text("/" + self.r.choice("abc"))
            return op, path + i32(self.r.choice([1, 2, 3, 0, 6]))
        if x < 0.76:
            return self.again()
        op = self.r.choice([EXISTS, GET, CHILDREN, CHILDREN2])
        return op, path + (b"\1" if self.r.random() < 0.4 else b"\0")


def compare(java, ours, requests, count):
    # Both have had one session; what came before it may differ.
    base = java.ask(EXISTS, text("/") + b"\0")[1] - 1
    different, good = 0, 0
    for n in range(count):
        op, body = requests.any()
        theirs = body
        if op == SETWATCHES:
            theirs = i64(struct.unpack_from(">q", body)[0] + base) + body[8:]
        j, o = java.ask(op, theirs), ours.ask(op, body)
        requests.zxid = o[1]
        a = (j[0], j[1] - base, j[2], Record(j[3], base).whole(op) if j[0] == 0 else j[3])
        b = (o[0], o[1], o[2], Record(o[3], 0).whole(op) if o[0] == 0 else o[3])
        good += o[0] == 0
        if a != b:
            different += 1
            print(f"request {n}: operation {op} {body!r}\n  ZooKeeper {a}\n  ours      {b}")
            if different >= MOST_SHOWN:
                break
    print(f"{count} requests, {good} of them successful, {different} answered differently")
    return different


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--requests", type=int, default=3000)
    options = p.parse_args()
    if not glob.glob("/usr/share/java/zookeeper.jar") or shutil.which("java") is None:
        print("no ZooKeeper here (Debian: apt install zookeeper)")
        return 77
    with tempfile.TemporaryDirectory() as directory:
        ours = Ours(directory)
        java = Java(directory)
        try:
            different = compare(java, ours, Requests(options.seed), options.requests)
        finally:
            java.close()
        ours.close()
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
