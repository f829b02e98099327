# SPDX-License-Identifier: Apache-2.0
"""A site of machines on one computer: each a network namespace on a bridge.

./dev up (shop.py), the cluster tests and bench/failover.py all stand on this. A Site makes
the namespaces, starts what runs in them, breaks them (power off, kill, freeze, cut) and
heals them. It never touches a process outside its own namespaces, and close() removes
everything it made.

With host=True the bridge is in the host, which then reaches the site; else in a namespace
of its own, so that many sites with the same addresses can exist side by side.
"""
import contextlib
import ctypes
import glob
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MUSTER = os.environ.get("MUSTER", os.path.join(TOP, "build", "muster"))
BUILD = os.path.dirname(MUSTER)
CLONE_NEWNET = 0x40000000
PORT_ZK, PORT_HTTP, PORT_RESPONDER = 2181, 2180, 7777
MACHINES = ("a", "b", "c")


class Failed(Exception):
    """Something outside did not work; the text is for a person."""


def run(*words, check=True, ns=None, timeout=30):
    """Runs a program to its end; what it printed."""
    if ns:
        words = ("ip", "netns", "exec", ns) + words
    r = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, timeout=timeout, check=False)
    if check and r.returncode != 0:
        raise Failed(f"{' '.join(words)}: {r.stderr.strip() or r.stdout.strip()}")
    return r.stdout


def wait_for(condition, limit, what, step=0.02):
    """Waits until condition() is true; its value. Failed when the limit (seconds) is over."""
    end = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise Failed(f"waited {limit:g} s for {what() if callable(what) else what}")
        time.sleep(step)


@contextlib.contextmanager
def inside(ns):
    """What is opened in this thread meanwhile belongs to that namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{ns}", os.O_RDONLY) if ns else os.dup(here)
    try:
        if libc.setns(there, CLONE_NEWNET) != 0:
            raise Failed(f"setns {ns}: {os.strerror(ctypes.get_errno())}")
        yield
    finally:
        libc.setns(here, CLONE_NEWNET)
        os.close(there)
        os.close(here)


def connect(ns, host, port, timeout=2.0):
    with inside(ns):
        s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.settimeout(timeout)
    try:
        s.connect((host, port))
    except OSError:
        s.close()
        raise
    return s


def http_get(ns, host, port, path, timeout=2.0):
    """(status, body), or (0, why) when nobody answers."""
    try:
        s = connect(ns, host, port, timeout)
    except OSError as e:
        return 0, str(e)
    c = http.client.HTTPConnection(host, port, timeout=timeout)
    c.sock = s
    try:
        c.request("GET", path)
        r = c.getresponse()
        return r.status, r.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as e:
        return 0, str(e)
    finally:
        c.close()


def command_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().split(b"\0")[0].decode("utf-8", "replace")
    except OSError:
        return ""


def is_gone(pid):
    """It holds nothing any more: it is no process, or a zombie without living threads (one
    may be in the middle of an fsync, and keeps files and locks until that is done)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            is_dead = f.read().rpartition(")")[2].split()[0] in "ZX"
        return is_dead and len(os.listdir(f"/proc/{pid}/task")) <= 1
    except OSError:
        return True


class Machine:
    def __init__(self, site, name, number):
        self.site = site
        self.name = name
        self.ns = f"{site.prefix}-{name}"
        self.port = f"{site.port_prefix}-{name}"  # its port of the bridge
        self.address = f"{site.net}.{10 + number}"
        self.mac = f"02:00:0a:4d:00:{10 + number:02x}"
        self.dir = os.path.join(site.dir, name)
        self.data = os.path.join(self.dir, "data")
        self.up = ("--data", self.data)  # what stands behind "muster up"
        self.children = []
        self.started = None  # the muster that this program started last
        self.daemon = "muster"  # what keeps the address: killed, frozen by the faults

    # ---- processes ----

    def pids(self, name=None):
        """Everything that runs in its namespace, or what has that name."""
        out = run("ip", "netns", "pids", self.ns, check=False)
        pids = [int(p) for p in out.split() if not is_gone(int(p))]
        if name is not None:
            pids = [p for p in pids if os.path.basename(command_of(p)) == name]
        return pids

    def spawn(self, log, *words):
        os.makedirs(self.dir, exist_ok=True)
        with open(os.path.join(self.dir, log + ".log"), "ab") as out:
            p = subprocess.Popen(("ip", "netns", "exec", self.ns) + words,
                                 stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                 start_new_session=True, cwd=self.dir)
        self.children.append(p)
        # Only when "ip" has become the program is it in the namespace, where end() finds it
        # (in between the kernel shows no name at all).
        wait_for(lambda: os.path.basename(command_of(p.pid)) not in ("", "ip") or
                 p.poll() is not None, 5, f"{words[0]} to start on {self.name}", 0.001)
        return p

    def reap(self):
        self.children = [p for p in self.children if p.poll() is None]

    def end(self, name=None, how=signal.SIGKILL, limit=10):
        """Kills what runs on it and waits until it is gone."""
        killed = set()

        def is_over():
            pids = self.pids(name)
            killed.update(pids)
            # Children first: keepalived's would use the moment to say good-bye.
            for p in sorted(pids, reverse=True):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(p, how)
            self.reap()
            # A dying process leaves its namespace before its last thread has let go.
            return not pids and all(is_gone(p) for p in killed)
        wait_for(is_over, limit, f"the end of {name or 'the processes'} on {self.name}", 0.01)

    def log_tail(self, log="muster", lines=5):
        try:
            with open(os.path.join(self.dir, log + ".log"), encoding="utf-8",
                      errors="replace") as f:
                return "".join(f.readlines()[-lines:]).strip()
        except OSError:
            return "(no log)"

    def sanitizer_words(self):
        found = []
        for log in glob.glob(os.path.join(self.dir, "*.log")):
            with open(log, encoding="utf-8", errors="replace") as f:
                found += [f"{self.name}: {line.strip()}" for line in f
                          if re.search(r"Sanitizer|runtime error:", line)]
        return found

    # ---- muster ----

    def muster(self, *words, check=True, timeout=30):
        return run(MUSTER, *words, ns=self.ns, check=check, timeout=timeout)

    def start_muster(self):
        self.started = self.spawn("muster", MUSTER, "up", *self.up)

    def is_ready(self):
        return http_get(self.ns, self.address, PORT_HTTP, "/readyz", 1.0)[0] == 200

    def wait_ready(self, limit=30):
        def ready():
            if self.started is not None and self.started.poll() is not None:
                raise Failed(f"muster ended on {self.name}, code {self.started.returncode}:\n" +
                             self.log_tail())
            return self.is_ready()
        wait_for(ready, limit, lambda: f"muster on {self.name} (is not ready):\n" +
                 self.log_tail(), 0.05)

    def status(self):
        """/status of this machine, or None."""
        code, body = http_get(self.ns, self.address, PORT_HTTP, "/status", 1.0)
        if code == 0 or not body.startswith("{"):
            return None
        return json.loads(body)

    def word(self, word):
        """The answer to one of ZooKeeper's four-letter words; "" when there is none."""
        try:
            with connect(self.ns, self.address, PORT_ZK, 1.0) as s:
                s.sendall(word.encode())
                out = b""
                while part := s.recv(4096):
                    out += part
                return out.decode("utf-8", "replace")
        except OSError:
            return ""

    def mode(self):
        """leader, follower, ... or "" when it serves nobody."""
        found = re.search(r"^Mode: (\w+)", self.word("srvr"), re.M)
        return found.group(1) if found else ""

    # ---- what else runs on it ----

    def start_clones(self, count=2):
        for i in range(1, count + 1):
            self.start_clone(i)

    def start_clone(self, i):
        where = os.path.join(self.dir, f"web{i}")
        os.makedirs(where, exist_ok=True)
        conf = os.path.join(where, "nginx.conf")
        with open(conf, "w", encoding="utf-8") as f:
            f.write(NGINX.format(dir=where, address=self.address, port=2999 + i,
                                 machine=self.name, instance=i))
        self.spawn(f"web{i}", "nginx", "-c", conf, "-e", os.path.join(where, "error.log"))

    def start_responder(self):
        self.spawn("responder", os.path.join(BUILD, "tool_responder"), self.name,
                   str(PORT_RESPONDER))

    # ---- faults ----

    def link(self, state):
        run("ip", "-n", self.ns, "link", "set", "eth0", state)
        # A machine that is switched off keeps no address that somebody gave it.
        if state == "down":
            run("ip", "-n", self.ns, "addr", "flush", "dev", "eth0", check=False)
            run("nft", "flush", "ruleset", ns=self.ns, check=False)
        else:
            run("ip", "-n", self.ns, "addr", "replace", f"{self.address}/24", "dev", "eth0")

    def power_off(self):
        """The link first: what a dying process still wants to say is not heard."""
        run("ip", "-n", self.ns, "link", "set", "eth0", "down")
        self.end()
        self.link("down")

    def kill_daemon(self):
        self.end(self.daemon)

    def freeze(self):
        for p in self.pids(self.daemon):
            os.kill(p, signal.SIGSTOP)

    def thaw(self):
        for p in self.pids(self.daemon):
            os.kill(p, signal.SIGCONT)

    def unplug(self):
        run("ip", *self.site.bridge_ns_words(), "link", "set", self.port, "nomaster")

    def plug(self):
        run("ip", *self.site.bridge_ns_words(), "link", "set", self.port, "master",
            self.site.bridge)

    def cut(self, hears=False, is_heard=False):
        """Between it and the other machines; those who are no machines reach all of them."""
        others = "{ " + ", ".join(f'"{m.port}"' for m in self.site.machines.values()
                                  if m is not self) + " }"
        rules = ["add table bridge cut",
                 "add chain bridge cut wire { type filter hook forward priority 0; }"]
        if not is_heard:
            rules.append(f'add rule bridge cut wire iifname "{self.port}" oifname {others} drop')
        if not hears:
            rules.append(f'add rule bridge cut wire oifname "{self.port}" iifname {others} drop')
        self.site.nft("\n".join(rules))

    def uncut(self):
        self.site.nft("add table bridge cut\ndelete table bridge cut")


NGINX = """# Written by tests/cluster/cluster.py.
daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    server {{
        listen {address}:{port} reuseport;
        default_type text/plain;
        location / {{ return 200 "machine {machine}, instance {instance}\\n"; }}
        location = /up {{ return 200 "up\\n"; }}
    }}
}}
"""


class Site:
    def __init__(self, prefix, directory, net="10.77.0", host=False, machines=MACHINES,
                 probes=()):
        if not re.fullmatch(r"[a-z][a-z0-9]{0,7}", prefix):
            raise Failed(f"the prefix {prefix!r}: one to eight small letters and digits")
        self.prefix = prefix
        self.dir = directory
        self.net = net
        self.host = host
        self.bridge = "mbr0" if prefix == "muster" else f"mbr-{prefix}"
        self.bridge_ns = None if host else f"{prefix}-net"
        self.port_prefix = prefix
        self.machines = {m: Machine(self, m, i + 1) for i, m in enumerate(machines)}
        self.probes = {p: (f"{prefix}-{p}", f"{net}.{250 - i}") for i, p in enumerate(probes)}
        self.vip = f"{net}.100"

    def __getitem__(self, name):
        return self.machines[name]

    def bridge_ns_words(self):
        return ("-n", self.bridge_ns) if self.bridge_ns else ()

    def nft(self, rules):
        words = ("ip", "netns", "exec", self.bridge_ns) if self.bridge_ns else ()
        r = subprocess.run(words + ("nft", "-f", "-"), input=rules, text=True,
                           capture_output=True, timeout=10, check=False)
        if r.returncode != 0:
            raise Failed(f"nft: {r.stderr.strip()}")

    def namespaces(self):
        names = [m.ns for m in self.machines.values()] + [ns for ns, _ in self.probes.values()]
        return names + ([self.bridge_ns] if self.bridge_ns else [])

    def existing(self):
        have = {w.split()[0] for w in run("ip", "netns", "list").splitlines() if w}
        return [ns for ns in self.namespaces() if ns in have]

    def stop_well(self):
        """Every muster is told to end (SIGTERM); what the sanitizers had to say, and who did
        not end."""
        wrong = []
        for m in self.machines.values():
            try:
                m.thaw()
                m.end("muster", signal.SIGTERM, 30)
            except Failed as e:
                wrong.append(str(e))
            wrong += m.sanitizer_words()
        return wrong

    # ---- making and removing ----

    def open(self):
        if self.existing():
            raise Failed(f"the namespaces {', '.join(self.existing())} exist already: another "
                         f"site runs with this name (MUSTER_SITE={self.prefix})")
        if self.host and f" {self.net}.1/" in run("ip", "-4", "addr"):
            raise Failed(f"this host has the address {self.net}.1 already: choose another "
                         "network, MUSTER_NET=10.78.0")
        for ns in self.namespaces():
            run("ip", "netns", "add", ns)
            # Nobody's answers come late because an address is looked for twice.
            run("ip", "-n", ns, "link", "set", "lo", "up")
        at = self.bridge_ns_words()
        run("ip", *at, "link", "add", self.bridge, "type", "bridge", "stp_state", "0",
            "forward_delay", "0")
        run("ip", *at, "link", "set", self.bridge, "up")
        if self.host:
            run("ip", "addr", "add", f"{self.net}.1/24", "dev", self.bridge)
        for m in self.machines.values():
            self.wire(m.ns, m.port, f"{m.address}/24", m.mac)
        for name, (ns, address) in self.probes.items():
            self.wire(ns, f"{self.prefix}-{name}", f"{address}/24", None)

    def wire(self, ns, port, address, mac):
        at = self.bridge_ns_words()
        words = ["address", mac] if mac else []
        run("ip", *at, "link", "add", port, "type", "veth", "peer", "name", "eth0", *words,
            "netns", ns)
        run("ip", *at, "link", "set", port, "master", self.bridge, "up")
        run("ip", "-n", ns, "link", "set", "eth0", "up")
        run("ip", "-n", ns, "addr", "add", address, "dev", "eth0")

    def close(self):
        """Removes whatever there is of it; may be called at any time, more than once."""
        existing = self.existing()
        for ns in existing:
            def left(ns=ns):
                pids = [int(p) for p in run("ip", "netns", "pids", ns, check=False).split()]
                pids = [p for p in pids if not is_gone(p)]
                for p in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(p, signal.SIGKILL)
                for m in self.machines.values():
                    m.reap()
                return not pids
            wait_for(left, 10, f"the end of the processes in {ns}")
        for ns in existing:
            run("ip", "netns", "del", ns, check=False)
        if self.host:
            for m in self.machines.values():
                run("ip", "link", "del", m.port, check=False)
            run("ip", "link", "del", self.bridge, check=False)

    def remove_files(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    # ---- muster on all of it ----

    def form(self, say=lambda text: None, before=None):
        """init on the first machine, join on the others, each up and ready."""
        if not os.access(MUSTER, os.X_OK):
            raise Failed(f"{MUSTER} is not built: ./dev build")
        first = None
        for m in self.machines.values():
            os.makedirs(m.data, exist_ok=True)
            os.rmdir(m.data)
            where = ("--data", m.data, "--name", m.name, "--address", m.address)
            if first is None:
                first = m
                say(f"{m.name}: muster init")
                token = self.token_in(m.muster("init", *where))
            else:
                if token is None:
                    token = self.token_in(first.muster("token", "--data", first.data))
                say(f"{m.name}: muster join")
                m.muster("join", *token, *where)
                token = None
            if before:
                before(m)
            m.start_muster()
            m.wait_ready()

    @staticmethod
    def token_in(text):
        found = re.search(r"muster join (\S+) (\S+)", text)
        if not found:
            raise Failed(f"no join command in: {text.strip()}")
        return found.group(1), found.group(2)

    def apply(self, path):
        m = next(iter(self.machines.values()))
        return m.muster("apply", path)

    def leader(self):
        """The one machine that says it leads, or None."""
        names = [m.name for m in self.machines.values() if m.mode() == "leader"]
        return names[0] if len(names) == 1 else None

    def holder_by_kernel(self):
        """Machines whose kernel has the virtual address."""
        return [m.name for m in self.machines.values()
                if f" {self.vip}/" in run("ip", "-n", m.ns, "-4", "addr", check=False)]


def note(text):
    print(text, file=sys.stderr, flush=True)
