# SPDX-License-Identifier: Apache-2.0
"""One trial: break one machine of a running site, see what the probers saw, heal it.

The faults of the matrix, and two systems that keep the address: muster and keepalived.
"""
import collections
import os
import time

from cluster import Failed, wait_for

# name -> (break, heal). A fault that leaves the machine without its processes is healed
# by switching it on or by starting the daemon again (system.switch_on / system.start).
FAULTS = {
    "power off": (lambda m: m.power_off(), "switch_on"),
    "kill -9": (lambda m: m.kill_daemon(), "start"),
    "freeze": (lambda m: m.freeze(), "thaw"),
    "cut": (lambda m: m.cut(), "uncut"),
    "cut: it is not heard": (lambda m: m.cut(hears=True), "uncut"),
    "cut: it does not hear": (lambda m: m.cut(is_heard=True), "uncut"),
}

Result = collections.namedtuple(
    "Result", "fault on failover gap doubles double_time late took writes problem")


class Keepalived:
    """Debian's keepalived on the machines of a site."""

    name = "keepalived"
    lease = None

    def __init__(self, site, tuned):
        self.site = site
        self.tuned = tuned
        self.name = "keepalived, advert_int 0.1" if tuned else "keepalived, its defaults"
        for m in site.machines.values():
            m.daemon = "keepalived"

    def start(self, m):
        os.makedirs(m.dir, exist_ok=True)
        conf = os.path.join(m.dir, "keepalived.conf")
        number = list(self.site.machines).index(m.name)
        with open(conf, "w", encoding="utf-8") as f:
            # advert_int 1 is the default; less than a second needs VRRP version 3.
            f.write("global_defs {\n    router_id %s\n%s}\n" %
                    (m.name, "    vrrp_version 3\n" if self.tuned else ""))
            f.write("vrrp_instance site {\n    state BACKUP\n    interface eth0\n"
                    "    virtual_router_id 51\n    priority %d\n    advert_int %s\n"
                    "    virtual_ipaddress {\n        %s/32\n    }\n}\n" %
                    (150 - 50 * number, "0.1" if self.tuned else "1", self.site.vip))
        for name in ("keepalived.pid", "vrrp.pid"):
            if os.path.exists(os.path.join(m.dir, name)):
                os.unlink(os.path.join(m.dir, name))
        m.spawn("keepalived", "keepalived", "--dont-fork", "--log-console", "--vrrp",
                "--use-file", conf, "--pid", os.path.join(m.dir, "keepalived.pid"),
                "--vrrp_pid", os.path.join(m.dir, "vrrp.pid"))

    def form(self):
        for m in self.site.machines.values():
            m.start_responder()
            self.start(m)

    def switch_on(self, m):
        m.link("up")
        m.start_responder()
        self.start(m)

    def wait_settled(self, probe):
        # The one with the highest priority takes the address back each time.
        first = next(iter(self.site.machines))
        wait_for(lambda: probe.holder() == first, 60, f"{first} to hold the address again", 0.1)


class Muster:
    """muster on the machines of a site, with one address and one balanced service."""

    def __init__(self, site, lease_ms):
        self.site = site
        self.lease = lease_ms / 1000
        self.name = f"muster, lease {lease_ms / 1000:g} s"
        for m in site.machines.values():
            m.daemon = "muster"

    def form(self):
        def before(m):
            m.start_responder()
            m.start_clone(1)
        self.site.form(before=before)
        path = os.path.join(self.site.dir, "site.yml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(f"site: trial\nlease: {round(self.lease * 1000)}ms\n"
                    f"addresses:\n  - {self.site.vip}\n"
                    "services:\n  web:\n    port: 3000\n    check: { http: /up }\n"
                    "balance:\n  web: { listen: 80 }\n")
        self.site.apply(path)

    def start(self, m):
        m.start_muster()

    def switch_on(self, m):
        m.link("up")
        m.start_responder()
        m.start_clone(1)
        m.start_muster()

    def wait_settled(self, probe):
        for m in self.site.machines.values():
            m.wait_ready(60)
        wait_for(self.site.leader, 30, "one leader", 0.05)
        probe.wait_holder(30)

    def place(self, probe, is_leader):
        """A holder that leads, or one that does not: kills leaders and holders until it is so.
        (Leaders alone will not do: who leads next has a fixed order, decision 010.)"""
        for i in range(12):
            holder = probe.wait_holder()
            leader = wait_for(self.site.leader, 30, "one leader", 0.05)
            if (holder == leader) == is_leader:
                return holder
            m = self.site[leader if i % 2 == 0 else holder]
            m.kill_daemon()
            m.start_muster()
            self.wait_settled(probe)
        raise Failed(f"the holder did not become {'leader' if is_leader else 'follower'}")


def heal(system, m, fault):
    how = FAULTS[fault][1]
    if how in ("thaw", "uncut"):
        getattr(m, how)()
    else:
        getattr(system, how)(m)


def trial(system, probe, fault, m, bound, is_holder, writers=None):
    """bound: seconds after the fault in which the old holder may still answer. They count from
    when the fault is in force, the failover from when it was begun."""
    begin = time.monotonic()
    probe.read()
    probe.forget(begin - 1)
    if writers:
        writers.begin()
    time.sleep(0.2)  # ok: a stretch before the fault, to be seen in the measurement
    broken = time.monotonic()
    FAULTS[fault][0](m)
    in_force = time.monotonic()  # at the latest: the command takes its time on a busy machine
    problem = ""
    if is_holder:
        # In keepalived's case the old one may go on answering for ever; look long enough.
        limit = broken + bound + 6
        while time.monotonic() < limit:
            probe.read()
            if probe.failover(broken, m.name) is not None:
                break
            time.sleep(0.05)
    # And as long again as an answer after the lease would have to be seen.
    while time.monotonic() < in_force + bound + 1.2:
        time.sleep(0.05)
    probe.read()
    healed = time.monotonic()
    failover = probe.failover(broken, m.name) if is_holder else None
    if is_holder and failover is None:
        problem = f"no other machine answered within {healed - broken:.1f} s"
    heal(system, m, fault)
    system.wait_settled(probe)
    end = time.monotonic() - 0.3  # what is on its way still is not judged
    writes = writers.verify() if writers else None
    doubles = probe.doubles(begin, end)
    return Result(fault, m.name, failover, probe.longest_gap(begin, end), len(doubles),
                  probe.double_time(begin, end),
                  len(probe.late(m.name, in_force + bound, healed)) if is_holder else 0,
                  time.monotonic() - begin, writes, problem)
