#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The commands of muster on real machines, as a person uses them, and what they promise.

    commands.py [--only WORD]     tests whose name has that word

commands_machine.py: init, join, token, up. commands_tree.py: the tree, watch, lock.
commands_recipes.py: elect, queue, barrier, watch with a command, and kazoo beside them.
commands_site.py: apply, status, the HTTP pages, addresses, services.
"""
import argparse
import os
import signal
import sys

import commands_machine
import commands_recipes
import commands_site
import commands_tree
from cluster import Failed, Site, http_get
from commands_bed import start_clone, wait_ok, write_site
from report import Report


class Bed:
    """Three machines with a site on them. Each test that passes leaves it whole."""

    def __init__(self):
        self.site = Site("mtcs", f"/tmp/muster-commands-{os.getpid()}",
                         probes=("client", "watch"))
        self.a, self.b, self.c = self.site.machines.values()

    def start(self):
        def before(m):
            m.start_responder()
            for i in (1, 2):
                start_clone(m, i)
        self.site.open()
        self.site.form(before=before)
        self.plain = write_site(self.site, "site.yml")
        self.site.apply(self.plain)
        wait_ok(self.site)

    def repair(self):
        """After a test that failed: the next one is not to blame for what it left."""
        for m in self.site.machines.values():
            m.uncut()
            m.link("up")
            if not m.pids("tool_responder"):
                m.start_responder()
            if not m.pids("muster"):
                m.start_muster()
            for i in (1, 2):
                if http_get(m.ns, m.address, 2999 + i, "/", 1.0)[0] != 200:
                    start_clone(m, i)
        for m in self.site.machines.values():
            m.wait_ready()
        self.site.apply(self.plain)
        wait_ok(self.site)

    def servers(self, *machines):
        return ",".join(f"{m.address}:2181" for m in machines)

    def close(self, failed):
        for m in self.site.machines.values():
            print(f"--- {m.name}\n{m.log_tail(lines=40 if failed else 3)}")
        self.site.close()
        self.site.remove_files()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    report = Report("commands: ")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(130))

    def one(test, bed):
        try:
            return test(bed)
        except (LookupError, TypeError) as e:  # an answer of another shape than expected
            raise ValueError(f"{type(e).__name__}: {e}") from e

    def run(tests, bed):
        for name, test in tests:
            if options.only in name and not report.run(name, lambda t=test: one(t, bed)):
                bed.repair()
    # In one, each step stands on the one before; so all of it or nothing.
    if any(options.only in name for name, _ in commands_machine.TESTS):
        with commands_machine.bed(report) as birth:
            for name, test in commands_machine.TESTS:
                if not report.run(name, lambda t=test: one(t, birth)):
                    break
    bed = Bed()
    try:
        if report.run("a site of three machines starts", bed.start):
            run(commands_tree.TESTS, bed)
            run(commands_recipes.TESTS, bed)
            run(commands_site.TESTS, bed)
    finally:
        bed.close(report.failed)
    print(f"{report.passed} passed, {report.failed} failed")
    report.end()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # see tests/run.py
    try:
        main()
    except Failed as e:
        print(f"FAILED commands: {e}")
        sys.exit(1)
