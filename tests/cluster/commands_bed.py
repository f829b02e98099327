# SPDX-License-Identifier: Apache-2.0
"""What the tests of the commands (commands.py) stand on: running a command and judging what
came of it, clones whose check can be made to fail, a relay that loses or delays one request,
and visitors who ask every balancer all the time.
"""
import collections
import contextlib
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import threading
import time

from cluster import (MUSTER, NGINX, PORT_ZK, Failed, connect, inside, wait_for)

Said = collections.namedtuple("Said", "code out err took")
OP_DELETE, OP_GET, OP_SET, OP_CREATE2 = 2, 4, 5, 15  # of the ZooKeeper protocol

SITE = """site: shop
lease: {lease}
addresses:
{addresses}services:
  web:
    port: 3000
    instances: 2
    check:
      http: /up
      interval: 500ms
      timeout: 300ms
balance:
  web: {{ listen: 80 }}
"""


# ---- commands ----

def words_in(ns, *words, program=(MUSTER,)):
    return ["ip", "netns", "exec", ns, *program, *words]


def ask(ns, *words, data=None, timeout=30, env=None):
    """Runs muster there to its end."""
    begun = time.monotonic()
    r = subprocess.run(words_in(ns, *words), capture_output=True, timeout=timeout, check=False,
                       input=data, env={**os.environ, **(env or {})},
                       **({} if data is not None else {"stdin": subprocess.DEVNULL}))
    return Said(r.returncode, r.stdout.decode("utf-8", "replace"),
                r.stderr.decode("utf-8", "replace"), time.monotonic() - begun)


def expect(said, code, *parts):
    """That exit code, and each part in what it said; the answer again."""
    both = said.out + said.err
    if said.code != code:
        raise Failed(f"exit code {said.code} instead of {code}: {both.strip()}")
    for part in parts:
        if part.lower() not in both.lower():
            raise Failed(f"not a word of {part!r}: {both.strip()}")
    # A refusal says what, the fact, and what to do next: one line alone is too little.
    if code in (1, 2, 4, 5, 7) and len(said.err.strip().splitlines()) < 2 and not said.out:
        raise Failed(f"exit code {code} with less than two lines: {said.err.strip()!r}")
    return said


@contextlib.contextmanager
def started(ns, *words, env=None, program=(MUSTER,)):
    """A command that goes on; killed at the end if it still runs."""
    p = subprocess.Popen(words_in(ns, *words, program=program), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, start_new_session=True,
                         env={**os.environ, **(env or {})})
    try:
        yield Started(p)
    finally:
        if p.poll() is None:
            p.kill()
        p.wait(10)
        p.stdout.close()
        p.stderr.close()


class Started:
    def __init__(self, p):
        self.p = p
        self.text = {p.stdout: b"", p.stderr: b""}

    def read(self, limit=0.0):
        """Takes in what has been written."""
        ready, _, _ = select.select([f for f in self.text if not f.closed], [], [], limit)
        for f in ready:
            self.text[f] += os.read(f.fileno(), 65536)

    def out(self):
        self.read()
        return self.text[self.p.stdout].decode("utf-8", "replace")

    def err(self):
        self.read()
        return self.text[self.p.stderr].decode("utf-8", "replace")

    def wait_says(self, what, limit=10, times=1, step=0.02):
        wait_for(lambda: (self.out() + self.err()).count(what) >= times, limit, lambda:
                 f"{what!r}; said so far: {self.out() + self.err()}", step)

    def end(self, how=None, limit=10):
        """Its exit code, as a shell would show it."""
        if how is not None:
            self.p.send_signal(how)
        wait_for(lambda: (self.read(), self.p.poll() is not None)[1], limit,
                 lambda: f"the command to end; said so far: {self.out() + self.err()}", 0.005)
        for _ in range(10):
            self.read()
        code = self.p.returncode
        return 128 - code if code < 0 else code


def version_of(ns, path="/muster/site"):
    return json.loads(expect(ask(ns, "stat", "--json", path), 0).out)["stat"]["version"]


# ---- the site ----

def write_site(site, name, addresses=None, lease="2s", more=""):
    path = os.path.join(site.dir, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(SITE.format(lease=lease, addresses="".join(
            f"  - {a}\n" for a in addresses or [site.vip])) + more)
    return path


def start_clone(m, i):
    """nginx; while there is a file "sick" its check fails, and every other page goes on."""
    where = os.path.join(m.dir, f"web{i}")
    os.makedirs(where, exist_ok=True)
    conf = os.path.join(where, "nginx.conf")
    good = 'return 200 "up\\n";'
    text = NGINX.format(dir=where, address=m.address, port=2999 + i, machine=m.name, instance=i)
    if good not in text:
        raise Failed(f"no {good} in the configuration of nginx")
    with open(conf, "w", encoding="utf-8") as f:
        f.write(text.replace(good, f"if (-f {where}/sick) {{ return 503; }} {good}"))
    m.spawn(f"web{i}", "nginx", "-c", conf, "-e", os.path.join(where, "error.log"))


def kill_clone(m, i):
    with open(os.path.join(m.dir, f"web{i}", "nginx.pid"), encoding="utf-8") as f:
        master = int(f.read())
    with open(f"/proc/{master}/task/{master}/children", encoding="utf-8") as f:
        workers = [int(w) for w in f.read().split()]
    for pid in [master] + workers:
        os.kill(pid, signal.SIGKILL)
    m.reap()


@contextlib.contextmanager
def sick(*clones):
    """The check of these, (machine, number), fails meanwhile."""
    paths = [os.path.join(m.dir, f"web{i}", "sick") for m, i in clones]
    try:
        for p in paths:
            with open(p, "w", encoding="utf-8"):
                pass
        yield
    finally:
        for p in paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(p)


def switch_on(m):
    m.link("up")
    m.start_responder()
    for i in (1, 2):
        start_clone(m, i)
    m.start_muster()


def wait_ok(site, limit=30):
    """Until every machine says that everything is well."""
    def verdicts():
        return {m.name: (m.status() or {}).get("verdict", "no answer")
                for m in site.machines.values()}
    return wait_for(lambda: set(verdicts().values()) == {"OK"}, limit, lambda:
                    f"OK on every machine: {verdicts()}", 0.1)


def kernel_addresses(ns):
    """The addresses that this kernel has, without a process for each look."""
    with inside(ns):
        with open("/proc/thread-self/net/fib_trie", encoding="ascii") as f:
            text = f.read()
    return set(re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", text))


def holders(site, addresses):
    """address -> the names of the machines whose kernel has it"""
    have = {m.name: kernel_addresses(m.ns) for m in site.machines.values()}
    return {a: tuple(n for n in have if a in have[n]) for a in addresses}


# ---- what comes between a command and its server ----

class Relay:
    """Listens on 127.0.0.1 of a machine and passes on to its server, except for one request,
    the first of that operation that has these bytes in it:

    hold     it waits until release(), then goes on
    swallow  it never arrives
    cut      it arrives, and the connection ends before its answer is heard
    """
    PORT = 12181
    LIMIT = 30.0

    def __init__(self, m, op, how, has=b""):
        self.m, self.op, self.how, self.has = m, op, how, has
        self.reached, self.go_on, self.over = (threading.Event() for _ in range(3))
        self.spent = False
        with inside(m.ns):
            self.listener = socket.create_server(("127.0.0.1", self.PORT))
        self.listener.settimeout(0.1)
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    def server(self):
        return f"127.0.0.1:{self.PORT}"

    def release(self):
        self.go_on.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over.set()
        self.go_on.set()
        for t in list(self.threads):
            t.join(5)
        self.listener.close()

    def accept(self):
        while not self.over.is_set():
            try:
                client, _ = self.listener.accept()
            except OSError:
                continue
            t = threading.Thread(target=self.serve, args=(client,), daemon=True)
            self.threads.append(t)
            t.start()

    def serve(self, client):
        with contextlib.suppress(OSError, Failed), client, \
                connect(self.m.ns, "127.0.0.1", PORT_ZK, 5) as up:
            self.pump(client, up)

    def pump(self, client, up):
        waiting, is_first, cut = b"", True, False
        while not self.over.is_set():
            for s in select.select([client, up], [], [], 0.1)[0]:
                part = s.recv(65536)
                if not part or (s is up and cut):
                    return
                if s is up:
                    client.sendall(part)
                    continue
                waiting += part
                while len(waiting) >= 4:
                    size = 4 + struct.unpack(">i", waiting[:4])[0]
                    if len(waiting) < size:
                        break
                    frame, waiting = waiting[:size], waiting[size:]
                    is_it = not is_first and not self.spent and \
                        struct.unpack(">i", frame[8:12])[0] == self.op and self.has in frame
                    is_first = False
                    if is_it:
                        self.spent = True
                        self.reached.set()
                        if self.how == "hold":
                            self.go_on.wait(self.LIMIT)
                        if self.how == "swallow":
                            continue
                        cut = self.how == "cut"
                    up.sendall(frame)

    def wait_reached(self):
        if not self.reached.wait(10):
            raise Failed("the request did not come")


# ---- visitors ----

Visit = collections.namedtuple("Visit", "begun took via body why")


class Visitors:
    """One for each machine: asks that machine's balancer for / every 20 ms."""
    EVERY, LIMIT = 0.02, 2.0

    def __init__(self, site, names=None):
        self.site = site
        self.ns = site.probes["client"][0]
        self.visits = []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.visit_all, args=(site[n],), daemon=True)
                        for n in names or site.machines]

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for t in self.threads:
            t.join(self.LIMIT + 3)

    def visit_all(self, m):
        while not self.over.wait(self.EVERY):
            begun = time.monotonic()
            body, why = "", ""
            try:
                body = self.visit(m)
            except OSError as e:
                why = str(e) or type(e).__name__
            if not body.startswith("machine ") and not why:
                why = f"not the page: {body[:60]!r}"
            self.visits.append(Visit(begun, time.monotonic() - begun, m.name, body.strip(), why))

    def visit(self, m):
        with connect(self.ns, m.address, 80, self.LIMIT) as s:
            s.sendall(b"GET / HTTP/1.0\r\nHost: shop\r\n\r\n")
            answer = b""
            while part := s.recv(4096):
                answer += part
        head, _, body = answer.decode("utf-8", "replace").partition("\r\n\r\n")
        return body if " 200 " in head.split("\r\n", 1)[0] else head.split("\r\n", 1)[0]

    def since(self, begun):
        return [v for v in list(self.visits) if v.begun >= begun]

    def judge(self, begun, allowed=0, least=20):
        """How many visits there were; Failed when more than `allowed` went wrong."""
        seen = self.since(begun)
        bad = [v for v in seen if v.why]
        if len(seen) < least:
            raise Failed(f"only {len(seen)} visits: this shows nothing")
        if len(bad) > allowed:
            raise Failed(f"{len(bad)} of {len(seen)} visits failed: " + ", ".join(
                f"{v.begun - begun:.2f} s via {v.via}: {v.why}" for v in bad[:6]))
        return f"{len(seen)} visits, {len(bad)} failed"
