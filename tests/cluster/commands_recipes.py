# SPDX-License-Identifier: Apache-2.0
"""elect, queue, barrier, and watch with a command, on three machines, with what breaks them;
and kazoo's recipes on the same znodes."""
import contextlib
import json
import os
import re
import signal
import time

from cluster import MUSTER, Failed, wait_for
from commands_bed import (OP_CREATE2, OP_DELETE, Relay, ask, expect, kernel_addresses, started,
                          wait_ok)
from commands_tree import lines

KAZOO = ("/usr/bin/python3", os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                          "recipes_kazoo.py"))


def path_of(bed, name):
    return os.path.join(bed.site.dir, name)


def beat(path, name):
    """A command that writes down again and again that it runs, and with which token."""
    return ("sh", "-c", f'while :; do echo "{name} $MUSTER_FENCING_TOKEN $(date +%s.%N)" >> '
            f'{path}; sleep 0.02; done')


def turns(path):
    """Who ran, one after the other: [name, token, first, last]. Two at once fail."""
    found = []
    for name, token, at in lines(path):
        if not found or found[-1][:2] != [name, int(token)]:
            if any(t[1] == int(token) for t in found):
                raise Failed(f"{name} still ran when the next one did: {found}, {token}")
            if found and found[-1][1] > int(token):
                raise Failed(f"the tokens do not grow: {found}, {token}")
            found.append([name, int(token), float(at), float(at)])
        found[-1][3] = float(at)
    return found


def wait_turns(path, n, limit=10):
    wait_for(lambda: len(turns(path)) >= n, limit, lambda: f"{n} turns: {turns(path)}")
    return turns(path)


def children(bed, path):
    return expect(ask(bed.a.ns, "ls", path), 0).out.split()


def wait_children(bed, path, n, limit=5):
    wait_for(lambda: len(ask(bed.a.ns, "ls", path).out.split()) == n, limit,
             lambda: f"{n} below {path}: {ask(bed.a.ns, 'ls', path)}", 0.01)


def none_left(bed, path):
    if children(bed, path):
        raise Failed(f"left behind below {path}: {children(bed, path)}")


def kazoo(m, *words):
    return started(m.ns, f"{m.address}:2181", *words, program=KAZOO)


def kazoo_ask(m, *words):
    with kazoo(m, *words) as p:
        if p.end(limit=30) != 0:
            raise Failed(f"kazoo {words}: {p.err()}")
        return p.out()


def ends(p, code, how=None, limit=10):
    if p.end(how, limit) != code:
        raise Failed(f"exit code {p.p.returncode} instead of {code}: {p.out()}{p.err()}")


def touch(path):
    with open(path, "w", encoding="ascii"):
        pass


def not_holder(bed):
    """A machine that can be broken without moving the site's address."""
    return next(m for m in (bed.c, bed.b) if bed.site.vip not in kernel_addresses(m.ns))


# ---- elect ----

def elect_follows(bed):
    """One leads at a time; it is killed, and its command with it; the next leads."""
    path = path_of(bed, "follows")
    with contextlib.ExitStack() as stack:
        runs = {}
        for m in (bed.a, bed.b, bed.c):
            runs[m.name] = stack.enter_context(started(m.ns, "elect", "--session", "2", "follows",
                                                       "--", *beat(path, m.name)))
            wait_children(bed, "/elections/follows", len(runs))
        took = []
        for i, name in ((1, "a"), (2, "b")):
            if wait_turns(path, i)[-1][0] != name:
                raise Failed(f"not {name}, who came first: {turns(path)}")
            who = json.loads(expect(ask(bed.c.ns, "elect", "--who", "--json", "follows"), 0).out)
            if (who["token"], who["candidates"]) != (turns(path)[-1][1], 4 - i):
                raise Failed(f"--who says {who}, not {turns(path)[-1]}")
            lead = expect(ask(bed.c.ns, "elect", "--who", "follows"), 0, "process", ": sh").out
            if f"process {runs[name].p.pid}:" not in lead or lead.strip() != who["leader"]:
                raise Failed(f"--who says {lead!r}, not {runs[name].p.pid}")
            if expect(ask(bed.c.ns, "get", who["path"]), 0).out != lead.strip():
                raise Failed(f"get says something else than --who: {lead}")
            begun = time.time()
            runs[name].p.kill()
            found = wait_turns(path, i + 1)
            took.append(found[-1][2] - begun)
            if found[i - 1][3] > begun + 0.1:
                raise Failed(f"the command runs {found[i - 1][3] - begun:.2f} s after the kill")
        ends(runs["c"], 130, signal.SIGINT)
        none_left(bed, "/elections/follows")
        if max(took) > 3.5:
            raise Failed(f"led after {took}, with a session of 2 s")
        return f"the next leads {max(took):.2f} s after a kill -9, with a session of 2 s"


def elect_ends(bed):
    """The exit codes; the next leads when a command ends; --wait, Ctrl-C in line."""
    a, b = bed.a, bed.b
    for words, code in ((("true",), 0), (("sh", "-c", "exit 7"), 7), (("/none/such",), 127)):
        said = ask(a.ns, "elect", "ends", "--", *words)
        if said.code != code:
            raise Failed(f"{words}: exit code {said.code} instead of {code}: {said.err}")
    expect(ask(a.ns, "elect", "--who", "ends"), 5, "nobody")
    expect(ask(a.ns, "elect", "--who", "never-heard-of"), 5, "nobody")
    expect(ask(a.ns, "elect", "ends"), 2, "--who")
    go = path_of(bed, "ends-go")
    with started(a.ns, "elect", "ends", "--", "sh", "-c",
                 f"until [ -e {go} ]; do sleep 0.01; done; exit 9") as first:
        first.wait_says("leading ends, token ")
        expect(ask(b.ns, "elect", "--wait", "0", "ends", "--", "true"), 7, "not free in time")
        with started(b.ns, "elect", "ends", "--", "true") as second:
            second.wait_says("waiting for the leadership ends; before us: ")
            ends(second, 143, signal.SIGTERM)
        wait_children(bed, "/elections/ends", 1)
        with started(b.ns, "elect", "ends", "--", "sh", "-c", "exit 3") as second:
            second.wait_says("before us")
            touch(go)
            ends(first, 9)
            ends(second, 3)
    none_left(bed, "/elections/ends")


def elect_frozen(bed):
    """The leader is stopped (SIGSTOP), its command is not: it is killed before the next leads."""
    path = path_of(bed, "frozen")
    with started(bed.a.ns, "elect", "--session", "2", "frozen", "--", *beat(path, "a")) as first:
        wait_turns(path, 1)
        with started(bed.b.ns, "elect", "--session", "2", "frozen", "--", *beat(path, "b")) as next_:
            next_.wait_says("before us")
            begun = time.time()
            os.kill(first.p.pid, signal.SIGSTOP)
            found = wait_turns(path, 2)
            count = len(lines(path))
            wait_for(lambda: len(lines(path)) > count + 20, 5, "the next to go on")
            os.kill(first.p.pid, signal.SIGCONT)
            ends(first, 13)
            ends(next_, 143, signal.SIGTERM)
    if "muster status" not in first.err():
        raise Failed(f"it does not say what happened: {first.err()}")
    if len(turns(path)) != 2:
        raise Failed(f"more than two turns: {turns(path)}")
    none_left(bed, "/elections/frozen")
    return f"its command ended {found[0][3] - begun:.2f} s, the next led " \
        f"{found[1][2] - begun:.2f} s after it was frozen, with a session of 2 s"


def elect_keep(bed):
    """Cut off, it stops its command in time, and what that has started and does not listen;
    and stands again when it is back."""
    m, path = not_holder(bed), path_of(bed, "keep")
    stubborn = f"(trap '' TERM; {beat(path, m.name)[2]}) & wait"
    with started(m.ns, "elect", "--keep", "--session", "3", "keep", "--", "sh", "-c",
                 stubborn) as p:
        wait_turns(path, 1)
        with started(bed.a.ns, "elect", "keep", "--", *beat(path, "a")) as other:
            other.wait_says("before us")
            begun = time.time()
            m.cut()
            try:
                found = wait_turns(path, 2)
                p.wait_says("standing for keep again")
            finally:
                m.uncut()
            p.wait_says("before us", 15)  # whom it stands behind
            ends(other, 143, signal.SIGTERM)
        found = wait_turns(path, 3)
        if [t[0] for t in found] != [m.name, "a", m.name]:
            raise Failed(f"who led: {found}")
        p.p.kill()  # and with it go those who do not listen
        killed = time.time()
        wait_children(bed, "/elections/keep", 0)
        if turns(path)[-1][3] > killed + 0.5:
            raise Failed(f"what its command had started ran on: {turns(path)}, {killed}")
    wait_ok(bed.site)
    return f"stopped {found[0][3] - begun:.2f} s, next {found[1][2] - begun:.2f} s after the cut"


def elect_keep_session(bed):
    """Cut off so briefly that its session lives on: it gives its place to the one behind it."""
    m, path = not_holder(bed), path_of(bed, "brief")
    with started(m.ns, "elect", "--keep", "--session", "12", "brief", "--",
                 *beat(path, m.name)) as p:
        wait_turns(path, 1)
        with started(bed.a.ns, "elect", "brief", "--", *beat(path, "a")) as other:
            other.wait_says("before us")
            m.cut()
            try:
                p.wait_says("standing for brief again", 15)
            finally:
                m.uncut()
            found = wait_turns(path, 2)
            p.wait_says("before us", 15)
            if "place in the queue is lost" in p.err():
                raise Failed(f"the session has not lived on: {p.err()}")
            ends(p, 143, signal.SIGTERM)
            ends(other, 143, signal.SIGTERM)
    if [t[0] for t in found] != [m.name, "a"]:
        raise Failed(f"who led: {found}")
    none_left(bed, "/elections/brief")
    wait_ok(bed.site)


def elect_moves(bed):
    """Its server dies: it leads on, with the same token and the same command."""
    path = path_of(bed, "moves")
    with started(bed.a.ns, "elect", "--server", bed.servers(bed.b, bed.a, bed.c), "moves", "--",
                 *beat(path, "a")) as p:
        wait_turns(path, 1)
        bed.b.kill_daemon()
        count = len(lines(path))
        # A read of a leader that knows of the death: whoever was elected has taken over.
        wait_for(lambda: ask(bed.a.ns, "set", "/muster-moves", "x").code == 5, 15, "the others")
        wait_for(lambda: len(lines(path)) > count + 50, 10, "the command to go on")
        if len(turns(path)) != 1 or p.err().count("leading") != 1:
            raise Failed(f"not one turn: {turns(path)} {p.err()}")
        bed.b.start_muster()
        bed.b.wait_ready()
        ends(p, 143, signal.SIGTERM)
    none_left(bed, "/elections/moves")
    wait_ok(bed.site)


def elect_lost_answer(bed):
    """The answer to its own znode is lost: there is one znode, and it leads."""
    m = bed.a
    for how in ("cut", "swallow"):
        with Relay(m, OP_CREATE2, how, b"__lock__") as relay, \
                started(m.ns, "elect", "--session", "2", "--timeout", "2", "--server",
                        relay.server(), "lost", "--", "sleep", "60") as p:
            p.wait_says("leading lost", 10)
            relay.wait_reached()
            if len(children(bed, "/elections/lost")) != 1:
                raise Failed(f"{how}: {children(bed, '/elections/lost')}")
            ends(p, 143, signal.SIGTERM)
        none_left(bed, "/elections/lost")


def elect_two_places(bed):
    """Two znodes of one candidate, as after an answer that came too late: the lower is its."""
    a, b, at = bed.a, bed.b, "/elections/two"
    with started(a.ns, "elect", "two", "--", "sleep", "60") as first:
        first.wait_says("leading two")
        expect(ask(a.ns, "elect", "--wait", "0", "two", "--", "true"), 7)  # a number is left out
        with started(b.ns, "elect", "two", "--", "sh", "-c", "echo at $MUSTER_ELECTION_PATH at "
                     "$MUSTER_FENCING_TOKEN.; sleep 60") as second:
            second.wait_says("before us")
            own = next(n for n in children(bed, at) if n.endswith("0000000002"))
            fake = f"{at}/{own[:-10]}0000000001"
            expect(ask(b.ns, "create", fake, "x"), 0)
            ends(first, 143, signal.SIGTERM)
            token = json.loads(expect(ask(b.ns, "stat", "--json", fake), 0).out)["stat"]["czxid"]
            second.wait_says(f"at {fake} at {token}.")
            ends(second, 143, signal.SIGTERM)
    expect(ask(a.ns, "delete", fake), 0)
    none_left(bed, at)


def line_with_kazoo(bed):
    """kazoo's Election and Lock, and ours, in one line: in the order in which they came."""
    a, b, c = bed.a, bed.b, bed.c
    for verb, word, at in (("elect", "election", "/elections/mixed"), ("lock", "lock", "/locks/mixed")):
        first, last = path_of(bed, f"{word}-1"), path_of(bed, f"{word}-3")
        with kazoo(a, word, at, "one", first) as one:
            one.wait_says("in\n")
            with started(b.ns, verb, "mixed", "--", "sleep", "60") as two:
                two.wait_says("before us: one")
                with kazoo(c, word, at, "three", last) as three:
                    wait_children(bed, at, 3)
                    said = kazoo_ask(a, "contenders", at).splitlines()
                    if [said[0], said[2]] != ["one", "three"] or ": sleep" not in said[1]:
                        raise Failed(f"contenders: {said}")
                    if three.out():
                        raise Failed("the third is in before the second")
                    touch(first)
                    ends(one, 0)
                    if verb == "elect":
                        two.wait_says("leading mixed")
                    wait_children(bed, at, 2)
                    if three.out():
                        raise Failed("the third is in while the second is")
                    ends(two, 143, signal.SIGTERM)
                    three.wait_says("in\n")
                    with started(b.ns, verb, "mixed", "--", "sleep", "60") as four:
                        four.wait_says("before us: three")
                        ends(four, 130, signal.SIGINT)
                    touch(last)
                    ends(three, 0)
        none_left(bed, at)


# ---- queue ----

TAKE = """while :; do x=$("$0" queue take --wait 0 "$1"); c=$?
    [ $c = 0 ] || { echo "end $c"; exit; }
    echo "$x" >> "$2"; done"""
WORK = """while "$0" queue take --wait 0 "$1" -- sh -c 'x=$(cat); echo "$x" >> "$0"' "$2"; do :; done
    echo "end" """


def queue_once(bed):
    """Four takers, 200 items: each goes to exactly one."""
    each, numbers = 200, [str(i) for i in range(200)]
    expect(ask(bed.a.ns, "queue", "put", "--lines", "once",
               data="".join(n + "\n" for n in numbers).encode()), 0)
    if expect(ask(bed.b.ns, "queue", "len", "once"), 0).out != f"{each}\n":
        raise Failed(f"len: {ask(bed.b.ns, 'queue', 'len', 'once')}")
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        runs = []
        for i, m in enumerate((bed.a, bed.b, bed.c, bed.a)):
            path = path_of(bed, f"once-{i}")
            p = started(m.ns, MUSTER, "once", path, program=("sh", "-c", TAKE if i < 2 else WORK))
            runs.append((path, stack.enter_context(p)))
        for i, (path, p) in enumerate(runs):
            ends(p, 0, limit=90)
            if i < 2 and "end 14" not in p.out():
                raise Failed(f"not the end of the queue: {p.out()}{p.err()}")
    got = [[x[0] for x in lines(path)] for path, _ in runs]
    if sorted(sum(got, [])) != sorted(numbers):
        raise Failed(f"{len(sum(got, []))} items, {len(set(sum(got, [])))} different ones")
    if not all(got):
        raise Failed("one taker got nothing")
    for part in got:
        if part != sorted(part, key=int):
            raise Failed(f"not in their order: {part}")
    if expect(ask(bed.b.ns, "queue", "len", "once"), 0).out != "0\n":
        raise Failed("some are left")
    none_left(bed, "/queues/once/taken")
    return f"{'+'.join(str(len(g)) for g in got)} items in {time.monotonic() - begun:.1f} s"


def queue_order(bed):
    """Priorities; any bytes; waiting; an empty one."""
    a, b = bed.a, bed.b
    for priority, item in (("500", "later"), (None, "first"), (None, "second"), ("0", "urgent")):
        words = ("--priority", priority) if priority else ()
        expect(ask(a.ns, "queue", "put", *words, "order", item), 0, "/queues/order/entries/entry-")
    got = [expect(ask(b.ns, "queue", "take", "order"), 0).out for _ in range(4)]
    if got != ["urgent", "first", "second", "later"]:
        raise Failed(f"the order: {got}")
    expect(ask(b.ns, "queue", "take", "--wait", "0", "order"), 14, "nothing to take")
    expect(ask(b.ns, "queue", "take", "--wait", "0", "new"), 14, "nothing to take")
    said = expect(ask(b.ns, "queue", "take", "--wait", "1", "order"), 14)
    if not 0.9 < said.took < 3:
        raise Failed(f"--wait 1 took {said.took:.1f} s")
    data = b"\x00\xff\n" * 1000
    expect(ask(a.ns, "queue", "put", "order", "-", data=data), 0)
    copy = path_of(bed, "order-data")
    expect(ask(b.ns, "queue", "take", "order", "--", "sh", "-c", f"cat > {copy}"), 0)
    with open(copy, "rb") as f:
        if f.read() != data:
            raise Failed("the command did not get the bytes of the item")
    with started(b.ns, "queue", "take", "order") as waiting:
        wait_children(bed, "/queues/order/entries", 0)
        begun = time.monotonic()
        expect(ask(a.ns, "queue", "put", "order", "x"), 0)
        ends(waiting, 0)
        took = time.monotonic() - begun
        if waiting.out() != "x":
            raise Failed(f"who waited got {waiting.out()!r}")
    with started(b.ns, "queue", "take", "order") as waiting:
        time.sleep(0.3)  # ok: where it is then does not matter
        ends(waiting, 130, signal.SIGINT)
    return f"put and taken within {took:.2f} s"


def queue_comes_back(bed):
    """The command fails, the taker is killed or ends by a signal: the item is there again."""
    a, b, path = bed.a, bed.b, path_of(bed, "back")
    expect(ask(a.ns, "queue", "put", "back", "one"), 0)
    expect(ask(a.ns, "queue", "take", "back", "--", "sh", "-c", "exit 9"), 9)
    tokens = []
    for how in (signal.SIGTERM, signal.SIGKILL):
        with started(a.ns, "queue", "take", "--session", "2", "back", "--", *beat(path, "a")) as p:
            wait_for(lambda: len(lines(path)) > 1, 5, "the command to run")
            tokens.append(int(lines(path)[-1][1]))
            expect(ask(b.ns, "queue", "ls", "back"), 0, "taken by", f"process {p.p.pid}: sh")
            expect(ask(b.ns, "queue", "take", "--wait", "0", "back"), 14)
            if how == signal.SIGKILL:
                p.p.kill()
            else:
                ends(p, 143, how)
            begun = time.monotonic()
            expect(ask(b.ns, "queue", "take", "--wait", "5", "back", "--", "sh", "-c",
                       f'echo "b $MUSTER_FENCING_TOKEN $(date +%s.%N)" >> {path}; exit 9'), 9)
            took = time.monotonic() - begun
            tokens.append(turns(path)[-1][1])
        os.unlink(path)
    if tokens != sorted(set(tokens)):
        raise Failed(f"the tokens do not grow: {tokens}")
    if expect(ask(b.ns, "queue", "take", "--wait", "0", "back"), 0).out != "one":
        raise Failed("another item")
    expect(ask(b.ns, "queue", "take", "--wait", "0", "back"), 14)
    return f"back {took:.2f} s after kill -9, with a session of 2 s"


def queue_lost_answers(bed):
    """Answers are lost while an item is taken or removed: it is taken once, exit code 0."""
    m = bed.a
    for op, has in ((OP_CREATE2, b"/taken/"), (OP_DELETE, b"/entries/")):
        for how in ("cut", "swallow"):
            for tail in ((), ("--", "cat")):
                expect(ask(m.ns, "queue", "put", "answers", f"{how} {op}"), 0)
                expect(ask(m.ns, "queue", "put", "answers", "other"), 0)
                with Relay(m, op, how, has) as relay:
                    said = expect(ask(m.ns, "queue", "take", "--session", "2", "--timeout", "2",
                                      "--server", relay.server(), "answers", *tail), 0)
                    relay.wait_reached()
                if said.out != f"{how} {op}":
                    raise Failed(f"{how} {op} {tail}: {said}")
                if expect(ask(m.ns, "queue", "take", "--wait", "0", "answers"), 0).out != "other":
                    raise Failed(f"{how} {op} {tail}: the next item is not the other one")
                expect(ask(m.ns, "queue", "take", "--wait", "0", "answers"), 14)
    with Relay(m, OP_CREATE2, "cut", b"entry-") as relay:
        expect(ask(m.ns, "queue", "put", "--server", relay.server(), "answers", "x"), 7,
               "may have happened")
    if expect(ask(m.ns, "queue", "take", "--wait", "0", "answers"), 0).out != "x":
        raise Failed("the put whose answer was lost had arrived")


def queue_session_lost(bed):
    """The session ends while the item is removed. If it was not, another takes it; if it was,
    nobody can know who has had it: exit code 7, and it is printed."""
    m = bed.a
    for how, code in (("hold", 0), ("cut", 7)):
        expect(ask(m.ns, "queue", "put", "session", how), 0)
        with Relay(m, OP_DELETE, "hold", b"/entries/") as relay, \
                started(m.ns, "queue", "take", "--session", "2", "--server",
                        f"{relay.server()},{m.address}:2181", "session") as p:
            relay.wait_reached()
            os.kill(p.p.pid, signal.SIGSTOP)
            if how == "cut":  # it goes on at once, and its answer is not heard
                relay.how = how
                relay.release()
                wait_children(bed, "/queues/session/entries", 0)
            wait_children(bed, "/queues/session/taken", 0)
            relay.release()
            os.kill(p.p.pid, signal.SIGCONT)
            ends(p, code)
            if p.out() != how or ("not known" in p.err()) != (code == 7):
                raise Failed(f"{how}: {p.out()} {p.err()}")
        expect(ask(m.ns, "queue", "take", "--wait", "0", "session"), 14)


def queue_cut_off(bed):
    """The taker's machine is cut off: its command is stopped before another gets the item."""
    m, path = not_holder(bed), path_of(bed, "queue-cut")
    expect(ask(bed.a.ns, "queue", "put", "cut", "x"), 0)
    with started(m.ns, "queue", "take", "--session", "3", "cut", "--", *beat(path, m.name)) as p:
        wait_turns(path, 1)
        with started(bed.a.ns, "queue", "take", "cut", "--", "sh", "-c",
                     f'echo "a $MUSTER_FENCING_TOKEN $(date +%s.%N)" >> {path}') as other:
            begun = time.time()
            m.cut()
            try:
                ends(p, 13)
                ends(other, 0)
            finally:
                m.uncut()
    found = turns(path)
    if [t[0] for t in found] != [m.name, "a"]:
        raise Failed(f"who worked on it: {found}")
    wait_ok(bed.site)
    return f"stopped {found[0][3] - begun:.2f} s, next {found[1][2] - begun:.2f} s after the cut"


def queue_with_kazoo(bed):
    """kazoo's LockingQueue: items go both ways, in order, and neither takes what the other has."""
    a, b, at = bed.a, bed.b, "/queues/mixed"
    expect(ask(a.ns, "queue", "put", "mixed", "ours"), 0)
    kazoo_ask(b, "put", at, "100", "kazoo's", "more")
    kazoo_ask(b, "put", at, "7", "kazoo first")
    expect(ask(a.ns, "queue", "put", "-p", "8", "mixed", "ours second"), 0)
    got = [expect(ask(a.ns, "queue", "take", "mixed"), 0).out] + \
        kazoo_ask(b, "get", at, "2").splitlines() + \
        [expect(ask(a.ns, "queue", "take", "mixed", "--", "cat"), 0).out]
    if got != ["kazoo first", "ours second", "ours", "kazoo's"]:
        raise Failed(f"taken: {got}")
    until = path_of(bed, "mixed-queue")
    with kazoo(b, "hold", at, until) as p:
        p.wait_says("more")
        expect(ask(a.ns, "queue", "ls", "mixed"), 0, "taken by")
        expect(ask(a.ns, "queue", "take", "--wait", "0", "mixed"), 14)
        touch(until)
        ends(p, 0)
    with started(a.ns, "queue", "take", "mixed", "--", "sleep", "60") as p:
        wait_children(bed, at + "/taken", 1)
        with kazoo(b, "get", at, "1") as other:
            wait_for(lambda: other.p.poll() is None, 1, "kazoo to wait")
            time.sleep(0.5)  # ok: it must not get it, whenever it looks
            if other.out():
                raise Failed(f"kazoo got what was taken: {other.out()}")
            ends(p, 143, signal.SIGTERM)
            ends(other, 0)
            if other.out() != "more\n":
                raise Failed(f"kazoo got {other.out()}")
    none_left(bed, at + "/taken")
    none_left(bed, at + "/entries")


# ---- barrier ----

def stamp(word, path):
    return f'echo "{word} x $(date +%s.%N)" >> {path}'


def barrier_meets(bed):
    """All begin when the last has come, and end when the last has ended."""
    path = path_of(bed, "meets")
    text = f'"$0" barrier meets --count 3 -- sh -c \'{stamp("in", path)}; sleep "$0"; ' \
        f'{stamp("out", path)}; exit 6\' "$1"; c=$?; {stamp("left", path)}; exit $c'
    with contextlib.ExitStack() as stack:
        runs = []
        for i, m in enumerate((bed.a, bed.b, bed.c)):
            if lines(path):
                raise Failed("begun before the last had come")
            begun = time.time()
            runs.append(stack.enter_context(started(m.ns, MUSTER, str(0.1 + 0.3 * i),
                                                    program=("sh", "-c", text))))
            if i < 2:
                wait_children(bed, "/barriers/meets", i + 1)
        for p in runs:
            ends(p, 6)
    at = {w: [float(x[2]) for x in lines(path) if x[0] == w] for w in ("in", "out", "left")}
    if [len(v) for v in at.values()] != [3, 3, 3]:
        raise Failed(f"not three of each: {at}")
    if min(at["in"]) < begun or min(at["left"]) < max(at["out"]):
        raise Failed(f"not together: the last came {begun}; {at}")
    none_left(bed, "/barriers/meets")
    return f"began within {max(at['in']) - min(at['in']):.2f} s, " \
        f"left within {max(at['left']) - min(at['left']):.2f} s"


def barrier_rounds(bed):
    """The same barrier ten times, with and without a command: nobody is a round ahead."""
    for tail in ("", "-- true"):
        path, name = path_of(bed, "rounds" + tail[3:]), "rounds" + tail[3:]
        text = f'for i in 0 1 2 3 4 5 6 7 8 9; do "$0" barrier {name} --count 3 --wait 20 {tail} ' \
            f'|| exit; echo "$i" >> {path}; done'
        with contextlib.ExitStack() as stack:
            runs = [stack.enter_context(started(m.ns, MUSTER, program=("sh", "-c", text)))
                    for m in (bed.a, bed.b, bed.c)]
            for p in runs:
                ends(p, 0, limit=60)
        seen = [x[0] for x in lines(path)]
        if seen != [str(i) for i in range(10) for _ in range(3)]:
            raise Failed(f"{tail}: the rounds: {seen}")
        none_left(bed, f"/barriers/{name}")


def barrier_dead(bed):
    """Who dies has not come; what a crash has left behind opens nothing; --wait."""
    a, b, at = bed.a, bed.b, "/barriers/dead"
    with started(a.ns, "barrier", "dead", "--session", "2", "--count", "2") as p:
        wait_children(bed, at, 1)
        p.p.kill()
        wait_children(bed, at, 0)
    expect(ask(b.ns, "create", at + "/ready", ""), 0)
    expect(ask(b.ns, "barrier", "dead", "--count", "2", "--wait", "1"), 7, "1 of 2 had come")
    with started(a.ns, "barrier", "dead", "--count", "2") as one, \
            started(b.ns, "barrier", "dead", "--count", "2") as two:
        ends(one, 0)
        ends(two, 0)
    none_left(bed, at)
    with started(a.ns, "barrier", "dead", "--count", "2") as p:
        wait_children(bed, at, 1)
        ends(p, 130, signal.SIGINT)
    none_left(bed, at)
    # In the command's time one is killed: the other takes it for gone, and leaves.
    with started(a.ns, "barrier", "dead", "--session", "2", "--count", "2", "--", "sleep", "60") as p:
        with started(b.ns, "barrier", "dead", "--count", "2", "--", "sh", "-c", "exit 4") as q:
            wait_children(bed, at, 1)
            time.sleep(0.3)  # ok: it must not be over, whenever we look
            if q.p.poll() is not None:
                raise Failed(f"it has left before the other: {q.p.returncode}")
            p.p.kill()
            ends(q, 4)
    none_left(bed, at)


def barrier_missed(bed):
    """One is without a connection when the last comes, and all is over when it has one again.
    Until then its znode is there, and does not count for those who come for the next time."""
    a, b, at = bed.a, bed.b, "/barriers/missed"
    with started(a.ns, "barrier", "missed", "--session", "30", "--count", "2", "--server",
                 bed.servers(b, a)) as p:
        wait_children(bed, at, 1)
        os.kill(p.p.pid, signal.SIGSTOP)
        b.kill_daemon()
        expect(ask(bed.c.ns, "barrier", "missed", "--count", "2", "--wait", "15"), 0)
        expect(ask(bed.c.ns, "barrier", "missed", "--count", "2", "--wait", "1"), 7,
               "1 of 2 had come")
        os.kill(p.p.pid, signal.SIGCONT)
        ends(p, 0)
    none_left(bed, at)
    b.start_muster()
    b.wait_ready()
    wait_ok(bed.site)


def barrier_with_kazoo(bed):
    """kazoo's DoubleBarrier: it comes last, or first; with a command and without."""
    a, b = bed.a, bed.b
    for i, (kazoo_first, tail) in enumerate(((True, ()), (False, ()), (True, ("--", "true")),
                                             (False, ("--", "sleep", "0.2")))):
        at, until = f"/barriers/mixed-{i}", path_of(bed, f"mixed-barrier-{i}")
        ours = ("barrier", f"mixed-{i}", "--count", "2", "--wait", "15", *tail)
        with contextlib.ExitStack() as stack:
            if kazoo_first:
                theirs = stack.enter_context(kazoo(b, "meet", at, "2", until))
                wait_children(bed, at, 1)
                p = stack.enter_context(started(a.ns, *ours))
            else:
                p = stack.enter_context(started(a.ns, *ours))
                wait_children(bed, at, 1)
                theirs = stack.enter_context(kazoo(b, "meet", at, "2", until))
            theirs.wait_says("in\n")
            if tail:
                time.sleep(0.5)  # ok: it must not be over, whenever we look
                if p.p.poll() is not None:
                    raise Failed(f"we have left before kazoo: {p.p.returncode} {p.err()}")
            else:
                ends(p, 0)
            touch(until)
            ends(theirs, 0)
            ends(p, 0)
        none_left(bed, at)


def gates(bed):
    a, b = bed.a, bed.b
    expect(ask(a.ns, "barrier", "gate", "--pass"), 0)
    expect(ask(a.ns, "barrier", "gate", "--hold"), 0)
    expect(ask(b.ns, "barrier", "gate", "--hold"), 0)
    expect(ask(b.ns, "barrier", "gate", "--pass", "--wait", "0"), 7, "not released in time")
    with started(b.ns, "barrier", "gate", "--pass") as ours, \
            kazoo(b, "pass", "/gates/gate") as theirs:
        expect(ask(a.ns, "set", "/gates/gate", "still closed"), 0)
        time.sleep(0.5)  # ok: nobody may pass, whenever we look
        if (ours.p.poll(), theirs.p.poll()) != (None, None):
            raise Failed(f"passed a closed one: {ours.p.returncode}, {theirs.p.returncode}")
        expect(ask(a.ns, "barrier", "gate", "--release"), 0)
        ends(ours, 0)
        ends(theirs, 0)
    expect(ask(a.ns, "barrier", "gate", "--release"), 0)


# ---- watch with a command ----

RUN = """echo "begin $MUSTER_EVENT $MUSTER_PATH ${MUSTER_ZXID:-none} $(cat)"
until [ -e %s ]; do sleep 0.01; done; echo end"""


def watch_runs(bed):
    """A command for each change, one at a time; what changes meanwhile becomes one."""
    a, b, go = bed.a, bed.b, path_of(bed, "watch-go")
    expect(ask(a.ns, "create", "/wr", "0"), 0)
    with started(b.ns, "watch", "/wr", "--", "sh", "-c", RUN % go) as p:
        p.wait_says("Ctrl-C ends it")
        expect(ask(a.ns, "set", "/wr", "1"), 0)
        p.wait_says("begin changed /wr ")
        for i in range(2, 8):
            expect(ask(a.ns, "set", "/wr", str(i)), 0)
        stat = json.loads(expect(ask(b.ns, "stat", "--json", "/wr"), 0).out)["stat"]
        touch(go)
        p.wait_says(f"begin changed /wr {stat['mzxid']} 7\nend\n")
        expect(ask(a.ns, "delete", "/wr"), 0)
        p.wait_says("begin deleted /wr none \nend\n")
        ends(p, 130, signal.SIGINT)
        words = re.findall(r"^(begin|end)", p.out(), re.M)
        if words != ["begin", "end"] * 3:
            raise Failed(f"not one after the other, or not three: {p.out()}")
    os.unlink(go)
    with started(b.ns, "watch", "-r", "/wr", "--", "sh", "-c", RUN % go) as p:
        p.wait_says("Ctrl-C ends it")
        expect(ask(a.ns, "create", "-p", "/wr/one", "1"), 0)
        p.wait_says("begin created /wr ")
        ends(p, 143, signal.SIGTERM, limit=3)  # its command is told, too
    expect(ask(a.ns, "delete", "-r", "--yes", "/wr"), 0)


def watch_once(bed):
    a, b = bed.a, bed.b
    expect(ask(a.ns, "create", "/wo", "0"), 0)
    for tail, code, said in (((), 0, "changed  /wo"), (("--", "sh", "-c", "echo got $(cat); exit 5"),
                                                     5, "got x"), (("--", "/none/such"), 127, "")):
        with started(b.ns, "watch", "--once", "/wo", *tail) as p:
            p.wait_says("Ctrl-C ends it")
            expect(ask(a.ns, "set", "/wo", "x"), 0)
            ends(p, code)
            if said not in p.out() or p.out().count("\n") > 1:
                raise Failed(f"{tail}: {p.out()}")
    expect(ask(a.ns, "delete", "/wo"), 0)


def watch_missed(bed):
    """Its server dies, and something changes before it has another: it is told to look."""
    a, b, c = bed.a, bed.b, bed.c
    expect(ask(c.ns, "create", "/wm", "0"), 0)
    with started(a.ns, "watch", "/wm", "--server", bed.servers(b, a, c), "--", "sh", "-c",
                 'echo "$MUSTER_EVENT $MUSTER_PATH $(cat)"') as p:
        p.wait_says("Ctrl-C ends it")
        os.kill(p.p.pid, signal.SIGSTOP)  # so that it surely misses it
        b.kill_daemon()
        wait_for(lambda: ask(c.ns, "set", "/wm", "1").code == 0, 15, "a write without b")
        os.kill(p.p.pid, signal.SIGCONT)
        p.wait_says("missed /wm 1\n", 15)
        b.start_muster()
        b.wait_ready()
        ends(p, 130, signal.SIGINT)
    expect(ask(c.ns, "delete", "/wm"), 0)
    wait_ok(bed.site)


TESTS = (
    ("elect, the leader is killed, twice", elect_follows),
    ("elect, exit codes, --who, --wait, Ctrl-C", elect_ends),
    ("elect, the leader is frozen, its command is not", elect_frozen),
    ("elect --keep, cut off and back", elect_keep),
    ("elect --keep, cut off briefly", elect_keep_session),
    ("elect, its server is killed", elect_moves),
    ("elect, an answer is lost", elect_lost_answer),
    ("elect, two places of one candidate", elect_two_places),
    ("elect and lock with kazoo's Election and Lock", line_with_kazoo),
    ("queue, four takers and 200 items", queue_once),
    ("queue, priorities, bytes, waiting", queue_order),
    ("queue, items come back", queue_comes_back),
    ("queue, answers are lost", queue_lost_answers),
    ("queue, the session is lost while an item is removed", queue_session_lost),
    ("queue, the taker is cut off", queue_cut_off),
    ("queue with kazoo's LockingQueue", queue_with_kazoo),
    ("barrier, three meet", barrier_meets),
    ("barrier, ten rounds", barrier_rounds),
    ("barrier, the dead, --wait, Ctrl-C", barrier_dead),
    ("barrier, all is over while one is away", barrier_missed),
    ("barrier with kazoo's DoubleBarrier", barrier_with_kazoo),
    ("barrier --hold, --release, --pass, and kazoo's Barrier", gates),
    ("watch with a command", watch_runs),
    ("watch --once", watch_once),
    ("watch with a command, its server is killed", watch_missed),
)
