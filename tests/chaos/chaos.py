#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./dev chaos: breaks a site of real processes for as long as wanted, and checks what it promised.

    chaos.py [--minutes N] [--seed N] [--machines 3|4|5] [--only KIND,...] [--out DIR] [--short]

Rounds: faults drawn from the seed, then none; then everything must come right by itself, and
the history of the round's clients must be right. docs/chaos.md says what is done and checked.
The seed draws the schedule, not what the kernel makes of it: a round repeats the same faults,
not the same interleaving. So what a failure leaves is kept: histories, logs, schedule, what the
probers saw. Exit code 0: nothing was wrong; 1: something was.
"""
import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import faults  # noqa: E402
import history  # noqa: E402
from bed import (ADDRESSES, BUILD, LEASE_S, PATIENCE_S, Bed, Failed, run, wait_for)  # noqa: E402
from sight import Sight  # noqa: E402
from witnesses import Witnesses  # noqa: E402

TOP = os.path.dirname(os.path.dirname(HERE))
CALM_S = 3.0  # after all is right: clients go on so long without a fault
CHECKER = os.path.join(BUILD, "tool_history")
# Growth that a leak of a round would soon pass.
MEMORY_MAX_KB = 512 * 1024
FILES_MAX = 600


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


class Campaign:
    def __init__(self, options):
        self.options = options
        self.out = options.out
        self.dir = os.path.join(self.out, "now")
        self.begun = time.monotonic()
        self.sum = {
            "seed": options.seed, "rounds": 0, "faults": collections.Counter(),
            "operations": collections.Counter(), "errors": collections.Counter(),
            "longest_write_gap_s": 0.0, "longest_address_gap_s": 0.0,
            "longest_recovery_s": 0.0, "checks": collections.Counter(), "machines": {},
            "memory_kb": {}, "events": collections.Counter(), "failed": [],
        }

    # ---- a round ----

    def round(self, bed, sight, witnesses, number):
        """What was wrong in it, a list of texts."""
        schedule = faults.draw(self.options.seed, number, list(bed.machines),
                               self.options.only)
        where = os.path.join(self.dir, f"round-{number}")
        os.makedirs(where, exist_ok=True)
        with open(os.path.join(where, "schedule.jsonl"), "w", encoding="utf-8") as f:
            for fault in schedule:
                f.write(json.dumps(fault) + "\n")
        begin_ns = time.monotonic_ns()
        sight.begin(where)
        witnesses.begin(f"/h{number}", where)
        self.play(bed, schedule, os.path.join(where, "played.txt"))
        wrong = []
        try:
            took = bed.wait_right()
            self.most("longest_recovery_s", took)
            self.sum["checks"]["came right by itself"] += 1
        except Failed as e:
            wrong.append(str(e))
        calm_ns = time.monotonic_ns()
        end = time.monotonic() + CALM_S
        while time.monotonic() < end:
            bed.look()
            time.sleep(0.05)
        calm_end_ns = time.monotonic_ns()
        wrong += bed.deaths()
        wrong += [f"{m.name}: {w}" for m in bed.machines.values() for w in m.sanitizer_words()]
        witnesses.rest()
        wrong += witnesses.verify()
        wrong += witnesses.end(self.sum)
        wrong += self.check_history(where, begin_ns, calm_ns, calm_end_ns)
        gaps, doubles = sight.end()
        for gap in gaps:
            self.most("longest_address_gap_s", gap)
        wrong += doubles
        self.sum["checks"]["addresses watched"] += 1
        for m in bed.machines.values():
            kb, files = m.memory_kb()
            self.sum["memory_kb"].setdefault(m.name, []).append(kb)
            if kb > MEMORY_MAX_KB or files > FILES_MAX:
                wrong.append(f"muster on {m.name} has {kb} KiB and {files} open files")
        self.sum["events"] = bed.counts
        return wrong

    def most(self, key, value):
        self.sum[key] = max(self.sum[key], round(value, 2))

    def play(self, bed, schedule, log):
        """Begins and ends faults at their times (later, when the machine is slow)."""
        todo = [(f["at"], True, i, f) for i, f in enumerate(schedule)]
        todo += [(f["at"] + f["for"], False, i, f) for i, f in enumerate(schedule)]
        todo.sort(key=lambda t: (t[0], not t[1], t[2]))
        start = time.monotonic()
        open_ones = []
        with open(log, "w", encoding="utf-8") as out:
            try:
                for at, is_begin, i, f in todo:
                    while time.monotonic() - start < at:
                        bed.look()
                        time.sleep(min(0.05, max(0.0, at - (time.monotonic() - start))))
                    out.write(f"{time.monotonic():.3f} {'begin' if is_begin else 'end'} {i} "
                              f"{faults.text_of(f)}\n")
                    out.flush()
                    if is_begin:
                        self.sum["faults"][f["kind"]] += 1
                        open_ones.append(f)
                        faults.begin(bed, f)
                    else:
                        open_ones.remove(f)
                        faults.end(bed, f)
            except BaseException:
                # So that what is judged is not the fault that could not be undone.
                for f in reversed(open_ones):
                    with contextlib.suppress(Exception):
                        faults.end(bed, f)
                raise

    def check_history(self, where, begin_ns, calm_ns, calm_end_ns):
        files = sorted(os.path.join(where, n) for n in os.listdir(where)
                       if n.startswith("history-"))
        ops, wrong = history.load(files)
        wrong += history.check(ops)
        self.sum["checks"]["histories by history.py"] += 1
        if os.access(CHECKER, os.X_OK):
            r = subprocess.run([CHECKER, *files], capture_output=True, text=True, timeout=600,
                               check=False)
            if r.returncode != 0:
                wrong.append(f"tool_history, code {r.returncode}: "
                             f"{(r.stdout + r.stderr)[-2000:]}")
            self.sum["checks"]["histories by tool_history"] += 1
        for op in ops:
            self.sum["operations"][op["type"]] += 1
            self.sum["operations"][f"{op['f']} {op['type']}"] += 1
        self.most("longest_write_gap_s", history.longest_gap_s(ops, begin_ns, calm_end_ns))
        calm = [op for op in ops if op["type"] == "ok" and calm_ns <= op["end"] <= calm_end_ns]
        if not calm:
            wrong.append(f"no operation was answered in {CALM_S:g} s without a fault")
        return wrong

    # ---- all of it ----

    def run(self):
        bed = Bed(os.path.join(self.dir, "site"), self.machines())
        sight, witnesses = Sight(bed), None
        wrong = []
        try:
            bed.begin(say)
            witnesses = Witnesses(bed, self.options.seed)
            witnesses.start()
            say(f"seed {self.options.seed}, {len(bed.machines)} machines, namespaces "
                f"{bed.prefix}-*: right after {bed.wait_right():.1f} s")
            number = 0
            while not wrong and (number == 0 or not self.is_over()):
                number += 1
                begun = time.monotonic()
                n = sum(self.sum["faults"].values())
                wrong = self.round(bed, sight, witnesses, number)
                self.sum["rounds"] = number
                say(f"round {number}: {sum(self.sum['faults'].values()) - n} faults, "
                    f"{self.sum['operations']['ok']} operations so far, "
                    f"{time.monotonic() - begun:.0f} s: {'WRONG' if wrong else 'right'}")
                if not wrong:
                    shutil.rmtree(os.path.join(self.dir, f"round-{number}"))
                self.write(wrong)
            if not wrong:
                wrong = bed.stop_well()
        except (Failed, OSError, subprocess.SubprocessError, ValueError) as e:
            wrong.append(f"{type(e).__name__}: {e}")
        finally:
            for s in (signal.SIGINT, signal.SIGTERM):
                signal.signal(s, signal.SIG_IGN)  # nothing is left half removed
            with contextlib.suppress(Exception):
                sight.stop()
            if witnesses:
                with contextlib.suppress(Exception):
                    witnesses.stop()
            bed.is_kept = bool(wrong)
            bed.close()
        self.end(wrong)
        return wrong

    def machines(self):
        return self.options.machines or random.Random(self.options.seed).choice((3, 3, 5))

    def is_over(self):
        return time.monotonic() - self.begun >= self.options.minutes * 60

    def write(self, wrong):
        self.sum["failed"] = wrong
        self.sum["verdict"] = "wrong" if wrong else "right"
        self.sum["minutes"] = round((time.monotonic() - self.begun) / 60, 1)
        with open(os.path.join(self.out, "summary.json"), "w", encoding="utf-8") as f:
            json.dump({**self.sum, "memory_kb": {
                k: {"first": v[0], "last": v[-1], "most": max(v)}
                for k, v in self.sum["memory_kb"].items()}}, f, indent=1)
            f.write("\n")

    def end(self, wrong):
        self.write(wrong)
        s = self.sum
        lines = [f"seed {s['seed']}, {s['rounds']} rounds in {s['minutes']} minutes",
                 "faults: " + ", ".join(f"{k} {n}" for k, n in sorted(s["faults"].items()))]
        ops = s["operations"]
        lines.append(f"operations: {ops['ok']} ok, {ops['fail']} refused, {ops['info']} unknown")
        lines.append("clients' errors: " + (", ".join(f"{k} {n}" for k, n in
                                                      sorted(s["errors"].items())) or "none"))
        lines.append(f"longest time without an acknowledged write: {s['longest_write_gap_s']} s "
                     "(all dead or cut at times)")
        lines.append(f"longest time without an answer for an address: "
                     f"{s['longest_address_gap_s']} s (likewise)")
        lines.append(f"longest recovery after the last fault: {s['longest_recovery_s']} s")
        lines.append("memory of muster, KiB (first, last, most): " + ", ".join(
            f"{k} {v[0]}, {v[-1]}, {max(v)}" for k, v in sorted(s["memory_kb"].items())))
        if s["events"]:
            lines.append("seen: " + ", ".join(f"{k} {n}" for k, n in s["events"].items()))
        lines.append("checks: " + ", ".join(f"{k} {n}" for k, n in sorted(s["checks"].items())))
        for w in wrong[:20]:
            lines.append(f"WRONG: {w}")
        if wrong:
            kept = os.path.join(self.out, f"failed-{s['seed']}-{time.strftime('%H%M%S')}")
            os.rename(self.dir, kept)
            lines.append(f"kept: {kept} (round-{s['rounds']}/: schedule, histories, probers; "
                         "site/: logs, data)")
        else:
            shutil.rmtree(self.dir, ignore_errors=True)
        lines.append(f"verdict: {s['verdict']}")
        with open(os.path.join(self.out, "summary.txt"), "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")
        print("\n".join(lines), flush=True)


def interrupt(number, frame):
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(prog="./dev chaos")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--machines", type=int, choices=(3, 4, 5))
    parser.add_argument("--only", default="", help="kinds of faults: " + ", ".join(faults.KINDS))
    parser.add_argument("--out", default=os.path.join(TOP, "build", "chaos"))
    parser.add_argument("--short", action="store_true", help="for ./dev test: a line of result")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = int.from_bytes(os.urandom(3), "big")
    options.only = [k for k in options.only.split(",") if k]
    unknown = [k for k in options.only if k not in faults.KINDS]
    if unknown:
        parser.error(f"no kind {', '.join(unknown)}; there are: {', '.join(faults.KINDS)}")
    if os.geteuid() != 0:
        print("chaos: needs root: the machines are network namespaces", file=sys.stderr)
        return 77
    os.makedirs(options.out, exist_ok=True)
    shutil.rmtree(os.path.join(options.out, "now"), ignore_errors=True)
    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, interrupt)
    campaign = Campaign(options)
    try:
        wrong = campaign.run()
    except KeyboardInterrupt:
        print("interrupted; everything was removed", file=sys.stderr)
        return 130
    if options.short:
        s = campaign.sum
        print(("FAILED" if wrong else "ok") + f" chaos: seed {s['seed']}, {s['rounds']} rounds, "
              f"{sum(s['faults'].values())} faults, {s['operations']['ok']} operations" +
              (f": {' | '.join(wrong[0].splitlines())}" if wrong else ""), flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
