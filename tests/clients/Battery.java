// SPDX-License-Identifier: Apache-2.0
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;

/**
 * The frame of the Java batteries: a line for each test, "ok NAME" or "FAILED NAME: why", and
 * what the tests of both have in common.
 */
class Battery {
    static final int LIMIT_MS = 20000;
    static final int TIMEOUT_MS = 6000;
    static final byte[] NOTHING = {};

    static String hosts;
    private static final AtomicInteger numbers = new AtomicInteger();
    private static final List<String> names = new ArrayList<>();
    private static final List<Test> tests = new ArrayList<>();

    interface Test {
        void run() throws Exception;
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    static void test(String name, Test test) {
        names.add(name);
        tests.add(test);
    }

    /** Runs them all; how many failed. */
    static int runAll() {
        int failed = 0;
        String only = System.getProperty("only", ""); // -Donly=NAME: for who looks at one
        for (int i = 0; i < tests.size(); i++) {
            String name = names.get(i);
            if (!name.contains(only)) {
                continue;
            }
            try {
                tests.get(i).run();
                System.out.println("ok " + name);
            } catch (Throwable e) { // an assertion, or what the client threw
                failed++;
                String where = "";
                for (StackTraceElement at : e.getStackTrace()) {
                    if (at.getClassName().startsWith("Battery")
                            && !at.getClassName().equals("Battery")) {
                        where = " (" + at.getFileName() + ":" + at.getLineNumber() + ")";
                        break;
                    }
                }
                System.out.println("FAILED " + name + ": " + e.toString().replace('\n', ' ')
                        + where);
            }
            System.out.flush();
        }
        return failed;
    }

    // ---- assertions ----

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static void same(Object found, Object expected) {
        check(Objects.deepEquals(found, expected), found + ", expected " + expected);
    }

    static void until(Condition condition, String what) throws Exception {
        long end = System.nanoTime() + LIMIT_MS * 1000000L;
        while (!condition.holds()) {
            check(System.nanoTime() < end, "waited " + LIMIT_MS / 1000 + " s for " + what);
            Thread.sleep(10);
        }
    }

    static void refuses(KeeperException.Code code, Test call) throws Exception {
        try {
            call.run();
        } catch (KeeperException e) {
            same(e.code(), code);
            return;
        }
        throw new AssertionError("no " + code);
    }

    /** Runs all of them at once; the first exception of any is thrown here. */
    static void together(List<? extends Callable<?>> works) throws Exception {
        List<Throwable> wrong = new ArrayList<>();
        List<Thread> threads = new ArrayList<>();
        for (Callable<?> work : works) {
            Thread t = new Thread(() -> {
                try {
                    work.call();
                } catch (Throwable e) {
                    synchronized (wrong) {
                        wrong.add(e);
                    }
                }
            });
            t.setDaemon(true);
            t.start();
            threads.add(t);
        }
        for (Thread t : threads) {
            t.join(3 * LIMIT_MS);
            check(!t.isAlive(), "no end within " + 3 * LIMIT_MS / 1000 + " s");
        }
        synchronized (wrong) {
            if (!wrong.isEmpty()) {
                throw new AssertionError(wrong.get(0).toString(), wrong.get(0));
            }
        }
    }

    // ---- sessions ----

    /** What a watcher has seen: the events of znodes, and the last state of the session. */
    static class Seen implements Watcher {
        final List<WatchedEvent> events = new ArrayList<>();
        final List<Event.KeeperState> states = new ArrayList<>();

        @Override
        public synchronized void process(WatchedEvent e) {
            if (e.getType() == Event.EventType.None) {
                states.add(e.getState());
            } else {
                events.add(e);
            }
        }

        synchronized int count() {
            return events.size();
        }

        synchronized boolean isIn(Event.KeeperState state) {
            return !states.isEmpty() && states.get(states.size() - 1) == state;
        }

        /** "NodeCreated /x, ..." of all that came. */
        synchronized String all() {
            StringBuilder text = new StringBuilder();
            for (WatchedEvent e : events) {
                text.append(text.length() == 0 ? "" : ", ");
                text.append(e.getType()).append(' ').append(e.getPath());
            }
            return text.toString();
        }

        void await(String expected) throws Exception {
            long commas = expected.chars().filter(c -> c == ',').count();
            until(() -> count() > commas, "\"" + expected + "\"; there is \"" + all() + "\"");
            same(all(), expected);
        }
    }

    static ZooKeeper open(String to, Seen seen) throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper zk = new ZooKeeper(to, TIMEOUT_MS, e -> {
            seen.process(e);
            if (e.getState() == Watcher.Event.KeeperState.SyncConnected) {
                connected.countDown();
            }
        });
        check(connected.await(LIMIT_MS, TimeUnit.MILLISECONDS), "no connection to " + to);
        return zk;
    }

    static ZooKeeper open() throws Exception {
        return open(hosts, new Seen());
    }

    /** A place of its own for each test. */
    static String fresh(ZooKeeper zk) throws Exception {
        String top = "/battery-java";
        try {
            zk.create(top, NOTHING, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        } catch (KeeperException.NodeExistsException e) {
            // another test made it
        }
        return zk.create(top + "/" + ProcessHandle.current().pid() + "-"
                + numbers.incrementAndGet(), NOTHING, Ids.OPEN_ACL_UNSAFE,
                CreateMode.PERSISTENT);
    }

    static String make(ZooKeeper zk, String path, CreateMode mode) throws Exception {
        return zk.create(path, NOTHING, Ids.OPEN_ACL_UNSAFE, mode);
    }

    /** What others wrote through other servers is seen after a sync, and only then surely. */
    static void catchUp(ZooKeeper... all) throws Exception {
        for (ZooKeeper zk : all) {
            CountDownLatch done = new CountDownLatch(1);
            zk.sync("/", (rc, path, ctx) -> done.countDown(), null);
            check(done.await(LIMIT_MS, TimeUnit.MILLISECONDS), "no answer to sync");
        }
    }

    /** Closes the client's socket under it, the way the client's own tests do. */
    static void closeSocket(ZooKeeper zk) throws Exception {
        Object connection = field(ZooKeeper.class, zk, "cnxn");
        Object thread = field(connection.getClass(), connection, "sendThread");
        Method close = thread.getClass().getDeclaredMethod("testableCloseSocket");
        close.setAccessible(true);
        close.invoke(thread);
    }

    private static Object field(Class<?> type, Object of, String name) throws Exception {
        Field field = type.getDeclaredField(name);
        field.setAccessible(true);
        return field.get(of);
    }

    /** Ends a session, as if it had expired: a second client takes it over and closes it. */
    static void endSession(ZooKeeper zk) throws Exception {
        Seen seen = new Seen();
        ZooKeeper second = new ZooKeeper(hosts, TIMEOUT_MS, seen, zk.getSessionId(),
                zk.getSessionPasswd());
        until(() -> seen.isIn(Watcher.Event.KeeperState.SyncConnected), "the second client");
        second.close();
    }

    /** The address that the client is connected to. */
    static String serverOf(ZooKeeper zk) {
        // The client tells it in its own description only.
        String text = zk.toString();
        int from = text.indexOf("remoteserver:") + "remoteserver:".length();
        String address = text.substring(from, text.indexOf(' ', from));
        return address.substring(address.indexOf('/') + 1, address.lastIndexOf(':'));
    }

    static boolean isEnsemble() {
        return hosts.contains(",");
    }
}
