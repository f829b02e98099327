#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./dev bench failover: muster and Debian's keepalived side by side, in the same namespaces.

    failover.py [--trials N] [--quick] [--only WORD] [--no-write]

Each fault hits the machine that holds the address, N times (ten). With muster there are two
cases: a holder that does not lead the ensemble, and one that does. What is measured:

  failover    from the fault to the first connection, begun after it, that another machine
              answers; connections begin every 5 ms
  double      trials in which two machines answered for the address at once, and how long
  late        trials in which the broken machine still answered later than a lease (for
              keepalived, which has none: 2 s) after the fault
  missing     acknowledged writes that were missing afterwards (muster)

--quick: two trials. Writes docs/failover.md unless --no-write or --only is given.
"""
import argparse
import os
import platform
import signal
import statistics
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tests", "cluster"))

from cluster import Failed, Site, note  # noqa: E402
from failover import LATE_SLACK, writes_wrong  # noqa: E402
from probe import Probe  # noqa: E402
from trial import FAULTS, Keepalived, Muster, trial  # noqa: E402
from writers import Writers  # noqa: E402

KEEPALIVED_BOUND = 2.0


class Row:
    def __init__(self, system, fault, role):
        self.system, self.fault, self.role = system, fault, role
        self.results = []
        self.broken = []  # trials that could not be judged, and why

    def times(self):
        return [r.failover for r in self.results if r.failover is not None]

    def cells(self):
        times = self.times()
        n = len(self.results)
        if times:
            time_text = (f"{min(times) * 1000:.0f} / {statistics.median(times) * 1000:.0f} / "
                         f"**{max(times) * 1000:.0f}**")
        else:
            time_text = "-"
        stayed = n - len(times)
        double = [r for r in self.results if r.doubles]
        late = [r for r in self.results if r.late]
        double_text = "0"
        if double:
            longest = max(r.double_time for r in double)
            double_text = f"**{len(double)} of {n}**, up to {longest * 1000:.0f} ms"
        late_text = f"**{len(late)} of {n}**" if late else "0"
        missing = "-"
        if self.results and self.results[0].writes:
            wrong = [w for r in self.results for w in writes_wrong(r.writes)]
            answered = sum(r.writes["answered"] for r in self.results)
            missing = f"**{'; '.join(wrong)}**" if wrong else f"0 of {answered}"
        if stayed:
            time_text += f" ({stayed} of {n}: the client met no other machine)"
        return [f"{self.fault}, {self.role}" if self.role else self.fault, str(n), time_text,
                double_text, late_text, missing]


def run_system(kind, argument, options, rows):
    site = Site("mtb", f"/tmp/muster-bench-{os.getpid()}", probes=("client", "watch", "write"))
    system, probe = kind(site, argument), Probe(site)
    is_muster = isinstance(system, Muster)
    writers = Writers(site) if is_muster else None
    bound = system.lease + LATE_SLACK if is_muster else KEEPALIVED_BOUND
    roles = (False, True) if is_muster else (None,)
    try:
        site.open()
        system.form()
        probe.start()
        if writers:
            writers.start()
        system.wait_settled(probe)
        for fault in FAULTS:
            for leads in roles:
                role = {None: "", False: "holder", True: "holder and leader"}[leads]
                row = Row(system.name, fault, role)
                if options.only and options.only not in f"{system.name} {fault} {role}":
                    continue
                rows.append(row)
                for _ in range(options.trials):
                    name = next(iter(site.machines))
                    if is_muster:
                        name = system.place(probe, leads)
                    row.results.append(trial(system, probe, fault, site[name], bound, True,
                                             writers))
                print(f"{system.name:28} " + "  ".join(row.cells()), flush=True)
    finally:
        if writers:
            writers.stop()
        site.close()
        site.remove_files()


HEAD = "| fault | trials | failover ms: min / median / **max** | two machines answered | " \
       "answered after {bound} | acknowledged writes missing |\n|---|---|---|---|---|---|\n"


def version_of(*words):
    try:
        out = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False)
        return (out.stdout or out.stderr).splitlines()[0].strip()
    except (OSError, subprocess.SubprocessError, IndexError):
        return "?"


def page(rows, trials):
    text = f"""# Failover, measured

Written by `./dev bench failover`. Three machines and a client, each a network namespace on one
bridge, on one computer ({os.cpu_count()} cores, Linux {platform.release()}); {trials} trials of
each fault, each on the machine that holds the address. The client opens a TCP connection to the
address every 5 ms, whatever became of the others; a tiny responder on each machine answers with
the machine's name. A second prober asks every machine for the address every 5 ms by its MAC
address, past every ARP cache, and everybody by ARP every 10 ms: so it sees when two machines
answer at once, which the client alone cannot.

- power off: every process of the machine is killed and its link goes down.
- kill -9: of muster alone (its HAProxy and the rest go on), or of all of keepalived.
- freeze: SIGSTOP to the same.
- cut: between this machine and the two others, in both directions or in one. The probers reach
  all three, as a client in the wrong place would.

"""
    for system in dict.fromkeys(r.system for r in rows):
        mine = [r for r in rows if r.system == system]
        bound = "2 s" if "keepalived" in system else "its lease"
        text += f"## {system}\n\n" + HEAD.format(bound=bound)
        text += "".join("| " + " | ".join(r.cells()) + " |\n" for r in mine) + "\n"
    text += f"""keepalived: {version_of("keepalived", "--version")}. Where it does not hear, its master
goes on sending advertisements, and nobody takes over: that is right for VRRP, which has no other
knowledge; that the old machine answers after 2 s is no fault there. Where two machines answered,
they did so until the fault was healed: how long is a matter of the trial, not of keepalived.
"""
    return text


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.trials = 2
    def interrupted(number, frame):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupted)
    begun = time.monotonic()
    rows = []
    status = 0
    try:
        for kind, argument in ((Muster, 2000), (Muster, 1000), (Keepalived, False),
                               (Keepalived, True)):
            if options.only and options.only.split()[0] not in f"{kind.__name__.lower()} {argument}":
                continue
            run_system(kind, argument, options, rows)
    except KeyboardInterrupt:
        status = 130
    except Failed as e:
        note(f"bench: {e}")
        status = 1
    print(f"{time.monotonic() - begun:.0f} s")
    if status == 0 and not options.only and not options.no_write:
        path = os.path.join(TOP, "docs", "failover.md")
        with open(path, "w", encoding="utf-8") as f:
            f.write(page(rows, options.trials))
        print("written: docs/failover.md")
    for r in rows:
        if not r.system.startswith("muster"):
            continue
        limit = (2 if "2 s" in r.system else 1) + 1
        if any(x.doubles or x.late or x.problem or (x.writes and writes_wrong(x.writes)) or
               (x.failover or 0) > limit for x in r.results):
            status = status or 1
    return status


if __name__ == "__main__":
    sys.exit(main())
