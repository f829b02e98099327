#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Sessions and limits, byte by byte, on muster and on Apache ZooKeeper: the same must happen.

    sessions.py [SCENARIO...]     all without an argument; exit code 77: no ZooKeeper here

Each scenario starts servers (one, or three on three addresses) with settings, does something
to them and notes what it saw. The notes of both are compared line by line. What differs on
purpose is in DIFFERS, with the reason; a line of it that does not differ any more is an error.
The servers stand in a network namespace of their own. Needs root.
"""
import contextlib
import ctypes
import glob
import logging
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SET_SERVER = os.environ.get("SET_SERVER", os.path.join(TOP, "build", "tool_set_server"))
JARS = ":".join(["/usr/share/java/zookeeper.jar"] + glob.glob("/usr/share/java/*.jar"))
NETNS = f"sess-{os.getpid()}"
CLONE_NEWNET = 0x40000000
PORT = 2181
LIMIT = 40.0  # seconds for what must happen; it takes a few

CREATE, DELETE, EXISTS, GET, SET, CHILDREN, SYNC, PING, CHECK, MULTI = 1, 2, 3, 4, 5, 8, 9, 11, 13, 14
ADDWATCH, MULTIREAD, EPHEMERALS, WHOAMI, AUTH, SETWATCHES, CLOSE = 106, 22, 103, 107, 100, 101, -11

# (scenario, a note of muster's) -> why it is so. ZooKeeper's own in the same place differs.
DIFFERS = {
    ("reconnect", "the first connection after a wrong password: answers"):
        "ZooKeeper closes the rightful connection before it looks at the password",
    ("reconnect", "session gone and zxid ahead: 37 bytes, session 0"):
        "ZooKeeper closes; its client would try for ever for a session that there is not",
}


def i32(n):
    return struct.pack(">i", n)


def text(s):
    b = s.encode() if isinstance(s, str) else s
    return i32(len(b)) + b


WORLD = i32(1) + i32(31) + text("world") + text("anyone")


def create(path, flags=0):
    return text(path) + text("v") + WORLD + i32(flags)


class Closed(Exception):
    pass


class Conn:
    """A connection; with connect() a session."""

    def __init__(self, address):
        self.s = socket.socket()
        self.s.settimeout(LIMIT)
        self.gone = False
        try:
            self.s.connect((address, PORT))
        except (BrokenPipeError, ConnectionResetError):
            self.gone = True  # taken, and closed before we looked
        self.xid = 0
        self.session = self.password = self.read_only = None

    def connect(self, session=0, password=b"\0" * 16, zxid=0, timeout=10000, read_only=0, old=False):
        """What came back, as a note."""
        body = struct.pack(">iqiq", 0, zxid, timeout, session) + text(password)
        self.frame(body if old else body + bytes([read_only]))
        try:
            r = self.read()
        except Closed:
            return "closed"
        if len(r) < 36:
            return f"{len(r)} bytes"
        _, self.timeout, self.session = struct.unpack_from(">iiq", r)
        self.password = r[20:36]
        self.read_only = r[36] if len(r) > 36 else None
        note = f"{len(r)} bytes, " + (f"timeout {self.timeout}" if self.session else "session 0")
        if self.session == 0 and (self.timeout or any(self.password)):
            note += ", but not all is 0"
        return note + (", read-only" if self.read_only else "")

    def exactly(self, n):
        if self.gone:
            raise Closed
        got = b""
        while len(got) < n:
            try:
                part = self.s.recv(n - len(got))
            except ConnectionError:
                part = b""
            if not part:
                raise Closed
            got += part
        return got

    def read(self):
        return self.exactly(struct.unpack(">i", self.exactly(4))[0])

    def frame(self, body):
        try:
            self.s.sendall(i32(len(body)) + body)
        except OSError:
            pass  # closed: the read says so

    def ask(self, op, body=b"", xid=None):
        """(xid, err, events before it), or "closed"."""
        if xid is None:
            self.xid += 1
            xid = self.xid
        self.frame(struct.pack(">ii", xid, op) + body)
        events = []
        try:
            while True:
                r = self.read()
                got, self.zxid, err = struct.unpack_from(">iqi", r)
                if got != -1:
                    break
                kind, _, n = struct.unpack_from(">iii", r, 16)
                events.append((kind, r[28:28 + n].decode()))
        except Closed:
            return "closed"
        return (got, err) + ((events,) if events else ())

    def end(self, limit=LIMIT):
        """Seconds until the other side has closed; None: it has not."""
        start = time.monotonic()
        self.s.settimeout(limit)
        try:
            while self.s.recv(65536):
                pass
        except ConnectionError:
            pass
        except socket.timeout:
            return None
        return time.monotonic() - start

    def close(self):
        self.s.close()


def session(address, **how):
    c = Conn(address)
    c.connect(**how)
    return c


# ---- servers ----

class Servers:
    """One or three of a kind, with settings."""

    def __init__(self, count, settings):
        self.addresses = [f"127.0.0.{11 + i}" for i in range(count)]
        self.settings = settings
        self.dir = tempfile.mkdtemp(prefix="sessions-")
        self.processes = [None] * count

    def start(self, i):
        with open(os.path.join(self.dir, f"log{i}"), "ab") as log:
            # pylint: disable=consider-using-with
            self.processes[i] = subprocess.Popen(self.command(i), stdout=log, stderr=log,
                                                 stdin=subprocess.DEVNULL)

    def kill(self, i):
        if self.processes[i] is not None:
            self.processes[i].send_signal(signal.SIGKILL)
            self.processes[i].wait()
            self.processes[i] = None

    def open(self):
        for i in range(len(self.addresses)):
            self.start(i)
        self.wait()

    def wait(self):
        """Until all of them serve."""
        for i, a in enumerate(self.addresses):
            wait_for(lambda a=a: word(a, "isro") == "rw", lambda i=i: self.said(i))

    def said(self, i):
        with open(os.path.join(self.dir, f"log{i}"), encoding="utf-8", errors="replace") as f:
            return f.read()[-2000:]

    def close(self):
        for i in range(len(self.addresses)):
            self.kill(i)
        shutil.rmtree(self.dir, ignore_errors=True)


class Muster(Servers):
    name = "muster"

    def command(self, i):
        return [SET_SERVER, os.path.join(self.dir, str(i)), str(i + 1), ",".join(self.addresses),
                str(PORT)] + [f"{k}={v}" for k, v in {"tickTime": "500", "minSessionTimeout": "1000",
                                                     "maxSessionTimeout": "10000",
                                                     **self.settings}.items()]


class ZooKeeper(Servers):
    name = "zookeeper"

    def command(self, i):
        data = os.path.join(self.dir, str(i))
        os.makedirs(data, exist_ok=True)
        with open(os.path.join(data, "myid"), "w", encoding="utf-8") as f:
            f.write(f"{i + 1}\n")
        plain = {k: v for k, v in self.settings.items() if "." not in k}
        with open(os.path.join(data, "zoo.cfg"), "w", encoding="utf-8") as f:
            f.write(f"tickTime=500\ninitLimit=20\nsyncLimit=10\ndataDir={data}\n"
                    f"clientPortAddress={self.addresses[i]}\nclientPort={PORT}\n"
                    "admin.enableServer=false\n4lw.commands.whitelist=*\n")
            for k, v in {"maxClientCnxns": "0", **plain}.items():
                f.write(f"{k}={v}\n")
            if "readonlymode.enabled" in self.settings:
                # Without these it opens no session in this mode: the answer to a connect is a
                # reply header with -119. An ephemeral makes a session the ensemble's.
                f.write("localSessionsEnabled=true\nlocalSessionsUpgradingEnabled=true\n")
            if len(self.addresses) > 1:
                f.writelines(f"server.{n + 1}={a}:2888:3888\n" for n, a in enumerate(self.addresses))
        properties = [f"-D{p}{k}={v}" for k, v in self.settings.items() if "." in k
                      for p in ("", "zookeeper.")]
        return ["java", "-Xmx160m", "-XX:TieredStopAtLevel=1", *properties, "-cp", JARS,
                "org.apache.zookeeper.server.quorum.QuorumPeerMain", os.path.join(data, "zoo.cfg")]


def wait_for(condition, why, limit=LIMIT):
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"waited {limit:g} s: {why()}")
        time.sleep(0.05)


def word(address, what):
    try:
        with socket.create_connection((address, PORT), 2) as s:
            s.settimeout(2)
            s.sendall(what.encode())
            got = b""
            while True:
                part = s.recv(65536)
                if not part:
                    return got.decode()
                got += part
    except OSError:
        return ""


# ---- scenarios: (servers, settings, what is done; it yields notes) ----

def negotiate(s):
    a = s.addresses[0]
    for timeout in (0, -1, 1, 5000, 1 << 30, -(1 << 31)):
        yield f"asks for {timeout} ms: {Conn(a).connect(timeout=timeout)}"
    for password in (b"", b"x", b"y" * 16, b"z" * 17):
        yield f"new, with a password of {len(password)}: {Conn(a).connect(password=password)}"
    yield f"old client: {Conn(a).connect(old=True)}"
    yield f"asks for read-only: {Conn(a).connect(read_only=1)}"
    yield f"zxid ahead: {Conn(a).connect(zxid=1 << 60)}"
    yield f"zxid -1: {Conn(a).connect(zxid=-1)}"


def reconnect(s):
    a = s.addresses[0]
    first = session(a)
    for what, how in (("too short", {"password": first.password[:15]}),
                      ("too long", {"password": first.password + b"x"}),
                      ("empty", {"password": b""}),
                      ("wrong", {"password": b"x" * 16})):
        yield f"password {what}: {Conn(a).connect(session=first.session, **how)}"
    yield "the first connection after a wrong password: " + (
        "answers" if first.ask(PING, xid=-2) == (-2, 0) else "closed")
    second = Conn(a)
    yield "right: " + second.connect(session=first.session, password=first.password, timeout=3000)
    yield f"same session: {second.session == first.session}, {second.password == first.password}"
    yield f"the first connection: {first.ask(PING, xid=-2)}"
    old = Conn(a)
    yield "right, old client: " + old.connect(session=first.session, password=first.password,
                                              old=True)
    yield f"the second connection: {second.ask(PING, xid=-2)}"
    ahead = Conn(a)
    yield "zxid ahead: " + ahead.connect(session=first.session, password=first.password,
                                         zxid=1 << 60)
    yield f"then the session: {old.ask(EXISTS, text('/') + bytes(1))}"
    yield "unknown: " + Conn(a).connect(session=0x1234567, password=b"x" * 16)
    yield "unknown, old client: " + Conn(a).connect(session=0x1234567, password=b"x" * 16, old=True)
    yield "session gone and zxid ahead: " + Conn(a).connect(session=0x1234567, zxid=1 << 60)
    yield f"close: {old.ask(CLOSE)}, {old.ask(PING, xid=-2)}"
    yield "after it: " + Conn(a).connect(session=first.session, password=first.password)


def expire(s):
    a = s.addresses[0]
    c = session(a, timeout=1000)
    start = time.monotonic()  # it lives its timeout from when an answered question was sent
    yield f"ephemeral: {c.ask(CREATE, create('/e', 1))}"
    yield f"closed: {c.end() is not None}, too early: {time.monotonic() - start < 0.95}"
    yield "came back: " + Conn(a).connect(session=c.session, password=c.password)
    yield f"its ephemeral: {session(a).ask(EXISTS, text('/e') + bytes(1))}"
    away = session(a, timeout=1500)
    away.ask(CREATE, create("/f", 1))
    away.close()
    again = Conn(a)
    yield "goes and comes: " + again.connect(session=away.session, password=away.password,
                                             timeout=1500)
    yield f"its ephemeral: {again.ask(EXISTS, text('/f') + bytes(1))}"


def watches_again(s):
    """What was missed is told once, before the answer; the rest is set again."""
    a = s.addresses[0]
    c, other = session(a), session(a)
    for p in ("/a", "/b", "/c", "/d"):
        c.ask(CREATE, create(p))
    c.ask(EXISTS, text("/") + bytes(1))
    zxid = c.zxid
    c.close()
    other.ask(SET, text("/a") + text("new") + i32(-1))
    other.ask(DELETE, text("/b") + i32(-1))
    other.ask(CREATE, create("/c/x"))
    other.ask(CREATE, create("/new"))
    c2 = session(a, session=c.session, password=c.password, zxid=zxid)

    def paths(*names):
        return i32(len(names)) + b"".join(text(n) for n in names)

    body = (struct.pack(">q", zxid) + paths("/a", "/b", "/c", "/d") + paths("/new", "/none", "/d") +
            paths("/a", "/b", "/c", "/d"))
    yield f"setWatches: {c2.ask(SETWATCHES, body, xid=-8)}"
    yield f"nothing twice: {c2.ask(SETWATCHES, struct.pack('>q', c2.zxid) + paths() * 3, xid=-8)}"
    other.ask(CREATE, create("/none"))
    other.ask(SET, text("/a") + text("newer") + i32(-1))
    other.ask(SET, text("/d") + text("newer") + i32(-1))
    other.ask(CREATE, create("/d/x"))
    yield f"later: {c2.ask(EXISTS, text('/') + bytes(1))}"


def one_address(s):
    a = s.addresses[0]
    held = [settled(a) for _ in range(3)]
    yield "the fourth: " + Conn(a).connect()
    yield f"a word: {word(a, 'ruok')!r}"
    yield f"the others: {[c.ask(PING, xid=-2) for c in held]}"
    held.pop().close()
    wait_for(lambda: word(a, "ruok") == "imok", lambda: "there is room and it is not found")
    yield "when one has gone: " + wait_connect(a)


def wait_connect(a):
    end = time.monotonic() + LIMIT
    while True:
        note = Conn(a).connect()
        if note != "closed" or time.monotonic() > end:
            return note
        time.sleep(0.05)


def settled(a):
    """A session as soon as there is room: what went before may not be gone yet."""
    c = None

    def is_in():
        nonlocal c
        c = Conn(a)
        return c.connect() != "closed"

    wait_for(is_in, lambda: "there is no room")
    return c


def in_all(s):
    a = s.addresses[0]
    held = [settled(a) for _ in range(4)]
    yield "the fifth: " + Conn(a).connect()
    yield f"the others: {[c.ask(PING, xid=-2) for c in held]}"


def frame_length(s):
    a = s.addresses[0]
    c = session(a)
    c.ask(CREATE, create("/x"))
    head = len(struct.pack(">ii", 0, 0) + text("/x") + i32(0) + i32(0))
    for extra in (0, 1):
        data = b"d" * (5000 - head + extra)
        yield f"a frame of {5000 + extra}: {c.ask(SET, text('/x') + text(data) + i32(-1))}"
    yield "its session: " + Conn(a).connect(session=c.session, password=c.password)


def no_session(s):
    a = s.addresses[0]
    for what, data in (("silent", b""), ("half a length", b"\0\0"),
                       ("half a request", i32(45) + b"\0" * 20)):
        start = time.monotonic()
        c = Conn(a)
        c.s.sendall(data)
        yield (f"{what}: closed: {c.end() is not None}, too early: "
               f"{time.monotonic() - start < 0.95}")


def enforce(s):
    a = s.addresses[0]
    for what, op, body, xid in (("ping", PING, b"", -2), ("exists", EXISTS, text("/") + bytes(1), 7),
                                ("create", CREATE, create("/x"), 8), ("close", CLOSE, b"", 9),
                                ("unknown", 999, b"", 10), ("sync", SYNC, text("/"), 11)):
        c = session(a)
        note = c.ask(op, body, xid=xid)
        yield f"{what}: {note}, zxid {c.zxid}, then {c.ask(PING, xid=-2)}"
    c = session(a)
    yield f"auth: {c.ask(AUTH, i32(0) + text('digest') + text('a:b'), xid=-4)}"
    yield f"then: {c.ask(CREATE, create('/x'))} {c.ask(PING, xid=-2)}"
    yield f"close: {c.ask(CLOSE)}"


def enforce_ip(s):
    c = session(s.addresses[0])
    yield f"exists: {c.ask(EXISTS, text('/') + bytes(1))}"


def move(s):
    one, two, three = s.addresses
    a = session(one)
    yield f"ephemeral: {a.ask(CREATE, create('/e', 1))}"
    b = Conn(two)
    yield "moves: " + b.connect(session=a.session, password=a.password, timeout=4000)
    # A server tells the old connection at its next write, or at once: closed in any case.
    yield f"the old one writes: {a.ask(CREATE, create('/old'))}"
    yield f"the new one writes: {b.ask(CREATE, create('/new'))}"
    yield f"has it: {b.ask(EXISTS, text('/e') + bytes(1))}"
    yield f"has not: {b.ask(EXISTS, text('/old') + bytes(1))}"
    c = Conn(three)
    yield "with a wrong password: " + c.connect(session=a.session, password=b"x" * 16)
    yield f"the second still writes: {b.ask(CREATE, create('/new2'))}"
    yield f"close: {b.ask(CLOSE)}"
    wait_for(lambda: Conn(three).connect(session=a.session, password=a.password) ==
             "37 bytes, session 0", lambda: "the session lives on")


READ_ONLY_OPS = (
    ("ping", PING, b"", -2), ("exists", EXISTS, text("/g") + b"\1", None),
    ("getData", GET, text("/g") + b"\1", None), ("no node", GET, text("/no") + b"\1", None),
    ("children", CHILDREN, text("/") + b"\1", None), ("create", CREATE, create("/w"), None),
    ("ephemeral", CREATE, create("/w", 1), None), ("delete", DELETE, text("/g") + i32(-1), None),
    ("set", SET, text("/g") + text("y") + i32(-1), None), ("sync", SYNC, text("/"), None),
    ("setACL", 7, text("/g") + WORLD + i32(-1), None), ("getACL", 6, text("/g"), None),
    ("check", CHECK, text("/g") + i32(0), None), ("multi", MULTI, struct.pack(">ibi", -1, 1, -1), None),
    ("create2", 15, create("/w"), None), ("container", 19, create("/w", 4), None),
    ("reconfig", 16, struct.pack(">iiiq", -1, -1, -1, -1), None),
    ("multiRead", MULTIREAD, struct.pack(">ibi", -1, 1, -1), None),
    ("getEphemerals", EPHEMERALS, text("/"), None), ("all children", 104, text("/"), None),
    ("whoAmI", WHOAMI, b"", None), ("addWatch", ADDWATCH, text("/g") + i32(0), None),
    ("removeWatches", 18, text("/g") + i32(3), None),
    ("auth", AUTH, i32(0) + text("digest") + text("a:b"), -4),
    ("setWatches", SETWATCHES, struct.pack(">qiii", 0, 0, 0, 0), -8),
)


def leader_of(s):
    return next(i for i, a in enumerate(s.addresses) if "Mode: leader" in word(a, "srvr"))


def read_only(s):
    leader = leader_of(s)
    left = (leader + 1) % 3  # a follower stays
    a = s.addresses[left]
    keeper = session(a, timeout=10000)
    yield f"before: {keeper.ask(CREATE, create('/g'))} {keeper.ask(CREATE, create('/e', 1))}"
    for i in range(3):
        if i != left:
            s.kill(i)
    yield f"its connection ends: {keeper.end() is not None}"
    lost = time.monotonic()
    yield f"at once: {Conn(a).connect(read_only=1)}, isro {word(a, 'isro')}"
    wait_for(lambda: word(a, "isro") == "ro", lambda: s.said(left))
    yield f"isro ro after a while: {0.5 < time.monotonic() - lost < 15}"
    yield f"not asked for: {Conn(a).connect()}"
    yield f"old client: {Conn(a).connect(old=True)}"
    yield f"zxid ahead: {Conn(a).connect(zxid=1 << 60, read_only=1)}"
    yield "session of the ensemble: " + Conn(a).connect(session=keeper.session,
                                                        password=keeper.password, read_only=1)
    yield "unknown session: " + Conn(a).connect(session=0x1234567, password=b"x" * 16, read_only=1)
    c = Conn(a)
    yield "new session: " + c.connect(read_only=1)
    for what, op, body, xid in READ_ONLY_OPS:
        yield f"{what}: {c.ask(op, body, xid=xid)}"
    yield f"unknown operation: {c.ask(999)}, then {c.ask(PING, xid=-2)}"
    d = Conn(a)
    yield "the session again: " + d.connect(session=c.session, password=c.password, read_only=1)
    yield "with a wrong password: " + Conn(a).connect(session=c.session, password=b"x" * 16,
                                                      read_only=1)
    e = Conn(a)
    yield "on another connection: " + e.connect(session=c.session, password=c.password, read_only=1)
    yield f"the older: {d.ask(PING, xid=-2)}"
    yield f"close: {e.ask(CLOSE)}, then {e.ask(PING, xid=-2)}"
    yield "after it: " + Conn(a).connect(session=c.session, password=c.password, read_only=1)
    start = time.monotonic()
    short = session(a, timeout=1000, read_only=1)
    yield (f"a silent one is closed: {short.end() is not None}, too early: "
           f"{time.monotonic() - start < 0.95}")
    yield "and gone: " + Conn(a).connect(session=short.session, password=short.password,
                                         read_only=1)
    last = session(a, read_only=1)
    for i in range(3):
        if i != left:
            s.start(i)
    yield f"closed when there is a quorum: {last.end() is not None}"
    s.wait()
    yield "the session of the mode: " + Conn(a).connect(session=last.session,
                                                        password=last.password, read_only=1)
    again = Conn(a)
    yield "the one of the ensemble: " + again.connect(session=keeper.session,
                                                      password=keeper.password, read_only=1)
    yield f"its ephemeral: {again.ask(EXISTS, text('/e') + bytes(1))}"
    yield f"writes: {again.ask(CREATE, create('/back'))}"


def kazoo_read_only(s):
    """kazoo's own read-only clients: at one server of three, and back."""
    from kazoo.client import KazooClient, KeeperState  # pylint: disable=import-outside-toplevel
    from kazoo.exceptions import NotReadOnlyCallError  # pylint: disable=import-outside-toplevel
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)
    hosts = ",".join(f"{a}:{PORT}" for a in s.addresses)
    writer = KazooClient(hosts=hosts, timeout=4)
    writer.start(timeout=LIMIT)
    writer.create("/k", b"there")
    writer.sync("/k")
    left = (leader_of(s) + 1) % 3
    session(s.addresses[left]).ask(SYNC, text("/k"))
    writer.stop()
    writer.close()
    for i in range(3):
        if i != left:
            s.kill(i)
    c = KazooClient(hosts=hosts, timeout=4, read_only=True)
    seen = []
    c.add_listener(lambda state: seen.append(f"{state} {c.client_state}"))
    try:
        c.start(timeout=LIMIT)
        yield f"starts: {c.client_state == KeeperState.CONNECTED_RO}"
        yield f"get: {c.get('/k')[0]!r}"
        yield f"exists: {c.exists('/no')}, children: {'k' in c.get_children('/')}"
        for what, call in (("create", lambda: c.create("/w", b"")), ("set", lambda: c.set("/k", b"")),
                           ("delete", lambda: c.delete("/k")), ("sync", lambda: c.sync("/k"))):
            try:
                call()
                yield f"{what}: done"
            except NotReadOnlyCallError:
                yield f"{what}: NotReadOnlyCallError"
        for i in range(3):
            if i != left:
                s.start(i)
        s.wait()
        wait_for(lambda: c.client_state == KeeperState.CONNECTED, lambda: f"kazoo to be back: {seen}")
        yield f"create: {c.create('/w', b'')}"
        yield f"get: {c.get('/k')[0]!r}"
        yield f"the last state: {seen[-1]}"
    finally:
        c.stop()
        c.close()


SCENARIOS = {
    "negotiate": (1, {}, negotiate),
    "reconnect": (1, {}, reconnect),
    "expire": (1, {}, expire),
    "watches_again": (1, {}, watches_again),
    "one_address": (1, {"maxClientCnxns": "3"}, one_address),
    "in_all": (1, {"maxCnxns": "4"}, in_all),
    "frame_length": (1, {"jute.maxbuffer": "5000"}, frame_length),
    "no_session": (1, {"nio.sessionlessCnxnTimeout": "1000"}, no_session),
    "enforce": (1, {"enforce.auth.enabled": "true", "enforce.auth.schemes": "digest"}, enforce),
    "enforce_ip": (1, {"enforce.auth.enabled": "true", "enforce.auth.schemes": "ip"}, enforce_ip),
    "move": (3, {}, move),
    "read_only": (3, {"readonlymode.enabled": "true"}, read_only),
    "kazoo_read_only": (3, {"readonlymode.enabled": "true"}, kazoo_read_only),
}


@contextlib.contextmanager
def namespace():
    """This process, and what it starts, in a network namespace of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    subprocess.run(["ip", "netns", "add", NETNS], check=True)
    try:
        subprocess.run(["ip", "-n", NETNS, "link", "set", "lo", "up"], check=True)
        with open(f"/run/netns/{NETNS}", "rb") as there:
            if libc.setns(there.fileno(), CLONE_NEWNET) != 0:
                raise SystemExit(f"setns: {os.strerror(ctypes.get_errno())}")
        yield
    finally:
        subprocess.run(["ip", "netns", "del", NETNS], check=False)


def play(kind, name):
    count, settings, what = SCENARIOS[name]
    servers = kind(count, settings)
    try:
        servers.open()
        return list(what(servers))
    except (OSError, Closed) as e:
        traceback.print_exc()
        raise SystemExit(f"{name} on {kind.name}: {e!r}\n{servers.said(0)}") from e
    finally:
        servers.close()


def compare(name, ours, theirs, used):
    bad = 0
    for n in range(max(len(ours), len(theirs))):
        a = ours[n] if n < len(ours) else "(nothing)"
        b = theirs[n] if n < len(theirs) else "(nothing)"
        if a == b:
            continue
        why = DIFFERS.get((name, a))
        if why is not None:
            used.add((name, a))
            print(f"  differs on purpose: {a}\n    ZooKeeper: {b}\n    {why}")
        else:
            bad += 1
            print(f"  muster:    {a}\n  ZooKeeper: {b}")
    return bad


def main():
    names = sys.argv[1:] or list(SCENARIOS)
    if not glob.glob("/usr/share/java/zookeeper.jar") or shutil.which("java") is None:
        print("no ZooKeeper here (Debian: apt install zookeeper)")
        return 77
    failed, used = 0, set()
    with namespace():
        for name in names:
            ours, theirs = play(Muster, name), play(ZooKeeper, name)
            bad = compare(name, ours, theirs, used)
            print(f"{'FAILED' if bad else 'ok'} {name}: {len(ours)} notes, {bad} differ", flush=True)
            failed += bad > 0
    for name, note in set(DIFFERS) - used:
        if name in names:
            print(f"FAILED {name}: does not differ any more: {note}")
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
