#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Does history.py find what it is there for? A right history, and one wrong thing at a time."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                                "cluster"))

import history  # noqa: E402
from report import Report  # noqa: E402


def right():
    """Two clients, a register, a list and a parent; times and zxids grow line by line."""
    ops = []

    def op(process, f, key, kind="ok", **more):
        n = len(ops) + 1
        ops.append({"type": kind, "process": process, "id": n, "f": f, "key": key,
                    "start": 10 * n, "end": 10 * n + 5, **more})
    op(1, "create", "r", value=100, version=0, mzxid=1)
    op(2, "sync_read", "r", value=100, version=0, mzxid=1)
    op(2, "cas", "r", value=200, expect=0, version=1, mzxid=2)
    op(1, "cas", "r", "fail", value=101, expect=0, err="BAD_VERSION")
    op(1, "write", "r", "info", value=102)
    op(2, "sync_read", "r", value=102, version=2, mzxid=3)
    op(1, "append", "l", value=110, version=0, mzxid=4)
    op(2, "sync_read", "l", value=[110], version=0, mzxid=4)
    op(2, "append", "l", value=210, version=1, mzxid=5)
    op(1, "append", "l", "fail", value=111, err="BAD_VERSION")
    op(1, "sync_read", "l", value=[110, 210], version=1, mzxid=5)
    op(1, "seq_create", "q", value=0, mzxid=6)
    op(2, "seq_create", "q", value=1, mzxid=7)
    op(1, "sync_children", "q", value=[0, 1])
    op(1, "seq_delete", "q", value=0)
    op(2, "sync_children", "q", value=[1])
    return ops


# What is changed in it (number of the operation, fields) -> a word of what must be said.
WRONGS = {
    "an acknowledged write is gone": (6, {"value": 100, "version": 0, "mzxid": 1},
                                      "had been acknowledged"),
    "sync and read see the past": (8, {"value": [], "version": -1}, "had been acknowledged"),
    "one version twice": (3, {"version": 0}, "one version twice"),
    "one zxid twice": (9, {"mzxid": 4}, "one zxid"),
    "zxids go back": (7, {"mzxid": 0}, "acknowledged before it was asked"),
    "a compare-and-set against another version": (3, {"expect": 5}, "expected 5"),
    "what was refused is seen": (6, {"value": 101}, "refused"),
    "what nobody wrote is seen": (6, {"value": 999}, "nobody wrote"),
    "one version, two values": (2, {"value": 102}, "version 0 is"),
    "an item is lost": (11, {"value": [210], "version": 0}, "not at its place"),
    "an item twice": (11, {"value": [110, 210, 210], "version": 2}, "twice"),
    "an item that was refused": (11, {"value": [110, 210, 111], "version": 2}, "refused"),
    "an item of nobody": (11, {"value": [110, 210, 7], "version": 2}, "nobody appended"),
    "no beginning of the list": (8, {"value": [210]}, "no beginning"),
    "a number twice": (13, {"value": 0}, "one number twice"),
    "numbers go back": (12, {"value": 5}, "acknowledged before it was asked"),
    "a child is lost": (14, {"value": [1]}, "does not see 0"),
    "a deleted child is there": (16, {"value": [0, 1]}, "had been deleted"),
}


def main():
    report = Report("chaos: history.py: ")
    found = history.check(right())
    report.check("a right history is right", not found, found)
    for name, (number, fields, word) in WRONGS.items():
        ops = right()
        ops[number - 1].update(fields)
        found = history.check(ops)
        report.check(name, any(word in line for line in found), found or "nothing was found")
    report.end()


if __name__ == "__main__":
    main()
