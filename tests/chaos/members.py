#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Servers of a zoo.cfg are added and removed (reconfig) while they are killed, frozen and
restarted, and clients work: no history may be wrong.

    members.py [--minutes N] [--seed N]

Five servers on five loopback addresses in a network namespace of their own. An operator removes and
adds them one by one, whatever state they are in; then all are running and members again, and
everything is read through each of them. What the clients saw goes through history.py and
tool_history, as in chaos.py. The seed draws what is done, not what comes of it.
"""
import argparse
import collections
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
for d in ("cluster", "peer", "clients"):
    sys.path.insert(0, os.path.join(os.path.dirname(HERE), d))

import history  # noqa: E402
from cluster import MUSTER, Failed, wait_for  # noqa: E402
from ensemble import SUPER, SUPER_DIGEST, Client, reconfig, servers_of  # noqa: E402
from report import Report  # noqa: E402
from sessions import namespace, word  # noqa: E402

COUNT = 5
FEWEST = 3            # members that the operator leaves
ROUND_S = 25
PATIENCE_S = 120
CHECKER = os.path.join(TOP, "build", "tool_history")
PATH = "/h"


class Server:
    def __init__(self, top, number):
        self.number, self.address = number, f"127.0.0.{10 + number}"
        self.dir, self.file = os.path.join(top, f"d{number}"), os.path.join(top, f"zoo{number}.cfg")
        self.log = os.path.join(top, f"{number}.log")
        self.spec = (f"server.{number}={self.address}:2888:3888:participant;{self.address}:2181")
        self.process = None
        os.mkdir(self.dir)
        with open(os.path.join(self.dir, "myid"), "w", encoding="ascii") as f:
            f.write(f"{number}\n")

    def write(self, specs):
        with open(self.file, "w", encoding="ascii") as f:
            f.write(f"tickTime=500\ninitLimit=20\nsyncLimit=10\ndataDir={self.dir}\n"
                    "admin.enableServer=false\nreconfigEnabled=true\nmaxClientCnxns=0\n"
                    "4lw.commands.whitelist=*\n"
                    f"DigestAuthenticationProvider.superDigest={SUPER_DIGEST}\n" +
                    "".join(s + "\n" for s in specs))

    def start(self):
        if self.process is None:
            with open(self.log, "ab") as log:
                # pylint: disable=consider-using-with
                self.process = subprocess.Popen([MUSTER, "server", self.file], stdout=log,
                                                stderr=log, stdin=subprocess.DEVNULL)

    def signal(self, number):
        if self.process is not None:
            self.process.send_signal(number)

    def stop(self, number):
        """The code with which it ended; None: it did not run."""
        if self.process is None:
            return None
        self.process.send_signal(number)
        self.process.send_signal(signal.SIGCONT)
        code = self.process.wait(PATIENCE_S)
        self.process = None
        return code

    def is_serving(self):
        return word(self.address, "isro") == "rw"


class Operator(threading.Thread):
    """Removes one, adds one, as long as it may."""

    def __init__(self, servers, chance, counts):
        super().__init__(daemon=True)
        self.servers, self.chance, self.counts = servers, chance, counts
        self.over = threading.Event()
        self.wrong = []

    def run(self):
        with Client(",".join(f"{s.address}:2181" for s in self.servers), SUPER) as zk:
            while not self.over.wait(self.chance.uniform(0.2, 2.0)):
                try:
                    self.step(zk)
                except Exception as e:  # pylint: disable=broad-exception-caught # no server just now
                    self.counts[f"reconfig: {type(e).__name__}"] += 1

    def step(self, zk):
        have = servers_of(zk.get("/zookeeper/config")[0].decode())
        members = [s for s in self.servers if any(x.startswith(f"server.{s.number}=") for x in have)]
        away = [s for s in self.servers if s not in members]
        if away and (len(members) <= FEWEST or self.chance.random() < 0.5):
            said, _ = reconfig(zk, joining=self.chance.choice(away).spec)
            what = "added"
        else:
            said, _ = reconfig(zk, leaving=str(self.chance.choice(members).number))
            what = "removed"
        self.counts[what if said.startswith("server.") else f"reconfig: {said}"] += 1


class Campaign:
    def __init__(self, top, seed):
        self.top, self.chance = top, random.Random(seed)
        self.counts = collections.Counter()
        self.servers = [Server(top, n + 1) for n in range(COUNT)]
        for s in self.servers:
            s.write([x.spec for x in self.servers])
        with open(os.path.join(top, "kazoo.log"), "ab") as log:
            # pylint: disable=consider-using-with
            self.clients = subprocess.Popen(
                ["/usr/bin/python3", os.path.join(HERE, "clients.py"), "1", "5", str(seed),
                 *(s.address for s in self.servers)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=log, text=True)

    def ask(self, line):
        timer = threading.Timer(400, self.clients.kill)
        timer.start()
        self.clients.stdin.write(line + "\n")
        self.clients.stdin.flush()
        said = self.clients.stdout.readline()
        timer.cancel()
        if not said:
            raise Failed(f"the clients ended at {line!r}")
        answer = json.loads(said)
        if answer.get("problem"):
            raise Failed(f"{line}: {answer['problem']}")
        return answer

    def start(self):
        for s in self.servers:
            s.start()
        self.wait_serving()

    def wait_serving(self):
        wait_for(lambda: all(s.is_serving() for s in self.servers), PATIENCE_S, lambda:
                 f"{[s.number for s in self.servers if not s.is_serving()]} to serve")

    def fault(self):
        """One of them, for a while; how it is undone."""
        s = self.chance.choice(self.servers)
        kind = self.chance.choice(("kill -9", "kill -9", "freeze", "restart", "kill -9 all"))
        self.counts[kind] += 1
        if kind == "freeze":
            s.signal(signal.SIGSTOP)
            return lambda: s.signal(signal.SIGCONT)
        if kind == "restart":
            code = s.stop(signal.SIGTERM)
            if code not in (0, None):
                raise Failed(f"server {s.number} ended with code {code} on SIGTERM")
            return s.start
        those = self.servers if kind == "kill -9 all" else [s]
        for x in those:
            x.stop(signal.SIGKILL)
        return lambda: [x.start() for x in those]

    def faults(self):
        end = time.monotonic() + ROUND_S
        while time.monotonic() < end:
            time.sleep(self.chance.uniform(0.1, 2.0))  # ok: faults at any time
            undo = self.fault()
            time.sleep(self.chance.uniform(0.1, 3.0))  # ok: how long they last
            undo()
            for s in self.servers:
                if s.process is not None and s.process.poll() is not None:
                    raise Failed(f"server {s.number} ended by itself, code {s.process.poll()}")

    def all_are_members(self):
        """The operator's last work: all of them, running. A join may be refused while another
        change is under way."""
        for s in self.servers:
            s.start()
        with Client(",".join(f"{s.address}:2181" for s in self.servers), SUPER) as zk:
            def added():
                try:
                    have = servers_of(zk.get("/zookeeper/config")[0].decode())
                    away = [s for s in self.servers if s.spec not in have]
                    if away:
                        reconfig(zk, joining=away[0].spec)
                    return not away
                except Exception:  # pylint: disable=broad-exception-caught
                    return False
            wait_for(added, PATIENCE_S, lambda: "all to be members again", 0.1)
        self.wait_serving()

    def round(self, number):
        where = os.path.join(self.top, f"round-{number}")
        os.mkdir(where)
        self.ask(f"begin {PATH}{number} {where}/history-0.jsonl")
        operator = Operator(self.servers, random.Random(self.chance.random()), self.counts)
        operator.start()
        try:
            self.faults()
        finally:
            operator.over.set()
            operator.join(PATIENCE_S)
        self.all_are_members()
        self.ask("rest")
        self.ask("verify")
        answer = self.ask("end")
        ops, wrong = history.load([f"{where}/history-0.jsonl"])
        wrong = list(wrong) + list(history.check(ops)) + answer["wrong"]
        r = subprocess.run([CHECKER, f"{where}/history-0.jsonl"], capture_output=True, text=True,
                           timeout=600, check=False)
        if r.returncode != 0:
            wrong.append(f"tool_history, code {r.returncode}: {(r.stdout + r.stderr)[-2000:]}")
        self.counts["operations ok"] += sum(op["type"] == "ok" for op in ops)
        if wrong:
            raise Failed("; ".join(wrong[:5]))
        if not self.counts["added"] or not self.counts["removed"]:
            raise Failed(f"nobody was added and removed: {dict(self.counts)}")

    def close(self):
        self.clients.kill()
        self.clients.wait()
        for s in self.servers:
            s.stop(signal.SIGKILL)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    options = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)  # kazoo tells of every lost connection
    report = Report("members: ")
    end = time.monotonic() + options.minutes * 60
    top = tempfile.mkdtemp(prefix="members-")

    def play():
        with namespace():
            campaign = Campaign(top, options.seed)
            try:
                campaign.start()
                rounds = 0
                while rounds == 0 or time.monotonic() < end:
                    rounds += 1
                    campaign.round(rounds)
            finally:
                campaign.close()
        said = ", ".join(f"{k} {n}" for k, n in sorted(campaign.counts.items()))
        return f"seed {options.seed}, {rounds} rounds: {said}"
    if report.run("added and removed while servers are broken", play):
        shutil.rmtree(top)
    else:
        print(f"seed {options.seed}; kept: {top}")
    report.end()


if __name__ == "__main__":
    main()
