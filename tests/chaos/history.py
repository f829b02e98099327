#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A second opinion on a history (its form: tests/lib/history.h), simple and by itself.

    history.py FILE...      prints what is wrong; exit code 0 right, 1 wrong

Knows the versions, so no order has to be looked for. What must hold:

- no two acknowledged writes of a key have one version, no two writes at all one zxid;
- what ended before another began has the smaller version and the smaller zxid;
- a compare-and-set made the version after the one it expected;
- a sync_read sees at least what was acknowledged before it began, any read what somebody asked
  for before it ended, never what was refused; one version is one value everywhere;
- each acknowledged item of a list is in the last reading once, at the place that its version
  says, and no refused one; every reading is a beginning of the last one;
- sequence numbers are given once, and grow in real time; acknowledged children are in the last
  reading until their deletion was asked for, and not after it was acknowledged.
"""
import bisect
import collections
import json
import sys

WRITES = ("write", "cas", "create", "append", "seq_create")


def load(paths):
    """(operations that have ended, what the clients noticed themselves)"""
    ops, wrong, open_ones = [], [], {}
    for path in paths:
        with open(path, encoding="utf-8") as f:
            for line in f:
                line = line.strip()
                if line.startswith("# wrong"):
                    wrong.append(line[2:])
                if not line or line.startswith("#"):
                    continue
                op = json.loads(line)
                number = (op["process"], op["id"])
                if op["type"] == "invoke":
                    open_ones[number] = op
                else:
                    begun = open_ones.pop(number, {})
                    ops.append({**begun, **op})
    for op in open_ones.values():
        ops.append({**op, "type": "info", "end": None})
    return ops, wrong


class Check:
    def __init__(self, ops):
        self.wrong = []
        self.ops = ops
        keys = collections.defaultdict(list)
        for op in ops:
            keys[op["key"]].append(op)
        self.zxids()
        for key, these in sorted(keys.items()):
            kinds = {op["f"] for op in these}
            if kinds & {"seq_create", "seq_delete", "children", "sync_children"}:
                self.parent(key, these)
            elif "append" in kinds or any(isinstance(op.get("value"), list) for op in these):
                self.list(key, these)
            else:
                self.register(key, these)

    def say(self, text):
        if len(self.wrong) < 100:
            self.wrong.append(text)

    def grows(self, what, ops, value):
        """Those that ended before another began have less."""
        ends = sorted((op["end"], value(op)) for op in ops)
        times, best, most = [], [], -1
        for end, v in ends:
            most = max(most, v)
            times.append(end)
            best.append(most)
        for op in ops:
            at = bisect.bisect_left(times, op["start"])
            if at and best[at - 1] >= value(op):
                self.say(f"{what}: {brief(op)} has {value(op)}, but {best[at - 1]} had been "
                         "acknowledged before it was asked")

    def zxids(self):
        done = [op for op in self.ops if op["type"] == "ok" and op["f"] in WRITES and
                op.get("mzxid", -1) >= 0]
        self.once("two writes have one zxid", done, lambda op: op["mzxid"])
        self.grows("zxids", done, lambda op: op["mzxid"])

    def once(self, what, ops, value):
        seen = {}
        for op in ops:
            v = value(op)
            if v in seen:
                self.say(f"{what}: {brief(seen[v])} and {brief(op)}")
            seen[v] = op

    def versions(self, key, ops, writes):
        done = [op for op in writes if op["type"] == "ok"]
        self.once(f"{key}: one version twice", done, lambda op: op["version"])
        self.grows(f"{key}: versions", done, lambda op: op["version"])
        reads = [op for op in ops if op["f"] == "sync_read" and op["type"] == "ok"]
        marks = sorted((op["end"], op["version"]) for op in done + reads)
        times, best, most = [], [], -1
        for end, v in marks:
            most = max(most, v)
            times.append(end)
            best.append(most)
        for op in reads:
            at = bisect.bisect_left(times, op["start"])
            if at and best[at - 1] > op["version"]:
                self.say(f"{key}: {brief(op)} saw version {op['version']}, but "
                         f"{best[at - 1]} had been acknowledged or read before it was asked")

    def register(self, key, ops):
        writes = [op for op in ops if op["f"] in ("write", "cas", "create")]
        self.versions(key, ops, writes)
        by_value = {op["value"]: op for op in writes}
        by_version = {}
        for op in ops:
            if op["type"] != "ok":
                continue
            if op["f"] == "cas" and op["version"] != op["expect"] + 1:
                self.say(f"{key}: {brief(op)} expected {op['expect']} and made {op['version']}")
            if op["f"] == "create" and op["version"] != 0:
                self.say(f"{key}: {brief(op)} made version {op['version']}")
            value = by_version.setdefault(op["version"], op["value"])
            if value != op["value"]:
                self.say(f"{key}: version {op['version']} is {value} and {op['value']}")
            if op["f"] in ("read", "sync_read"):
                w = by_value.get(op["value"])
                if w is None:
                    self.say(f"{key}: {brief(op)} saw {op['value']}, which nobody wrote")
                elif w["type"] == "fail":
                    self.say(f"{key}: {brief(op)} saw {op['value']}, which was refused")
                elif w["start"] > op["end"]:
                    self.say(f"{key}: {brief(op)} saw {op['value']} before it was written")
                elif w["type"] == "ok" and w["version"] != op["version"]:
                    self.say(f"{key}: {brief(op)} saw {op['value']} at version "
                             f"{op['version']}, it was written at {w['version']}")

    def list(self, key, ops):
        appends = [op for op in ops if op["f"] == "append"]
        self.versions(key, ops, appends)
        reads = [op for op in ops if op["f"] in ("read", "sync_read") and op["type"] == "ok"]
        if not reads:
            return
        # The last to begin; of several versions of "last" the longest.
        last = max(reads, key=lambda op: len(op["value"]))
        items = last["value"]
        if len(set(items)) != len(items):
            self.say(f"{key}: an item is in it twice")
        for op in reads:
            if op["value"] != items[:len(op["value"])]:
                self.say(f"{key}: {brief(op)} is no beginning of what it became")
            if op["version"] + 1 != len(op["value"]):
                self.say(f"{key}: {brief(op)} saw {len(op['value'])} items at version "
                         f"{op['version']}")
        known = {op["value"]: op for op in appends}
        for item in items:
            op = known.get(item)
            if op is None:
                self.say(f"{key}: {item} is in it, nobody appended it")
            elif op["type"] == "fail":
                self.say(f"{key}: {item} is in it, {brief(op)} was refused")
        for op in appends:
            if op["type"] == "ok" and (op["version"] >= len(items) or
                                       items[op["version"]] != op["value"]):
                self.say(f"{key}: {brief(op)} was acknowledged and is not at its place")

    def parent(self, key, ops):
        made = [op for op in ops if op["f"] == "seq_create" and op["type"] == "ok"]
        self.once(f"{key}: one number twice", made, lambda op: op["value"])
        self.grows(f"{key}: numbers", made, lambda op: op["value"])
        asked, gone = {}, {}
        for op in ops:
            if op["f"] == "seq_delete" and op["type"] != "fail":
                asked[op["value"]] = op["start"]
                if op["type"] == "ok":
                    gone[op["value"]] = op["end"]
        for op in ops:
            if op["type"] != "ok" or op["f"] != "sync_children":
                continue
            there = set(op["value"])
            for m in made:
                if m["end"] < op["start"] and m["value"] not in there and \
                        asked.get(m["value"], op["end"]) >= op["end"]:
                    self.say(f"{key}: {brief(op)} does not see {m['value']} of {brief(m)}")
            for number in there:
                if gone.get(number, op["start"]) < op["start"]:
                    self.say(f"{key}: {brief(op)} sees {number}, which had been deleted")


def brief(op):
    return f"{op['f']} {op['process']}/{op['id']}"


def longest_gap_s(ops, begin_ns, end_ns):
    """The longest time in which no write was acknowledged to anybody."""
    ends = sorted(op["end"] for op in ops if op["type"] == "ok" and op["f"] in WRITES)
    marks = [begin_ns] + [e for e in ends if begin_ns <= e <= end_ns] + [end_ns]
    return max(b - a for a, b in zip(marks, marks[1:])) / 1e9


def check(ops):
    return Check(ops).wrong


def main():
    ops, wrong = load(sys.argv[1:])
    wrong += check(ops)
    for line in wrong:
        print(line)
    print(f"{len(ops)} operations, {len(wrong)} wrong", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
