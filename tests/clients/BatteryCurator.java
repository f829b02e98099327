// SPDX-License-Identifier: Apache-2.0
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.RetryPolicy;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicInteger;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.atomic.PromotedToLock;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessLock;
import org.apache.curator.framework.recipes.locks.InterProcessMultiLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreMutex;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.queue.BlockingQueueConsumer;
import org.apache.curator.framework.recipes.queue.DistributedDelayQueue;
import org.apache.curator.framework.recipes.queue.DistributedIdQueue;
import org.apache.curator.framework.recipes.queue.DistributedPriorityQueue;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.shared.SharedValue;
import org.apache.curator.framework.recipes.shared.VersionedValue;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.curator.retry.RetryOneTime;
import org.apache.curator.x.discovery.ServiceCache;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.ServiceProvider;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.ZooKeeper;

/**
 * Curator (Debian's libcurator-*-java) and its recipes, each with several sessions.
 *
 *   java BatteryCurator all HOSTS    every test: "ok NAME" or "FAILED NAME: why"
 *   java BatteryCurator move HOSTS   holds a lock, a latch, a cache and more; on a line from
 *                                    stdin they must go on, on another server
 */
class BatteryCurator extends Battery {
    private static final RetryPolicy RETRY = new ExponentialBackoffRetry(50, 8, 1000);

    interface WithClients {
        void run(CuratorFramework c, CuratorFramework other, String at) throws Exception;
    }

    private static CuratorFramework start() throws Exception {
        CuratorFramework c = CuratorFrameworkFactory.newClient(hosts, TIMEOUT_MS, LIMIT_MS,
                RETRY);
        c.start();
        check(c.blockUntilConnected(LIMIT_MS, TimeUnit.MILLISECONDS), "no connection");
        return c;
    }

    /** A test with two clients, and a place of its own that both see. */
    private static void clients(String name, WithClients test) {
        test(name, () -> {
            try (CuratorFramework c = start(); CuratorFramework other = start()) {
                String at = fresh(zk(c));
                catchUp(zk(other));
                test.run(c, other, at);
            }
        });
    }

    private static ZooKeeper zk(CuratorFramework c) throws Exception {
        return c.getZookeeperClient().getZooKeeper();
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }

    /** Counts how many are somewhere at once. */
    private static final class Inside {
        private int now, most, total;

        synchronized void enter() {
            now++;
            total++;
            most = Math.max(most, now);
        }

        synchronized void leave() {
            now--;
        }
    }

    // ---- the framework ----

    private static void framework(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        same(c.create().creatingParentContainersIfNeeded().forPath(at + "/a/b", bytes("1")),
                at + "/a/b");
        String made = c.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL)
                .forPath(at + "/n-");
        check(made.contains("/_c_") && made.endsWith("-n-0000000001"), made);
        c.create().orSetData().forPath(at + "/a/b", bytes("2"));
        same(text(c.getData().forPath(at + "/a/b")), "2");
        refuses(Code.BADVERSION,
                () -> c.setData().withVersion(7).forPath(at + "/a/b", bytes("3")));
        same(c.getChildren().forPath(at + "/a"), Collections.singletonList("b"));
        CountDownLatch done = new CountDownLatch(1);
        c.getData().inBackground((client, event) -> {
            if (event.getResultCode() == 0 && text(event.getData()).equals("2")) {
                done.countDown();
            }
        }).forPath(at + "/a/b");
        check(done.await(LIMIT_MS, TimeUnit.MILLISECONDS), "no answer in the background");
        CountDownLatch fired = new CountDownLatch(1);
        c.watchers().add().forPath(at);
        c.getData().usingWatcher((org.apache.curator.framework.api.CuratorWatcher)
                e -> fired.countDown()).forPath(at + "/a/b");
        c.setData().forPath(at + "/a/b", bytes("4"));
        check(fired.await(LIMIT_MS, TimeUnit.MILLISECONDS), "the watch did not fire");
        CuratorFramework named = c.usingNamespace(at.substring(1) + "/a");
        same(text(named.getData().forPath("/b")), "4");
        same(named.getConfig().forEnsemble() != null, true);
        c.delete().guaranteed().deletingChildrenIfNeeded().forPath(at + "/a");
        c.delete().quietly().forPath(at + "/a");
        same(c.checkExists().forPath(at + "/a"), null);
    }

    private static void transactions(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        List<CuratorTransactionResult> results = c.transaction().forOperations(
                c.transactionOp().create().forPath(at + "/x", bytes("1")),
                c.transactionOp().setData().withVersion(0).forPath(at + "/x", bytes("2")),
                c.transactionOp().check().withVersion(1).forPath(at + "/x"),
                c.transactionOp().create().withMode(CreateMode.EPHEMERAL_SEQUENTIAL)
                        .forPath(at + "/n-"));
        same(results.get(0).getResultPath(), at + "/x");
        same(results.get(1).getResultStat().getVersion(), 1);
        same(results.get(3).getResultPath(), at + "/n-0000000001");
        refuses(Code.NONODE, () -> c.transaction().forOperations(
                c.transactionOp().delete().forPath(at + "/x"),
                c.transactionOp().delete().forPath(at + "/nothing")));
        same(text(c.getData().forPath(at + "/x")), "2");
    }

    private static void authorization(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        try (CuratorFramework me = CuratorFrameworkFactory.builder().connectString(hosts)
                .sessionTimeoutMs(TIMEOUT_MS).retryPolicy(RETRY)
                .authorization("digest", bytes("me:secret")).build()) {
            me.start();
            me.create().withACL(org.apache.zookeeper.ZooDefs.Ids.CREATOR_ALL_ACL)
                    .forPath(at + "/mine", bytes("1"));
            catchUp(zk(other));
            refuses(Code.NOAUTH, () -> other.getData().forPath(at + "/mine"));
            closeSocket(zk(me));
            same(text(me.getData().forPath(at + "/mine")), "1");
        }
    }

    // ---- locks ----

    private static void contend(List<InterProcessLock> locks, Inside inside) throws Exception {
        List<Callable<Void>> works = new ArrayList<>();
        for (InterProcessLock lock : locks) {
            works.add(() -> {
                for (int i = 0; i < 5; i++) {
                    check(lock.acquire(LIMIT_MS, TimeUnit.MILLISECONDS), "not acquired");
                    inside.enter();
                    Thread.yield();
                    inside.leave();
                    lock.release();
                }
                return null;
            });
        }
        together(works);
        same(Arrays.asList(inside.most, inside.total), Arrays.asList(1, 5 * locks.size()));
    }

    private static void mutex(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        String path = at + "/lock";
        contend(Arrays.asList(new InterProcessMutex(c, path), new InterProcessMutex(c, path),
                new InterProcessMutex(other, path), new InterProcessMutex(other, path)),
                new Inside());
        InterProcessMutex mine = new InterProcessMutex(c, path);
        InterProcessMutex theirs = new InterProcessMutex(other, path);
        mine.acquire();
        mine.acquire(); // it may be entered again
        same(theirs.acquire(200, TimeUnit.MILLISECONDS), false);
        mine.release();
        same(theirs.acquire(200, TimeUnit.MILLISECONDS), false);
        mine.release();
        CountDownLatch asked = new CountDownLatch(1);
        theirs.makeRevocable(lock -> asked.countDown());
        check(theirs.acquire(LIMIT_MS, TimeUnit.MILLISECONDS), "not free");
        catchUp(zk(c));
        org.apache.curator.framework.recipes.locks.Revoker.attemptRevoke(c,
                mine.getParticipantNodes().iterator().next());
        check(asked.await(LIMIT_MS, TimeUnit.MILLISECONDS), "not asked to give it back");
        theirs.release();
    }

    private static void mutexOfADeadClient(CuratorFramework c, CuratorFramework other,
            String at) throws Exception {
        CuratorFramework dying = start();
        catchUp(zk(dying));
        new InterProcessMutex(dying, at + "/lock").acquire();
        catchUp(zk(c));
        InterProcessMutex mine = new InterProcessMutex(c, at + "/lock");
        same(mine.acquire(200, TimeUnit.MILLISECONDS), false);
        dying.close();
        check(mine.acquire(LIMIT_MS, TimeUnit.MILLISECONDS), "the dead client keeps it");
        mine.release();
    }

    private static void semaphoreMutex(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        contend(Arrays.asList(new InterProcessSemaphoreMutex(c, at + "/lock"),
                new InterProcessSemaphoreMutex(other, at + "/lock"),
                new InterProcessSemaphoreMutex(other, at + "/lock")), new Inside());
    }

    private static void readersAndWriters(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        Inside writing = new Inside(), reading = new Inside();
        AtomicInteger mixed = new AtomicInteger();
        List<Callable<Void>> works = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
            boolean isWriter = i < 2;
            InterProcessReadWriteLock both = new InterProcessReadWriteLock(i % 2 == 0 ? c
                    : other, at + "/rw");
            InterProcessLock lock = isWriter ? both.writeLock() : both.readLock();
            works.add(() -> {
                for (int k = 0; k < 5; k++) {
                    check(lock.acquire(LIMIT_MS, TimeUnit.MILLISECONDS), "not acquired");
                    (isWriter ? writing : reading).enter();
                    if (writing.now > 0 && reading.now > 0) {
                        mixed.incrementAndGet();
                    }
                    (isWriter ? writing : reading).leave();
                    lock.release();
                }
                return null;
            });
        }
        together(works);
        same(Arrays.asList(writing.most, writing.total, reading.total, mixed.get()),
                Arrays.asList(1, 10, 10, 0));
        InterProcessReadWriteLock one = new InterProcessReadWriteLock(c, at + "/rw");
        InterProcessReadWriteLock two = new InterProcessReadWriteLock(other, at + "/rw");
        one.writeLock().acquire();
        one.readLock().acquire(); // who writes may read
        one.writeLock().release();
        check(two.readLock().acquire(LIMIT_MS, TimeUnit.MILLISECONDS), "readers do not share");
        same(two.writeLock().acquire(200, TimeUnit.MILLISECONDS), false);
        one.readLock().release();
        two.readLock().release();
    }

    private static void multiLock(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        List<String> paths = Arrays.asList(at + "/one", at + "/two");
        InterProcessMultiLock mine = new InterProcessMultiLock(c, paths);
        mine.acquire();
        same(new InterProcessMultiLock(other, paths).acquire(200, TimeUnit.MILLISECONDS),
                false);
        same(new InterProcessMutex(other, at + "/two").acquire(200, TimeUnit.MILLISECONDS),
                false);
        mine.release();
        InterProcessMultiLock theirs = new InterProcessMultiLock(other, paths);
        check(theirs.acquire(LIMIT_MS, TimeUnit.MILLISECONDS), "not free");
        theirs.release();
    }

    private static void semaphores(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        InterProcessSemaphoreV2 mine = new InterProcessSemaphoreV2(c, at + "/s", 3);
        InterProcessSemaphoreV2 theirs = new InterProcessSemaphoreV2(other, at + "/s", 3);
        Collection<Lease> two = mine.acquire(2);
        catchUp(zk(other));
        Lease third = theirs.acquire(LIMIT_MS, TimeUnit.MILLISECONDS);
        check(third != null, "the third lease was not given");
        same(theirs.acquire(200, TimeUnit.MILLISECONDS), null);
        mine.returnAll(two);
        check((two = theirs.acquire(2, LIMIT_MS, TimeUnit.MILLISECONDS)) != null, "not free");
        theirs.returnAll(two);
        theirs.returnLease(third);
        // Its size may stand in a SharedCount.
        try (SharedCount size = new SharedCount(c, at + "/size", 1)) {
            size.start();
            InterProcessSemaphoreV2 counted = new InterProcessSemaphoreV2(c, at + "/t", size);
            Lease first = counted.acquire(LIMIT_MS, TimeUnit.MILLISECONDS);
            same(counted.acquire(200, TimeUnit.MILLISECONDS), null);
            size.setCount(2);
            Lease second = counted.acquire(LIMIT_MS, TimeUnit.MILLISECONDS);
            check(second != null, "the count is not seen");
            counted.returnAll(Arrays.asList(first, second));
        }
    }

    // ---- who leads ----

    private static void leaderLatch(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        try (LeaderLatch b = new LeaderLatch(other, at + "/latch", "b")) {
            LeaderLatch a = new LeaderLatch(c, at + "/latch", "a");
            a.start();
            check(a.await(LIMIT_MS, TimeUnit.MILLISECONDS), "nobody leads");
            b.start();
            until(() -> b.getParticipants().size() == 2, "two participants");
            same(Arrays.asList(a.hasLeadership(), b.hasLeadership(), b.getLeader().getId()),
                    Arrays.asList(true, false, "a"));
            a.close();
            check(b.await(LIMIT_MS, TimeUnit.MILLISECONDS), "the next does not lead");
        }
    }

    private static void leaderLatchOfALostSession(CuratorFramework c, CuratorFramework other,
            String at) throws Exception {
        try (LeaderLatch a = new LeaderLatch(c, at + "/latch", "a");
                LeaderLatch b = new LeaderLatch(other, at + "/latch", "b")) {
            a.start();
            check(a.await(LIMIT_MS, TimeUnit.MILLISECONDS), "nobody leads");
            b.start();
            until(() -> b.getParticipants().size() == 2, "two participants");
            endSession(zk(c));
            check(b.await(LIMIT_MS, TimeUnit.MILLISECONDS), "the next does not lead");
            until(() -> !a.hasLeadership() && b.getParticipants().size() == 2,
                    "the first to come back");
        }
    }

    private static void leaderSelector(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        Inside inside = new Inside();
        List<LeaderSelector> all = new ArrayList<>();
        List<String> turns = new CopyOnWriteArrayList<>();
        for (int i = 0; i < 4; i++) {
            String id = "n" + i;
            LeaderSelector s = new LeaderSelector(i % 2 == 0 ? c : other, at + "/selector",
                    new LeaderSelectorListenerAdapter() {
                        @Override
                        public void takeLeadership(CuratorFramework client) throws Exception {
                            inside.enter();
                            turns.add(id);
                            client.checkExists().forPath(at);
                            inside.leave();
                        }
                    });
            s.setId(id);
            s.autoRequeue();
            s.start();
            all.add(s);
        }
        until(() -> new HashSet<>(turns).size() == 4, "each to lead once");
        for (LeaderSelector s : all) {
            s.close();
        }
        same(inside.most, 1);
    }

    // ---- counters, values ----

    private static void sharedCount(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        try (SharedCount mine = new SharedCount(c, at + "/count", 5);
                SharedCount theirs = new SharedCount(other, at + "/count", 5);
                SharedValue value = new SharedValue(c, at + "/value", bytes("seed"))) {
            mine.start();
            theirs.start();
            same(mine.getCount(), 5);
            VersionedValue<Integer> old = theirs.getVersionedValue();
            mine.setCount(6);
            until(() -> theirs.getCount() == 6, "the new count");
            same(theirs.trySetCount(old, 7), false);
            same(theirs.trySetCount(theirs.getVersionedValue(), 8), true);
            until(() -> mine.getCount() == 8, "the newest count");
            value.start();
            same(text(value.getValue()), "seed");
            check(value.trySetValue(value.getVersionedValue(), bytes("x")), "not set");
        }
    }

    private static void atomicNumbers(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        List<Callable<Void>> works = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
            DistributedAtomicLong n = new DistributedAtomicLong(i % 2 == 0 ? c : other,
                    at + "/n", new RetryOneTime(1), PromotedToLock.builder()
                            .lockPath(at + "/n-lock").retryPolicy(RETRY).build());
            works.add(() -> {
                for (int k = 0; k < 10; k++) {
                    check(n.increment().succeeded(), "not incremented");
                }
                return null;
            });
        }
        together(works);
        catchUp(zk(c));
        DistributedAtomicLong n = new DistributedAtomicLong(c, at + "/n", RETRY);
        same(n.get().postValue(), 40L);
        same(n.compareAndSet(39L, 0L).succeeded(), false);
        AtomicValue<Long> set = n.compareAndSet(40L, 7L);
        same(Arrays.asList(set.succeeded(), set.preValue(), set.postValue()),
                Arrays.asList(true, 40L, 7L));
        DistributedAtomicInteger i = new DistributedAtomicInteger(c, at + "/i", RETRY);
        check(i.initialize(3) && !i.initialize(4), "initialized twice or not at all");
        same(i.subtract(5).postValue(), -2);
    }

    // ---- caches ----

    private static void curatorCache(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        List<String> seen = new CopyOnWriteArrayList<>();
        CountDownLatch first = new CountDownLatch(1);
        c.create().creatingParentsIfNeeded().forPath(at + "/a/b", bytes("1"));
        catchUp(zk(other));
        try (CuratorCache cache = CuratorCache.build(other, at)) {
            cache.listenable().addListener(CuratorCacheListener.builder()
                    .forCreates(n -> seen.add("created " + n.getPath()))
                    .forChanges((was, n) -> seen.add("changed " + n.getPath()))
                    .forDeletes(n -> seen.add("deleted " + n.getPath()))
                    .forInitialized(first::countDown).build());
            cache.start();
            check(first.await(LIMIT_MS, TimeUnit.MILLISECONDS), "never initialized");
            same(text(cache.get(at + "/a/b").get().getData()), "1");
            c.setData().forPath(at + "/a/b", bytes("2"));
            c.create().forPath(at + "/a/c");
            // It asks for the new data when it hears of them: they have to be there still.
            until(() -> seen.contains("changed " + at + "/a/b")
                    && seen.contains("created " + at + "/a/c"), "the changes");
            c.delete().forPath(at + "/a/b");
            until(() -> seen.contains("deleted " + at + "/a/b"), "the deletion");
            same(cache.size(), 3);
            // What happens while there is no connection is seen afterwards.
            closeSocket(zk(other));
            c.create().forPath(at + "/a/missed", bytes("m"));
            until(() -> cache.get(at + "/a/missed").isPresent(), "what was missed");
        }
    }

    @SuppressWarnings("deprecation") // they are still in use
    private static void olderCaches(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        Set<String> events = new ConcurrentSkipListSet<>();
        try (org.apache.curator.framework.recipes.cache.NodeCache node =
                        new org.apache.curator.framework.recipes.cache.NodeCache(other,
                                at + "/x");
                org.apache.curator.framework.recipes.cache.PathChildrenCache path =
                        new org.apache.curator.framework.recipes.cache.PathChildrenCache(other,
                                at, true);
                org.apache.curator.framework.recipes.cache.TreeCache tree =
                        new org.apache.curator.framework.recipes.cache.TreeCache(other, at)) {
            path.getListenable().addListener((client, e) -> events.add("" + e.getType()));
            tree.getListenable().addListener((client, e) -> events.add("" + e.getType()));
            node.start(true);
            path.start(org.apache.curator.framework.recipes.cache.PathChildrenCache.StartMode
                    .BUILD_INITIAL_CACHE);
            tree.start();
            until(() -> events.contains("INITIALIZED"), "the tree's beginning");
            same(node.getCurrentData(), null);
            c.create().forPath(at + "/x", bytes("1"));
            until(() -> node.getCurrentData() != null
                    && text(node.getCurrentData().getData()).equals("1"), "the node");
            c.setData().forPath(at + "/x", bytes("2"));
            until(() -> text(node.getCurrentData().getData()).equals("2")
                    && path.getCurrentData().size() == 1
                    && text(path.getCurrentData().get(0).getData()).equals("2")
                    && text(tree.getCurrentData(at + "/x").getData()).equals("2"),
                    "the change in all three");
            c.create().forPath(at + "/x/deep");
            until(() -> tree.getCurrentChildren(at + "/x").size() == 1, "the grandchild");
            c.delete().deletingChildrenIfNeeded().forPath(at + "/x");
            until(() -> node.getCurrentData() == null && path.getCurrentData().isEmpty()
                    && tree.getCurrentData(at + "/x") == null, "the end in all three");
            check(events.containsAll(Arrays.asList("CHILD_ADDED", "CHILD_UPDATED",
                    "CHILD_REMOVED", "NODE_ADDED", "NODE_UPDATED", "NODE_REMOVED")),
                    "only " + events);
        }
    }

    private static void persistentWatcher(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        Set<String> seen = new ConcurrentSkipListSet<>();
        AtomicInteger resets = new AtomicInteger();
        try (PersistentWatcher w = new PersistentWatcher(other, at, true)) {
            w.getListenable().addListener(e -> seen.add(e.getType() + " " + e.getPath()));
            w.getResetListenable().addListener(resets::incrementAndGet);
            w.start();
            until(() -> resets.get() == 1, "the watch to be set");
            c.create().forPath(at + "/x");
            until(() -> seen.contains("NodeCreated " + at + "/x"), "the creation");
            endSession(zk(other));
            until(() -> resets.get() == 2, "the watch to be set again in a new session");
            c.delete().forPath(at + "/x");
            until(() -> seen.contains("NodeDeleted " + at + "/x"), "the deletion");
        }
    }

    // ---- queues ----

    private static final QueueSerializer<String> WORDS = new QueueSerializer<String>() {
        @Override
        public byte[] serialize(String item) {
            return bytes(item);
        }

        @Override
        public String deserialize(byte[] b) {
            return text(b);
        }
    };

    private static BlockingQueueConsumer<String> consumer() {
        return new BlockingQueueConsumer<>((client, state) -> { });
    }

    private static String take(BlockingQueueConsumer<String> from) throws Exception {
        return from.take(LIMIT_MS, TimeUnit.MILLISECONDS);
    }

    private static void queue(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        BlockingQueueConsumer<String> got = consumer();
        try (DistributedQueue<String> in = QueueBuilder.builder(c, null, WORDS, at + "/q")
                .buildQueue();
                DistributedQueue<String> out = QueueBuilder.builder(other, got, WORDS,
                        at + "/q").lockPath(at + "/q-lock").buildQueue()) {
            in.start();
            for (int i = 0; i < 20; i++) {
                in.put("w" + i);
            }
            check(in.flushPuts(LIMIT_MS, TimeUnit.MILLISECONDS), "not flushed");
            out.start();
            Set<String> words = new HashSet<>(), expected = new HashSet<>();
            for (int i = 0; i < 20; i++) {
                words.add(take(got));
                expected.add("w" + i);
            }
            same(words, expected);
            until(() -> c.getChildren().forPath(at + "/q").isEmpty(), "an empty queue");
        }
    }

    private static void queuesWithAnOrder(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        BlockingQueueConsumer<String> got = consumer();
        try (DistributedPriorityQueue<String> in = QueueBuilder.builder(c, null, WORDS,
                at + "/p").buildPriorityQueue(0)) {
            in.start();
            in.put("last", 9);
            in.put("first", 1);
            in.put("second", 2);
            check(in.flushPuts(LIMIT_MS, TimeUnit.MILLISECONDS), "not flushed");
            List<String> names = new ArrayList<>(c.getChildren().forPath(at + "/p"));
            Collections.sort(names);
            same(names.size(), 3);
            try (DistributedPriorityQueue<String> out = QueueBuilder.builder(c, got, WORDS,
                    at + "/p").executor(Runnable::run).buildPriorityQueue(0)) {
                out.start();
                same(Arrays.asList(take(got), take(got), take(got)),
                        Arrays.asList("first", "second", "last"));
            }
        }
        try (DistributedDelayQueue<String> delayed = QueueBuilder.builder(c, got, WORDS,
                at + "/d").buildDelayQueue()) {
            delayed.start();
            long now = System.currentTimeMillis();
            delayed.put("later", now + 600);
            delayed.put("soon", now + 10);
            same(Arrays.asList(take(got), take(got)), Arrays.asList("soon", "later"));
            check(System.currentTimeMillis() >= now + 600, "before its time");
        }
        try (DistributedIdQueue<String> ids = QueueBuilder.builder(c, null, WORDS, at + "/i")
                .buildIdQueue()) {
            ids.start();
            ids.put("x", "id1");
            ids.put("y", "id2");
            check(ids.flushPuts(LIMIT_MS, TimeUnit.MILLISECONDS), "not flushed");
            same(ids.remove("id1"), 1);
        }
    }

    private static void simpleQueue(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        SimpleDistributedQueue mine = new SimpleDistributedQueue(c, at + "/q");
        SimpleDistributedQueue theirs = new SimpleDistributedQueue(other, at + "/q");
        List<String> got = new CopyOnWriteArrayList<>();
        together(Arrays.asList((Callable<Void>) () -> {
            for (int i = 0; i < 10; i++) {
                got.add(text(theirs.take()));
            }
            return null;
        }, () -> {
            for (int i = 0; i < 10; i++) {
                check(mine.offer(bytes("w" + i)), "not offered");
            }
            return null;
        }));
        same(got.size(), 10);
        same(got.get(9), "w9");
        catchUp(zk(c));
        same(mine.poll(200, TimeUnit.MILLISECONDS), null);
        same(mine.peek(), null);
    }

    // ---- barriers ----

    private static void barriers(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        DistributedBarrier mine = new DistributedBarrier(c, at + "/barrier");
        mine.setBarrier();
        catchUp(zk(other));
        DistributedBarrier theirs = new DistributedBarrier(other, at + "/barrier");
        same(theirs.waitOnBarrier(200, TimeUnit.MILLISECONDS), false);
        together(Arrays.asList((Callable<Void>) () -> {
            check(theirs.waitOnBarrier(LIMIT_MS, TimeUnit.MILLISECONDS), "not let through");
            return null;
        }, () -> {
            mine.removeBarrier();
            return null;
        }));
        Inside inside = new Inside();
        CyclicBarrier allIn = new CyclicBarrier(3);
        List<Callable<Void>> works = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            DistributedDoubleBarrier b = new DistributedDoubleBarrier(i == 0 ? c : other,
                    at + "/double", 3);
            works.add(() -> {
                check(b.enter(LIMIT_MS, TimeUnit.MILLISECONDS), "not entered");
                inside.enter();
                allIn.await(LIMIT_MS, TimeUnit.MILLISECONDS);
                check(b.leave(LIMIT_MS, TimeUnit.MILLISECONDS), "not left");
                return null;
            });
        }
        together(works);
        same(inside.most, 3);
    }

    // ---- znodes that stay, groups, services ----

    private static void persistentNodes(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        try (PersistentNode node = new PersistentNode(c, CreateMode.EPHEMERAL, false,
                at + "/node", bytes("1"))) {
            node.start();
            check(node.waitForInitialCreate(LIMIT_MS, TimeUnit.MILLISECONDS), "not created");
            long session = zk(c).getSessionId();
            endSession(zk(c));
            until(() -> {
                org.apache.zookeeper.data.Stat stat = other.checkExists().forPath(at + "/node");
                return stat != null && stat.getEphemeralOwner() != session;
            }, "the node in a new session");
            node.setData(bytes("2"));
            until(() -> text(other.getData().forPath(at + "/node")).equals("2"), "the data");
            other.delete().forPath(at + "/node");
            until(() -> other.checkExists().forPath(at + "/node") != null, "it again");
        }
        try (PersistentTtlNode ttl = new PersistentTtlNode(c, at + "/ttl", 600, bytes("t"))) {
            ttl.start();
            check(ttl.waitForInitialCreate(LIMIT_MS, TimeUnit.MILLISECONDS), "not created");
            Thread.sleep(1500); // longer than it lives without being touched
            check(other.checkExists().forPath(at + "/ttl") != null, "it did not stay");
        }
        until(() -> other.checkExists().forPath(at + "/ttl") == null, "its end");
    }

    private static void groups(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        GroupMember a = new GroupMember(c, at + "/group", "a", bytes("1"));
        GroupMember b = new GroupMember(other, at + "/group", "b", bytes("2"));
        a.start();
        b.start();
        until(() -> a.getCurrentMembers().size() == 2 && b.getCurrentMembers().size() == 2,
                "two members");
        same(text(a.getCurrentMembers().get("b")), "2");
        b.close();
        until(() -> a.getCurrentMembers().size() == 1, "one member");
        a.close();
    }

    private static void services(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        ServiceInstance<Void> one = ServiceInstance.<Void>builder().name("shop").id("one")
                .address("10.0.0.1").port(80).build();
        ServiceInstance<Void> two = ServiceInstance.<Void>builder().name("shop").id("two")
                .address("10.0.0.2").port(80).build();
        try (ServiceDiscovery<Void> mine = ServiceDiscoveryBuilder.builder(Void.class).client(c)
                .basePath(at + "/services").thisInstance(one).build();
                ServiceDiscovery<Void> theirs = ServiceDiscoveryBuilder.builder(Void.class)
                        .client(other).basePath(at + "/services").build()) {
            mine.start();
            theirs.start();
            catchUp(zk(other));
            same(theirs.queryForNames(), Collections.singletonList("shop"));
            try (ServiceCache<Void> cache = theirs.serviceCacheBuilder().name("shop").build();
                    ServiceProvider<Void> provider = theirs.serviceProviderBuilder()
                            .serviceName("shop").build()) {
                cache.start();
                provider.start();
                same(cache.getInstances().size(), 1);
                theirs.registerService(two);
                until(() -> cache.getInstances().size() == 2
                        && provider.getAllInstances().size() == 2, "two instances");
                theirs.unregisterService(two);
                until(() -> cache.getInstances().size() == 1, "one instance");
                same(provider.getInstance().getAddress(), "10.0.0.1");
                long session = zk(c).getSessionId();
                endSession(zk(c));
                until(() -> {
                    org.apache.zookeeper.data.Stat stat = other.checkExists().forPath(
                            at + "/services/shop/one");
                    return stat != null && stat.getEphemeralOwner() != session;
                }, "the registration in a new session");
            }
        }
    }

    // ---- the connection ----

    private static void connectionStates(CuratorFramework c, CuratorFramework other, String at)
            throws Exception {
        List<ConnectionState> states = new CopyOnWriteArrayList<>();
        c.getConnectionStateListenable().addListener((client, state) -> states.add(state));
        closeSocket(zk(c));
        until(() -> states.contains(ConnectionState.RECONNECTED), "the connection");
        same(states, Arrays.asList(ConnectionState.SUSPENDED, ConnectionState.RECONNECTED));
        endSession(zk(c));
        until(() -> states.contains(ConnectionState.LOST)
                && states.get(states.size() - 1) == ConnectionState.RECONNECTED,
                "LOST, then a new session; " + states);
        c.checkExists().forPath(at);
    }

    private static void allTests() {
        clients("framework", BatteryCurator::framework);
        clients("transactions", BatteryCurator::transactions);
        clients("authorization", BatteryCurator::authorization);
        clients("InterProcessMutex", BatteryCurator::mutex);
        clients("InterProcessMutex of a dead client", BatteryCurator::mutexOfADeadClient);
        clients("InterProcessSemaphoreMutex", BatteryCurator::semaphoreMutex);
        clients("InterProcessReadWriteLock", BatteryCurator::readersAndWriters);
        clients("InterProcessMultiLock", BatteryCurator::multiLock);
        clients("InterProcessSemaphoreV2", BatteryCurator::semaphores);
        clients("LeaderLatch", BatteryCurator::leaderLatch);
        clients("LeaderLatch of a lost session", BatteryCurator::leaderLatchOfALostSession);
        clients("LeaderSelector", BatteryCurator::leaderSelector);
        clients("SharedCount, SharedValue", BatteryCurator::sharedCount);
        clients("DistributedAtomicLong, -Integer", BatteryCurator::atomicNumbers);
        clients("CuratorCache", BatteryCurator::curatorCache);
        clients("NodeCache, PathChildrenCache, TreeCache", BatteryCurator::olderCaches);
        clients("PersistentWatcher", BatteryCurator::persistentWatcher);
        clients("DistributedQueue", BatteryCurator::queue);
        clients("priority, delay and id queues", BatteryCurator::queuesWithAnOrder);
        clients("SimpleDistributedQueue", BatteryCurator::simpleQueue);
        clients("DistributedBarrier, -DoubleBarrier", BatteryCurator::barriers);
        clients("PersistentNode, PersistentTtlNode", BatteryCurator::persistentNodes);
        clients("GroupMember", BatteryCurator::groups);
        clients("ServiceDiscovery", BatteryCurator::services);
        clients("connection states", BatteryCurator::connectionStates);
    }

    // ---- a server dies ----

    private static void move() throws Exception {
        CuratorFramework c = start(), other = start();
        String at = fresh(zk(c));
        catchUp(zk(other));
        List<ConnectionState> states = new CopyOnWriteArrayList<>();
        InterProcessMutex lock = new InterProcessMutex(c, at + "/lock");
        lock.acquire();
        LeaderLatch latch = new LeaderLatch(c, at + "/latch", "mine");
        latch.start();
        check(latch.await(LIMIT_MS, TimeUnit.MILLISECONDS), "nobody leads");
        GroupMember member = new GroupMember(c, at + "/group", "mine");
        member.start();
        until(() -> member.getCurrentMembers().size() == 1, "the group");
        CuratorCache cache = CuratorCache.build(c, at + "/tree");
        c.create().forPath(at + "/tree");
        cache.start();
        until(() -> cache.size() == 1, "the cache");
        long session = zk(c).getSessionId();
        String first = serverOf(zk(c));
        c.getConnectionStateListenable().addListener((client, state) -> states.add(state));
        System.out.println("on " + first);
        System.in.read();
        until(() -> states.contains(ConnectionState.RECONNECTED), "the session to move");
        same(states, Arrays.asList(ConnectionState.SUSPENDED, ConnectionState.RECONNECTED));
        same(zk(c).getSessionId(), session);
        other.sync().forPath(at);
        same(new InterProcessMutex(other, at + "/lock").acquire(500, TimeUnit.MILLISECONDS),
                false);
        until(latch::hasLeadership, "its leadership again");
        DistributedAtomicLong n = new DistributedAtomicLong(other, at + "/n", RETRY);
        check(n.increment().succeeded(), "not incremented");
        other.create().forPath(at + "/tree/new", bytes("data"));
        until(() -> cache.get(at + "/tree/new").isPresent(), "the cache to see what is new");
        lock.release();
        check(new InterProcessMutex(other, at + "/lock").acquire(LIMIT_MS,
                TimeUnit.MILLISECONDS), "not free");
        check(!first.equals(serverOf(zk(c))), "still on " + first);
        System.out.println("moved to " + serverOf(zk(c)));
        System.exit(0);
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
