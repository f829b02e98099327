# SPDX-License-Identifier: Apache-2.0
"""apply, status, stopping and starting, the HTTP pages, several addresses, and services."""
import collections
import json
import os
import re
import signal
import socket
import struct
import threading
import time

from cluster import PORT_HTTP, Failed, connect, http_get, inside, wait_for
from commands_bed import (OP_SET, Relay, Visitors, ask, expect, holders, kernel_addresses,
                          kill_clone, sick, start_clone, started, switch_on, version_of, wait_ok,
                          write_site)
from probe import Probe

FIVE = 5  # virtual addresses, in the tests with several
SWITCH_LIMIT = 1.0  # seconds in which another machine answers after one was stopped in order


def holder_of(site):
    """The machine whose kernel has the first address."""
    return site[wait_for(lambda: holders(site, [site.vip])[site.vip], 10, "a holder")[0]]


# ---- apply ----

def apply_versions(bed):
    """A plan that changes nothing, then the change: the version counts up, from any machine."""
    before = version_of(bed.a.ns)
    more = write_site(bed.site, "more.yml", lease="3s")
    for m in bed.site.machines.values():
        said = expect(ask(m.ns, "apply", "--dry-run", more), 0, "lease", "2s -> 3s", "not applied")
        if f"version {before} " not in said.out:
            raise Failed(f"which version there is now: {said.out}")
    as_json = json.loads(expect(ask(bed.a.ns, "apply", "-n", "--json", more), 0).out)
    if as_json["applied"] or as_json["version"] != before or len(as_json["changes"]) != 1:
        raise Failed(f"--dry-run --json: {as_json}")
    if version_of(bed.b.ns) != before:
        raise Failed("--dry-run has changed the site")
    for i, m in enumerate((bed.a, bed.b, bed.c)):
        path = write_site(bed.site, "turn.yml", lease=f"{i + 3}s")
        expect(ask(m.ns, "apply", path), 0, f"version {before + 1 + i} of the site")
        wait_for(lambda v=i: all((x.status() or {}).get("lease_ms") == (v + 3) * 1000
                                 for x in bed.site.machines.values()), 5,
                 "every machine to know of it")
    expect(ask(bed.c.ns, "apply", path), 0, "nothing to do")
    if version_of(bed.c.ns) != before + 3:
        raise Failed(f"version {version_of(bed.c.ns)} after 3 changes of {before}")
    expect(ask(bed.b.ns, "apply", bed.plain), 0)
    wait_ok(bed.site)


def apply_wrong(bed):
    before = version_of(bed.a.ns)
    path = os.path.join(bed.site.dir, "wrong.yml")
    with open(path, "w", encoding="utf-8") as f:
        f.write("site: shop\nadresses: [10.77.0.100]\nlease: 2 days\nservices:\n  web:\n"
                "    port: 70000\n    check: { htp: /up }\nbalance:\n  wbe: { listen: 80 }\n")
    for words in (("apply", path), ("apply", "--dry-run", path)):
        expect(ask(bed.a.ns, *words), 1, "wrong.yml:2:", 'did you mean "addresses"',
               "wrong.yml:3:", "wrong.yml:6:", "wrong.yml:7:", 'did you mean "http"',
               "wrong.yml:9:", "nothing was changed")
    if version_of(bed.a.ns) != before:
        raise Failed("it was applied")


def apply_both(bed):
    """Two at once: the one that writes second is told; and an answer that is lost is looked
    for, so that nobody is told wrongly that it failed."""
    before = version_of(bed.a.ns)
    slow, quick = (write_site(bed.site, n, lease=x) for n, x in (("slow", "3s"), ("quick", "4s")))
    with Relay(bed.a, OP_SET, "hold") as relay, \
            started(bed.a.ns, "apply", slow, "--server", relay.server()) as first:
        relay.wait_reached()
        expect(ask(bed.b.ns, "apply", quick), 0, f"version {before + 1} ")
        relay.release()
        if first.end() != 6:
            raise Failed(f"exit code {first.p.returncode}: {first.out()}{first.err()}")
        if "somebody else" not in first.err() or "Applied" in first.out():
            raise Failed(f"it does not say what happened: {first.out()}{first.err()}")
    if "lease: 4s" not in ask(bed.b.ns, "get", "/muster/site").out:
        raise Failed("the one that was refused had an effect")
    for m in (bed.a, bed.c):
        with Relay(m, OP_SET, "cut") as relay:
            expect(ask(m.ns, "apply", bed.plain if m is bed.c else slow, "--server",
                       relay.server()), 0, "Applied")
            relay.wait_reached()
    if version_of(bed.c.ns) != before + 3:
        raise Failed(f"version {version_of(bed.c.ns)}, after 3 changes of {before}")
    # And without any help, many times: never two winners of one version.
    won = told = 0
    for i in range(10):
        files = [write_site(bed.site, f"race{n}", lease=f"{3000 + 2 * i + n}ms") for n in (0, 1)]
        with started(bed.a.ns, "apply", files[0]) as x, started(bed.b.ns, "apply", files[1]) as y:
            codes = [p.end() for p in (x, y)]
        if not set(codes) <= {0, 6} or 0 not in codes:
            raise Failed(f"exit codes {codes}")
        won += codes.count(0)
        told += codes.count(6)
    if version_of(bed.a.ns) != before + 3 + won:
        raise Failed(f"{won} were told that they have won, and the version grew by "
                     f"{version_of(bed.a.ns) - before - 3}")
    expect(ask(bed.a.ns, "apply", bed.plain), 0)
    wait_ok(bed.site)
    return f"without help, of 20: {won} won, {told} were told"


def apply_smaller(bed):
    """What is no longer in the file goes: address, service, pool; and what stays is not touched."""
    site, extra = bed.site, f"{bed.site.net}.120"
    more = "  shop2: { listen: 81 }\n"
    large = write_site(site, "large", [site.vip, extra], more=more)
    with open(large, encoding="utf-8") as f:
        text = f.read()
    with open(large, "w", encoding="utf-8") as f:
        f.write(text.replace("balance:\n", "  shop2: { port: 3010, machines: [a] }\nbalance:\n"))

    def answers(port):
        ns = site.probes["client"][0]
        try:
            connect(ns, bed.a.address, port, 1).close()
        except OSError:
            return False
        return True
    first = holders(site, [site.vip])[site.vip]
    expect(ask(bed.a.ns, "apply", large), 0, "+ address " + extra, "+ service shop2")
    wait_for(lambda: len(holders(site, [extra])[extra]) == 1, 10, f"a holder of {extra}")
    wait_for(lambda: answers(81), 10, "the balancer of shop2")
    expect(ask(bed.a.ns, "apply", bed.plain), 0, "- address " + extra, "- service shop2")
    begun = time.monotonic()
    wait_for(lambda: holders(site, [extra])[extra] == (), 5, f"{extra} to go")
    wait_for(lambda: not answers(81), 5, "the balancer of shop2 to go")
    took = time.monotonic() - begun
    wait_for(lambda: "shop2" not in json.dumps(bed.a.status()), 5, "status to forget it")
    wait_ok(site)
    if ask(bed.a.ns, "ls", "/muster/addresses").out.split() != [site.vip]:
        raise Failed("a claim was left behind: " + ask(bed.a.ns, "ls", "/muster/addresses").out)
    if holders(site, [site.vip])[site.vip] != first:
        raise Failed(f"{site.vip} has moved from {first}, though nothing was said of it")
    return f"gone after {took:.2f} s"


# ---- status ----

def status(bed):
    """One machine after the other says the same; --json is what the page says; --watch ends."""
    for m in bed.site.machines.values():
        said = expect(ask(m.ns, "status"), 0, "seen by " + m.name, bed.site.vip, "a-3000", "c-3001")
        if said.out.split("\n", 1)[0] != "OK":
            raise Failed(f"the verdict is not the first line: {said.out[:100]!r}")
        if "\033" in said.out or said.err:
            raise Failed(f"colours, or chatter: {said}")
        got = json.loads(expect(ask(m.ns, "status", "--json"), 0).out)
        if (got["verdict"], got["exit"], got["machine"]) != ("OK", 0, m.name):
            raise Failed(f"--json: {got}")
        if [x["state"] for x in got["machines"]] != ["alive"] * 3 or got["as_of_ms_ago"] > 5000:
            raise Failed(f"--json: {got}")
    other = json.loads(expect(ask(bed.a.ns, "status", "--json", "--http",
                                  f"{bed.b.address}:{PORT_HTTP}"), 0).out)
    env = json.loads(expect(ask(bed.a.ns, "status", "--json", env={
        "MUSTER_HTTP": f"{bed.b.address}:{PORT_HTTP}"}), 0).out)
    if (other["machine"], env["machine"]) != ("b", "b"):
        raise Failed("--http and MUSTER_HTTP do not ask b")
    with started(bed.a.ns, "status", "--watch") as p:
        p.wait_says("seen by a", 5, times=2)
        if p.end(signal.SIGINT, 2) != 130:
            raise Failed(f"Ctrl-C: exit code {p.p.returncode}")


def status_degraded(bed):
    """A machine that is not there, and on it: not running, and what was known last."""
    m = bed.c
    m.kill_daemon()
    wait_status(bed.a, 3, "DEGRADED: machine c is gone, last seen", "one more loss stops writing")
    down = expect(ask(m.ns, "status", "--data", m.data), 4, "DOWN: muster does not answer",
                  "next: muster up", "Last known", "ago: ", "seen by c", bed.site.vip)
    age = re.search(r"Last known, (.+?) ago", down.out).group(1)
    got = json.loads(expect(ask(m.ns, "status", "--json", "--data", m.data), 4).out)
    if got["exit"] != 4 or got["last_known"]["machine"] != "c" or not got["last_known_ms_ago"]:
        raise Failed(f"--json: {got}")
    expect(ask(m.ns, "status", "--data", "/none"), 4, "DOWN")
    m.start_muster()
    m.wait_ready()
    wait_ok(bed.site)
    return f"last known {age} ago"


def without_quorum(bed):
    """Two of three are gone. The third answers everything it can, and says what it cannot."""
    m, gone = bed.b, (bed.a, bed.c)
    for x in gone:
        x.kill_daemon()
    began = time.monotonic()
    wait_for(lambda: not m.is_ready(), 10, "/readyz to say so")
    noticed = time.monotonic() - began
    said = expect(ask(m.ns, "status"), ask(m.ns, "status").code, "no quorum: 1 of 3",
                  "nothing can be written")
    if said.code not in (3, 4) or said.took > 2:
        raise Failed(f"status: exit code {said.code} after {said.took:.1f} s")
    wait_for(lambda: "its view is" in ask(m.ns, "status").out, 5, lambda:
             f"how old its view is: {ask(m.ns, 'status').out[:300]}")
    old = [json.loads(ask(m.ns, "status", "--json").out)["as_of_ms_ago"]]
    for path, code in (("/healthz", 200), ("/readyz", 503), ("/status", 200), ("/metrics", 200)):
        got = http_get(m.ns, m.address, PORT_HTTP, path)[0]
        if got != code:
            raise Failed(f"{path}: {got} instead of {code}")
    took = {}
    for words in (("ls", "/"), ("set", "/a", "b"), ("watch", "/"), ("apply", bed.plain),
                  ("lock", "x", "--", "true")):
        said = expect(ask(m.ns, words[0], "--timeout", "2", *words[1:]), 4, "no server answers",
                      "quorum", "muster status")
        took[words[0]] = said.took
    if max(took.values()) > 4:
        raise Failed(f"--timeout 2, but they took {took}")
    # What needs no quorum goes on: the balancer, with the last pool.
    with Visitors(bed.site, ["b"]) as visitors:
        begun = time.monotonic()
        time.sleep(0.7)  # ok: a stretch of visits to judge
        visits = visitors.judge(begun)
    old.append(json.loads(ask(m.ns, "status", "--json").out)["as_of_ms_ago"])
    if old[1] <= old[0]:
        raise Failed(f"its view does not grow older: {old}")
    for x in gone:
        x.start_muster()
    for x in gone:
        x.wait_ready()
    wait_ok(bed.site)
    return f"noticed after {noticed:.2f} s; {visits} by its balancer meanwhile"


# ---- up: twice, and stopped in good order ----

def up_twice(bed):
    holder = holder_of(bed.site)
    pids = holder.pids("muster")
    with Visitors(bed.site, [holder.name]) as visitors:
        begun = time.monotonic()
        for _ in range(3):
            expect(ask(holder.ns, "up", "--data", holder.data), 1, "another muster",
                   "muster status")
            if holders(bed.site, [bed.site.vip])[bed.site.vip] != (holder.name,):
                raise Failed("the address has moved")
        time.sleep(0.3)  # ok: a stretch of visits to judge
        visits = visitors.judge(begun, least=10)
    if holder.pids("muster") != pids or not holder.is_ready():
        raise Failed("the first one suffered")
    wait_ok(bed.site)
    return visits


def stopped(bed):
    """SIGTERM, SIGINT: the address is let go at once, not at the end of its lease."""
    probe, site, lines = Probe(bed.site), bed.site, []
    probe.start()
    try:
        for how in (signal.SIGTERM, signal.SIGINT):
            m = site[probe.wait_holder()]
            begun = time.monotonic()
            os.kill(m.started.pid, how)
            code = m.started.wait(10)
            ended = time.monotonic() - begun
            probe.wait_holder(other_than=m.name)
            failover = probe.failover(begun, m.name)
            # What HAProxy and the tree still have of it.
            left = kernel_addresses(m.ns) & {site.vip}
            m.start_muster()
            m.wait_ready()
            wait_ok(site)
            probe.read()
            doubles = probe.doubles(begun - 0.5, time.monotonic() - 0.3)
            if code != 0:
                raise Failed(f"{how.name}: exit code {code}: {m.log_tail()}")
            if failover > SWITCH_LIMIT:
                raise Failed(f"{how.name}: another machine answered after {failover:.2f} s")
            if doubles:
                raise Failed(f"{how.name}: two machines answered, {len(doubles)} answers")
            if left:
                raise Failed(f"{how.name}: {m.name} has ended and kept the address")
            if ended > 5:
                raise Failed(f"{how.name}: it ended after {ended:.1f} s")
            lines.append(f"{how.name}: another answers after {failover:.2f} s, ended after "
                         f"{ended:.2f} s")
    finally:
        probe.stop()
    return "; ".join(lines)


# ---- HTTP ----

NUMBER = r"[-+]?(?:\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|Inf|NaN)"


def prometheus(text):
    """name -> (type, value), by the rules of the text format; whatever breaks them is a failure."""
    helped, typed, found, ours = {}, {}, {}, {}
    if not text.endswith("\n"):
        raise Failed("the last line has no end")
    for line in text.splitlines():
        if m := re.fullmatch(r"# HELP ([a-zA-Z_:][\w:]*) (\S.*)", line):
            if m.group(1) in helped:
                raise Failed(f"HELP twice: {line}")
            helped[m.group(1)] = m.group(2)
        elif m := re.fullmatch(r"# TYPE ([a-zA-Z_:][\w:]*) (counter|gauge|histogram|summary)",
                               line):
            if m.group(1) in typed or m.group(1) in found:
                raise Failed(f"TYPE twice, or too late: {line}")
            typed[m.group(1)] = m.group(2)
        elif m := re.fullmatch(rf"([a-zA-Z_:][\w:]*)(\{{[^}}]*\}})? ({NUMBER})", line):
            name = m.group(1)
            base = re.sub(r"_(sum|count)$", "", name)
            if typed.get(base) == "summary":
                name = base
            if name not in helped or name not in typed:
                raise Failed(f"no HELP or TYPE before: {line}")
            if (m.group(1), m.group(2)) in found:
                raise Failed(f"twice: {line}")
            if name.startswith("muster_") and \
                    name.endswith("_total") != (typed[name] == "counter"):
                raise Failed(f"a {typed[name]} of this name: {name}")
            found[(m.group(1), m.group(2))] = float(m.group(3))
            ours[name] = ours.get(name, name.startswith("muster_"))
        elif line and not line.startswith("# "):
            raise Failed(f"no line of the format: {line!r}")
    if set(helped) != set(ours):
        raise Failed(f"HELP without a value: {set(helped) - set(ours)}")
    return {n: (typed.get(n, "summary"), v) for (n, _), v in found.items()}


def request(ns, address, text):
    """status and headers of whatever comes back"""
    with connect(ns, address, PORT_HTTP, 3) as s:
        s.sendall(text)
        answer = b""
        while part := s.recv(65536):
            answer += part
    head, _, body = answer.decode("utf-8", "replace").partition("\r\n\r\n")
    return int(head.split()[1]), head.lower(), body


def pages(bed):
    ns, m = bed.site.probes["client"][0], bed.b
    first = prometheus(http_get(ns, m.address, PORT_HTTP, "/metrics")[1])
    # What is not named muster_... has the name that ZooKeeper's own mntr gives it.
    known = {line.split("\t")[0] for line in m.word("mntr").splitlines()}
    strange = [n for n in first if not n.startswith("muster_") and f"zk_{n}" not in known and
               "zk_avg_" + re.sub(r"_(sum|count)$", "", n) not in known]
    if strange:
        raise Failed(f"neither ours nor ZooKeeper's: {strange}")
    expect(ask(m.ns, "set", "/muster", "x"), 0)
    second = prometheus(http_get(ns, m.address, PORT_HTTP, "/metrics")[1])
    if set(first) != set(second) or len(first) < 30:
        raise Failed(f"{len(first)} metrics, then others: {set(first) ^ set(second)}")
    back = [n for n, (kind, v) in first.items() if kind == "counter" and second[n][1] < v]
    grown = [n for n, (kind, v) in first.items() if kind == "counter" and second[n][1] > v]
    if back or not grown:
        raise Failed(f"counters that went back: {back}; that grew: {grown}")

    def get(path, method="GET"):
        return request(ns, m.address, f"{method} {path} HTTP/1.1\r\nHost: x\r\n"
                       "Connection: close\r\n\r\n".encode())
    for path, kind in (("/status", "application/json"), ("/metrics", "text/plain; version=0.0.4"),
                       ("/healthz", "text/plain"), ("/readyz", "text/plain")):
        code, head, body = get(path)
        if code != 200 or f"content-type: {kind}" not in head or not body:
            raise Failed(f"{path}: {code} {head!r}")
        code, head, body = get(path, "HEAD")
        if code != 200 or body:
            raise Failed(f"HEAD {path}: {code} {body!r}")
    if json.loads(get("/status")[2])["verdict"] != "OK":
        raise Failed("/status: " + get("/status")[2])
    for path in ("/", "/nothing", "/status/", "/..", "/%00", "//status", "/" + "a" * 4000):
        code, _, body = get(path)
        if code != 404 or "/status" not in body:
            raise Failed(f"{path[:20]}: {code} {body!r}")
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        if get("/status", method)[0] != 405:
            raise Failed(f"{method}: {get('/status', method)[0]}")
    code, _, _ = request(ns, m.address, b"POST /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                         b"Content-Length: 5\r\n\r\nhello")
    if code != 405:
        raise Failed(f"POST with a body: {code}")
    return f"{len(first)} metrics, {len(grown)} counters grew"


# ---- several addresses ----

class Moves:
    """Looks at the kernels all the time: which machine has which address."""

    def __init__(self, site, addresses):
        self.site, self.addresses = site, addresses
        self.seen = collections.defaultdict(list)  # address -> names, each when it changes
        self.double = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join(5)

    def look(self):
        while not self.over.wait(0.01):
            for address, names in holders(self.site, self.addresses).items():
                if len(names) > 1:
                    self.double.append((address, names))
                if names and (not self.seen[address] or self.seen[address][-1] != names[0]):
                    self.seen[address].append(names[0])

    def judge(self):
        if self.double:
            raise Failed(f"two kernels had one address: {self.double[:3]}")


def answered_by(site, addresses, listen=0.3):
    """address -> the machines that answer an ARP question for it: asked of all, by broadcast."""
    ns, own_ip = site.probes["watch"]
    with inside(ns):
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
        s.bind(("eth0", 0x0806))
        own = s.getsockname()[4]
    names = {bytes.fromhex(m.mac.replace(":", "")): m.name for m in site.machines.values()}
    found = {a: set() for a in addresses}
    with s:
        for _ in range(2):
            for a in addresses:
                s.send(b"\xff" * 6 + own + b"\x08\x06" + struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) +
                       own + socket.inet_aton(own_ip) + b"\0" * 6 + socket.inet_aton(a))
            end = time.monotonic() + listen / 2
            while (left := end - time.monotonic()) > 0:
                s.settimeout(left)
                try:
                    frame = s.recv(2048)
                except socket.timeout:
                    break
                if frame[20:22] == b"\0\2":
                    address = socket.inet_ntoa(frame[28:32])
                    if address in found:
                        found[address].add(names.get(frame[22:28], "?"))
    return found


def shares(site, addresses):
    have = holders(site, addresses)
    count = collections.Counter(n for names in have.values() for n in names)
    return sorted(count.values(), reverse=True) if all(have.values()) else []


def check_answers(site, addresses):
    """Each by its holder and by nobody else: by ARP, and by who serves there."""
    have = holders(site, addresses)
    answered = answered_by(site, addresses)
    for a in addresses:
        if len(have[a]) != 1 or answered[a] != set(have[a]):
            raise Failed(f"{a}: the kernel of {have[a]} has it, {answered[a]} answer")
        with connect(site.probes["client"][0], a, 7777, 2) as s:
            name = s.recv(64).decode()
        if name != have[a][0]:
            raise Failed(f"{a}: {name} serves, {have[a]} has it")
    return have


def five_addresses(bed):
    """Five over three machines, 2/2/1; one machine dies and comes back."""
    site = bed.site
    addresses = [f"{site.net}.{100 + i}" for i in range(FIVE)]
    site.apply(write_site(site, "five", addresses, lease="1s"))
    wait_for(lambda: shares(site, addresses) == [2, 2, 1], 20, lambda:
             f"2, 2, 1: {holders(site, addresses)}")
    wait_for(lambda: all((m.status() or {}).get("lease_ms") == 1000
                         for m in site.machines.values()), 10, "the lease of 1 s")
    wait_ok(site)
    before = check_answers(site, addresses)
    dead = next(m for m in site.machines.values() if (m.name,) in before.values())
    lost = [a for a in addresses if before[a] == (dead.name,)]
    leader = wait_for(site.leader, 10, "one leader")
    with Moves(site, addresses) as moves:
        begun = time.monotonic()
        dead.power_off()
        wait_for(lambda: shares(site, addresses) == [3, 2], 10, lambda:
                 f"3, 2: {holders(site, addresses)}")
        covered = time.monotonic() - begun
        after = check_answers(site, addresses)
        stray = [a for a in addresses if a not in lost and after[a] != before[a]]
        if stray or any(len(moves.seen[a]) > 1 for a in addresses if a not in lost):
            raise Failed(f"{stray} moved though their machine lives: {dict(moves.seen)}")
        moves.judge()
    with Moves(site, addresses) as moves:
        switch_on(dead)
        dead.wait_ready()
        wait_for(lambda: shares(site, addresses) == [2, 2, 1], 20, lambda:
                 f"2, 2, 1 again: {holders(site, addresses)}")
        wait_ok(site)
        time.sleep(2.5)  # ok: more than a lease, in which a needless move would be seen
        moved = {a: s for a, s in moves.seen.items() if len(s) > 1}
        if len(moved) != 1 or list(moved.values())[0][1:] != [dead.name]:
            raise Failed(f"one move to {dead.name} would have done: {moved}")
        moves.judge()
    check_answers(site, addresses)
    if covered > 1 + 1:
        raise Failed(f"with a lease of 1 s all were covered after {covered:.2f} s only; "
                     f"{dead.name} died, {leader} led")
    site.apply(bed.plain)
    wait_for(lambda: not any(holders(site, addresses[1:]).values()), 10, "the others to go")
    wait_ok(site)
    return f"covered after {covered:.2f} s; one move when it came back"


# ---- services ----

def registered(m):
    return set(ask(m.ns, "ls", "/services/web").out.split())


def pool(m):
    p = ((m.status() or {}).get("balance") or [{}])[0]
    return p.get("on"), p.get("kept"), p.get("why")


def instance(m, name):
    for s in (m.status() or {}).get("services", []):
        for i in s["instances"]:
            if i["name"] == name:
                return i
    return {}


def wait_status(m, code, *parts):
    """Until status there says so: each machine writes down how it is once a second at most."""
    def says():
        said = ask(m.ns, "status")
        return said.code == code and all(p in said.out for p in parts)
    wait_for(says, 5, lambda: f"status on {m.name} to have exit code {code} and say {parts}: " +
             ask(m.ns, "status").out, 0.05)


def clone_fails(bed):
    """Its check says 503: out of the registry and of every pool, with the reason; no visitor
    notices, neither when it goes nor when it comes back."""
    site, everybody = bed.site, list(bed.site.machines.values())
    with Visitors(site) as visitors:
        with sick((bed.b, 2)):
            begun = time.monotonic()
            wait_for(lambda: all("b-3001" not in registered(m) for m in everybody), 6,
                     "b-3001 to leave the registry on every machine")
            wait_for(lambda: all(pool(m)[0] == 5 for m in everybody), 3, lambda:
                     f"every pool to be of 5: {[pool(m) for m in everybody]}")
            took = time.monotonic() - begun
            out = time.monotonic()
            for m in everybody:
                wait_for(lambda x=m: "HTTP 503" in instance(x, "b-3001").get("why", ""), 5, lambda
                         x=m: f"the reason on {x.name}: {instance(x, 'b-3001')}")
                wait_status(m, 3, "1 of 6 instances fail", "b-3001: HTTP 503")
            time.sleep(max(0.0, out + 1.0 - time.monotonic()))  # ok: visits to judge
            still = [v for v in visitors.since(out + 0.5) if v.body == "machine b, instance 2"]
            if still:
                raise Failed(f"{len(still)} visits went to it after it had left the pools: "
                             f"{still[-1].begun - out:.2f} s via {still[-1].via}")
        back = time.monotonic()
        wait_for(lambda: all(pool(m)[0] == 6 for m in everybody), 6, "it to be in every pool again")
        wait_for(lambda: any(v.body == "machine b, instance 2" for v in visitors.since(back)), 5,
                 "visits to it again")
        visits = visitors.judge(begun, least=100)
    wait_ok(site)
    if took > 2.5:
        raise Failed(f"out of the pools after {took:.2f} s only (a check every 0.5 s, fall 2)")
    return f"out everywhere after {took:.2f} s; {visits}"


def clone_killed(bed):
    """Killed: what is under way in it is lost, nothing else."""
    site, everybody = bed.site, list(bed.site.machines.values())
    with Visitors(site) as visitors:
        time.sleep(0.3)  # ok: so that there is something under way
        begun = time.monotonic()
        kill_clone(bed.c, 1)
        try:
            wait_for(lambda: all(pool(m)[0] == 5 for m in everybody), 6, "every pool to be of 5")
            took = time.monotonic() - begun
            wait_status(bed.a, 3, "c-3000: connection refused")
            time.sleep(0.3)  # ok: visits to judge
            visits = visitors.judge(begun, allowed=len(everybody))
            late = [v for v in visitors.since(begun + 0.3) if v.why]
        finally:
            start_clone(bed.c, 1)
    if late:
        raise Failed(f"visits fail long after: {late[:3]}")
    wait_ok(site)
    return f"out everywhere after {took:.2f} s; {visits}"


def all_fail(bed):
    """Every check fails at once: the last pool is kept, status says so, visitors are served."""
    site, everybody = bed.site, list(bed.site.machines.values())
    with Visitors(site) as visitors:
        begun = time.monotonic()
        with sick(*((m, i) for m in everybody for i in (1, 2))):
            wait_for(lambda: all(not registered(m) for m in everybody), 6, "an empty registry")
            wait_for(lambda: all(pool(m)[1] for m in everybody), 5, lambda:
                     f"every pool to be kept: {[pool(m) for m in everybody]}")
            for m in everybody:
                if not pool(m)[0]:
                    raise Failed(f"the pool of {m.name} is empty")
                wait_status(m, 4, "DOWN", "service web has no healthy instance", "kept", "HTTP 503")
            time.sleep(0.5)  # ok: visits to judge
        wait_ok(site)
        visits = visitors.judge(begun, least=100)
    if any(pool(m)[:2] != (6, False) for m in everybody):
        raise Failed(f"the pools are not whole again: {[pool(m) for m in everybody]}")
    return visits


def haproxy_master(m):
    """The process that outlives reloads: the one that has others as its children."""
    def parents():
        found = set()
        for p in m.pids("haproxy"):
            try:
                with open(f"/proc/{p}/stat", encoding="utf-8") as f:
                    found.add(int(f.read().rpartition(")")[2].split()[1]))
            except OSError:
                pass  # it checked a file, and has ended
        return found & set(m.pids("haproxy"))
    return wait_for(lambda: parents() if len(parents()) == 1 else None, 5,
                    lambda: f"one HAProxy on {m.name}: {parents()}").pop()


def balancer_stays(bed):
    """kill -9 of muster, and a start again: its HAProxy goes on, the same one."""
    m, lines = bed.c, []
    master = haproxy_master(m)
    with Visitors(bed.site, [m.name]) as visitors:
        begun = time.monotonic()
        m.kill_daemon()
        time.sleep(0.7)  # ok: visits to judge, without muster
        lines.append(visitors.judge(begun))
        m.start_muster()
        m.wait_ready()
        wait_ok(bed.site)
        time.sleep(0.5)  # ok: visits to judge, after its start
        # A change reaches the HAProxy that was found: it is not only left alone.
        with sick((bed.a, 1)):
            wait_for(lambda: pool(m)[0] == 5, 6, "its pool to be of 5")
            out = time.monotonic()
            time.sleep(1.2)  # ok: visits to judge
            still = [v for v in visitors.since(out + 0.5) if v.body == "machine a, instance 1"]
            if still:
                raise Failed("the HAProxy that was found does not do what muster says: "
                             f"{len(still)} visits to it, {still[-1].begun - out:.2f} s later")
        wait_ok(bed.site)
        visits = visitors.judge(begun)
    if haproxy_master(m) != master:
        raise Failed(f"another HAProxy runs: {haproxy_master(m)} instead of {master}")
    return visits


TESTS = (
    ("apply, --dry-run, the version, from each machine", apply_versions),
    ("apply of a wrong file: lines, suggestions, nothing changed", apply_wrong),
    ("apply twice at the same time; answers that are lost", apply_both),
    ("apply of a smaller site", apply_smaller),
    ("status, --json, --http, --watch", status),
    ("status of a degraded site, and where muster does not run", status_degraded),
    ("without a quorum", without_quorum),
    ("up twice", up_twice),
    ("up, stopped in order", stopped),
    ("the HTTP pages", pages),
    ("five addresses over three machines", five_addresses),
    ("a clone that fails its check", clone_fails),
    ("a clone that is killed", clone_killed),
    ("all clones fail", all_fail),
    ("kill -9 of muster, and HAProxy", balancer_stays),
)
