#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Patroni (Debian's) elects PostgreSQL's primary through muster, and through ZooKeeper.

    patroni.py [muster|zookeeper]...     muster without an argument

Three machines, each with a server of the ensemble, a Patroni and a PostgreSQL. The server
that the primary's session is on dies: the primary must stay what it is. Then the primary's
Patroni and PostgreSQL are killed: another must take over with all the data, and the old one
come back as its replica.
"""
import json
import os
import re
import shutil
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "cluster"))
sys.path.insert(0, HERE)

from cluster import PORT_ZK, Failed, Site, http_get, run, wait_for  # noqa: E402
from report import Report  # noqa: E402
from run import MusterServers, ZooKeeperServers, need  # noqa: E402

POSTGRES = "/usr/lib/postgresql/15/bin"
PORT_REST, PORT_SQL = 8008, 5432
TTL_S = 10  # of Patroni's session; the servers allow up to 20 ticks of 500 ms
CONFIGURATION = """# Written by tests/clients/patroni.py.
scope: battery
name: {name}
restapi:
  listen: {address}:{rest}
  connect_address: {address}:{rest}
zookeeper:
  hosts: [{hosts}]
bootstrap:
  dcs:
    ttl: {ttl}
    loop_wait: 1
    retry_timeout: 3
    maximum_lag_on_failover: 1048576
    postgresql:
      use_pg_rewind: true
      parameters:
        fsync: "off"
        wal_log_hints: "on"
        max_connections: 20
        shared_buffers: 16MB
  initdb: [{{encoding: UTF8}}, {{locale: C}}, no-sync]
postgresql:
  listen: {address}:{sql}
  connect_address: {address}:{sql}
  bin_dir: {bin}
  data_dir: {dir}/data
  pgpass: {dir}/pgpass
  pg_hba:
    - local all all trust
    - host all all 10.77.0.0/24 trust
    - host replication all 10.77.0.0/24 trust
  authentication:
    superuser: {{username: postgres}}
    replication: {{username: replicator}}
    rewind: {{username: rewinder}}
  parameters:
    unix_socket_directories: {dir}
"""


class Shop:
    """The three Patronis of a site."""

    def __init__(self, site):
        self.site = site
        self.machines = list(site.machines.values())

    def start(self, m):
        where = os.path.join(m.dir, "pg")
        if not os.path.isdir(where):
            os.makedirs(where)
            shutil.chown(where, "postgres", "postgres")
        conf = os.path.join(m.dir, "patroni.yml")
        with open(conf, "w", encoding="utf-8") as f:
            f.write(CONFIGURATION.format(
                name=m.name, address=m.address, rest=PORT_REST, sql=PORT_SQL, ttl=TTL_S,
                bin=POSTGRES, dir=where,
                hosts=", ".join(f"'{s.address}:{PORT_ZK}'" for s in self.machines)))
        # PostgreSQL does not run as root.
        m.spawn("patroni", "setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups",
                "env", f"HOME={where}", "/usr/bin/patroni", conf)

    def pids(self, m):
        """Patroni's and PostgreSQL's; the ensemble's server is on the same machine."""
        found = []
        for pid in m.pids():
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().decode("utf-8", "replace")
            if "patroni" in words or "postgres" in words:
                found.append(pid)
        return found

    def kill(self, m):
        """Not a word of good-bye, to nobody."""
        def is_over():
            pids = self.pids(m)
            for pid in pids:
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    pass
            m.reap()
            return not pids
        wait_for(is_over, 10, f"the end of PostgreSQL on {m.name}")

    def says(self, m):
        """What Patroni on this machine says of itself, or {}."""
        _, body = http_get(m.ns, m.address, PORT_REST, "/patroni", 1.0)
        return json.loads(body) if body.startswith("{") else {}

    def leaders(self):
        """Those that say they are the primary, and hold the leader's lock."""
        return [m for m in self.machines
                if http_get(m.ns, m.address, PORT_REST, "/leader", 1.0)[0] == 200]

    def replicas(self, timeline):
        """Those that follow in this timeline."""
        return [m for m in self.machines
                if (s := self.says(m)).get("role") == "replica" and
                s.get("state") == "running" and s.get("timeline") == timeline]

    def logs(self):
        return "\n".join(f"{m.name}: {m.log_tail('patroni', 4)}" for m in self.machines)

    def sql(self, m, text):
        return run("psql", "-h", m.address, "-p", str(PORT_SQL), "-U", "postgres", "-d",
                   "postgres", "-v", "ON_ERROR_STOP=1", "-Atqc", text, ns=m.ns,
                   timeout=20).strip()

    def rows(self, m):
        try:
            return self.sql(m, "select string_agg(word, ' ' order by word) from words")
        except Failed:
            return ""

    def server_of(self, m):
        """The address of the ensemble's server that this Patroni is connected to, or None."""
        out = run("ss", "-Htnp", "state", "established", f"dport = :{PORT_ZK}", ns=m.ns)
        found = re.findall(rf"(\S+):{PORT_ZK}\s+users:\(\(\"patroni\"", out)
        return found[0] if len(found) == 1 else None


def elected(shop):
    wait_for(lambda: len(shop.leaders()) == 1 and len(shop.replicas(1)) == 2, 60,
             lambda: "a primary and two replicas:\n" + shop.logs())
    return f"{shop.leaders()[0].name} is the primary"


def data_reach_replicas(shop):
    primary = shop.leaders()[0]
    shop.sql(primary, "create table words (word text); insert into words values ('before')")
    for m in shop.machines:
        wait_for(lambda m=m: shop.rows(m) == "before", 20, f"the row on {m.name}")


def stays_when_its_server_dies(shop, servers, program):
    primary = shop.leaders()[0]
    address = wait_for(lambda: shop.server_of(primary), 10, "the primary's connection")
    m = next(m for m in shop.machines if m.address == address)
    begun = time.monotonic()
    m.end(program)
    wait_for(lambda: shop.server_of(primary) not in (None, address), 15,
             lambda: "the primary's session to move:\n" + shop.logs())
    took = time.monotonic() - begun
    # For longer than a session lives, nobody else may want to be the primary.
    while time.monotonic() < begun + TTL_S + 3:
        there = shop.leaders()
        if any(x is not primary for x in there):
            raise Failed(f"{there[0].name} took over:\n{shop.logs()}")
        time.sleep(0.2)  # ok: between two looks, for a given time
    if shop.leaders() != [primary] or shop.says(primary).get("timeline") != 1:
        raise Failed(f"the primary is {shop.leaders()}, {shop.says(primary)}\n{shop.logs()}")
    shop.sql(primary, "insert into words values ('meanwhile')")
    servers.restart(m)
    return f"{primary.name} stays; {address} died, its session moved after {took:.1f} s"


def another_takes_over(shop):
    primary = shop.leaders()[0]
    for m in shop.machines:
        wait_for(lambda m=m: shop.rows(m) == "before meanwhile", 20, f"the rows on {m.name}")
    begun = time.monotonic()
    shop.kill(primary)
    wait_for(lambda: (there := shop.leaders()) and there[0] is not primary, 40,
             lambda: "another primary:\n" + shop.logs())
    heir = shop.leaders()[0]
    # It holds the lock before PostgreSQL has been promoted.
    wait_for(lambda: shop.sql(heir, "select pg_is_in_recovery()") == "f", 20,
             lambda: f"{heir.name} to be writable:\n{shop.logs()}")
    took = time.monotonic() - begun
    if shop.rows(heir) != "before meanwhile":
        raise Failed(f"{heir.name} has the rows {shop.rows(heir)!r}")
    shop.sql(heir, "insert into words values ('since')")
    shop.start(primary)
    wait_for(lambda: len(shop.replicas(2)) == 2, 40,
             lambda: "both others to follow:\n" + shop.logs())
    for m in shop.machines:
        wait_for(lambda m=m: shop.rows(m) == "before meanwhile since", 20,
                 f"the rows on {m.name}")
    if shop.leaders() != [heir]:
        raise Failed(f"{heir.name} is not the primary any more:\n{shop.logs()}")
    return f"{primary.name} died, {heir.name} is the primary after {took:.1f} s"


def run_all(kind):
    report = Report(f"Patroni with {kind.name}: ")
    site = Site("mtp" + kind.name[0], f"/tmp/muster-patroni-{os.getpid()}")
    servers, shop = kind(site), Shop(site)
    program = os.path.basename(kind.words[0])
    try:
        site.open()
        if not report.run("three servers start", servers.start_three):
            return report
        for m in shop.machines:
            shop.start(m)
        if not report.run("a primary is elected", lambda: elected(shop)):
            return report
        report.run("what is written reaches the replicas", lambda: data_reach_replicas(shop))
        report.run("the primary stays when its session's server dies",
                   lambda: stays_when_its_server_dies(shop, servers, program))
        report.run("another takes over when the primary dies", lambda: another_takes_over(shop))
        for m in shop.machines:
            shop.kill(m)
        if kind is MusterServers:
            report.stop_well(site)
    finally:
        site.close()
        site.remove_files()
    return report


def main():
    kinds = {"muster": MusterServers, "zookeeper": ZooKeeperServers}
    need("patroni", "patroni")
    if not os.access(f"{POSTGRES}/postgres", os.X_OK):
        raise Failed(f"no {POSTGRES}/postgres: apt-get install postgresql-15")
    sys.exit(1 if sum(run_all(kinds[k]).failed for k in sys.argv[1:] or ["muster"]) else 0)


if __name__ == "__main__":
    main()
