#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./dev chaos: breaks a site of real processes for as long as wanted, and checks what it promised.

    chaos.py [--minutes N] [--seed N] [--machines 3|4|5] [--only KIND,...] [--out DIR]
             [--keep-going] [--short]

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
from bed import CHECKER, Bed, Failed, clean_up, missing_part  # noqa: E402
from sight import Sight  # noqa: E402
from witnesses import Witnesses  # noqa: E402

TOP = os.path.dirname(os.path.dirname(HERE))
SITE_ROUNDS = 30  # then another site is founded, of another size
CALM_S = 3.0  # after all is right: clients go on so long without a fault
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Growth that a leak of a round would soon pass.
MEMORY_MAX_KB = 512 * 1024
FILES_MAX = 600


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


class Campaign:
    def __init__(self, options):
        self.options = options
        self.out = options.out
        self.dir = None
        self.kept = []
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
        r = subprocess.run([CHECKER, *files], capture_output=True, text=True, timeout=600,
                           check=False)
        if r.returncode != 0:
            wrong.append(f"tool_history, code {r.returncode}: {(r.stdout + r.stderr)[-2000:]}")
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
        """Site after site, each for some rounds. What was wrong, all of it."""
        every, sites = [], 0
        while not self.is_over() and not self.is_enough(every):
            sites += 1
            wrong = self.site(sites)
            self.keep(wrong)
            every += wrong
            self.write(every)
        self.end(every)
        return every

    def is_enough(self, wrong):
        return len(self.kept) > (3 if self.options.keep_going else 0) or \
            (bool(wrong) and not self.options.keep_going)

    def site(self, number):
        """One site, from its founding to its end. What was wrong; nothing of it is left."""
        self.dir = os.path.join(self.out, f"now-{os.getpid()}")
        shutil.rmtree(self.dir, ignore_errors=True)
        bed = Bed(os.path.join(self.dir, "site"), self.machines(number))
        bed.mutant = self.options.mutant
        sight, witnesses = Sight(bed), None
        wrong = []
        try:
            bed.begin()
            witnesses = Witnesses(bed, f"{self.options.seed}{number:03d}")
            witnesses.start()
            took = bed.wait_right()
            say(f"seed {self.options.seed}, site {number}: {len(bed.machines)} machines, "
                f"namespaces {bed.prefix}-*, right after {took:.1f} s")
            rounds = 0
            while not wrong and rounds < SITE_ROUNDS and (rounds == 0 or not self.is_over()):
                rounds += 1
                wrong = self.one_of(bed, sight, witnesses)
                self.write(wrong)
            if not wrong:
                wrong = bed.stop_well()
        except (Failed, OSError, subprocess.SubprocessError, ValueError) as e:
            wrong.append(f"{type(e).__name__}: {e}")
        finally:
            with unstoppable():  # nothing is left half removed
                for part in (sight, witnesses):
                    with contextlib.suppress(Exception):
                        part.stop()
                wrong += bed.deaths()
                bed.is_kept = bool(wrong)
                bed.close()
                for name, n in bed.counts.items():
                    self.sum["events"][name] += n
        return wrong

    def one_of(self, bed, sight, witnesses):
        """The next round, and a line about it."""
        number = self.sum["rounds"] = self.sum["rounds"] + 1
        begun = time.monotonic()
        n = sum(self.sum["faults"].values())
        wrong = self.round(bed, sight, witnesses, number)
        memory = max(m.memory_kb()[0] for m in bed.machines.values())
        say(f"round {number}: {sum(self.sum['faults'].values()) - n} faults, "
            f"{self.sum['operations']['ok']} operations so far, {memory} KiB, "
            f"{time.monotonic() - begun:.0f} s: {'WRONG' if wrong else 'right'}")
        if not wrong:
            shutil.rmtree(os.path.join(self.dir, f"round-{number}"))
        return wrong

    def keep(self, wrong):
        """What a failure left, for who looks for its cause."""
        if wrong:
            kept = os.path.join(self.out, f"failed-{self.options.seed}-{self.sum['rounds']}-"
                                f"{time.strftime('%H%M%S')}")
            os.rename(self.dir, kept)
            with open(os.path.join(kept, "wrong.txt"), "w", encoding="utf-8") as f:
                f.write("\n".join(wrong) + "\n")
            self.kept.append(f"{kept} (round-{self.sum['rounds']}/: schedule, histories, "
                             "probers; site/: logs and data of the machines)")
            for w in wrong[:5]:
                say(f"WRONG: {w}")
        shutil.rmtree(self.dir, ignore_errors=True)

    def machines(self, number):
        return self.options.machines or random.Random(
            f"{self.options.seed}/site/{number}").choice((3, 3, 4, 5))

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
        lines += [f"kept: {k}" for k in self.kept]
        lines.append(f"verdict: {s['verdict']}")
        with open(os.path.join(self.out, "summary.txt"), "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")
        print("\n".join(lines), flush=True)


@contextlib.contextmanager
def unstoppable():
    before = {s: signal.signal(s, signal.SIG_IGN) for s in STOPS}
    try:
        yield
    finally:
        for s, how in before.items():
            signal.signal(s, how)


def interrupt(number, frame):
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(prog="./dev chaos")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--machines", type=int, choices=(3, 4, 5))
    parser.add_argument("--only", default="", help="kinds of faults: " + ", ".join(faults.KINDS))
    parser.add_argument("--mutant", help="a planted fault; ./dev chaos builds it")
    parser.add_argument("--keep-going", action="store_true",
                        help="after a failure found another site, up to three times")
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
    missing = missing_part()
    if missing:
        print(f"chaos: {missing}", file=sys.stderr)
        return 1
    os.makedirs(options.out, exist_ok=True)
    clean_up(say)
    for s in STOPS:
        signal.signal(s, interrupt)
    campaign = Campaign(options)
    try:
        wrong = campaign.run()
    except KeyboardInterrupt:
        if campaign.dir:
            shutil.rmtree(campaign.dir, ignore_errors=True)
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
