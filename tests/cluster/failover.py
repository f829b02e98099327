#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Real processes, real faults: a prober, writers, and one machine after another that fails.

    failover.py [--lease MS] [--trials N] [--only WORD]

For each fault, on a holder that does not lead, on the holder that leads, and on another
machine: the address answers again in time (lease + 1 s), no two machines answer for it, none
answers after its lease, and no acknowledged write is missing. Then all three are killed, and
all three are stopped in good order.
"""
import argparse
import os
import random
import signal
import sys
import time

from cluster import Failed, Site, wait_for
from probe import Probe
from report import Report
from trial import FAULTS, Muster, trial
from writers import Writers

ROLES = ("the holder", "the holder that leads", "another machine")
# Beyond the lease: what a scheduler on a busy machine may delay the kernel's own timers by.
LATE_SLACK = 0.05


def judge(result, lease, is_holder):
    wrong = []
    if result.problem:
        wrong.append(result.problem)
    if is_holder and result.failover is not None and result.failover > lease + 1:
        wrong.append(f"another machine answered after {result.failover:.2f} s, "
                     f"more than {lease + 1:g} s")
    if not is_holder and result.gap > 0.5:
        wrong.append(f"no answer for {result.gap:.2f} s though the holder lived")
    if result.doubles:
        wrong.append(f"two machines answered: {result.doubles} answers in "
                     f"{result.double_time * 1000:.0f} ms")
    if result.late:
        wrong.append(f"{result.late} answers after the lease")
    if result.writes:
        wrong += writes_wrong(result.writes)
    return "; ".join(wrong)


def writes_wrong(w):
    wrong = []
    if w["problem"]:
        wrong.append(w["problem"])
    if w["missing"]:
        wrong.append(f"acknowledged writes are missing: {', '.join(w['missing'])}")
    if w["wrong"]:
        wrong.append(f"written values differ: {', '.join(w['wrong'])}")
    if w["answered"] < 10 and not w["problem"]:
        wrong.append(f"only {w['answered']} writes were answered: this shows nothing")
    return wrong


def one(system, probe, writers, fault, role):
    site = system.site
    if role == "another machine":
        holder = probe.wait_holder()
        m = site[next(n for n in site.machines if n != holder)]
    else:
        m = site[system.place(probe, role == "the holder that leads")]
    is_holder = role != "another machine"
    result = trial(system, probe, fault, m, system.lease + LATE_SLACK, is_holder, writers)
    wrong = judge(result, system.lease, is_holder)
    if wrong:
        raise Failed(wrong)
    return (f"{result.failover:.2f} s, " if is_holder else "") + \
        f"{result.writes['answered']} writes"


def all_of_them(system, probe, writers, how):
    """Every muster ends at once; what was acknowledged is there after a restart."""
    site = system.site
    writers.begin()
    wait_for(lambda: probe.holder(), 10, "a holder")
    time.sleep(0.5)  # ok: so that there is something to lose
    fault = time.monotonic()
    for m in site.machines.values():
        for p in m.pids("muster"):
            os.kill(p, how)
    for m in site.machines.values():
        m.end("muster", how, 20)
    while time.monotonic() < fault + system.lease + 1:
        time.sleep(0.05)
    probe.read()
    late = [a for n in site.machines
            for a in probe.late(n, fault + system.lease + LATE_SLACK, time.monotonic())]
    for m in site.machines.values():
        m.start_muster()
    system.wait_settled(probe)
    wrong = writes_wrong(writers.verify())
    if late:
        wrong.append(f"{len(late)} answers after the lease")
    if wrong:
        raise Failed("; ".join(wrong))
    return f"whole again {time.monotonic() - fault - system.lease - 1:.1f} s after the start"


def random_kills(system, probe, writers, count=20, seed=1):
    """kill -9 of one after another, also while it starts; each time it must come back."""
    chance = random.Random(seed)
    writers.begin()
    for i in range(count):
        m = system.site[chance.choice(sorted(system.site.machines))]
        m.kill_daemon()
        m.start_muster()
        time.sleep(chance.choice((0, 0.03, 0.06, 0.1, 0.2, 0.5)))  # ok: a moment to be killed at
        m.kill_daemon()
        m.start_muster()
        m.wait_ready(15)
    system.wait_settled(probe)
    wrong = writes_wrong(writers.verify())
    if wrong:
        raise Failed("; ".join(wrong))
    return f"{2 * count} kills"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lease", type=int, default=2000)
    parser.add_argument("--trials", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--keep", action="store_true", help="keep the logs")
    options = parser.parse_args()
    report = Report("cluster: ")
    site = Site("mtf", f"/tmp/muster-failover-{os.getpid()}",
                probes=("client", "watch", "write"))
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(130))
    system, probe, writers = Muster(site, options.lease), Probe(site), Writers(site)

    def start():
        site.open()
        system.form()
        probe.start()
        writers.start()
        system.wait_settled(probe)
    try:
        if report.run("a site of three starts and holds its address", start):
            for fault in FAULTS:
                for role in ROLES:
                    for i in range(options.trials):
                        name = f"{fault}, {role}" + (f", trial {i + 1}" if i else "")
                        if options.only in name:
                            report.run(name, lambda f=fault, r=role: one(
                                system, probe, writers, f, r))
            for name, how in (("kill -9 of all three", signal.SIGKILL),
                              ("a restart of all three", signal.SIGTERM)):
                if options.only in name:
                    report.run(name, lambda h=how: all_of_them(system, probe, writers, h))
            if options.only in "kill -9 at random moments":
                report.run("kill -9 at random moments", lambda: random_kills(
                    system, probe, writers))
            report.stop_well(site)
    finally:
        writers.stop()
        for m in site.machines.values():
            print(f"--- {m.name}\n{m.log_tail(lines=40 if report.failed else 3)}")
        site.close()
        if not options.keep:
            site.remove_files()
    report.end()


if __name__ == "__main__":
    main()
