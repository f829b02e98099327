#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./dev bench ensemble: the leader is killed under load; muster, Debian's ZooKeeper and etcd.

    ensemble.py [--trials N] [--quick] [--muster-only] [--before PROGRAM] [--keep FILE] [--no-write]

Three servers each, on loopback, default settings; the systems take turns, each with the machine
to itself. 30 sessions, spread over the servers, write a znode of their own,
one write in flight each. kill -9 of the leader; what is measured from then on:

  next     until a write is acknowledged again (the end of the longest time without one
           that had begun by 30 ms after it)
  all      until every session has had a write acknowledged after that
  missing  sessions that read an older value than was acknowledged to them: must be 0

--before: another muster, for a comparison. --quick: 2 trials instead of 20. Writes
docs/measured/ensemble.json and the table of docs/performance-sizes.md unless it is --quick or
--no-write. Exit code 1: a write was missing.
"""
import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from peers import TOP, Ensemble, is_there, version, wait_for  # noqa: E402
from sizes_page import write_ensemble  # noqa: E402

TOOL = os.path.join(TOP, "build", "tool_ensemble")
RESULTS = os.path.join(TOP, "docs", "measured", "ensemble.json")
SESSIONS = 30
WARM_S = 1.0
AFTER_S = 0.5   # of writes after the gap, so that it is one
LIMIT_S = 60
TRIALS_EACH = 2  # of one ensemble, before it is the next system's turn
BEGAN = time.monotonic()


def say(text):
    print(f"{time.monotonic() - BEGAN:6.0f} s  {text}", file=sys.stderr, flush=True)


class Writers:
    def __init__(self, ensemble):
        protocol = "etcd" if ensemble.kind == "etcd" else "zookeeper"
        self.process = subprocess.Popen(
            [TOOL, protocol, str(SESSIONS), *(str(s.client) for s in ensemble.servers)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, line):
        self.tell(line)
        text = self.process.stdout.readline()
        if not text:
            raise SystemExit("bench: the writers failed; see above")
        return json.loads(text)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def is_whole(ensemble):
    modes = [s.mode() for s in ensemble.servers]
    return modes.count("leader") == 1 and modes.count("follower") == len(modes) - 1


def trial(ensemble, writers):
    """What came after kill -9 of the leader, in ms."""
    wait_for(lambda: is_whole(ensemble), LIMIT_S, lambda: f"{ensemble.kind} is whole again")
    wait_for(lambda: writers.ask("report")["all_ns"], LIMIT_S, lambda: "all sessions write")
    time.sleep(WARM_S)
    leader = ensemble.leader()
    writers.tell("mark")
    time.sleep(WARM_S)
    before = writers.ask("report")
    writers.tell("kill")
    killed_ns = time.monotonic_ns()
    leader.end()

    def is_over():
        r = writers.ask("report")
        return r if r["gap_end_ns"] > killed_ns and r["all_ns"] and \
            time.monotonic_ns() > r["gap_end_ns"] + AFTER_S * 1e9 else None
    r = wait_for(is_over, LIMIT_S, lambda: f"writes after the leader of {ensemble.kind} died")
    leader.start()
    return {"next_ms": (r["gap_end_ns"] - killed_ns) / 1e6,
            "all_ms": (r["all_ns"] - killed_ns) / 1e6, "errors": r["errors"], "lost": r["lost"],
            "rate": before["acks"] / WARM_S,
            "quiet_gap_ms": (before["gap_end_ns"] - before["gap_begin_ns"]) / 1e6}


def visit(name, kind, program, trials):
    """A fresh ensemble: some trials, and what its writers find in the end."""
    top = tempfile.mkdtemp(prefix="muster-ensemble-")
    ensemble = Ensemble(kind, top, program=program)
    writers = None
    results = []
    try:
        ensemble.start()
        writers = Writers(ensemble)
        for _ in range(trials):
            r = trial(ensemble, writers)
            results.append(r)
            say(f"{name:10} next {r['next_ms']:.0f} ms, all {r['all_ms']:.0f} ms; before "
                f"{r['rate']:.0f} writes/s")
        wait_for(lambda: is_whole(ensemble), LIMIT_S, lambda: f"{kind} is whole again")
        return results, writers.ask("check")
    finally:
        if writers is not None:
            writers.end()
        ensemble.end()
        shutil.rmtree(top)


def run(systems, trials):
    results = {name: [] for name in systems}
    checks = {name: {"acknowledged": 0, "missing": 0} for name in systems}
    for n in range(0, trials, TRIALS_EACH):
        say(f"trial {n + 1} of {trials}")
        for name, (kind, program) in systems.items():
            r, check = visit(name, kind, program, min(TRIALS_EACH, trials - n))
            results[name] += r
            for field, value in check.items():
                checks[name][field] += value
    return results, checks


def summary(trials):
    next_ms = [t["next_ms"] for t in trials]
    all_ms = [t["all_ms"] for t in trials]
    return {"trials": len(trials), "next_median_ms": statistics.median(next_ms),
            "next_worst_ms": max(next_ms), "next_least_ms": min(next_ms),
            "all_median_ms": statistics.median(all_ms), "all_worst_ms": max(all_ms),
            "rate": statistics.median(t["rate"] for t in trials),
            "lost_sessions": sum(t["lost"] for t in trials)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--muster-only", action="store_true")
    parser.add_argument("--before", help="another build of muster")
    parser.add_argument("--keep", help="write the figures there, too")
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    trials = 2 if options.quick else options.trials
    systems = {"muster": ("muster", None)}
    if options.before:
        systems["before"] = ("muster", options.before)
    if not options.muster_only:
        systems.update({k: (k, None) for k in ("zookeeper", "etcd") if is_there(k)})
    load_before = os.getloadavg()[0]
    results, checks = run(systems, trials)
    kept = {"machine": {"cores": os.cpu_count(), "kernel": platform.release(),
                        "load_before": load_before,
                        "versions": {k: version(k) for k in ("muster", "zookeeper", "etcd")
                                     if is_there(k)},
                        "seconds": round(time.monotonic() - BEGAN)},
            "summary": {name: {**summary(t), **checks[name]} for name, t in results.items()},
            "trials": results}
    for name, s in kept["summary"].items():
        print(f"{name:10} next {s['next_least_ms']:.0f} / {s['next_median_ms']:.0f} / "
              f"{s['next_worst_ms']:.0f} ms (least, median, worst of {s['trials']}), all "
              f"{s['all_median_ms']:.0f} / {s['all_worst_ms']:.0f}; missing {s['missing']} of "
              f"{s['acknowledged']}")
    if options.keep:
        with open(options.keep, "w", encoding="utf-8") as f:
            json.dump(kept, f, indent=1)
    if not (options.quick or options.no_write):
        write_ensemble(RESULTS, kept)
    for name, c in checks.items():
        if options.quick:
            print(f"{'FAILED' if c['missing'] else 'ok'} ensemble: {name}, leader killed, "
                  f"{c['missing']} of {c['acknowledged']} acknowledged writes missing")
    sys.exit(1 if any(c["missing"] for c in checks.values()) else 0)


if __name__ == "__main__":
    main()
