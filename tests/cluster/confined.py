#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What muster has given up when it runs, and that it still does all of its work.

    confined.py [--only WORD]     tests whose name has that word

systemd's units are judged by systemd's own tools, offline; what they would forbid is compared
with what muster and HAProxy are seen to call. Everything else is looked at in the kernel, at
processes that were started as root, as a person would.
"""
import argparse
import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time

from cluster import MUSTER, TOP, Failed, Site, http_get, is_gone, wait_for
from report import Report

USER = 4711  # nobody's number
PORT = 23981
UNITS = os.path.join(TOP, "packaging", "systemd")
SCORES = {"muster-server.service": 2.0, "muster.service": 4.5}  # to stay below
NET_BIND_SERVICE, NET_ADMIN, NET_RAW = 1 << 10, 1 << 12, 1 << 13
AGENT = NET_BIND_SERVICE | NET_ADMIN | NET_RAW
SITE = """site: shop
addresses: [{vip}]
services:
  web:
    port: 3000
    instances: 2
    check: {{ exec: {check} }}
balance:
  web: {{ listen: 80 }}
"""


def expect(is_so, what):
    if not is_so:
        raise Failed(what)


# ---- a process, as the kernel sees it ----

def status(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def expect_status(pid, uid, capabilities, bounds, what):
    s = status(pid)
    expect(set(s["Uid"].split()) == {str(uid)} and
           (uid == 0 or set(s["Gid"].split()) == {str(uid)}),
           f"{what} runs as {s['Uid']}, {s['Gid']}, not as {uid}")
    for key, value in (("CapEff", capabilities), ("CapPrm", capabilities), ("CapBnd", bounds)):
        expect(int(s[key], 16) == value, f"{what}: {key} is {s[key]}, not {value:x}")
    expect(s["NoNewPrivs"] == "1", f"{what} may get new privileges")
    expect(s["Seccomp"] == "2", f"{what} has no filter of calls")


def expect_private(directory):
    """Nobody but their owner may look at what is in there."""
    seen = 0
    for where, directories, files in os.walk(directory):
        for name in directories + files:
            s = os.lstat(os.path.join(where, name))
            seen += 1
            expect(stat.S_IMODE(s.st_mode) & 0o077 == 0 or stat.S_ISSOCK(s.st_mode),
                   f"{name} has mode {stat.S_IMODE(s.st_mode):o}")
    expect(stat.S_IMODE(os.stat(directory).st_mode) & 0o077 == 0, f"{directory} is open")
    return seen


class Server:
    """muster server, alone."""

    def __init__(self, directory, *words, wrap=(), **more):
        self.data = os.path.join(directory, "data")
        self.log = os.path.join(directory, "log")
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                (*wrap, MUSTER, "server", "--data", self.data, "--listen", f"127.0.0.1:{PORT}",
                 *words), stdin=subprocess.DEVNULL, stdout=log, stderr=log, **more)

    def __enter__(self):
        try:
            wait_for(self.answers, 20, lambda: "the server: " + self.text()[-400:])
        except Failed:
            self.end(signal.SIGKILL)
            raise
        return self

    def answers(self):
        if self.process.poll() is not None:
            raise Failed(f"it ended with {self.process.returncode}: {self.text()[-400:]}")
        with contextlib.suppress(OSError):
            with socket.create_connection(("127.0.0.1", PORT), 1) as s:
                s.sendall(b"isro")
                return s.recv(10) == b"rw"
        return False

    def text(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def end(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(20)

    def __exit__(self, *what):
        self.end()


@contextlib.contextmanager
def room():
    """A directory that another user can reach."""
    directory = tempfile.mkdtemp(prefix="muster-confined-")
    os.chmod(directory, 0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def own(directory, user=USER):
    os.mkdir(directory, 0o700)
    os.chown(directory, user, user)


def muster(*words):
    r = subprocess.run((MUSTER, "--server", f"127.0.0.1:{PORT}", *words), text=True,
                       stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
    expect(r.returncode == 0, f"muster {' '.join(words)}: {r.stderr.strip()}")
    return r.stdout


# ---- systemd ----

def units_score_well():
    said = []
    for unit, limit in SCORES.items():
        r = subprocess.run(("systemd-analyze", "security", "--offline=true",
                            os.path.join(UNITS, unit)), text=True, capture_output=True,
                           timeout=60, check=False)
        found = re.search(r"exposure level for \S+: ([\d.]+)", r.stdout)
        expect(found, f"systemd-analyze security {unit}: {r.stderr.strip()}")
        expect(float(found.group(1)) < limit, f"{unit}: {found.group(1)}, not below {limit}")
        said.append(f"{unit} {found.group(1)}")
    return ", ".join(said)


def units_are_valid():
    """The program stands elsewhere here: a copy of the unit says where."""
    with tempfile.TemporaryDirectory() as d:
        for unit in SCORES:
            with open(os.path.join(UNITS, unit), encoding="utf-8") as f:
                text = f.read()
            expect("/usr/bin/muster " in text, f"{unit} starts something else")
            path = os.path.join(d, unit)
            with open(path, "w", encoding="utf-8") as f:
                f.write(text.replace("/usr/bin/muster ", "/bin/true "))
            r = subprocess.run(("systemd-analyze", "verify", "--man=no", path), text=True,
                               capture_output=True, timeout=60, check=False)
            expect(r.returncode == 0 and not r.stderr.strip(),
                   f"{unit}: {r.stderr.strip() or r.returncode}")


def allowed_calls(unit):
    """What its SystemCallFilter lets through."""
    def members(group):
        out = subprocess.run(("systemd-analyze", "syscall-filter", "--no-pager", group),
                             text=True, capture_output=True, timeout=30, check=True).stdout
        found = set()
        for word in out.split("\n"):
            word = word.split("#")[0].strip()
            if word.startswith("@") and word != group:
                found |= members(word)
            elif word and not word.startswith("@"):
                found.add(word)
        return found
    allowed = set()
    with open(os.path.join(UNITS, unit), encoding="utf-8") as f:
        lines = re.findall(r"^SystemCallFilter=(~?)(.*)$", f.read(), re.M)
    for minus, words in lines:
        for word in words.split():
            group = members(word) if word.startswith("@") else {word}
            allowed = allowed - group if minus else allowed | group
    return allowed


def calls_seen(path):
    """Of strace -f: each call that was made."""
    with open(path, encoding="utf-8", errors="replace") as f:
        return {m.group(1) for line in f
                if (m := re.match(r"(?:\d+ +)?([a-z_0-9]+)\(", line))}


# What happens before the unit's filter is there, and before muster's own: its own start, and
# what root does to become another.
BEFORE = {"execve", "setresuid", "setresgid", "setgroups", "capset", "chown"}


def server_calls_what_its_unit_allows():
    with room() as d:
        trace = os.path.join(d, "trace")
        own(os.path.join(d, "data"))
        with Server(d, wrap=("strace", "-f", "-qq", "-o", trace)) as s:
            muster("create", "/a", "x" * 1000)
            muster("set", "/a", "y")
            muster("get", "/a")
            http_get(None, "127.0.0.1", PORT - 1, "/metrics")
            http_get(None, "127.0.0.1", PORT - 1, "/commands/monitor")
            for word in (b"mntr", b"conf", b"cons", b"envi", b"dirs"):
                with socket.create_connection(("127.0.0.1", PORT), 5) as c:
                    c.sendall(word)
                    c.recv(65536)
            child = s.process.pid
            own_pid = next(int(p) for p in os.listdir("/proc") if p.isdigit() and
                           os.path.basename(os.readlink(f"/proc/{p}/exe")
                                            if os.path.exists(f"/proc/{p}/exe") else "")
                           == "muster" and status(p)["PPid"] == str(child))
            os.kill(own_pid, signal.SIGTERM)
            s.process.wait(20)
        seen = calls_seen(trace)
        expect(len(seen) > 30, f"strace has seen {len(seen)} calls only: {sorted(seen)}")
        more = seen - allowed_calls("muster-server.service") - BEFORE
        expect(not more, f"its unit forbids {', '.join(sorted(more))}")
        return f"{len(seen)} calls"


def systemd_is_told():
    """READY when the port answers, WATCHDOG from then on, STOPPING before the end."""
    with room() as d:
        path = os.path.join(d, "notify")
        own(os.path.join(d, "data"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.bind(path)
            os.chmod(path, 0o666)
            s.settimeout(20)
            with Server(d, env={**os.environ, "NOTIFY_SOCKET": path,
                                "WATCHDOG_USEC": "300000"}) as server:
                expect(s.recv(200).startswith(b"READY=1\n"), "the first word is not READY=1")
                for _ in range(3):
                    expect(s.recv(200) == b"WATCHDOG=1", "no WATCHDOG=1")
                os.kill(server.process.pid, signal.SIGSTOP)
                s.settimeout(0.0)
                with contextlib.suppress(BlockingIOError):
                    while s.recv(200):
                        pass
                s.settimeout(1.0)  # three times what it would take
                try:
                    said = s.recv(200)
                except TimeoutError:
                    said = b""
                os.kill(server.process.pid, signal.SIGCONT)
                expect(said == b"", f"a process that hangs says {said}")
                s.settimeout(20)
                expect(s.recv(200) == b"WATCHDOG=1", "no WATCHDOG=1 after it went on")
                os.kill(server.process.pid, signal.SIGTERM)
                end = time.monotonic() + 20
                while (said := s.recv(200)) != b"STOPPING=1":
                    expect(said == b"WATCHDOG=1" and time.monotonic() < end, f"it says {said}")
                expect(server.process.wait(20) == 0, "it did not end well")


# ---- a server ----

def server_as_the_owner():
    with room() as d:
        own(os.path.join(d, "data"))
        with Server(d) as s:
            expect_status(s.process.pid, USER, 0, 0, "the server")
            muster("create", "/a", "1")
            expect(muster("get", "/a") == "1", "another value")
            expect_private(s.data)
            for name in os.listdir(s.data):
                expect(os.lstat(os.path.join(s.data, name)).st_uid == USER, f"{name} is root's")


def server_as_root():
    """Whose directory is root's: as always, but with nothing of what root can do."""
    with room() as d:
        with Server(d) as s:
            expect_status(s.process.pid, 0, 0, 0, "the server")
            wait_for(lambda: "ev=runs_as_root" in s.text(), 5, "the warning in the log")
            expect_private(s.data)


def server_as_who_is_named():
    with room() as d:
        with Server(d, "--user", str(USER)) as s:
            expect_status(s.process.pid, USER, 0, 0, "the server")
            expect(os.stat(s.data).st_uid == USER, "the new directory is another's")
        with Server(d) as s:  # and from then on it is his
            expect_status(s.process.pid, USER, 0, 0, "the server")


def server_without_the_filter():
    with room() as d:
        with Server(d, "--no-seccomp") as s:
            expect(status(s.process.pid)["Seccomp"] == "0", "there is a filter")


def files_of_somebody_else():
    with room() as d:
        with Server(d):
            pass
        os.chown(os.path.join(d, "data"), USER, USER)
        s = Server(d)
        expect(s.process.wait(20) == 6, f"exit code {s.process.returncode}: {s.text()[-300:]}")
        expect("belongs to" in s.text() and f"chown -R {USER}" in s.text(), s.text()[-300:])


def no_core():
    """Its memory holds the tree and the cluster's secret."""
    def unlimited():
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
    with room() as d:
        p = subprocess.Popen(("sleep", "100"), cwd=d, preexec_fn=unlimited)
        p.send_signal(signal.SIGABRT)
        _, ended = os.waitpid(p.pid, 0)
        p.returncode = -signal.SIGABRT
        can = os.WCOREDUMP(ended)
        with Server(d, cwd=d, preexec_fn=unlimited) as s:
            expect(status(s.process.pid)["CoreDumping"] == "0", "it is dumping")
            s.process.send_signal(signal.SIGSEGV if "asan" not in MUSTER else signal.SIGKILL)
            _, ended = os.waitpid(s.process.pid, 0)
            s.process.returncode = -1
        expect(not os.WCOREDUMP(ended), "it left a core dump")
        return None if can else "(this machine makes none of others either)"


def no_secret_to_be_seen():
    """The token of a join is not in what ps shows while it is used, nor secrets in the log."""
    with room() as d, socket.socket() as s:
        _, token = Site.token_in(muster("init", "--data", os.path.join(d, "other"), "--name", "y",
                                        "--address", "127.0.0.1"))
        s.bind(("127.0.0.9", 2182))
        s.listen(1)
        s.settimeout(20)
        p = subprocess.Popen((MUSTER, "join", "127.0.0.9", token, "--data",
                              os.path.join(d, "data"), "--name", "x", "--address", "127.0.0.1"),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True)
        try:
            try:
                s.accept()
            except TimeoutError as e:
                raise Failed(f"it does not ask: {p.communicate(timeout=20)[0]}") from e
            with open(f"/proc/{p.pid}/cmdline", "rb") as f:
                line = f.read()
            expect(b"join" in line, f"not its command line: {line}")
            for part in token.split("."):
                expect(part.encode() not in line, "the token is to be seen")
        finally:
            p.kill()
            p.communicate(timeout=20)
        with Server(d) as server:
            with open(os.path.join(server.data, "secret"), encoding="utf-8") as f:
                secret = f.read().strip()
            expect(len(secret) >= 32, "no secret")
        expect(secret not in server.text(), "the secret is in the log")


# ---- a machine ----

class Bed:
    """One machine whose data belongs to a user; the site file has all that it can do."""

    def __init__(self):
        self.site = Site("mtcf", f"/tmp/muster-confined-site-{os.getpid()}", machines=("a",),
                         probes=("client",))
        self.a = self.site["a"]
        self.client = self.site.probes["client"][0]

    def open(self):
        self.site.open()
        os.makedirs(self.a.dir)
        own(self.a.data)
        self.a.muster("init", "--data", self.a.data, "--name", "a", "--address",
                      self.a.address)
        check = os.path.join(self.a.dir, "check.sh")
        with open(check, "w", encoding="utf-8") as f:
            f.write("#!/bin/sh\nexec id -u\n")
        os.chmod(check, 0o755)
        self.file = os.path.join(self.site.dir, "site.yml")
        with open(self.file, "w", encoding="utf-8") as f:
            f.write(SITE.format(vip=self.site.vip, check=check))
        self.a.start_clones()

    def up(self, *words):
        self.a.up = ("--data", self.a.data, *words)
        self.a.start_muster()
        self.a.wait_ready()
        self.site.apply(self.file)
        wait_for(lambda: http_get(self.client, self.site.vip, 80, "/", 1.0)[0] == 200, 30,
                 lambda: "the site to answer: " + self.a.log_tail(lines=12))

    def masters(self):
        return [p for p in self.a.pids("haproxy")
                if status(p)["PPid"] not in map(str, self.a.pids("haproxy"))]

    def close(self):
        self.site.close()
        self.site.remove_files()


def machine(check):
    """check(bed), with a machine that is up as the owner of its data."""
    def test():
        bed = Bed()
        try:
            bed.open()
            bed.up()
            return check(bed)
        finally:
            bed.close()
    return test


def up_keeps_three_capabilities(bed):
    """The address, ARP and port 80 are there; HAProxy has port 80's alone."""
    pid, = bed.a.pids("muster")
    expect_status(pid, USER, AGENT, AGENT, "muster")
    for p in bed.a.pids("haproxy"):
        expect_status(p, USER, NET_BIND_SERVICE, AGENT, "HAProxy")
    expect(len(bed.a.pids("haproxy")) >= 2, "HAProxy has no worker")
    expect(expect_private(bed.a.data) > 5, "few files")
    # The machine's own report of HAProxy's start may still be on its way.
    wait_for(lambda: ((bed.a.status() or {}).get("verdict") or "").startswith("OK"), 30,
             lambda: f"the site to be well: {(bed.a.status() or {}).get('verdict')}")


def haproxy_is_found_again(bed):
    """Killed and started again, muster takes its HAProxy over as the user it is."""
    master, = bed.masters()
    bed.a.kill_daemon()
    expect(not is_gone(master), "HAProxy went, too")
    bed.up()
    expect(bed.masters() == [master], f"HAProxy was {master}, is {bed.masters()}")
    bed.a.end("muster", signal.SIGTERM, 30)
    expect(not bed.site.holder_by_kernel(), "the address was not given away")


def up_calls_what_its_unit_allows(bed):
    """muster, HAProxy and its checks, from the start on."""
    trace = os.path.join(bed.a.dir, "trace")
    bed.a.end("muster", signal.SIGTERM, 30)
    bed.a.end("haproxy")
    bed.a.started = bed.a.spawn("muster", "strace", "-f", "-qq", "-o", trace, MUSTER, "up",
                                "--data", bed.a.data)
    bed.a.wait_ready(60)
    wait_for(lambda: http_get(bed.client, bed.site.vip, 80, "/", 1.0)[0] == 200, 60,
             lambda: "the site to answer: " + bed.a.log_tail(lines=12))
    before = bed.masters()
    text = open(bed.file, encoding="utf-8").read().replace("instances: 2", "instances: 1")
    with open(bed.file, "w", encoding="utf-8") as f:
        f.write(text.replace("listen: 80 ", "listen: 81 "))  # a reload
    bed.site.apply(bed.file)
    wait_for(lambda: http_get(bed.client, bed.site.vip, 81, "/", 1.0)[0] == 200, 60,
             lambda: "the site to answer on 81: " + bed.a.log_tail(lines=12))
    expect(bed.masters() == before, "HAProxy was started, not reloaded")
    bed.a.end("muster", signal.SIGTERM, 60)
    bed.a.end("haproxy")
    wait_for(lambda: bed.a.started.poll() is not None, 20, "strace to end")
    seen = calls_seen(trace)
    more = seen - allowed_calls("muster.service") - (BEFORE - {"execve", "capset", "chown"})
    expect("execve" in seen and len(seen) > 50, f"strace has seen {sorted(seen)}")
    expect(not more, f"its unit forbids {', '.join(sorted(more))}")
    return f"{len(seen)} calls"


TESTS = {
    "units score well": units_score_well,
    "units are valid": units_are_valid,
    "a server calls what its unit allows": server_calls_what_its_unit_allows,
    "systemd is told": systemd_is_told,
    "a server runs as who owns its data": server_as_the_owner,
    "a server on root's data has no capability": server_as_root,
    "a server runs as who is named": server_as_who_is_named,
    "--no-seccomp": server_without_the_filter,
    "files of somebody else are refused": files_of_somebody_else,
    "no core dump": no_core,
    "no secret in ps or log": no_secret_to_be_seen,
    "up keeps three capabilities": machine(up_keeps_three_capabilities),
    "HAProxy is found again": machine(haproxy_is_found_again),
    "up calls what its unit allows": machine(up_calls_what_its_unit_allows),
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    only = parser.parse_args().only
    report = Report("confined: ")
    for name, test in TESTS.items():
        if only in name:
            report.run(name, test)
    report.end()


if __name__ == "__main__":
    main()
