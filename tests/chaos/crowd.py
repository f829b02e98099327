#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Very many clients, and clients that behave badly: everybody else is served all the same.

    crowd.py [--large] [--sessions N] [--timeouts N] [TEST...]

In CI some thousands; --large: 100,000 idle sessions (or N) on seven servers, 30,000 that come
back at once; --timeouts: how many of their timeouts the sessions idle (3). What is measured stands
behind each line. Servers are tool_set_server's, in a network namespace of its own.
"""
import argparse
import json
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
for d in ("cluster", "peer"):
    sys.path.insert(0, os.path.join(os.path.dirname(HERE), d))

from limits import Bed, burst, expect, request  # noqa: E402
from limits import Failed  # noqa: E402
from report import Report  # noqa: E402
from sessions import (ADDWATCH, CREATE, GET, PING, SET, SET_SERVER, Closed, Conn,  # noqa: E402
                      create, i32, namespace, session, text, wait_for, word)

CROWD = os.path.join(os.path.dirname(SET_SERVER), "tool_crowd")
PATIENCE_S = 300   # other programs compute as well
OPTIONS = argparse.Namespace(large=False, sessions=100000, timeouts=3)
FILES_KEPT = 400    # of a process's files, for other things than clients
WHO_LOOKS = 2       # connections of a server that are not the crowd's


class Crowd:
    """Sessions of one process, or of several: a process has so many files and no more."""

    def __init__(self, count, timeout_ms, addresses, at_once=2000):
        parts = -(-count // (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - FILES_KEPT))
        shares = [count // parts + (i < count % parts) for i in range(parts)]
        self.count = count
        self.programs = [subprocess.Popen(
            [CROWD, str(n), str(timeout_ms), str(at_once // parts), *addresses],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for n in shares]

    def ask(self, line):
        for p in self.programs:
            p.stdin.write(line + "\n")
            p.stdin.flush()
        answers = [p.stdout.readline() for p in self.programs]
        if not all(answers):
            raise Failed("the crowd ended")
        answers = [json.loads(a) for a in answers]
        worst = ("worst_ms", "seconds")
        return {k: max(a[k] for a in answers) if k in worst else sum(a[k] for a in answers)
                for k in answers[0]}

    def whole(self, limit=PATIENCE_S):
        """All have their sessions."""
        r = self.ask(f"wait {limit}")
        expect(r["connected"] == self.count and r["expired"] == 0,
               f"{r['connected']} of {self.count} are connected, {r['expired']} expired")
        return r

    def __enter__(self):
        return self

    def __exit__(self, *what):
        for p in self.programs:
            p.kill()
            p.wait()


def memory_kb(bed, i):
    with open(f"/proc/{bed.servers.processes[i].pid}/status", encoding="utf-8") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def figure(address, name):
    """A number of mntr; None: it does not say."""
    for line in word(address, "mntr").splitlines():
        words = line.split()
        if len(words) == 2 and words[0].endswith(name):
            return int(words[1])
    return None


# ---- many ----

TICKS = os.sysconf("SC_CLK_TCK")


class Figures:
    """What the servers take: memory, processor time, and the kernel's memory for all."""

    def __init__(self, servers):
        self.servers = servers
        self.begun = time.monotonic()
        self.cpu = self.ticks()

    def ticks(self):
        spent = []
        for p in self.servers.processes:
            with open(f"/proc/{p.pid}/stat", encoding="utf-8") as f:
                fields = f.read().rpartition(")")[2].split()
            spent.append(int(fields[11]) + int(fields[12]))
        return spent

    def percent(self):
        """Of a core, the server that took least and the one that took most."""
        took = time.monotonic() - self.begun
        each = [(now - was) / TICKS / took * 100 for now, was in zip(self.ticks(), self.cpu)]
        return f"{min(each):.1f} to {max(each):.1f} % of a core each"


def slab_kb():
    with open("/proc/meminfo", encoding="utf-8") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Slab:"))


def leader_of(servers):
    for i, a in enumerate(servers.addresses):
        if "Mode: leader" in word(a, "srvr"):
            return i
    return None


def killed(servers, crowd, which, note):
    """kill -9 of these servers, at once; all are started again when the crowd has lost their
    connections (if some are left), or at once. All come back, none expires."""
    was = crowd.ask("report")
    away = sum(figure(servers.addresses[i], "num_alive_connections") - WHO_LOOKS for i in which)
    begun = time.monotonic()
    for i in which:
        servers.processes[i].send_signal(signal.SIGKILL)
    for i in which:
        servers.kill(i)
    if len(which) == len(servers.addresses):
        for i in which:
            servers.start(i)
    wait_for(lambda: crowd.ask("report")["lost"] >= was["lost"] + away,
             lambda: f"of {away} connections too few are lost: {crowd.ask('report')}", 60)
    r = crowd.whole()
    took = time.monotonic() - begun
    for i in which:
        if servers.processes[i] is None:
            servers.start(i)
    servers.wait()
    return (f"{note} killed: {r['lost'] - was['lost']} lost, {r['moved'] - was['moved']} back, "
            f"all after {took:.1f} s")


def idle_sessions():
    """Thousands that only ping, for some of their timeouts: none is lost, and what they cost.
    Then the leader is killed, then all servers: all come back, none expires."""
    count, servers, timeout_s = (OPTIONS.sessions, 7, 40) if OPTIONS.large else (3000, 3, 10)
    with Bed({"maxSessionTimeout": "60000"}, servers) as bed:
        addresses = bed.servers.addresses
        before, slab = [memory_kb(bed, i) for i in range(servers)], slab_kb()
        # A server takes 20,000 (CLIENTS_MAX), or what its files allow; some for who looks. When
        # one has died the others must have room for all.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        count = min(count, (servers - 1) * (min(20000, files) - FILES_KEPT))
        with Crowd(count, timeout_s * 1000, addresses) as crowd:
            opened = crowd.whole()
            after, slab = [memory_kb(bed, i) for i in range(servers)], slab_kb() - slab
            idle = Figures(bed.servers)
            time.sleep(OPTIONS.timeouts * timeout_s)  # ok: it is what is measured
            r, cpu = crowd.whole(), idle.percent()
            expect(r["lost"] == 0, f"{r['lost']} connections were lost")
            expect(r["pings"] >= 2 * OPTIONS.timeouts * count, f"only {r['pings']} pings were answered")
            seen = figure(addresses[0], "global_sessions")
            expect(seen is None or seen >= count, f"the server counts {seen} sessions")
            notes = [f"{count} sessions on {servers} servers in {opened['seconds']:.1f} s",
                     f"a server {min(after) / 1024:.0f} to {max(after) / 1024:.0f} MiB, "
                     f"{(sum(after) - sum(before)) * 1024 / count / servers:.0f} bytes for each of "
                     f"them all; "
                     f"the kernel's slabs for both ends {slab * 1024 / count:.0f} a session",
                     f"{r['pings']} pings in {OPTIONS.timeouts * timeout_s} s, the slowest {r['worst_ms']} ms, "
                     + cpu]
            wait_for(lambda: leader_of(bed.servers) is not None, lambda: "no leader", PATIENCE_S)
            notes += [killed(bed.servers, crowd, [leader_of(bed.servers)], "the leader"),
                      killed(bed.servers, crowd, range(servers), "all servers")]
            seen = figure(addresses[0], "global_sessions")
            expect(seen is None or seen == count, f"the server counts {seen} sessions")
            return "; ".join(notes)


def herd_after_a_server_died():
    """kill -9 of one server, or of the leader: all sessions come back on the others, at once."""
    count = 30000 if OPTIONS.large else 3000
    notes = []
    with Bed({"maxSessionTimeout": "60000"}, 3) as bed:
        with Crowd(count, 20000, bed.servers.addresses, count) as crowd:
            crowd.whole()
            for what in ("follower", "leader"):
                i = next(i for i, a in enumerate(bed.servers.addresses)
                         if f"Mode: {what}" in word(a, "srvr"))
                lost = crowd.ask("report")["lost"]
                bed.servers.kill(i)
                wait_for(lambda n=lost: crowd.ask("report")["lost"] > n,
                         lambda: "the crowd to lose connections", 60)
                r = crowd.whole()
                notes.append(f"{what}: {r['lost'] - lost} back in {r['seconds']:.2f} s")
                bed.servers.start(i)
                bed.servers.wait()
    return f"{count} sessions; " + "; ".join(notes)


# ---- badly behaved ----

def slow_reader():
    """Asks for much and reads nothing: bounded, others are served; then all answers come."""
    readers, asked, size = 10, 400, 100000
    with Bed({"maxSessionTimeout": "60000"}) as bed:
        writer = session(bed.address)
        writer.ask(CREATE, create("/big"))
        writer.ask(SET, text("/big") + text(b"d" * size) + i32(-1))
        before = memory_kb(bed, 0)
        slow = []
        for _ in range(readers):
            # What is not read is not answered: its pings neither, so its session must be long.
            c = session(bed.address, timeout=60000)
            c.s.sendall(b"".join(request(n + 1, GET, text("/big") + bytes(1))
                                 for n in range(asked)))
            slow.append(c)
        worst = 0.0
        for _ in range(100):
            start = time.monotonic()
            expect(writer.ask(PING, xid=-2) == (-2, 0), "another client is not answered")
            worst = max(worst, time.monotonic() - start)
            time.sleep(0.01)  # ok: a second in which the queue would grow
        grown = memory_kb(bed, 0) - before
        all_of_it = readers * asked * size / 1024
        expect(grown < readers * 4096 + 8192, f"{grown} KiB more for {readers} slow readers")
        for n in range(asked):
            expect(struct.unpack_from(">i", slow[0].read())[0] == n + 1, "an answer is missing")
        return (f"{grown} KiB for {readers} clients with {all_of_it / 1024:.0f} MiB of answers; "
                f"another waits {worst * 1000:.0f} ms at most")


def watches_that_nobody_reads():
    """Events are sent whether they are read or not: up to CLIENT_UNSENT_MAX, then it is closed."""
    path, portion = "/" + "w" * 1000, 2000
    with Bed({}) as bed:
        writer, other = session(bed.address, timeout=10000), session(bed.address)
        writer.ask(CREATE, create(path))
        deaf = session(bed.address, timeout=60000)
        deaf.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        expect(deaf.ask(ADDWATCH, text(path) + i32(1))[1] == 0, "no watch")
        before, most, end = memory_kb(bed, 0), 0, time.monotonic() + PATIENCE_S
        while not any("limit=CLIENT_UNSENT_MAX" in line for line in bed.log()):
            expect(time.monotonic() < end, f"it is not cut off; {most} KiB more")
            burst(writer, [request(n + 1, SET, text(path) + text(b"") + i32(-1))
                           for n in range(portion)])
            # Its session goes, as any client's that says nothing: not what is looked at here.
            deaf.frame(struct.pack(">ii", -2, PING))
            expect(other.ask(PING, xid=-2) == (-2, 0), "another client is not answered")
            most = max(most, memory_kb(bed, 0) - before)
        bed.says("ev=client_closed", "limit=CLIENT_UNSENT_MAX")
        expect(most < 200 * 1024, f"{most} KiB more")
        bed.lives()
        return f"{most // 1024} MiB at most, then closed by name"


def half_frames():
    """A length and half of what it announces, and then nothing."""
    count = 1000
    with Bed({"maxSessionTimeout": "4000"}) as bed:
        before = memory_kb(bed, 0)
        # Without a session: closed by nio.sessionlessCnxnTimeout.
        start = time.monotonic()
        first = [Conn(bed.address) for _ in range(count)]
        for c in first:
            c.s.sendall(i32(45) + b"\0" * 20)
        # With one: a frame of nearly a megabyte, of which little comes.
        later = [session(bed.address, timeout=4000) for _ in range(100)]
        for c in later:
            c.s.sendall(i32(1000000) + b"\0" * 5000)
        grown = memory_kb(bed, 0) - before
        expect(grown < 64 * 1024, f"{grown} KiB for {count + 100} clients that sent little")
        bed.lives()
        for c in later:
            expect(c.end(60) is not None, "a session with half a request goes on")
        ended = time.monotonic() - start
        for c in first:
            expect(c.end(60) is not None, "a connection with half a connect request stays")
        bed.lives()
        for c in first + later:
            c.close()
        return (f"{count} without a session and 100 with one: {grown} KiB; closed after "
                f"{ended:.1f} and {time.monotonic() - start:.1f} s")


def frames_in_single_bytes():
    """A byte at a time is slow, and right."""
    with Bed({}) as bed:
        c = session(bed.address)
        for b in request(1, CREATE, create("/slowly")):
            c.s.sendall(bytes((b,)))
            select.select([], [], [], 0.002)
        expect(struct.unpack_from(">iqi", c.read())[0::2] == (1, 0), "not created")


TESTS = (idle_sessions, herd_after_a_server_died, slow_reader, watches_that_nobody_reads,
         half_frames, frames_in_single_bytes)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--sessions", type=int, default=100000)
    parser.add_argument("--timeouts", type=int, default=3)
    parser.add_argument("tests", nargs="*")
    parser.parse_args(namespace=OPTIONS)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # for the servers, too
    report = Report("crowd: ")
    with namespace():
        for test in TESTS:
            if OPTIONS.tests and test.__name__ not in OPTIONS.tests:
                continue
            name = test.__name__.replace("_", " ")
            try:
                note = test()
                report.ok(name, note or "")
            except (Failed, Closed, OSError, SystemExit) as e:
                report.fail(name, repr(e))
    report.end()


if __name__ == "__main__":
    main()
