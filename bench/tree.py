#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./dev bench tree: throughput and latency of muster beside Debian's ZooKeeper and etcd, and
beside "sockets", one process that answers out of nothing: what the kernel leaves room for.

    tree.py [--rounds N] [--seconds S] [--servers 3|1] [--only OP,...] [--systems NAME,...]
            [--quick] [--muster PROGRAM] [--dir DIR] [--write]
    tree.py --check      muster and sockets, every kind of load for a moment: are the replies right?
    tree.py --show       the table and the targets once more, from docs/measured/tree.json

Three servers of each system, all on this machine's loopback and one disk; then one of each. In
each round every kind of load is given to one system after the other, who begins changes. The
figures are medians of the rounds. The load generators (bench/load.c, bench/etcd_load.go) check
every reply; a wrong one is told, and the exit code is 1. --quick: one round, one second each,
three servers only. --write: docs/measured/tree.json, tree.svg beside it, and the tables of
docs/performance.md; with --servers, the other half of them stays as it was, so that the two
halves can be measured one after the other (--servers 3 --write, then --servers 1 --write).
"""
import argparse
import json
import os
import platform
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from peers import TICK, TOP, Ensemble, is_there, version  # noqa: E402
import tree_page  # noqa: E402

LOAD = os.path.join(TOP, "build", "tool_load")
ETCD_LOAD = os.path.join(TOP, "build", "clients", "etcd_load")
RESULTS = os.path.join(TOP, "docs", "measured", "tree.json")
SYSTEMS = ("muster", "zookeeper", "etcd", "sockets")
CHECKED = (200, 3000)  # requests of --check: of the small shapes, of the others
LIMIT_S = 180  # of one run: what it created, it deletes
BACKLOG = "clientPortListenBacklog=1024"
ETCD_WORDS = ("--quota-backend-bytes", "8589934592")  # its default of 2 GB ends a long run
FIGURES = ("rate", "p50_us", "p99_us", "p999_us", "cpu_s", "bytes", "switches", "load_cpu")
SHAPES = ((1, 1), (10, 1), (100, 1), (30, 64))
LOADED = ((100, 1), (30, 64))
BEGAN = time.monotonic()


def cases(servers):
    """operation, (sessions, in flight), bytes"""
    for op in ("set", "get", "create+delete"):
        for shape in SHAPES:
            yield op, shape, 100
    yield from ((op, (30, 64), 1000) for op in ("set", "get", "create+delete"))
    yield "exists", (30, 64), 100
    if servers == 1:
        return
    yield "exists", (100, 1), 100
    yield "eseq+delete", (1, 1), 100
    yield "eseq+delete", (30, 64), 100
    for op in ("mix90", "mix50"):
        for shape in LOADED:
            yield op, shape, 100
    yield "multi", (1, 1), 100
    yield "multi", (30, 64), 100
    yield "watch", (1000, 1), 100
    yield "pwatch", (1000, 1), 100
    yield "connect", (30, 1), 0
    yield "lock", (10, 1), 0


ETCD_OPS = {"set": "set", "get": "get", "create+delete": "create"}
SOCKETS_OPS = ("set", "get", "exists", "watch", "pwatch", "connect")
FEWER = ((1, 1), (100, 1), (30, 64), (1000, 1), (30, 1))  # the shapes of --quick


def say(text):
    print(f"{time.monotonic() - BEGAN:6.0f} s  {text}", file=sys.stderr, flush=True)


def interrupted(*_):
    sys.exit(130)


def on_signals(what):
    """Set even where Ctrl-C was ignored, as in the background: what was started has to end."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, what)


def make_etcd_load():
    """False: it cannot be made."""
    source = os.path.join(HERE, "etcd_load.go")
    if os.path.exists(ETCD_LOAD) and os.path.getmtime(ETCD_LOAD) > os.path.getmtime(source):
        return True
    if not shutil.which("go"):
        return False
    made = os.path.dirname(ETCD_LOAD)
    os.makedirs(made, exist_ok=True)
    say("compiling the load generator for etcd (the first time: a minute)")
    r = subprocess.run(["go", "build", "-o", ETCD_LOAD, source], text=True, capture_output=True,
                       check=False, env={**os.environ, "GO111MODULE": "off", "GOFLAGS": "",
                                         "GOPATH": "/usr/share/gocode", "CGO_ENABLED": "0",
                                         "GOCACHE": f"{made}/go-cache"})
    if r.returncode != 0:
        say(f"it does not compile: {r.stderr[-600:]}")
    return r.returncode == 0


# ---- what else ran ----

def busy_s():
    """Processor seconds of everything on this machine since it was started."""
    with open("/proc/stat", encoding="ascii") as f:
        user, nice, system, _, _, irq, soft = map(int, f.readline().split()[1:8])
    return (user + nice + system + irq + soft) / TICK


def own_s(systems):
    """Those of the servers, of the load generators that have ended, and of this program."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used) + \
        sum(server.cpu_s() for s in systems for server in s.ensemble.servers
            if server.process.poll() is None)


# ---- one run ----

def can(kind, op):
    return op in {"etcd": ETCD_OPS, "sockets": SOCKETS_OPS}.get(kind, [op])


class System:
    def __init__(self, kind, top, servers, program):
        settings = ETCD_WORDS if kind == "etcd" else (BACKLOG,)
        self.kind, self.top = kind, top
        self.ensemble = Ensemble(kind, top, servers, settings=settings, program=program)
        self.number = 0

    def hosts(self):
        """The leader last: who has one session has it on a follower."""
        leader = self.ensemble.leader()
        ordered = sorted(self.ensemble.servers, key=lambda s: s is leader)
        return ",".join(f"127.0.0.1:{s.client}" for s in ordered)

    def run(self, op, shape, size, *how_long):
        """A figure for each line that the load generator prints: {operation: its JSON}."""
        self.number += 1
        program, word = (ETCD_LOAD, ETCD_OPS[op]) if self.kind == "etcd" else (LOAD, op)
        line = [program, self.hosts(), word, f"sessions={shape[0]}", f"window={shape[1]}",
                f"size={size}", f"name=b{self.number}", *how_long, f"disk={self.top}",
                "pids=" + ",".join(str(s.process.pid) for s in self.ensemble.servers)]
        try:
            out = subprocess.run(line, capture_output=True, text=True, timeout=LIMIT_S,
                                 check=False)
        except subprocess.TimeoutExpired:
            raise Wrong(f"no end within {LIMIT_S} s") from None
        if out.returncode != 0:
            raise Wrong(out.stderr.strip()[-400:] or f"exit code {out.returncode}")
        lines = [json.loads(line) for line in out.stdout.splitlines()]
        return {r["op"]: figures(r) for r in lines}


class Wrong(Exception):
    """A run that did not end well; why."""


def figures(r):
    n, seconds = max(r["requests"], 1), r["seconds"]
    return {"rate": r["rate"], "p50_us": r["p50_us"], "p99_us": r["p99_us"],
            "p999_us": r["p999_us"], "requests": r["requests"],
            "cpu_s": r["servers_cpu_s"] / n * 1e5, "bytes": r.get("disk_bytes_each"),
            "switches": r["servers_switches"] / n,
            "load_cpu": r["load_cpu_s"] / seconds if seconds > 0 else 0}


def median(values):
    """None: of a figure that could not be had."""
    return None if None in values else round(statistics.median(values), 3)


# ---- all of it ----

def words(op, shape, size, servers):
    return f"{op} {shape[0]}x{shape[1]}, {size} bytes, {servers} servers"


class Bench:
    def __init__(self, options):
        self.options = options
        self.found = {}   # (servers, op, sessions, window, size, system): figures of each round
        self.failed = []  # texts
        self.others = {}  # processors that something else used, by the number of servers
        self.runs, self.runs_done, self.runs_s = 0, 0, 0.0  # how long it takes still

    def left(self):
        if not self.runs_done:
            return ""
        s = self.runs_s / self.runs_done * (self.runs - self.runs_done)
        return f"; {s / 60:.1f} minutes left"

    def try_run(self, system, op, shape, size, *how_long):
        try:
            return system.run(op, shape, size, *how_long)
        except Wrong as e:
            what = words(op, shape, size, len(system.ensemble.servers))
            self.failed.append(f"{system.kind}: {what}: {e}")
            say(f"FAILED {self.failed[-1]}")
            for s in system.ensemble.servers:
                print(f"--- {s.kind} {s.number}, 127.0.0.1:{s.client}:\n{s.tail()}",
                      file=sys.stderr)
            return {}

    def note(self, servers, shape, size, kind, results):
        for op, r in results.items():
            self.found.setdefault((servers, op, *shape, size, kind), []).append(r)

    def plan(self, servers):
        o = self.options
        for op, shape, size in cases(servers):
            if o.only and not set(op.split("+")) & set(o.only):
                continue
            if o.quick and (shape not in FEWER or size == 1000):
                continue
            yield op, shape, size

    def expect(self, all_servers):
        for servers in all_servers:
            self.runs += self.options.rounds * sum(
                can(kind, op) for op, _, _ in self.plan(servers) for kind in self.options.systems)

    def warm_up(self, systems):
        """Java compiles what is run often; nothing of this is counted."""
        for s in systems:
            say(f"warming up {s.kind}")
            for op in ("set", "create+delete", "get"):
                if can(s.kind, op):
                    self.try_run(s, op, (30, 64), 100, f"seconds={self.options.warm_up}")

    def in_turns(self, servers, systems):
        o, plan = self.options, list(self.plan(servers))
        how_long = (f"seconds={o.seconds:g}", f"warm={o.warm}")
        for n in range(o.rounds):
            for i, (op, shape, size) in enumerate(plan):
                shown = []
                turn = (n + i) % len(systems)
                for s in systems[turn:] + systems[:turn]:
                    if not can(s.kind, op):
                        continue
                    if o.check:
                        how_long = (f"requests={CHECKED[shape[0] * shape[1] > 10]}",)
                    began = time.monotonic()
                    r = self.try_run(s, op, shape, size, *how_long)
                    self.runs_s += time.monotonic() - began
                    self.runs_done += 1
                    self.note(servers, shape, size, s.kind, r)
                    shown.append(f"{s.kind} " + (", ".join(f"{x['rate']:,.0f}"
                                                           for x in r.values()) or "FAILED"))
                say(f"round {n + 1}/{o.rounds}, {i + 1}/{len(plan)}: "
                    f"{words(op, shape, size, servers)}: " + "; ".join(shown) + self.left())

    def measure(self, servers):
        o = self.options
        if not list(self.plan(servers)):
            return
        top = tempfile.mkdtemp(prefix="bench-tree-", dir=o.dir)
        systems = [System(kind, top, 1 if kind == "sockets" else servers, o.muster)
                   for kind in o.systems]
        try:
            for s in systems:
                say(f"starting {len(s.ensemble.servers)} of {s.kind}")
                s.ensemble.start()
            if not o.check:
                self.warm_up(systems)
            began, busy, own = time.monotonic(), busy_s(), own_s(systems)
            self.in_turns(servers, systems)
            took = time.monotonic() - began
            self.others[servers] = round((busy_s() - busy - own_s(systems) + own) / took, 2)
        finally:
            on_signals(signal.SIG_IGN)  # a second Ctrl-C must not leave half of them
            for s in systems:
                s.ensemble.end()
            shutil.rmtree(top, ignore_errors=True)
            on_signals(interrupted)

    def results(self):
        rows = []
        for (servers, op, sessions, window, size, kind), runs in self.found.items():
            rows.append({"servers": servers, "op": op, "sessions": sessions, "window": window,
                         "size": size, "system": kind,
                         **{k: median([r[k] for r in runs]) for k in FIGURES},
                         "rates": [round(r["rate"], 1) for r in runs]})
        return rows


def machine(options, load_before, other):
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        model = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
    with open("/proc/meminfo", encoding="ascii") as f:
        memory_kb = int(f.readline().split()[1])
    disk = subprocess.run(["stat", "-f", "-c", "%T", options.dir], capture_output=True, text=True,
                          check=False).stdout.strip()
    return {"processors": os.cpu_count(), "model": model[0] if model else platform.machine(),
            "memory_gb": round(memory_kb / 1e6, 1), "kernel": platform.release(),
            "file_system": disk, "load_before": round(load_before, 2), "other_processors": other,
            "date": time.strftime("%Y-%m-%d"), "rounds": options.rounds,
            "seconds": options.seconds,
            "versions": {k: version(k) for k in options.systems if k != "sockets"}}


def check(options):
    """A line for each kind of load: "ok ..." or "FAILED ..."."""
    options.systems, options.rounds = ["muster", "sockets"], 1
    bench = Bench(options)
    bench.expect((3, 1))
    for servers in (3, 1):
        bench.measure(servers)
    for (servers, op, sessions, window, size, kind), runs in bench.found.items():
        print(f"ok bench: {kind}: {words(op, (sessions, window), size, servers)}: "
              f"{runs[0]['requests']}")
    for text in bench.failed:
        print("FAILED bench: " + text.replace("\n", " "))
    sys.exit(1 if bench.failed else 0)


def choose_systems(options):
    for kind in list(options.systems):
        why = "is not installed" if not is_there(kind) else \
            "has no load generator (golang-go, golang-etcd-server-dev)" \
            if kind == "etcd" and not make_etcd_load() else ""
        if why:
            say(f"{kind} {why}: without it")
            options.systems.remove(kind)


def read_options():
    p = argparse.ArgumentParser()
    p.add_argument("--rounds", type=int)
    p.add_argument("--seconds", type=float)
    p.add_argument("--servers", type=int, choices=(1, 3))
    p.add_argument("--only", type=lambda s: s.split(","))
    p.add_argument("--systems", type=lambda s: s.split(","), default=list(SYSTEMS))
    p.add_argument("--quick", action="store_true")
    p.add_argument("--check", action="store_true")
    p.add_argument("--show", action="store_true")
    p.add_argument("--write", action="store_true")
    p.add_argument("--muster", help="another build of it")
    p.add_argument("--dir", default=os.path.join(TOP, "build"), help="the disk that is measured")
    o = p.parse_args()
    if o.write and (o.only or o.quick or len(o.systems) < len(SYSTEMS)):
        p.error("--write keeps whole runs: without --only, --systems and --quick")
    unknown = [s for s in o.systems if s not in SYSTEMS]
    if unknown:
        p.error(f"no system {' '.join(unknown)}; there are: {' '.join(SYSTEMS)}")
    o.rounds = o.rounds or (1 if o.quick else 2)
    o.seconds = o.seconds or (1 if o.quick else 2)
    o.warm, o.warm_up = 0.3 if o.quick else 0.5, 2 if o.quick else 4
    return o


def main():
    options = read_options()
    on_signals(interrupted)
    if options.show:
        with open(RESULTS, encoding="utf-8") as f:
            results = json.load(f)
        print("\n".join(tree_page.tables(results)))
        return
    if not os.path.exists(LOAD):
        raise SystemExit(f"bench: there is no {LOAD}: ./dev build")
    if options.check:
        check(options)
    choose_systems(options)
    load_before = os.getloadavg()[0]
    bench = Bench(options)
    wanted = [options.servers] if options.servers else [3] if options.quick else [3, 1]
    bench.expect(wanted)
    for servers in wanted:
        bench.measure(servers)
    results = {"runs": {str(n): machine(options, load_before, x)
                        for n, x in bench.others.items()}, "rows": bench.results()}
    print("\n".join(tree_page.tables(results)))
    for text in bench.failed:
        print(f"FAILED {text}")
    if options.write:
        tree_page.write(RESULTS, results)
    sys.exit(1 if bench.failed else 0)


if __name__ == "__main__":
    main()
