#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What snapshots cost: a client's longest wait, memory, and the time to load one.

    snapshots.py [--znodes N] [--muster PROGRAM]     default 1000000, build/muster

One server with N znodes of 100 bytes: one client reads a znode over and over, first beside
sets alone, then beside sets and a snapshot; then the server is started again. Then three servers:
a follower loses its store and is sent everything, while the client reads at the leader and sets go on.
Memory is resident (VmRSS) before, and the most there was (VmHWM) since. docs/performance-snapshots.md
"""
import argparse
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOAD = os.path.join(TOP, "build", "tool_load")
sys.path.insert(0, os.path.join(TOP, "tests", "cluster"))
sys.path.insert(0, os.path.join(TOP, "tests", "clients"))


class Reader:
    """getData of / with one request in flight, on a thread; keeps each wait in ms."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.frame(struct.pack(">iqiqi16sb", 0, 0, 30000, 0, 16, bytes(16), 0))
        self.waits, self.stops = [], False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def frame(self, body):
        self.socket.sendall(struct.pack(">i", len(body)) + body)
        head = self.all_of(4)
        return self.all_of(struct.unpack(">i", head)[0])

    def all_of(self, n):
        data = b""
        while len(data) < n:
            more = self.socket.recv(n - len(data))
            if not more:
                raise OSError("the server has closed the connection")
            data += more
        return data

    def run(self):
        body = struct.pack(">iii1sb", 1, 4, 1, b"/", 0)
        while not self.stops:
            began = time.monotonic()
            self.frame(body)
            self.waits.append(1000 * (time.monotonic() - began))

    def end(self):
        self.stops = True
        self.thread.join()
        self.socket.close()
        v = sorted(self.waits)
        return (f"{len(v):7} reads, p50 {v[len(v) // 2]:.2f} p99 {v[len(v) * 99 // 100]:.2f} "
                f"p99.9 {v[len(v) * 999 // 1000]:.2f} longest {v[-1]:.1f} ms")


def memory_mb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        found = dict(line.split(":", 1) for line in f)
    return [int(found[k].split()[0]) // 1024 for k in ("VmRSS", "VmHWM")]


def forget_most(pid):
    with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as f:
        f.write("5")


def load(server, what, count, name, sessions=30):
    """A leader that has just begun may refuse the first connections."""
    for n in range(20):
        p = subprocess.run([LOAD, f"127.0.0.1:{server.client}", what, f"sessions={sessions}",
                            "window=64", f"requests={count}", "size=100", "keep=1",
                            f"name={name}{n}"], capture_output=True, text=True, check=False)
        if p.returncode == 0:
            return p.stdout.strip()
        time.sleep(0.5)
    raise SystemExit(f"load: {p.stderr}")


def mntr(server, key):
    for line in word(server.client, "mntr").splitlines():
        if line.startswith(key + "\t"):
            return line.split("\t")[1]
    return "?"


def beside(server, what, count, name):
    before = memory_mb(server.process.pid)[0]
    forget_most(server.process.pid)
    reader = Reader(server.client)
    began = time.monotonic()
    load(server, "set", count, name, 2)
    seconds = time.monotonic() - began
    said = reader.end()
    rss, most = memory_mb(server.process.pid)
    print(f"  {what:34} {seconds:5.1f} s, {said}; {before} MB before, {rss} after, at most {most}",
          flush=True)


def one_server(top, znodes):
    s = Server("muster", top, 1)
    s.write([], f"snapCount=1000000000\nclientPort={s.client}\n")
    s.start()
    wait_for(lambda: s.mode() == "standalone", 60, s.tail)
    print(f"one server, {znodes} znodes of 100 bytes")
    load(s, "create", znodes, "fill")
    beside(s, "sets, no snapshot", 30000, "quiet")
    s.end(15)
    s.write([], f"snapCount=20000\nclientPort={s.client}\n")
    s.start()
    wait_for(lambda: s.mode() == "standalone", 120, s.tail)
    beside(s, "sets, at least one snapshot", 30000, "loud")
    wait_for(lambda: mntr(s, "zk_cnt_snapshottime") not in ("?", "0"), 60, s.tail)
    time.sleep(1)  # only so that the last one is not under way
    s.end(15)
    s.start()
    wait_for(lambda: s.mode() == "standalone", 120, s.tail)
    print(f"  started again: snapshot loaded in {mntr(s, 'zk_max_startup_snap_load_time')} ms, "
          f"all in {mntr(s, 'zk_max_dbinittime')} ms; MB now, at most: "
          f"{memory_mb(s.process.pid)}", flush=True)
    s.end()


def three_servers(top, znodes):
    e = Ensemble("muster", top)
    e.start()
    leader, hurt = e.one("leader"), e.one("follower")
    print(f"three servers, {znodes} znodes of 100 bytes")
    load(leader, "create", znodes, "fill")
    beside(leader, "leader: sets", 30000, "quiet")
    hurt.end()
    load(leader, "set", 120000, "more")
    for d in os.listdir(hurt.dir):
        if os.path.isdir(os.path.join(hurt.dir, d, "store")):
            shutil.rmtree(os.path.join(hurt.dir, d, "store"))
    forget_most(leader.process.pid)
    before = memory_mb(leader.process.pid)[0]
    reader = Reader(leader.client)
    began = time.monotonic()
    hurt.start()
    rest = threading.Thread(target=load, args=(leader, "set", 60000, "rest", 2))
    rest.start()
    wait_for(lambda: hurt.mode() == "follower" and
             any(mntr(s, "zk_synced_followers") == "2" for s in e.servers), 180,
             lambda: "".join(s.tail() + word(s.client, "mntr")[:300] for s in e.servers))
    seconds = time.monotonic() - began
    if leader.mode() != "leader":
        print("  (it does not lead any more)")
    rest.join()
    said = reader.end()
    print(f"  leader: a follower fetches everything {seconds:4.1f} s, {said}; {before} MB before, now, "
          f"at most: {memory_mb(leader.process.pid)}; the follower: "
          f"{memory_mb(hurt.process.pid)}", flush=True)
    e.end()


def main():
    top = tempfile.mkdtemp(prefix="muster-snapshots-")
    try:
        os.mkdir(os.path.join(top, "one"))
        os.mkdir(os.path.join(top, "three"))
        print(f"load of the machine: {os.getloadavg()[0]:.1f}")
        if not options.three:
            one_server(os.path.join(top, "one"), options.znodes)
        three_servers(os.path.join(top, "three"), options.znodes)
    finally:
        shutil.rmtree(top, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--znodes", type=int, default=1000000)
    parser.add_argument("--three", action="store_true", help="without the part with one")
    parser.add_argument("--muster", default=os.path.join(TOP, "build", "muster"))
    options = parser.parse_args()
    os.environ["MUSTER"] = options.muster
    from cluster import wait_for  # noqa: E402
    from ensemble import Ensemble, Server, word  # noqa: E402
    main()
