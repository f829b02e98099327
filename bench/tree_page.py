# SPDX-License-Identifier: Apache-2.0
"""What ./dev bench tree shows of its figures: tables, the targets of issue 5, a picture."""
import json
import os

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGE = os.path.join(TOP, "docs", "performance.md")
ENGINE = os.path.join(TOP, "docs", "measured", "engine.json")
BEGIN, END = "<!-- tree: begin -->\n", "<!-- tree: end -->\n"
NAMES = {"muster": "muster", "zookeeper": "ZooKeeper", "etcd": "etcd", "sockets": "sockets alone"}
OPS = ("set", "get", "create", "delete", "exists", "eseq", "eseq-delete", "mix90", "mix50",
       "multi", "watch", "pwatch", "connect", "lock")

# What must be reached beside ZooKeeper, with three servers and 100 bytes: the operations, their
# shapes, the figure, and how many times better it has to be.
TARGETS = (
    (("set", "create"), ((1, 1),), "rate", 2),
    (("set", "create"), ((1, 1),), "p50_us", 2),
    (("set", "create"), ((100, 1), (30, 64)), "rate", 5),
    (("set", "create"), ((100, 1), (30, 64)), "p99_us", 10),
    (("get",), ((1, 1),), "rate", 2),
    (("get",), ((100, 1),), "rate", 4),
    (("get",), ((30, 64),), "rate", 8),
    (("set", "get"), ((100, 1), (30, 64)), "cpu_s", 5),
    (("watch", "pwatch"), ((1000, 1),), "rate", 4),
)
FIGURES = {"rate": "operations/s", "p50_us": "p50, us", "p99_us": "p99, us",
           "cpu_s": "servers' CPU s per 100,000"}


class Figures:
    def __init__(self, results):
        self.by = {(r["servers"], r["op"], r["sessions"], r["window"], r["size"], r["system"]): r
                   for r in results["rows"]}

    def of(self, servers, op, shape, size, system):
        return self.by.get((servers, op, *shape, size, system))

    def cases(self, servers):
        """In the order of OPS."""
        found = {k[1:5] for k in self.by if k[0] == servers}
        return sorted(found, key=lambda c: (OPS.index(c[0]), c[3], c[1] * c[2], c[1]))


def number(v):
    return "-" if v is None else f"{v:,.0f}" if v >= 100 else f"{v:.1f}" if v >= 1 else f"{v:.2f}"


def better(figure, mine, theirs):
    """How many times; rates are better when higher, all else when lower."""
    a, b = (mine, theirs) if figure == "rate" else (theirs, mine)
    return a / b if b > 0 else float("inf")


# ---- tables ----

def target_rows(figures):
    for ops, shapes, figure, factor in TARGETS:
        for op in ops:
            for shape in shapes:
                mine = figures.of(3, op, shape, 100, "muster")
                theirs = figures.of(3, op, shape, 100, "zookeeper")
                if mine and theirs:
                    times = better(figure, mine[figure], theirs[figure])
                    limit = figures.of(3, op, shape, 100, "sockets")
                    yield (op, shape, figure, mine[figure], theirs[figure], times, factor,
                           number(limit[figure]) if limit else "")


def targets(figures):
    lines = ["| three servers, 100 bytes | figure | muster | ZooKeeper | better by | at least | "
             "| sockets alone |", "|---|---|---|---|---|---|---|---|"]
    reached = 0
    for op, shape, figure, mine, theirs, times, factor, limit in target_rows(figures):
        is_reached = times >= factor
        reached += is_reached
        lines.append(f"| {op} {shape[0]} x {shape[1]} | {FIGURES[figure]} | {number(mine)} | "
                     f"{number(theirs)} | {times:.1f} | {factor} | "
                     f"{'reached' if is_reached else '**not reached**'} | {limit} |")
    if len(lines) == 2:
        return []
    return lines + ["", f"{reached} of {len(lines) - 2} reached.", ""]


def table(figures, servers):
    lines = ["| operation, sessions x in flight | | /s | p50 us | p99 us | p99.9 us | CPU s "
             "per 100,000 | bytes written each | switches each | muster is better by: rate, p99, "
             "CPU |", "|---|---|---|---|---|---|---|---|---|---|"]
    for op, sessions, window, size in figures.cases(servers):
        mine = figures.of(servers, op, (sessions, window), size, "muster")
        for system, name in NAMES.items():
            r = figures.of(servers, op, (sessions, window), size, system)
            if not r:
                continue
            ratio = "" if r is mine or not mine else ", ".join(
                f"{better(f, mine[f], r[f]):.1f}" for f in ("rate", "p99_us", "cpu_s"))
            more = f", {size:,} bytes" if size > 100 else ""
            lines.append(f"| {op} {sessions} x {window}{more} | {name} | {number(r['rate'])} | "
                         f"{number(r['p50_us'])} | {number(r['p99_us'])} | "
                         f"{number(r['p999_us'])} | {number(r['cpu_s'])} | {number(r['bytes'])} | "
                         f"{number(r['switches'])} | {ratio} |")
    return lines + [""] if len(lines) > 2 else []


def method(m):
    """How one half of it was measured: with three servers, or with one."""
    return [f"{m['date']}: {m['processors']} processors ({m['model']}), {m['memory_gb']} GB, "
            f"Linux {m['kernel']}, {m['file_system']}; "
            f"{', '.join(m['versions'].values())}. Medians of {m['rounds']} rounds, "
            f"{m['seconds']:g} s each; the load of the machine before it began: "
            f"{m['load_before']}; what ran beside it used on average "
            f"{m['other_processors']:g} processors.", ""]


def tables(results):
    figures = Figures(results)
    lines = []
    for servers, title in ((3, "Three servers"), (1, "One server")):
        rows = table(figures, servers)
        if rows:
            lines += [f"### {title}", ""] + method(results["runs"][str(servers)]) + \
                (targets(figures) if servers == 3 else []) + rows
    return lines


# ---- the picture ----

WIDTH, LEFT, RIGHT, BAR, GAP, GROUP_GAP = 860, 90, 240, 13, 3, 12
SHAPES = ((1, 1), (10, 1), (100, 1), (30, 64))
PANELS = (("set", "writes: set, 100 bytes", SHAPES), ("create", "writes: create, 100 bytes", SHAPES),
          ("get", "reads: get, 100 bytes", SHAPES),
          ("watch", "events: a watch that is set again after each", ((1000, 1),)),
          ("pwatch", "events: a persistent watch", ((1000, 1),)))
# In flight at the bare log that stands beside so many sessions x in flight.
LIMITS = {(1, 1): 1, (10, 1): 16, (100, 1): 256, (30, 64): 2048}
STYLE = """
  .back { fill: #ffffff } text { font: 13px sans-serif; fill: #24292f }
  .title { font-size: 15px; font-weight: bold } .small { font-size: 12px; fill: #57606a }
  .muster { fill: #1f6feb } .zookeeper { fill: #bf8700 } .etcd { fill: #8250df }
  .limit { fill: none; stroke: #57606a; stroke-dasharray: 3 2 }
  @media (prefers-color-scheme: dark) {
    .back { fill: #0d1117 } text { fill: #e6edf3 } .small { fill: #9198a1 }
    .muster { fill: #4493f8 } .zookeeper { fill: #d29922 } .etcd { fill: #ab7df8 }
    .limit { stroke: #9198a1 }
  }
"""


def limits():
    """The bare log's entries a second by the number in flight, if they were measured."""
    try:
        with open(ENGINE, encoding="utf-8") as f:
            return {r["in_flight"]: r["rate"] for r in json.load(f)["rows"]
                    if r["what"] == "bare log"}
    except (OSError, ValueError, KeyError):
        return {}


def bars_of(figures, op, shape, bare):
    is_write = op in ("set", "create")
    for system, name in NAMES.items():
        r = figures.of(3, op, shape, 100, system)
        if r:
            yield "limit" if system == "sockets" else system, name, r["rate"], f"p99 {number(r['p99_us'] / 1000)} ms"
    if is_write and LIMITS[shape] in bare:
        yield "limit", "bare log", bare[LIMITS[shape]], f"{LIMITS[shape]:,} in flight"


def group(out, y, label, bars):
    """The bars of one shape; the longest is as wide as there is room."""
    most = max(rate for _, _, rate, _ in bars)
    room = WIDTH - LEFT - RIGHT
    out.append(f'<text x="12" y="{y + BAR - 2}">{label}</text>')
    for kind, name, rate, more in bars:
        width = max(1, rate / most * room)
        out.append(f'<rect class="{kind}" x="{LEFT}" y="{y + 0.5}" width="{width:.1f}" '
                   f'height="{BAR - 1}"/>')
        out.append(f'<text x="{LEFT + width + 6:.1f}" y="{y + BAR - 2}">{number(rate)}'
                   f'<tspan class="small" dx="8">{name}, {more}</tspan></text>')
        y += BAR + GAP
    return y + GROUP_GAP


def picture(results):
    figures, bare, out, y = Figures(results), limits(), [], 58
    for op, title, shapes in PANELS:
        out.append(f'<text class="title" x="12" y="{y}">{title}</text>')
        y += 12
        for shape in shapes:
            bars = list(bars_of(figures, op, shape, bare))
            if any(kind != "limit" for kind, *_ in bars):
                y = group(out, y, f"{shape[0]} x {shape[1]}", bars)
        y += 16
    head = ('<text class="title" x="12" y="24">Operations a second, three servers on one '
            'machine (sessions x in flight)</text>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" '
            f'height="{y}">\n<style>{STYLE}</style>\n<rect class="back" width="{WIDTH}" '
            f'height="{y}"/>\n{head}\n' + "\n".join(out) + "\n</svg>\n")


# ---- files ----

def merged(path, results):
    """With the other half of what was kept before, if only one was measured now."""
    if not os.path.exists(path):
        return results
    with open(path, encoding="utf-8") as f:
        kept = json.load(f)
    return {"runs": {**kept["runs"], **results["runs"]},
            "rows": [r for r in kept["rows"] if str(r["servers"]) not in results["runs"]]
            + results["rows"]}


def write(path, results):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    results = merged(path, results)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(results, f, indent=1)
        f.write("\n")
    with open(os.path.splitext(path)[0] + ".svg", "w", encoding="utf-8") as f:
        f.write(picture(results))
    with open(PAGE, encoding="utf-8") as f:
        before, _, rest = f.read().partition(BEGIN)
    with open(PAGE, "w", encoding="utf-8") as f:
        f.write(before + BEGIN + "\n".join(tables(results)) + "\n" + END + rest.partition(END)[2])
