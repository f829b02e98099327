#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Other people's ZooKeeper clients against muster, and against Apache ZooKeeper.

    run.py [muster|zookeeper]...     both without an argument

Each client has its battery, a program that prints a line for each test: kazoo (battery.py,
battery_recipes.py), Debian's C client (battery.c, battery_st.c, cli_mt), the Java client
(BatteryApi.java, zkCli.sh), Curator (BatteryCurator.java), Debian's Go client (battery.go)
and an npm client (node/battery.js). What asks about the protocol talks to one server alone,
recipes to three; there the leader is killed under sessions of every client.

ZooKeeper stands beside muster so that a test that only fits one of them is noticed: in the
end the two are compared.
"""
import concurrent.futures
import glob
import os
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "cluster"))

from cluster import (BUILD, MUSTER, PORT_ZK, TOP, Failed, Site, connect, run,  # noqa: E402
                     wait_for)
from report import Report  # noqa: E402

PYTHON = "/usr/bin/python3"
MADE = os.path.join(TOP, "build", "clients")  # what is compiled and installed for the tests
AT_ONCE = 3  # batteries that run side by side; they wait more than they compute
LIMIT_S = 150  # of one battery
# What Debian's packages of the Java client and of Curator bring, without versions.
CLASSES = ":".join([os.path.join(MADE, "java")] + [f"/usr/share/java/{j}.jar" for j in (
    "zookeeper", "zookeeper-jute", "curator-client", "curator-framework", "curator-recipes",
    "curator-x-discovery", "guava", "slf4j-api", "slf4j-nop", "netty-all", "commons-cli",
    "metrics-core", "snappy-java", "jackson-core", "jackson-databind",
    "jackson-annotations")])
CLI_MT = "/usr/lib/zookeeper/bin/cli_mt"
ZKCLI = "/usr/share/zookeeper/bin/zkCli.sh"
JARS = "/usr/share/java/zookeeper.jar:" + ":".join(glob.glob("/usr/share/java/*.jar"))


def battery(name):
    """The words that start one."""
    java = ("java", "-Xmx192m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", CLASSES)
    return {
        "kazoo": (PYTHON, os.path.join(HERE, "battery.py")),
        "kazoo's recipes": (PYTHON, os.path.join(HERE, "battery_recipes.py")),
        "C client": (os.path.join(BUILD, "client_battery"),),
        "single-threaded C client": (os.path.join(BUILD, "client_battery_st"),),
        "Java client": java + ("BatteryApi",),
        "Curator": java + ("BatteryCurator",),
        "Go client": (os.path.join(MADE, "battery_go"),),
        "node client": ("env", f"NODE_PATH={MADE}/node/node_modules", "node",
                        os.path.join(HERE, "node", "battery.js")),
    }[name]


API = ("Java client", "kazoo", "C client", "single-threaded C client", "Go client",
       "node client")
RECIPES = ("Curator", "kazoo's recipes", "kazoo", "C client")
MOVERS = ("kazoo", "kazoo's recipes", "C client", "single-threaded C client", "Java client",
          "Curator", "Go client", "node client")


# ---- what has to be made first ----

def need(program, package):
    if not shutil.which(program):
        raise Failed(f"{program} is missing: apt-get install {package}")


def compile_java():
    need("javac", "default-jdk-headless")
    where = os.path.join(MADE, "java")
    shutil.rmtree(where, ignore_errors=True)
    os.makedirs(where)
    run("javac", "-Xlint:all,-try,-path", "-Werror", "-cp", CLASSES, "-d", where,
        *sorted(glob.glob(os.path.join(HERE, "Battery*.java"))), timeout=120)


def compile_go():
    need("go", "golang-go golang-github-samuel-go-zookeeper-dev")
    run("env", "GO111MODULE=off", "GOFLAGS=", "GOPATH=/usr/share/gocode", "CGO_ENABLED=0",
        f"GOCACHE={MADE}/go-cache", "go", "build", "-o", os.path.join(MADE, "battery_go"),
        os.path.join(HERE, "battery.go"), timeout=180)


def install_node_modules():
    """Needs npm's registry once; as long as the lock file stays the same, nothing more."""
    need("node", "nodejs")
    need("npm", "npm")
    where = os.path.join(MADE, "node")
    lock = os.path.join(HERE, "node", "package-lock.json")
    kept = os.path.join(where, "package-lock.json")
    with open(lock, encoding="utf-8") as f:
        text = f.read()
    if os.path.isdir(os.path.join(where, "node_modules")) and os.path.exists(kept):
        with open(kept, encoding="utf-8") as f:
            if f.read() == text:
                return
    shutil.rmtree(where, ignore_errors=True)
    os.makedirs(where)
    shutil.copy(os.path.join(HERE, "node", "package.json"), where)
    shutil.copy(lock, kept)
    run("npm", "ci", "--prefix", where, "--ignore-scripts", "--no-audit", "--no-fund",
        timeout=180)


def make_clients():
    """Those that cannot be made; their batteries are left out, and what is missing counts."""
    report = Report("clients: ")
    missing = set()
    os.makedirs(MADE, exist_ok=True)
    for what, make, names in (
            ("the Java batteries compile", compile_java, ("Java client", "Curator")),
            ("the Go battery compiles", compile_go, ("Go client",)),
            ("the npm client installs", install_node_modules, ("node client",))):
        if not report.run(what, make):
            missing.update(names)
    st = battery("single-threaded C client")[0]
    if not report.check("the single-threaded C client is built", os.access(st, os.X_OK),
                        f"no {st}: apt-get install libzookeeper-st2, then ./dev build"):
        missing.add("single-threaded C client")
    return report, missing


# ---- the servers ----

# Both get the same settings; what ZooKeeper takes as a property of its machine only, too.
SETTINGS = """tickTime=500
initLimit=20
syncLimit=10
admin.enableServer=false
maxClientCnxns=0
4lw.commands.whitelist=*
extendedTypesEnabled=true
enforceQuota=true
reconfigEnabled=true
znode.container.checkIntervalMs=500
DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=
"""
PROPERTIES = ("-Dznode.container.checkIntervalMs=500",)


def listens(m):
    try:
        connect(m.ns, m.address, PORT_ZK, 0.5).close()
        return True
    except OSError:
        return False


def write_zoo_cfg(site, m, servers, data):
    """ZooKeeper's own configuration file for this machine; with no servers it is alone."""
    os.makedirs(data, exist_ok=True)
    number = list(site.machines.values()).index(m) + 1
    with open(os.path.join(data, "myid"), "w", encoding="utf-8") as f:
        f.write(f"{number}\n")
    conf = os.path.join(data, "zoo.cfg")
    with open(conf, "w", encoding="utf-8") as f:
        f.write(SETTINGS + f"dataDir={data}\nclientPortAddress={m.address}\n"
                f"clientPort={PORT_ZK}\n" +
                "".join(f"server.{i + 1}={s.address}:2888:3888\n"
                        for i, s in enumerate(servers)))
    return conf


class Servers:
    """One server alone, or all of the site's machines as an ensemble, each with its zoo.cfg."""
    name = words = ""

    def __init__(self, site):
        self.site = site

    def start(self, m, servers):
        conf = write_zoo_cfg(self.site, m, servers,
                             os.path.join(m.dir, "three" if servers else "one"))
        m.spawn("server", *self.words, conf)

    def wait(self, m):
        wait_for(lambda: listens(m), 60, lambda: f"{self.name} on {m.name}:\n" +
                 m.log_tail("server"))

    def start_one(self, m):
        self.start(m, [])
        self.wait(m)

    def start_three(self):
        for m in self.site.machines.values():
            self.start(m, list(self.site.machines.values()))
        for m in self.site.machines.values():
            self.wait(m)

    def restart(self, m):
        self.start(m, list(self.site.machines.values()))
        self.wait(m)


class MusterServers(Servers):
    name = "muster"
    words = (MUSTER, "server")


class ZooKeeperServers(Servers):
    name = "zookeeper"
    words = ("java", "-Xmx192m", "-XX:TieredStopAtLevel=1", *PROPERTIES, "-cp", JARS,
             "org.apache.zookeeper.server.quorum.QuorumPeerMain")


class MusterSite(Servers):
    """Three machines as `muster init`, `join` and `up` make them."""
    name = "muster"

    def start_three(self):
        self.site.form()

    def restart(self, m):
        m.start_muster()
        m.wait_ready()


def in_client(site, *words, text=None, timeout=LIMIT_S):
    """A program in the client's namespace: what it printed, and its exit code."""
    r = subprocess.run(["ip", "netns", "exec", site.probes["client"][0], *words], input=text,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       timeout=timeout, check=False)
    return r.stdout, r.returncode


class Results(Report):
    """Remembers what passed, so that two runs can be compared."""

    def __init__(self, kind):
        super().__init__(f"{kind}: ")
        self.kind = kind
        self.seen = {}

    def remember(self, name, is_well):
        key = (self.prefix + name).removeprefix(self.kind)
        self.seen[key] = self.seen.get(key, True) and is_well

    def ok(self, name, more=""):
        self.remember(name, True)
        super().ok(name, more)

    def fail(self, name, why):
        self.remember(name, False)
        super().fail(name, why)


def run_batteries(report, site, hosts, names):
    """Some at a time; passes their own lines on, a battery after the other."""
    def one(name):
        begun = time.monotonic()
        try:
            out, code = in_client(site, *battery(name), "all", hosts)
        except subprocess.TimeoutExpired as e:
            out, code = (e.stdout or b"").decode("utf-8", "replace"), None
        return name, out, code, time.monotonic() - begun
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for name, out, code, took in pool.map(one, names):
            print(f"--- {report.prefix}{name}: {took:.1f} s", flush=True)
            found, failed = pass_on(report, name, out)
            if code is None:
                report.fail(name, f"no end within {LIMIT_S} s: {out[-300:]}")
            elif found == 0 or (code != 0 and failed == 0):
                report.fail(name, f"exit code {code}: {out[-500:]}")


def pass_on(report, client, out):
    """The battery's lines as results; how many there are, and how many of them failed."""
    found = failed = 0
    for line in out.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "ok":
            report.ok(f"{client}: {rest}")
            found += 1
        elif kind == "FAILED":
            name, _, why = rest.partition(": ")
            report.fail(f"{client}: {name}", why)
            found += 1
            failed += 1
    return found, failed


def expect_in_order(out, patterns):
    at = 0
    for p in patterns:
        found = re.compile(p).search(out, at)
        if not found:
            raise Failed(f"no {p!r} after what was there before, in: {out[-1500:]}")
        at = found.end()


def cli_mt(site, hosts):
    for command, pattern in (("create /cli", r"\[/cli\]: rc = 0\n"),
                             ("set /cli word", r"rc = 0 Stat:[^=]*ctime(.|\n)*version=1"),
                             ("get /cli", r"value_len = 4\nword\n"),
                             ("ls /", r"rc = 0(.|\n)*\tcli\n"),
                             ("delete /cli", r"/cli: rc = 0\n"),
                             ("get /cli", r"/cli: rc = -101\n")):
        out, _ = in_client(site, CLI_MT, "-h", hosts, "-c", command, timeout=20)
        if not re.search(pattern, out):
            raise Failed(f"{command}: {out[-800:]}")


def zkcli(site, hosts):
    commands = """create /zc hello
get /zc
ls /
set /zc other
stat /zc
create -e -s /zc/n- x
addWatch -m PERSISTENT_RECURSIVE /zc
create /zc/k 1
set /zc/k 2
deleteall /zc
get /zc
quit
"""
    out, _ = in_client(site, ZKCLI, "-server", hosts, text=commands)
    # A thread of its own tells of the connection, now before and now after the first answer.
    expect_in_order(out, [r"state:SyncConnected"])
    expect_in_order(out, [r"Created /zc\n", r"hello", r"\[.*zc.*\]",
                          r"dataVersion = 1", r"dataLength = 5", r"Created /zc/n-0000000000",
                          r"type:NodeCreated path:/zc/k", r"type:NodeDataChanged path:/zc/k",
                          r"type:NodeDeleted path:/zc/k", r"type:NodeDeleted path:/zc\n",
                          r"Node does not exist: /zc"])


class Mover:
    """A client with a session; when its server has died, it must go on on another."""

    def __init__(self, site, name, hosts):
        self.name = name
        self.p = subprocess.Popen(
            ["ip", "netns", "exec", site.probes["client"][0], *battery(name), "move", hosts],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def where(self):
        """The address of its server; it has its session then, and all that it holds."""
        first = self.p.stdout.readline().split()
        if first[:1] != ["on"]:
            raise Failed(f"no session: {' '.join(first)} {self.p.stdout.read()[-500:]}")
        return first[1]

    def go(self):
        """Its server is dead."""
        self.p.stdin.write("go\n")
        self.p.stdin.flush()

    def must_have_moved(self, died, begun):
        out, _ = self.p.communicate(timeout=60)
        if self.p.returncode != 0 or "moved to" not in out:
            raise Failed(out[-800:])
        return f"{died} died, {out.split('moved to ')[1].strip()} has it, " \
               f"{time.monotonic() - begun:.1f} s"

    def end(self):
        self.p.kill()
        self.p.wait()


def all_move(report, site, servers, names):
    """Sessions of every client on the leader, which then dies: all must go on elsewhere.

    So that all are there, the client's machine has no way to the other servers meanwhile.
    """
    ns = site.probes["client"][0]
    hosts = ",".join(f"{m.address}:{PORT_ZK}" for m in site.machines.values())
    leader = site[wait_for(site.leader, 30, "one server that leads")]
    others = [m for m in site.machines.values() if m is not leader]
    movers = []
    try:
        for m in others:
            run("ip", "-n", ns, "route", "add", "unreachable", m.address)
        movers = [Mover(site, name, hosts) for name in names]
        held = [x for x in movers if report.run(
            f"{x.name}: has a session on the leader",
            lambda x=x: [leader.address].index(x.where()))]
        for m in others:
            run("ip", "-n", ns, "route", "del", "unreachable", m.address)
        begun = time.monotonic()
        leader.end()
        for x in held:
            x.go()
        for x in held:
            report.run(f"{x.name}: its session moves when its server dies",
                       lambda x=x: x.must_have_moved(leader.address, begun))
    finally:
        for x in movers:
            x.end()
    servers.restart(leader)


def run_all(kind, missing):
    report = Results(kind.name)
    site = Site("mtc" + kind.name[0], f"/tmp/muster-clients-{os.getpid()}", probes=("client",))
    servers = kind(site)
    api, recipes, movers = ([n for n in names if n not in missing]
                            for names in (API, RECIPES, MOVERS))
    try:
        site.open()
        a = site["a"]
        if report.run("one server starts", lambda: servers.start_one(a)):
            hosts = f"{a.address}:{PORT_ZK}"
            run_batteries(report, site, hosts, api)
            report.run("cli_mt", lambda: cli_mt(site, hosts))
            report.run("zkCli.sh", lambda: zkcli(site, hosts))
        if kind is MusterServers:
            report.stop_well(site)
        a.end()
        report.prefix = f"{kind.name}, three servers: "
        if report.run("they start", servers.start_three):
            hosts = ",".join(f"{m.address}:{PORT_ZK}" for m in site.machines.values())
            run_batteries(report, site, hosts, recipes)
            report.run("sessions move", lambda: all_move(report, site, servers, movers))
        if kind is MusterServers:
            report.stop_well(site)
            report.prefix = f"{kind.name}, a site: "
            servers = MusterSite(site)
            if report.run("it forms", servers.start_three):
                report.run("sessions move", lambda: all_move(report, site, servers, movers))
            report.stop_well(site)
        for m in site.machines.values():
            m.end()
    finally:
        for m in site.machines.values():
            print(f"--- {m.name}: {m.log_tail('server', 3)}\n{m.log_tail('muster', 3)}")
        site.close()
        site.remove_files()
    return report


def compare(report, ours, theirs):
    """What passes at one and not at the other; who did not run a test did not pass it."""
    for name in sorted(ours.seen.keys() | theirs.seen.keys()):
        passed = [r.kind for r in (ours, theirs) if r.seen.get(name)]
        is_ours_alone = "a site: " in name or name.endswith("all of muster ends well")
        if len(passed) == 1 and not is_ours_alone:
            print(f"--- only at {passed[0]}: {name.lstrip(':, ')}")
    both = [n for n in ours.seen if ours.seen[n] and theirs.seen.get(n)]
    only = [n for n in theirs.seen if theirs.seen[n] and not ours.seen.get(n)]
    report.check("what passes at ZooKeeper passes at muster", not only,
                 f"{len(both)} do, {len(only)} do not: {'; '.join(sorted(only))}")


def main():
    kinds = {"muster": MusterServers, "zookeeper": ZooKeeperServers}
    report, missing = make_clients()
    results = {k: run_all(kinds[k], missing) for k in sys.argv[1:] or kinds}
    if len(results) == 2:
        compare(report, results["muster"], results["zookeeper"])
    failed = report.failed + sum(r.failed for r in results.values())
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
