#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./dev fuzz --all: every target in turn, and a ledger of what was spent and found.

    all.py [--hours H] [--jobs N] [--turn S] [--into DIR] [--programs DIR] [TARGET...]

Goes on until H hours of processor time are spent over all targets (default 1; 0: until it is
stopped). Next is always the target that had the least for its weight. A turn is one process:
what it used (rusage), ran, covered and added is one line of DIR/ledger.jsonl. Its inputs are in
DIR/corpus/TARGET, what broke it in DIR/crashes, what it said in DIR/log/TARGET.txt. Ctrl-C ends
the turns that run and writes them down. Exit code 1: something broke a target.

    all.py --table LEDGER...     the sums of ledgers, a line a target, as docs/fuzzing.md has them
    all.py --keep DIR [TARGET...]  the least inputs of DIR/corpus that cover all, of at most
                                 KEEP_BYTES each, into tests/fuzz/corpus; what has another name
                                 than its hash there is a regression, and stays
"""
import argparse
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KEPT = os.path.join(TOP, "tests", "fuzz", "corpus")
# What strangers reach first, and what holds the most state, gets more. All others: 1.
WEIGHTS = {"fuzz_session": 4, "fuzz_clients": 4, "fuzz_ensemble": 4, "fuzz_transport": 2,
           "fuzz_member": 2, "fuzz_store": 3, "fuzz_tree": 3, "fuzz_client": 2, "fuzz_mirror": 2,
           "fuzz_agent": 3}
# Longer inputs are slower and find nothing that shorter ones do not. All others: 4096.
MAX_LEN = {"fuzz_store": 8192, "fuzz_zkdata": 8192, "fuzz_tree": 8192, "fuzz_site": 8192}
# Inputs that are tapes of choices: from the beginning of any length.
TAPES = ("fuzz_session", "fuzz_clients", "fuzz_transport", "fuzz_ensemble", "fuzz_agent",
         "fuzz_mirror")
UNIT_SECONDS = 20  # longer than this for one input is a hang
MEMORY_MB = 2048
MALLOC_MB = 256    # no input chooses an allocation larger than this
KEEP_BYTES = 1500  # of a kept input
CRASHES_MAX = 20   # of one target: more of them are mostly the same one again
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}


class Turn:
    """One process of libFuzzer."""

    def __init__(self, target, options):
        self.target = target
        self.into = options.into
        self.begun = time.time()
        corpus = os.path.join(options.into, "corpus", target)
        os.makedirs(corpus, exist_ok=True)
        kept = os.path.join(KEPT, target)
        self.before = self.crashes()
        words = [os.path.join(options.programs, target), f"-max_total_time={options.turn}",
                 f"-max_len={MAX_LEN.get(target, 4096)}", f"-timeout={UNIT_SECONDS}",
                 f"-rss_limit_mb={MEMORY_MB}", f"-malloc_limit_mb={MALLOC_MB}", "-detect_leaks=1",
                 "-print_final_stats=1",
                 f"-artifact_prefix={os.path.join(options.into, 'crashes', target)}-", corpus]
        words[1:1] = ["-len_control=0"] if target in TAPES else []
        words += [kept] if os.path.isdir(kept) else []
        self.log = os.path.join(options.into, "log", f"{target}.txt")
        self.pid = os.fork()
        if self.pid == 0:
            try:
                out = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(out, 1)
                os.dup2(out, 2)
                os.setsid()  # Ctrl-C is for us: we end it, and then write it down
                os.chdir(options.into)
                os.execve(words[0], words, {**os.environ, **SANITIZERS})
            finally:
                os._exit(127)

    def crashes(self):
        return set(glob.glob(os.path.join(self.into, "crashes", f"{self.target}-*")))

    def end(self, status, usage):
        """Its line of the ledger."""
        with open(self.log, encoding="utf-8", errors="replace") as f:
            out = f.read()

        def last(pattern):
            found = re.findall(pattern, out, re.M)
            return int(found[-1]) if found else 0
        new = sorted(self.crashes() - self.before)
        for path in new[max(0, CRASHES_MAX - len(self.before)):]:
            os.unlink(path)
        code = os.waitstatus_to_exitcode(status)
        broken = [os.path.basename(p) for p in new]
        if not new and code not in (0, -signal.SIGINT, 72):  # 72: interrupted
            broken = [f"code {code}"]  # a leak at its end, say: no single input did it
        if broken:
            keep = os.path.join(self.into, "crashes", f"log-{self.target}-{int(self.begun)}.txt")
            if len(glob.glob(os.path.join(self.into, "crashes", f"log-{self.target}-*"))) < 20:
                with open(keep, "w", encoding="utf-8") as f:
                    f.write(out[-20000:])
        return {"target": self.target, "begun": int(self.begun),
                "wall_s": round(time.time() - self.begun, 1),
                "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
                "executions": last(r"number_of_executed_units:\s+(\d+)"),
                "edges": last(r"^#\d+\s.* cov: (\d+)"),
                "new_units": last(r"new_units_added:\s+(\d+)"),
                "rss_mb": usage.ru_maxrss // 1024, "code": code,
                "crashes": broken}


def ledger_add(path, row):
    """One write of one line: whatever ends us, the ledger stays right."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(fd, (json.dumps(row) + "\n").encode())
        os.fsync(fd)
    finally:
        os.close(fd)


def targets_of(options):
    names = sorted(os.path.basename(p) for p in glob.glob(os.path.join(options.programs, "fuzz_*"))
                   if os.path.isfile(p) and os.access(p, os.X_OK))
    want = [t if t.startswith("fuzz_") else "fuzz_" + t for t in options.targets]
    for name in set(want) - set(names):
        sys.exit(f"fuzz: there is no target {name} in {options.programs}; ./dev fuzz lists them")
    return want or names


class Campaign:
    def __init__(self, options):
        self.options = options
        self.ledger = os.path.join(options.into, "ledger.jsonl")
        self.turns = {}
        self.charged = {}  # seconds for each target, with a floor for those that end at once
        self.cpu_s = 0.0
        self.broken = 0
        self.stopping = False

    def stop(self, *_):
        self.stopping = True
        for pid in self.turns:
            os.kill(pid, signal.SIGINT)

    def next_target(self):
        names = targets_of(self.options)  # a new build may bring new ones
        known = [self.charged[n] / WEIGHTS.get(n, 1) for n in names if n in self.charged]
        for n in names:  # a newcomer does not have to catch up with all the others had
            self.charged.setdefault(n, WEIGHTS.get(n, 1) * min(known, default=0))
        busy = {t.target for t in self.turns.values()}
        free = [n for n in names if n not in busy]
        return min(free, key=lambda n: self.charged[n] / WEIGHTS.get(n, 1)) if free else None

    def fill(self):
        while not self.stopping and len(self.turns) < self.options.jobs:
            if self.options.hours and self.cpu_s >= self.options.hours * 3600:
                return
            target = self.next_target()
            if target is None:
                return
            turn = Turn(target, self.options)
            self.turns[turn.pid] = turn

    def reap(self):
        try:
            pid, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return
        turn = self.turns.pop(pid, None)
        if turn is None:
            return
        row = turn.end(status, usage)
        ledger_add(self.ledger, row)
        self.cpu_s += row["cpu_s"]
        is_short = row["wall_s"] < self.options.turn / 2
        self.charged[turn.target] += max(row["cpu_s"], self.options.turn / 2 if is_short else 1)
        self.broken += len(row["crashes"])
        print(f"{turn.target}: {row['cpu_s']:.0f} s, {row['executions']} inputs, "
              f"{row['edges']} edges, {row['new_units']} new"
              + "".join(f", BROKEN by {c}" for c in row["crashes"])
              + (f", ended with code {row['code']}: {turn.log}"
                 if row["code"] == 127 or row["edges"] == 0 else ""), flush=True)

    def run(self):
        for name in ("corpus", "crashes", "log"):
            os.makedirs(os.path.join(self.options.into, name), exist_ok=True)
        signal.signal(signal.SIGINT, self.stop)
        signal.signal(signal.SIGTERM, self.stop)
        self.fill()
        while self.turns:
            self.reap()
            self.fill()
        print(f"{self.cpu_s / 3600:.2f} CPU-hours, {self.broken} broken; {self.ledger}")
        return 1 if self.broken else 0


def table(paths):
    """What every target had, over all ledgers."""
    sums = {}
    for path in paths:
        with open(path, encoding="utf-8") as f:
            for line in f:
                r = json.loads(line)
                s = sums.setdefault(r["target"], {"cpu": 0.0, "runs": 0, "edges": 0, "bad": 0})
                s["cpu"] += r["cpu_s"]
                s["runs"] += r["executions"]
                s["edges"] = max(s["edges"], r["edges"])
                s["bad"] += len(r["crashes"])
    print("| target | CPU-hours | inputs | edges | inputs that broke it |")
    print("|---|---:|---:|---:|---:|")
    for name in sorted(sums):
        s = sums[name]
        print(f"| {name} | {s['cpu'] / 3600:.2f} | {s['runs']:,} | {s['edges']:,} | {s['bad']} |")
    cpu, runs, bad = (sum(s[k] for s in sums.values()) for k in ("cpu", "runs", "bad"))
    print(f"| all | {cpu / 3600:.2f} | {runs:,} | | {bad} |")
    return 0


def keep(options):
    """Merges a campaign's inputs into the kept ones; what is new to the code comes in."""
    for target in targets_of(options):
        kept, new = os.path.join(KEPT, target), os.path.join(options.keep, "corpus", target)
        if not os.path.isdir(new):
            continue
        os.makedirs(kept, exist_ok=True)
        for name in os.listdir(kept):
            if re.fullmatch(r"[0-9a-f]{40}", name):  # made here before: chosen again
                shutil.copy(os.path.join(kept, name), new)
                os.unlink(os.path.join(kept, name))
        # By edges alone: the counts of how often each ran would keep ten times as many.
        p = subprocess.run([os.path.join(options.programs, target), "-set_cover_merge=1",
                            "-use_counters=0", f"-max_len={KEEP_BYTES}", "-timeout=20",
                            kept, new], capture_output=True, text=True, errors="replace",
                           check=False, env={**os.environ, **SANITIZERS})
        sizes = [os.path.getsize(os.path.join(kept, f)) for f in os.listdir(kept)]
        print(f"{target}: {len(sizes)} inputs, {sum(sizes)} bytes"
              + (f", but the merge ended with code {p.returncode}: {p.stderr[-300:]}"
                 if p.returncode else ""), flush=True)
    return 0


def main():
    p = argparse.ArgumentParser(usage=__doc__, add_help=False)
    p.add_argument("--hours", type=float, default=1)
    p.add_argument("--jobs", type=int, default=1)
    p.add_argument("--turn", type=int, default=90)
    p.add_argument("--into", default=os.path.join(TOP, "build-fuzz", "all"))
    p.add_argument("--programs", default=os.path.join(TOP, "build-fuzz"))
    p.add_argument("--table", nargs="+")
    p.add_argument("--keep")
    p.add_argument("targets", nargs="*")
    options = p.parse_args()
    if options.table:
        return table(options.table)
    options.programs = os.path.abspath(options.programs)
    if options.keep:
        return keep(options)
    options.into = os.path.abspath(options.into)
    return Campaign(options).run()


sys.exit(main())
