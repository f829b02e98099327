#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./dev differ: muster beside Debian's ZooKeeper, the same random requests to both.

    differ.py [--seed N] [--requests N] [--round N] [--without GROUP,...] [--keep-going N]
    differ.py --short        what ./dev test runs: "ok ..." and "FAILED ..." lines

Starts both on free loopback ports with the same settings, runs build/tool_differ on them,
then build/tool_differ_odd (connections that go wrong), and ends them. When something differs, the requests that matter are found by leaving out others
as long as it still differs, each time with new servers; they are printed, with their answers.
What differs on purpose: docs/zookeeper-differences.md.
Exit code: 0 the same, 1 different, 77 there is no ZooKeeper.
"""
import argparse
import glob
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests", "lib"))

from ports import free_port  # noqa: E402

BUILD = os.environ.get("DIFFER_BUILD", os.path.join(TOP, "build"))
MUSTER = os.environ.get("MUSTER", os.path.join(BUILD, "muster"))
TOOL = os.path.join(BUILD, "tool_differ")
ODD = os.path.join(BUILD, "tool_differ_odd")
JARS = ("zookeeper", "zookeeper-jute", "slf4j-api", "slf4j-nop", "netty-*", "metrics-core",
        "snappy-java", "commons-*", "audience-annotations*")
SUPER = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="  # super:test
START_S = 60
SHORT_REQUESTS = 100000
ODD_ROUNDS = 10
SHRINK_S = 240  # so long a failure is made smaller
SETTINGS = """tickTime=2000
minSessionTimeout=500
maxSessionTimeout=60000
maxClientCnxns=0
4lw.commands.whitelist=*
extendedTypesEnabled=true
enforceQuota=true
DigestAuthenticationProvider.superDigest={super}
admin.enableServer=false
znode.container.checkIntervalMs=86400000
dataDir={data}
clientPort={port}
clientPortAddress=127.0.0.1
"""
# Not asked of muster: they make ZooKeeper faster; and it knows the setting that keeps it from
# deleting containers and TTL znodes in the middle of a run only like this.
JAVA = ("-Xmx512m", "-XX:+UseSerialGC", "-Dzookeeper.forceSync=no",
        "-Dzookeeper.snapCount=5000000", "-Dznode.container.checkIntervalMs=2000000000")


def undocumented():
    """Rows of differ_rules.h without a paragraph."""
    with open(os.path.join(TOP, "tests", "peer", "differ_rules.h"), encoding="utf-8") as f:
        rules = re.findall(r"^ +(?:NOT_DRAWN|EXPLAINED)\((\w+), ", f.read(), re.M)
    with open(os.path.join(TOP, "docs", "zookeeper-differences.md"), encoding="utf-8") as f:
        told = set(re.findall(r"^\| `(\w+)` ", f.read(), re.M))
    return sorted(set(rules) ^ told) if rules else ["no rules found"]


def is_there():
    return bool(glob.glob("/usr/share/java/zookeeper.jar")) and shutil.which("java") is not None


def word(port, text, timeout=5):
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as s:
        s.sendall(text)
        answer = b""
        while more := s.recv(65536):
            answer += more
        return answer


class Server:
    """One of the two, in its own directory, on its own port; ended with `with`."""

    def __init__(self, directory):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.directory = os.path.join(directory, self.name)
        os.makedirs(os.path.join(self.directory, "data"))
        self.log = os.path.join(self.directory, "log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(self.command(), cwd=self.directory, stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL)

    def settings(self):
        path = os.path.join(self.directory, "zoo.cfg")
        with open(path, "w", encoding="utf-8") as f:
            f.write(SETTINGS.format(super=SUPER, port=self.port,
                                    data=os.path.join(self.directory, "data")))
        return path

    def wait(self):
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                if b"Mode: " in word(self.port, b"srvr"):
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise SystemExit(f"differ: {self.name} does not serve:\n{self.tail()}")

    def tail(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()[-2000:]

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class ZooKeeper(Server):
    name = "zookeeper"

    def command(self):
        jars = [j for n in JARS for j in glob.glob(f"/usr/share/java/{n}.jar")]
        return ["java", *JAVA, "-cp", ":".join(jars),
                "org.apache.zookeeper.server.quorum.QuorumPeerMain", self.settings()]


class Muster(Server):
    name = "muster"

    def command(self):
        return [MUSTER, "server", self.settings()]


class Both:
    """Both servers, new and empty, as long as the `with` lasts."""

    def __init__(self):
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.directory = tempfile.mkdtemp(prefix="muster-differ-", dir=memory)
        self.servers = []

    def __enter__(self):
        try:
            for kind in (ZooKeeper, Muster):
                self.servers.append(kind(self.directory))
            for s in self.servers:
                s.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for s in self.servers:
            s.end()
        shutil.rmtree(self.directory, ignore_errors=True)

    def addresses(self):
        return [s.address for s in self.servers]

    def dead(self):
        """Whoever has ended though nobody asked, with the end of its log."""
        return "".join(f"{s.name} ended with code {s.process.returncode}:\n{s.tail()}\n"
                       for s in self.servers if s.process.poll() is not None)


def tool(both, *words, timeout=None, quiet=True, program=TOOL):
    """Runs a tool; its exit code and what it printed."""
    with subprocess.Popen([program, *both.addresses(), *words], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL if quiet else None, text=True,
                          errors="replace") as p:
        try:
            out, _ = p.communicate(timeout=timeout)
        except BaseException:
            p.kill()
            raise
        return p.returncode, out


class Shrinker:
    """Leaves out what can be left out, first windows, then single requests."""

    def __init__(self, seed, words):
        self.seed, self.words = seed, words
        self.until = time.monotonic() + SHRINK_S
        self.tries = 0

    def differs(self, pairs, *more):
        with tempfile.NamedTemporaryFile("w", suffix=".only") as f:
            f.write("".join(f"{w} {r}\n" for w, r in pairs))
            f.flush()
            with Both() as both:
                self.tries += 1
                code, out = tool(both, "--seed", str(self.seed), *self.words, "--only", f.name,
                                 *more)
                return code == 1 or bool(both.dead()), out

    def least(self, items, make):
        """The least list of items with which make(items) still differs, roughly."""
        size = max(1, len(items) // 2)
        while time.monotonic() < self.until:
            at = 0
            while at < len(items) and time.monotonic() < self.until:
                fewer = items[:at] + items[at + size:]
                if fewer and self.differs(make(fewer))[0]:
                    items = fewer
                else:
                    at += size
            if size == 1:
                break
            size = max(1, size // 2)
        return items

    def run(self, sent):
        pairs = [tuple(line.split()[1:]) for line in sent]
        windows = list(dict.fromkeys(w for w, _ in pairs))
        if not self.differs(pairs)[0]:
            print("with new servers it does not differ: it takes what earlier rounds left")
            return
        windows = self.least(windows, lambda some: [p for p in pairs if p[0] in set(some)])
        pairs = [p for p in pairs if p[0] in set(windows)]
        frame = [p for p in pairs if p[1] == "-"]
        single = self.least([p for p in pairs if p[1] != "-"], lambda some: frame + some)
        _, out = self.differs(frame + single, "--verbose")
        print(f"the requests that matter ({self.tries} tries):")
        print("\n".join("    " + line for line in out.splitlines()))


def run_once(seed, options):
    """One run with new servers; how many requests, and the seed at which it differed."""
    words = ["--round", str(options.round)]
    if options.without:
        words += ["--without", options.without]
    with Both() as both:
        more = ["--counts"] if options.counts else []
        code, out = tool(both, "--seed", str(seed), "--requests", str(options.requests),
                         *words, *more, quiet=False)
        if code == 0:
            code, odd = tool(both, "--seed", str(seed), "--rounds", str(ODD_ROUNDS), program=ODD)
            out += odd
        died = both.dead()
    print(out, end="", flush=True)
    if code == 0 and not died:
        return None
    print(died, end="", flush=True)
    found = next((line.split()[2] for line in out.splitlines()
                  if line.startswith("DIFFERENT seed ")), None)
    if found is None:
        print(f"the tool ended with code {code}")
        return seed
    if not options.no_shrink and " round " not in out:
        with Both() as both:
            _, listed = tool(both, "--seed", found, "--requests", str(options.round), *words,
                             "--list")
        sent = [line for line in listed.splitlines() if line.startswith("SENT ")]
        Shrinker(found, words).run(sent)
    return int(found)


def short():
    """A fixed seed, and one that is drawn: printed, so that it can be run again."""
    failed = 0
    for kind, seed in (("fixed", 1), ("drawn", random.randrange(1 << 32))):
        with Both() as both:
            for name, program, words in (
                    ("requests", TOOL, ("--requests", str(SHORT_REQUESTS))),
                    ("odd connections", ODD, ("--rounds", str(ODD_ROUNDS)))):
                code, out = tool(both, "--seed", str(seed), *words, program=program)
                died = both.dead()
                last = out.splitlines()[-1] if out else f"exit code {code}"
                if code == 0 and not died:
                    print(f"ok differ: {name} ({kind} seed): {last}", flush=True)
                    continue
                failed += 1
                first = next((line for line in out.splitlines() if "DIFFERENT" in line), last)
                print(f"FAILED differ: {name}: {first}; ./dev differ --seed {seed}", flush=True)
                print(out + died, file=sys.stderr, flush=True)
    return 1 if failed else 0


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--requests", type=int, default=100000)
    p.add_argument("--round", type=int, default=50000)
    p.add_argument("--without", default="")
    p.add_argument("--keep-going", type=int, default=1, metavar="N",
                   help="until N differences were found, each from the seed behind the last")
    p.add_argument("--no-shrink", action="store_true")
    p.add_argument("--counts", action="store_true",
                   help="how often each operation ended how")
    p.add_argument("--short", action="store_true")
    options = p.parse_args()
    if not is_there():
        print("no ZooKeeper here (Debian: apt install zookeeper)")
        return 77
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for name in undocumented():
        print(f"{name}: in differ_rules.h or in docs/zookeeper-differences.md, not in both")
        return 1
    if options.short:
        return short()
    seed, found = options.seed, 0
    while found < options.keep_going:
        at = run_once(seed, options)
        if at is None:
            break
        found += 1
        seed = at + 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
