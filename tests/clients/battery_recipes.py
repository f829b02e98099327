#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""kazoo's recipes (Debian's python3-kazoo), each with several sessions at once.

    battery_recipes.py all HOSTS    every test; a line each: "ok NAME" or "FAILED NAME: why"
    battery_recipes.py move HOSTS   holds a lock, a party, a cache and a queue; says where the
                                    session that holds the lock is; on a line from stdin all
                                    of them must have gone on, on another server
"""
import contextlib
import datetime
import sys
import threading

from kazoo.client import KazooState
from kazoo.exceptions import CancelledError, KazooException, LockTimeout, NodeExistsError
from kazoo.recipe.barrier import DoubleBarrier
from kazoo.recipe.cache import TreeCache, TreeEvent
from kazoo.recipe.lease import MultiNonBlockingLease, NonBlockingLease
from kazoo.recipe.watchers import PatientChildrenWatch
from kazoo.retry import KazooRetry

import battery
from battery import LIMIT, catch_up, client, fresh, refuses, same, until


@contextlib.contextmanager
def clients(count, **options):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(client(**options)) for _ in range(count)]


def in_threads(works):
    """Runs all of them at once; the first exception of any is raised here."""
    wrong = []

    def guarded(work):
        try:
            work()
        except Exception as e:  # goes on in the thread that waits
            wrong.append(e)
    threads = [threading.Thread(target=guarded, args=(w,), daemon=True) for w in works]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
        assert not t.is_alive(), "no end within 60 s"
    if wrong:
        raise wrong[0]


class Inside:
    """Counts how many are somewhere at once."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = self.total = 0

    def __enter__(self):
        with self.lock:
            self.now += 1
            self.total += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_):
        with self.lock:
            self.now -= 1


# ---- locks ----

def lock_says_who_waits():
    with clients(3) as (a, b, c):
        at = fresh(a) + "/lock"
        first, second = a.Lock(at, "first"), b.Lock(at, "second")
        first.acquire()
        got = []
        t = threading.Thread(target=lambda: got.append(second.acquire(timeout=LIMIT)))
        t.start()
        until(lambda: (catch_up(c), c.Lock(at).contenders())[1] == ["first", "second"],
              "the second in the queue")
        same(c.Lock(at, "third").acquire(blocking=False), False)
        first.release()
        t.join(LIMIT)
        same(got, [True])
        second.release()
        catch_up(a)
        same(a.get_children(at), [])


def lock_can_be_cancelled():
    with clients(2) as (a, b):
        at = fresh(a) + "/lock"
        catch_up(b)
        with a.Lock(at, "a"):
            lock, result = b.Lock(at, "b"), []

            def wait():
                try:
                    result.append(lock.acquire())
                except CancelledError:
                    result.append("cancelled")
            t = threading.Thread(target=wait)
            t.start()
            until(lambda: (catch_up(a), len(a.get_children(at)))[1] == 2, "b in the queue")
            lock.cancel()
            t.join(LIMIT)
            same(result, ["cancelled"])
            catch_up(a)
            same(len(a.get_children(at)), 1)


def readers_share_writers_do_not():
    with clients(4) as (a, b, c, d):
        at = fresh(a) + "/rw"
        one, two = a.ReadLock(at, "r1"), b.ReadLock(at, "r2")
        same((one.acquire(timeout=LIMIT), two.acquire(timeout=LIMIT)), (True, True))
        catch_up(c)
        writer = c.WriteLock(at, "w")
        same(writer.acquire(blocking=False), False)
        with refuses(LockTimeout):
            writer.acquire(timeout=0.2)
        one.release()
        two.release()
        same(writer.acquire(timeout=LIMIT), True)
        catch_up(d)
        with refuses(LockTimeout):
            d.ReadLock(at, "r3").acquire(timeout=0.2)
        writer.release()
        with d.ReadLock(at, "r3"):
            pass


def writers_in_turn_then_readers_together():
    # Not mixed: a reader of kazoo 2.8 waits also for writers that came after it, and they
    # wait for the reader.
    with clients(4) as all_of_them:
        at = fresh(all_of_them[0]) + "/rw"
        catch_up(*all_of_them)
        inside = Inside()

        def write(c):
            for _ in range(5):
                with c.WriteLock(at, "x"), inside:
                    c.exists(at)
        in_threads([lambda c=c: write(c) for c in all_of_them])
        same((inside.most, inside.total), (1, 20))
        everybody = threading.Barrier(4, timeout=LIMIT)

        def read(c):
            with c.ReadLock(at, "x"):
                everybody.wait()
        in_threads([lambda c=c: read(c) for c in all_of_them])


def semaphore_has_so_many_leases():
    with clients(5) as all_of_them:
        at = fresh(all_of_them[0]) + "/semaphore"
        catch_up(*all_of_them)
        inside = Inside()

        def work(c):
            for _ in range(4):
                with c.Semaphore(at, max_leases=3):
                    with inside:
                        c.exists(at)
        in_threads([lambda c=c: work(c) for c in all_of_them])
        same(inside.total, 20)
        assert 1 <= inside.most <= 3, f"{inside.most} at once, with 3 leases"


def semaphore_of_the_dead_and_of_another_size():
    with clients(2) as (a, b):
        at = fresh(a) + "/semaphore"
        with client() as holder:
            catch_up(holder)
            holder.Semaphore(at, "holder", max_leases=1).acquire()
            catch_up(a, b)
            mine = a.Semaphore(at, "mine", max_leases=1)
            same(mine.lease_holders(), ["holder"])
            with refuses(LockTimeout):
                mine.acquire(timeout=0.2)
            with refuses(ValueError):
                b.Semaphore(at, max_leases=2).acquire(blocking=False)
        same(mine.acquire(timeout=LIMIT), True)
        mine.release()


# ---- elections, parties ----

def one_leads_after_the_other():
    with clients(4) as all_of_them:
        at = fresh(all_of_them[0]) + "/election"
        catch_up(*all_of_them)
        inside, turns = Inside(), []

        def lead(number, c):
            with inside:
                turns.append(number)
                c.exists(at)
        in_threads([lambda i=i, c=c: c.Election(at, f"n{i}").run(lead, i, c)
                    for i, c in enumerate(all_of_them)])
        same((inside.most, sorted(turns)), (1, [0, 1, 2, 3]))


def the_next_leads_when_the_leader_is_gone():
    with client() as b:
        at = fresh(b) + "/election"
        led, ends = threading.Event(), threading.Event()
        with client() as a:
            catch_up(a)

            def first():
                with contextlib.suppress(KazooException, CancelledError):
                    a.Election(at, "a").run(lambda: (led.set(), ends.wait(LIMIT)))
            t = threading.Thread(target=first)
            t.start()
            assert led.wait(LIMIT), "nobody leads"
            second = threading.Event()
            election = b.Election(at, "b")
            u = threading.Thread(target=lambda: election.run(second.set))
            u.start()
            until(lambda: election.contenders() == ["a", "b"], "b in the queue")
            same(second.is_set(), False)
        assert second.wait(LIMIT), "b does not lead"
        ends.set()
        u.join(LIMIT)
        t.join(LIMIT)
        assert not t.is_alive() and not u.is_alive()


def parties():
    with clients(2) as (a, b):
        at = fresh(a)
        for kind in ("Party", "ShallowParty"):
            path = f"{at}/{kind}"
            mine = getattr(a, kind)(path, "one")
            mine.join()
            with client() as guest:
                getattr(guest, kind)(path, "two").join()
                catch_up(b)
                same(sorted(getattr(b, kind)(path)), ["one", "two"])
                same(len(getattr(b, kind)(path)), 2)
            catch_up(b)
            same(list(getattr(b, kind)(path)), ["one"])
            mine.leave()
            catch_up(b)
            same(list(getattr(b, kind)(path)), [])


def set_is_divided():
    with clients(2) as all_of_them:
        at = fresh(all_of_them[0]) + "/partition"
        catch_up(*all_of_them)
        whole = set(range(6))
        parts = [set(), set()]
        leaves = [threading.Event(), threading.Event()]

        def member(i):
            p = all_of_them[i].SetPartitioner(at, tuple(whole), identifier=f"n{i}",
                                              time_boundary=0.3, max_reaction_time=0.3)
            while not leaves[i].is_set():
                assert not p.failed, "the partitioner gave up"
                if p.release:
                    parts[i] = set()
                    p.release_set()
                elif p.acquired:
                    parts[i] = set(p)
                    leaves[i].wait(0.02)
                else:
                    p.wait_for_acquire(0.2)
            p.finish()

        def see():
            try:
                until(lambda: [len(p) for p in parts] == [3, 3], "three for each", 30)
                same(parts[0] | parts[1], whole)
                leaves[1].set()
                until(lambda: parts[0] == whole, "all of it for the one that stayed", 30)
            finally:
                for leaving in leaves:
                    leaving.set()
        in_threads([lambda: member(0), lambda: member(1), see])


# ---- queues ----

def queue_in_order_of_priority():
    with clients(2) as (a, b):
        at = fresh(a) + "/queue"
        queue = a.Queue(at)
        for word, priority in ((b"late", 900), (b"b1", 100), (b"first", 1), (b"b2", 100)):
            queue.put(word, priority)
        catch_up(b)
        other = b.Queue(at)
        same(len(other), 4)
        same([other.get() for _ in range(4)], [b"first", b"b1", b"b2", b"late"])
        same(other.get(), None)


def queue_gives_each_word_once():
    with clients(3) as (a, b, c):
        at = fresh(a) + "/queue"
        for i in range(30):
            a.Queue(at).put(str(i).encode())
        catch_up(b, c)
        got = {b: [], c: []}

        def take(mine):
            queue = mine.Queue(at)
            while (word := queue.get()) is not None:
                got[mine].append(int(word))
        in_threads([lambda: take(b), lambda: take(c)])
        same(sorted(got[b] + got[c]), list(range(30)))
        same((got[b], got[c]), (sorted(got[b]), sorted(got[c])))


def locking_queue():
    with clients(2) as (a, b):
        at = fresh(a) + "/queue"
        queue = a.LockingQueue(at)
        queue.put(b"one")
        queue.put_all([b"two", b"three"])
        with client() as dying:
            catch_up(dying)
            held = dying.LockingQueue(at)
            same((held.get(timeout=LIMIT), held.holds_lock()), (b"one", True))
            catch_up(b)
            other = b.LockingQueue(at)
            same(other.get(timeout=LIMIT), b"two")
            same(other.consume(), True)
        # Who took it is gone without having consumed it.
        catch_up(b)
        same(other.get(timeout=LIMIT), b"one")
        same(other.release(), True)
        same(other.get(timeout=LIMIT), b"one")
        same(other.consume(), True)
        same(other.get(timeout=LIMIT), b"three")
        same(other.consume(), True)
        same(other.get(timeout=0.2), None)


def locking_queue_waits_for_words():
    with clients(2) as (a, b):
        at = fresh(a) + "/queue"
        queue = a.LockingQueue(at)
        a.ensure_path(at)
        catch_up(b)
        got = []

        def take():
            mine = b.LockingQueue(at)
            for _ in range(10):
                got.append(mine.get(timeout=LIMIT))
                mine.consume()
        in_threads([take, lambda: [queue.put(str(i).encode()) for i in range(10)]])
        same(got, [str(i).encode() for i in range(10)])


# ---- barriers, counters, leases ----

def barrier():
    with clients(3) as (a, b, c):
        at = fresh(a) + "/barrier"
        mine = a.Barrier(at)
        mine.create()
        catch_up(b, c)
        same(b.Barrier(at).wait(0.2), False)
        passed = []
        threads = [threading.Thread(target=lambda x=x: passed.append(x.Barrier(at).wait(LIMIT)))
                   for x in (b, c)]
        for t in threads:
            t.start()
        same(mine.remove(), True)
        for t in threads:
            t.join(LIMIT)
        same(passed, [True, True])
        same(mine.remove(), False)


def double_barrier():
    with clients(3) as all_of_them:
        at = fresh(all_of_them[0]) + "/double"
        catch_up(*all_of_them)
        lock, inside, left = threading.Lock(), [], []

        def work(number, c):
            b = DoubleBarrier(c, at, 3, identifier=f"n{number}")
            b.enter()
            same(b.participating, True)
            with lock:
                inside.append(number)
            until(lambda: len(inside) == 3, "the others to enter")
            b.leave()
            with lock:
                left.append(number)
        in_threads([lambda i=i, c=c: work(i, c) for i, c in enumerate(all_of_them)])
        same(sorted(left), [0, 1, 2])


def counters():
    with clients(4) as all_of_them:
        at = fresh(all_of_them[0])
        catch_up(*all_of_them)

        def count(c):
            counter = c.Counter(at + "/n")
            retry = KazooRetry(max_tries=-1, delay=0.01, max_delay=0.1, max_jitter=0.1)
            for _ in range(10):
                # Two at once: the version tells, and the later one asks again.
                retry(change, counter)
        in_threads([lambda c=c: count(c) for c in all_of_them])
        c = all_of_them[0]
        catch_up(c)
        same(c.Counter(at + "/n").value, 40)
        half = c.Counter(at + "/half", default=1.0)
        half += 0.5
        same((half.value, half.pre_value, half.post_value), (1.5, 1.0, 1.5))
        curator = c.Counter(at + "/curator", support_curator=True)
        curator -= 2
        same(c.get(at + "/curator")[0], b"\xff\xff\xff\xfe")


def change(counter):
    from kazoo.exceptions import BadVersionError
    from kazoo.retry import ForceRetryError
    try:
        counter._inner_change(1)
    except BadVersionError as e:
        raise ForceRetryError() from e


def leases():
    with clients(2) as (a, b):
        at = fresh(a)
        now = [datetime.datetime(2024, 1, 1)]
        hour = datetime.timedelta(hours=1)

        def lease(c, name):
            catch_up(c)
            return bool(NonBlockingLease(c, at + "/one", hour, name, lambda: now[0]))
        same((lease(a, "a"), lease(b, "b"), lease(a, "a")), (True, False, True))
        now[0] += 2 * hour
        same((lease(b, "b"), lease(a, "a")), (True, False))

        def several(c, name):
            catch_up(c)
            return bool(MultiNonBlockingLease(c, 2, at + "/two", hour, name, lambda: now[0]))
        same([several(c, n) for c, n in ((a, "a"), (b, "b"), (a, "c"), (a, "a"))],
             [True, True, False, True])


# ---- watchers, caches ----

def watchers_see_every_state_in_order():
    with clients(2) as (a, b):
        at = fresh(a)
        catch_up(b)
        data, children, types = [], [], []

        @b.DataWatch(at)
        def changed(value, stat, event):
            data.append((value, stat.version))
            types.append(event.type if event else None)

        @b.ChildrenWatch(at, send_event=True)
        def children_changed(names, event):
            children.append(set(names))
        for i in range(10):
            a.set(at, str(i).encode())
            a.create(f"{at}/{i}", b"")
        until(lambda: data[-1][0] == b"9" and len(children[-1]) == 10, "the last")
        same(data, sorted(data, key=lambda d: d[1]))
        same(all(len(x) <= len(y) for x, y in zip(children, children[1:])), True)
        same(set(types), {None, "CHANGED"})
        # False ends it.
        ended = []

        @b.DataWatch(at)
        def once(value, stat):
            ended.append(value)
            return False
        a.set(at, b"more")
        until(lambda: data[-1][0] == b"more", "the change")
        same(len(ended), 1)


def patient_watch():
    with clients(2) as (a, b):
        at = fresh(a)
        catch_up(b)
        watch = PatientChildrenWatch(b, at, time_boundary=0.3)
        result = watch.start()
        for i in range(3):
            a.create(f"{at}/{i}", b"")
        names, later = result.get(timeout=LIMIT)
        until(lambda: len(names) == 3 or later.ready(), "three names or a further change")
        a.create(at + "/more", b"")
        assert later.wait(LIMIT), "a further change is not told"


def tree_cache():
    with clients(2) as (a, b):
        at = fresh(a)
        a.create(at + "/x/y", b"1", makepath=True)
        catch_up(b)
        cache, events = TreeCache(b, at), []
        cache.listen(lambda e: events.append(e))
        faults = []
        cache.listen_fault(faults.append)
        cache.start()
        until(lambda: any(e.event_type == TreeEvent.INITIALIZED for e in events),
              "the first state")
        same(cache.get_data(at + "/x/y").data, b"1")
        a.set(at + "/x/y", b"2")
        a.create(at + "/x/z", b"")
        a.create(at + "/x/z/deep", b"d")
        until(lambda: (d := cache.get_data(at + "/x/z/deep")) and d.data == b"d", "the new")
        until(lambda: cache.get_data(at + "/x/y").data == b"2", "the change")
        same(cache.get_children(at + "/x"), frozenset(("y", "z")))
        a.delete(at + "/x", recursive=True)
        until(lambda: cache.get_data(at + "/x") is None, "the end")
        cache.close()
        kinds = {e.event_type for e in events}
        same({TreeEvent.NODE_ADDED, TreeEvent.NODE_UPDATED, TreeEvent.NODE_REMOVED} <= kinds,
             True)
        same(faults, [])


def recipes_in_a_chroot():
    with client() as c:
        at = fresh(c)
        with client(hosts=battery.HOSTS + at) as inner:
            catch_up(inner)
            with inner.Lock("/lock", "x"):
                same(len(inner.get_children("/lock")), 1)
            inner.Queue("/queue").put(b"word")
            seen = []
            inner.DataWatch("/data", lambda d, s: seen.append(d))
            inner.create("/data", b"1")
            until(lambda: seen[-1:] == [b"1"], "the data")
        catch_up(c)
        same(sorted(c.get_children(at)), ["data", "lock", "queue"])


TESTS = [lock_says_who_waits, lock_can_be_cancelled, readers_share_writers_do_not,
         writers_in_turn_then_readers_together, semaphore_has_so_many_leases,
         semaphore_of_the_dead_and_of_another_size, one_leads_after_the_other,
         the_next_leads_when_the_leader_is_gone, parties, set_is_divided,
         queue_in_order_of_priority, queue_gives_each_word_once, locking_queue,
         locking_queue_waits_for_words, barrier, double_barrier, counters, leases,
         watchers_see_every_state_in_order, patient_watch, tree_cache, recipes_in_a_chroot]


def move():
    """A lock, a party, a cache and a queue go on when their session's server dies."""
    with client(timeout=8.0) as c, client(timeout=8.0) as other:
        at = fresh(c)
        catch_up(other)
        retry = KazooRetry(max_tries=-1, delay=0.1, max_delay=1.0, max_jitter=0.1, deadline=40)
        states = []
        c.add_listener(states.append)
        lock = c.Lock(at + "/lock", "mine")
        lock.acquire()
        c.ShallowParty(at + "/party", "mine").join()
        cache = TreeCache(c, at + "/tree")
        cache.start()
        children = []
        c.ChildrenWatch(at + "/queue", children.append) if c.ensure_path(at + "/queue") else 0
        print("on", c._connection._socket.getpeername()[0], flush=True)
        sys.stdin.readline()
        until(lambda: KazooState.SUSPENDED in states and states[-1] == KazooState.CONNECTED,
              "the session to move", 30)
        same(KazooState.LOST in states, False)
        retry(other.sync, at)
        same(retry(other.Lock(at + "/lock", "other").contenders), ["mine"])
        with refuses(LockTimeout):
            other.Lock(at + "/lock", "other").acquire(timeout=0.5)
        same(list(other.ShallowParty(at + "/party")), ["mine"])
        with contextlib.suppress(NodeExistsError):
            retry(other.create, at + "/tree/new", b"data")
        until(lambda: (d := cache.get_data(at + "/tree/new")) and d.data == b"data",
              "the cache to see the new znode")
        other.Queue(at + "/queue").put(b"word")
        until(lambda: children and len(children[-1]) == 1, "the watch to see the word")
        retry(c.sync, at)
        same(c.Queue(at + "/queue").get(), b"word")
        lock.release()
        same(other.Lock(at + "/lock", "other").acquire(timeout=LIMIT), True)
        print("moved to", c._connection._socket.getpeername()[0], flush=True)


def main():
    what, battery.HOSTS = sys.argv[1:3]
    if what == "all":
        sys.exit(1 if battery.run_all(TESTS) else 0)
    move()


if __name__ == "__main__":
    main()
