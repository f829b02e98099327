#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A bare replicated log and muster's engine side by side (bench/engine.c).

    engine.py [--rounds N] [--seconds N] [--size BYTES] [--dir DIR] [--before PROGRAM]
              [--in-flight N,...] [--write]

Each round runs, for each number of entries in flight, the bare log, muster's engine and, if
given, another build's (--before), one after the other; who begins changes. The figures are
medians of the rounds, the ratio is the median of the rounds' ratios. --write:
docs/measured/engine.json, and the table in docs/performance-engine.md.
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

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tests", "lib"))

from ports import free_port  # noqa: E402

ENGINE = os.path.join(TOP, "build", "tool_engine")
FIGURES = ["rate", "p50", "p99", "cpu", "save_entries", "save_us"]
BEGIN, END = "<!-- engine: begin -->\n", "<!-- engine: end -->\n"


def one(program, kind, in_flight, args):
    directory = tempfile.mkdtemp(prefix="muster-engine-", dir=args.dir)
    try:
        out = subprocess.run([program, kind, directory, str(free_port()), str(in_flight),
                              str(args.size), str(args.seconds)],
                             capture_output=True, text=True, timeout=args.seconds + 60, check=False)
        if out.returncode != 0:
            raise SystemExit(f"{program} {kind}: {out.stderr}")
        return dict(zip(FIGURES, map(float, out.stdout.split())))
    finally:
        shutil.rmtree(directory)


def measure(args):
    names = {"bare log": (ENGINE, "bare"), "muster": (ENGINE, "muster")}
    if args.before:
        names["before"] = (args.before, "muster")
    results = {(n, name): [] for n in args.in_flight for name in names}
    for number in range(args.rounds):
        order = list(names)[number % len(names):] + list(names)[:number % len(names)]
        for n in args.in_flight:
            for name in order:
                results[n, name].append(one(*names[name], n, args))
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
    return list(names), results


def rows(names, results, in_flight):
    for n in in_flight:
        for name in names:
            runs = results[n, name]
            row = {k: statistics.median(r[k] for r in runs) for k in FIGURES}
            ratio = statistics.median(r["rate"] / b["rate"]
                                      for r, b in zip(runs, results[n, "bare log"]))
            yield {"in_flight": n, "what": name, "of_bare": round(ratio, 3), **row}


def table(found):
    lines = ["| in flight | | entries/s | of the bare log | p50 us | p99 us | leader's CPU s "
             "per 100,000 |", "|---|---|---|---|---|---|---|"]
    lines += [f"| {r['in_flight']:,} | {r['what']} | {r['rate']:,.0f} | {r['of_bare']:.2f} | "
              f"{r['p50']:,.0f} | {r['p99']:,.0f} | {r['cpu'] / 10:.3f} |" for r in found]
    return "\n".join(lines) + "\n"


def write(found, args):
    with open(os.path.join(TOP, "docs", "measured", "engine.json"), "w", encoding="utf-8") as f:
        json.dump({"machine": f"{os.cpu_count()} processors, {platform.release()}",
                   "entry_bytes": args.size, "seconds": args.seconds, "rounds": args.rounds,
                   "rows": found}, f, indent=1)
        f.write("\n")
    path = os.path.join(TOP, "docs", "performance-engine.md")
    with open(path, encoding="utf-8") as f:
        before, _, rest = f.read().partition(BEGIN)
    with open(path, "w", encoding="utf-8") as f:
        f.write(before + BEGIN + table(found) + END + rest.partition(END)[2])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--seconds", type=int, default=2)
    p.add_argument("--size", type=int, default=100)
    p.add_argument("--dir", help="where the logs are written (the disk that is measured)")
    p.add_argument("--before")
    p.add_argument("--in-flight", default="1,16,256,2048",
                   type=lambda s: [int(n) for n in s.split(",")])
    p.add_argument("--write", action="store_true")
    args = p.parse_args()
    args.dir = args.dir or os.path.join(TOP, "build")
    found = list(rows(*measure(args), args.in_flight))
    sys.stdout.write(table(found))
    if args.write:
        write(found, args)


if __name__ == "__main__":
    main()
