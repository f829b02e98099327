# SPDX-License-Identifier: Apache-2.0
"""An Apache ZooKeeper server of our own on a loopback port (Debian's package `zookeeper`),
and one raw connection to a server: what the tests need that kazoo does not do."""
import base64
import glob
import hashlib
import os
import shutil
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))

from ports import free_port  # noqa: E402

JARS = ("zookeeper", "zookeeper-jute", "slf4j-api", "slf4j-simple", "netty-*", "metrics-core",
        "snappy-java", "commons-*", "audience-annotations*")
CREATE, DELETE, EXISTS, GET, SET, GETACL, SETACL, CHILDREN2 = 1, 2, 3, 4, 5, 6, 7, 12
CHECK, MULTI, CREATE2, CONTAINER, CREATE_TTL, CLOSE = 13, 14, 15, 19, 21, -11
OPEN = ((31, "world", "anyone"),)
START_S = 60


def is_there():
    return bool(glob.glob("/usr/share/java/zookeeper.jar")) and shutil.which("java") is not None


def i32(v):
    return struct.pack(">i", v)


def i64(v):
    return struct.pack(">q", v)


def text(s):
    if s is None:
        return i32(-1)
    s = s.encode() if isinstance(s, str) else s
    return i32(len(s)) + s


def acl(entries=OPEN):
    return i32(len(entries)) + b"".join(i32(p) + text(s) + text(i) for p, s, i in entries)


def digest(user, password):
    """What ZooKeeper stores of them."""
    sha = hashlib.sha1(f"{user}:{password}".encode()).digest()
    return f"{user}:{base64.b64encode(sha).decode()}"


def create(path, data=b"", entries=OPEN, flags=0, ttl=None):
    body = text(path) + text(data) + acl(entries) + i32(flags)
    return body if ttl is None else body + i64(ttl)


def multi(*parts):
    return b"".join(i32(op) + b"\0" + i32(-1) + body for op, body in parts) + \
        i32(-1) + b"\1" + i32(-1)


class Server:
    """`settings` are lines of zoo.cfg; `properties` go to the Java machine."""

    def __init__(self, directory, settings=(), properties=(), heap="256m"):
        self.directory, self.port = directory, free_port()
        self.data = os.path.join(directory, "data")
        self.log = os.path.join(directory, "zookeeper.txt")
        os.makedirs(self.data, exist_ok=True)
        self.config = os.path.join(directory, "zoo.cfg")
        with open(self.config, "w", encoding="utf-8") as f:
            f.write(f"tickTime=500\ndataDir={self.data}\nclientPort={self.port}\n"
                    "clientPortAddress=127.0.0.1\nadmin.enableServer=false\n"
                    "maxSessionTimeout=60000\nmaxClientCnxns=0\n"
                    "4lw.commands.whitelist=*\n" + "".join(line + "\n" for line in settings))
        self.words = ["java", f"-Xmx{heap}", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
                      *("-D" + p for p in properties), "-cp",
                      ":".join(j for n in JARS for j in glob.glob(f"/usr/share/java/{n}.jar")),
                      "org.apache.zookeeper.server.quorum.QuorumPeerMain", self.config]
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.words, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, cwd=self.directory)
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                if self.word("ruok") == b"imok" and b"Mode: standalone" in self.word("srvr"):
                    return self
            except OSError:
                pass
            time.sleep(0.1)
        self.kill()
        raise SystemExit("ZooKeeper does not start:\n" + self.log_text()[-3000:])

    def word(self, word):
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as s:
            s.sendall(word.encode())
            out = b""
            while True:
                more = s.recv(65536)
                if not more:
                    return out
                out += more

    def log_text(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def kill(self):
        """kill -9"""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None


class Connection:
    """A session whose requests are bytes."""

    def __init__(self, port, timeout_ms=30000, seen=0, session=0):
        self.xid = 0
        hello = i32(0) + i64(seen) + i32(timeout_ms) + i64(session) + text(bytes(16)) + b"\0"
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.sendall(i32(len(hello)) + hello)
        answer = self.frame()
        self.timeout_ms, self.session = struct.unpack_from(">iq", answer, 4)

    def exactly(self, n):
        data = b""
        while len(data) < n:
            more = self.socket.recv(n - len(data))
            if not more:
                raise EOFError("the server closed the connection")
            data += more
        return data

    def frame(self):
        return self.exactly(struct.unpack(">i", self.exactly(4))[0])

    def send(self, op, body, xid=None):
        if xid is None:
            self.xid += 1
            xid = self.xid
        packet = i32(xid) + i32(op) + body
        self.socket.sendall(i32(len(packet)) + packet)

    def ask(self, op, body, xid=None):
        """err, body"""
        self.send(op, body, xid)
        while True:
            frame = self.frame()
            got, _, err = struct.unpack_from(">iqi", frame)
            if got != -1:
                return err, frame[16:]

    def many(self, requests, window=500):
        """Pipelined: [(op, body)] -> [(err, body)]"""
        answers = []
        sent = 0
        while len(answers) < len(requests):
            while sent < len(requests) and sent - len(answers) < window:
                self.send(*requests[sent])
                sent += 1
            frame = self.frame()
            got, _, err = struct.unpack_from(">iqi", frame)
            if got != -1:
                answers.append((err, frame[16:]))
        return answers

    def must(self, op, body):
        err, answer = self.ask(op, body)
        if err != 0:
            raise SystemExit(f"operation {op} failed: {err}")
        return answer

    def auth(self, scheme, secret):
        err, _ = self.ask(100, i32(0) + text(scheme) + text(secret), -4)
        if err != 0:
            raise SystemExit(f"addauth: {err}")

    def close(self):
        self.ask(CLOSE, b"")
        self.socket.close()

    def drop(self):
        """Without closing the session."""
        self.socket.close()


class Node:
    """One znode as a server shows it."""
    FIELDS = ("czxid", "mzxid", "ctime", "mtime", "version", "cversion", "aversion", "owner",
              "length", "children", "pzxid")

    def __init__(self, data_answer, acl_answer):
        size = struct.unpack_from(">i", data_answer)[0]
        self.data = None if size < 0 else data_answer[4:4 + size]
        self.stat = dict(zip(self.FIELDS, struct.unpack_from(">qqqqiiiqiiq", data_answer,
                                                             4 + max(size, 0))))
        self.acl = acl_answer[:-68]


def names_of(answer):
    n, at, names = struct.unpack_from(">i", answer)[0], 4, []
    for _ in range(n):
        size = struct.unpack_from(">i", answer, at)[0]
        names.append(answer[at + 4:at + 4 + size].decode())
        at += 4 + size
    return names


def dump(port, auth, root=""):
    """Every znode at or below root: path -> Node."""
    c = Connection(port)
    for scheme, secret in auth:
        c.auth(scheme, secret)
    found, level = {}, [root or "/"]
    while level:
        below = []
        data = c.many([(GET, text(p) + b"\0") for p in level])
        lists = c.many([(GETACL, text(p)) for p in level])
        for path, (err, answer), (acl_err, acl_answer) in zip(level, data, lists):
            if err == 0 and acl_err == 0:
                found[path] = Node(answer, acl_answer)
            elif -101 not in (err, acl_err):  # it may go meanwhile
                raise SystemExit(f"cannot read {path}: {err} {acl_err}")
        parents = [p for p in level if p in found and found[p].stat["children"] > 0]
        for path, (err, answer) in zip(parents, c.many([(CHILDREN2, text(p) + b"\0")
                                                        for p in parents])):
            if err == 0:
                below += [(path if path != "/" else "") + "/" + n for n in names_of(answer)]
        level = below
    c.close()
    return found
