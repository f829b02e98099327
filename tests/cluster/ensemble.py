#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""muster up --ensemble: the agents on three of Debian's Apache ZooKeeper servers.

    ensemble.py [--trials N] [--only WORD] [--keep]

Three machines, each with a ZooKeeper server and an agent, in a chroot and with credentials.
The faults of failover.py hit the machine that holds the address; then ZooKeeper's leader is
killed and cut off, and its quorum is lost. As there, two probers look: never do two machines
answer, none answers after it stopped being sure of its session, another one answers in time
(docs/decisions/005-foreign-ensembles.md). Then the commands, with the credentials and without.
"""
import argparse
import glob
import json
import os
import signal
import sys
import time

from cluster import PORT_ZK, Failed, Site, http_get, wait_for
from commands_bed import ask, expect, started, wait_ok
from failover import LATE_SLACK
from probe import Probe
from report import Report
from trial import FAULTS, Muster, trial

JARS = "/usr/share/java/zookeeper.jar:" + ":".join(glob.glob("/usr/share/java/*.jar"))
TICK = 0.5
SYNC_LIMIT = 4      # ticks without a word after which ZooKeeper gives a peer up
SESSION = 2.0       # seconds: the site's lease
TRUST = SESSION / 2
# Since a machine was last heard: what it said is reported and rounded up; then who takes over
# asks whether the address is free.
FAILOVER = SESSION + 1.5 * TICK + 1
ELECTION = 2.0
PAUSE = 1.6
CHROOT = "/sites/shop"


class OnZooKeeper(Muster):
    """The same site, its tree on ZooKeeper."""

    def __init__(self, site):
        super().__init__(site, round(SESSION * 1000))
        self.name = "muster on ZooKeeper"
        os.makedirs(site.dir, exist_ok=True)
        self.auth = self.write("auth", "digest:site:secret-of-the-site\n")
        for m in site.machines.values():
            # Its own server first: so the sessions are on leaders and followers.
            servers = [m.address] + [o.address for o in site.machines.values() if o is not m]
            m.up = ("--data", m.data, "--name", m.name, "--address", m.address, "--auth-file",
                    self.auth, "--ensemble",
                    ",".join(f"{s}:{PORT_ZK}" for s in servers) + CHROOT)

    def write(self, name, text, mode=0o600):
        path = os.path.join(self.site.dir, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def start_zookeeper(self, m):
        everybody = list(self.site.machines.values())
        data = os.path.join(m.dir, "zk")
        os.makedirs(data, exist_ok=True)
        with open(os.path.join(data, "myid"), "w", encoding="utf-8") as f:
            f.write(f"{everybody.index(m) + 1}\n")
        conf = os.path.join(data, "zoo.cfg")
        with open(conf, "w", encoding="utf-8") as f:
            f.write(f"tickTime={TICK * 1000:.0f}\ninitLimit=20\nsyncLimit={SYNC_LIMIT}\n"
                    f"dataDir={data}\nclientPortAddress={m.address}\nclientPort={PORT_ZK}\n"
                    "admin.enableServer=false\nmaxClientCnxns=0\n" +
                    "".join(f"server.{i + 1}={s.address}:2888:3888\n"
                            for i, s in enumerate(everybody)))
        m.spawn("zk", "java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", JARS,
                "org.apache.zookeeper.server.quorum.QuorumPeerMain", conf)

    def wait_zookeeper(self):
        for m in self.site.machines.values():
            wait_for(lambda m=m: m.mode() in ("leader", "follower"), 60, lambda m=m:
                     f"ZooKeeper on {m.name}:\n" + m.log_tail("zk"), 0.1)

    def tree(self, m, *words, auth=True, server=None):
        """A command of the tree, asked of that machine's ZooKeeper."""
        where = server or f"{m.address}:{PORT_ZK}{CHROOT}"
        return ask(m.ns, *words, "--server", where,
                   env={"MUSTER_AUTH_FILE": self.auth if auth else ""})

    def form(self):
        for m in self.site.machines.values():
            m.start_responder()
            m.start_clone(1)
            self.start_zookeeper(m)
        self.wait_zookeeper()
        for m in self.site.machines.values():
            m.start_muster()
        for m in self.site.machines.values():
            m.wait_ready()
        path = self.write("site.yml", f"site: trial\nlease: {SESSION:g}s\n"
                          f"addresses:\n  - {self.site.vip}\n"
                          "services:\n  web:\n    port: 3000\n    check: { http: /up }\n"
                          "balance:\n  web: { listen: 80 }\n")
        expect(self.tree(self.site["a"], "apply", path), 0, "Applied")

    def switch_on(self, m):
        m.link("up")
        m.start_responder()
        m.start_clone(1)
        self.start_zookeeper(m)
        m.start_muster()

    def wait_settled(self, probe):
        self.wait_zookeeper()
        for m in self.site.machines.values():
            m.wait_ready(60)
        probe.wait_holder(30)

    def stop(self, m):
        """Told once: told twice, it would end at once."""
        pids = m.pids("muster")
        for p in pids:
            os.kill(p, signal.SIGTERM)
        wait_for(lambda: not m.pids("muster"), 20, f"muster on {m.name} to end", 0.01)
        m.reap()

    def place(self, probe, is_leader):
        """The holder's ZooKeeper leads, or does not: those who should not have the address
        are stopped for a while."""
        holder = probe.wait_holder()
        leader = wait_for(self.site.leader, 30, "one leader", 0.05)
        if (holder == leader) == is_leader:
            return holder
        away = [m for m in self.site.machines.values() if (m.name == leader) != is_leader]
        for m in away:
            self.stop(m)
        holder = probe.wait_holder(20, other_than=holder)
        for m in away:
            m.start_muster()
        self.wait_settled(probe)
        if (self.site.leader() == holder) != is_leader:
            raise Failed(f"{holder} holds the address, {self.site.leader()} leads")
        return holder


def judge(result, limit):
    wrong = [result.problem] if result.problem else []
    if result.failover is not None and result.failover > limit:
        wrong.append(f"another machine answered after {result.failover:.2f} s, "
                     f"more than {limit:g} s")
    if result.doubles:
        wrong.append(f"two machines answered: {result.doubles} answers in "
                     f"{result.double_time * 1000:.0f} ms")
    if result.late:
        wrong.append(f"{result.late} answers after {TRUST:g} s")
    if wrong:
        raise Failed("; ".join(wrong))
    return f"{result.failover:.2f} s"


def holder_breaks(system, probe, fault, leads):
    m = system.site[system.place(probe, leads)]
    # What breaks the leader as well costs an election; what is only cut off is missed late.
    takes_server = fault == "power off" or fault.startswith("cut")
    limit = FAILOVER
    if leads and takes_server:
        limit += ELECTION + (SYNC_LIMIT * TICK if fault.startswith("cut") else 0)
    probe_limit = TRUST + LATE_SLACK
    result = trial(system, probe, fault, m, max(probe_limit, 0), True)
    return judge(result, limit)


def leader_breaks(system, probe, how):
    """The server that leads, not the holder's machine: whoever holds then, nobody doubles."""
    site = system.site
    m = site[wait_for(site.leader, 30, "one leader", 0.05)]
    probe.read()
    begin = time.monotonic()
    probe.forget(begin - 1)
    if how == "kill -9":
        m.end("java")
    elif how == "cut":
        m.cut()
    else:  # shorter than it takes the others to miss it: it wakes up and finds sessions late
        for _ in range(3):
            for number in (signal.SIGSTOP, signal.SIGCONT):
                for p in m.pids("java"):
                    os.kill(p, number)
                time.sleep(PAUSE)  # ok: how long it is paused, and goes on
    limit = FAILOVER + ELECTION + (SYNC_LIMIT * TICK if how == "cut" else 0)
    while time.monotonic() < begin + limit:
        time.sleep(0.05)  # ok: the whole stretch is looked at
    if how != "pause":
        others = [o for o in site.machines.values() if o is not m]
        wait_for(lambda: any(o.mode() == "leader" for o in others), 20, "another leader", 0.05)
    holder = probe.wait_holder(10)
    if how == "kill -9":
        system.start_zookeeper(m)
    elif how == "cut":
        m.uncut()
    system.wait_settled(probe)
    end = time.monotonic() - 0.3
    doubles, gap = probe.doubles(begin, end), probe.longest_gap(begin, end)
    if doubles:
        raise Failed(f"two machines answered: {len(doubles)} answers")
    if gap > limit + (PAUSE if how == "pause" else 0):
        raise Failed(f"no answer for {gap:.2f} s, more than {limit:g} s")
    return f"{holder} has it, no answer for {gap:.2f} s"


def quorum_is_lost(system, probe):
    """Two servers of three: the address goes, the pools stay; and all comes back."""
    site = system.site
    probe.wait_holder()
    probe.read()
    begin = time.monotonic()
    probe.forget(begin - 1)
    victims = list(site.machines.values())[1:]
    for m in victims:
        m.end("java")
    lost = time.monotonic()
    bound = lost + TRUST + LATE_SLACK
    while time.monotonic() < bound + 2:
        time.sleep(0.05)  # ok: the whole stretch is looked at
    probe.read()
    late = [a for n in site.machines for a in probe.late(n, bound, time.monotonic())]
    if late:
        raise Failed(f"{len(late)} answers after {TRUST:g} s without a quorum")
    for m in site.machines.values():
        code, body = http_get(site.probes["client"][0], m.address, 80, "/", 2.0)
        if code != 200:
            raise Failed(f"the balancer of {m.name} answers {code} {body}")
        status = m.status()
        if status is None or status["exit"] != 3 and status["exit"] != 4:
            raise Failed(f"{m.name} says {status and status['verdict']}")
    said = site["a"].muster("status", check=False)
    if "the ensemble answers" not in said or "NOT connected" not in said:
        raise Failed(f"status says: {said}")
    for m in victims:
        system.start_zookeeper(m)
    system.wait_settled(probe)
    if probe.doubles(begin, time.monotonic() - 0.3):
        raise Failed("two machines answered")
    return f"whole again {time.monotonic() - lost:.1f} s later"


def leaves_well(system, probe):
    """SIGTERM: the address is handed over, not lost; and nobody waits for the session's end."""
    holder = probe.wait_holder()
    m = system.site[holder]
    time.sleep(TRUST)  # ok: who has only just connected takes nothing yet
    begin = time.monotonic()
    probe.read()
    probe.forget(begin - 1)
    system.stop(m)
    probe.wait_holder(10, other_than=holder)
    gap = probe.longest_gap(begin, time.monotonic())
    m.start_muster()
    system.wait_settled(probe)
    if gap > TRUST or probe.doubles(begin, time.monotonic() - 0.3):
        raise Failed(f"no answer for {gap:.2f} s, or two machines answered")
    return f"no answer for {gap:.2f} s"


# ---- the commands ----

def status_says(system):
    m = system.site["a"]
    wait_ok(system.site)
    said = json.loads(expect(ask(m.ns, "status", "--json"), 0).out)
    e = said["ensemble"]
    if not (e["connected"] and e["chroot"] == CHROOT and e["server"].endswith(f":{PORT_ZK}") and
            e["session"] != "0x0" and e["zxid"] > 0 and e["timeout_ms"] == SESSION * 1000 and
            said["quorum"] is None and len(said["machines"]) == 3):
        raise Failed(f"status says {said}")
    expect(ask(m.ns, "status"), 0, "OK", "ensemble: ", CHROOT, "connected for")
    if "muster_agent_addresses_held" not in http_get(m.ns, m.address, 2180, "/metrics")[1]:
        raise Failed("no metrics")
    return said["verdict"]


def chroot_and_credentials(system):
    m = system.site["b"]
    plain = f"{m.address}:{PORT_ZK}"

    def tree(code, *words, says=(), **how):
        return expect(system.tree(m, *words, **how), code, *says)
    if tree(0, "ls", "/").out.split() != ["muster", "services"]:
        raise Failed("the chroot is not the root")
    if "shop" not in tree(0, "ls", "/sites", server=plain).out:
        raise Failed("the chroot is nowhere")
    tree(0, "create", "-p", "/deep/er/x", "1", says=("/deep/er/x",))
    tree(0, "get", CHROOT + "/deep/er/x", server=plain, says=("1",))
    tree(0, "create", "-s", "/deep/n-", "1", says=("/deep/n-000000000",))
    # Others may read what is ours, and nothing else.
    tree(0, "get", "/deep/er/x", auth=False, says=("1",))
    for words in (("set", "/deep/er/x", "2"), ("delete", "/deep/er/x"),
                  ("create", "/deep/er/y"), ("set", "/muster/site", "x"),
                  ("delete", f"/muster/addresses/{system.site.vip}")):
        tree(6, *words, auth=False, says=("access list", "--auth-file"))
    wrong = system.write("wrong", "digest:site:not-the-secret\n")
    expect(ask(m.ns, "set", "/deep/er/x", "2", "--server", plain + CHROOT, "--auth-file",
               wrong), 6, "access list")
    tree(0, "set", "/deep/er/x", "2")
    tree(0, "delete", "-r", "--yes", "/deep")
    return "read by all, written by us"


def bad_credentials(system):
    m = system.site["b"]
    server = f"{m.address}:{PORT_ZK}"

    def refused(code, name, text, *says, mode=0o600):
        expect(ask(m.ns, "ls", "/", "--server", server, "--auth-file",
                   system.write(name, text, mode)), code, *says)
    refused(6, "open", "digest:a:b\n", "others", "chmod 600", mode=0o644)
    refused(2, "empty", "", "no credentials", "digest:")
    refused(2, "two", "digest:a:b\ndigest:c:d\n", "no credentials")
    refused(6, "scheme", "nosuch:a:b\n", "refuses our credentials")
    expect(ask(m.ns, "ls", "/", "--server", server, "--auth-file", "/no/such/file"), 1,
           "/no/such/file")
    expect(ask(m.ns, "ls", "/", "--server", server + "/a//b"), 2, "no path")
    expect(ask(m.ns, "up", "--ensemble", server, "--data", m.data + "-x"), 2, "--address")
    return ""


def watch_in_chroot(system):
    m = system.site["c"]
    where = f"{m.address}:{PORT_ZK}{CHROOT}"
    env = {"MUSTER_AUTH_FILE": system.auth}
    expect(system.tree(m, "create", "/seen"), 0)
    with started(m.ns, "watch", "-r", "/seen", "--server", where, env=env) as w:
        w.wait_says("Watching /seen", 10)
        expect(system.tree(m, "create", "/seen/x"), 0)
        w.wait_says("/seen/x", 10)
        if CHROOT in w.out():
            raise Failed(f"it names the chroot: {w.out()}")
        w.end(signal.SIGINT)
    expect(system.tree(m, "delete", "-r", "--yes", "/seen"), 0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--keep", action="store_true", help="keep the logs")
    options = parser.parse_args()
    report = Report("ensemble: ")
    site = Site("mte", f"/tmp/muster-ensemble-{os.getpid()}", probes=("client", "watch"))
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(130))
    system, probe = OnZooKeeper(site), Probe(site)

    def start():
        site.open()
        system.form()
        probe.start()
        system.wait_settled(probe)

    tests = [("status and metrics", lambda: status_says(system)),
             ("chroot and credentials", lambda: chroot_and_credentials(system)),
             ("credentials that are none", lambda: bad_credentials(system)),
             ("a watch in the chroot", lambda: watch_in_chroot(system)),
             ("SIGTERM to the holder", lambda: leaves_well(system, probe))]
    for fault in ("power off", "kill -9", "freeze", "cut"):
        tests.append((f"{fault}, the holder", lambda f=fault: holder_breaks(
            system, probe, f, False)))
    for fault in ("power off", "cut"):
        tests.append((f"{fault}, the holder whose server leads", lambda f=fault: holder_breaks(
            system, probe, f, True)))
    for how in ("kill -9", "cut", "pause"):
        tests.append((f"{how}, ZooKeeper's leader", lambda h=how: leader_breaks(
            system, probe, h)))
    tests.append(("the quorum is lost", lambda: quorum_is_lost(system, probe)))
    try:
        if report.run("three machines on three ZooKeeper servers", start):
            for name, test in tests:
                for i in range(options.trials):
                    if options.only in name:
                        report.run(name + (f", trial {i + 1}" if i else ""), test)
            report.stop_well(site)
    finally:
        for m in site.machines.values():
            print(f"--- {m.name}\n{m.log_tail(lines=40 if report.failed else 3)}")
        site.close()
        if not options.keep:
            site.remove_files()
    report.end()


if __name__ == "__main__":
    main()
