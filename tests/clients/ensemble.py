#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Servers started from ZooKeeper's own zoo.cfg, alone and as an ensemble; kazoo and the Java
client change who the servers are.

    ensemble.py [muster|zookeeper]

ANSWERS are those of Apache ZooKeeper 3.8.0 (run with `zookeeper` to see that they still are);
where muster answers otherwise on purpose, a row has both. Everything is on loopback, on ports
that were free, and in a directory that is removed at the end.
"""
import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from kazoo import exceptions
from kazoo.client import KazooClient
from kazoo.handlers.threading import KazooTimeoutError

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "cluster"))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lib"))

from cluster import MUSTER, Failed, wait_for  # noqa: E402
from ports import free_ports  # noqa: E402
from report import Report  # noqa: E402

ZKCLI = "/usr/share/zookeeper/bin/zkCli.sh"
JARS = "/usr/share/java/zookeeper.jar:" + ":".join(glob.glob("/usr/share/java/*.jar"))
CONFIG = "/zookeeper/config"
SUPER = [("digest", "super:test")]
SUPER_DIGEST = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="
EXIT_UNSAFE, EXIT_CONFIG = 6, 78


def word(port, text):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as s:
            s.sendall(text.encode())
            answer = b""
            while more := s.recv(4096):
                answer += more
            return answer.decode()
    except OSError:
        return ""


class Server:
    def __init__(self, kind, top, number, host="127.0.0.1"):
        self.kind, self.number, self.host = kind, number, host
        self.dir = os.path.join(top, f"d{number}")
        self.file = os.path.join(top, f"zoo{number}.cfg")
        self.log = os.path.join(top, f"{number}.log")
        self.quorum, self.election, self.client = free_ports(3)
        self.process = None
        self.program, self.environment = MUSTER, {}
        os.mkdir(self.dir)
        with open(os.path.join(self.dir, "myid"), "w", encoding="ascii") as f:
            f.write(f"{number}\n")

    def spec(self, role="participant"):
        return (f"server.{self.number}={self.host}:{self.quorum}:{self.election}:{role};"
                f"127.0.0.1:{self.client}")

    def write(self, lines, more=""):
        with open(self.file, "w", encoding="ascii") as f:
            f.write(f"tickTime=500\ninitLimit=20\nsyncLimit=10\ndataDir={self.dir}\n"
                    "admin.enableServer=false\nreconfigEnabled=true\nmaxClientCnxns=0\n"
                    "4lw.commands.whitelist=*\n"
                    f"DigestAuthenticationProvider.superDigest={SUPER_DIGEST}\n{more}" +
                    "".join(line + "\n" for line in lines))

    def start(self):
        command = [self.program, "server", self.file]
        if self.kind == "zookeeper":
            command = ["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", JARS,
                       "org.apache.zookeeper.server.quorum.QuorumPeerMain", self.file]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=subprocess.STDOUT,
                                            env={**os.environ, **self.environment})

    def end(self, number=signal.SIGKILL):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(20)
        self.process = None

    def mode(self):
        found = [x for x in word(self.client, "srvr").splitlines() if x.startswith("Mode: ")]
        return found[0][6:] if found else None

    def tail(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return "".join(f.readlines()[-12:])


class Ensemble:
    def __init__(self, kind, top):
        self.kind, self.top = kind, top
        self.servers = [Server(kind, top, n, "localhost" if n == 1 else "127.0.0.1")
                        for n in (1, 2, 3)]

    def lines(self):
        return [s.spec() for s in self.servers]

    def start(self):
        for s in self.servers:
            s.write(self.lines())
            s.start()
        self.wait(["follower", "follower", "leader"])

    def wait(self, modes, servers=None):
        servers = servers or self.servers
        wait_for(lambda: sorted(str(s.mode()) for s in servers) == modes, 60,
                 lambda: "".join(f"{s.number}: {s.mode()}\n{s.tail()}" for s in servers))

    def one(self, mode):
        return next(s for s in self.servers if s.mode() == mode)

    def hosts(self, servers=None):
        return ",".join(f"127.0.0.1:{s.client}" for s in servers or self.servers)

    def end(self):
        for s in self.servers:
            s.end()


class Client:
    """kazoo, for a with-statement."""

    def __init__(self, hosts, auth=None):
        self.client = KazooClient(hosts=hosts, timeout=10, auth_data=auth)

    def __enter__(self):
        try:
            self.client.start(timeout=30)
        except KazooTimeoutError as e:
            raise Failed(f"no session within 30 s on {self.client.hosts}") from e
        return self.client

    def __exit__(self, *_):
        self.client.stop()
        self.client.close()


def reconfig(client, joining=None, leaving=None, members=None, version=-1):
    try:
        data, stat = client.reconfig(joining=joining, leaving=leaving, new_members=members,
                                     from_config=version)
    except exceptions.KazooException as e:
        return type(e).__name__, None
    return data.decode(), stat


def servers_of(text):
    return sorted(line for line in text.splitlines() if line.startswith("server."))


def version_of(text):
    return int(text.rsplit("version=", 1)[1], 16)


# ---- reconfig, answer by answer ----

def answers(e):
    """name, whether as super, the request, and what comes: an error, or the servers; a pair
    where ours differs: ZooKeeper's, then ours."""
    one, two, three = e.lines()
    all3 = sorted([one, two, three])
    dead = free_ports(9)
    observer = f"server.100=0.0.0.0:{dead[0]}:{dead[1]}:observer;0.0.0.0:{dead[2]}"
    voter = f"server.4=127.0.0.1:{dead[3]}:{dead[4]}:participant;127.0.0.1:{dead[5]}"
    return [
        ("an observer, without rights", False, {"joining": observer}, "NoAuthError"),
        ("rubbish, without rights", False, {"joining": "some thing"}, "BadArgumentsError"),
        ("leaving rubbish", False, {"leaving": "xyz"}, "MarshallingError"),
        ("another version, without rights", False, {"joining": observer, "version": 12345},
         "BadVersionError"),
        ("one leaves, without rights", False, {"leaving": "2"}, "NoAuthError"),
        ("two of three leave", False, {"leaving": "2,3"}, "BadArgumentsError"),
        ("nothing", True, {}, all3),
        ("somebody unknown leaves", True, {"leaving": "99"}, all3),
        ("an observer that is not there", True, {"joining": observer}, sorted(all3 + [observer])),
        ("the same again", True, {"joining": observer}, sorted(all3 + [observer])),
        ("no client port", True, {"joining": "server.5=127.0.0.1:1:2"}, "BadArgumentsError"),
        ("one port", True, {"joining": "server.5=127.0.0.1:1"}, "BadArgumentsError"),
        ("a role that is none", True, {"joining": "server.5=127.0.0.1:1:2:king;3"},
         "BadArgumentsError"),
        ("twice one port", True, {"joining": "server.5=127.0.0.1:1:1:observer;3"},
         "BadArgumentsError"),
        ("a port that is none", True, {"joining": "server.5=127.0.0.1:70000:1:observer;3"},
         "MarshallingError"),
        ("it leaves", True, {"leaving": "100"}, all3),
        ("a voter that is not there", True, {"joining": voter},
         (sorted(all3 + [voter]), "NewConfigNoQuorumError")),
        ("it leaves, too", True, {"leaving": "4"}, all3),
        ("a whole configuration of two", True, {"members": f"{one},{two}"}, sorted([one, two])),
        ("a whole configuration of one", True, {"members": one}, "BadArgumentsError"),
        ("a key that is none", True, {"members": f"{one},{two},foo=1"}, "BadArgumentsError"),
        ("newMembers beside joining", True, {"joining": observer, "members": f"{one},{two}"},
         sorted([one, two])),
        ("all three, in lines", True, {"members": f"{one}\n{two}\n{three}\n"}, all3),
    ]


def check_answers(report, e):
    # Not a server that leaves: what becomes of its clients is another question.
    with Client(e.hosts(e.servers[:2])) as plain, \
            Client(e.hosts(e.servers[:2]), SUPER) as boss:
        last = version_of(plain.get(CONFIG)[0].decode())
        for name, is_super, request, expected in answers(e):
            if isinstance(expected, tuple):
                expected = expected[0 if e.kind == "zookeeper" else 1]
            text, stat = reconfig(boss if is_super else plain, **request)
            if text == "ConnectionLoss" and e.kind == "zookeeper":
                # Its leader was among those that changed: the answer is lost.
                text, stat = plain.retry(plain.get, CONFIG)
                text = text.decode()
            got = servers_of(text) if stat is not None else text
            why = f"{got}, expected {expected}"
            good = got == expected
            if stat is not None:
                now = version_of(text)
                good = (good and now > last and stat.mzxid == now and stat.version == -1 and
                        stat.aversion == -1 and stat.czxid == 0 and
                        stat.dataLength == len(text))
                why += f"; {stat}, version before {last:x}"
                last = now
            report.check(f"reconfig: {name}", good, why)


def check_config_node(e):
    with Client(e.hosts()) as c:
        events = []
        data, stat = c.get(CONFIG, watch=events.append)
        if servers_of(data.decode()) != sorted(e.lines()) or stat.version != -1:
            raise Failed(f"{data} {stat}")
        try:
            c.set(CONFIG, b"x")
            raise Failed("anybody may set it")
        except exceptions.NoAuthError:
            pass
        with Client(e.hosts(), SUPER) as boss:
            text, _ = reconfig(boss)
        wait_for(lambda: events, 10, lambda: "no event")
        again, stat = c.get(CONFIG)
        if again.decode() != text or events[0].type != "CHANGED":
            raise Failed(f"{again} {text} {events}")


# ---- one server ----

def run_once(path, *words):
    r = subprocess.run([MUSTER, "server", path, *words], capture_output=True, text=True,
                       timeout=20, check=False)
    return r.returncode, r.stdout, r.stderr


def expect(condition, *what):
    if not condition:
        raise Failed(" ".join(str(w) for w in what))


def files_that_are_refused(top):
    path, data = os.path.join(top, "bad.cfg"), os.path.join(top, "data")

    def write(text):
        with open(path, "w", encoding="ascii") as f:
            f.write(text)

    write("dataDir=/nowhere\nclientPort=many\nsecureClientPort=2281\nreconfigEnabled=maybe\n")
    code, out, err = run_once(path)
    expect(code == EXIT_CONFIG and out == "", code, out, err)
    for part in (f"{path}:2: clientPort: many is not a whole number from 0 to 65535",
                 f"{path}:3: secureClientPort: not supported: ",
                 f"{path}:4: reconfigEnabled: maybe is neither true nor false"):
        expect(part in err, part, "is not in", err)
    write(f"dataDir={data}\nclientPort=2181\ntickTme=3\npreAllocSize=1\n")
    code, out, err = run_once(path, "--check")
    expect(code == 0 and "tickTime=3000" in out and "# default" in out, code, out, err)
    expect(f"{path}:3: tickTme: unknown key, without effect; is tickTime meant?" in err, err)
    expect("without effect here: preAllocSize" in err and not os.path.exists(data), err)
    write(f"dataDir={data}\nclientPort=2181\nserver.1=a:1:2\nserver.2=b:1:2\n")
    code, _, err = run_once(path)
    expect(code == EXIT_CONFIG and f"{data}/myid: cannot be read" in err, code, err)
    code, _, err = run_once(os.path.join(top, "none.cfg"))
    expect(code == EXIT_CONFIG and "none.cfg: cannot be read" in err, code, err)
    os.makedirs(os.path.join(data, "version-2"))
    with open(os.path.join(data, "version-2", "log.1"), "wb"):
        pass
    write(f"dataDir={data}\nclientPort=2181\n")
    code, _, err = run_once(path)
    expect(code == EXIT_UNSAFE and f"muster import {data} --data {data}/muster" in err, code, err)
    expect(not os.path.exists(os.path.join(data, "muster")), "something was made")


def one_server(top):
    s = Server("muster", top, 9)
    s.write([], more=f"clientPort={s.client}\nclientPortAddress=localhost\n")
    s.start()
    try:
        wait_for(lambda: s.mode() == "standalone", 10, s.tail)
        with Client(f"127.0.0.1:{s.client}") as c:
            c.create("/kept", b"1")
            expect(c.get(CONFIG)[0] == b"", c.get(CONFIG))
            expect(reconfig(c, leaving="1")[0] == "UnimplementedError", reconfig(c, leaving="1"))
        s.end()
        s.start()
        with Client(f"127.0.0.1:{s.client}") as c:
            expect(c.get("/kept")[0] == b"1", "lost")
        with open(s.log, encoding="utf-8") as f:
            log = f.read()
        expect('ev=config_without_effect keys="' not in log, log)
    finally:
        s.end()


def a_taken_admin_port(top):
    """The server starts without its HTTP port, and says so."""
    s = Server("muster", top, 7)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with open(s.file, "w", encoding="ascii") as f:
            f.write(f"dataDir={s.dir}\nclientPort={s.client}\nadmin.serverPort={port}\n"
                    "admin.serverAddress=127.0.0.1\n")
        s.start()
        try:
            wait_for(lambda: s.mode() == "standalone", 10, s.tail)
            expect("ev=http_not_started" in s.tail(), s.tail())
        finally:
            s.end()


# ---- several ----

def what_follows_a_reconfig(e):
    """One client's requests keep their order, also behind one that takes long."""
    with Client(e.hosts(), SUPER) as boss:
        first = boss.create_async("/order-", b"", sequence=True)
        change = boss.reconfig_async(joining=None, leaving=None, new_members=None,
                                     from_config=-1)
        after = boss.create_async("/order-", b"", sequence=True)
        text, stat = change.get(timeout=20)
        before, behind = (boss.exists(x.get(timeout=20)) for x in (first, after))
        expect(before.czxid < stat.mzxid < behind.czxid, before, stat, behind)
        expect(version_of(text.decode()) == stat.mzxid, text, stat)
        for path in (first.get(), after.get()):
            boss.delete(path)


def write_everywhere(e, path):
    for s in e.servers:
        with Client(e.hosts([s])) as c:
            c.create(f"{path}-{s.number}", b"x")


def goes_on_without(e):
    """kill -9 of the leader, then of all: what was acknowledged is there."""
    write_everywhere(e, "/before")
    dead = e.one("leader")
    rest = [s for s in e.servers if s is not dead]
    with Client(e.hosts(rest)) as c:
        dead.end()
        begun = time.monotonic()
        wait_for(lambda: c.retry(c.ensure_path, "/during"), 20, lambda: "no write")
        took = time.monotonic() - begun
    dead.start()
    e.wait(["follower", "follower", "leader"])
    e.end()
    for s in e.servers:
        s.start()
    e.wait(["follower", "follower", "leader"])
    for s in e.servers:
        with Client(e.hosts([s])) as c:
            c.sync("/")
            found = sorted(p for p in c.get_children("/") if p != "zookeeper")
            expect(found == ["before-1", "before-2", "before-3", "during"], s.number, found)
    return f"writes went on after {took:.1f} s"


def a_lost_disk(e):
    """It votes again only when it has all; then another one may die."""
    with Client(e.hosts()) as c:
        before = c.get(CONFIG)[0]
    lost = e.one("follower")
    lost.end()
    shutil.rmtree(os.path.join(lost.dir, "muster"))
    lost.start()
    e.wait(["follower", "follower", "leader"])
    with open(os.path.join(lost.dir, "muster", "machine"), encoding="ascii") as f:
        expect("\nbirth=" in f.read(), "it has no other birth")
    wait_for(lambda: "ev=ensemble_follows" in lost.tail(), 10, lost.tail)
    other = e.one("follower") if e.one("follower") is not lost else next(
        s for s in e.servers if s.mode() == "follower" and s is not lost)

    def votes():
        with Client(e.hosts([lost])) as c:
            c.sync("/")
            return c.exists("/during") is not None
    wait_for(votes, 20, lost.tail)
    time_limit = 20
    other.end()
    with Client(e.hosts([s for s in e.servers if s is not other])) as c:
        wait_for(lambda: c.retry(c.ensure_path, "/after-the-disk"), time_limit, lost.tail)
        expect(c.get(CONFIG)[0] == before, c.get(CONFIG)[0], "was", before)
    other.start()
    e.wait(["follower", "follower", "leader"])


def zkcli(e, servers, *commands):
    r = subprocess.run([ZKCLI, "-server", e.hosts(servers)], text=True, timeout=90,
                       input="\n".join(["addauth digest super:test", *commands, "quit\n"]),
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return r.stdout


def servers_come_and_go(e):
    """A fourth server and an observer join by the Java client; the first two leave."""
    four, five = (Server(e.kind, e.top, n) for n in (4, 5))
    try:
        four.write(e.lines() + [four.spec()])
        five.write(e.lines() + [five.spec("observer")], more="peerType=observer\n")
        four.start()
        five.start()
        out = zkcli(e, e.servers, f"reconfig -add {five.spec('observer')}",
                    f"reconfig -add {four.spec()}", "config -c")
        expect(out.count("Committed new configuration:") == 2, out[-1500:])
        expect(f"127.0.0.1:{five.client}" in out.splitlines()[-1] or
               f"127.0.0.1:{five.client}" in out, out[-500:])
        everybody = e.servers + [four, five]
        e.wait(["follower", "follower", "follower", "leader", "observer"], everybody)
        expect(five.mode() == "observer", five.mode())
        expect("zk_server_state\tobserver" in word(five.client, "mntr"), word(five.client, "mntr"))
        with Client(e.hosts([five])) as c:
            c.create("/through-the-observer", b"1")
            expect(c.get("/through-the-observer")[0] == b"1", "not read")
        # The observer does not count: two of four voters are no quorum, with or without it.
        first = e.one("leader")
        with Client(e.hosts([five])) as c, Client(e.hosts([five]), SUPER) as boss:
            text, _ = reconfig(boss, leaving=f"{first.number}")
            expect(f"server.{first.number}=" not in text, text)
            wait_for(lambda: first.mode() is None, 20, first.tail)
            e.wait(["follower", "follower", "leader", "observer"],
                   [s for s in everybody if s is not first])
            # And back.
            text, _ = reconfig(boss, joining=first.spec())
            expect(first.spec() in text, text)
            e.wait(["follower", "follower", "follower", "leader", "observer"], everybody)
            text, _ = reconfig(boss, leaving="4,5")
            expect(servers_of(text) == sorted(e.lines()), text)
        e.wait(["follower", "follower", "leader"])
        wait_for(lambda: four.mode() is None and five.mode() is None, 20, four.tail)
    finally:
        four.end()
        five.end()


def a_stranger_without_the_secret(e):
    secret = os.path.join(e.top, "secret")
    with open(secret, "w", encoding="ascii") as f:
        f.write("0123456789abcdef\n")
    six = Server(e.kind, e.top, 6)
    try:
        six.write(e.lines() + [six.spec()], more=f"muster.secretFile={secret}\n")
        six.start()
        wait_for(lambda: "it does not know the cluster's secret" in
                 "".join(s.tail() for s in e.servers + [six]), 20, six.tail)
        with Client(e.hosts(), SUPER) as boss:
            text, _ = reconfig(boss, joining=six.spec())
            expect(text == "NewConfigNoQuorumError", text)
            expect(servers_of(boss.get(CONFIG)[0].decode()) == sorted(e.lines()),
                   boss.get(CONFIG)[0])
    finally:
        six.end()


def a_dynamic_file(top):
    """As ZooKeeper itself rewrites a zoo.cfg: the server lines are in a file of their own."""
    s = Server("muster", top, 8)
    dynamic = os.path.join(top, "zoo.cfg.dynamic.100000000")
    with open(dynamic, "w", encoding="ascii") as f:
        f.write(s.spec() + "\nversion=100000000\n")
    s.write([], more=f"dynamicConfigFile={dynamic}\nstandaloneEnabled=false\n")
    s.start()
    try:
        wait_for(lambda: s.mode() == "leader", 10, s.tail)
        with Client(f"127.0.0.1:{s.client}") as c:
            expect(servers_of(c.get(CONFIG)[0].decode()) == [s.spec()], c.get(CONFIG))
    finally:
        s.end()


def main():
    kind = sys.argv[1] if len(sys.argv) > 1 else "muster"
    report = Report(f"zoo.cfg, {kind}: ")
    top = tempfile.mkdtemp(prefix="muster-ensemble-")
    e = Ensemble(kind, top)
    ours = kind == "muster"
    try:
        if ours:
            report.run("files that are refused", lambda: files_that_are_refused(top))
            report.run("one server", lambda: one_server(top))
            report.run("a dynamic file", lambda: a_dynamic_file(top))
            report.run("the admin port is taken", lambda: a_taken_admin_port(top))
        if report.run("three servers", e.start):
            report.run("/zookeeper/config", lambda: check_config_node(e))
            report.run("what follows a reconfig", lambda: what_follows_a_reconfig(e))
            report.run("it goes on without a server", lambda: goes_on_without(e))
            if ours:
                report.run("a lost disk", lambda: a_lost_disk(e))
            check_answers(report, e)
            if ours:
                report.run("servers come and go", lambda: servers_come_and_go(e))
                report.run("a stranger without the secret",
                           lambda: a_stranger_without_the_secret(e))
    finally:
        e.end()
        shutil.rmtree(top)
    report.end()


if __name__ == "__main__":
    main()
