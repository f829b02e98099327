#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Other people's ZooKeeper clients against muster, and against Apache ZooKeeper.

    run.py [muster|zookeeper]...     both without an argument

kazoo (battery.py), Debian's C client (battery.c, cli_mt) and the Java client (zkCli.sh)
talk to one server alone and to three; there the server that a session is on is killed.
ZooKeeper stands beside muster so that a test that only fits one of them is noticed.
"""
import glob
import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "cluster"))

from cluster import BUILD, MUSTER, PORT_ZK, Failed, Site, connect, wait_for  # noqa: E402
from report import Report  # noqa: E402

PYTHON = "/usr/bin/python3"
CLI_MT = "/usr/lib/zookeeper/bin/cli_mt"
ZKCLI = "/usr/share/zookeeper/bin/zkCli.sh"
JARS = "/usr/share/java/zookeeper.jar:" + ":".join(glob.glob("/usr/share/java/*.jar"))


def listens(m):
    try:
        connect(m.ns, m.address, PORT_ZK, 0.5).close()
        return True
    except OSError:
        return False


class MusterServers:
    name = "muster"

    def __init__(self, site):
        self.site = site

    def start_one(self, m):
        m.spawn("server", MUSTER, "server", "--data", os.path.join(m.dir, "alone"),
                "--listen", f"{m.address}:{PORT_ZK}")
        wait_for(lambda: listens(m), 15, lambda: "muster server:\n" + m.log_tail("server"))

    def start_three(self):
        self.site.form()

    def restart(self, m):
        m.start_muster()
        m.wait_ready()


class ZooKeeperServers:
    name = "zookeeper"

    def __init__(self, site):
        self.site = site

    def start(self, m, servers):
        data = os.path.join(m.dir, "zk")
        os.makedirs(data, exist_ok=True)
        number = list(self.site.machines.values()).index(m) + 1
        with open(os.path.join(data, "myid"), "w", encoding="utf-8") as f:
            f.write(f"{number}\n")
        conf = os.path.join(data, "zoo.cfg")
        with open(conf, "w", encoding="utf-8") as f:
            f.write(f"tickTime=500\ninitLimit=20\nsyncLimit=10\ndataDir={data}\n"
                    f"clientPortAddress={m.address}\nclientPort={PORT_ZK}\n"
                    f"admin.enableServer=false\nmaxClientCnxns=0\n" +
                    "".join(f"server.{i + 1}={s.address}:2888:3888\n"
                            for i, s in enumerate(servers)))
        m.spawn("zk", "java", "-Xmx192m", "-XX:TieredStopAtLevel=1", "-cp", JARS,
                "org.apache.zookeeper.server.quorum.QuorumPeerMain", conf)

    def start_one(self, m):
        self.start(m, [])
        wait_for(lambda: listens(m), 30, lambda: "ZooKeeper:\n" + m.log_tail("zk"))

    def start_three(self):
        everybody = list(self.site.machines.values())
        for m in everybody:
            self.start(m, everybody)
        for m in everybody:
            wait_for(lambda m=m: listens(m), 60, lambda m=m: "ZooKeeper:\n" + m.log_tail("zk"))

    def restart(self, m):
        self.start(m, list(self.site.machines.values()))
        wait_for(lambda: listens(m), 60, lambda: "ZooKeeper:\n" + m.log_tail("zk"))


def in_client(site, *words, text=None, timeout=120):
    """A program in the client's namespace: what it printed, and its exit code."""
    r = subprocess.run(["ip", "netns", "exec", site.probes["client"][0], *words], input=text,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       timeout=timeout, check=False)
    return r.stdout, r.returncode


def run_battery(report, site, hosts, *words):
    """Passes the battery's own lines on."""
    try:
        out, code = in_client(site, *words, "all", hosts)
    except subprocess.TimeoutExpired:
        report.fail(os.path.basename(words[-1]), "no end within 120 s")
        return
    found = 0
    for line in out.splitlines():
        kind, _, rest = line.partition(" ")
        name, _, why = rest.partition(": ") if kind == "FAILED" else (rest, "", "")
        if kind == "ok":
            report.ok(rest)
            found += 1
        elif kind == "FAILED":
            report.fail(name, why)
            found += 1
    if found == 0 or (code != 0 and "FAILED" not in out):
        report.fail(os.path.basename(words[-1]), f"exit code {code}: {out[-500:]}")


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
    expect_in_order(out, [r"state:SyncConnected", r"Created /zc\n", r"hello", r"\[.*zc.*\]",
                          r"dataVersion = 1", r"dataLength = 5", r"Created /zc/n-0000000000",
                          r"type:NodeCreated path:/zc/k", r"type:NodeDataChanged path:/zc/k",
                          r"type:NodeDeleted path:/zc/k", r"type:NodeDeleted path:/zc\n",
                          r"Node does not exist: /zc"])


def moves(site, servers, *words):
    """Kills the server that the session is on; the session must go on on another."""
    hosts = ",".join(f"{m.address}:{PORT_ZK}" for m in site.machines.values())
    p = subprocess.Popen(["ip", "netns", "exec", site.probes["client"][0], *words, "move", hosts],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True)
    try:
        first = p.stdout.readline().split()
        if first[:1] != ["on"]:
            raise Failed(f"no session: {' '.join(first)} {p.stdout.read()[-500:]}")
        m = next(m for m in site.machines.values() if m.address == first[1])
        begun = time.monotonic()
        m.end()
        out, _ = p.communicate("go\n", timeout=60)
        took = time.monotonic() - begun
        servers.restart(m)
        if p.returncode != 0 or "moved to" not in out:
            raise Failed(out[-800:])
        return f"{first[1]} died, {out.split('moved to ')[1].strip()} has it, {took:.1f} s"
    finally:
        p.kill()
        p.wait()


def run_all(kind):
    report = Report(f"{kind.name}: ")
    site = Site("mtc" + kind.name[0], f"/tmp/muster-clients-{os.getpid()}", probes=("client",))
    servers = kind(site)
    try:
        site.open()
        a = site["a"]
        if report.run("one server starts", lambda: servers.start_one(a)):
            hosts = f"{a.address}:{PORT_ZK}"
            run_battery(report, site, hosts, PYTHON, os.path.join(HERE, "battery.py"))
            run_battery(report, site, hosts, os.path.join(BUILD, "client_battery"))
            report.run("cli_mt", lambda: cli_mt(site, hosts))
            report.run("zkCli.sh", lambda: zkcli(site, hosts))
        if kind is MusterServers:
            report.stop_well(site)
        a.end()
        report.prefix = f"{kind.name}, three servers: "
        if report.run("they start", servers.start_three):
            hosts = ",".join(f"{m.address}:{PORT_ZK}" for m in site.machines.values())
            run_battery(report, site, hosts, PYTHON, os.path.join(HERE, "battery.py"))
            run_battery(report, site, hosts, os.path.join(BUILD, "client_battery"))
            report.run("kazoo's session moves when its server dies", lambda: moves(
                site, servers, PYTHON, os.path.join(HERE, "battery.py")))
            report.run("the C client's session moves when its server dies", lambda: moves(
                site, servers, os.path.join(BUILD, "client_battery")))
        if kind is MusterServers:
            report.stop_well(site)
    finally:
        for m in site.machines.values():
            print(f"--- {m.name}: {m.log_tail(lines=3)}")
        site.close()
        site.remove_files()
    return report.failed


def main():
    kinds = {"muster": MusterServers, "zookeeper": ZooKeeperServers}
    failed = sum(run_all(kinds[k]) for k in sys.argv[1:] or ("muster", "zookeeper"))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
