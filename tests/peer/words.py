#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The four-letter words and the admin commands beside Apache ZooKeeper's, and what parses them.

    words.py [--show]      --show: also what each of the two said

The same sessions do the same on both servers; then each word and each command is asked of
both. What must differ (ports, times, ids of sessions) is written in one way first; what is
left must be the same, line by line. Of mntr our keys must be among theirs, and those that
count what the clients did must have the same values.
Prints "ok ..." and "FAILED ..."; 77: there is no ZooKeeper.
"""
import argparse
import glob
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "cluster"))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(TOP, "tests", "lib"))

from ports import free_port  # noqa: E402
from report import Report  # noqa: E402
from zk import JARS, i32, i64, text  # noqa: E402

BUILD = os.path.dirname(os.environ.get("MUSTER", os.path.join(TOP, "build", "muster")))
LIMIT_S = 60
SETTINGS = {"tickTime": 2000, "minSessionTimeout": 4000, "maxSessionTimeout": 40000,
            "maxClientCnxns": 60, "4lw.commands.whitelist": "*"}
WORDS = ("ruok srvr stat mntr conf cons dump envi wchs wchc wchp dirs isro hash gtmk crst srst"
         .split())
WORLD = i32(1) + i32(31) + text("world") + text("anyone")
CREATE, DELETE, EXISTS, GET, SET, CHILDREN, PING, ADD_WATCH = 1, 2, 3, 4, 5, 8, 11, 106

# What ZooKeeper has and we have not: of its Java machine, of its TLS.
NOT_OURS = re.compile(r"^(java\.|os\.memory\.|non_mtls)")


class Server:
    """One that is running: its ports, and its process to be ended."""

    def __init__(self, name, command, directory, port, admin):
        self.name, self.port, self.admin = name, port, admin
        self.log = open(directory + "/log", "w", encoding="utf-8")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, cwd=directory)

    def wait(self):
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            try:
                if self.word("isro") == "rw" and self.page("ruok")["error"] is None:
                    return
            except (OSError, ValueError):
                pass
            time.sleep(0.05)
        raise SystemExit(f"{self.name} does not answer after {LIMIT_S} s")

    def raw(self, parts, half_close=False):
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for n, part in enumerate(parts):
                if n > 0:
                    time.sleep(0.02)  # so that it comes as a part of its own; nothing waits for it
                s.sendall(part)
            if half_close:
                s.shutdown(socket.SHUT_WR)
            said = b""
            try:
                while more := s.recv(65536):
                    said += more
            except ConnectionResetError:
                pass
            return said.decode("utf-8")

    def word(self, word):
        return self.raw([word.encode() if isinstance(word, str) else word])

    def http(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=20) as r:
                return r.status, r.headers.get_content_type(), r.read().decode("utf-8")
        except urllib.error.HTTPError as e:
            return e.code, "", ""

    def page(self, command):
        return json.loads(self.http("/commands/" + command)[2])

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


def write_config(directory):
    """The same file for both."""
    port, admin = free_port(), free_port()
    os.makedirs(directory + "/data")
    with open(directory + "/zoo.cfg", "w", encoding="utf-8") as f:
        f.write("".join(f"{k}={v}\n" for k, v in SETTINGS.items()))
        f.write(f"dataDir={directory}/data\nclientPort={port}\nclientPortAddress=127.0.0.1\n"
                f"admin.serverPort={admin}\nadmin.serverAddress=127.0.0.1\n")
    return port, admin


def zookeeper(directory):
    port, admin = write_config(directory)
    jars = [j for name in (*JARS, "jetty9-*", "jackson-*", "servlet-api*", "javax.servlet*")
            for j in glob.glob(f"/usr/share/java/{name}.jar")]
    return Server("ZooKeeper", [
        "timeout", "300", "java", "-cp", ":".join(jars),
        "org.apache.zookeeper.server.quorum.QuorumPeerMain", directory + "/zoo.cfg"],
        directory, port, admin)


def muster(directory):
    port, admin = write_config(directory)
    return Server("muster", ["timeout", "300", os.path.join(BUILD, "muster"), "server",
                             directory + "/zoo.cfg"], directory, port, admin)


class Session:
    def __init__(self, server):
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        hello = i32(0) + i64(0) + i32(20000) + i64(0) + text(bytes(16)) + b"\0"
        self.socket.sendall(i32(len(hello)) + hello)
        self.id, = struct.unpack_from(">q", self.frame(), 8)
        self.port = self.socket.getsockname()[1]
        self.xid = 0

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

    def ask(self, op, body=b"", xid=None):
        if xid is None:
            self.xid += 1
            xid = self.xid
        packet = i32(xid) + i32(op) + body
        self.socket.sendall(i32(len(packet)) + packet)
        while True:  # events come before the answer
            got, _, err = struct.unpack_from(">iqi", self.frame())
            if got == xid:
                return err


def traffic(server):
    """Two sessions, znodes, ephemerals, watches that stay and some that fire."""
    a, b = Session(server), Session(server)
    a.ask(CREATE, text("/a") + text("x") + WORLD + i32(0))
    a.ask(CREATE, text("/a/e") + text("") + WORLD + i32(1))
    b.ask(CREATE, text("/a/f") + text("12345") + WORLD + i32(1))
    a.ask(ADD_WATCH, text("/p") + i32(0))
    a.ask(ADD_WATCH, text("/r") + i32(1))
    for session in (a, b):
        session.ask(EXISTS, text("/x") + b"\1")
        session.ask(GET, text("/a") + b"\1")
        session.ask(CHILDREN, text("/a") + b"\1")
    b.ask(CREATE, text("/x") + text("") + WORLD + i32(0))
    b.ask(CREATE, text("/r/1") + text("") + WORLD + i32(0))  # fails: there is no /r
    b.ask(SET, text("/x") + text("y") + i32(-1))
    b.ask(SET, text("/a") + text("y") + i32(-1))
    b.ask(DELETE, text("/x") + i32(-1))
    b.ask(EXISTS, text("/stays") + b"\1")
    b.ask(PING, xid=-2)
    return a, b


# ---- written in one way ----

class Plain:
    """Replaces what differs between two servers that did the same."""

    def __init__(self, sessions):
        self.rules = [(f"0x{s.id:x}", f"SESSION{n}") for n, s in enumerate(sessions)]
        self.rules += [(str(s.id), f"SESSION{n}") for n, s in enumerate(sessions)]
        self.rules += [(f"127.0.0.1:{s.port}", f"CLIENT{n}") for n, s in enumerate(sessions)]

    def line(self, line):
        for what, name in self.rules:
            line = line.replace(what, name)
        for pattern, name in (
                (r"3\.8\.0-\S+, built on \d[-/\d]+ \d\d:\d\d UTC", "VERSION"),
                (r"127\.0\.0\.1:\d+", "OTHER"), (r"^(Zxid: )0x[0-9a-f]+$", r"\1Z"),
                (r"^(Latency min/avg/max: )\d+/\d+\.\d{1,4}/\d+$", r"\1L"),
                (r"lzxid=0x[0-9a-f]+", "lzxid=Z"),
                (r"\b(est|lresp|llat|minlat|avglat|maxlat)=\d+", r"\1=T"),
                (r"^\d+ expire at \w{3} \w{3} \d\d \d\d:\d\d:\d\d \w+ \d{4}:$", "N expire at DATE"),
                (r"^(clientPort|dataDir|dataLogDir|dataDirSize|dataLogSize)=.+$", r"\1="),
                (r"^(serverId)=\d+$", r"\1="),  # 0 alone there, 1 here
                (r"^((?:data|log)dir_size: )\d+$", r"\1N")):
            line = re.sub(pattern, name, line)
        return line

    def lines(self, said, groups=False):
        """groups: lines that begin with a tab belong to the one in front; their order, and that
        of the groups, is of no meaning."""
        lines = [self.line(line) for line in said.split("\n")]
        if not groups:
            return lines
        found = []
        for line in lines:
            if line.startswith("\t"):
                found[-1].append(line)
            else:
                found.append([line])
        return sorted([g[0], *sorted(g[1:])] for g in found)


def plain_word(plain, word, said):
    if word in ("cons", "wchc", "wchp"):
        return plain.lines(said, groups=True)
    if word == "stat":
        lines = plain.lines(said)
        blank = lines.index("")
        lines = lines[:2] + sorted(lines[2:blank]) + lines[blank:]
        return lines
    if word == "dump":
        # In which tick each session ends depends on the moment.
        said = re.sub(r"Sets \(\d+\)", "Sets (N)", said)
        lines = [line for line in plain.lines(said) if not line.endswith(" expire at DATE")]
        connections = lines.index("Connections dump:")
        return [sorted(lines[:connections]), sorted(lines[connections:])]
    return plain.lines(said)


def root_once(lines):
    """ZooKeeper counts the root twice."""
    return [re.sub(r"^Node count: (\d+)$", lambda f: f"Node count: {int(f.group(1)) - 1}", line)
            for line in lines]


def shape(value, key=""):
    """A JSON value as what it consists of: names, and the kinds of what has them."""
    if isinstance(value, dict):
        if value and all(re.fullmatch(r"-?\d+|/.*|SESSION\d", k) for k in value):
            # ZooKeeper shows ticks, too, in which nothing ends any more.
            return {"*": shape(max(value.values(), key=lambda v: len(str(v))))}
        return {k: shape(v, k) for k, v in value.items() if not NOT_OURS.match(k)}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "null" if value is None else type(value).__name__


COUNTED = """ephemerals_count global_sessions num_alive_connections outstanding_requests
    watch_count approximate_data_size watch_bytes response_bytes bytes_received_count
    packets_received packets_sent
    connection_request_count connection_rejected auth_failed_count cnt_readlatency
    cnt_updatelatency last_client_response_size min_client_response_size
    max_client_response_size cnt_node_created_watch_count sum_node_created_watch_count
    cnt_node_changed_watch_count sum_node_changed_watch_count
    cnt_node_children_watch_count sum_node_children_watch_count
    sum_node_deleted_watch_count""".split()
ONLY_OURS = {"zk_followers"}  # of a leader


def mntr(said):
    values = {}
    for line in said.splitlines():
        found = re.match(r"zk_(\w+)\t(.*)$", line)
        assert found, f"not key, tab, value: {line!r}"
        assert found.group(1) not in values, f"twice: {line!r}"
        values[found.group(1)] = found.group(2)
    return values


def kind(value):
    return ("whole" if re.fullmatch(r"-?\d+", value) else
            "fraction" if re.fullmatch(r"\d+\.\d+(E\d+)?", value) else "text")


class Comparison:
    def __init__(self, theirs, ours, show):
        self.theirs, self.ours, self.show = theirs, ours, show
        self.sessions = [traffic(theirs), traffic(ours)]
        self.plain = []

    def go_on(self):
        self.sessions = [traffic_again(s, old) for s, old in
                         zip((self.theirs, self.ours), self.sessions)]
        self.plain = [Plain(s) for s in self.sessions]

    def both(self, parts, **more):
        said = self.theirs.raw(parts, **more), self.ours.raw(parts, **more)
        if self.show:
            print(f"--- {parts}\n{said[0]}\n--- ours\n{said[1]}")
        return said

    def word(self, word):
        t, o = self.both([word.encode()])
        if word == "mntr":
            return self.mntr(t, o)
        if word == "envi":
            return self.envi(t, o)
        want = plain_word(self.plain[0], word, t)
        got = plain_word(self.plain[1], word, o)
        if word in ("srvr", "stat"):
            want = root_once(want)
        assert want == got, f"ZooKeeper: {want} ours: {got}"
        return ""

    def mntr(self, t, o):
        theirs, ours = mntr(t), mntr(o)
        unknown = set(ours) - set(theirs)
        assert not unknown, f"not ZooKeeper's: {sorted(unknown)}"
        for key in ours:
            assert kind(theirs[key]) == kind(ours[key]), (
                f"{key}: {theirs[key]} there, {ours[key]} here")
        wrong = [f"{k}: {theirs[k]} there, {ours[k]} here" for k in COUNTED
                 if theirs[k] != ours[k]]
        assert not wrong, "; ".join(wrong)
        return f"{len(ours)} keys of ZooKeeper's {len(theirs)}, {len(COUNTED)} values compared"

    def envi(self, t, o):
        def pairs(said):
            lines = said.splitlines()
            assert lines[0] == "Environment:", lines
            return dict(line.split("=", 1) for line in lines[1:])
        theirs, ours = pairs(t), pairs(o)
        missing = [k for k in theirs if k not in ours and not NOT_OURS.match(k)]
        assert not missing and not set(ours) - set(theirs), (missing, sorted(ours))
        for key in ("os.name", "os.arch", "os.version", "user.name", "user.home"):
            assert theirs[key] == ours[key], f"{key}: {theirs[key]} there, {ours[key]} here"

    def set_mask(self):
        for mask in (258, -1, 306):
            t, o = self.both([b"stmk" + i64(mask)])
            assert t == o == str(mask), (t, o)
            t, o = self.both([b"gtmk"])
            assert t == o == str(mask), (t, o)

    def parts(self):
        for parts in ([b"r", b"u", b"o", b"k"], [b"ruok\r\n"], [b"ruok", b"\r\n"],
                      [b"ru", b"ok and more"]):
            t, o = self.both(parts)
            assert t == o == "imok", (parts, t, o)
        t, o = self.both([b"ruok"], half_close=True)
        assert t == o == "imok", (t, o)

    def no_word(self):
        for none in (b"helo", b"RUOK", b"GET / HTTP/1.0\r\n\r\n", b"\r\nruok"):
            t, o = self.both([none])
            assert t == o == "", (none, t, o)

    def command(self, command):
        t, o = self.theirs.http("/commands/" + command), self.ours.http("/commands/" + command)
        if self.show:
            print(f"--- {command}\n{t[2]}\n--- ours\n{o[2]}")
        assert t[:2] == o[:2], (t[:2], o[:2])
        theirs, ours = json.loads(t[2]), json.loads(o[2])
        assert (theirs["command"], theirs["error"]) == (ours["command"], ours["error"]), (
            theirs["error"], ours["error"])
        if command in ("monitor", "mntr"):
            left = set(ours) - set(theirs)
            assert not left, left
            wrong = [k for k in ours if type(ours[k]) is not type(theirs[k])]
            assert not wrong, wrong
        elif command not in ("system_properties", "sysp"):
            assert shape(theirs) == shape(ours), (shape(theirs), shape(ours))
        for key in ("num_connections", "num_paths", "num_total_watches", "read_only", "tracemask"):
            assert theirs.get(key) == ours.get(key), (key, theirs.get(key), ours.get(key))

    def links(self):
        for path in ("/commands", "/commands/"):
            t, o = self.theirs.http(path), self.ours.http(path)
            assert t[0] == o[0] == 200, (t[0], o[0])
            assert sorted(t[2].splitlines()) == sorted(o[2].splitlines()), (t[2], o[2])


COMMANDS = """ruok stats stat server_stats srvr monitor mntr configuration conf config connections
    cons leader lead watches wchc watches_by_path wchp watch_summary wchs
    dump environment env envi dirs hash is_read_only isro last_snapshot lsnp get_trace_mask gtmk
    set_trace_mask set_trace_mask?traceMask=258 set_trace_mask?traceMask=x
    set_trace_mask?traceMask=306 observers obsr initial_configuration icfg
    observer_connection_stat_reset orst system_properties sysp voting_view zabstate
    connection_stat_reset crst stat_reset srst foo""".split()


# ---- what others make of it ----

def kazoo(server):
    from kazoo.client import KazooClient
    client = KazooClient(f"127.0.0.1:{server.port}", timeout=20)
    client.start(LIMIT_S)
    try:
        version = client.server_version()
        assert version == (3, 8, 0), version
        assert client.command(b"ruok") == "imok"
        assert "zk_server_state\tstandalone\n" in client.command(b"mntr")
    finally:
        client.stop()
        client.close()


def collectors(server):
    """As the collectors' plug-ins take mntr apart: a key, white space, a number or a word."""
    numbers = 0
    for line in server.word("mntr").splitlines():
        found = re.match(r"^zk_(\w[\w.\-]*)\s+([\w.\-]+)", line)
        assert found, line
        numbers += re.fullmatch(r"-?\d+(\.\d+)?", found.group(2)) is not None
    assert numbers > 80, numbers
    return f"{numbers} numbers"


def go(server):
    """As go-zookeeper does: the version and its date, numbers in their places."""
    said = server.word("srvr")
    version = re.match(r"Zookeeper version: [A-Za-z0-9.\-]+, built on "
                       r"\d\d/\d\d/\d\d\d\d \d\d:\d\d [A-Za-z0-9:+\-]+\n", said)
    assert version, said.splitlines()[0]
    for pattern in (r"^Latency min/avg/max: \d+/[0-9.]+/\d+$",
                    r"^Received: \d+\nSent: \d+\nConnections: \d+\nOutstanding: \d+$",
                    r"^Zxid: 0x[A-Za-z0-9]+\nMode: \w+\nNode count: \d+$"):
        assert re.search(pattern, said, re.M), (pattern, said)
    client = Session(server)
    client.ask(EXISTS, text("/") + b"\0")
    lines = [line for line in server.word("cons").splitlines() if "lcxid=" in line]
    assert any(f":{client.port}[" in line for line in lines), lines
    client.socket.close()
    for line in lines:
        assert re.match(
            r"^ /\d+\.\d+\.\d+\.\d+:\d+\[\d+\]\(queued=\d+,recved=\d+,sent=\d+,sid=0x\w+,lop=\w+,"
            r"est=\d+,to=\d+,lcxid=0x\w+,lzxid=0x\w+,lresp=\d+,llat=\d+,minlat=\d+,avglat=\d+,"
            r"maxlat=\d+\)$", line), line


def zktop(server):
    """As zktop does: the version up to a '-', the clients, then key and value."""
    lines = iter(server.word("stat").splitlines())
    assert re.match(r".*: \d+\.\d+\.\d+-", next(lines))
    assert next(lines) == "Clients:"
    clients = 0
    for line in lines:
        if not line:
            break
        assert re.match(r" /(\d+\.\d+\.\d+\.\d+):(\d+)\[\d\]\(queued=(\d+),recved=(\d+),"
                        r"sent=(\d+)\)$", line), line
        clients += 1
    rest = dict(line.split(": ") for line in lines)
    assert int(rest["Connections"]) == clients and rest["Mode"] == "standalone", rest


def prometheus(server):
    status, _, said = server.http("/metrics")
    types = {}
    assert status == 200
    for line in said.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, what = line.split(" ")
            assert name not in types, name
            types[name] = what
        elif not line.startswith("#"):
            found = re.match(r"^([a-z_0-9]+)(\{[a-z]+=\"[^\"]*\"(,[a-z]+=\"[^\"]*\")*\})? "
                             r"-?[0-9.e+]+$", line)
            assert found, line
            name = found.group(1)
            assert name in types or re.sub("_(count|sum|bucket)$", "", name) in types, name
    for name in ("znode_count", "packets_received", "fsynctime", "readlatency", "uptime"):
        assert name in types, name
    return f"{len(types)} metrics"


def compare(report, options):
    with tempfile.TemporaryDirectory() as directory:
        servers = [zookeeper(directory + "/theirs"), muster(directory + "/ours")]
        try:
            for s in servers:
                s.wait()
            c = Comparison(*servers, options.show)
            # Both have been asked as often as it took until they answered.
            for s in servers:
                s.word("srst")
            c.go_on()
            for word in WORDS:
                report.run(f"word {word}", lambda w=word: c.word(w))
            report.run("word stmk", c.set_mask)
            report.run("a word in parts, with more behind it, from who is done", c.parts)
            report.run("what is no word", c.no_word)
            for command in COMMANDS:
                report.run(f"command {command}", lambda w=command: c.command(w))
            report.run("the list of commands", c.links)
            for test in (kazoo, collectors, go, zktop, prometheus):
                report.run(test.__name__, lambda t=test: t(servers[1]))
        finally:
            for s in servers:
                s.close()


def traffic_again(server, sessions):
    """More of it, of which all is counted since srst."""
    a, b = sessions
    b.ask(CREATE, text("/y") + text("") + WORLD + i32(0))
    for session in sessions:
        session.ask(GET, text("/y") + b"\1")
        session.ask(EXISTS, text("/z") + b"\1")
    a.ask(SET, text("/y") + text("abc") + i32(-1))
    a.ask(CREATE, text("/p") + text("") + WORLD + i32(0))
    a.ask(CREATE, text("/p/q") + text("") + WORLD + i32(0))
    a.ask(DELETE, text("/y") + i32(-1))
    for session in sessions:
        session.ask(PING, xid=-2)
    c = Session(server)
    c.ask(EXISTS, text("/z") + b"\0")
    return a, b, c


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--show", action="store_true")
    options = p.parse_args()
    if not glob.glob("/usr/share/java/zookeeper.jar") or shutil.which("java") is None:
        print("no ZooKeeper here (Debian: apt install zookeeper)")
        return 77
    report = Report("words: ")
    compare(report, options)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
