#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""kazoo's recipes, each as a command, for the tests beside muster's (commands_recipes.py).

    recipes_kazoo.py HOSTS election|lock PATH NAME FILE   "in" when it is ours; until FILE is there
    recipes_kazoo.py HOSTS contenders PATH                a line each, the first in line first
    recipes_kazoo.py HOSTS put PATH PRIORITY ITEM...      into a LockingQueue
    recipes_kazoo.py HOSTS get PATH COUNT                 takes and prints so many
    recipes_kazoo.py HOSTS hold PATH FILE                 takes one; gives it back when FILE is there
    recipes_kazoo.py HOSTS meet PATH N FILE               DoubleBarrier: "in", until FILE, "out"
    recipes_kazoo.py HOSTS pass PATH                      Barrier: "out" when it is open
"""
import logging
import os
import sys
import time

from kazoo.client import KazooClient

LIMIT = 20.0


def say(text):
    print(text, flush=True)


def wait_for_file(path):
    end = time.monotonic() + LIMIT
    while not os.path.exists(path):
        if time.monotonic() > end:
            sys.exit(f"{path} did not come")
        time.sleep(0.01)


def inside(path):
    say("in")
    wait_for_file(path)


def election(c, path, name, until):
    c.Election(path, name).run(inside, until)


def lock(c, path, name, until):
    with c.Lock(path, name):
        inside(until)


def contenders(c, path):
    for name in c.Lock(path).contenders():
        say(name)


def put(c, path, priority, *items):
    q = c.LockingQueue(path)
    for item in items:
        q.put(item.encode(), int(priority))


def get(c, path, count):
    q = c.LockingQueue(path)
    for _ in range(int(count)):
        item = q.get(LIMIT)
        if item is None or not q.consume():
            sys.exit("no item, or it could not be consumed")
        say(item.decode())


def hold(c, path, until):
    q = c.LockingQueue(path)
    say(q.get(LIMIT).decode())
    wait_for_file(until)
    if not q.release():
        sys.exit("it was not ours any more")


def meet(c, path, count, until):
    b = c.DoubleBarrier(path, int(count))
    b.enter()
    if not b.participating:
        sys.exit("not entered")
    inside(until)
    b.leave()
    say("out")


def pass_by(c, path):
    if not c.Barrier(path).wait(LIMIT):
        sys.exit("it was not opened")
    say("out")


VERBS = {"election": election, "lock": lock, "contenders": contenders, "put": put, "get": get,
         "hold": hold, "meet": meet, "pass": pass_by}


def main():
    logging.basicConfig(level=logging.CRITICAL)
    c = KazooClient(hosts=sys.argv[1], timeout=10.0)
    c.start(timeout=LIMIT)
    VERBS[sys.argv[2]](c, *sys.argv[3:])
    c.stop()
    c.close()


if __name__ == "__main__":
    main()
