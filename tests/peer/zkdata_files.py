#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the small data directories that test_zkdata and fuzz_zkdata read: what a real
Apache ZooKeeper (Debian's package) wrote.

    zkdata_files.py [DIRECTORY]      default: tests/unit/zkdata

  all      snapshot.0 and one log with everything in it, and what the server then answered
           (expected.txt): access lists, sequences, containers, TTL znodes, a multi that went
           well and one that failed, failed requests, sessions open and closed, deleted
           znodes, quota, null data
  later    the same, started again: a snapshot with everything in it, digest part included,
           two sessions and their ephemerals still open, and a log that goes on
  plain    digest.enabled=false: no digests in log and snapshot, as before 3.6
The zeros at a log's end are cut to 64 bytes. Exit code 77: there is no ZooKeeper.
"""
import os
import shutil
import sys
import tempfile

import zk

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROPERTIES = ("zookeeper.extendedTypesEnabled=true", "zookeeper.preAllocSize=64",
              "znode.container.checkIntervalMs=3600000", "zookeeper.admin.enableServer=false")


def fill(port):
    a = zk.Connection(port)
    a.auth("digest", "joe:secret")
    a.must(zk.CREATE2, zk.create("/a", b"data of a"))
    a.must(zk.CREATE, zk.create("/a/b", b"", ((1, "world", "anyone"), (31, "digest", zk.digest("joe", "secret")))))
    a.must(zk.CREATE, zk.create("/a/null", None))
    a.must(zk.CREATE, zk.create("/a/ip", b"x", ((31, "ip", "10.0.0.0/8"),)))
    a.must(zk.CREATE, zk.create("/a/\u00fc\u20ac", "\u00fcber".encode()))
    for _ in range(3):
        a.must(zk.CREATE2, zk.create("/a/s-", b"seq", flags=2))
    a.must(zk.DELETE, zk.text("/a/s-0000000004") + zk.i32(-1))
    a.must(zk.SET, zk.text("/a") + zk.text(b"other data") + zk.i32(0))
    a.must(zk.SETACL, zk.text("/a/b") + zk.acl(((31, "world", "anyone"),)) + zk.i32(-1))
    a.must(zk.CONTAINER, zk.create("/box", b"c", flags=4))
    a.must(zk.CREATE, zk.create("/box/in", b"1"))
    a.must(zk.CREATE_TTL, zk.create("/ttl", b"t", flags=5, ttl=86400000))
    a.must(zk.CREATE_TTL, zk.create("/ttl/s-", b"t", flags=6, ttl=1099511627775))
    a.must(zk.MULTI, zk.multi((zk.CREATE, zk.create("/m", b"m")),
                              (zk.CREATE, zk.create("/m/1", b"1")),
                              (zk.SET, zk.text("/m") + zk.text(b"mm") + zk.i32(0)),
                              (zk.CHECK, zk.text("/a") + zk.i32(1)),
                              (zk.DELETE, zk.text("/m/1") + zk.i32(0))))
    a.must(zk.MULTI, zk.multi((zk.CREATE, zk.create("/never", b"n")),
                              (zk.DELETE, zk.text("/not there") + zk.i32(0)),
                              (zk.CREATE, zk.create("/never2", b"n"))))
    assert a.ask(zk.CREATE, zk.create("/a", b""))[0] == -110
    assert a.ask(zk.DELETE, zk.text("/a") + zk.i32(-1))[0] == -111
    for path, data in (("/zookeeper/quota/a", b""),
                       ("/zookeeper/quota/a/zookeeper_limits", b"count=100,bytes=-1"),
                       ("/zookeeper/quota/a/zookeeper_stats", b"count=0,bytes=0")):
        a.must(zk.CREATE, zk.create(path, data))
    a.must(zk.CREATE, zk.create("/a/counted", b"12345"))
    b = zk.Connection(port)
    b.must(zk.CREATE, zk.create("/a/gone", b"e", flags=1))
    b.must(zk.CREATE, zk.create("/box/gone-", b"e", flags=3))
    b.close()
    b = zk.Connection(port, 60000)
    b.must(zk.CREATE, zk.create("/a/here", b"e", flags=1))
    b.must(zk.CREATE2, zk.create("/a/here-", b"e", flags=3))
    a.must(zk.CREATE, zk.create("/mine", b"e", flags=1))
    b.drop()
    a.drop()


def expected(port):
    """Every znode, as the server itself says it: path, Stat, data, ACL."""
    lines = []
    for path, v in zk.dump(port, [("digest", "super:super")]).items():
        data = "null" if v.data is None else "=" + v.data.hex()
        lines.append(f"{path} {' '.join(str(n) for n in v.stat.values())} {data} {v.acl.hex()}\n")
    return sorted(lines, key=str.encode)


def keep(server, to, lines):
    os.makedirs(to, exist_ok=True)
    version = os.path.join(server.data, "version-2")
    for name in sorted(os.listdir(version)):
        with open(os.path.join(version, name), "rb") as f:
            data = f.read()
        if name.startswith("log."):
            data = data.rstrip(b"\0") + bytes(64)
        with open(os.path.join(to, name), "wb") as f:
            f.write(data)
    with open(os.path.join(to, "expected.txt"), "w", encoding="utf-8") as f:
        f.writelines(lines)


def make(to):
    directory = tempfile.mkdtemp(prefix="muster-zkdata-")
    secret = "zookeeper.DigestAuthenticationProvider.superDigest=" + zk.digest("super", "super")
    server = zk.Server(directory, properties=(*PROPERTIES, secret))
    try:
        server.start()
        fill(server.port)
        keep(server, os.path.join(to, "all"), expected(server.port))
        server.kill()
        server.start()
        c = zk.Connection(server.port)
        c.must(zk.CREATE, zk.create("/a/later", b"l"))
        c.drop()
        keep(server, os.path.join(to, "later"), expected(server.port))
        server.kill()
        shutil.rmtree(server.data)
        server = zk.Server(directory, properties=(*PROPERTIES, secret,
                                                  "zookeeper.digest.enabled=false",
                                                  "zookeeper.closeSessionTxn.enabled=false"))
        server.start()
        fill(server.port)
        server.kill()
        server.start()
        keep(server, os.path.join(to, "plain"), expected(server.port))
    finally:
        server.kill()
        shutil.rmtree(directory, ignore_errors=True)


if not zk.is_there():
    print("there is no ZooKeeper here")
    sys.exit(77)
make(sys.argv[1] if len(sys.argv) > 1 else os.path.join(TOP, "tests", "unit", "zkdata"))
