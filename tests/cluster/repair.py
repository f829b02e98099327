#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Real processes whose disks have lost or changed bytes: three servers of a zoo.cfg on loopback.

One follower's log changes in the middle while it is down: it says so, does not vote, fetches
everything from the others and votes again, and nothing that was acknowledged is missing. Then
its whole store is gone, with the same outcome. One with a planted fault applies what the others
refuse: the digest in the log finds it. A server that is alone refuses to start.
"""
import glob
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "clients"))  # its ensemble.py

from kazoo.exceptions import BadVersionError  # noqa: E402

from cluster import MUSTER, TOP, Failed, wait_for  # noqa: E402
from ensemble import Client, Ensemble, free_ports, word  # noqa: E402
from report import Report  # noqa: E402

MUTANTS = os.environ.get("MUSTER_MUTANTS", os.path.join(TOP, "build-mutants", "muster"))
EXIT_UNSAFE = 6
LIMIT_S = 60


def http(port, path):
    """Code and text; None, "" when nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()
    except OSError:
        return None, ""


def metric(server, name):
    for line in http(server.http, "/metrics")[1].splitlines():
        if line.startswith(name + " "):
            return int(line.split()[1])
    return None


def store_of(directory):
    return os.path.join(directory, "store")


def flip_in_the_middle(directory):
    """One byte of the newest part of the log, far in front of its end."""
    path = sorted(glob.glob(os.path.join(store_of(directory), "log.*")))[-1]
    with open(path, "r+b") as f:
        data = f.read().rstrip(b"\0")
        at = len(data) // 2
        f.seek(at)
        f.write(bytes([data[at] ^ 0x10]))
        f.flush()
        os.fsync(f.fileno())
    return path


def write(client, names):
    for name in names:
        client.create(f"/{name}", name.encode())
    return list(names)


def check_all(server, names):
    """Read at this server, not before it has what the leader has."""
    with Client(f"127.0.0.1:{server.client}") as client:
        client.sync("/")
        have = set(client.get_children("/"))
        missing = [n for n in names if n not in have]
        if missing:
            raise Failed(f"{len(missing)} acknowledged znodes are missing: {missing[:5]}")


class Site:
    def __init__(self, top):
        self.e = Ensemble("muster", top)
        for s in self.e.servers:
            s.http = free_ports(1)[0]
        self.acknowledged = []

    def start(self):
        for s in self.e.servers:
            s.write(self.e.lines(), f"admin.serverPort={s.http}\n")
            with open(s.file, encoding="ascii") as f:
                text = f.read().replace("admin.enableServer=false\n", "")
            with open(s.file, "w", encoding="ascii") as f:
                f.write(text)
            s.start()
        self.e.wait(["follower", "follower", "leader"])

    def muster(self, server):
        return os.path.join(server.dir, "muster")

    def add(self, servers, prefix, count):
        with Client(self.e.hosts(servers)) as client:
            self.acknowledged += write(client, [f"{prefix}{i}" for i in range(count)])

    def healed(self, server):
        wait_for(lambda: server.mode() == "follower" and
                 metric(server, "muster_server_repairing") == 0 and
                 "zk_synced_followers\t2" in word(self.e.one("leader").client, "mntr"),
                 LIMIT_S, lambda: server.tail() + http(server.http, "/status")[1])


def damage(site, report):
    e = site.e
    leader, hurt = e.one("leader"), e.one("follower")
    other = next(s for s in e.servers if s not in (leader, hurt))
    site.add(e.servers, "before", 300)
    hurt.end()
    path = flip_in_the_middle(site.muster(hurt))
    site.add([leader, other], "meanwhile", 100)
    # While nobody answers it, so that there is time to look.
    for s in (leader, other):
        s.process.send_signal(signal.SIGSTOP)
    try:
        hurt.start()
        wait_for(lambda: http(hurt.http, "/readyz")[0] is not None, LIMIT_S, hurt.tail)
        code, text = http(hurt.http, "/readyz")
        report.check("a damaged server is not ready, and says why",
                     code == 503 and "does not vote yet" in text and
                     os.path.basename(path) in text and "store.aside.1" in text, text)
        status = http(hurt.http, "/status")[1]
        report.check("so does its status", "does not vote yet" in status and
                     '"set_aside": "store.aside.1"' in status, status)
        report.check("and its log", "ev=new_life" in hurt.tail() or "new_life" in hurt.tail(),
                     hurt.tail())
        report.check("its number says so", metric(hurt, "muster_server_repairing") == 1, "")
        report.check("the store is kept", os.path.exists(
            os.path.join(site.muster(hurt), "store.aside.1", os.path.basename(path))), "")
    finally:
        for s in (leader, other):
            s.process.send_signal(signal.SIGCONT)
    site.healed(hurt)
    report.check("it heals by itself", True, "")
    check_all(hurt, site.acknowledged)
    report.check("nothing that was acknowledged is missing on it", True, "")
    # Without the other follower nothing is acknowledged but with its vote.
    e.wait(["follower", "follower", "leader"])
    leader = e.one("leader")
    other = next(s for s in e.servers if s not in (leader, hurt))
    other.end()
    site.add([leader, hurt], "after", 50)
    report.check("it votes again", True, "")
    other.start()
    e.wait(["follower", "follower", "leader"])
    return hurt


def loss(site, report, hurt):
    e = site.e
    hurt.end()
    shutil.rmtree(store_of(site.muster(hurt)))
    hurt.start()
    e.wait(["follower", "follower", "leader"])
    site.healed(hurt)
    with open(hurt.log, encoding="utf-8", errors="replace") as f:
        said = "it is empty, and was not when this server ran last" in f.read()
    report.check("a store that is gone is not taken for a new one", said, hurt.tail())
    check_all(hurt, site.acknowledged)
    report.check("nothing is missing after it has come back", True, "")


def digests(site, report):
    """Something has been written: within some seconds all have compared."""
    def same():
        seen = {(metric(s, "muster_tree_digest_index"), metric(s, "muster_tree_digest"))
                for s in site.e.servers}
        return len(seen) == 1 and next(iter(seen))[0]

    wait_for(same, LIMIT_S, lambda: str([http(s.http, "/metrics")[1][:2000]
                                         for s in site.e.servers]))
    report.check("all servers have compared their trees",
                 all(metric(s, "digest_mismatches_count") == 0 for s in site.e.servers), "")


def said(server, word_):
    with open(server.log, encoding="utf-8", errors="replace") as f:
        return sum(word_ in line for line in f)


def asides(site, server):
    return set(glob.glob(os.path.join(site.muster(server), "store.aside.*")))


def differing(site, report):
    """A follower sets a znode that the others, whose program is right, do not set."""
    e = site.e
    leader, hurt = e.one("leader"), e.one("follower")
    hurt.end()
    hurt.program, hurt.environment = MUTANTS, {"MUTANT": "tree_version_ignored"}
    hurt.start()
    site.healed(hurt)
    lives, kept = said(hurt, "ev=new_life"), asides(site, hurt)
    with Client(f"127.0.0.1:{leader.client}") as client:
        client.create("/differs", b"is")
        try:
            client.set("/differs", b"is not", version=7)
        except BadVersionError:
            pass
        else:
            raise Failed("a leader sets what was asked for at another version")
    with Client(f"127.0.0.1:{hurt.client}") as client:
        client.sync("/")
        report.check("one of three has another tree", client.get("/differs")[0] == b"is not", "")
    wait_for(lambda: said(hurt, "ev=condemned") and said(hurt, "ev=new_life") > lives, LIMIT_S,
             hurt.tail)
    report.check("it finds that, and begins anew", said(leader, "ev=condemned") == 0,
                 leader.tail())
    site.healed(hurt)
    with Client(f"127.0.0.1:{hurt.client}") as client:
        client.sync("/")
        report.check("it has the others' tree", client.get("/differs")[0] == b"is", "")
    check_all(hurt, site.acknowledged)
    report.check("its wrong one is kept", asides(site, hurt) > kept, str(kept))
    hurt.end()
    hurt.program, hurt.environment = MUSTER, {}
    hurt.start()
    site.healed(hurt)


def alone(top, report):
    directory = os.path.join(top, "alone")
    client, web = free_ports(2)
    command = [MUSTER, "server", "--data", directory, "--listen", f"127.0.0.1:{client}",
               "--http", f"127.0.0.1:{web}"]
    with open(os.path.join(top, "alone.log"), "wb") as log:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as p:
            try:
                with Client(f"127.0.0.1:{client}") as c:
                    write(c, [f"x{i}" for i in range(100)])
            finally:
                p.terminate()
                p.wait(20)
    path = flip_in_the_middle(directory)
    before = open(path, "rb").read()
    p = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20,
                       text=True, check=False)
    report.check("a server that is alone refuses, and says what to do",
                 p.returncode == EXIT_UNSAFE and "likely:" in p.stderr and "next:" in p.stderr and
                 "muster restore" in p.stderr and os.path.basename(path) in p.stderr,
                 f"{p.returncode}: {p.stderr}")
    report.check("and leaves everything as it was", open(path, "rb").read() == before and
                 not glob.glob(os.path.join(directory, "store.aside.*")), "")


def main():
    report = Report("repair: ")
    top = tempfile.mkdtemp(prefix="muster-repair-")
    site = Site(top)
    try:
        site.start()
        hurt = damage(site, report)
        loss(site, report, hurt)
        digests(site, report)
        differing(site, report)
        alone(top, report)
    except Failed as e:
        report.check("to the end", False, str(e))
    finally:
        site.e.end()
        shutil.rmtree(top, ignore_errors=True)
    report.end()


if __name__ == "__main__":
    main()
