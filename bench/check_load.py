#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Does the load generator notice wrong replies? Between it and a server stands a proxy that
changes one frame; each change must end the run with the words that say what was wrong.

    check_load.py
"""
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from peers import TOP, Server  # noqa: E402

LOAD = os.path.join(TOP, "build", "tool_load")
NTH = 20  # the frame that is changed, of those that are meant: well after the preparations
EVENT = -1
HEADER = struct.Struct(">iqi")  # xid, zxid, err
CHUNK = 65536


def is_reply(frame):
    return HEADER.unpack_from(frame)[0] > 0


def is_event(frame):
    return HEADER.unpack_from(frame)[0] == EVENT


def is_children(frame):
    """A list of one name of a contender for the lock, n-0000000000."""
    return is_reply(frame) and len(frame) == HEADER.size + 4 + 4 + 12


def header(frame, xid=0, err=0):
    """The frame with so much more in its header."""
    x, zxid, e = HEADER.unpack_from(frame)
    return HEADER.pack(x + xid, zxid, e + err) + frame[HEADER.size:]


def flip(at):
    """The frame with one bit of a byte behind its header changed; at < 0: from the end."""
    def change(frame):
        i = HEADER.size + at if at >= 0 else len(frame) + at
        return [frame[:i] + bytes([frame[i] ^ 1]) + frame[i + 1:]]
    return change


# A Stat is 68 bytes: version at 32 of them, data_len at 52.
VERSION, DATA_LEN = -68 + 35, -68 + 55
ENDED = "ended the connection"
# operation, what is done to the frame, which frame, what load must say
FAULTS = {
    "a reply to another request": ("set", lambda f: [header(f, xid=1)], is_reply,
                                   "expected is one to"),
    "an error": ("set", lambda f: [header(f, err=-101)], is_reply, "has error -101"),
    "a reply that is lost": ("get window=4", lambda f: [], is_reply, "expected is one to"),
    "a reply that comes twice": ("get window=4", lambda f: [f, f], is_reply,
                                 "expected is one to"),
    "a reply that is cut": ("set", lambda f: [f[:-1]], is_reply, "cannot be read"),
    "a reply that is too long": ("set", lambda f: [f + b"\0"], is_reply, "too long"),
    "a set with another version": ("set", flip(VERSION), is_reply, "expected is version"),
    "a get with another version": ("mix50", flip(VERSION), is_reply, "expected is version"),
    "exists with another length": ("exists", flip(DATA_LEN), is_reply, "expected is version"),
    "a stale value": ("get", flip(4 + 7), is_reply, "other data than was written"),
    "a spoiled value": ("get", flip(4 + 99), is_reply, "other data than was written"),
    "another path created": ("create", flip(-1), is_reply, "created is number"),
    "another name created": ("create", flip(4 + 1), is_reply, "expected was"),
    "a sequence that goes back": ("eseq", flip(-3), is_reply, "sequence number"),
    "a part of a multi that differs": ("multi", flip(-9 - 68 + 35), is_reply,
                                       "expected is version"),
    "an event that comes twice": ("pwatch sessions=1", lambda f: [f, f], is_event,
                                  "an event too many"),
    "an event of another path": ("watch sessions=1", flip(-1), is_event, "expected is event"),
    "an event of another type": ("watch sessions=1", flip(3), is_event, "expected is event"),
    "a contender that is not there": ("lock sessions=1", flip(-1), is_children,
                                      "is not among the contenders"),
    "a connection that ends": ("get", lambda f: None, is_reply, ENDED),
}


class Proxy:
    """Passes frames on; `change` makes a list of frames of the one that it is given, or None: the
    connection ends."""

    def __init__(self, port, change, is_meant):
        self.port, self.change, self.is_meant = port, change, is_meant
        self.seen, self.changed = 0, False
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.own_port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.port))
            for s in (client, server):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.requests, args=(client, server), daemon=True).start()
            threading.Thread(target=self.replies, args=(server, client), daemon=True).start()

    @staticmethod
    def requests(client, server):
        try:
            while more := client.recv(CHUNK):
                server.sendall(more)
        except OSError:
            pass
        server.close()

    def replies(self, server, client):
        data, is_first = b"", True
        try:
            while more := server.recv(CHUNK):
                data += more
                while len(data) >= 4 and len(data) >= 4 + (n := struct.unpack(">i", data[:4])[0]):
                    frame, data = data[4:4 + n], data[4 + n:]
                    frames = [frame] if is_first else self.frames(frame)
                    is_first = False
                    if frames is None:
                        client.shutdown(socket.SHUT_RDWR)
                        return
                    for f in frames:
                        client.sendall(struct.pack(">i", len(f)) + f)
        except OSError:
            pass
        client.close()

    def frames(self, frame):
        with self.lock:
            if self.change is None or not self.is_meant(frame):
                return [frame]
            self.seen += 1
            if self.seen != NTH:
                return [frame]
            self.changed = True
        return self.change(frame)

    def end(self):
        self.listener.close()


def run(server, number, words, change, is_meant):
    proxy = Proxy(server.client, change, is_meant)
    try:
        r = subprocess.run([LOAD, f"127.0.0.1:{proxy.own_port}", *words.split(),
                            f"name=c{number}", "requests=60"],
                           capture_output=True, text=True, timeout=60, check=False)
    finally:
        proxy.end()
    return r.returncode, r.stderr.strip(), proxy.changed


def main():
    failed = 0
    top = tempfile.mkdtemp(prefix="bench-check-", dir=os.path.join(TOP, "build"))
    server = Server("muster", top)
    try:
        server.start().wait()
        for number, words in enumerate(sorted({f[0] for f in FAULTS.values()})):
            code, why, _ = run(server, f"w{number}", words, None, is_reply)
            failed += code != 0
            print(f"ok bench: load {words} through a proxy" if code == 0 else
                  f"FAILED bench: load {words} through a proxy: {why}", flush=True)
        for number, (name, (words, change, is_meant, said)) in enumerate(FAULTS.items()):
            code, why, changed = run(server, number, words, change, is_meant)
            well = changed and code == 1 and said in why
            failed += not well
            print(f"ok bench: load notices {name}" if well else
                  f"FAILED bench: load notices {name}: exit code {code}, frame changed: {changed}, "
                  f"it said: {why[-300:]}", flush=True)
    finally:
        server.end()
        shutil.rmtree(top, ignore_errors=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
