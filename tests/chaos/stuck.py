#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A disk that answers no write: the machine goes on doing all that needs no disk.

HAProxy's files were once written on the loop, and whatever changed a pool meanwhile stopped the
whole process (found by ./dev chaos --seed 21). So here a pool changes while the disk is stuck.
"""
import contextlib
import os
import shutil
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from bed import Bed, Failed, clean_up, wait_for  # noqa: E402
from report import Report  # noqa: E402

STUCK_WRITES = (0, 0, 0, 0, 1, 0)
LIMIT_S = 30.0


def says(m, word):
    return any(word in line for line in m.log_tail(lines=200).splitlines())


def go_on(bed):
    one, other = bed["c"], bed["b"]
    one.hold_sick(STUCK_WRITES)
    try:
        other.hold_stopped()  # its instances leave the pools

        def has_seen():
            s = one.status()
            return s is not None and any(p["on"] < 6 for p in s["balance"])
        wait_for(has_seen, LIMIT_S, "the pool to change, and status to say so")
        one.is_expected = True
        for p in one.pids("muster"):
            os.kill(p, signal.SIGTERM)
        wait_for(lambda: says(one, "ev=stopping"), LIMIT_S, "SIGTERM to be noticed")
        wait_for(lambda: not any(f" {a}/" in bed.addresses_of(one) for a in bed.all_addresses),
                 LIMIT_S, "its addresses to be given away")
    finally:
        one.let_well()
        other.let_start()
    wait_for(lambda: one.started.poll() is not None, LIMIT_S, "it to end when the disk answers")
    one.started, one.is_expected = None, False
    one.ensure()
    bed.wait_right()


def main():
    report = Report("chaos: ")
    clean_up(lambda text: print(text, file=sys.stderr))
    bed = Bed(f"/tmp/muster-stuck-{os.getpid()}", 3)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(130))
    try:
        if report.run("a site of three", lambda: (bed.begin(), bed.wait_right())[0]):
            report.run("with a stuck disk a machine goes on", lambda: go_on(bed))
    finally:
        for m in bed.machines.values():
            print(f"--- {m.name}\n{m.log_tail(lines=10)}")
        with contextlib.suppress(Failed):
            bed.close()
        shutil.rmtree(bed.dir, ignore_errors=True)
    report.end()


if __name__ == "__main__":
    main()
