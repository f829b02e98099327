#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a request costs, in instructions, beside what it cost when that was recorded.

    cost.py                  counts and compares: "ok ..." or "FAILED ..." for each row
    cost.py --record         counts and writes tests/cost/recorded.json
    cost.py --functions ROW  counts one row: its functions, by their share

build/tool_cost (bench/cost.c) does the work under valgrind --tool=callgrind; what it does in
measured() is counted. Recorded are instructions for one operation, with each function's share.
More than 3 % above is a regression, more than 3 % below has to be recorded: else it could be
lost again unseen.

What the counts depend on beside the sources: compiler and flags, C library, valgrind. Their
versions are recorded, and are the same on every fresh Debian 12 but for its updates. With others
the rows are compared all the same, and a row that fails says that the tools are others, and how
to see which of both it was. Not on the processor: the C library is told to take the functions
that every x86-64 has, and valgrind shows it a processor of its own. Another kind of processor
is not compared: that fails, and says so.
"""
import json
import os
import platform
import re
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RECORDED = os.path.join(TOP, "tests", "cost", "recorded.json")
PROGRAM = "build/tool_cost"
TOLERANCE = 0.03
SHOWN = 6            # functions named for a row that failed
# What callgrind and the compiler append to a function's name: of a recursion, of a copy.
MADE_OTHERWISE = r"('\d+|\.(lto_priv|isra|constprop|part|cold)(\.\d+)?)+$"
KEPT = 0.005         # a function's share of a row to be recorded
# The variants of memcpy and the like for the plain x86-64, whatever the processor has.
PLAIN = "glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX2,-AVX,-AVX512F,-AVX512VL,-BMI2,-ERMS,-FSRM,-SSSE3,-SSE4_2,-SSE4_1,-RTM,-MOVBE,-LZCNT"
AGAIN = "./dev cost --record"


def versions():
    """Of everything that makes other instructions of the same sources."""
    def first(*words):
        out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        return out.splitlines()[0].strip()
    with open(os.path.join(TOP, "build", "compile_commands.json"), encoding="utf-8") as f:
        command = next(c["command"] for c in json.load(f) if c["file"].endswith("wire/wire.c"))
    words = [w for w in command.split() if w != "ccache"]
    flags = [w for w in words[1:] if re.match(r"-(O|f(?!diag)|m|std=|D_FORTIFY|DMUSTER)", w)]
    compiler = first(words[0], "--version").split(" ", 1)[1]  # without the name it was called by
    return {"compiler": compiler, "flags": " ".join(flags),
            "libc": " ".join(platform.libc_ver()) + " " + first("dpkg-query", "-W", "-f",
                                                                "${Version}\n", "libc6"),
            "valgrind": first("valgrind", "--version"), "machine": platform.machine()}


def functions_of(path):
    """Instructions of each function itself, without what it calls."""
    costs = {}
    names = {}
    name = None
    skip = False
    with open(path, encoding="utf-8") as f:
        for line in f:
            if line.startswith("fn="):
                m = re.match(r"fn=\((\d+)\)(?: (.*))?", line.rstrip("\n"))
                if m.group(2):
                    names[m.group(1)] = m.group(2)
                name = re.sub(MADE_OTHERWISE, "", names[m.group(1)])
            elif line.startswith("cfn="):
                m = re.match(r"cfn=\((\d+)\)(?: (.*))?", line.rstrip("\n"))
                if m.group(2):
                    names[m.group(1)] = m.group(2)
            elif line.startswith("calls="):
                skip = True  # the next line is the cost of what was called
            elif line[:1].isdigit() or line[:1] in "+-*":
                words = line.split()
                if not skip and len(words) >= 2:
                    costs[name] = costs.get(name, 0) + int(words[1])
                skip = False
    return costs


def count(row, operations, waste=0):
    """Instructions for one operation, and each function's part of them."""
    with tempfile.TemporaryDirectory() as d:
        out = os.path.join(d, "out")
        # Nothing of the caller's environment: it lies on the stack, and moves what is there.
        r = subprocess.run(["valgrind", "--tool=callgrind", "--toggle-collect=measured",
                            f"--callgrind-out-file={out}", "--compress-pos=no", PROGRAM, row,
                            *([str(waste)] if waste else [])],
                           cwd=TOP, capture_output=True, text=True, check=False, timeout=600,
                           env={"PATH": "/usr/bin:/bin", "GLIBC_TUNABLES": PLAIN})
        if r.returncode != 0:
            raise SystemExit(f"cost.py: {PROGRAM} {row} ended with code {r.returncode}: "
                             f"{r.stderr[-600:]}")
        costs = functions_of(out)
    return {n: v / operations for n, v in costs.items()}


def rows():
    out = subprocess.run([os.path.join(TOP, PROGRAM)], capture_output=True, text=True, check=True)
    return [(name, int(n)) for name, n in (line.split() for line in out.stdout.splitlines())]


def grown(now, before):
    """The functions whose cost has moved most, in words."""
    moved = {n: now.get(n, 0) - before.get(n, 0) for n in {*now, *before}}
    most = sorted(moved, key=lambda n: -abs(moved[n]))[:SHOWN]
    return ", ".join(f"{n} {moved[n]:+.1f} (was {before.get(n, 0):.1f})"
                     for n in most if abs(moved[n]) >= 0.5)


def judge(name, now, recorded, tolerance=TOLERANCE):
    """True or False, and the line about it."""
    if recorded is None:
        return False, f"cost {name}: not recorded yet; {AGAIN}"
    total = sum(now.values())
    was = recorded["instructions"]
    part = total / was - 1
    text = f"cost {name}: {total:.1f} instructions, recorded {was:.1f} ({part:+.1%})"
    if abs(part) <= tolerance:
        return True, text
    why = grown(now, recorded["functions"])
    if part > 0:
        return False, f"{text}: dearer by more than {tolerance:.0%}. What has grown: {why}"
    return False, f"{text}: cheaper by more than {tolerance:.0%}: record it ({AGAIN}): {why}"


def differing(now, recorded):
    return [f"{k}: {now[k]}, recorded {recorded.get(k, 'none')}" for k in now
            if now[k] != recorded.get(k)]


def planted():
    """That the whole of it finds 5 % more, and names where they are; or 5 % less."""
    name, operations = rows()[0]
    now = count(name, operations)
    total = sum(now.values())
    was = {"instructions": total, "functions": now}
    more, why = judge(name, count(name, operations, int(total * 0.05)), was)
    less, _ = judge(name, now, {**was, "instructions": total * 1.05})
    little, _ = judge(name, count(name, operations, int(total * 0.01)), was)
    return not more and ": waste +" in why and not less and little


def compare():
    with open(RECORDED, encoding="utf-8") as f:
        recorded = json.load(f)
    if platform.machine() != recorded["versions"]["machine"]:
        print(f"FAILED cost: recorded on {recorded['versions']['machine']}, this is "
              f"{platform.machine()}: not compared")
        return 1
    others = differing(versions(), recorded["versions"])
    note = ("" if not others else " | The tools are not those that it was recorded with ("
            + "; ".join(others) + f"): on the commit before yours type {AGAIN}, then ./dev cost "
            "on yours")
    failed = 0
    all_rows = rows()
    for name, operations in all_rows:
        ok, text = judge(name, count(name, operations), recorded["rows"].get(name))
        print(("ok " if ok else "FAILED ") + text + ("" if ok else note), flush=True)
        failed += not ok
    for name in sorted(set(recorded["rows"]) - {n for n, _ in all_rows}):
        print(f"FAILED cost {name}: recorded, but there is no such row; {AGAIN}")
        failed += 1
    ok = planted()
    print(("ok " if ok else "FAILED ") + "cost: 5 % more, or less, is seen, and 1 % is not")
    return 1 if failed or not ok else 0


def record():
    old = {}
    if os.path.exists(RECORDED):
        with open(RECORDED, encoding="utf-8") as f:
            old = json.load(f)["rows"]
    new = {}
    for name, operations in rows():
        costs = count(name, operations)
        total = sum(costs.values())
        new[name] = {"instructions": round(total, 1), "functions": {
            n: round(v, 1) for n, v in sorted(costs.items(), key=lambda x: -x[1])
            if v >= KEPT * total}}
        was = old.get(name, {}).get("instructions")
        print(f"{name}: {total:.1f}" + (f", was {was:.1f} ({total / was - 1:+.1%})" if was else ""),
              flush=True)
    with open(RECORDED, "w", encoding="utf-8") as f:
        json.dump({"versions": versions(), "rows": new}, f, indent=1)
        f.write("\n")
    return 0


def show(row):
    costs = count(row, dict(rows())[row])
    total = sum(costs.values())
    print(f"{row}: {total:.1f}")
    for n, v in sorted(costs.items(), key=lambda x: -x[1])[:45]:
        print(f"{v:10.1f} {v / total:6.1%}  {n}")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--record"]:
        sys.exit(record())
    if sys.argv[1:2] == ["--functions"] and len(sys.argv) == 3:
        sys.exit(show(sys.argv[2]))
    if len(sys.argv) > 1:
        raise SystemExit(__doc__)
    sys.exit(compare())
