#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What there is to build, read from the tree itself, so that nobody keeps a list.

    rooms.py           one line per target, for meson.build:
                         room NAME - FILES
                         KIND NAME ROOMS FILES      KIND: unit, sim, fuzz, tool, client
    rooms.py --check   the border: no circle between rooms, and what each core may include

A room is a directory of src/. Two rooms hold a core and its shell side by side; there the
core is a room of its own (server-core, client-core), so that the simulation can be built
without the shells. A room needs those whose headers it includes, and what these need.
"""
import glob
import os
import re
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ORDER = ["base", "wire", "tree", "zkdata", "raft", "store", "backup", "server-core", "server",
         "client-core", "client", "site", "agent", "host", "http", "cli", "main", "testlib",
         "simlib", "unitlib", "peerlib", "benchlib"]
CORES = ["wire", "tree", "zkdata", "raft", "backup", "site", "agent", "server-core", "client-core"]
INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]', re.M)
# A core has no clock, file, socket, thread, random source or log call: not even the headers.
BANNED = re.compile(r"^(uv|curl/.*|nettle/.*|microhttpd|libmnl/.*|nftables/.*|pthread|unistd|"
                    r"fcntl|signal|time|poll|sys/.*|net/.*|netinet/.*|arpa/.*|linux/.*|"
                    r"base/log|stdio|threads|errno)\.h$")
# snprintf and strto* need these; everything else of them is caught in the objects.
ALLOWED = {("site", "stdio.h"), ("agent", "stdio.h"), ("tree", "stdio.h"), ("wire", "stdio.h"),
           ("zkdata", "stdio.h"), ("backup", "stdio.h"),
           ("raft", "stdio.h"), ("server-core", "stdio.h"), ("client-core", "stdio.h"),
           ("site", "arpa/inet.h"), ("agent", "arpa/inet.h"), ("site", "errno.h"),
           ("agent", "errno.h")}


def room_of(path):
    parts = path.split("/")
    name = os.path.basename(path)
    if parts[0] == "src" and len(parts) == 2:
        return "main"
    if parts[0] == "src":
        if parts[1] == "server" and name.startswith("member"):
            return "server-core"
        if parts[1] == "client" and "_uv" not in name:
            return "client-core"
        return parts[1]
    if parts[:2] == ["tests", "lib"]:
        return "testlib"
    if parts[:2] == ["tests", "sim"]:
        return "simlib"
    if parts[:2] == ["tests", "peer"]:
        return "peerlib"
    if parts[0] == "bench":
        return "benchlib"
    if parts[:2] == ["tests", "unit"] and not name.startswith("test_") and name.endswith(".c"):
        return "unitlib"
    return None


def text_of(path):
    with open(os.path.join(TOP, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def resolve(path, name):
    here = os.path.dirname(path)
    for base in (here, "src", "tests", "tests/lib", "bench"):
        p = os.path.normpath(os.path.join(base, name))
        if os.path.exists(os.path.join(TOP, p)):
            return p
    return None


class Tree:
    def __init__(self):
        os.chdir(TOP)
        self.sources = sorted(glob.glob("src/*/*.c") + glob.glob("src/*.c") +
                              glob.glob("tests/*/*.c") + glob.glob("bench/*.c"))
        self.headers = sorted(glob.glob("src/*/*.h") + glob.glob("tests/*/*.h") +
                              glob.glob("bench/*.h"))
        self.text = {p: text_of(p) for p in self.sources + self.headers}
        self.includes = {p: INCLUDE.findall(t) for p, t in self.text.items()}
        self.is_program = {p: bool(re.search(r"^\s*int\s+main\s*\(", t, re.M))
                           for p, t in self.text.items()}
        self.rooms = {}
        self.needs = {}
        for p in self.sources + self.headers:
            room = room_of(p)
            if room is None or (not p.startswith("src/") and self.is_program[p]):
                continue
            self.rooms.setdefault(room, [])
            if p.endswith(".c"):
                self.rooms[room].append(p)
            self.needs.setdefault(room, set()).update(self.direct(p) - {room})

    def direct(self, path, seen=()):
        """Rooms whose headers this file includes, also through headers that are of no room."""
        found = set()
        for name in self.includes.get(path, ()):
            p = resolve(path, name)
            if p is None or not p.endswith(".h") or p in seen:
                continue
            if room_of(p) is not None:
                found.add(room_of(p))
            else:
                found |= self.direct(p, (*seen, p))
        return found

    def closure(self, rooms):
        seen, todo = set(), set(rooms)
        while todo:
            r = todo.pop()
            if r not in seen:
                seen.add(r)
                todo |= self.needs.get(r, set())
        # The last first: the linker resolves from left to right.
        known = [r for r in reversed(ORDER) if r in seen]
        return known + sorted(seen - set(ORDER))

    def circle(self):
        for a in sorted(self.needs):
            for b in sorted(self.needs[a]):
                if a < b and a in self.closure([b]) and b in self.closure([a]):
                    yield a, b


def targets(tree):
    for room in ORDER + sorted(set(tree.rooms) - set(ORDER)):
        files = tree.rooms.get(room)
        if files and room != "main":
            yield "room", room, [], files
    if "main" in tree.rooms and tree.rooms["main"]:
        yield "muster", "muster", tree.closure(["main"])[1:], tree.rooms["main"]
    for kind, pattern in (("unit", "tests/unit/test_*.c"), ("sim", "tests/sim/*.c"),
                          ("fuzz", "tests/fuzz/*.c"), ("tool", "tests/cluster/*.c"),
                          ("tool", "tests/peer/*.c"), ("tool", "tests/chaos/*.c"),
                          ("tool", "bench/*.c"),
                          ("client", "tests/clients/*.c")):
        for p in sorted(glob.glob(pattern)):
            entry = kind == "fuzz" and "LLVMFuzzerTestOneInput" in tree.text[p]
            if not tree.is_program[p] and not entry:
                continue
            rooms = [r for r in tree.closure(tree.direct(p)) if tree.rooms.get(r)]
            yield kind, os.path.splitext(os.path.basename(p))[0], rooms, [p]


def check(tree):
    bad = 0
    for a, b in tree.circle():
        print(f"rooms: {a} and {b} need each other")
        bad += 1
    for p in sorted(tree.includes):
        room = room_of(p)
        if room not in CORES:
            continue
        for name in tree.includes[p]:
            if BANNED.match(name) and (room, name) not in ALLOWED:
                print(f"{p}: a core may not include {name}")
                bad += 1
        for r in sorted(tree.direct(p) - {room}):
            if r not in CORES and r != "base":
                print(f"{p}: the core {room} includes from the shell {r}")
                bad += 1
    for p, names in sorted(tree.includes.items()):
        if not p.startswith("src/"):
            continue
        for name in names:
            found = resolve(p, name)
            if found and found.startswith("tests/"):
                print(f"{p}: includes {name} from the tests")
                bad += 1
    return bad


def main():
    tree = Tree()
    if sys.argv[1:] == ["--check"]:
        sys.exit(1 if check(tree) else 0)
    for kind, name, rooms, files in targets(tree):
        rooms = [r for r in rooms if tree.rooms.get(r)]
        print(kind, name, ",".join(rooms) or "-", ",".join(files))


main()
