// SPDX-License-Identifier: Apache-2.0
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.AsyncCallback;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.StatsTrack;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.Watcher.WatcherType;
import org.apache.zookeeper.ZKUtil;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooDefs.Perms;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.admin.ZooKeeperAdmin;
import org.apache.zookeeper.cli.DelQuotaCommand;
import org.apache.zookeeper.cli.SetQuotaCommand;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.ClientInfo;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;

/**
 * What a ZooKeeper client expects, asked through the Java client (Debian's libzookeeper-java).
 *
 *   java BatteryApi all HOSTS    every test; a line each: "ok NAME" or "FAILED NAME: why"
 *   java BatteryApi move HOSTS   holds a session; on a line from stdin it must still be the
 *                                same session, on another server
 */
class BatteryApi extends Battery {
    private static final byte[] ONE = {'1'}, TWO = {'2'};
    private static final String ME = "me:secret", MY_DIGEST = "me:016djjlksVQS5RgX3M7biBGyYwY=";

    interface WithSession {
        void run(ZooKeeper zk, String at, Seen seen) throws Exception;
    }

    /** A test with a session, what its watcher sees, and a place of its own. */
    private static void session(String name, WithSession test) {
        test(name, () -> {
            Seen seen = new Seen();
            try (ZooKeeper zk = open(hosts, seen)) {
                test.run(zk, fresh(zk), seen);
            }
        });
    }

    private static List<String> sorted(List<String> names) {
        return new ArrayList<>(new TreeSet<>(names));
    }

    // ---- znodes ----

    private static void znodes(ZooKeeper zk, String at, Seen seen) throws Exception {
        String x = at + "/x";
        Stat stat = new Stat();
        same(zk.create(x, ONE, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, stat), x);
        same(stat, zk.exists(x, false));
        same(stat.getDataLength(), 1);
        refuses(Code.NODEEXISTS, () -> make(zk, x, CreateMode.PERSISTENT));
        refuses(Code.NONODE, () -> make(zk, at + "/no/such", CreateMode.PERSISTENT));
        refuses(Code.BADVERSION, () -> zk.setData(x, TWO, 3));
        Stat after = zk.setData(x, TWO, 0);
        same(after.getVersion(), 1);
        same(zk.getData(x, false, stat), TWO);
        same(stat, after);
        check(stat.getMzxid() > stat.getCzxid() && stat.getMtime() >= stat.getCtime(), "times");
        zk.setData(x, null, -1);
        same(zk.getData(x, false, null), null);
        make(zk, x + "/a", CreateMode.PERSISTENT);
        make(zk, x + "/b", CreateMode.PERSISTENT);
        same(sorted(zk.getChildren(x, false)), Arrays.asList("a", "b"));
        zk.getChildren(x, false, stat);
        same(Arrays.asList(stat.getNumChildren(), stat.getCversion()), Arrays.asList(2, 2));
        refuses(Code.NOTEMPTY, () -> zk.delete(x, -1));
        same(zk.getAllChildrenNumber(at), 3);
        zk.delete(x + "/a", 0);
        zk.delete(x + "/b", -1);
        refuses(Code.BADVERSION, () -> zk.delete(x, 0));
        zk.delete(x, 2);
        same(zk.exists(x, false), null);
        refuses(Code.NONODE, () -> zk.delete(x, -1));
        refuses(Code.NONODE, () -> zk.getAllChildrenNumber(x));
    }

    private static void sequences(ZooKeeper zk, String at, Seen seen) throws Exception {
        same(make(zk, at + "/n-", CreateMode.PERSISTENT_SEQUENTIAL), at + "/n-0000000000");
        String mine = make(zk, at + "/n-", CreateMode.EPHEMERAL_SEQUENTIAL);
        same(mine, at + "/n-0000000001");
        same(zk.exists(mine, false).getEphemeralOwner(), zk.getSessionId());
        same(make(zk, at + "/", CreateMode.PERSISTENT_SEQUENTIAL), at + "/0000000002");
    }

    private static void ephemerals(ZooKeeper zk, String at, Seen seen) throws Exception {
        ZooKeeper other = open();
        catchUp(other);
        make(other, at + "/b", CreateMode.EPHEMERAL);
        make(other, at + "/a", CreateMode.EPHEMERAL);
        refuses(Code.NOCHILDRENFOREPHEMERALS,
                () -> make(other, at + "/a/x", CreateMode.PERSISTENT));
        same(sorted(other.getEphemerals()), Arrays.asList(at + "/a", at + "/b"));
        same(other.getEphemerals(at + "/a"), Collections.singletonList(at + "/a"));
        same(other.getEphemerals("/nowhere"), Collections.emptyList());
        same(zk.getEphemerals(), Collections.emptyList());
        other.close();
        catchUp(zk);
        same(zk.getChildren(at, false), Collections.emptyList());
    }

    private static void containers(ZooKeeper zk, String at, Seen seen) throws Exception {
        Stat stat = new Stat();
        zk.create(at + "/c", ONE, Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER, stat);
        same(stat.getEphemeralOwner(), 0L);
        zk.exists(at + "/c", true);
        make(zk, at + "/c/x", CreateMode.PERSISTENT);
        zk.delete(at + "/c/x", -1);
        seen.await("NodeDeleted " + at + "/c");
    }

    private static void ttls(ZooKeeper zk, String at, Seen seen) throws Exception {
        Stat stat = new Stat();
        zk.create(at + "/t", ONE, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, stat,
                1000);
        same(stat.getEphemeralOwner(), 0L);
        zk.exists(at + "/t", true);
        same(zk.create(at + "/s-", ONE, Ids.OPEN_ACL_UNSAFE,
                CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL, stat, 3600000),
                at + "/s-0000000001");
        // A child keeps it.
        zk.create(at + "/p", ONE, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, null,
                200);
        make(zk, at + "/p/child", CreateMode.PERSISTENT);
        seen.await("NodeDeleted " + at + "/t");
        check(zk.exists(at + "/p", false) != null, "a TTL node with a child is gone");
        check(zk.exists(at + "/s-0000000001", false) != null, "gone before its hour");
    }

    private static void badArguments(ZooKeeper zk, String at, Seen seen) throws Exception {
        for (String path : new String[] {"/zookeeper", "/zookeeper/quota",
                                         "/zookeeper/config"}) {
            refuses(Code.BADARGUMENTS, () -> zk.delete(path, -1));
        }
        for (String path : new String[] {"x", "/a/", "/a//b", "/a/./b", "/a/../b", "/\u0001"}) {
            try {
                make(zk, path, CreateMode.PERSISTENT);
            } catch (IllegalArgumentException e) {
                continue; // the client's own opinion
            }
            throw new AssertionError("the path " + path + " was taken");
        }
        // Just below jute.maxbuffer with the rest of the request; then above.
        zk.create(at + "/large", new byte[1048000], Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        same(zk.getData(at + "/large", false, null).length, 1048000);
        refuses(Code.CONNECTIONLOSS, () -> zk.setData(at + "/large", new byte[1100000], -1));
        until(() -> seen.isIn(KeeperState.SyncConnected), "the connection to come back");
    }

    // ---- multi ----

    private static void transactions(ZooKeeper zk, String at, Seen seen) throws Exception {
        List<ACL> acl = Ids.OPEN_ACL_UNSAFE;
        List<OpResult> results = zk.multi(Arrays.asList(
                Op.create(at + "/x", ONE, acl, CreateMode.PERSISTENT),
                Op.setData(at + "/x", TWO, 0), Op.check(at + "/x", 1),
                Op.create(at + "/n-", ONE, acl, CreateMode.EPHEMERAL_SEQUENTIAL),
                Op.create(at + "/c", ONE, acl, CreateMode.CONTAINER),
                Op.create(at + "/t", ONE, acl, CreateMode.PERSISTENT_WITH_TTL, 3600000),
                Op.create(at + "/y", ONE, acl, CreateMode.PERSISTENT),
                Op.delete(at + "/y", -1)));
        same(((OpResult.CreateResult) results.get(0)).getPath(), at + "/x");
        same(((OpResult.SetDataResult) results.get(1)).getStat().getVersion(), 1);
        same(((OpResult.CreateResult) results.get(3)).getPath(), at + "/n-0000000001");
        Stat x = zk.exists(at + "/x", false);
        same(x.getCzxid(), zk.exists(at + "/t", false).getCzxid());
        same(x.getCzxid(), x.getMzxid());
        try {
            zk.multi(Arrays.asList(Op.delete(at + "/x", -1), Op.check(at + "/nothing", 0),
                    Op.create(at + "/z", ONE, acl, CreateMode.PERSISTENT)));
            throw new AssertionError("a transaction with a failing check was done");
        } catch (KeeperException e) {
            List<Integer> codes = new ArrayList<>();
            for (OpResult r : e.getResults()) {
                codes.add(((OpResult.ErrorResult) r).getErr());
            }
            same(codes, Arrays.asList(0, Code.NONODE.intValue(),
                    Code.RUNTIMEINCONSISTENCY.intValue()));
        }
        same(zk.multi(Collections.emptyList()), Collections.emptyList());
        zk.transaction().check(at + "/x", 1).delete(at + "/x", 1).commit();
        same(zk.exists(at + "/x", false), null);
    }

    private static void severalReads(ZooKeeper zk, String at, Seen seen) throws Exception {
        zk.create(at + "/x", ONE, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        List<OpResult> results = zk.multi(Arrays.asList(Op.getData(at + "/x"),
                Op.getChildren(at), Op.getData(at + "/nothing"), Op.getData(at)));
        same(((OpResult.GetDataResult) results.get(0)).getData(), ONE);
        same(((OpResult.GetChildrenResult) results.get(1)).getChildren(),
                Collections.singletonList("x"));
        same(((OpResult.ErrorResult) results.get(2)).getErr(), Code.NONODE.intValue());
        same(((OpResult.GetDataResult) results.get(3)).getData(), NOTHING);
    }

    // ---- watches ----

    private static void watches(ZooKeeper zk, String at, Seen seen) throws Exception {
        try (ZooKeeper other = open()) {
            catchUp(other);
            String x = at + "/x";
            Seen mine = new Seen(), children = new Seen();
            zk.exists(x, mine);
            make(other, x, CreateMode.PERSISTENT);
            mine.await("NodeCreated " + x);
            zk.getData(x, mine, null);
            zk.getChildren(x, children);
            other.setData(x, ONE, -1);
            other.setData(x, TWO, -1);
            make(other, x + "/y", CreateMode.PERSISTENT);
            children.await("NodeChildrenChanged " + x);
            mine.await("NodeCreated " + x + ", NodeDataChanged " + x);
            other.delete(x + "/y", -1);
            catchUp(zk);
            zk.exists(x, mine);
            zk.getChildren(x, children);
            other.delete(x, -1);
            mine.await("NodeCreated " + x + ", NodeDataChanged " + x + ", NodeDeleted " + x);
            children.await("NodeChildrenChanged " + x + ", NodeDeleted " + x);
        }
    }

    private static void persistentWatches(ZooKeeper zk, String at, Seen seen)
            throws Exception {
        Seen flat = new Seen(), deep = new Seen();
        zk.addWatch(at, flat, AddWatchMode.PERSISTENT);
        String p = at + "/p";
        make(zk, p, CreateMode.PERSISTENT);
        zk.addWatch(p, deep, AddWatchMode.PERSISTENT_RECURSIVE);
        zk.setData(p, ONE, -1);
        make(zk, p + "/x", CreateMode.PERSISTENT);
        make(zk, p + "/x/y", CreateMode.PERSISTENT);
        zk.setData(p + "/x/y", ONE, -1);
        zk.setData(p + "/x/y", TWO, -1);
        zk.delete(p + "/x/y", -1);
        zk.delete(p + "/x", -1);
        zk.setData(at, ONE, -1);
        zk.delete(p, -1);
        flat.await("NodeChildrenChanged " + at + ", NodeDataChanged " + at
                + ", NodeChildrenChanged " + at);
        deep.await("NodeDataChanged " + p + ", NodeCreated " + p + "/x, NodeCreated " + p
                + "/x/y, NodeDataChanged " + p + "/x/y, NodeDataChanged " + p
                + "/x/y, NodeDeleted " + p + "/x/y, NodeDeleted " + p + "/x, NodeDeleted " + p);
        // They stay where nothing is.
        make(zk, p, CreateMode.PERSISTENT);
        until(() -> deep.all().endsWith("NodeCreated " + p), "the new creation");
    }

    private static void removedWatches(ZooKeeper zk, String at, Seen seen) throws Exception {
        Seen data = new Seen(), children = new Seen(), deep = new Seen();
        refuses(Code.NOWATCHER, () -> zk.removeWatches(at, data, WatcherType.Data, false));
        zk.getData(at, data, null);
        zk.getChildren(at, children);
        zk.addWatch(at + "/deep", deep, AddWatchMode.PERSISTENT_RECURSIVE);
        zk.removeWatches(at, data, WatcherType.Data, false);
        data.await("DataWatchRemoved " + at);
        refuses(Code.NOWATCHER, () -> zk.removeWatches(at, data, WatcherType.Data, false));
        zk.removeWatches(at + "/deep", deep, WatcherType.Any, false);
        deep.await("PersistentWatchRemoved " + at + "/deep");
        zk.setData(at, ONE, -1);
        make(zk, at + "/deep", CreateMode.PERSISTENT);
        children.await("NodeChildrenChanged " + at);
        same(Arrays.asList(data.count(), deep.count()), Arrays.asList(1, 1));
        zk.getChildren(at, children);
        zk.removeAllWatches(at, WatcherType.Any, false);
        children.await("NodeChildrenChanged " + at + ", ChildWatchRemoved " + at);
        same(seen.count(), 0);
    }

    private static void watchesOverABrokenConnection(ZooKeeper zk, String at, Seen seen)
            throws Exception {
        try (ZooKeeper other = open()) {
            Seen data = new Seen(), child = new Seen(), exist = new Seen();
            Seen persistent = new Seen(), deep = new Seen(), quiet = new Seen();
            // Each on a path of its own: before 3.9 a later kind replaces an earlier one.
            for (String name : new String[] {"/d", "/c", "/p", "/r", "/q"}) {
                make(zk, at + name, CreateMode.PERSISTENT);
            }
            zk.getData(at + "/d", data, null);
            zk.getChildren(at + "/c", child);
            zk.exists(at + "/new", exist);
            zk.getData(at + "/q", quiet, null);
            zk.addWatch(at + "/p", persistent, AddWatchMode.PERSISTENT);
            zk.addWatch(at + "/r", deep, AddWatchMode.PERSISTENT_RECURSIVE);
            long session = zk.getSessionId();
            breakConnection(zk, seen);
            same(zk.getSessionId(), session);
            catchUp(other);
            other.setData(at + "/d", ONE, -1);
            make(other, at + "/c/x", CreateMode.PERSISTENT);
            make(other, at + "/new", CreateMode.PERSISTENT);
            for (int i = 0; i < 2; i++) {
                make(other, at + "/p/" + i, CreateMode.PERSISTENT);
                make(other, at + "/r/" + i, CreateMode.PERSISTENT);
            }
            data.await("NodeDataChanged " + at + "/d");
            child.await("NodeChildrenChanged " + at + "/c");
            exist.await("NodeCreated " + at + "/new");
            persistent.await("NodeChildrenChanged " + at + "/p, NodeChildrenChanged " + at
                    + "/p");
            deep.await("NodeCreated " + at + "/r/0, NodeCreated " + at + "/r/1");
            same(quiet.count(), 0);
        }
    }

    private static void breakConnection(ZooKeeper zk, Seen seen) throws Exception {
        int states = seen.states.size();
        closeSocket(zk);
        until(() -> seen.states.size() >= states + 2 && seen.isIn(KeeperState.SyncConnected),
                "the connection to come back");
    }

    // ---- who may ----

    private static void accessLists(ZooKeeper zk, String at, Seen seen) throws Exception {
        String x = at + "/x";
        refuses(Code.INVALIDACL, () -> zk.create(x, ONE, Ids.CREATOR_ALL_ACL,
                CreateMode.PERSISTENT));
        refuses(Code.INVALIDACL, () -> zk.create(x, ONE, Collections.emptyList(),
                CreateMode.PERSISTENT));
        refuses(Code.INVALIDACL, () -> zk.create(x, ONE, Collections.singletonList(
                new ACL(Perms.ALL, new Id("nobody", "me"))), CreateMode.PERSISTENT));
        zk.addAuthInfo("digest", ME.getBytes());
        zk.create(x, ONE, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        Stat stat = new Stat();
        same(zk.getACL(x, stat), Collections.singletonList(
                new ACL(Perms.ALL, new Id("digest", MY_DIGEST))));
        same(stat.getAversion(), 0);
        try (ZooKeeper other = open()) {
            catchUp(other);
            refuses(Code.NOAUTH, () -> other.getData(x, false, null));
            refuses(Code.NOAUTH, () -> other.getChildren(x, false));
            refuses(Code.NOAUTH, () -> other.setData(x, TWO, -1));
            refuses(Code.NOAUTH, () -> make(other, x + "/y", CreateMode.PERSISTENT));
            refuses(Code.NOAUTH, () -> other.getACL(x, new Stat()));
            refuses(Code.NOAUTH, () -> other.setACL(x, Ids.OPEN_ACL_UNSAFE, -1));
            refuses(Code.NOAUTH, () -> other.getAllChildrenNumber(x));
            refuses(Code.NOAUTH, () -> other.multi(Arrays.asList(
                    Op.create(at + "/z", ONE, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                    Op.setData(x, TWO, -1))));
            same(((OpResult.ErrorResult) other.multi(Collections.singletonList(
                    Op.getData(x))).get(0)).getErr(), Code.NOAUTH.intValue());
            refuses(Code.BADVERSION, () -> zk.setACL(x, Ids.READ_ACL_UNSAFE, 4));
            same(zk.setACL(x, Arrays.asList(new ACL(Perms.READ, Ids.ANYONE_ID_UNSAFE),
                    new ACL(Perms.ALL, new Id("digest", MY_DIGEST))), 0).getAversion(), 1);
            catchUp(other);
            same(other.getData(x, false, null), ONE);
            List<String> ids = new ArrayList<>();
            other.getACL(x, null).forEach(a -> ids.add(a.getId().getId()));
            same(sorted(ids), Arrays.asList("anyone", "me:x"));
        }
    }

    private static void identities(ZooKeeper zk, String at, Seen seen) throws Exception {
        List<String> found = new ArrayList<>();
        for (ClientInfo info : zk.whoAmI()) {
            found.add(info.getAuthScheme());
        }
        same(found, Collections.singletonList("ip"));
        zk.addAuthInfo("digest", ME.getBytes());
        zk.addAuthInfo("digest", "other:word".getBytes());
        zk.create(at + "/x", ONE, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        same(zk.getACL(at + "/x", null).size(), 2);
        found.clear();
        for (ClientInfo info : zk.whoAmI()) {
            found.add(info.getAuthScheme() + ":" + info.getUser());
        }
        check(found.contains("digest:me") && found.contains("digest:other")
                && found.size() == 3, "they are " + found);
        breakConnection(zk, seen);
        same(zk.getData(at + "/x", false, null), ONE);
        same(zk.whoAmI().size(), 3);
    }

    private static void superUser(ZooKeeper zk, String at, Seen seen) throws Exception {
        zk.create(at + "/x", ONE, Collections.singletonList(
                new ACL(Perms.ALL, new Id("digest", MY_DIGEST))), CreateMode.PERSISTENT);
        refuses(Code.NOAUTH, () -> zk.getData(at + "/x", false, null));
        zk.addAuthInfo("digest", "super:test".getBytes());
        same(zk.getData(at + "/x", false, null), ONE);
        zk.setACL(at + "/x", Ids.OPEN_ACL_UNSAFE, -1);
    }

    private static void unknownScheme(ZooKeeper zk, String at, Seen seen) throws Exception {
        zk.addAuthInfo("nobody", "me".getBytes());
        until(() -> seen.isIn(KeeperState.AuthFailed) || zk.getState() ==
                ZooKeeper.States.AUTH_FAILED, "AuthFailed");
        refuses(Code.AUTHFAILED, () -> zk.exists(at, false));
    }

    // ---- quotas ----

    private static void quotas(ZooKeeper zk, String at, Seen seen) throws Exception {
        StatsTrack limits = new StatsTrack();
        limits.setCountHardLimit(3);
        limits.setByteHardLimit(10);
        SetQuotaCommand.createQuota(zk, at, limits);
        zk.create(at + "/a", new byte[4], Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.create(at + "/b", new byte[4], Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        // The place itself counts.
        refuses(Code.QUOTAEXCEEDED, () -> make(zk, at + "/c", CreateMode.PERSISTENT));
        refuses(Code.QUOTAEXCEEDED, () -> zk.setData(at + "/a", new byte[7], -1));
        zk.setData(at + "/a", new byte[6], -1);
        String stats = new String(zk.getData("/zookeeper/quota" + at + "/zookeeper_stats",
                false, null));
        check(new StatsTrack(stats).getCount() == 3 && new StatsTrack(stats).getBytes() == 10,
                "the statistics are " + stats);
        zk.delete(at + "/b", -1);
        make(zk, at + "/c", CreateMode.PERSISTENT);
        StatsTrack none = new StatsTrack();
        none.setCount(1);
        none.setBytes(1);
        none.setCountHardLimit(1);
        none.setByteHardLimit(1);
        DelQuotaCommand.delQuota(zk, at, none);
        make(zk, at + "/d", CreateMode.PERSISTENT);
    }

    // ---- configuration ----

    private static void configuration(ZooKeeper zk, String at, Seen seen) throws Exception {
        Stat stat = new Stat();
        String config = new String(zk.getConfig(false, stat));
        check(!isEnsemble() || (config.contains("server.1=") && config.contains("\nversion=")),
                "it is " + config);
        refuses(Code.NOAUTH, () -> zk.setData("/zookeeper/config", ONE, -1));
        try (ZooKeeperAdmin admin = new ZooKeeperAdmin(hosts, TIMEOUT_MS, e -> { })) {
            refuses(isEnsemble() ? Code.NOAUTH : Code.UNIMPLEMENTED, () -> admin.reconfigure(
                    "server.9=10.0.0.9:2888:3888;2181", null, null, -1, null));
        }
    }

    // ---- sessions ----

    private static void sessionTakenUpAgain(ZooKeeper zk, String at, Seen seen)
            throws Exception {
        make(zk, at + "/e", CreateMode.EPHEMERAL);
        long id = zk.getSessionId();
        byte[] password = zk.getSessionPasswd();
        check(password.length == 16, "a password of " + password.length + " bytes");
        byte[] wrong = password.clone();
        wrong[3] ^= 0x55;
        Seen refused = new Seen();
        try (ZooKeeper thief = new ZooKeeper(hosts, TIMEOUT_MS, refused, id, wrong)) {
            until(() -> refused.isIn(KeeperState.Expired), "the wrong password's refusal");
        }
        Seen again = new Seen();
        ZooKeeper second = new ZooKeeper(hosts, TIMEOUT_MS, again, id, password);
        try {
            until(() -> again.isIn(KeeperState.SyncConnected), "the session on a second client");
            same(second.getSessionId(), id);
        } finally {
            second.close();
        }
        // Closed by the second, it is over for the first.
        until(() -> zk.getState() == ZooKeeper.States.CLOSED, "the end of the first client");
        refuses(Code.SESSIONEXPIRED, () -> zk.exists(at, false));
        try (ZooKeeper third = open()) {
            catchUp(third);
            same(third.exists(at + "/e", false), null);
        }
    }

    private static void timeouts(ZooKeeper zk, String at, Seen seen) throws Exception {
        same(zk.getSessionTimeout(), TIMEOUT_MS);
        Seen slow = new Seen();
        try (ZooKeeper other = new ZooKeeper(hosts, 100000000, slow)) {
            until(() -> slow.isIn(KeeperState.SyncConnected), "a connection");
            int got = other.getSessionTimeout();
            check(got >= TIMEOUT_MS && got <= 60000, "asked for 10^8 ms, got " + got);
        }
    }

    private static void readOnlyClient(ZooKeeper zk, String at, Seen seen) throws Exception {
        Seen mine = new Seen();
        try (ZooKeeper other = new ZooKeeper(hosts, TIMEOUT_MS, mine, true)) {
            until(() -> mine.isIn(KeeperState.SyncConnected), "a connection that may write");
            same(other.getState(), ZooKeeper.States.CONNECTED);
            make(other, at + "/x", CreateMode.PERSISTENT);
        }
    }

    private static void chroot(ZooKeeper zk, String at, Seen seen) throws Exception {
        Seen mine = new Seen();
        try (ZooKeeper inner = open(hosts + at, mine)) {
            same(inner.create("/x", ONE, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT), "/x");
            same(make(inner, "/n-", CreateMode.EPHEMERAL_SEQUENTIAL), "/n-0000000001");
            inner.getData("/x", true, null);
            inner.addWatch("/", AddWatchMode.PERSISTENT_RECURSIVE);
            catchUp(zk);
            zk.setData(at + "/x", TWO, -1);
            until(() -> mine.count() >= 1, "the event");
            check(mine.all().startsWith("NodeDataChanged /x"), mine.all());
            // The client does not take the prefix off the paths in a multi's results.
            same(((OpResult.CreateResult) inner.multi(Collections.singletonList(Op.create("/m",
                    ONE, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT))).get(0)).getPath(),
                    at + "/m");
            same(sorted(inner.getChildren("/", false)),
                    Arrays.asList("m", "n-0000000001", "x"));
        }
    }

    private static void closedSessionKeepsNothing(ZooKeeper zk, String at, Seen seen)
            throws Exception {
        ZooKeeper other = open();
        other.close();
        refuses(Code.SESSIONEXPIRED, () -> other.exists("/", false));
    }

    // ---- the asynchronous API ----

    private static void asynchronous(ZooKeeper zk, String at, Seen seen) throws Exception {
        int n = 500;
        List<String> came = new CopyOnWriteArrayList<>();
        CountDownLatch done = new CountDownLatch(n + 8);
        AsyncCallback.StringCallback created = (rc, path, ctx, name) -> {
            came.add(rc == 0 ? name : "error " + rc);
            done.countDown();
        };
        for (int i = 0; i < n; i++) {
            zk.create(at + "/n-", NOTHING, Ids.OPEN_ACL_UNSAFE,
                    CreateMode.PERSISTENT_SEQUENTIAL, created, null);
        }
        List<String> order = new CopyOnWriteArrayList<>();
        zk.setData(at, ONE, 0, (rc, p, c, stat) -> note(order, done, "set", rc), null);
        zk.exists(at, false, (rc, p, c, stat) -> note(order, done, "exists", rc), null);
        zk.getData(at, false, (rc, p, c, data, stat) ->
                note(order, done, "get " + new String(data), rc), null);
        zk.getChildren(at, false, (rc, p, c, names, stat) ->
                note(order, done, "children " + names.size(), rc), null);
        zk.getACL(at, null, (rc, p, c, acl, stat) -> note(order, done, "acl", rc), null);
        zk.sync(at, (rc, p, c) -> note(order, done, "sync", rc), null);
        zk.multi(Collections.singletonList(Op.check(at, 7)), (rc, p, c, results) ->
                note(order, done, "multi", rc), null);
        zk.delete(at, -1, (rc, p, c) -> note(order, done, "delete", rc), null);
        check(done.await(LIMIT_MS, TimeUnit.MILLISECONDS), done.getCount() + " answers missing");
        for (int i = 0; i < n; i++) {
            same(came.get(i), String.format("%s/n-%010d", at, i));
        }
        same(order, Arrays.asList("set 0", "exists 0", "get 1 0", "children 500 0", "acl 0",
                "sync 0", "multi -103", "delete -111"));
    }

    private static void note(List<String> order, CountDownLatch done, String what, int rc) {
        order.add(what + " " + rc);
        done.countDown();
    }

    private static void recursion(ZooKeeper zk, String at, Seen seen) throws Exception {
        for (String name : new String[] {"/a", "/a/b", "/a/b/c", "/a/d"}) {
            make(zk, at + name, CreateMode.PERSISTENT);
        }
        same(ZKUtil.listSubTreeBFS(zk, at).size(), 5);
        check(ZKUtil.deleteRecursive(zk, at + "/a", 100), "not deleted");
        same(zk.exists(at + "/a", false), null);
    }

    private static void allTests() {
        session("znodes", BatteryApi::znodes);
        session("sequences", BatteryApi::sequences);
        session("ephemerals", BatteryApi::ephemerals);
        session("containers", BatteryApi::containers);
        session("ttls", BatteryApi::ttls);
        session("bad arguments", BatteryApi::badArguments);
        session("transactions", BatteryApi::transactions);
        session("several reads at once", BatteryApi::severalReads);
        session("watches", BatteryApi::watches);
        session("persistent watches", BatteryApi::persistentWatches);
        session("removed watches", BatteryApi::removedWatches);
        session("watches over a broken connection", BatteryApi::watchesOverABrokenConnection);
        session("access lists", BatteryApi::accessLists);
        session("identities", BatteryApi::identities);
        session("super user", BatteryApi::superUser);
        session("unknown scheme", BatteryApi::unknownScheme);
        session("quotas", BatteryApi::quotas);
        session("configuration", BatteryApi::configuration);
        session("session taken up again", BatteryApi::sessionTakenUpAgain);
        session("timeouts", BatteryApi::timeouts);
        session("client that may be read-only", BatteryApi::readOnlyClient);
        session("chroot", BatteryApi::chroot);
        session("closed session", BatteryApi::closedSessionKeepsNothing);
        session("asynchronous", BatteryApi::asynchronous);
        session("recursion", BatteryApi::recursion);
    }

    // ---- a server dies ----

    private static void move() throws Exception {
        Seen seen = new Seen();
        ZooKeeper zk = open(hosts, seen);
        String at = fresh(zk);
        long session = zk.getSessionId();
        make(zk, at + "/e", CreateMode.EPHEMERAL);
        Seen data = new Seen(), deep = new Seen();
        zk.getData(at, data, null);
        zk.addWatch(at, deep, AddWatchMode.PERSISTENT_RECURSIVE);
        String first = serverOf(zk);
        System.out.println("on " + first);
        System.in.read();
        until(() -> seen.states.contains(KeeperState.Disconnected)
                && seen.isIn(KeeperState.SyncConnected), "the session to move");
        same(zk.getSessionId(), session);
        same(zk.exists(at + "/e", false).getEphemeralOwner(), session);
        zk.setData(at, ONE, -1);
        data.await("NodeDataChanged " + at);
        deep.await("NodeDataChanged " + at);
        check(!first.equals(serverOf(zk)), "still on " + first);
        System.out.println("moved to " + serverOf(zk));
        zk.close();
    }

    public static void main(String[] args) throws Exception {
        hosts = args[1];
        if (args[0].equals("move")) {
            move();
            return;
        }
        allTests();
        System.exit(runAll() == 0 ? 0 : 1);
    }
}
