# SPDX-License-Identifier: Apache-2.0
"""Who answered for the address, and when: runs the probers and reads what they saw.

Times are seconds of time.monotonic(), which is the clock of prober.c.
"""
import collections
import os
import signal
import subprocess
import time

from cluster import BUILD, PORT_RESPONDER, Failed, wait_for

# A machine that was asked every 5 ms and gave no answer for so long had stopped answering.
QUIET = 0.1

Answer = collections.namedtuple("Answer", "sent received name")


class Probe:
    """Needs a site that was made with probes=("client", "watch")."""

    def __init__(self, site):
        self.site = site
        self.programs = []
        self.files = {}
        self.client = []  # Answer; name None: no answer in time
        self.watch = []   # Answer: by ARP or by packet
        self.rest = {}
        self.offsets = {}

    def start(self):
        os.makedirs(self.site.dir, exist_ok=True)
        tool = os.path.join(BUILD, "tool_prober")
        macs = [f"{m.name}={m.mac}" for m in self.site.machines.values()]
        for kind, words in (
                ("client", ["client", self.site.vip, str(PORT_RESPONDER)]),
                ("watch", ["watch", "eth0", self.site.vip, str(PORT_RESPONDER)] + macs)):
            ns = self.site.probes[kind][0]
            path = os.path.join(self.site.dir, f"{kind}.seen")
            with open(path, "wb") as out:
                self.programs.append(subprocess.Popen(
                    ["ip", "netns", "exec", ns, tool] + words, stdin=subprocess.DEVNULL,
                    stdout=out, start_new_session=True))
            self.files[kind] = path
            self.offsets[kind] = 0
            self.rest[kind] = ""

    def stop(self):
        for p in self.programs:
            p.send_signal(signal.SIGTERM)
        for p in self.programs:
            p.wait(5)
        self.programs = []
        self.read()

    def read(self):
        """Takes in what was written since the last time."""
        for p in self.programs:
            if p.poll() is not None:
                raise Failed("a prober ended by itself")
        for kind, path in self.files.items():
            with open(path, encoding="utf-8") as f:
                f.seek(self.offsets[kind])
                text = self.rest[kind] + f.read()
                self.offsets[kind] = f.tell()
            lines = text.split("\n")
            self.rest[kind] = lines.pop()
            into = self.client if kind == "client" else self.watch
            for line in lines:
                _, sent, received, name = line.split()
                into.append(Answer(int(sent) / 1e6, int(received) / 1e6,
                                   None if name == "-" else name))

    def forget(self, before):
        self.client = [a for a in self.client if a.received >= before]
        self.watch = [a for a in self.watch if a.received >= before]

    # ---- questions ----

    def holder(self, window=0.25):
        """Who answers now; None: nobody, or not only one."""
        self.read()
        since = time.monotonic() - window
        names = {a.name for a in self.watch if a.received >= since}
        seen = {a.name for a in self.client if a.sent >= since and a.name}
        return names.pop() if len(names) == 1 and seen == names else None

    def wait_holder(self, limit=20, other_than=None):
        def settled():
            h = self.holder()
            return h if h != other_than else None
        return wait_for(settled, limit, f"one machine to answer for {self.site.vip} "
                        f"(by the kernels: {self.site.holder_by_kernel()})", 0.05)

    def failover(self, fault, old):
        """Seconds from the fault to the first question that another machine answered."""
        for a in self.client:
            if a.sent >= fault and a.name and a.name != old:
                return a.sent - fault
        return None

    def longest_gap(self, begin, end):
        """The longest time in which no question got an answer, whoever gave it."""
        good = sorted(a.sent for a in self.client if a.name and begin <= a.sent <= end)
        marks = [begin] + good + [end]
        return max(b - a for a, b in zip(marks, marks[1:]))

    def late(self, name, after, before):
        """Answers of that machine to questions asked in that time."""
        return [a for a in self.watch if a.name == name and after < a.sent < before]

    def spans(self, begin, end):
        """For each machine: when it surely answered without a pause, [(from, to)]."""
        per = collections.defaultdict(list)
        for a in sorted(self.watch, key=lambda a: a.sent):
            if begin <= a.sent <= end:
                per[a.name].append(a)
        spans = {}
        for name, answers in per.items():
            found, first, last = [], answers[0], answers[0]
            for a in answers[1:]:
                if a.sent - last.sent > QUIET:
                    found.append((first.received, last.sent))
                    first = a
                last = a
            found.append((first.received, last.sent))
            spans[name] = found
        return spans

    def doubles(self, begin, end):
        """Answers given while, surely, another machine answered as well."""
        spans = self.spans(begin, end)
        found = []
        for a in self.watch:
            if begin <= a.sent <= end:
                for name, list_of in spans.items():
                    if name != a.name and any(f <= a.sent and a.received <= t
                                              for f, t in list_of):
                        found.append(a)
                        break
        return found

    def double_time(self, begin, end):
        """Seconds in which two machines answered."""
        spans = self.spans(begin, end)
        names = sorted(spans)
        total = 0.0
        for i, x in enumerate(names):
            for y in names[i + 1:]:
                for xf, xt in spans[x]:
                    for yf, yt in spans[y]:
                        total += max(0.0, min(xt, yt) - max(xf, yf))
        return total
