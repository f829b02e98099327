# SPDX-License-Identifier: Apache-2.0
"""docs/performance-sizes.md: the tables between its markers, and the pictures beside the JSON."""
import json
import math
import os

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOCS = os.path.join(TOP, "docs")
KINDS = {"muster": "muster", "zookeeper": "ZooKeeper",
         "zookeeper 1000m": "ZooKeeper, -Xmx1000m", "etcd": "etcd"}
PARTS = ("nodes", "sessions", "watches", "join")
FASTER = 1.5   # above so many times what its input grows by, a figure is named

# How each figure follows from what was measured. Of what there is in all: it may grow as its
# input does. Of each operation: it should not grow.
IN_ALL, EACH = "in all", "each"
GROWTH = {
    "nodes": (
        ("memory above empty", IN_ALL, lambda r: r["full"]["rss"] - r["empty"]["rss"], "MB"),
        ("a snapshot", IN_ALL, lambda r: r["snapshot"]["snapshot_ms"], "ms"),
        ("longest get meanwhile", IN_ALL, lambda r: r["snapshot"]["get_max_us"] / 1000, "ms"),
        ("restart", IN_ALL, lambda r: r["restart_ms"], "ms"),
        ("on disk", IN_ALL, lambda r: r["disk"], "MB"),
        ("CPU of a create", EACH, lambda r: r["fill_cpu_us"], "us"),
        ("CPU of a get", EACH, lambda r: r["get"]["cpu_us"], "us"),
        ("CPU of a set", EACH, lambda r: r["set"]["cpu_us"], "us"),
        ("p50 of a get", EACH, lambda r: r["get"]["p50_us"], "us"),
        ("p50 of a set", EACH, lambda r: r["set"]["p50_us"], "us"),
    ),
    "sessions": (
        ("memory of them", IN_ALL, lambda r: r["after"]["rss"] - r["before"]["rss"], "MB"),
        ("until all are connected", IN_ALL, lambda r: r["connect_s"] * 1000, "ms"),
        ("CPU of their pings", IN_ALL, lambda r: r["idle_cpu_percent"], "%"),
        ("CPU of a connect", EACH, lambda r: r["connect_cpu_us"], "us"),
        ("CPU of another's get", EACH, lambda r: r["get"]["cpu_us"], "us"),
        ("CPU of another's set", EACH, lambda r: r["set"]["cpu_us"], "us"),
    ),
    "watches": (
        ("memory of them", IN_ALL, lambda r: r["after"]["rss"] - r["before"]["rss"], "MB"),
        ("until all are set", IN_ALL, lambda r: r["watch_s"] * 1000, "ms"),
        ("until all have fired", IN_ALL, lambda r: r["fire_s"] * 1000, "ms"),
        ("CPU to set one", EACH, lambda r: r["watch_cpu_us"], "us"),
        ("CPU of a set and its event", EACH, lambda r: r["fire_cpu_us"], "us"),
    ),
}

# Name, unit, how; and what muster's should be of ZooKeeper's at most (None: nothing is asked).
LARGEST = (
    ("nodes", "resident, empty", "MB", lambda r: r["empty"]["rss"], 1 / 10),
    ("nodes", "resident, {count} znodes of 100 bytes", "MB", lambda r: r["full"]["rss"], 1 / 5),
    ("nodes", "at most, snapshots under load", "MB", lambda r: r["snapshot"]["peak"], None),
    ("nodes", "resident, after the restart", "MB", lambda r: r["rss_restarted"], None),
    ("nodes", "on disk", "MB", lambda r: r["disk"], None),
    ("nodes", "kill -9, restart: first read", "ms", lambda r: r["restart_ms"], 1 / 5),
    ("nodes", "... for each 100 MB of its snapshot", "ms", lambda r: r["ms_per_100_mb"], None),
    ("nodes", "a snapshot", "ms", lambda r: r["snapshot"]["snapshot_ms"], None),
    ("nodes", "gets at 1 x 1 meanwhile: p99", "ms", lambda r: r["snapshot"]["get_p99_us"] / 1000,
     None),
    ("nodes", "... the longest", "ms", lambda r: r["snapshot"]["get_max_us"] / 1000, None),
    ("nodes", "... and sets a second", "", lambda r: r["snapshot"]["sets_per_s"], None),
    ("sessions", "resident, {count} idle sessions", "MB", lambda r: r["after"]["rss"], 1 / 10),
    ("sessions", "... bytes for each", "", lambda r: r["each"], None),
    ("sessions", "connects a second", "", lambda r: r["connects_per_s"], None),
    ("sessions", "CPU while they ping", "%", lambda r: r["idle_cpu_percent"], None),
    ("watches", "resident, {count} watches and znodes", "MB", lambda r: r["after"]["rss"], None),
    ("watches", "... bytes for each watch", "", lambda r: r["each"], None),
    ("watches", "sets with their events a second", "", lambda r: r["count"] / r["fire_s"], None),
    ("join", "wiped server: until it serves {count} znodes", "ms", lambda r: r["join_ms"], None),
    ("join", "a client of the leader meanwhile: p99", "ms", lambda r: r["leader_p99_us"] / 1000,
     None),
    ("join", "... the longest", "ms", lambda r: r["leader_max_us"] / 1000, None),
    ("join", "a client of the other follower: p99", "ms", lambda r: r["other_p99_us"] / 1000, None),
    ("join", "... the longest", "ms", lambda r: r["other_max_us"] / 1000, None),
    ("join", "resident at most, the leader", "MB", lambda r: r["leader"]["peak"], None),
)


def number(v, unit):
    if v is None:
        return "-"
    v = v / 1e6 if unit == "MB" else v
    text = f"{v:,.0f}" if abs(v) >= 100 else f"{v:.1f}" if abs(v) >= 10 else f"{v:.2f}"
    return text + (f" {unit}" if unit else "")


def value(function, r):
    try:
        return function(r) if r is not None else None
    except KeyError:
        return None  # this system has no such thing


def largest(results, part, kind):
    rows = results.get(part, {}).get(kind)
    return max(rows, key=lambda r: r["count"]) if rows else None


def share(mine, theirs, target):
    """muster's part of it, and whether that is what is asked."""
    if not theirs:
        return "-"
    ratio = mine / theirs
    text = f"{ratio:.3f}" if ratio < 0.2 else f"{ratio:.2f}"
    if target:
        text += ": yes" if ratio <= target else ": **no**"
    return text


def comparison(results):
    lines = ["| | muster | ZooKeeper | muster's of it | asked | ZooKeeper, -Xmx1000m: muster's of "
             "it | etcd |", "|---|---|---|---|---|---|---|"]
    for part, name, unit, function, target in LARGEST:
        mine = largest(results, part, "muster")
        if mine is None:
            continue
        rows = {k: largest(results, part, k) for k in KINDS}
        v = {k: value(function, r) if r and r["count"] == mine["count"] else None
             for k, r in rows.items()}
        small = number(v["zookeeper 1000m"], unit)
        if v["zookeeper 1000m"]:
            small += f": {share(v['muster'], v['zookeeper 1000m'], target)}"
        lines.append(f"| {name.format(count=format(mine['count'], ','))} | "
                     f"{number(v['muster'], unit)} | {number(v['zookeeper'], unit)} | "
                     f"{share(v['muster'], v['zookeeper'], target)} | "
                     f"{f'{target:.2f}' if target else ''} | {small} | "
                     f"{number(v['etcd'], unit)} |")
    return lines


def steps_of(results, part, kind="muster"):
    return sorted(results.get(part, {}).get(kind, ()), key=lambda r: r["count"])


def growth_ratio(kind, before, after, input_ratio):
    """Above 1: it grows faster than it may."""
    if not before or before <= 0:
        return None
    return after / before / (input_ratio if kind == IN_ALL else 1)


def growth(results):
    """Lines, and what grows faster than its input: (part, figure, from, to, ratio)."""
    lines, fast = [], []
    for part, figures in GROWTH.items():
        rows = steps_of(results, part)
        if len(rows) < 2:
            continue
        counts = [r["count"] for r in rows]
        lines += ["", f"**{part}**", "",
                  "| | " + " | ".join(f"{c:,}" for c in counts) + " | faster than its input |",
                  "|---|" + "---|" * (len(counts) + 1)]
        for name, kind, function, unit in figures:
            values = [value(function, r) for r in rows]
            notes = []
            for i in range(1, len(rows)):
                ratio = growth_ratio(kind, values[i - 1], values[i], counts[i] / counts[i - 1])
                if ratio is not None and ratio > FASTER:
                    notes.append(f"{ratio:.1f} times, from {counts[i - 1]:,} to {counts[i]:,}")
                    fast.append((part, name, counts[i - 1], counts[i], round(ratio, 2)))
            lines.append(f"| {name} | " + " | ".join(number(v, unit) for v in values) +
                         f" | {'; '.join(notes)} |")
    return lines, fast


# ---- the picture ----

STYLE = """<style>
text { font: 12px sans-serif; fill: #222 }
.h { font-weight: bold; font-size: 13px }
.g { stroke: #ccc; stroke-width: 1 }
.d { stroke: #888; stroke-width: 1.5; stroke-dasharray: 5 4; fill: none }
path { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .g { stroke: #444 } }
</style>"""
COLOURS = ("#3b82c4", "#d9822b", "#3f9e5a", "#c0504d", "#8a63b8", "#8c7a5b", "#c7609b", "#5f9ea0",
           "#9a9a2e", "#777777")
WIDE, HIGH, LEFT, ABOVE, LABELS = 250, 230, 45, 40, 190


def panel(part, rows, x0):
    """Each figure as a multiple of its first one; both axes logarithmic."""
    counts = [r["count"] for r in rows]
    base, span = math.log10(counts[0]), math.log10(counts[-1] / counts[0])
    figures = [(name, colour, [value(function, r) for r in rows])
               for (name, _, function, _), colour in zip(GROWTH[part], COLOURS)]
    figures = [f for f in figures if f[2][0] and f[2][0] > 0 and None not in f[2]]
    low = -1
    high = math.ceil(math.log10(max([counts[-1] / counts[0]] +
                                    [max(v) / v[0] for _, _, v in figures])) - 0.02)

    def x(c):
        return x0 + (math.log10(c) - base) / span * WIDE

    def y(v):
        v = min(max(math.log10(max(v, 1e-9)), low), high)
        return ABOVE + HIGH - (v - low) / (high - low) * HIGH

    out = [f'<text class="h" x="{x0}" y="{ABOVE - 18}">{part}: times as much as at '
           f'{counts[0]:,}</text>']
    for e in range(low, high + 1):
        out.append(f'<line class="g" x1="{x0}" x2="{x0 + WIDE}" y1="{y(10 ** e):.0f}" '
                   f'y2="{y(10 ** e):.0f}"/><text x="{x0 - 8}" y="{y(10 ** e) + 4:.0f}" '
                   f'text-anchor="end">{10 ** e:g}</text>')
    for c in counts:
        out.append(f'<text x="{x(c):.0f}" y="{ABOVE + HIGH + 18}" text-anchor="middle">{c:,}</text>')
    out.append(f'<path class="d" d="M{x(counts[0]):.0f} {y(1):.0f} L{x(counts[-1]):.0f} '
               f'{y(counts[-1] / counts[0]):.0f}"/>')
    ends = []
    for name, colour, values in figures:
        points = [(x(c), y(v / values[0])) for c, v in zip(counts, values)]
        out.append(f'<path stroke="{colour}" d="M' +
                   " L".join(f"{a:.1f} {b:.1f}" for a, b in points) + '"/>')
        ends.append([points[-1][1], name, colour])
    ends.sort()
    for i in range(1, len(ends)):  # labels that do not cover each other
        ends[i][0] = max(ends[i][0], ends[i - 1][0] + 14)
    for at, name, colour in ends:
        out.append(f'<text x="{x0 + WIDE + 8}" y="{at + 4:.0f}"><tspan style="fill: {colour}">'
                   f'&#9632;</tspan> {name}</text>')
    return out


def picture(results):
    parts = [p for p in GROWTH if len(steps_of(results, p)) > 1]
    wide, high = LEFT + WIDE + LABELS, ABOVE + HIGH + 50
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high * len(parts)}" '
           f'width="{wide}" height="{high * len(parts)}">', STYLE]
    for i, part in enumerate(parts):
        out += [f'<g transform="translate(0 {high * i})">', *panel(part, steps_of(results, part),
                                                                   LEFT), "</g>"]
    return "\n".join(out + ["</svg>"]) + "\n"


# ---- the page ----

def put_between(text, name, lines):
    """Between the marks of that name."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    before, found, rest = text.partition(begin)
    if not found:
        raise SystemExit(f"bench: performance-sizes.md has no line {begin.strip()}")
    return before + begin + "\n".join(lines) + "\n" + end + rest.partition(end)[2]


def write_json(path, results):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(results, f, indent=1)
        f.write("\n")


def rewrite(docs, name, lines):
    page = os.path.join(docs, "performance-sizes.md")
    with open(page, encoding="utf-8") as f:
        text = f.read()
    with open(page, "w", encoding="utf-8") as f:
        f.write(put_between(text, name, lines))


def machine_line(results):
    m = results["machine"]
    return (f"{m['cores']} cores, Linux {m['kernel']}, {', '.join(m['versions'].values())}; "
            f"{m['seconds']} s in all; the load before it began was {m['load_before']:.1f}.")


def run_lines(results):
    """Of which run each column is: the kinds and parts of one run together."""
    runs = {}
    for kind in KINDS:
        for part in PARTS:
            r = results["runs"].get(part, {}).get(kind)
            if r:
                runs.setdefault((r["date"], r["cores"], r["kernel"], r["load_before"]), {}) \
                    .setdefault((kind, r["version"]), []).append(part)
    for (date, cores, kernel, load), measured in sorted(runs.items(), reverse=True):
        yield f"- {date}, {cores} cores, Linux {kernel}, the load before was {load:g}: " + \
            "; ".join(f"{version}{''.join(KINDS[kind].partition(',')[1:])} ({', '.join(parts)})"
                      for (kind, version), parts in measured.items())


def merged(path, results):
    """With what was kept before and not measured now."""
    if not os.path.exists(path):
        return results
    with open(path, encoding="utf-8") as f:
        kept = json.load(f)
    return {part: {**kept.get(part, {}), **results.get(part, {})} for part in PARTS} | \
        {"runs": {part: {**kept["runs"].get(part, {}), **results["runs"].get(part, {})}
                  for part in PARTS}}


def write_page(docs, results):
    path = os.path.join(docs, "measured", "sizes.json")
    results = merged(path, results)
    lines, fast = growth(results)
    results["faster_than_input"] = fast
    write_json(path, results)
    with open(path.replace("sizes.json", "growth.svg"), "w", encoding="utf-8") as f:
        f.write(picture(results))
    rewrite(docs, "sizes", ["", *run_lines(results), "", *comparison(results), ""])
    rewrite(docs, "growth", [*lines, ""])


def ensemble_table(results):
    names = {"muster": "muster", "before": "muster, before", "zookeeper": "ZooKeeper",
             "etcd": "etcd"}
    lines = ["| | until a write is acknowledged again, ms: least / median / worst | until each "
             "session has written: median / worst | writes a second before | acknowledged writes "
             "missing |", "|---|---|---|---|---|"]
    for name, s in results["summary"].items():
        lines.append(f"| {names[name]}, {s['trials']} trials | {s['next_least_ms']:.0f} / "
                     f"**{s['next_median_ms']:.0f}** / {s['next_worst_ms']:.0f} | "
                     f"{s['all_median_ms']:.0f} / {s['all_worst_ms']:.0f} | {s['rate']:,.0f} | "
                     f"{s['missing']} of {s['acknowledged']:,} |")
    return lines


def write_ensemble(path, results):
    write_json(path, results)
    rewrite(DOCS, "ensemble", ["", machine_line(results), "", *ensemble_table(results), ""])
