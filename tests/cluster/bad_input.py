#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What nobody should send or do, done to running machines: each is answered, nothing dies.

Garbage, oversized and truncated frames on every port; more connections than anybody needs;
invalid paths; wrong tokens; a bad site file; an address that somebody else has; a port that is
taken; a full disk. And how much memory an idle machine takes.
"""
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time

from cluster import (MUSTER, PORT_HTTP, PORT_ZK, Failed, Site, connect, http_get, inside, run,
                     wait_for)
from report import Report

PORT_PEER = 2182
MEMORY_MAX_KB = 20 * 1024
CLOSE_LIMIT = 40.0  # seconds in which a connection that makes no sense is closed
LOG_LINES_MAX = 400  # for a hundred bad connections: told, but no flood


class Bed:
    """The machines that are mistreated, and whether they still live."""

    def __init__(self, site):
        self.site = site
        self.m = site["a"]
        self.pid = None

    def start(self):
        self.site.open()
        self.site.form(before=lambda m: m.start_clone(1))
        self.pid = self.m.pids("muster")[0]

    def is_well(self):
        return self.m.word("ruok") == "imok" and http_get(
            self.m.ns, self.m.address, PORT_HTTP, "/healthz", 1.0)[0] == 200

    def lives(self):
        pids = self.m.pids("muster")
        if self.pid not in pids:
            raise Failed(f"muster died:\n{self.m.log_tail(lines=15)}")
        if self.m.word("ruok") != "imok":
            raise Failed("it does not answer ruok any more")
        code, _ = http_get(self.m.ns, self.m.address, PORT_HTTP, "/healthz")
        if code != 200:
            raise Failed(f"/healthz says {code}")
        wait_for(self.m.is_ready, 15, "it to be ready again")

    def lines(self):
        with open(os.path.join(self.m.dir, "muster.log"), encoding="utf-8",
                  errors="replace") as f:
            return f.read().splitlines()


def closed_by_peer(s, limit):
    """Reads until the other side closes; False: it did not in time."""
    s.settimeout(limit)
    try:
        while s.recv(65536):
            pass
    except ConnectionError:
        pass
    except socket.timeout:
        return False
    return True


def frames(bed, port):
    """Each on a connection of its own. What is no request must end the connection."""
    m = bed.m
    rng = random.Random(port)
    garbage = [rng.randbytes(n) for n in (1, 3, 4, 5, 17, 1000, 65536)]
    lengths = [struct.pack(">i", n) for n in (-1, -2147483648, 0, 1, 0x7fffffff, 1 << 20,
                                              (1 << 20) - 1, 3)]
    texts = [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
             b"SSH-2.0-OpenSSH\r\n", b"\0" * 4096, b"\xff" * 4096, b"ruo", b"nope"]
    before = len(bed.lines())
    sent = []
    for data in garbage + lengths + [n + rng.randbytes(64) for n in lengths] + texts:
        s = connect(m.ns, m.address, port)
        sent.append((s, data))
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # closed already: quicker than we spoke
    end = time.monotonic() + CLOSE_LIMIT
    for s, data in sent:
        if not closed_by_peer(s, max(0.1, end - time.monotonic())):
            raise Failed(f"after {data[:16]!r}... the connection stays open for "
                         f"{CLOSE_LIMIT:g} s")
        s.close()
    # And left half said, without a word, all at once.
    left = []
    for i in range(100):
        s = connect(m.ns, m.address, port)
        s.sendall(struct.pack(">i", 44)[:i % 5])
        left.append(s)
    if bed.pid not in bed.m.pids("muster"):
        raise Failed(f"muster died:\n{bed.m.log_tail(lines=15)}")
    for s in left:
        s.close()
    wait_for(lambda: bed.is_well(), 20, "it to answer once they have gone", 0.1)
    bed.lives()
    told = len(bed.lines()) - before
    if told > LOG_LINES_MAX:
        raise Failed(f"{told} log lines for it: a flood")
    return f"{told} log lines"


class Raw:
    """A ZooKeeper session, byte by byte."""

    def __init__(self, m):
        self.s = connect(m.ns, m.address, PORT_ZK, 5)
        self.frame(struct.pack(">iqiqi", 0, 0, 6000, 0, 16) + b"\0" * 16 + b"\0")
        self.read()

    def frame(self, body):
        self.s.sendall(struct.pack(">i", len(body)) + body)

    def read(self):
        head = self.exactly(4)
        return self.exactly(struct.unpack(">i", head)[0])

    def exactly(self, n):
        got = b""
        while len(got) < n:
            part = self.s.recv(n - len(got))
            if not part:
                raise ConnectionError("closed")
            got += part
        return got

    def ask(self, op, body):
        """The error code of the answer."""
        self.frame(struct.pack(">ii", 1, op) + body)
        return struct.unpack(">iqi", self.read()[:16])[2]


def text(s):
    b = s if isinstance(s, bytes) else s.encode()
    return struct.pack(">i", len(b)) + b


def invalid_paths(bed):
    acl = struct.pack(">ii", 1, 31) + text("world") + text("anyone")
    raw = Raw(bed.m)
    for path in ("", "x", "/a//b", "/a/", "/a/./b", "/a/../b", "//", b"/\0", b"/a\x01b",
                 "/\ud7ff/\uf8ff", b"/\xff\xfe"):
        for op, body in ((1, text(path) + text("") + acl + struct.pack(">i", 0)),
                         (4, text(path) + b"\0")):
            try:
                err = raw.ask(op, body)
            except ConnectionError:
                raw = Raw(bed.m)  # refused with the connection: allowed for broken text
                continue
            if err == 0 and not (op == 4 and path == ""):  # ZooKeeper reads "" as the root
                raise Failed(f"operation {op} took the path {path!r}")
    # Records that end too early, or say more than there is.
    for body in (b"", b"\0", text("/x")[:-1], struct.pack(">i", 0x7fffffff), struct.pack(">i", -7)):
        for op in (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 18, 100, 101, 105, 106, 999, -11):
            try:
                err = raw.ask(op, body)
            except (ConnectionError, socket.timeout):
                raw = Raw(bed.m)
                continue
            if err == 0 and op in (1, 2, 5, 14):
                raise Failed(f"operation {op} took {body!r}")
    bed.lives()


def bad_site_file(bed):
    path = os.path.join(bed.site.dir, "bad.yml")
    with open(path, "w", encoding="utf-8") as f:
        f.write("site: shop\naddresses:\n  - 10.77.0.100\nservices:\n  web:\n    prot: 3000\n")
    r = subprocess.run(["ip", "netns", "exec", bed.m.ns, MUSTER, "apply", path], text=True,
                       capture_output=True, timeout=20, check=False)
    said = r.stdout + r.stderr
    if r.returncode == 0:
        raise Failed("it was applied")
    for part in ("bad.yml:6:", 'unknown key "prot"', 'did you mean "port"'):
        if part not in said:
            raise Failed(f"no {part!r} in: {said}")
    for content in (b"", b"\0\0\0", b"site: [", b"- a\n- b\n", b"a: &a [*a]\n", b"{" * 100000,
                    os.urandom(5000), b"site: shop\n" * 30000):
        with open(path, "wb") as f:
            f.write(content)
        r = subprocess.run(["ip", "netns", "exec", bed.m.ns, MUSTER, "apply", path],
                           stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
        if r.returncode <= 0 or not r.stderr:
            raise Failed(f"exit code {r.returncode} for {content[:20]!r}: {r.stderr[-200:]}")
    bed.lives()


def tokens(bed):
    m = bed.m
    where = ["--data", os.path.join(bed.site.dir, "joiner"), "--name", "d", "--address",
             f"{bed.site.net}.14"]
    address, token = bed.site.token_in(m.muster("token", "--data", m.data))
    ns, _ = bed.site.probes["foreign"]
    for what, wrong in (("garbage", "x"), ("an altered token", token[:-2] +
                                           ("aa" if token[-2:] != "aa" else "bb"))):
        r = subprocess.run(["ip", "netns", "exec", ns, MUSTER, "join", address, wrong] + where,
                           text=True, capture_output=True, timeout=30, check=False)
        if r.returncode == 0:
            raise Failed(f"{what} was good enough to join")
        if "token" not in r.stderr.lower():
            raise Failed(f"{what}: it does not say that the token is the matter: {r.stderr}")
    bed.lives()


def address_taken(bed):
    """Another device on the network answers for the address: it must not be taken."""
    site = bed.site
    ns, _ = site.probes["foreign"]
    run("ip", "-n", ns, "addr", "add", f"{site.vip}/32", "dev", "eth0")
    path = os.path.join(site.dir, "site.yml")
    with open(path, "w", encoding="utf-8") as f:
        f.write(f"site: shop\naddresses:\n  - {site.vip}\nservices:\n  web:\n    port: 3000\n"
                "    check: { http: /up }\nbalance:\n  web: { listen: 80 }\n")
    site.apply(path)
    def told():
        r = subprocess.run(["ip", "netns", "exec", bed.m.ns, MUSTER, "status"], text=True,
                           capture_output=True, timeout=20, check=False)
        mac = run("ip", "-n", ns, "-o", "link", "show", "eth0").split("link/ether ")[1].split()[0]
        return r.returncode in (3, 4) and mac.lower() in r.stdout.lower() and r.stdout
    try:
        said = wait_for(told, 15, lambda: "status to name the foreign MAC: " + run(
            MUSTER, "status", ns=bed.m.ns, check=False), 0.2)
        if site.holder_by_kernel():
            raise Failed(f"{site.holder_by_kernel()} took it all the same")
    finally:
        run("ip", "-n", ns, "addr", "del", f"{site.vip}/32", "dev", "eth0")
    # And when the foreign device has gone, the address is taken without help.
    wait_for(site.holder_by_kernel, 30, "the address to be taken once it is free", 0.1)
    return said.splitlines()[0][:100]


def port_taken(bed):
    """The same machine started twice."""
    p = subprocess.run(["ip", "netns", "exec", bed.m.ns, MUSTER, "up", "--data", bed.m.data],
                       text=True, capture_output=True, timeout=20, check=False)
    if p.returncode == 0 or not p.stderr.strip():
        raise Failed(f"exit code {p.returncode}: {p.stderr}")
    bed.lives()
    alone = os.path.join(bed.site.dir, "alone")
    p = subprocess.run(["ip", "netns", "exec", bed.m.ns, MUSTER, "server", "--data", alone,
                        "--listen", f"{bed.m.address}:{PORT_ZK}"], text=True,
                       capture_output=True, timeout=20, check=False)
    if p.returncode == 0 or str(PORT_ZK) not in p.stderr:
        raise Failed(f"exit code {p.returncode}, no word of port {PORT_ZK}: {p.stderr}")
    bed.lives()
    return p.stderr.strip().splitlines()[0][:120]


def memory(bed):
    worst = 0
    for m in bed.site.machines.values():
        for pid in m.pids("muster"):
            with open(f"/proc/{pid}/status", encoding="utf-8") as f:
                rss = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
            worst = max(worst, rss)
    if worst > MEMORY_MAX_KB:
        raise Failed(f"{worst} kB resident, more than {MEMORY_MAX_KB}")
    return f"{worst / 1024:.1f} MB resident at most"


def fill(directory, but=0):
    """Writes into it until there is no byte left, or so many pages."""
    path = os.path.join(directory, "ballast")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    written = 0
    for size in (65536, 4096):
        try:
            while True:
                written += os.write(fd, b"\0" * size)
        except OSError:
            pass
    os.ftruncate(fd, written - 4096 * but)
    os.close(fd)
    return path


class Alone:
    """One `muster server` on a small disk of its own."""

    def __init__(self, bed):
        self.ns, self.address = bed.site.probes["foreign"]
        self.disk = os.path.join(bed.site.dir, "disk")
        self.log = os.path.join(bed.site.dir, "full.log")
        self.program = None
        self.data = None
        os.makedirs(self.disk)
        run("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", self.disk)

    def start(self):
        with open(self.log, "wb") as log:
            self.program = subprocess.Popen(
                ["ip", "netns", "exec", self.ns, MUSTER, "server", "--data", self.data, "--listen",
                 f"{self.address}:{PORT_ZK}"], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def answers(self):
        try:
            with connect(self.ns, self.address, PORT_ZK, 1) as s:
                s.sendall(b"srvr")
                return b"Mode" in s.recv(4096)
        except OSError:
            return False

    def has_ended(self):
        if self.program.poll() is None:
            return False
        if self.program.returncode < 0:
            raise Failed(f"it died of signal {-self.program.returncode}: {self.said()}")
        return True

    def kill(self):
        if self.program is not None:
            self.program.kill()
            self.program.wait()

    def close(self):
        self.kill()
        run("umount", self.disk, check=False)

    def complains(self):
        """It has said that there is no room, whether it goes on or has ended."""
        words = self.said().lower()
        if "no space" in words or "full" in words:
            return True
        if self.has_ended():
            raise Failed(f"it ended without a word about the disk: {self.said()!r}")
        return False

    def try_with(self, pages):
        """Started with so many pages left; then there is room. True: it had gone on."""
        self.data = os.path.join(self.disk, f"data{pages}")
        ballast = fill(self.disk, pages)
        self.start()
        wait_for(lambda: self.answers() or self.complains(), 15,
                 lambda: f"a word, with {pages} pages left: {self.said()}")
        if "the server cannot start" in self.said() or "this server ends" in self.said():
            wait_for(self.has_ended, 15, lambda: f"it to end, as it has said: {self.said()}")
        lived = not self.has_ended()
        os.unlink(ballast)
        if not lived:
            self.start()
        wait_for(lambda: self.answers() or (self.has_ended() and self.fail(pages)), 20,
                 lambda: f"it to serve once there is room again ({pages} pages): {self.said()}")
        self.kill()
        return lived

    def fail(self, pages):
        raise Failed(f"broken after a start with {pages} pages left: {self.said()}")


def full_disk(bed):
    """Started with a disk that fills up at every possible step, then there is room again."""
    alone = Alone(bed)
    try:
        lived = [alone.try_with(pages) for pages in range(0, 14)]
        # Full while it runs, killed, and started on the full disk.
        alone.start()
        wait_for(alone.answers, 15, lambda: f"it to serve: {alone.said()}")
        ballast = fill(alone.disk)
        alone.kill()
        alone.start()
        wait_for(lambda: alone.answers() or alone.complains(), 15,
                 lambda: f"a word: {alone.said()}")
        os.unlink(ballast)
        if alone.has_ended():
            alone.start()
        wait_for(alone.answers, 20, lambda: f"it to serve after the restart: {alone.said()}")
        return f"{sum(lived)} of {len(lived)} starts waited for room, the others said so and ended"
    finally:
        alone.close()


def main():
    report = Report("input, sanitized: " if "asan" in MUSTER else "input: ")
    site = Site("mti", f"/tmp/muster-input-{os.getpid()}", probes=("foreign",))
    bed = Bed(site)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(130))
    try:
        if report.run("three machines start", bed.start):
            if "asan" not in MUSTER:
                report.run("memory of idle machines", lambda: memory(bed))
            for port in (PORT_HTTP, PORT_ZK, PORT_PEER):
                report.run(f"bad frames on port {port}", lambda p=port: frames(bed, p))
            for name, test in (("invalid paths and records", invalid_paths),
                               ("bad site files", bad_site_file), ("wrong tokens", tokens),
                               ("an address that another device has", address_taken),
                               ("a port that is taken", port_taken),
                               ("a full disk while starting", full_disk)):
                report.run(name, lambda t=test: t(bed))
            report.stop_well(site)
    finally:
        for m in site.machines.values():
            print(f"--- {m.name}\n{m.log_tail(lines=30 if report.failed else 3)}")
        site.close()
        site.remove_files()
    report.end()


if __name__ == "__main__":
    main()
