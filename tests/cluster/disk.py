#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Full, slow, stuck and failing disks under three real servers, with writers and an address.

Each machine's data is on a small file system of its own (tmpfs, in a mount namespace that ends
with this program), and its muster has sickdisk.c preloaded. No acknowledged write may be lost,
leadership and clients move, and all heals by itself, without a restart.
"""
import contextlib
import errno
import json
import mmap
import os
import re
import struct
import subprocess
import sys
import time

from cluster import MUSTER, Failed, Site, http_get, run, wait_for
from failover import writes_wrong
from report import Report
from writers import Writers

HERE = os.path.dirname(os.path.abspath(__file__))
DISK_MIB = 128          # of which the reserve is a sixteenth
RESERVE = DISK_MIB // 16 * 1024 * 1024
NOTICED = 20            # seconds for whatever must be noticed, or must have healed
SITE = """site: disks
lease: 2s
addresses:
  - 10.77.0.100
"""

KAZOO = """
import json, sys
from kazoo.client import KazooClient
from kazoo.exceptions import SystemZookeeperError
k = KazooClient(hosts=sys.argv[1], timeout=10)
k.start(20)
said = {}
def ask(name, what):
    try:
        what()
        said[name] = "done"
    except Exception as e:
        said[name] = type(e).__name__
ask("create", lambda: k.create("/data/new", b"x"))
ask("set", lambda: k.set("/data/old", b"y" * 100))
ask("large ephemeral", lambda: k.create("/data/e-", b"x" * 8000, ephemeral=True, sequence=True))
def commit():
    t = k.transaction(); t.create("/data/no"); r = t.commit()
    if isinstance(r[0], Exception): raise r[0]
ask("multi", commit)
ask("ephemeral", lambda: k.create("/data/e-", b"x", ephemeral=True, sequence=True))
ask("lock", lambda: (k.Lock("/data/lock").acquire(timeout=10), None))
ask("delete", lambda: k.delete("/data/gone"))
ask("read", lambda: k.get("/data/old"))
ask("sync", lambda: k.sync("/data"))
said["connected"] = k.connected
ask("close", k.stop)
print(json.dumps(said))
"""


class Sick:
    """What the preloaded library of a machine is told."""
    FIELDS = ("write_errno", "sync_errno", "sync_ms", "sync_stuck", "write_stuck", "hits")

    def __init__(self, path):
        self.path = path
        with open(path, "wb") as f:
            f.write(bytes(4096))
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 4096)

    def set(self, **fields):
        for name, value in fields.items():
            struct.pack_into("i", self.map, 4 * self.FIELDS.index(name), value)

    def hits(self):
        return struct.unpack_from("i", self.map, 4 * self.FIELDS.index("hits"))[0]

    def heal(self):
        self.set(write_errno=0, sync_errno=0, sync_ms=0, sync_stuck=0, write_stuck=0)


class Disks:
    """The machines' small file systems, and the library."""

    def __init__(self, site):
        self.site = site
        self.library = os.path.join(site.dir, "sickdisk.so")
        os.makedirs(site.dir, exist_ok=True)
        subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror",
                        "-shared", "-fPIC", "-o", self.library,
                        os.path.join(HERE, "sickdisk.c"), "-ldl"], check=True)
        self.sick = {}
        for m in site.machines.values():
            where = self.where(m)
            os.makedirs(where)
            run("mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", where)
            m.data = os.path.join(where, "data")
            m.up = ("--data", m.data)
            self.sick[m.name] = Sick(os.path.join(site.dir, m.name + ".control"))
            m.start_muster = lambda m=m: self.start(m)

    @staticmethod
    def where(m):
        return os.path.join(m.dir, "disk")

    def start(self, m):
        m.started = m.spawn("muster", "env", f"LD_PRELOAD={self.library}",
                            f"SICKDISK_DIR={self.where(m)}",
                            f"SICKDISK_CONTROL={self.sick[m.name].path}", MUSTER, "up", *m.up)

    def fill(self, m):
        """Up to the last byte."""
        try:
            with open(os.path.join(self.where(m), "filler"), "ab", buffering=0) as f:
                while True:
                    f.write(bytes(1 << 20))
        except OSError as e:
            if e.errno != errno.ENOSPC:
                raise
        try:
            with open(os.path.join(self.where(m), "filler"), "ab", buffering=0) as f:
                while True:
                    f.write(bytes(512))
        except OSError as e:
            if e.errno != errno.ENOSPC:
                raise

    def free(self, m):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.where(m), "filler"))

    def close(self):
        for m in self.site.machines.values():
            run("umount", "-l", self.where(m), check=False)


def metric(m, name):
    code, body = http_get(m.ns, m.address, 2180, "/metrics", 2.0)
    found = re.search(rf"^muster_{name} (\d+)$", body, re.M) if code == 200 else None
    return int(found.group(1)) if found else None


def disk_of(m):
    status = m.status()
    return (status or {}).get("disk") or {}


def verdict(m):
    return (m.status() or {}).get("verdict", "")


def expect(is_so, what):
    if not is_so:
        raise Failed(what)


class Test:
    def __init__(self, site):
        self.site = site
        self.disks = Disks(site)
        self.writers = Writers(site)
        self.machines = list(site.machines.values())

    def lead(self):
        return self.site[wait_for(self.site.leader, NOTICED, "a leader")]

    def others(self, m):
        return [o for o in self.machines if o is not m]

    def writes_on(self, what, count=20):
        """New entries commit while it is so: the writers write all the time."""
        def commits():
            return max((metric(m, "server_committed_index") or 0) for m in self.machines)
        before = commits()
        wait_for(lambda: commits() >= before + count, NOTICED, f"writes to go on {what}")

    def all_serve(self):
        wait_for(lambda: all(m.is_ready() for m in self.machines), NOTICED,
                 lambda: "all to serve: " + "; ".join(
                     f"{m.name} {m.is_ready()} {disk_of(m)}" for m in self.machines))

    # ---- the tests ----

    def begin(self):
        path = os.path.join(self.site.dir, "site.yml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(SITE)
        self.site.apply(path)
        wait_for(lambda: len(self.site.holder_by_kernel()) == 1, NOTICED, "an address")
        a = self.machines[0]
        a.muster("create", "/data")
        for name in ("old", "gone", "gone1", "lock"):
            a.muster("create", f"/data/{name}", "x")
        for m in self.machines:
            wait_for(lambda m=m: metric(m, "disk_reserve_bytes") == RESERVE, NOTICED,
                     lambda m=m: f"{m.name}: its reserve: {disk_of(m)}")
            size = os.stat(os.path.join(m.data, "store", "reserve"))
            expect(size.st_blocks * 512 >= RESERVE, f"{m.name}: the reserve is not on the disk")
        self.writers.start()
        self.writers.begin()
        self.writes_on("at the beginning")

    def stuck_leader(self):
        m = self.lead()
        sick = self.disks.sick[m.name]
        sick.set(sync_stuck=1)
        begun = time.monotonic()
        try:
            wait_for(lambda: any(o.mode() == "leader" for o in self.others(m)), NOTICED,
                     lambda: f"another leader: {m.log_tail()}")
            took = time.monotonic() - begun
            expect(sick.hits() > 0, "no sync was stuck: this shows nothing")
            self.writes_on("with a stuck disk")
            wait_for(lambda: not m.is_ready(), NOTICED, f"{m.name} to send its clients away")
            # The loop does not wait for the disk: it answers, and says what it waits for.
            wait_for(lambda: disk_of(m).get("sync_running_ms", 0) > 2000 and
                     "too slow" in verdict(m), 10, lambda: f"the figure: {verdict(m)} {disk_of(m)}")
            expect(m.word("ruok") == "imok", "the stuck server does not answer")
            term = metric(m, "server_term")
            self.writes_on("with a stuck disk", 50)
            expect(metric(m, "server_term") == term, "heartbeats are missed: another election")
        finally:
            sick.heal()
        self.all_serve()
        wait_for(lambda: "ev=leadership_offered" in m.log_tail(lines=200), 5, "a line in its log")
        return f"another leads after {took:.1f} s"

    def slow_leader(self):
        m = self.lead()
        self.disks.sick[m.name].set(sync_ms=2500)
        try:
            wait_for(lambda: any(o.mode() == "leader" for o in self.others(m)), NOTICED,
                     lambda: f"another leader: {m.log_tail()}")
            self.writes_on("with a slow disk")
            expect(metric(m, "disk_sync_max_ms") is not None, "no figure")
        finally:
            self.disks.sick[m.name].heal()
        self.all_serve()

    def one_is_full(self):
        m = self.lead()
        self.disks.fill(m)
        wait_for(lambda: disk_of(m).get("room") in ("full", "spent", "bare"), NOTICED,
                 lambda: f"{m.name} to notice: {disk_of(m)}")
        wait_for(lambda: any(o.mode() == "leader" for o in self.others(m)), NOTICED,
                 lambda: f"a leader with room: {m.log_tail()}")
        self.writes_on("with one full disk", 100)
        for o in self.others(m):
            expect(disk_of(o).get("refuses") is False, f"{o.name} refuses data: {disk_of(o)}")
        expect("is full" in verdict(m), f"the verdict of {m.name}: {verdict(m)}")
        # Even without any reserve: it lags, its clients go elsewhere, the others go on.
        self.disks.sick[m.name].set(write_errno=errno.ENOSPC)
        wait_for(lambda: disk_of(m).get("room") == "bare", NOTICED,
                 lambda: f"{m.name} to wait for room: {disk_of(m)}")
        wait_for(lambda: not m.is_ready(), NOTICED, f"{m.name} to send its clients away")
        self.writes_on("with one that waits", 100)
        self.disks.sick[m.name].heal()
        self.disks.free(m)
        wait_for(lambda: disk_of(m).get("room") in ("ok", "low") and
                 disk_of(m).get("reserve_bytes") == RESERVE, NOTICED,
                 lambda: f"{m.name} to heal: {disk_of(m)}")
        self.all_serve()

    def healing(self, test):
        """The next test finds healthy disks, whatever came of this one."""
        def run_it():
            try:
                return test()
            finally:
                for m in self.machines:
                    self.disks.sick[m.name].heal()
                    self.disks.free(m)
        return run_it

    def all_are_full(self):
        for m in self.machines:
            self.disks.fill(m)
        wait_for(lambda: all(disk_of(m).get("refuses") for m in self.machines), NOTICED,
                 lambda: f"new data to be refused: {[disk_of(m) for m in self.machines]}")
        a = self.machines[0]
        for m in self.machines:
            expect("new data is refused" in verdict(m), f"{m.name}: {verdict(m)}")
        r = subprocess.run(("ip", "netns", "exec", a.ns, MUSTER, "create", "/data/cli", "x"),
                           capture_output=True, text=True, timeout=30, check=False)
        expect(r.returncode == 6 and "disks are full" in r.stderr and "in reserve" in r.stderr,
               f"muster create: {r.returncode} {r.stderr}")
        said = json.loads(run("/usr/bin/python3", "-c", KAZOO, f"{a.address}:2181",
                              ns=self.site.probes["write"][0], timeout=60))
        refused = "SystemZookeeperError"
        expect(said == {"create": refused, "set": refused, "large ephemeral": refused,
                        "multi": refused, "ephemeral": "done", "lock": "done", "delete": "done",
                        "read": "done", "sync": "done", "connected": True, "close": "done"},
               f"kazoo: {said}")
        run(MUSTER, "delete", "/data/gone1", ns=a.ns)
        # The address moves: claims, sessions and their ends are written into the reserve.
        holder = self.site[self.site.holder_by_kernel()[0]]
        holder.kill_daemon()
        wait_for(lambda: any(n != holder.name for n in self.site.holder_by_kernel()), NOTICED,
                 "another holder, with full disks")
        holder.start_muster()
        holder.wait_ready()
        left = [disk_of(m).get("reserve_bytes") for m in self.machines]
        expect(all(n < RESERVE for n in left), f"the reserves are whole: nothing was shown: {left}")
        for m in self.machines:
            self.disks.free(m)
        begun = time.monotonic()
        wait_for(lambda: not any(disk_of(m).get("refuses", True) for m in self.machines), NOTICED,
                 lambda: f"data to be taken again: {[disk_of(m) for m in self.machines]}")
        took = time.monotonic() - begun
        a.muster("create", "/data/cli", "x")
        self.writes_on("with room")
        wait_for(lambda: all(metric(m, "disk_reserve_bytes") == RESERVE for m in self.machines),
                 NOTICED, "the reserves to be whole")
        self.all_serve()
        return f"reserves were down to {[n // 1024 for n in left]} KiB; healed {took:.1f} s " \
               "after there was room"

    def failing(self, what, **sick):
        """fsync or write says EIO: the process ends and says why; started again it is well."""
        m = self.others(self.lead())[0]
        self.disks.sick[m.name].set(**sick)
        wait_for(lambda: m.started.poll() is not None, NOTICED, f"{m.name} to end")
        self.disks.sick[m.name].heal()
        expect(m.started.returncode == 10, f"its exit code is {m.started.returncode}")
        log = m.log_tail(lines=20)
        expect("ev=disk_failed" in log and what in log, f"it does not say what failed: {log}")
        self.writes_on("without it")
        m.start_muster()
        self.all_serve()

    def failing_leader(self):
        m = self.lead()
        self.disks.sick[m.name].set(sync_errno=errno.EIO)
        wait_for(lambda: m.started.poll() is not None, NOTICED, f"{m.name} to end")
        self.disks.sick[m.name].heal()
        wait_for(lambda: any(o.mode() == "leader" for o in self.others(m)), NOTICED,
                 "another leader")
        self.writes_on("without it")
        m.start_muster()
        self.all_serve()

    def nothing_is_lost(self):
        w = self.writers.verify()
        wrong = writes_wrong(w)
        expect(not wrong, "; ".join(wrong))
        return f"{w['answered']} acknowledged writes"


def main():
    if os.environ.get("DISK_PY_INSIDE") is None:  # mounts of our own
        os.environ["DISK_PY_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "slave",
                              "/usr/bin/python3", os.path.abspath(__file__)] + sys.argv[1:])
    report = Report("disks: ")
    site = Site("mdk", f"/tmp/muster-disk-{os.getpid()}", probes=("write",))
    test = None
    try:
        test = Test(site)
        site.open()
        if report.run("three servers form", site.form) and report.run("a reserve each, writers",
                                                                      test.begin):
            for name, one in (
                    ("a leader's disk is stuck", test.stuck_leader),
                    ("a leader's disk is slow", test.slow_leader),
                    ("the leader's disk is full", test.one_is_full),
                    ("all disks are full", test.all_are_full),
                    ("a sync fails", lambda: test.failing("syncing", sync_errno=errno.EIO)),
                    ("a write fails", lambda: test.failing("writing", write_errno=errno.EIO)),
                    ("a sync of the leader fails", test.failing_leader)):
                report.run(name, test.healing(one))
            report.run("no acknowledged write is lost", test.nothing_is_lost)
        report.stop_well(site)
    finally:
        if test is not None:
            test.writers.stop()
            for m in test.machines:
                test.disks.sick[m.name].heal()
                print(f"--- {m.name}: {m.log_tail(lines=12)}")
        site.close()
        if test is not None:
            test.disks.close()
        site.remove_files()
    report.end()


if __name__ == "__main__":
    main()
