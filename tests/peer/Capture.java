// SPDX-License-Identifier: Apache-2.0
/* Capture.java -- the bytes that Apache ZooKeeper's own client and server send each other.
 *
 *   java Capture.java SERVER_PORT OUT_FILE
 *
 * A Java client asks the server everything that it can, through a proxy in this process that
 * keeps all frames. Then each frame is taken apart with ZooKeeper's own record classes, and
 * each record becomes a line of OUT_FILE: its name in src/wire/wire.h, its bytes, and its
 * fields as these classes print them; before the first of a kind, the names of its fields. capture.py runs this.
 */
import java.io.ByteArrayInputStream;
import java.io.DataInputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintWriter;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.jute.BinaryInputArchive;
import org.apache.jute.Record;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.admin.ZooKeeperAdmin;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.ClientInfo;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;
import org.apache.zookeeper.proto.*;

public class Capture {
    static class Frame {
        int connection;
        boolean fromClient;
        byte[] bytes;
    }

    static final List<Frame> frames = new ArrayList<>();
    static final List<Socket> sockets = new ArrayList<>();
    static int connections;

    static void pump(Socket from, Socket to, int connection, boolean fromClient) {
        try {
            DataInputStream in = new DataInputStream(from.getInputStream());
            OutputStream out = to.getOutputStream();
            for (;;) {
                Frame f = new Frame();
                f.connection = connection;
                f.fromClient = fromClient;
                f.bytes = new byte[in.readInt()];
                in.readFully(f.bytes);
                synchronized (frames) {
                    frames.add(f);
                }
                byte[] length = java.nio.ByteBuffer.allocate(4).putInt(f.bytes.length).array();
                out.write(length);
                out.write(f.bytes);
                out.flush();
            }
        } catch (IOException e) {
            close(from);
            close(to);
        }
    }

    static void close(Socket s) {
        try {
            s.close();
        } catch (IOException e) {
            // it was closed
        }
    }

    static ServerSocket proxy(int serverPort) throws IOException {
        ServerSocket listener = new ServerSocket(0, 50, InetAddress.getByName("127.0.0.1"));
        Thread t = new Thread(() -> {
            try {
                for (;;) {
                    Socket client = listener.accept();
                    Socket server = new Socket("127.0.0.1", serverPort);
                    int n = connections++;
                    synchronized (sockets) {
                        sockets.add(client);
                        sockets.add(server);
                    }
                    start(() -> pump(client, server, n, true));
                    start(() -> pump(server, client, n, false));
                }
            } catch (IOException e) {
                // the end
            }
        });
        t.setDaemon(true);
        t.start();
        return listener;
    }

    static void start(Runnable r) {
        Thread t = new Thread(r);
        t.setDaemon(true);
        t.start();
    }

    // ---- what the client asks ----

    interface Asking {
        void ask() throws Exception;
    }

    static void refused(Asking a) throws Exception {
        try {
            a.ask();
            throw new IllegalStateException("it was not refused");
        } catch (KeeperException e) {
            // as it should be
        }
    }

    static byte[] bytes(String s) { return s.getBytes(StandardCharsets.UTF_8); }

    static void askAll(ZooKeeperAdmin zk, CountDownLatch[] connected) throws Exception {
        List<ACL> open = ZooDefs.Ids.OPEN_ACL_UNSAFE;
        Stat stat = new Stat();

        zk.addAuthInfo("digest", bytes("joe:secret"));
        zk.create("/a", bytes("hello"), open, CreateMode.PERSISTENT);
        zk.create("/null", null, open, CreateMode.PERSISTENT);
        zk.create("/empty", new byte[0], ZooDefs.Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        zk.create("/a/\u00e4\u20ac", bytes("x"), open, CreateMode.EPHEMERAL);
        zk.create("/a/s-", bytes("x"), open, CreateMode.PERSISTENT_SEQUENTIAL, stat);
        zk.create("/c", bytes("x"), open, CreateMode.CONTAINER, stat);
        zk.create("/t", bytes("x"), open, CreateMode.PERSISTENT_WITH_TTL, stat, 86400000L);
        refused(() -> zk.create("/a", null, open, CreateMode.PERSISTENT));
        zk.exists("/a", true);
        refused(() -> zk.getData("/no", false, stat));
        zk.getData("/a", true, stat);
        zk.getData("/null", false, stat);
        zk.setData("/a", bytes("world"), 0);
        zk.getChildren("/a", true);
        zk.getChildren("/a", false, stat);
        zk.getACL("/empty", stat);
        zk.setACL("/a", Arrays.asList(new ACL(31, new Id("world", "anyone")),
                                      new ACL(1, new Id("digest", "joe:x")),
                                      new ACL(3, new Id("ip", "10.0.0.0/8"))), 0);
        zk.getEphemerals();
        zk.getEphemerals("/a");
        zk.getAllChildrenNumber("/");
        zk.whoAmI();
        CountDownLatch synced = new CountDownLatch(1);
        zk.sync("/a", (rc, path, context) -> synced.countDown(), null);
        await(synced);
        zk.multi(Arrays.asList(Op.check("/a", 1), Op.create("/m", bytes("m"), open, 0),
                               Op.create("/mc", bytes("m"), open, 4),
                               Op.create("/mt", bytes("m"), open, CreateMode.PERSISTENT_WITH_TTL, 5000L),
                               Op.setData("/m", bytes("n"), 0), Op.delete("/m", 1)));
        refused(() -> zk.multi(Arrays.asList(Op.delete("/c", -1), Op.check("/no", 0),
                                             Op.delete("/a", -1))));
        zk.multi(Arrays.asList(Op.getData("/a"), Op.getChildren("/a"), Op.getData("/no")));
        zk.delete("/null", -1);
        zk.addWatch("/p", AddWatchMode.PERSISTENT);
        zk.addWatch("/r", AddWatchMode.PERSISTENT_RECURSIVE);
        Watcher w = event -> { };
        zk.exists("/w", w);
        zk.removeWatches("/w", w, Watcher.WatcherType.Data, false);
        zk.removeAllWatches("/p", Watcher.WatcherType.Any, false);
        refused(() -> zk.reconfigure("server.2=h:1:2;3", "1", null, -1, stat));
        zk.create("/r", null, open, CreateMode.PERSISTENT);
        zk.exists("/later", true);
        // The connection is lost: the client sets its watches again.
        again(connected);
        zk.getData("/a", true, stat);
    }

    static void await(CountDownLatch l) throws Exception {
        if (!l.await(20, TimeUnit.SECONDS))
            throw new IllegalStateException("nothing happens");
    }

    static void again(CountDownLatch[] connected) throws Exception {
        connected[0] = new CountDownLatch(1);
        synchronized (sockets) {
            for (Socket s : sockets)
                close(s);
            sockets.clear();
        }
        await(connected[0]);
    }

    static void run(int port) throws Exception {
        CountDownLatch[] connected = {new CountDownLatch(1)};
        Watcher watcher = event -> {
            if (event.getType() == Watcher.Event.EventType.None
                && event.getState() == Watcher.Event.KeeperState.SyncConnected)
                connected[0].countDown();
        };
        try (ZooKeeperAdmin zk = new ZooKeeperAdmin("127.0.0.1:" + port, 20000, watcher)) {
            await(connected[0]);
            askAll(zk, connected);
        }
        // One without persistent watches: it uses the older setWatches.
        connected[0] = new CountDownLatch(1);
        try (ZooKeeper zk = new ZooKeeper("127.0.0.1:" + port, 20000, watcher)) {
            await(connected[0]);
            zk.exists("/later", true);
            zk.getData("/a", true, null);
            zk.getChildren("/a", true);
            again(connected);
            zk.exists("/a", false);
        }
    }

    // ---- taking apart ----

    static class Reader {
        final byte[] bytes;
        final ByteArrayInputStream in;
        final BinaryInputArchive archive;

        Reader(byte[] bytes) {
            this.bytes = bytes;
            in = new ByteArrayInputStream(bytes);
            archive = BinaryInputArchive.getArchive(in);
        }

        int at() { return bytes.length - in.available(); }
    }

    static PrintWriter out;
    static final Map<String, Set<String>> told = new HashMap<>();

    static String hex(byte[] b, int from, int to) {
        StringBuilder s = new StringBuilder();
        for (int i = from; i < to; i++)
            s.append(String.format("%02x", b[i] & 0xff));
        return s.toString();
    }

    /* The names of a record's fields, in their order. */
    static void tellFields(String name, Class<?> record) {
        if (!told.containsKey(name)) {
            told.put(name, new HashSet<>());
            StringBuilder s = new StringBuilder("fields " + name);
            for (java.lang.reflect.Field f : record.getDeclaredFields())
                s.append(" " + f.getName());
            out.println(s);
        }
    }

    /* The first few different ones of each kind. */
    static void tell(String name, String by, byte[] b, int from, int to, String fields) {
        Set<String> lines = told.computeIfAbsent(name + by, k -> new HashSet<>());
        String line = name + " " + by + " " + hex(b, from, to) + " " + fields;
        int most = name.endsWith("_header") ? 3 : 8;
        if (lines.size() < most && lines.add(line))
            out.println(line);
    }

    static <T extends Record> T take(Reader r, String name, String by, T record) throws IOException {
        int from = r.at();
        record.deserialize(r.archive, "");
        tellFields(name, record.getClass());
        tell(name, by, r.bytes, from, r.at(), text(record));
        return record;
    }

    static String text(Record r) { return r.toString().trim().replace("\n", "").replace(" ", "\\20"); }

    static void end(Reader r, Frame f, String what) {
        if (r.in.available() > 0)
            throw new IllegalStateException(what + ": bytes are left: " + hex(f.bytes, r.at(), f.bytes.length));
    }

    static void request(Reader r, int op, String by) throws IOException {
        switch (op) {
        case 1: case 15: case 19: take(r, "create_request", by, new CreateRequest()); break;
        case 21: take(r, "create_ttl_request", by, new CreateTTLRequest()); break;
        case 2: take(r, "path_version_request", by, new DeleteRequest()); break;
        case 13: take(r, "path_version_request", by, new CheckVersionRequest()); break;
        case 3: take(r, "path_watch_request", by, new ExistsRequest()); break;
        case 4: take(r, "path_watch_request", by, new GetDataRequest()); break;
        case 8: take(r, "path_watch_request", by, new GetChildrenRequest()); break;
        case 12: take(r, "path_watch_request", by, new GetChildren2Request()); break;
        case 5: take(r, "set_data_request", by, new SetDataRequest()); break;
        case 6: take(r, "path_request", by, new GetACLRequest()); break;
        case 9: take(r, "path_request", by, new SyncRequest()); break;
        case 104: take(r, "path_request", by, new GetAllChildrenNumberRequest()); break;
        case 103: take(r, "get_ephemerals_request", by, new GetEphemeralsRequest()); break;
        case 7: {
            SetACLRequest q = take(r, "set_acl_request", by, new SetACLRequest());
            for (ACL a : q.getAcl())
                nested("acl", by, a);
            break;
        }
        case 14: case 22: multi(r, by, false); break;
        case 16: take(r, "reconfig_request", by, new ReconfigRequest()); break;
        case 17: take(r, "watch_type_request", by, new CheckWatchesRequest()); break;
        case 18: take(r, "watch_type_request", by, new RemoveWatchesRequest()); break;
        case 100: take(r, "auth_request", by, new AuthPacket()); break;
        case 101: take(r, "set_watches_request", by, new SetWatches()); break;
        case 105: take(r, "set_watches2_request", by, new SetWatches2()); break;
        case 106: take(r, "add_watch_request", by, new AddWatchRequest()); break;
        case 102: take(r, "sasl_request", by, new GetSASLRequest()); break;
        case 11: case -11: case 107: break;
        default: throw new IllegalStateException("request " + op);
        }
    }

    static void reply(Reader r, int op, String by) throws IOException {
        switch (op) {
        case 1: take(r, "path_response", by, new CreateResponse()); break;
        case 9: take(r, "path_response", by, new SyncResponse()); break;
        case 15: case 19: case 21: take(r, "create2_response", by, new Create2Response()); break;
        case 3: nested("stat", by, take(r, "stat_response", by, new ExistsResponse()).getStat()); break;
        case 5: take(r, "stat_response", by, new SetDataResponse()); break;
        case 7: take(r, "stat_response", by, new SetACLResponse()); break;
        case 4: take(r, "data_response", by, new GetDataResponse()); break;
        case 6: take(r, "acl_response", by, new GetACLResponse()); break;
        case 8: take(r, "children_response", by, new GetChildrenResponse()); break;
        case 103: take(r, "children_response", by, new GetEphemeralsResponse()); break;
        case 12: take(r, "children2_response", by, new GetChildren2Response()); break;
        case 104: take(r, "count_response", by, new GetAllChildrenNumberResponse()); break;
        case 106: case -1: take(r, "error_response", by, new ErrorResponse()); break;
        case 107: {
            WhoAmIResponse a = take(r, "who_am_i_response", by, new WhoAmIResponse());
            for (ClientInfo i : a.getClientInfo())
                nested("id", by, i);
            break;
        }
        case 14: case 22: multi(r, by, true); break;
        case 102: take(r, "sasl_response", by, new SetSASLResponse()); break;
        case 2: case 13: case 11: case 17: case 18: case 100: case 101: case 105: case -11: break;
        default: throw new IllegalStateException("reply " + op);
        }
    }

    static void nested(String name, String by, Record record) throws IOException {
        java.io.ByteArrayOutputStream b = new java.io.ByteArrayOutputStream();
        tellFields(name, record.getClass());
        record.serialize(org.apache.jute.BinaryOutputArchive.getArchive(b), "");
        tell(name, by, b.toByteArray(), 0, b.size(), text(record));
    }

    static void multi(Reader r, String by, boolean isReply) throws IOException {
        for (;;) {
            MultiHeader h =
                take(r, "multi_header", by, new MultiHeader());
            if (h.getDone())
                return;
            if (isReply)
                reply(r, h.getType(), by);
            else
                request(r, h.getType(), by);
        }
    }

    /* readOnly stands behind the record itself. */
    static void connect(Reader r, String name, String by, Record record) throws IOException {
        record.deserialize(r.archive, "");
        tellFields(name, record.getClass());
        boolean readOnly = r.archive.readBool("readOnly");
        tell(name, by, r.bytes, 0, r.at(), text(record) + (readOnly ? ",T" : ",F"));
    }

    static void takeApart() throws IOException {
        Map<String, Integer> ops = new HashMap<>(); // asked, not yet answered
        Map<Integer, Integer> sent = new HashMap<>(), received = new HashMap<>();

        for (Frame f : frames) {
            Reader r = new Reader(f.bytes);
            String by = f.fromClient ? "client" : "server";
            int n = (f.fromClient ? sent : received).merge(f.connection, 1, Integer::sum);
            if (n == 1 && f.fromClient) {
                connect(r, "connect_request", by, new ConnectRequest());
            } else if (n == 1) {
                connect(r, "connect_response", by, new ConnectResponse());
            } else if (f.fromClient) {
                RequestHeader h = take(r, "request_header", by, new RequestHeader());
                ops.put(f.connection + "/" + h.getXid(), h.getType());
                request(r, h.getType(), by);
            } else {
                ReplyHeader h = take(r, "reply_header", by, new ReplyHeader());
                Integer op = ops.get(f.connection + "/" + h.getXid());
                if (h.getXid() == -1)
                    take(r, "watcher_event", by, new WatcherEvent());
                else if (h.getErr() == 0)
                    reply(r, op, by);
            }
            end(r, f, by);
        }
    }

    public static void main(String[] args) throws Exception {
        ServerSocket listener = proxy(Integer.parseInt(args[0]));
        run(listener.getLocalPort());
        listener.close();
        try (PrintWriter w = new PrintWriter(args[1], "UTF-8")) {
            out = w;
            synchronized (frames) {
                takeApart();
            }
        }
    }
}
