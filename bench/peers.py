# SPDX-License-Identifier: Apache-2.0
"""Servers side by side, on loopback: muster, Debian's ZooKeeper and etcd, one or three of each,
and "sockets", one process that answers out of nothing (bench/sockets.c).

All have their defaults. muster and ZooKeeper read the same zoo.cfg (Debian's: tickTime=2000,
initLimit=10, syncLimit=5); ZooKeeper's Java machine has no options, as Debian starts it
(JAVA_OPTS=""), or those that are given."""
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tests", "lib"))

from ports import free_ports  # noqa: E402

MUSTER = os.environ.get("MUSTER", os.path.join(TOP, "build", "muster"))
SOCKETS = os.path.join(TOP, "build", "tool_sockets")
JARS = ("zookeeper", "zookeeper-jute", "slf4j-api", "slf4j-simple", "netty-*", "metrics-core",
        "snappy-java", "commons-*", "audience-annotations*")
START_S = 300
TICK = os.sysconf("SC_CLK_TCK")


def is_there(kind):
    if kind == "zookeeper":
        return bool(glob.glob("/usr/share/java/zookeeper.jar")) and bool(shutil.which("java"))
    return kind in ("muster", "sockets") or shutil.which(kind) is not None


def version(kind):
    words = {"muster": [MUSTER, "--version"], "etcd": ["etcd", "--version"],
             "zookeeper": ["dpkg-query", "-W", "-f", "ZooKeeper ${Version}", "zookeeper"]}[kind]
    out = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    return out.splitlines()[0].strip() if out else "?"


def wait_for(condition, limit_s, what):
    until = time.monotonic() + limit_s
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > until:
            raise SystemExit(f"bench: not within {limit_s} s: {what()}")
        time.sleep(0.02)


class Server:
    """One of `total` servers. `settings` are lines of zoo.cfg, or words for etcd."""

    def __init__(self, kind, top, number=1, settings=(), java=(), program=None):
        self.kind, self.number, self.settings, self.java = kind, number, settings, java
        self.program = program or MUSTER
        self.dir = os.path.join(top, f"{kind}{number}")
        self.log = os.path.join(top, f"{kind}{number}.log")
        self.client, self.quorum, self.election = free_ports(3)
        self.process = None
        self.started_ns = 0
        self.all = [self]

    def words(self):
        if self.kind == "etcd":
            peer = f"http://127.0.0.1:{self.quorum}"
            client = f"http://127.0.0.1:{self.client}"
            return ["etcd", "--name", f"s{self.number}", "--data-dir", self.dir,
                    "--listen-client-urls", client, "--advertise-client-urls", client,
                    "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                    "--initial-cluster",
                    ",".join(f"s{s.number}=http://127.0.0.1:{s.quorum}" for s in self.all),
                    "--logger", "zap", "--log-level", "error", *self.settings]
        if self.kind == "sockets":
            return [SOCKETS, str(self.client)]
        if self.kind == "muster":
            return [self.program, "server", self.file()]
        return ["java", *self.java, "-cp",
                ":".join(j for n in JARS for j in glob.glob(f"/usr/share/java/{n}.jar")),
                "org.apache.zookeeper.server.quorum.QuorumPeerMain", self.file()]

    def file(self):
        return self.dir + ".cfg"

    def write_file(self):
        lines = ["tickTime=2000", "initLimit=10", "syncLimit=5", f"dataDir={self.dir}",
                 "admin.enableServer=false", "maxClientCnxns=0", "4lw.commands.whitelist=*",
                 *self.settings]
        if len(self.all) == 1:
            lines += [f"clientPort={self.client}", "clientPortAddress=127.0.0.1"]
        else:
            lines += [f"server.{s.number}=127.0.0.1:{s.quorum}:{s.election}:participant;"
                      f"127.0.0.1:{s.client}" for s in self.all]
        with open(self.file(), "w", encoding="ascii") as f:
            f.write("".join(line + "\n" for line in lines))

    def start(self):
        if self.kind in ("muster", "zookeeper"):
            self.write_file()
            os.makedirs(self.dir, exist_ok=True)
            with open(os.path.join(self.dir, "myid"), "w", encoding="ascii") as f:
                f.write(f"{self.number}\n")
        with open(self.log, "ab") as log:
            self.started_ns = time.monotonic_ns()
            self.process = subprocess.Popen(self.words(), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, cwd=os.path.dirname(self.dir))
        return self

    def wait(self):
        wait_for(self.is_serving, START_S, lambda: f"{self.kind} serves; {self.tail()}")
        return self

    def is_serving(self):
        if self.process is None or self.process.poll() is not None:
            raise SystemExit(f"bench: {self.kind} has ended: {self.tail()}")
        if self.kind == "etcd":
            return b'"health":"true"' in self.http("/health")
        if self.kind == "sockets":
            return self.accepts()
        return "Mode: " in self.word("srvr")

    def accepts(self):
        try:
            socket.create_connection(("127.0.0.1", self.client), timeout=5).close()
            return True
        except OSError:
            return False

    def mode(self):
        """leader, follower, standalone; None: it does not serve."""
        if self.kind == "etcd":
            try:
                status = json.loads(self.http("/v3/maintenance/status", b"{}"))
            except ValueError:
                return None
            leader = status.get("leader", "0")
            if leader == "0":
                return None
            return "leader" if leader == status["header"]["member_id"] else "follower"
        if self.kind == "sockets":
            return "standalone"
        found = [x for x in self.word("srvr").splitlines() if x.startswith("Mode: ")]
        return found[0][6:] if found else None

    def http(self, path, data=None):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.client}{path}", data,
                                        timeout=2) as answer:
                return answer.read()
        except OSError:
            return b""

    def word(self, text):
        try:
            with socket.create_connection(("127.0.0.1", self.client), timeout=5) as s:
                s.sendall(text.encode())
                out = b""
                while more := s.recv(65536):
                    out += more
                return out.decode()
        except OSError:
            return ""

    def monitor(self):
        return dict(line.split("\t", 1) for line in self.word("mntr").splitlines()
                    if "\t" in line)

    def memory(self):
        """Bytes: resident, the part of it that is not shared, and the most there has been."""
        found = {}
        for name in ("smaps_rollup", "status"):
            with open(f"/proc/{self.process.pid}/{name}", encoding="ascii") as f:
                for line in f:
                    words = line.split()
                    if len(words) == 3 and words[2] == "kB":
                        found[words[0]] = int(words[1]) * 1024
        return {"rss": found["Rss:"], "pss": found["Pss:"], "peak": found["VmHWM:"]}

    def forget_peak(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w", encoding="ascii") as f:
            f.write("5")

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def disk_bytes(self):
        """As allocated; muster's reserve is not data."""
        total = 0
        for directory, _, names in os.walk(self.dir):
            for name in names:
                try:
                    total += os.stat(os.path.join(directory, name)).st_blocks * 512 \
                        if name != "reserve" else 0
                except FileNotFoundError:
                    pass
        return total

    def newest_snapshot_bytes(self):
        """Of the last that is whole: the one before may be under way."""
        found = glob.glob(os.path.join(self.dir, "**", "snapshot.*"), recursive=True)
        return os.stat(max(found, key=lambda p: (os.path.basename(p).rpartition(".")[2]
                                                 .zfill(16)))).st_size

    def tail(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return "".join(f.readlines()[-12:])

    def end(self, number=signal.SIGKILL):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(60)
        self.process = None

    def pause(self, is_paused):
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP if is_paused else signal.SIGCONT)

    def wipe(self):
        shutil.rmtree(self.dir)


class Ensemble:
    def __init__(self, kind, top, count=3, **words):
        self.kind = kind
        self.servers = [Server(kind, top, n + 1, **words) for n in range(count)]
        for s in self.servers:
            s.all = self.servers

    def start(self):
        for s in self.servers:
            s.start()
        return self.wait()

    def wait(self):
        for s in self.servers:
            s.wait()
        if len(self.servers) > 1:
            wait_for(self.leader, START_S, lambda: f"a leader of {self.kind}")
        return self

    def leader(self):
        return next((s for s in self.servers if s.process and s.mode() == "leader"), None)

    def followers(self):
        return [s for s in self.servers if s.process and s.mode() == "follower"]

    def end(self):
        for s in self.servers:
            s.end()
