#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a get, a set and a create of 100 bytes cost a server: CPU, rate, latency.

    protocol.py [--before PROGRAM] [--rounds N] [--quick] [--write]

build/muster beside Debian's ZooKeeper and, if given, beside another build of muster
(--before), one server each, on loopback ports, in the same rounds, one after the other.
CPU is the server's own (user and system, from /proc), for each request, while the load runs;
the figure is the median of the rounds. --write puts the table into
docs/protocol-cost.md. Exit code 1: CPU for a request is above --before by more than 5 %.
"""
import argparse
import glob
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tests", "lib"))

from ports import free_port  # noqa: E402

LOAD = os.path.join(TOP, "build", "tool_load")
ALLOWED = 1.05
BY_HAND = "\n## By instructions\n"  # from here on --write leaves the page as it is
# operation, sessions, in flight, requests
SHAPES = [("get", 1, 1, 20000), ("get", 30, 64, 600000), ("set", 1, 1, 5000),
          ("set", 30, 64, 200000), ("create", 1, 1, 5000), ("create", 30, 64, 200000)]


class Server:
    def __init__(self, name, words, port):
        self.name = name
        self.port = port
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log)
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > until or self.process.poll() is not None:
                    self.log.seek(0)
                    raise SystemExit(f"{name} does not start: {self.log.read()[-800:]!r}") from None
                time.sleep(0.05)

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


def muster(name, program, directory):
    port = free_port()
    return Server(name, [program, "server", "--data", f"{directory}/{name}", "--listen",
                         f"127.0.0.1:{port}", "--http", f"127.0.0.1:{free_port()}"], port)


def zookeeper(directory):
    port = free_port()
    data = f"{directory}/zookeeper"
    os.mkdir(data)
    with open(f"{data}/zoo.cfg", "w", encoding="utf-8") as f:
        f.write(f"tickTime=2000\ndataDir={data}\nclientPort={port}\n"
                "clientPortAddress=127.0.0.1\nadmin.enableServer=false\nmaxClientCnxns=0\n")
    jars = "/usr/share/java/zookeeper.jar:" + ":".join(glob.glob("/usr/share/java/*.jar"))
    return Server("zookeeper", ["java", "-Xmx1g", "-cp", jars,
                                "org.apache.zookeeper.server.quorum.QuorumPeerMain",
                                f"{data}/zoo.cfg"], port)


def one(server, shape, number):
    op, sessions, window, requests = shape
    out = subprocess.run([LOAD, f"127.0.0.1:{server.port}", op, f"sessions={sessions}",
                          f"window={window}", f"requests={requests}", f"name=r{number}",
                          f"pids={server.process.pid}"],
                         capture_output=True, text=True, check=False)
    if out.returncode != 0:
        raise SystemExit(f"{server.name}, {op}: {out.stderr}")
    r = json.loads(out.stdout)
    return {"cpu_us": r["servers_cpu_s"] / r["requests"] * 1e6, "rate": r["rate"],
            "p50": r["p50_us"], "p99": r["p99_us"]}


def table(results, names):
    lines = ["| operation, sessions x in flight | server | CPU us per request | requests/s | "
             "p50 us | p99 us |", "|---|---|---|---|---|---|"]
    for shape in SHAPES:
        for name in names:
            row = {k: statistics.median(r[k] for r in results[shape, name])
                   for k in ("cpu_us", "rate", "p50", "p99")}
            lines.append(f"| {shape[0]}, {shape[1]} x {shape[2]} | {name} | {row['cpu_us']:.2f} | "
                         f"{row['rate']:,.0f} | {row['p50']:.0f} | {row['p99']:.0f} |")
    return lines


def ratios(results, names, other):
    for shape in SHAPES:
        mine = statistics.median(r["cpu_us"] for r in results[shape, names[0]])
        theirs = statistics.median(r["cpu_us"] for r in results[shape, other])
        yield shape, mine / theirs if theirs > 0 else float("inf")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--before")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--quick", action="store_true")
    p.add_argument("--write", action="store_true")
    args = p.parse_args()
    if args.quick:
        SHAPES[:] = [(op, s, w, n // 10) for op, s, w, n in SHAPES]
        args.rounds = min(args.rounds, 2)
    directory = tempfile.mkdtemp(prefix="muster-bench-")
    servers = []
    try:
        servers.append(muster("muster", os.path.join(TOP, "build", "muster"), directory))
        if args.before:
            servers.append(muster("before", args.before, directory))
        servers.append(zookeeper(directory))
        names = [s.name for s in servers]
        results = {}
        for n in range(args.rounds + 1):
            for i, shape in enumerate(SHAPES):
                # The first round warms up; who begins changes.
                for s in servers[n % len(servers):] + servers[:n % len(servers)]:
                    r = one(s, shape, n * len(SHAPES) + i)
                    if n > 0:
                        results.setdefault((shape, s.name), []).append(r)
            print(f"round {n} of {args.rounds}", file=sys.stderr)
    finally:
        for s in servers:
            s.end()
        shutil.rmtree(directory)
    lines = table(results, names)
    worst = 0
    for other in names[1:]:
        lines.append("")
        lines.append(f"CPU per request, muster's as a part of that of {other}: " + ", ".join(
            f"{op} {s}x{w} {ratio:.2f}" for (op, s, w, _), ratio in ratios(results, names, other)))
        if other == "before":
            worst = max(ratio for _, ratio in ratios(results, names, other))
    print("\n".join(lines))
    if args.write:
        path = os.path.join(TOP, "docs", "protocol-cost.md")
        with open(path, encoding="utf-8") as f:
            by_hand = f.read().partition(BY_HAND)
        with open(path, "w", encoding="utf-8") as f:
            f.write("# What the protocol costs\n\n"
                    "Written by `./dev bench protocol --write`: one server each, values of 100 "
                    f"bytes, the median of\n{args.rounds} rounds, the servers taking turns. CPU is "
                    "the server's own.\n\n" + "\n".join(lines) + "\n" + by_hand[1] + by_hand[2])
    sys.exit(1 if worst > ALLOWED else 0)


if __name__ == "__main__":
    main()
