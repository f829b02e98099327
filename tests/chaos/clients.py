#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Clients of a site that is being broken (kazoo), and what they saw: a history of operations.

A program of its own, because it lives in a namespace of the site:

    clients.py FIRST COUNT SEED ADDRESS...   processes FIRST, FIRST+1, ...; on stdin, a line each:
      begin PATH FILE     work below PATH, the history goes into FILE
      rest                stop; what is under way is waited for
      verify              read everything through every server (into the history as well)
      end                 close FILE; the answer has the counts, and what was wrong

Each answer is a line of JSON. The form of the history: tests/lib/history.h. What clients
notice themselves (a watch that was lost or invented, an ephemeral that is gone) is a line
that begins with "# wrong".
"""
import json
import logging
import os
import random
import sys
import threading
import time

ANSWER_LIMIT_S = 4.0
VERIFY_LIMIT_S = 60.0
PAUSE_S = (0.0, 0.06)
REGISTERS = 4
LIST_MAX = 100      # then the next list is begun: all of a list is written at each append
CHILDREN_MAX = 8    # of one process; then it deletes its oldest
ITEMS = 10 ** 8     # values of a process: from its number times this


class History:
    """Where the lines go; several threads write."""

    def __init__(self, path):
        self.f = open(path, "a", encoding="utf-8")
        self.lock = threading.Lock()
        self.counts = {}
        self.wrong = []

    def write(self, **op):
        line = json.dumps(op, separators=(",", ":")) + "\n"
        with self.lock:
            self.f.write(line)
            if op["type"] != "invoke":
                key = op["type"]
                self.counts[key] = self.counts.get(key, 0) + 1

    def is_wrong(self, text):
        with self.lock:
            self.f.write(f"# wrong {text}\n")
            self.wrong.append(text)

    def close(self):
        with self.lock:
            self.f.close()


def names_of_errors():
    from kazoo import exceptions as e
    return {e.NoNodeError: "NO_NODE", e.NodeExistsError: "NODE_EXISTS",
            e.BadVersionError: "BAD_VERSION", e.SystemZookeeperError: "NO_ROOM"}


def numbers_in(data):
    return [int(x) for x in data.decode().split(",")] if data else []


class Watch:
    """kazoo gives watches up when the connection is lost, and says so (an event NONE). Those
    that live over reconnects are the C client's: tests/clients/chaos.c."""

    def __init__(self, session):
        self.session = session
        self.version = -1
        self.fired = threading.Event()
        self.dropped = threading.Event()

    def __call__(self, event):
        (self.dropped if event.type == "NONE" else self.fired).set()

    def is_over(self):
        return self.fired.is_set() or self.dropped.is_set()


class Client(threading.Thread):
    def __init__(self, number, seed, addresses, errors):
        super().__init__(daemon=True)
        from kazoo.client import KazooClient
        from kazoo.protocol.states import KazooState
        from kazoo.retry import KazooRetry
        self.number = number
        self.chance = random.Random(f"{seed}/{number}")
        self.errors = errors
        self.lost_state = KazooState.LOST
        hosts = [f"{a}:2181" for a in addresses]
        self.chance.shuffle(hosts)
        self.zk = KazooClient(
            hosts=",".join(hosts), timeout=self.chance.choice((3.0, 6.0, 12.0)),
            randomize_hosts=False,
            connection_retry=KazooRetry(max_tries=-1, delay=0.05, backoff=1, max_delay=0.3))
        self.losses = 0
        self.zk.add_listener(self.state_changed)
        self.zk.start_async()
        self.path = self.history = None
        self.idle = threading.Event()
        self.count = 0
        self.value = 0
        self.unknown_errors = {}
        self.forget()
        self.start()

    def forget(self):
        self.own_children = []
        self.ephemeral = None      # (path, session)
        self.watched = {}          # key -> Watch
        self.list_number = 0

    def state_changed(self, state):
        if state == self.lost_state:
            self.losses += 1

    # ---- one operation, into the history ----

    def session(self):
        c = self.zk.client_id
        return c[0] if c else 0

    def do(self, f, key, work, **fields):
        """work() gives the fields of the answer. "ok", "fail" or "info", and the answer."""
        self.count += 1
        op = {"process": self.number, "id": self.count, "f": f, "key": key, **fields}
        session = self.session()
        op["start"] = time.monotonic_ns()
        try:
            answer = work()
            op["end"] = time.monotonic_ns()
            op.update(answer)
            op["type"] = "ok"
            session = self.session()
        except Exception as e:  # pylint: disable=broad-except
            op["end"] = time.monotonic_ns()
            name = next((n for k, n in self.errors.items() if isinstance(e, k)), None)
            op["type"] = "fail" if name else "info"
            if name:
                op["err"] = name
                session = self.session()
            else:
                what = type(e).__name__
                self.unknown_errors[what] = self.unknown_errors.get(what, 0) + 1
        op["session"] = f"{session & (2 ** 64 - 1):#x}"
        self.history.write(**op)
        return op["type"], op

    @staticmethod
    def wait(result):
        return result.get(timeout=ANSWER_LIMIT_S)

    def new_value(self):
        self.value += 1
        return self.number * ITEMS + self.value

    # ---- what it asks ----

    def read_work(self, path, is_list, is_synced):
        def work():
            if is_synced and self.chance.random() < 0.5:
                self.wait(self.zk.sync_async(path))
                data, stat = self.wait(self.zk.get_async(path))
            elif is_synced:
                first = self.zk.sync_async(path)  # both under way at once
                second = self.zk.get_async(path)
                self.wait(first)
                data, stat = self.wait(second)
            else:
                data, stat = self.wait(self.zk.get_async(path))
            values = numbers_in(data)
            return {"value": values if is_list else values[0], "version": stat.version,
                    "mzxid": stat.mzxid}
        return work

    def set_work(self, path, data, version=-1):
        def work():
            stat = self.wait(self.zk.set_async(path, data.encode(), version))
            return {"version": stat.version, "mzxid": stat.mzxid}
        return work

    def register_step(self):
        key = f"{self.path}/r{self.chance.randrange(REGISTERS)}"
        what = self.chance.random()
        if what < 0.15:
            self.do("read", key, self.read_work(key, False, False))
            return
        how, seen = self.do("sync_read", key, self.read_work(key, False, True))
        if what < 0.4:
            return
        value = self.new_value()
        if how == "fail" and seen.get("err") == "NO_NODE":
            self.create(key, value)
        elif how == "ok" and what < 0.8:
            self.do("cas", key, self.set_work(key, str(value), seen["version"]), value=value,
                    expect=seen["version"])
        elif how == "ok":
            self.do("write", key, self.set_work(key, str(value)), value=value)

    def create(self, key, value):
        def work():
            _, stat = self.wait(self.zk.create_async(key, str(value).encode(),
                                                     include_data=True))
            return {"version": stat.version, "mzxid": stat.czxid}
        self.do("create", key, work, value=value)

    def list_step(self):
        key = f"{self.path}/l{self.list_number}"
        is_synced = self.chance.random() < 0.6
        how, seen = self.do("sync_read" if is_synced else "read", key,
                            self.read_work(key, True, is_synced))
        item = self.new_value()
        if how == "fail" and seen.get("err") == "NO_NODE":
            def work():
                _, stat = self.wait(self.zk.create_async(key, str(item).encode(),
                                                         include_data=True))
                return {"version": stat.version, "mzxid": stat.czxid}
            self.do("append", key, work, value=item)
        elif how == "ok" and len(seen["value"]) >= LIST_MAX:
            self.list_number += 1
        elif how == "ok":
            data = ",".join(str(v) for v in seen["value"] + [item])
            self.do("append", key, self.set_work(key, data, seen["version"]), value=item)

    def children_work(self, key, is_synced):
        def work():
            if is_synced:
                self.wait(self.zk.sync_async(key))
            names = self.wait(self.zk.get_children_async(key))
            return {"value": sorted(int(n[-10:]) for n in names)}
        return work

    def sequence_step(self):
        key = f"{self.path}/q"
        what = self.chance.random()
        if what < 0.3:
            self.do("sync_children" if what < 0.2 else "children", key,
                    self.children_work(key, what < 0.2))
        elif len(self.own_children) >= CHILDREN_MAX or (self.own_children and what < 0.45):
            number = self.own_children.pop(0)

            def remove():
                self.wait(self.zk.delete_async(f"{key}/n-{number:010d}"))
                return {}
            self.do("seq_delete", key, remove, value=number)
        else:
            def work():
                path, stat = self.wait(self.zk.create_async(f"{key}/n-", b"", sequence=True,
                                                            include_data=True))
                return {"value": int(path[-10:]), "mzxid": stat.czxid}
            how, op = self.do("seq_create", key, work)
            if how == "ok":
                self.own_children.append(op["value"])

    # ---- ephemerals: there when and only when their session is ----

    def ephemeral_step(self):
        session, losses = self.session(), self.losses
        try:
            if self.ephemeral is None:
                path = f"{self.path}/e/{self.number}-{self.new_value()}"
                self.wait(self.zk.create_async(path, b"", ephemeral=True))
                if session == self.session() and losses == self.losses:
                    self.ephemeral = (path, session)
                return
            path, owner = self.ephemeral
            self.wait(self.zk.sync_async(path))
            stat = self.wait(self.zk.exists_async(path))
        except Exception as e:  # pylint: disable=broad-except
            what = type(e).__name__
            self.unknown_errors[what] = self.unknown_errors.get(what, 0) + 1
            return
        if session != self.session() or losses != self.losses:
            return  # a session ended in between: who knows which answer is whose
        if owner == session and stat is None:
            self.history.is_wrong(f"ephemeral {path}: its session {owner:#x} lives, it is gone")
        # The session was told by a server that the one before has ended.
        if owner != session and stat is not None and stat.ephemeralOwner == owner:
            self.history.is_wrong(f"ephemeral {path} is there, its session {owner:#x} has ended")
        if owner != session or stat is None:
            self.ephemeral = None

    # ---- watches: none lost, none invented ----

    def watch_step(self):
        key = f"{self.path}/r{self.chance.randrange(REGISTERS)}"
        before = self.watched.get(key)
        session, losses = self.session(), self.losses
        if before is not None and not before.is_over():
            return
        watch = Watch(session)
        try:
            _, stat = self.wait(self.zk.get_async(key, watch=watch))
        except Exception as e:  # pylint: disable=broad-except
            what = type(e).__name__
            self.unknown_errors[what] = self.unknown_errors.get(what, 0) + 1
            return
        if session != self.session() or losses != self.losses:
            self.watched.pop(key, None)
            return
        if before is not None and before.fired.is_set() and before.session == session and \
                stat.version <= before.version:
            self.history.is_wrong(f"watch on {key}: it fired, the version is {stat.version} "
                                  f"and was {before.version}")
        watch.version = stat.version
        self.watched[key] = watch

    def lost_watches(self):
        """Asked when all is quiet: what has changed must have been told."""
        for key, watch in self.watched.items():
            if watch.dropped.is_set():
                continue
            self.wait(self.zk.sync_async(key))
            _, stat = self.wait(self.zk.get_async(key))
            if stat.version != watch.version and not watch.fired.wait(ANSWER_LIMIT_S) and \
                    not watch.dropped.is_set():
                self.history.is_wrong(f"watch on {key} by process {self.number}, session "
                                      f"{watch.session:#x}: set at version {watch.version}, "
                                      f"now {stat.version}, never told")

    # ---- life ----

    def run(self):
        steps = (self.register_step, self.list_step, self.sequence_step, self.ephemeral_step,
                 self.watch_step)
        while True:
            if self.path is None:
                self.idle.set()
                time.sleep(0.02)
            elif not self.zk.connected:
                time.sleep(0.02)
            else:
                self.chance.choices(steps, (6, 4, 4, 1, 1))[0]()
                time.sleep(self.chance.uniform(*PAUSE_S))

    def begin(self, path, history):
        self.forget()
        self.history = history
        self.path = path

    def rest(self):
        self.idle.clear()
        self.path = None

    def waits(self):
        return self.idle.wait(60)


def until_true(attempt, limit=VERIFY_LIMIT_S):
    """Tries until it works; the last error when it never did."""
    end = time.monotonic() + limit
    while True:
        try:
            return attempt(), ""
        except Exception as e:  # pylint: disable=broad-except
            if time.monotonic() > end:
                return None, f"{type(e).__name__} {e}"
            time.sleep(0.1)


class Program:
    def __init__(self, first, count, seed, addresses):
        self.errors = names_of_errors()
        self.addresses = addresses
        self.clients = [Client(first + i, seed, addresses, self.errors) for i in range(count)]
        self.history = None
        self.path = None

    def begin(self, path, name):
        self.path = path
        self.history = History(name)

        def make():
            zk = next(c for c in self.clients if c.zk.connected).zk
            for p in ("", "/q", "/e"):
                zk.ensure_path(path + p)
        _, problem = until_true(make)
        for c in self.clients:
            c.begin(path, self.history)
        return {"problem": problem}

    def rest(self):
        for c in self.clients:
            c.rest()
        stuck = [c.number for c in self.clients if not c.waits()]
        return {"problem": f"processes {stuck} do not end" if stuck else ""}

    def verify(self):
        """Everything once more through each server, by a client that asks that one only."""
        from kazoo.client import KazooClient
        for c in self.clients:
            _, problem = until_true(c.lost_watches)
            if problem:
                return {"problem": f"watches of process {c.number}: {problem}"}
        reader = self.clients[0]
        kept = reader.zk
        try:
            for a in self.addresses:
                zk = KazooClient(hosts=f"{a}:2181", timeout=10.0)
                _, problem = until_true(lambda zk=zk: zk.start(timeout=10))
                if problem:
                    return {"problem": f"{a} takes no client: {problem}"}
                reader.zk = zk
                problem = self.read_all(reader)
                zk.stop()
                zk.close()
                if problem:
                    return {"problem": f"{a}: {problem}"}
        finally:
            reader.zk = kept
        return {"problem": ""}

    def read_all(self, reader):
        names, problem = until_true(lambda: reader.zk.get_children(self.path))
        if names is None:
            return problem
        reader.history = self.history
        for name in sorted(names):
            key = f"{self.path}/{name}"

            def attempt(key=key, name=name):
                if name == "q":
                    how, _ = reader.do("sync_children", key, reader.children_work(key, True))
                elif name[0] in "rl":
                    how, _ = reader.do("sync_read", key,
                                       reader.read_work(key, name[0] == "l", True))
                else:
                    how = "ok"
                if how != "ok":
                    raise OSError(f"{key} cannot be read")
            _, problem = until_true(attempt)
            if problem:
                return problem
        return ""

    def end(self):
        self.history.close()
        errors = {}
        for c in self.clients:
            for name, n in c.unknown_errors.items():
                errors[name] = errors.get(name, 0) + n
            c.unknown_errors = {}
        # A session's own znodes go with it; what a round left is not needed any more.
        until_true(lambda: self.clients[0].zk.delete(self.path, recursive=True), 10)
        return {"problem": "", "counts": self.history.counts, "wrong": self.history.wrong[:20],
                "errors": errors}


def main():
    logging.basicConfig(level=logging.CRITICAL)
    first, count, seed = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    program = Program(first, count, seed, sys.argv[4:])
    for line in sys.stdin:
        words = line.split()
        answer = getattr(program, words[0])(*words[1:])
        print(json.dumps(answer), flush=True)
    os._exit(0)  # kazoo's threads would wait for answers


if __name__ == "__main__":
    main()
