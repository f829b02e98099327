# SPDX-License-Identifier: Apache-2.0
"""The site that is broken: machines in network namespaces, and the state of every fault.

A Bed knows what is done to each machine and to each link, and makes it so; faults may overlap,
and each can be undone by itself. Everything it makes carries its prefix (the letter c and the
number of the process), so that several can run beside each other and beside other sites.

What it watches: a muster that ends though nobody ended it.
"""
import collections
import contextlib
import glob
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "cluster"))

from cluster import (MUSTER, PORT_RESPONDER, TOP, Failed, Machine, Site, command_of, is_gone,  # noqa: E402
                     run, wait_for)

# The tools stand beside the program, but not beside one with planted faults.
BUILD = os.path.dirname(MUSTER)
if not os.path.exists(os.path.join(BUILD, "tool_prober")):
    BUILD = os.path.join(TOP, "build")
NET = "10.79.0"
ADDRESSES = (f"{NET}.100", f"{NET}.101")
INSTANCES = 2
LEASE_S = 2.0
# What a machine may take for what it does in a second when it is alone: others compute too.
PATIENCE_S = 90.0
STOP_LIMIT_S = 60.0
STOP_BAD_DISK_S = 5.0
RESTART_S = 0.5         # what ended by itself is started again, as systemd does
DISK_BYTES = 96 << 20
DISK_CODES = (1, 10)    # it could not start, or ended, and had said why
DISK_GRACE_S = 5.0      # a disk is well again, and muster ends for what it met before
FAKETIME = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), "libfaketimeMT.so.1")
CHECKER = os.path.join(BUILD, "tool_history")
C_CLIENT = os.path.join(BUILD, "client_chaos")
SICKDISK = os.path.join(TOP, "tests", "cluster", "sickdisk.c")  # preloaded: a disk that fails
SICK_WELL = (0, 0, 0, 0, 0, 0)  # its struct sick: write_errno, sync_errno, sync_ms, stuck, stuck, hits


def faked(path):
    """What libfaketime wants: the file that moves the wall clock; never the monotonic one."""
    return [f"FAKETIME_TIMESTAMP_FILE={path}", "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "DONT_FAKE_MONOTONIC=1", "FAKETIME_CACHE_DURATION=1"]


def missing_part():
    """What a campaign cannot do without, and would pass without a word; None: all is there."""
    for path in (CHECKER, C_CLIENT):
        if not os.access(path, os.X_OK):
            return f"{path} is not built: ./dev build"
    with tempfile.NamedTemporaryFile("w") as f:
        f.write("+86400\n")
        f.flush()
        p = subprocess.run(["env", *faked(f.name), f"LD_PRELOAD={FAKETIME}", "date", "+%s"],
                           capture_output=True, text=True, check=False)
    if p.returncode != 0 or abs(int(p.stdout) - time.time() - 86400) > 3600:
        return f"{FAKETIME} does not move a clock (packages.txt: faketime): {p.stderr.strip()}"
    return None


SITE_FILE = """site: chaos
lease: {lease:g}s
addresses:
{addresses}services:
  web:
    port: 3000
    instances: {instances}
    check: {{ http: /up }}
balance:
  web: {{ listen: 80 }}
"""


class ChaosMachine(Machine):
    def __init__(self, site, name, number):
        super().__init__(site, name, number)
        self.down = 0          # how many faults want its muster dead
        self.off = 0           # likewise, the whole machine
        self.frozen = 0
        self.all_frozen = 0
        self.unlinked = 0
        self.disk_bad = 0      # how many faults break its disk: muster may end by itself then
        self.disk_bad_until = 0.0
        self.restart_at = 0.0
        self.is_expected = False
        self.clock_path = os.path.join(self.dir, "clock")
        self.sick_path = os.path.join(self.dir, "sick")
        self.disk = os.path.join(self.dir, "disk")  # a small filesystem of its own
        self.data = os.path.join(self.disk, "data")
        self.up = ("--data", self.data)
        self.deaths = []       # text: it ended, and nobody had ended it

    # ---- processes ----

    def environment(self):
        """For muster: a wall clock that a file moves; never the monotonic one."""
        words = [f"MUTANT={self.site.mutant}"] if self.site.mutant else []
        return words + faked(self.clock_path) + [
            f"SICKDISK_DIR={self.disk}", f"SICKDISK_CONTROL={self.sick_path}",
            f"LD_PRELOAD={self.site.sickdisk}:{FAKETIME}"]

    def step_clock(self, seconds):
        """From now on its wall clock is so far from the right one."""
        new = self.clock_path + ".new"
        with open(new, "w", encoding="utf-8") as f:
            f.write(f"{seconds:+d}\n")
        os.rename(new, self.clock_path)

    def start_muster(self):
        os.makedirs(self.dir, exist_ok=True)
        if not os.path.exists(self.clock_path):
            self.step_clock(0)
        if not os.path.exists(self.sick_path):
            self.write_sick(SICK_WELL)
        self.started = self.spawn("muster", "env", *self.environment(), MUSTER, "up", *self.up)
        p = self.started
        wait_for(lambda: os.path.basename(command_of(p.pid)) == "muster" or
                 p.poll() is not None, 30, f"muster to start on {self.name}", 0.002)

    def spawn(self, log, *words):
        # As in Machine, with more patience: dozens of others start at the same moment.
        with open(os.path.join(self.dir, log + ".log"), "ab") as out:
            p = subprocess.Popen(("ip", "netns", "exec", self.ns) + words,
                                 stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                 start_new_session=True, cwd=self.dir)
        self.children.append(p)
        wait_for(lambda: os.path.basename(command_of(p.pid)) not in ("", "ip") or
                 p.poll() is not None, 30, f"{words[0]} to start on {self.name}", 0.001)
        return p

    def start_responder(self):
        self.spawn("responder", os.path.join(BUILD, "tool_responder"), self.name,
                   str(PORT_RESPONDER))

    def look(self):
        """Has its muster ended by itself?"""
        now = time.monotonic()
        if self.restart_at and now >= self.restart_at:
            self.restart_at = 0.0
            self.ensure()
        if self.started is None or self.started.poll() is None:
            return
        code = self.started.returncode
        self.started = None
        if self.is_expected:
            return
        if (self.disk_bad or now < self.disk_bad_until) and code in DISK_CODES:
            self.site.count("ended by a broken disk")
        else:
            self.deaths.append(f"muster on {self.name} ended by itself, code {code}: "
                               f"{self.log_tail(lines=3)}")
        self.restart_at = now + RESTART_S

    def kill(self, name="muster"):
        self.is_expected = True
        self.end(name, signal.SIGKILL, PATIENCE_S)
        self.started = None
        self.is_expected = False

    def ensure(self):
        """What should run on it runs."""
        if self.off:
            return
        self.ensure_others()
        if not self.down and (self.started is None or self.started.poll() is not None):
            self.look()
            if self.started is None and not self.restart_at:
                self.start_muster()

    def ensure_others(self):
        if not self.pids("tool_responder"):
            self.start_responder()
        for i in range(1, INSTANCES + 1):
            if not any(f"web{i}/nginx.conf" in words_of(p) for p in self.pids("nginx")):
                self.start_clone(i)

    def wait_ready(self, limit=PATIENCE_S):
        super().wait_ready(limit)

    def muster(self, *words, check=True, timeout=PATIENCE_S):
        return super().muster(*words, check=check, timeout=timeout)

    # ---- held faults: begun and ended in pairs, several at once ----

    def hold_down(self):
        self.down += 1
        self.kill()

    def let_up(self):
        self.down -= 1
        self.ensure()

    def hold_wiped(self):
        """Its store is gone: it begins another life, a learner, and is made a voter again."""
        self.hold_down()
        shutil.rmtree(os.path.join(self.data, "store"), ignore_errors=True)
        self.site.count("disks lost")

    def hold_off(self):
        self.off += 1
        self.down += 1
        run("ip", "-n", self.ns, "link", "set", "eth0", "down")
        self.kill(None)
        run("ip", "-n", self.ns, "addr", "flush", "dev", "eth0", check=False)
        run("nft", "flush", "ruleset", ns=self.ns, check=False)

    def switch_on(self):
        self.off -= 1
        self.down -= 1
        if not self.off:
            run("ip", "-n", self.ns, "addr", "replace", f"{self.address}/24", "dev", "eth0")
            if not self.unlinked:
                run("ip", "-n", self.ns, "link", "set", "eth0", "up")
        self.ensure()

    def hold_stopped(self):
        """In good order: told once, as an upgrade does."""
        self.down += 1
        self.is_expected = True
        for p in self.pids("muster"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(p, signal.SIGTERM)
                os.kill(p, signal.SIGCONT)

    def let_start(self):
        self.down -= 1
        # With a disk that is stuck it gives its addresses away, and ends when the disk answers:
        # a service manager then kills it.
        limit = time.monotonic() + (STOP_BAD_DISK_S if self.disk_bad else STOP_LIMIT_S)
        while self.started is not None and self.started.poll() is None:
            # Frozen again since it was told: it can be let go only when this has ended.
            if self.frozen:
                self.signal_all(signal.SIGCONT, "muster")
            if time.monotonic() > limit and self.disk_bad:
                self.site.count("killed, since its disk was stuck when it was to end")
                self.kill()
                break
            if time.monotonic() > limit:
                self.deaths.append(f"muster on {self.name} did not end within {STOP_LIMIT_S:g} s "
                                   f"of SIGTERM: {self.log_tail(lines=3)}")
                self.kill()
                break
            time.sleep(0.02)
        is_excused = self.disk_bad or time.monotonic() < self.disk_bad_until
        if self.started is not None and self.started.returncode != 0 and not is_excused:
            self.deaths.append(f"muster on {self.name} ended with code "
                               f"{self.started.returncode} when it was told to (SIGTERM): "
                               f"{self.log_tail(lines=3)}")
        self.started = None
        self.is_expected = False
        self.ensure()

    def signal_all(self, number, name):
        for p in self.pids(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(p, number)

    def hold_frozen(self, is_whole):
        self.frozen += 1
        self.signal_all(signal.SIGSTOP, None if is_whole else "muster")

    def let_go(self):
        self.frozen -= 1
        if not self.frozen:
            self.signal_all(signal.SIGCONT, None)

    def hold_full(self):
        """Not a byte is free on its disk."""
        self.disk_bad += 1
        with open(os.path.join(self.disk, "ballast"), "ab") as f:
            size = f.tell()
            while True:
                room = os.statvfs(self.disk)
                free = room.f_bavail * room.f_frsize
                if not free:
                    break
                try:
                    os.posix_fallocate(f.fileno(), size, free)
                except OSError:  # muster was faster
                    continue
                size += free

    def let_room(self):
        self.disk_bad -= 1
        self.disk_bad_until = time.monotonic() + DISK_GRACE_S
        if not self.disk_bad:
            self.write_sick(SICK_WELL)
            self.empty()

    def empty(self):
        ballast = os.path.join(self.disk, "ballast")
        if os.path.exists(ballast):
            os.unlink(ballast)

    def write_sick(self, values):
        """In place: the other side has it mapped. A new file first gets its size."""
        with open(self.sick_path, "r+b" if os.path.exists(self.sick_path) else "w+b") as f:
            f.write(struct.pack("=6i", *values))

    def hold_sick(self, values):
        self.disk_bad += 1
        self.write_sick(values)

    def let_well(self):
        self.disk_bad -= 1
        self.disk_bad_until = time.monotonic() + DISK_GRACE_S
        if not self.disk_bad:  # what another fault did to it goes with the last one
            self.write_sick(SICK_WELL)
            self.empty()

    def hold_unlinked(self):
        self.unlinked += 1
        run("ip", "-n", self.ns, "link", "set", "eth0", "down")

    def let_link(self):
        self.unlinked -= 1
        if not self.unlinked and not self.off:
            run("ip", "-n", self.ns, "link", "set", "eth0", "up")

    # ---- what it is like ----

    def memory_kb(self):
        """(resident, open files) of its muster."""
        if self.started is None:
            return 0, 0
        try:
            with open(f"/proc/{self.started.pid}/status", encoding="utf-8") as f:
                kb = next((int(line.split()[1]) for line in f if line.startswith("VmRSS")), 0)
            return kb, len(os.listdir(f"/proc/{self.started.pid}/fd"))
        except OSError:
            return 0, 0


def words_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


class Bed(Site):
    def __init__(self, directory, count):
        names = tuple("abcde"[:count])
        probes = ["client", "client2", "watch", "watch2", "ops"]
        super().__init__(f"c{os.getpid()}", directory, net=NET, machines=names, probes=probes)
        self.machines = {m: ChaosMachine(self, m, i + 1) for i, m in enumerate(names)}
        self.cuts = []          # [set of (from, to)]
        self.all_addresses = ADDRESSES
        self.bad = []           # [(set of (from, to), the settings of wire.c)]
        self.wire_in, self.wire_out = f"{self.prefix}-w0", f"{self.prefix}-w1"
        self.wire_program = None
        self.counts = collections.Counter()
        self.sickdisk = None    # the library
        self.mutant = None      # a planted fault's name
        self.is_kept = False    # a failure: the machines' data, too

    def count(self, what, n=1):
        self.counts[what] += n

    # ---- the network between the machines ----

    def pairs(self, these, those):
        return {(x, y) for x in these for y in those if x != y}

    def begin_cut(self, pairs):
        self.cuts.append(pairs)
        self.wires()

    def end_cut(self, pairs):
        self.cuts.remove(pairs)
        self.wires()

    def begin_bad(self, pairs, settings):
        self.bad.append((pairs, settings))
        self.wires()

    def end_bad(self, pairs, settings):
        self.bad.remove((pairs, settings))
        self.wires()

    def wires(self):
        """Makes the bridge as the present faults want it. Of several settings for bad wires the
        last ones hold."""
        cut = set().union(*self.cuts) if self.cuts else set()
        rules = ["add table bridge chaos", "delete table bridge chaos", "add table bridge chaos",
                 "add chain bridge chaos wire { type filter hook forward priority 0; }"]
        for x, y in sorted(cut):
            rules.append(f'add rule bridge chaos wire iifname "{self[x].port}" '
                         f'oifname "{self[y].port}" drop')
        rules += ["add table netdev chaos", "delete table netdev chaos", "add table netdev chaos"]
        bad = set().union(*(pairs for pairs, _ in self.bad)) - cut if self.bad else set()
        if bad:
            self.wire_program.stdin.write(self.bad[-1][1] + "\n")
            self.wire_program.stdin.flush()
        for x in sorted({x for x, _ in bad}):
            macs = ", ".join(sorted(self[y].mac for z, y in bad if z == x))
            rules.append(f'add chain netdev chaos {x} {{ type filter hook ingress device '
                         f'"{self[x].port}" priority 0; }}')
            rules.append(f'add rule netdev chaos {x} ether daddr {{ {macs} }} '
                         f'fwd to "{self.wire_in}"')
        self.nft("\n".join(rules))

    def addresses_of(self, m):
        """What its kernel has."""
        return run("ip", "-n", m.ns, "-4", "addr", check=False)

    # ---- life ----

    def open_wire(self):
        at = self.bridge_ns_words()
        run("ip", *at, "link", "add", self.wire_in, "type", "veth", "peer", "name",
            self.wire_out)
        for name in (self.wire_in, self.wire_out):
            run("ip", *at, "link", "set", name, "up")
        with open(os.path.join(self.dir, "wire.log"), "ab") as out:
            self.wire_program = subprocess.Popen(
                ["ip", "netns", "exec", self.bridge_ns, os.path.join(BUILD, "tool_wire"), "1",
                 self.wire_out] + [f"{m.port}={m.mac}" for m in self.machines.values()],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, text=True,
                start_new_session=True)

    def close_wire(self):
        """It says how many frames it had."""
        out, _ = self.wire_program.communicate(timeout=10)
        for part in out.strip().replace("of these ", "").split(", "):
            what, _, n = part.rpartition(" ")
            if n.isdigit():
                self.count(what if "frames" in what else f"frames {what}", int(n))

    def begin(self):
        os.makedirs(self.dir, exist_ok=True)
        self.sickdisk = os.path.join(self.dir, "sickdisk.so")
        run("cc", "-O2", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", self.sickdisk, SICKDISK,
            "-ldl", timeout=60)
        for m in self.machines.values():
            os.makedirs(m.disk, exist_ok=True)
            run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", self.prefix, m.disk)
        self.open()
        self.open_wire()
        self.form(before=lambda m: m.ensure_others())
        path = os.path.join(self.dir, "site.yml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(SITE_FILE.format(lease=LEASE_S, instances=INSTANCES,
                                     addresses="".join(f"  - {a}\n" for a in ADDRESSES)))
        self.apply(path)

    def look(self):
        for m in self.machines.values():
            m.look()

    def deaths(self):
        found = [d for m in self.machines.values() for d in m.deaths]
        for m in self.machines.values():
            m.deaths = []
        return found

    def wrong_now(self):
        """What is not yet as it should be, a text; "" when all is right."""
        holders = collections.Counter()
        for m in self.machines.values():
            if not m.is_ready():
                return f"{m.name} is not ready"
            s = m.status()
            if s is None:
                return f"{m.name} gives no status"
            if s["verdict"] != "OK":
                return f"{m.name} says {s['verdict']}"
            seen = {a["address"].split("/")[0]: a["holder"] for a in s["addresses"]}
            if set(seen) != set(ADDRESSES) or None in seen.values():
                return f"{m.name} sees addresses {seen}"
            if len(set(seen.values())) != min(len(ADDRESSES), len(self.machines)):
                return f"addresses are uneven: {seen}"
            holders[tuple(sorted(seen.items()))] += 1
            full = len(self.machines) * INSTANCES
            for pool in s["balance"]:
                if pool["on"] != full:
                    return f"the pool on {m.name} has {pool['on']} of {full}"
            if not s["balance"]:
                return f"no pool on {m.name}"
        if len(holders) != 1:
            return f"they differ about addresses: {list(holders)}"
        return ""

    def wait_right(self, limit=PATIENCE_S):
        """Seconds until everything was right."""
        begun = time.monotonic()
        last = [""]

        def right():
            self.look()
            last[0] = self.wrong_now()
            return not last[0]
        wait_for(right, limit, lambda: f"the site to come right by itself: {last[0]}", 0.1)
        return time.monotonic() - begun

    def close(self):
        # Frozen processes cannot be seen to end otherwise.
        for m in self.machines.values():
            with contextlib.suppress(Failed, OSError):
                m.signal_all(signal.SIGCONT, None)
        if self.wire_program and self.wire_program.poll() is None:
            self.close_wire()
        for tries in range(4):  # a busy machine takes its time to end a process
            try:
                super().close()
                break
            except (Failed, OSError, subprocess.SubprocessError):
                if tries == 3:
                    raise
        for m in self.machines.values():
            if os.path.ismount(m.disk):
                with contextlib.suppress(OSError):  # what was found must be told all the same
                    self.keep_data(m)
                run("umount", "-l", m.disk)

    def keep_data(self, m):
        """What is on its small disk, for who looks for a failure's cause."""
        if self.is_kept and os.path.isdir(m.data):
            shutil.copytree(m.data, os.path.join(m.dir, "data"), dirs_exist_ok=True,
                            ignore=lambda where, names: [
                                n for n in names if not os.path.isdir(os.path.join(where, n)) and
                                not os.path.isfile(os.path.join(where, n))])


def clean_up(say):
    """What a program of this kind left that was killed (SIGKILL) and could not remove it."""
    left = {}
    for line in run("ip", "netns", "list").splitlines():
        found = re.fullmatch(r"(c(\d+))-\w+", line.split()[0])
        if found and "chaos" not in words_of(int(found.group(2))):
            left.setdefault(found.group(1), []).append(line.split()[0])
    for prefix, names in left.items():
        say(f"removing what {prefix} left behind: {', '.join(names)}")
        for ns in names:
            for pid in run("ip", "netns", "pids", ns, check=False).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            run("ip", "netns", "del", ns, check=False)
    with open("/proc/mounts", encoding="utf-8") as f:
        mounts = [line.split()[:2] for line in f]
    for what, where in mounts:
        found = re.fullmatch(r"c(\d+)", what)
        if found and where.endswith("/disk") and "chaos" not in words_of(int(found.group(1))):
            run("umount", "-l", where, check=False)


__all__ = ["Bed", "Failed", "ADDRESSES", "BUILD", "MUSTER", "clean_up", "is_gone", "run", "wait_for"]
