#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./dev sim --coverage: what the simulation comes to.

    coverage.py --coverage [--seeds FROM-TO] [--worlds NAME,...] [--write] [--states]

Runs the seeds in build-coverage/ and prints (a) the named states of src/base/reached.h and
how many seeds came to each, those of none first; (b) by file, lines, functions and branches
that were executed (gcov), and the functions that never were. --write puts both into
docs/coverage.md, below what is said there. --states leaves (b) out.

Exit code 1: a seed failed, or 1,000 or more seeds never came to a state that is not rare.
"""
import argparse
import glob
import json
import os
import re
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DIRECTORY = os.path.join(TOP, "build-coverage")
PAGE = os.path.join(TOP, "docs", "coverage.md")
MARK = "<!-- below: ./dev sim --coverage --write -->\n"
WHAT = re.compile(r"src/(raft|tree|store|client|agent|site)/[^/]*\.c$|src/server/member[^/]*\.c$")
SHELL = re.compile(r"_uv[^/]*\.c$|disk_posix\.c$|src/agent/(writer|report|status|registry)\.c$")


def split(first, last, parts):
    n = last - first + 1
    edges = [first + n * i // parts for i in range(parts + 1)]
    return [(a, b - 1) for a, b in zip(edges, edges[1:]) if b > a]


def run(first, last, worlds):
    """The seeds, on all processors; states by name, and whether all went well."""
    for path in glob.glob(DIRECTORY + "/**/*.gcda", recursive=True):
        os.unlink(path)
    states, ok, programs = {}, True, []
    with tempfile.TemporaryDirectory() as d:
        parts = [(w, a, b) for w in worlds
                 for a, b in split(first, last, os.cpu_count() or 1)]
        for world, a, b in parts:
            out = os.path.join(d, f"{world}{a}")
            # pylint: disable=consider-using-with
            programs.append((out, subprocess.Popen(
                [os.path.join(DIRECTORY, "sim_site"), "--seeds", f"{a}-{b}", "--reached", out,
                 *(["--world", world] if world else [])],
                cwd=TOP, stdout=subprocess.PIPE, text=True)))
        for out, program in programs:
            text, _ = program.communicate()
            print(text, end="", flush=True)
            ok &= program.returncode == 0
            if not os.path.exists(out):
                sys.exit("coverage: the simulation did not come to its end")
            with open(out, encoding="utf-8") as f:
                for line in f:
                    name, seeds, often, what = line.rstrip("\n").split(" ", 3)
                    old = states.get(name, (0,))[0]
                    states[name] = (old + int(seeds), often, what)
    return states, ok


def gcov():
    """By file: executed and all lines, functions, branches; functions never executed."""
    notes = [p for p in glob.glob(DIRECTORY + "/lib*.p/*.gcno")]
    files = {}
    for i in range(0, len(notes), 40):
        out = subprocess.run(["gcov", "--json-format", "--stdout", "--branch-probabilities",
                              *notes[i:i + 40]], cwd=DIRECTORY, check=True,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        for line in out.splitlines():
            for f in json.loads(line)["files"]:
                name = os.path.relpath(os.path.join(DIRECTORY, f["file"]), TOP)
                if WHAT.match(name) and not SHELL.search(name):
                    files.setdefault(name, []).append(f)
    rows = []
    for name, parts in sorted(files.items()):
        lines, branches, functions = {}, {}, {}
        for f in parts:
            for line in f["lines"]:
                n = line["line_number"]
                lines[n] = lines.get(n, 0) + line["count"]
                for k, b in enumerate(line["branches"]):
                    key = (n, line.get("function_name"), k)
                    branches[key] = branches.get(key, 0) + b["count"]
            for fn in f["functions"]:
                functions[fn["name"]] = functions.get(fn["name"], 0) + fn["execution_count"]
        rows.append((name, lines, functions, branches))
    return rows


def share(counts):
    n = sum(1 for c in counts.values() if c > 0)
    return f"{n} of {len(counts)}" if counts else "-", 100 * n / len(counts) if counts else 100


def show_states(states, seeds, worlds, out):
    out.append(f"### States, by {seeds:,} seeds of {worlds or 'each world'}\n")
    out.append("| state | seeds | |\n|---|---:|---|")
    for name, (n, often, what) in sorted(states.items(), key=lambda s: (s[1][0], s[0])):
        out.append(f"| `{name}` | {n}{' (rare)' if often == 'rare' else ''} | {what} |")


def show_files(rows, out):
    out.append("\n### Lines, functions and branches, by file\n")
    out.append("| file | lines | % | functions | branches % | never called |\n"
               "|---|---:|---:|---:|---:|---|")
    total = [{}, {}, {}]
    for name, *parts in rows:
        for t, p in zip(total, parts):
            t.update({(name, k): v for k, v in p.items()})
        lines, line_share = share(parts[0])
        never = ", ".join(f"`{f}`" for f, n in sorted(parts[1].items()) if n == 0)
        out.append(f"| {name} | {lines} | {line_share:.0f} | {share(parts[1])[0]} | "
                   f"{share(parts[2])[1]:.0f} | {never} |")
    out.append(f"| all | {share(total[0])[0]} | {share(total[0])[1]:.0f} | "
               f"{share(total[1])[0]} | {share(total[2])[1]:.0f} | |")


def main():
    p = argparse.ArgumentParser(prog="dev sim --coverage", allow_abbrev=False)
    p.add_argument("--coverage", action="store_true")
    p.add_argument("--seeds", default="1-1000")
    p.add_argument("--write", action="store_true")
    p.add_argument("--states", action="store_true")
    p.add_argument("--worlds", default="")
    options = p.parse_args()
    m = re.fullmatch(r"(?:(\d+)-)?(\d+)", options.seeds)
    if not m:
        p.error("--seeds N or FROM-TO")
    first, last = int(m[1] or 1), int(m[2])
    states, ok = run(first, last, options.worlds.split(","))
    out = []
    show_states(states, last - first + 1, options.worlds.replace(",", " and "), out)
    if not options.states:
        show_files(gcov(), out)
    print("\n".join(out))
    never = [n for n, s in states.items() if s[0] == 0 and s[1] == "often"]
    if options.write:
        with open(PAGE, encoding="utf-8") as f:
            said = f.read().split(MARK)[0]
        with open(PAGE, "w", encoding="utf-8") as f:
            f.write(said + MARK + "\n" + "\n".join(out) + "\n")
    if never and last - first + 1 >= 1000:
        print(f"never reached: {', '.join(never)}")
        ok = False
    print(f"{len(states)} states, {len(never)} never reached, and "
          f"{sum(1 for s in states.values() if s[0] == 0) - len(never)} rare ones")
    return 0 if ok else 1


sys.exit(main())
