#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./dev bench sizes: memory, start and growth of muster beside Debian's ZooKeeper and etcd.

    sizes.py [--quick] [--muster-only] [--kinds KIND,...] [--only PART,...] [--keep FILE]
             [--write [--into DIR]]

Parts:
  nodes     10,000, 100,000 and a million znodes of 100 bytes, in directories of 1,000: memory,
            sets and gets (30 sessions x 16 in flight), a snapshot under load, kill -9 and restart
  sessions  200, 2,000 and 20,000 that only ping: memory, how fast they connect, what pings cost
  watches   10,000, 100,000 and a million on as many znodes: memory, events
  join      three servers with a million znodes, one loses its disk: until it serves again, and
            what a client of another one sees meanwhile

muster at all three sizes, ZooKeeper and etcd (nodes only) at the largest and the smallest; one
after the other, each alone on the machine. --quick: a fiftieth of the largest, in seconds, a
line "ok" or "FAILED" for each. --muster-only: without the others.
Checks that every request is answered rightly and nothing is missing after a restart, never how
long it takes. --write: docs/measured/sizes.json, the picture beside it and the tables of
docs/performance-sizes.md. What this run has not measured (a kind, a part) stays there as it
was, and the page says from which run each is. --into DIR: that, and not docs.
"""
import argparse
import base64
import http.client
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from peers import TOP, Ensemble, Server, is_there, version, wait_for  # noqa: E402
from sizes_page import DOCS, write_page  # noqa: E402

TOOL = os.path.join(TOP, "build", "tool_sizes")
STEPS = {"nodes": (10000, 100000, 1000000), "sessions": (200, 2000, 20000),
         "watches": (10000, 100000, 1000000)}
EACH, SIZE = 1000, 100
FILES_KEPT = 500        # of a process's files, for other things than clients
LOAD = (30, 16)         # sessions, in flight
LOAD_REQUESTS = 300000
IDLE_S = 20             # of pings: each session sends two
SNAPSHOT_S = 60         # a snapshot under load is waited for so long
ETCD_BATCH = 128        # operations of a transaction: etcd's own limit
JOIN_WARM_S = 3
QUICK = 50
FILLS_MAX = 20
UPSTREAM_HEAP = ("-Xmx1000m",)  # what ZooKeeper's own scripts set, and Debian's do not
BEGAN = time.monotonic()


def say(text):
    print(f"{time.monotonic() - BEGAN:6.0f} s  {text}", file=sys.stderr, flush=True)


def mb(n):
    return f"{n / 1e6:.1f} MB"


# ---- clients ----

class Client:
    """A tool_sizes that goes on until it is ended, which prints a line of JSON now and then."""

    def __init__(self, server, *words):
        self.process = subprocess.Popen([TOOL, str(server.client), *map(str, words)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            raise SystemExit("bench: a client failed; see above")
        return json.loads(text)

    def fire(self):
        self.process.stdin.write("fire\n")
        self.process.stdin.flush()
        return self.line()

    def end(self, has_more=False):
        """has_more: the result comes at the end."""
        self.process.stdin.close()
        result = self.line() if has_more else None
        if self.process.wait(60) != 0:
            raise SystemExit("bench: a client failed; see above")
        return result

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        if not self.process.stdin.closed:
            self.process.stdin.close()


def ask(server, *words):
    out = subprocess.run([TOOL, str(server.client), *map(str, words)], capture_output=True,
                         stdin=subprocess.DEVNULL, text=True, check=False)
    if out.returncode != 0:
        raise SystemExit(f"bench: {server.kind}: tool_sizes {' '.join(map(str, words))}: "
                         f"{out.stderr.strip()}; {server.tail()}")
    return json.loads(out.stdout)


def shape(count):
    return (max(1, count // EACH), min(count, EACH), SIZE)


def load(server, op, count, requests):
    before = server.cpu_s()
    r = ask(server, "load", op, *LOAD, *shape(count), requests)
    r["cpu_us"] = (server.cpu_s() - before) / r["done"] * 1e6
    r["rate"] = r["done"] / r["seconds"]
    return r


def count_of(server):
    """znodes, as the server says."""
    return int(server.monitor().get("zk_znode_count", -1))


# ---- etcd, over its HTTP gateway ----

def etcd_call(link, path, body):
    link.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = link.getresponse()
    data = answer.read()
    if answer.status != 200:
        raise SystemExit(f"bench: etcd answers {answer.status} to {path}: {data[:200]!r}")
    return json.loads(data)


def b64(s):
    return base64.b64encode(s.encode()).decode()


def leaf(n):
    return f"/n/d{n // EACH:04}/n{n % EACH:04}"


def etcd_fill(server, count):
    link = http.client.HTTPConnection("127.0.0.1", server.client, timeout=60)
    value = b64("d" * SIZE)
    for first in range(0, count, ETCD_BATCH):
        puts = [{"requestPut": {"key": b64(leaf(n)), "value": value}}
                for n in range(first, min(count, first + ETCD_BATCH))]
        etcd_call(link, "/v3/kv/txn", {"success": puts})
    link.close()


def etcd_count(server):
    link = http.client.HTTPConnection("127.0.0.1", server.client, timeout=60)
    r = etcd_call(link, "/v3/kv/range", {"key": b64("/n/"), "range_end": b64("/n0"),
                                         "count_only": True})
    link.close()
    return int(r.get("count", 0))


def etcd_first(server, path):
    """Until a linearizable read is answered."""
    def answered():
        try:
            link = http.client.HTTPConnection("127.0.0.1", server.client, timeout=60)
            r = etcd_call(link, "/v3/kv/range", {"key": b64(path)})
            link.close()
            return int(r.get("count", 0)) == 1
        except (OSError, http.client.HTTPException, SystemExit):
            return False
    until = time.monotonic() + 300
    while not answered():
        if time.monotonic() > until:
            raise SystemExit(f"bench: etcd does not answer: {server.tail()}")
        time.sleep(0.001)
    return time.monotonic_ns()


# ---- the parts ----

def fill(server, count):
    if server.kind == "etcd":
        begun = time.monotonic()
        etcd_fill(server, count)
        return time.monotonic() - begun
    return ask(server, "fill", *LOAD, *shape(count))["seconds"]


def must_have(server, count):
    have = etcd_count(server) if server.kind == "etcd" else count_of(server)
    if have < count:
        raise SystemExit(f"bench: {server.kind} has {have} of {count} znodes")


def snapshot_under_load(server, count):
    """Sets at LOAD, and gets at 1x1 every ms, until two more snapshots have been made; first as
    long without looking, so that both see the same load."""
    def made():
        return int(float(server.monitor().get("zk_cnt_snapshottime", 0)))
    server.forget_peak()
    before = server.memory()
    with Client(server, "load", "set", *LOAD, *shape(count), 0) as writer, \
            Client(server, "pace", leaf(0), 1000) as reader:
        begun, had = time.monotonic(), made()
        while made() < had + 2 and time.monotonic() < begun + SNAPSHOT_S:
            time.sleep(0.1)
        reads, writes = reader.end(True), writer.end(True)
    after, facts = server.memory(), server.monitor()
    return {"snapshots": made() - had, "rss_before": before["rss"], "peak": after["peak"],
            "get_p50_us": reads["p50_us"], "get_p99_us": reads["p99_us"],
            "get_max_us": reads["max_us"], "sets_per_s": writes["done"] / writes["seconds"],
            "set_max_us": writes["max_us"],
            "snapshot_ms": float(facts.get("zk_max_snapshottime", 0))}


def restart(server, count):
    """kill -9, and again: from exec() to the first get that is answered."""
    server.end()
    disk = server.disk_bytes()
    server.start()
    if server.kind == "etcd":
        at_ns = etcd_first(server, leaf(count - 1))
    else:
        at_ns = ask(server, "first", leaf(count - 1))["at_ns"]
    took_ms = (at_ns - server.started_ns) / 1e6
    server.wait()
    must_have(server, count)
    r = {"restart_ms": took_ms, "disk": disk, "rss_restarted": server.memory()["rss"]}
    if server.kind != "etcd":
        snapshot = server.newest_snapshot_bytes()
        r.update({"snapshot_bytes": snapshot, "ms_per_100_mb": took_ms / (snapshot / 1e8),
                  "load_ms": float(server.monitor().get("zk_max_startup_snap_load_time", 0))})
    return r


def nodes(kind, count, top, java=()):
    server = Server(kind, top, java=java)
    r = {"count": count}
    try:
        server.start().wait()
        time.sleep(1)
        r["empty"] = server.memory()
        cpu = server.cpu_s()
        r["fill_s"] = fill(server, count)
        r["fill_cpu_us"] = (server.cpu_s() - cpu) / count * 1e6
        must_have(server, count)
        r["full"] = server.memory()
        if kind != "etcd":
            for op in ("get", "set"):
                load(server, op, count, LOAD_REQUESTS // 10)
                r[op] = load(server, op, count, LOAD_REQUESTS)
            r["snapshot"] = snapshot_under_load(server, count)
        r.update(restart(server, count))
    finally:
        server.end()
    say(f"{kind} {' '.join(java)} {count} znodes: empty {mb(r['empty']['rss'])}, full "
        f"{mb(r['full']['rss'])}, restart {r['restart_ms']:.0f} ms of {mb(r['disk'])}" +
        (f"; get {r['get']['cpu_us']:.1f} us CPU, set {r['set']['cpu_us']:.1f}; snapshot "
         f"{r['snapshot']['snapshot_ms']:.0f} ms, peak {mb(r['snapshot']['peak'])}, longest get "
         f"{r['snapshot']['get_max_us'] / 1000:.0f} ms" if "get" in r else ""))
    return r


def filled_anew(server, count):
    """With so many znodes, and nothing in memory that filling it has left there."""
    server.start().wait()
    fill(server, count)
    restart(server, count)
    time.sleep(1)
    return server.memory()


def sessions(kind, count, top):
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    count = min(count, files - FILES_KEPT)
    server = Server(kind, top)
    try:
        r = {"count": count, "before": filled_anew(server, EACH)}
        cpu = server.cpu_s()
        with Client(server, "idle", count, 40000) as crowd:
            opened = crowd.line()
            r["connect_cpu_us"] = (server.cpu_s() - cpu) / count * 1e6
            r["connect_s"] = opened["seconds"]
            r["connects_per_s"] = count / opened["seconds"]
            time.sleep(2)
            r["after"] = server.memory()
            cpu, begun = server.cpu_s(), time.monotonic()
            time.sleep(IDLE_S)
            r["idle_cpu_percent"] = (server.cpu_s() - cpu) / (time.monotonic() - begun) * 100
            r["get"] = load(server, "get", 1000, LOAD_REQUESTS // 2)
            r["set"] = load(server, "set", 1000, LOAD_REQUESTS // 2)
            crowd.end()
        r["each"] = (r["after"]["rss"] - r["before"]["rss"]) / count
    finally:
        server.end()
    say(f"{kind} {count} sessions: {mb(r['after']['rss'])}, {r['each']:.0f} bytes each; "
        f"{r['connects_per_s']:.0f} connects/s; idle {r['idle_cpu_percent']:.1f} % of a core; "
        f"set {r['set']['cpu_us']:.1f} us CPU")
    return r


def watches(kind, count, top):
    server = Server(kind, top)
    try:
        r = {"count": count, "before": filled_anew(server, count)}
        cpu = server.cpu_s()
        with Client(server, "watch", 100, count, *shape(count)) as crowd:
            r["watch_s"] = crowd.line()["seconds"]
            r["watch_cpu_us"] = (server.cpu_s() - cpu) / count * 1e6
            time.sleep(1)
            r["after"] = server.memory()
            cpu = server.cpu_s()
            fired = crowd.fire()
            if fired["done"] != count:
                raise SystemExit(f"bench: {kind}: {fired['done']} events, {count} watches")
            r["fire_s"] = fired["seconds"]
            r["fire_cpu_us"] = (server.cpu_s() - cpu) / count * 1e6
            crowd.end()
        r["each"] = (r["after"]["rss"] - r["before"]["rss"]) / count
    finally:
        server.end()
    say(f"{kind} {count} watches: {mb(r['after']['rss'])}, {r['each']:.0f} bytes each; set in "
        f"{r['watch_s']:.2f} s; set + event {r['fire_cpu_us']:.1f} us CPU, "
        f"{count / r['fire_s']:.0f} events/s")
    return r


def fill_ensemble(ensemble, count):
    """How often connections were lost meanwhile: then it is filled up."""
    for broken in range(FILLS_MAX):
        words = (TOOL, str(ensemble.leader().client), "refill" if broken else "fill",
                 *map(str, (*LOAD, *shape(count))))
        if subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          check=False).returncode == 0:
            return broken
        say(f"{ensemble.kind}: the server ended a connection while it was filled; once more")
        wait_for(ensemble.leader, 60, lambda: f"a leader of {ensemble.kind}")
    raise SystemExit(f"bench: {ensemble.kind} cannot be filled")


def join(kind, count, top):
    """The follower that is wiped comes back with nothing but its configuration."""
    ensemble = Ensemble(kind, top)
    try:
        ensemble.start()
        r = {"count": count, "fills_broken": fill_ensemble(ensemble, count)}
        lost, other = ensemble.followers()
        r["disk"] = lost.disk_bytes()
        with Client(ensemble.leader(), "pace", leaf(0), 1000) as at_leader, \
                Client(other, "pace", leaf(0), 1000) as at_other:
            time.sleep(JOIN_WARM_S)
            quiet = [c.end(True) for c in (at_leader, at_other)]
        lost.end()
        lost.wipe()
        wait_for(ensemble.leader, 60, lambda: f"a leader of {kind}")
        ensemble.leader().forget_peak()
        with Client(ensemble.leader(), "pace", leaf(0), 1000) as at_leader, \
                Client(other, "pace", leaf(0), 1000) as at_other:
            lost.start()
            r["join_ms"] = (ask(lost, "first", leaf(count - 1))["at_ns"] - lost.started_ns) / 1e6
            seen = [c.end(True) for c in (at_leader, at_other)]
        lost.wait()
        must_have(lost, count)
        r["leader"] = ensemble.leader().memory()
        for name, before, during in zip(("leader", "other"), quiet, seen):
            for field in ("p50_us", "p99_us", "max_us"):
                r[f"{name}_quiet_{field}"], r[f"{name}_{field}"] = before[field], during[field]
    finally:
        ensemble.end()
    say(f"{kind} join with {count} znodes: {r['join_ms']:.0f} ms; a client of the leader p99 "
        f"{r['leader_p99_us'] / 1000:.1f} ms, max {r['leader_max_us'] / 1000:.0f} (quiet: "
        f"{r['leader_quiet_max_us'] / 1000:.0f}); of the other follower "
        f"{r['other_p99_us'] / 1000:.1f}, {r['other_max_us'] / 1000:.0f} (quiet: "
        f"{r['other_quiet_max_us'] / 1000:.0f})")
    return r


# ---- all of it ----

def in_directory(function, *words):
    top = tempfile.mkdtemp(prefix="muster-sizes-")
    try:
        return function(*words[:2], top, *words[2:])
    finally:
        shutil.rmtree(top)


def note(options, results, part, kind, row):
    """Kept after each step, so that what was measured stays when it is interrupted."""
    results.setdefault(part, {}).setdefault(kind, []).append(row)
    results["runs"].setdefault(part, {})[kind] = {**options.run, "version": version(kind.split()[0])}
    if options.keep:
        with open(options.keep, "w", encoding="utf-8") as f:
            json.dump(results, f, indent=1)


def measure(options, results):
    kinds = ["muster"] if options.muster_only else options.kinds.split(",")
    for kind in [k for k in kinds if not is_there(k)]:
        say(f"{kind} is not installed: without it")
        kinds.remove(kind)
    for part in options.parts:
        steps = STEPS.get(part, (STEPS["nodes"][-1],))
        if options.quick:
            steps = (steps[-1] // QUICK,)
        plan = [("muster", n) for n in steps if "muster" in kinds]
        if "zookeeper" in kinds:
            plan += [("zookeeper", n) for n in steps[-1:] + (steps[:1] if len(steps) > 1 else ())]
        if "etcd" in kinds and part == "nodes":
            plan.append(("etcd", steps[-1]))
        function = {"nodes": nodes, "sessions": sessions, "watches": watches, "join": join}[part]
        for kind, n in plan:
            note(options, results, part, kind, in_directory(function, kind, n))
            if options.quick:
                print(f"ok sizes: {part}, {kind}, {n}", flush=True)
        if part == "nodes" and "zookeeper" in kinds:
            note(options, results, part, "zookeeper 1000m",
                 in_directory(nodes, "zookeeper", steps[-1], UPSTREAM_HEAP))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--muster-only", action="store_true")
    parser.add_argument("--kinds", default="muster,zookeeper,etcd")
    parser.add_argument("--only", default="nodes,sessions,watches,join")
    parser.add_argument("--keep", help="write the figures there, too")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--into", metavar="DIR", default=DOCS, help="has performance-sizes.md")
    options = parser.parse_args()
    if options.write and options.quick and options.into == DOCS:
        parser.error("--quick --write needs --into DIR: a fiftieth is not for docs/")
    options.parts = options.only.split(",")
    if options.quick:
        global IDLE_S, LOAD_REQUESTS, JOIN_WARM_S  # pylint: disable=global-statement
        IDLE_S, LOAD_REQUESTS, JOIN_WARM_S = 1, 20000, 1
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # for the servers, too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    results = {"runs": {}}
    options.run = {"date": time.strftime("%Y-%m-%d %H:%M"), "cores": os.cpu_count(),
                   "kernel": platform.release(), "files": most,
                   "load_before": round(os.getloadavg()[0], 2)}
    try:
        measure(options, results)
    except SystemExit as e:
        if options.quick:
            print(f"FAILED sizes: {e}", flush=True)
        raise
    if options.write:
        write_page(options.into, results)
    say("done")


if __name__ == "__main__":
    main()
