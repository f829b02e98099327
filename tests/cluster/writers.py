#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes through every server of a site while it is being broken, and counts what is missing.

A program of its own, because it must live in a namespace of the site:

    writers.py ADDRESS...        one writer for each server; commands on stdin, a line each:
      begin PATH                 write unique znodes below PATH, through every server
      verify                     stop; ask each server (sync, then read) for every znode whose
                                 creation was answered; one line of JSON

The class Writers runs and asks it.
"""
import json
import logging
import os
import subprocess
import sys
import threading
import time

INTERVAL = 0.02  # between two writes of one writer: gentle, the machines share two cores
ANSWER_LIMIT = 1.0
VERIFY_LIMIT = 30.0


class Writers:
    """Needs a site with the probe "write"."""

    def __init__(self, site):
        self.site = site
        self.number = 0
        self.program = None

    def start(self):
        with open(os.path.join(self.site.dir, "writers.log"), "ab") as log:
            self.program = subprocess.Popen(
                ["ip", "netns", "exec", self.site.probes["write"][0], "/usr/bin/python3",
                 os.path.abspath(__file__)] + [m.address for m in self.site.machines.values()],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)

    def ask(self, line):
        self.program.stdin.write(line + "\n")
        self.program.stdin.flush()
        answer = self.program.stdout.readline()
        if not answer:
            raise OSError("the writers ended")
        return json.loads(answer)

    def begin(self):
        self.number += 1
        self.ask(f"begin /written-{self.number}")

    def verify(self):
        """{"answered": N, "unanswered": N, "missing": [...], "problem": ""}"""
        return self.ask("verify")

    def stop(self):
        if self.program:
            self.program.kill()
            self.program.wait()


# ---- the program ----

class Writer(threading.Thread):
    def __init__(self, address):
        super().__init__(daemon=True)
        from kazoo.client import KazooClient
        from kazoo.retry import KazooRetry
        self.address = address
        self.client = KazooClient(
            hosts=f"{address}:2181", timeout=4.0,
            connection_retry=KazooRetry(max_tries=-1, delay=0.1, backoff=1, max_delay=0.2))
        self.client.start_async()
        self.path = None
        self.answered = []
        self.unanswered = 0
        self.idle = threading.Event()
        self.start()

    def run(self):
        count = 0
        while True:
            path = self.path
            if path is None:
                self.idle.set()
                time.sleep(INTERVAL)
                continue
            count += 1
            name = f"{self.address}-{count}"
            try:
                if not self.client.connected:
                    time.sleep(INTERVAL)
                    continue
                self.client.create_async(f"{path}/{name}", name.encode()).get(
                    timeout=ANSWER_LIMIT)
                self.answered.append(name)
            except Exception:  # whatever it is: it was not acknowledged
                self.unanswered += 1
            time.sleep(INTERVAL)

    def rest(self):
        self.idle.clear()
        self.path = None
        self.idle.wait(5)


def until_true(attempt):
    """Tries until it works; the last error when it never did."""
    end = time.monotonic() + VERIFY_LIMIT
    while True:
        try:
            return attempt(), ""
        except Exception as e:
            if time.monotonic() > end:
                return None, f"{type(e).__name__} {e}"
            time.sleep(0.1)


def read_all(client, path):
    client.sync_async(path).get(timeout=3)
    return set(client.get_children_async(path).get(timeout=5))


def verify(writers, path):
    for w in writers:
        w.rest()
    answered = [n for w in writers for n in w.answered]
    result = {"answered": len(answered), "unanswered": sum(w.unanswered for w in writers),
              "missing": [], "wrong": [], "problem": ""}
    for w in writers:
        found, problem = until_true(lambda w=w: read_all(w.client, path))
        if found is None:
            result["problem"] = f"{w.address} cannot be read: {problem}"
            return result
        result["missing"] += [f"{n} on {w.address}" for n in answered if n not in found]
    reads = [(n, writers[0].client.get_async(f"{path}/{n}")) for n in answered]
    for name, r in reads:
        try:
            if r.get(timeout=10)[0] != name.encode():
                result["wrong"].append(name)
        except Exception as e:
            result["wrong"].append(f"{name}: {type(e).__name__}")
    result["missing"] = result["missing"][:10]
    result["wrong"] = result["wrong"][:10]
    return result


def main():
    logging.basicConfig(level=logging.CRITICAL)
    writers = [Writer(a) for a in sys.argv[1:]]
    path = None
    for line in sys.stdin:
        words = line.split()
        if words[0] == "begin":
            path = words[1]
            _, problem = until_true(lambda: next(
                w for w in writers if w.client.connected).client.ensure_path(path))
            for w in writers:
                w.answered, w.unanswered, w.path = [], 0, path
            answer = {"problem": problem}
        else:
            answer = verify(writers, path)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
