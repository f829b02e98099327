#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a ZooKeeper client expects, asked through kazoo (Debian's python3-kazoo).

    battery.py all HOSTS            every test; a line each: "ok NAME" or "FAILED NAME: why"
    battery.py move HOSTS           holds a session; says where it is; on a line from stdin
                                    it must still be the same session, on another server
    battery.py hold HOSTS PATH      makes an ephemeral znode and waits to be killed

The same tests run against muster and against Apache ZooKeeper: what passes there and
fails here is ours to mend, what fails at both is a mistake in the test.
"""
import contextlib
import itertools
import logging
import os
import subprocess
import sys
import threading
import time

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import (AuthFailedError, BadArgumentsError, BadVersionError,
                              ConnectionLoss, InvalidACLError, LockTimeout, NoAuthError,
                              NoChildrenForEphemeralsError, NodeExistsError, NoNodeError,
                              NotEmptyError, RolledBackError, RuntimeInconsistency,
                              UnimplementedError)
from kazoo.recipe.watchers import ChildrenWatch, DataWatch
from kazoo.retry import KazooRetry
from kazoo.security import (CREATOR_ALL_ACL, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, make_acl,
                            make_digest_acl, make_digest_acl_credential)

logging.basicConfig(level=logging.CRITICAL)
HOSTS = ""
LIMIT = 15.0
numbers = itertools.count(1)


@contextlib.contextmanager
def client(hosts=None, timeout=6.0, **options):
    c = KazooClient(hosts=hosts or HOSTS, timeout=timeout, **options)
    c.start(timeout=LIMIT)
    try:
        yield c
    finally:
        c.stop()
        c.close()


def fresh(c):
    """A place of its own for each test."""
    path = f"/battery/{os.getpid()}-{next(numbers)}"
    c.ensure_path(path)
    return path


def catch_up(*clients):
    """What others wrote through other servers is seen after a sync, and only then surely."""
    for c in clients:
        c.sync("/")


def until(condition, what, limit=LIMIT):
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"waited {limit:g} s for {what}"
        time.sleep(0.01)


def same(found, expected):
    assert found == expected, f"{found!r}, expected {expected!r}"


@contextlib.contextmanager
def refuses(error):
    try:
        yield
    except error:
        return
    raise AssertionError(f"no {error.__name__}")


# ---- znodes ----

def create_get_set_delete():
    with client() as c:
        at = fresh(c) + "/x"
        same(c.create(at, b"one"), at)
        data, stat = c.get(at)
        same(data, b"one")
        same((stat.version, stat.cversion, stat.aversion, stat.ephemeralOwner,
              stat.dataLength, stat.numChildren), (0, 0, 0, 0, 3, 0))
        same(stat.czxid, stat.mzxid)
        same(stat.czxid, stat.pzxid)
        assert abs(stat.ctime / 1000 - time.time()) < 60, "ctime is not the time"
        after = c.set(at, b"two!", version=0)
        same((after.version, after.dataLength), (1, 4))
        assert after.mzxid > stat.czxid and after.czxid == stat.czxid
        same(c.exists(at).mzxid, after.mzxid)
        c.delete(at, version=1)
        same(c.exists(at), None)


def errors_of_znodes():
    with client() as c:
        at = fresh(c)
        c.create(at + "/x", b"")
        with refuses(NodeExistsError):
            c.create(at + "/x", b"")
        with refuses(NoNodeError):
            c.create(at + "/no/such", b"")
        with refuses(NoNodeError):
            c.get(at + "/nothing")
        with refuses(NoNodeError):
            c.set(at + "/nothing", b"")
        with refuses(NoNodeError):
            c.delete(at + "/nothing")
        with refuses(NoNodeError):
            c.get_children(at + "/nothing")
        with refuses(BadVersionError):
            c.set(at + "/x", b"", version=7)
        with refuses(BadVersionError):
            c.delete(at + "/x", version=7)
        with refuses(NotEmptyError):
            c.delete(at)


def children_and_their_counts():
    with client() as c:
        at = fresh(c)
        for name in ("b", "a", "\u00fcml\u00e4ut", "c"):
            c.create(f"{at}/{name}", b"")
        names, stat = c.get_children(at, include_data=True)
        same(sorted(names), ["a", "b", "c", "\u00fcml\u00e4ut"])
        same((stat.numChildren, stat.cversion), (4, 4))
        c.delete(at + "/b")
        stat = c.exists(at)
        same((stat.numChildren, stat.cversion, stat.version), (3, 5, 0))


def empty_and_large_data():
    with client() as c:
        at = fresh(c)
        c.create(at + "/empty", b"")
        same(c.get(at + "/empty")[0], b"")
        large = bytes(range(256)) * 3600  # 900 KB: below jute.maxbuffer
        c.create(at + "/large", large)
        same(c.get(at + "/large")[0] == large, True)


def create2_gives_the_stat():
    with client() as c:
        at = fresh(c)
        path, stat = c.create(at + "/x", b"abc", include_data=True)
        same(path, at + "/x")
        same((stat.version, stat.dataLength, stat.czxid), (0, 3, c.exists(at + "/x").czxid))


def acls_are_kept():
    with client() as c:
        at = fresh(c)
        acl = [make_acl("world", "anyone", read=True, create=True, delete=True, write=True,
                        admin=True),
               make_acl("digest", make_digest_acl_credential("me", "secret"), all=True)]
        c.create(at + "/x", b"", acl=acl)
        found, stat = c.get_acls(at + "/x")
        same(sorted(map(str, found)), sorted(map(str, acl)))
        same(stat.aversion, 0)


def chroot():
    with client() as c:
        at = fresh(c)
        with client(hosts=HOSTS + at) as inner:
            inner.create("/x", b"in")
            same(inner.get_children("/"), ["x"])
        catch_up(c)
        same(c.get(at + "/x")[0], b"in")


# ---- sequences, ephemerals ----

def sequence():
    with client() as c:
        at = fresh(c)
        same([c.create(at + "/n-", b"", sequence=True) for _ in range(3)],
             [f"{at}/n-{i:010d}" for i in range(3)])
        # The number counts the changes of the children, also those that went.
        c.delete(at + "/n-0000000001")
        c.create(at + "/other", b"")
        number = int(c.create(at + "/n-", b"", sequence=True)[-10:])
        assert number >= 4, number


def ephemeral():
    with client() as watcher:
        at = fresh(watcher)
        with client() as c:
            c.create(at + "/e", b"", ephemeral=True)
            path = c.create(at + "/s-", b"", ephemeral=True, sequence=True)
            catch_up(watcher)
            same(watcher.exists(at + "/e").ephemeralOwner, c.client_id[0])
            with refuses(NoChildrenForEphemeralsError):
                c.create(at + "/e/x", b"")
            same(watcher.exists(path) is not None, True)
        # Closing a session is a write: when it is answered, its znodes are gone.
        watcher.sync(at)
        same(watcher.get_children(at), [])


def ephemeral_of_a_dead_client():
    with client() as c:
        at = fresh(c)
        p = subprocess.Popen([sys.executable, __file__, "hold", HOSTS, at + "/e"],
                             stdout=subprocess.PIPE)
        try:
            p.stdout.readline()
            catch_up(c)
            same(c.exists(at + "/e") is not None, True)
        finally:
            p.kill()
            p.wait()
        begun = time.monotonic()
        until(lambda: c.exists(at + "/e") is None, "the session to expire")
        took = time.monotonic() - begun
        assert took > 1.0, f"a session of 2 s was over after {took:.2f} s"


# ---- watches ----

def watches_fire_once():
    with client() as c, client() as other:
        at = fresh(c)
        seen = []
        c.exists(at + "/x", watch=seen.append)
        catch_up(other)
        other.create(at + "/x", b"")
        until(lambda: len(seen) == 1, "the creation")
        same((seen[0].type, seen[0].path), ("CREATED", at + "/x"))
        c.get(at + "/x", watch=seen.append)
        other.set(at + "/x", b"1")
        other.set(at + "/x", b"2")
        until(lambda: len(seen) == 2, "the change")
        same((seen[1].type, seen[1].path), ("CHANGED", at + "/x"))
        c.get_children(at, watch=seen.append)
        other.create(at + "/y", b"")
        until(lambda: len(seen) == 3, "the child")
        same((seen[2].type, seen[2].path), ("CHILD", at))
        c.exists(at + "/x", watch=seen.append)
        other.delete(at + "/x")
        until(lambda: len(seen) == 4, "the deletion")
        same((seen[3].type, seen[3].path), ("DELETED", at + "/x"))
        # Everything that was announced before this answer would have come before it.
        c.sync(at)
        c.get_children(at)
        same(len(seen), 4)


def watch_comes_before_the_data():
    with client() as c, client() as other:
        at = fresh(c) + "/x"
        c.create(at, b"0")
        for i in range(1, 30):
            seen = []
            c.get(at, watch=seen.append)
            other.set(at, str(i).encode())
            while c.get(at)[0] != str(i).encode():
                pass
            # kazoo hands events to a thread of its own, in their order.
            done = threading.Event()
            c.handler.dispatch_callback(type("Callback", (), dict(
                type="callback", func=staticmethod(done.set), args=()))())
            assert done.wait(LIMIT)
            same(len(seen), 1)


def data_and_children_watch_recipes():
    with client() as c, client() as other:
        at = fresh(c)
        data, children = [], []
        DataWatch(c, at + "/x", lambda d, s: data.append(d))
        ChildrenWatch(c, at, lambda names: children.append(sorted(names)))
        other.create(at + "/x", b"1")
        until(lambda: data and data[-1] == b"1" and children[-1] == ["x"], "the first")
        other.set(at + "/x", b"2")
        until(lambda: data[-1] == b"2", "the second")
        other.delete(at + "/x")
        until(lambda: data[-1] is None and children[-1] == [], "the end")


# ---- transactions, order ----

def transaction():
    with client() as c:
        at = fresh(c)
        c.create(at + "/x", b"")
        t = c.transaction()
        t.check(at + "/x", 0)
        t.create(at + "/y", b"y")
        t.set_data(at + "/x", b"new")
        t.delete(at + "/y")
        results = t.commit()
        same([type(r).__name__ for r in results], ["bool", "str", "ZnodeStat", "bool"])
        same(c.get_children(at), ["x"])
        t = c.transaction()
        t.create(at + "/z", b"")
        t.delete(at + "/nothing")
        t.create(at + "/zz", b"")
        results = t.commit()
        same([type(r) for r in results], [RolledBackError, NoNodeError, RuntimeInconsistency])
        same(c.get_children(at), ["x"])


def many_in_flight_keep_their_order():
    with client() as c:
        at = fresh(c)
        asked = [c.create_async(at + "/n-", b"", sequence=True) for _ in range(500)]
        reads = [c.set_async(at, str(i).encode()) for i in range(100)] + [c.get_async(at)]
        same([a.get(timeout=LIMIT) for a in asked], [f"{at}/n-{i:010d}" for i in range(500)])
        same(reads[-1].get(timeout=LIMIT)[0], b"99")
        versions = [r.get(timeout=LIMIT).version for r in reads[:-1]]
        same(versions, list(range(1, 101)))


def sync_sees_the_others():
    with client() as c, client() as other:
        at = fresh(c)
        for i in range(20):
            other.set(at, str(i).encode())
            c.sync(at)
            same(c.get(at)[0], str(i).encode())


# ---- recipes ----

def lock_recipe():
    with client() as c:
        at = fresh(c)
        inside, worst, total = [0], [0], [0]

        def work(number):
            with client() as mine:
                for _ in range(5):
                    with mine.Lock(at + "/lock", f"worker {number}"):
                        inside[0] += 1
                        worst[0] = max(worst[0], inside[0])
                        total[0] += 1
                        inside[0] -= 1
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)
        same((worst[0], total[0]), (1, 20))
        catch_up(c)
        same(c.get_children(at + "/lock"), [])


def lock_of_a_dead_client():
    with client() as c:
        at = fresh(c)
        holder = KazooClient(hosts=HOSTS, timeout=6.0)
        holder.start(timeout=LIMIT)
        held = holder.Lock(at + "/lock", "first")
        held.acquire()
        catch_up(c)
        lock = c.Lock(at + "/lock", "second")
        with refuses(LockTimeout):
            lock.acquire(timeout=0.3)
        same(lock.contenders(), ["first"])
        holder.stop()
        same(lock.acquire(timeout=LIMIT), True)
        lock.release()


def other_recipes():
    with client() as c, client() as other:
        at = fresh(c)
        counter = c.Counter(at + "/counter")
        counter += 2
        counter -= 5
        catch_up(other)
        same(other.Counter(at + "/counter").value, -3)
        queue = c.Queue(at + "/queue")
        for word in (b"a", b"b", b"c"):
            queue.put(word)
        catch_up(other)
        same([other.Queue(at + "/queue").get() for _ in range(3)], [b"a", b"b", b"c"])
        barrier = c.Barrier(at + "/barrier")
        barrier.create()
        catch_up(other)
        passed = []
        waiter = threading.Thread(target=lambda: passed.append(
            other.Barrier(at + "/barrier").wait(LIMIT)))
        waiter.start()
        barrier.remove()
        waiter.join(LIMIT)
        same(passed, [True])
        semaphore = c.Semaphore(at + "/semaphore", max_leases=2)
        with semaphore, other.Semaphore(at + "/semaphore", max_leases=2):
            catch_up(c)
            third = c.Semaphore(at + "/semaphore", max_leases=2)
            same(third.acquire(blocking=False), False)
        elected = []
        catch_up(other)
        c.Election(at + "/election", "one").run(lambda: elected.append("one"))
        other.Election(at + "/election", "two").run(lambda: elected.append("two"))
        same(elected, ["one", "two"])


# ---- who may ----

ME, OTHER, SUPER = "me:secret", "other:word", "super:test"


def digest_of(user_and_password):
    return make_digest_acl(*user_and_password.split(":"), all=True)


def acls_are_enforced():
    with client() as c, client() as stranger:
        at = fresh(c) + "/x"
        c.add_auth("digest", ME)
        c.create(at, b"mine", acl=[digest_of(ME)])
        same(c.get(at)[0], b"mine")
        catch_up(stranger)
        with refuses(NoAuthError):
            stranger.get(at)
        with refuses(NoAuthError):
            stranger.get_children(at)
        with refuses(NoAuthError):
            stranger.set(at, b"")
        with refuses(NoAuthError):
            stranger.create(at + "/y", b"")
        with refuses(NoAuthError):
            stranger.get_acls(at)
        with refuses(NoAuthError):
            stranger.set_acls(at, OPEN_ACL_UNSAFE)
        # The parent decides who may delete.
        stranger.delete(at)
        catch_up(c)
        same(c.exists(at), None)


def each_permission_allows_its_own():
    with client() as c, client() as owner:
        at = fresh(c)
        owner.add_auth("digest", ME)
        # What each call needs; everything else is refused with that permission alone.
        calls = {"read": lambda p: (c.get(p), c.get_children(p)),
                 "write": lambda p: c.set(p, b"new"),
                 "create": lambda p: c.create(p + "/new", b""),
                 "delete": lambda p: c.delete(p + "/child"),
                 "admin": lambda p: c.set_acls(p, OPEN_ACL_UNSAFE)}
        for allowed in calls:
            path = f"{at}/{allowed}"
            owner.create(path, b"")
            owner.create(path + "/child", b"")
            owner.set_acls(path, [digest_of(ME), make_acl("world", "anyone",
                                                          **{allowed: True})])
            catch_up(c)
            for name, call in calls.items():
                if name == allowed:
                    continue
                with refuses(NoAuthError):
                    call(path)
            calls[allowed](path)


def several_identities_on_a_connection():
    with client() as c, client() as both:
        at = fresh(c)
        c.create(at + "/me", b"1", acl=[digest_of(ME)])
        c.create(at + "/other", b"2", acl=[digest_of(OTHER)])
        catch_up(both)
        both.add_auth("digest", ME)
        same(both.get(at + "/me")[0], b"1")
        with refuses(NoAuthError):
            both.get(at + "/other")
        both.add_auth("digest", OTHER)
        same((both.get(at + "/me")[0], both.get(at + "/other")[0]), (b"1", b"2"))


def creator_all_is_who_asks():
    with client() as c, client(auth_data=[("digest", ME)]) as owner:
        at = fresh(c)
        with refuses(InvalidACLError):
            c.create(at + "/x", b"", acl=CREATOR_ALL_ACL)
        catch_up(owner)
        owner.create(at + "/x", b"data", acl=CREATOR_ALL_ACL)
        found, _ = owner.get_acls(at + "/x")
        same([(a.perms, a.id.scheme, a.id.id) for a in found],
             [(31, "digest", make_digest_acl_credential(*ME.split(":")))])
        catch_up(c)
        with refuses(NoAuthError):
            c.get(at + "/x")


def address_acl():
    with client() as c:
        at = fresh(c)
        mine = c._connection._socket.getsockname()[0]
        c.create(at + "/mine", b"data", acl=[make_acl("ip", mine, all=True)])
        c.create(at + "/near", b"data", acl=[make_acl("ip", mine + "/24", all=True)])
        c.create(at + "/far", b"data", acl=[make_acl("ip", "192.0.2.1", all=True)])
        same((c.get(at + "/mine")[0], c.get(at + "/near")[0]), (b"data", b"data"))
        with refuses(NoAuthError):
            c.get(at + "/far")
        with refuses(InvalidACLError):
            c.create(at + "/x", b"", acl=[make_acl("ip", "300.0.0.1", all=True)])


def super_user_may_everything():
    with client() as c, client(auth_data=[("digest", SUPER)]) as admin:
        at = fresh(c)
        c.create(at + "/x", b"data", acl=[digest_of(OTHER)])
        with refuses(NoAuthError):
            c.get(at + "/x")
        catch_up(admin)
        same(admin.get(at + "/x")[0], b"data")
        admin.set_acls(at + "/x", OPEN_ACL_UNSAFE)
        catch_up(c)
        same(c.get(at + "/x")[0], b"data")


def nonsense_in_acls_is_refused():
    with client() as c:
        at = fresh(c) + "/x"
        for acl in ([make_acl("world", "me", all=True)], [make_acl("nobody", "x", all=True)],
                    [make_acl("digest", "no colon", all=True)],
                    [make_acl("digest", "two:col:ons", all=True)]):
            with refuses(InvalidACLError):
                c.create(at, b"", acl=acl)
        same(c.exists(at), None)
        c.create(at, b"")
        with refuses(InvalidACLError):
            c.set_acls(at, [make_acl("world", "me", all=True)])
        stat = c.set_acls(at, READ_ACL_UNSAFE, version=0)
        same((stat.aversion, stat.version), (1, 0))


def acl_versions():
    with client() as c:
        at = fresh(c) + "/x"
        c.create(at, b"")
        with refuses(BadVersionError):
            c.set_acls(at, OPEN_ACL_UNSAFE, version=3)
        same(c.set_acls(at, OPEN_ACL_UNSAFE, version=0).aversion, 1)
        same(c.set_acls(at, OPEN_ACL_UNSAFE).aversion, 2)
        with refuses(NoNodeError):
            c.set_acls(at + "/nothing", OPEN_ACL_UNSAFE)
        with refuses(NoNodeError):
            c.get_acls(at + "/nothing")


def digests_of_others_are_masked():
    with client() as c, client() as owner:
        at = fresh(c) + "/x"
        owner.add_auth("digest", ME)
        catch_up(owner)
        owner.create(at, b"", acl=[digest_of(ME), make_acl("world", "anyone", read=True)])
        catch_up(c)
        ids = sorted(a.id.id for a in c.get_acls(at)[0])
        same(ids, ["anyone", "me:x"])
        ids = sorted(a.id.id for a in owner.get_acls(at)[0])
        same(ids, ["anyone", make_digest_acl_credential(*ME.split(":"))])


def who_may_is_kept_over_a_broken_connection():
    with client() as c:
        at = fresh(c) + "/x"
        c.add_auth("digest", ME)
        c.create(at, b"mine", acl=[digest_of(ME)])
        states = []
        c.add_listener(states.append)
        c._connection._socket.shutdown(2)
        until(lambda: states[-1:] == [KazooState.CONNECTED], "the connection to come back")
        same(c.get(at)[0], b"mine")


def unknown_scheme_fails():
    c = KazooClient(hosts=HOSTS, timeout=6.0)
    c.start(timeout=LIMIT)
    try:
        with refuses(AuthFailedError):
            c.add_auth("nobody", "me")
        # The server has hung up; kazoo holds the session for lost.
        until(lambda: not c.connected, "the connection to end")
    finally:
        c.stop()
        c.close()


def transactions_ask_who_may():
    with client() as c:
        at = fresh(c)
        c.create(at + "/closed", b"", acl=[digest_of(ME)])
        t = c.transaction()
        t.create(at + "/y", b"")
        t.set_data(at + "/closed", b"new")
        same([type(r) for r in t.commit()], [RolledBackError, NoAuthError])
        c.add_auth("digest", ME)
        t = c.transaction()
        t.create(at + "/y", b"", acl=CREATOR_ALL_ACL)
        t.check(at + "/closed", 0)
        t.set_data(at + "/closed", b"new")
        same([type(r).__name__ for r in t.commit()], ["str", "bool", "ZnodeStat"])
        same(c.get_acls(at + "/y")[0][0].id.id, make_digest_acl_credential(*ME.split(":")))


# ---- around the tree ----

def built_in_znodes():
    with client() as c:
        assert "zookeeper" in c.get_children("/")
        same(sorted(c.get_children("/zookeeper")), ["config", "quota"])
        for path in ("/zookeeper", "/zookeeper/quota", "/zookeeper/config"):
            with refuses(BadArgumentsError):
                c.delete(path)
        with refuses(NoAuthError):
            c.set("/zookeeper/config", b"server.9=nowhere")


def reconfig_needs_a_right():
    with client() as c:
        # One server alone has no configuration to change (UNIMPLEMENTED); an ensemble says
        # NOAUTH to who is nobody.
        try:
            c.reconfig(joining="server.9=10.0.0.9:2888:3888;2181", leaving=None,
                       new_members=None)
            raise AssertionError("reconfig was done for somebody without a right")
        except (NoAuthError, UnimplementedError) as e:
            expected = NoAuthError if "," in HOSTS else UnimplementedError
            same(type(e), expected)


def server_version_and_words():
    with client() as c:
        version = c.server_version()
        assert version[:2] >= (3, 6), version
        same(c.command(b"ruok"), "imok")
        same(c.command(b"isro"), "rw")
        words = c.command(b"srvr")
        assert "\nMode: " in words and "\nZxid: 0x" in words, words
        assert "zk_znode_count\t" in c.command(b"mntr"), "mntr has no zk_znode_count"
        assert f"0x{c.client_id[0]:x}" in c.command(b"cons"), "cons does not know the session"


def create_makes_the_way():
    with client() as c:
        at = fresh(c)
        same(c.create(at + "/a/b/c", b"x", makepath=True), at + "/a/b/c")
        c.ensure_path(at + "/a/b/d")
        same(sorted(c.get_children(at + "/a/b")), ["c", "d"])
        c.delete(at + "/a", recursive=True)
        same(c.exists(at + "/a"), None)


def retry_goes_on_over_broken_connections():
    with client() as c:
        at = fresh(c)
        retry = KazooRetry(max_tries=20, delay=0.05, max_delay=0.5, max_jitter=0.1)
        for i in range(5):
            asked = c.get_async(at)
            with contextlib.suppress(OSError, AttributeError):
                c._connection._socket.shutdown(2)
            retry(c.set, at, str(i).encode())
            with contextlib.suppress(ConnectionLoss):
                asked.get(timeout=LIMIT)
            same(retry(c.get, at)[0], str(i).encode())
        with refuses(NoNodeError):
            retry(c.get, at + "/nothing")


def paths_that_are_none():
    with client() as c:
        at = fresh(c)
        for name in ("/a/../b", "/.", "/a//b"):
            with refuses((ValueError, BadArgumentsError, NoNodeError)):
                c.create(at + name, b"")
        with refuses(BadArgumentsError):
            c.create(at + "/\u0001", b"")


# ---- sessions ----

def session_goes_on_over_a_broken_connection():
    with client() as c:
        at = fresh(c)
        c.create(at + "/e", b"", ephemeral=True)
        session = c.client_id
        states = []
        c.add_listener(states.append)
        # kazoo's own way to lose the connection, as its test harness does it.
        c._connection._socket.shutdown(2)
        until(lambda: states[-1:] == [KazooState.CONNECTED], "the connection to come back")
        same((states, c.client_id), ([KazooState.SUSPENDED, KazooState.CONNECTED], session))
        same(c.exists(at + "/e").ephemeralOwner, session[0])


def watch_survives_a_broken_connection():
    with client() as c, client() as other:
        at = fresh(c)
        c.create(at + "/x", b"")
        seen, states = [], []
        c.get(at + "/x", watch=seen.append)
        c.add_listener(states.append)
        c._connection._socket.shutdown(2)
        until(lambda: states[-1:] == [KazooState.CONNECTED], "the connection to come back")
        # kazoo 2.8 tells each watcher that the connection was lost, and forgets it.
        until(lambda: seen, "the watcher to be told")
        c.get(at + "/x", watch=seen.append)
        other.set(at + "/x", b"1")
        until(lambda: seen[-1].type == "CHANGED", "the change")


def wrong_password_is_refused():
    with client() as c:
        session, _ = c.client_id
        states = []
        thief = KazooClient(hosts=HOSTS, timeout=6.0, client_id=(session, b"x" * 16))
        thief.add_listener(states.append)
        thief.start(timeout=LIMIT)
        try:
            assert thief.client_id[0] != session, "a session was taken with a wrong password"
        finally:
            thief.stop()
            thief.close()
        same(c.exists("/") is not None, True)


TESTS = [create_get_set_delete, errors_of_znodes, children_and_their_counts,
         empty_and_large_data, create2_gives_the_stat, acls_are_kept, chroot, sequence,
         ephemeral, ephemeral_of_a_dead_client, watches_fire_once, watch_comes_before_the_data,
         data_and_children_watch_recipes, transaction, many_in_flight_keep_their_order,
         sync_sees_the_others, lock_recipe, lock_of_a_dead_client, other_recipes,
         session_goes_on_over_a_broken_connection, watch_survives_a_broken_connection,
         wrong_password_is_refused, acls_are_enforced, each_permission_allows_its_own,
         several_identities_on_a_connection, creator_all_is_who_asks, address_acl,
         super_user_may_everything, nonsense_in_acls_is_refused, acl_versions,
         digests_of_others_are_masked, who_may_is_kept_over_a_broken_connection,
         unknown_scheme_fails, transactions_ask_who_may, built_in_znodes,
         reconfig_needs_a_right, server_version_and_words, create_makes_the_way,
         retry_goes_on_over_broken_connections, paths_that_are_none]


def run_all(tests):
    failed = 0
    for test in tests:
        name = test.__name__.replace("_", " ")
        try:
            test()
            print(f"ok {name}", flush=True)
        except Exception as e:  # kazoo's errors, a handler's own timeout type, ours
            failed += 1
            print(f"FAILED {name}: {type(e).__name__} {e}", flush=True)
    return failed


def move():
    """Tells where the session is, waits for a word, and shows that it went on."""
    with client(timeout=8.0) as c:
        at = fresh(c)
        c.create(at + "/e", b"mine", ephemeral=True)
        session = c.client_id
        states, seen = [], []
        c.add_listener(states.append)
        DataWatch(c, at, lambda d, s: seen.append(d))
        print("on", c._connection._socket.getpeername()[0], flush=True)
        sys.stdin.readline()
        until(lambda: KazooState.SUSPENDED in states and states[-1] == KazooState.CONNECTED,
              "the session to move", 30)
        same(c.client_id, session)
        same(KazooState.LOST in states, False)
        same(c.exists(at + "/e").ephemeralOwner, session[0])
        c.set(at, b"after the move")
        until(lambda: seen[-1] == b"after the move", "the watch to follow the session")
        print("moved to", c._connection._socket.getpeername()[0], flush=True)


def main():
    global HOSTS
    what, HOSTS = sys.argv[1:3]
    if what == "all":
        sys.exit(1 if run_all(TESTS) else 0)
    if what == "move":
        move()
    if what == "hold":
        c = KazooClient(hosts=HOSTS, timeout=2.0)
        c.start(timeout=LIMIT)
        c.create(sys.argv[3], b"", ephemeral=True)
        print("held", flush=True)
        time.sleep(600)


if __name__ == "__main__":
    main()
