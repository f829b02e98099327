#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The limits of a running server: each refuses, says its name, and leaves the others alone.

    limits.py [TEST...]

And what it is like near them: a million watches, thousands of clients that come back at once.
(That the same happens on Apache ZooKeeper where it has the limit: tests/peer/sessions.py.)
"""
import os
import resource
import select
import socket
import struct
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "peer"))

from report import Report  # noqa: E402
from sessions import (AUTH, CLOSE, CREATE, DELETE, EXISTS, GET, LIMIT, PING, PORT, SET, SETWATCHES,  # noqa: E402
                      SET_SERVER, SYNC, WORLD, Closed, Conn, Muster, create, i32, namespace, session, text,
                      wait_for)

WATCHES = 1000000
WATCHERS = 8
PORTION = 128 * 1024  # bytes of paths in one setWatches, as clients do it
STORM = 4000
STORM_LIMIT = 30.0
LINES_MAX = 10  # of the log for hundreds of refusals


class Failed(Exception):
    pass


def expect(is_so, what):
    if not is_so:
        raise Failed(what)


class Bed:
    """A server (or three) with settings, and its log."""

    def __init__(self, settings, count=1):
        self.servers = Muster(count, settings)
        self.address = self.servers.addresses[0]

    def __enter__(self):
        self.servers.open()
        return self

    def __exit__(self, *what):
        self.servers.close()

    def log(self):
        with open(os.path.join(self.servers.dir, "log0"), encoding="utf-8",
                  errors="replace") as f:
            return f.read().splitlines()

    def says(self, *parts):
        """A line of the log with all of these."""
        wait_for(lambda: any(all(p in line for p in parts) for line in self.log()),
                 lambda: f"{parts} in the log: {self.log()[-5:]}", 10)

    def lives(self):
        c = session(self.address)
        got = c.ask(AUTH, i32(0) + text("digest") + text("a:b"), xid=-4)
        expect(got == (-4, 0), f"another client is answered {got}")
        expect(c.ask(PING, xid=-2) == (-2, 0), "another client is not answered")
        c.close()

    def memory_kb(self):
        with open(f"/proc/{self.servers.processes[0].pid}/status", encoding="utf-8") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def request(xid, op, body):
    return i32(len(body) + 8) + struct.pack(">ii", xid, op) + body


def burst(c, frames):
    """Sends them all without waiting; the errors of the replies, in their order."""
    data, errors, got = b"".join(frames), [], b""
    c.s.setblocking(False)
    end = time.monotonic() + LIMIT
    while len(errors) < len(frames):
        expect(time.monotonic() < end, f"{len(errors)} of {len(frames)} requests were answered")
        readable, writable, _ = select.select([c.s], [c.s] if data else [], [], 1)
        if writable:
            data = data[c.s.send(data[:65536]):]
        if readable:
            part = c.s.recv(1 << 20)
            if not part:
                raise Closed
            got += part
        at = 0
        while len(got) - at >= 4 and len(got) - at - 4 >= struct.unpack_from(">i", got, at)[0]:
            xid, _, err = struct.unpack_from(">iqi", got, at + 4)
            expect(xid == len(errors) + 1, f"reply {xid} came in the place of {len(errors) + 1}")
            errors.append(err)
            at += 4 + struct.unpack_from(">i", got, at)[0]
        got = got[at:]
    c.s.settimeout(LIMIT)
    return errors


def sets(count, data=b"v"):
    return [request(n + 1, SET, text("/x") + text(data) + i32(-1)) for n in range(count)]


# ---- each limit ----

def connections_of_one_address():
    with Bed({"maxClientCnxns": "3"}) as bed:
        held = [session(bed.address) for _ in range(3)]
        before = len(bed.log())
        for _ in range(300):
            expect(Conn(bed.address).end(10) is not None, "the fourth connection stays")
        bed.says("ev=client_refused", "limit=maxClientCnxns", "address=127.0.0.1")
        told = len(bed.log()) - before
        expect(told <= LINES_MAX, f"{told} log lines for 300 connections: a flood")
        expect(all(c.ask(PING, xid=-2) == (-2, 0) for c in held), "those that were there suffer")
        return f"{told} log lines for 300 refused connections"


def connections_in_all():
    with Bed({"maxCnxns": "3"}) as bed:
        held = [session(bed.address) for _ in range(3)]
        expect(Conn(bed.address).end(10) is not None, "the fourth connection stays")
        bed.says("ev=client_refused", "limit=maxCnxns")
        expect(all(c.ask(PING, xid=-2) == (-2, 0) for c in held), "those that were there suffer")


def connections_that_files_allow():
    """A server keeps some of its files for itself, whatever its clients want."""
    files, kept = 600, 256
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, before[1]))
    bed = Bed({})
    try:
        with bed:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            held = [session(bed.address) for _ in range(files - kept)]
            expect(Conn(bed.address).end(10) is not None, "one more connection stays")
            bed.says("ev=client_refused", "limit=CLIENTS_FILES_KEPT", f"connections={files - kept + 1}")
            expect(all(c.ask(PING, xid=-2) == (-2, 0) for c in held), "those that were there suffer")
            # It can still write and open what it needs.
            expect(held[0].ask(CREATE, create("/x"))[1] == 0, "no write")
            held.pop().close()
            wait_for(lambda: Conn(bed.address).connect() != "closed", lambda: "room for another", 10)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def long_frames():
    for setting, name, size in (("2000", "jute.maxbuffer", 2001),
                                ("1073741824", "MEMBER_FRAME_LIMIT", 8 << 20)):
        with Bed({"jute.maxbuffer": setting}) as bed:
            c = session(bed.address)
            c.s.sendall(i32(size) + b"\0" * 100)
            expect(c.end(10) is not None, f"{size} bytes are taken")
            bed.says("ev=client_closed", f"limit={name}", f"frame={size}")
            bed.lives()


def set_big(bed, value):
    """How often it was tried. While so much travels a slow machine may lose its leader, and
    then the connection: a client comes back and writes again."""
    tries, end = 0, time.monotonic() + LIMIT
    while time.monotonic() < end:
        tries += 1
        c = Conn(bed.servers.addresses[1])
        if c.connect() == "closed":
            time.sleep(0.1)  # ok: between two tries
            continue
        got = c.ask(SET, text("/big") + text(value) + i32(-1))
        c.close()
        if got != "closed":
            expect(got[1] == 0, f"{len(value)} bytes: {got}")
            return tries
    raise Failed(f"{len(value)} bytes: not taken within {LIMIT:g} s")


def large_values_are_replicated():
    """jute.maxbuffer raised, as it is in the field: through the log to all three."""
    with Bed({"jute.maxbuffer": "7000000"}, 3) as bed:
        expect(session(bed.address).ask(CREATE, create("/big")) == (1, 0), "no /big")
        for size in (1 << 20, 3 << 20, 6900000):
            value = os.urandom(1 << 16) * (size >> 16)
            start = time.monotonic()
            tries = set_big(bed, value)
            took = time.monotonic() - start
            for a in bed.servers.addresses:
                reader = session(a)
                expect(reader.ask(SYNC, text("/big")) == (1, 0), "no sync")
                reader.frame(struct.pack(">ii", 9, GET) + text("/big") + bytes(1))
                expect(reader.read()[16:].startswith(text(value)), f"{size} bytes are not the same")
                reader.close()
        return f"6.9 MB in {took:.2f} s, {tries} tries"


def who_waits_is_not_read():
    with Bed({"globalOutstandingLimit": "10"}) as bed:
        c = session(bed.address)
        c.ask(CREATE, create("/x"))
        errors = burst(c, sets(3000))
        expect(not any(errors), f"refused: {set(errors)}")
        bed.says("limit=globalOutstandingLimit")


def throttled():
    with Bed({"requestThrottleLimit": "5"}) as bed:
        c = session(bed.address)
        c.ask(CREATE, create("/x"))
        expect(not any(burst(c, sets(3000))), "requests that had to wait were refused")
        bed.says("limit=requestThrottleLimit")
    with Bed({"requestThrottleLimit": "1", "throttledOpWaitTime": "1"}) as bed:
        c = session(bed.address)
        c.ask(CREATE, create("/x"))
        errors = burst(c, sets(3000))
        expect(set(errors) == {0, -127}, f"answers: {set(errors)}")
        bed.says("limit=throttledOpWaitTime")
        bed.lives()
        return f"{errors.count(-127)} of 3000 refused with -127"


def large_requests():
    with Bed({"largeRequestThreshold": "1000", "largeRequestMaxBytes": "20000"}) as bed:
        c = session(bed.address)
        c.ask(CREATE, create("/x"))
        expect(not any(burst(c, sets(1, b"d" * 5000))), "one large request is refused")
        try:
            burst(session(bed.address), sets(200, b"d" * 5000))
            raise Failed("200 large requests at once are taken")
        except (Closed, ConnectionError):
            pass
        bed.says("limit=largeRequestMaxBytes")
        bed.lives()


def enforced_auth():
    with Bed({"enforce.auth.enabled": "true", "enforce.auth.schemes": "digest"}) as bed:
        expect(session(bed.address).ask(PING, xid=-2) == (-2, -124), "not -124")
        bed.says("limit=enforce.auth.schemes")
        bed.lives()


def large(path):
    """A create with 5,000 bytes."""
    return text(path) + text("d" * 5000) + WORLD + i32(0)


def a_full_tree():
    """On three servers: what grows it gets -125 on each, deletes work, and it says why."""
    with Bed({"muster.treeBytesMax": "100000"}, 3) as bed:
        c = session(bed.address)
        made = 0
        while True:
            got = c.ask(CREATE, large(f"/n{made}"))
            if got[1] != 0:
                break
            made += 1
            expect(made < 20, "20 znodes of 5,000 bytes in 100,000")
        expect(got[1] == -125, f"the answer is {got}")
        expect(made == 19, f"{made} fit")
        for address in bed.servers.addresses:  # whoever leads, and whoever is asked
            other = session(address)
            expect(other.ask(CREATE, large("/more"))[1] == -125, "a server takes it")
            expect(other.ask(SET, text("/n0") + text("d" * 4999) + i32(-1))[1] == 0,
                   "it cannot be made smaller")
            other.close()
        expect(c.ask(DELETE, text("/n1") + i32(-1))[1] == 0, "it cannot be deleted")
        expect(c.ask(CREATE, large("/more"))[1] == 0, "there is no room again")
        bed.says("limit=muster.treeBytesMax", "value=100000", "measured=9")
        bed.lives()


def too_many_sessions():
    with Bed({"muster.sessionsMax": "5"}) as bed:
        some = [session(bed.address) for _ in range(5)]
        expect(all(c.session for c in some), "not five sessions")
        said = Conn(bed.address).connect()
        expect(said == "closed", f"a sixth client is answered: {said}")
        bed.says("limit=muster.sessionsMax", "value=5", "measured=6")
        expect(some[0].ask(PING, xid=-2) == (-2, 0), "another client is not answered")
        some.pop().ask(CLOSE)
        wait_for(lambda: Conn(bed.address).connect() != "closed", lambda: "room for another", 10)


def settings_that_cannot_be():
    for pairs, said in ((("enforce.auth.enabled=true",), "enforce.auth.schemes"),
                        (("enforce.auth.enabled=true", "enforce.auth.schemes=sasl"), "sasl"),
                        (("minSessionTimeout=9000", "maxSessionTimeout=100"), "minSessionTimeout"),
                        (("DigestAuthenticationProvider.digestAlg=SHA2",), "no hash SHA2")):
        servers = Muster(1, {})
        r = subprocess.run([SET_SERVER, os.path.join(servers.dir, "x"), "1", "127.0.0.11", str(PORT),
                            *pairs], capture_output=True, text=True, timeout=20, check=False)
        servers.close()
        expect(r.returncode == 1 and said in r.stderr, f"{pairs}: {r.returncode} {r.stderr}")


# ---- near the limits ----

def portions(paths):
    """setWatches bodies (data watches), each of at most PORTION bytes of paths."""
    part, size = [], 0
    for p in paths:
        if size + len(p) > PORTION:
            yield part
            part, size = [], 0
        part.append(p)
        size += len(p)
    yield part


def set_watches(c, zxid, paths):
    events = 0
    for part in portions(paths):
        body = struct.pack(">qi", zxid, len(part)) + b"".join(text(p) for p in part)
        got = c.ask(SETWATCHES, body + i32(0) + i32(0), xid=-8)
        expect(got != "closed" and got[:2] == (-8, 0), f"setWatches: {got}")
        events += len(got[2]) if len(got) > 2 else 0
    return events


def a_million_watches():
    """Set, some of them fired, lost with the connection and set again; what was missed comes."""
    with Bed({"maxSessionTimeout": "60000"}) as bed:
        a, each = bed.address, WATCHES // WATCHERS
        writer = session(a, timeout=60000)
        writer.ask(CREATE, create("/w"))
        names = [f"/w/{n:07d}" for n in range(each)]
        made = burst(writer, [request(n + 1, CREATE, create(p)) for n, p in enumerate(names)])
        expect(not any(made), f"znodes are missing: {set(made)}")
        zxid = writer.ask(EXISTS, text("/w") + bytes(1)) and writer.zxid
        before, start = bed.memory_kb(), time.monotonic()
        watchers = [session(a, timeout=60000) for _ in range(WATCHERS)]
        for c in watchers:
            expect(set_watches(c, zxid, names) == 0, "events, and nothing has changed")
        took, after = time.monotonic() - start, bed.memory_kb()
        # All lose their connection at once; somebody else waits for an answer meanwhile.
        for c in watchers:
            c.close()
        start = time.monotonic()
        expect(writer.ask(EXISTS, text("/w") + bytes(1))[1] == 0, "the writer is not answered")
        stall = time.monotonic() - start
        changed = names[::1000]
        for n, p in enumerate(changed):
            writer.ask(SET, text(p) + text("new") + i32(-1))
        start = time.monotonic()
        for i, c in enumerate(watchers):
            watchers[i] = Conn(a)
            watchers[i].connect(session=c.session, password=c.password, zxid=zxid, timeout=60000)
            events = set_watches(watchers[i], zxid, names)
            expect(events == len(changed), f"{events} events, {len(changed)} were missed")
        again = time.monotonic() - start
        # Each is told once; what was told of is set no more.
        writer.ask(SET, text(names[1]) + text("new") + i32(-1))
        writer.ask(SET, text(names[0]) + text("newer") + i32(-1))
        for c in watchers:
            got = c.ask(EXISTS, text("/w") + bytes(1))
            expect(got[2:] == ([(3, names[1])],), f"told {got}")
        for c in watchers:
            c.close()
        return (f"{(after - before) * 1024 / WATCHES:.0f} bytes a watch, set in {took:.1f} s, "
                f"{stall * 1000:.0f} ms to forget all, again in {again:.1f} s")


def a_storm_of_clients():
    """Thousands that have a session come back at the same moment."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * STORM, max(
        2 * STORM, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    with Bed({"maxSessionTimeout": "60000"}) as bed:
        start = time.monotonic()
        sessions = connect_all(bed.address, [(0, b"\0" * 16)] * STORM)
        first = time.monotonic() - start
        expect(len({s for s, _ in sessions}) == STORM, "sessions are not all new")
        start = time.monotonic()
        again = connect_all(bed.address, sessions)
        took = time.monotonic() - start
        expect(again == sessions, "not all have their session back")
        expect(took < STORM_LIMIT, f"{took:.1f} s")
        bed.lives()
        return f"{STORM} new in {first:.2f} s, back in {took:.2f} s"


def connect_all(address, sessions):
    """All at once; (session, password) of each answer."""
    poll, open_ones, answers = select.epoll(), {}, [None] * len(sessions)
    for n, (sid, password) in enumerate(sessions):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex((address, PORT))
        open_ones[s.fileno()] = (n, s, b"")
        poll.register(s, select.EPOLLOUT)
        if n % 256 == 255:  # the listener's queue is not endless, and a lost SYN costs a second
            drain(poll, open_ones, answers, sessions, 0)
    end = time.monotonic() + STORM_LIMIT
    while any(a is None for a in answers) and time.monotonic() < end:
        drain(poll, open_ones, answers, sessions, 0.2)
    for _, s, _ in open_ones.values():
        s.close()
    expect(all(answers), f"{answers.count(None)} of {len(answers)} are not answered")
    return answers


def drain(poll, open_ones, answers, sessions, wait):
    for fd, what in poll.poll(wait):
        n, s, got = open_ones[fd]
        if what & select.EPOLLOUT:
            body = struct.pack(">iqiq", 0, 0, 60000, sessions[n][0]) + text(sessions[n][1]) + b"\0"
            s.sendall(i32(len(body)) + body)
            poll.modify(fd, select.EPOLLIN)
        if what & select.EPOLLIN:
            got += s.recv(4096)
            open_ones[fd] = (n, s, got)
            if len(got) >= 41:
                answers[n] = (struct.unpack_from(">q", got, 12)[0], got[24:40])
                poll.unregister(fd)


TESTS = (connections_of_one_address, connections_in_all, connections_that_files_allow, long_frames, large_values_are_replicated,
         who_waits_is_not_read, throttled, large_requests, enforced_auth, a_full_tree, too_many_sessions,
         settings_that_cannot_be,
         a_million_watches, a_storm_of_clients)


def main():
    report = Report()
    with namespace():
        for test in TESTS:
            if sys.argv[1:] and test.__name__ not in sys.argv[1:]:
                continue
            try:
                note = test()
                name = test.__name__.replace("_", " ")
                report.ok(f"{name}: {note}" if note else name)
            except (Failed, Closed, OSError, SystemExit) as e:
                report.fail(test.__name__.replace("_", " "), repr(e))
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
