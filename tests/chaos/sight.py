# SPDX-License-Identifier: Apache-2.0
"""Who answers for the addresses of a Bed: the probers of tests/cluster, one pair an address.

They stand on the bridge beside the machines, and no fault is between them and these: what they
see is what a client in any place of a broken network could meet.
"""
import os
import signal
import subprocess

from bed import ADDRESSES, BUILD, Failed
from cluster import PORT_RESPONDER
from probe import Answer, Probe

# An ARP answer does not say which question it answers: it may be an older one.
ARP_LATE_S = 0.3


class One(Probe):
    """The probers of one address, for one round."""

    def __init__(self, site, address, client, watch):
        super().__init__(site)
        self.address, self.names = address, {"client": client, "watch": watch}

    def start_in(self, where):
        tool = os.path.join(BUILD, "tool_prober")
        macs = [f"{m.name}={m.mac}" for m in self.site.machines.values()]
        for kind, words in (
                ("client", ["client", self.address, str(PORT_RESPONDER)]),
                ("watch", ["watch", "eth0", self.address, str(PORT_RESPONDER)] + macs)):
            ns = self.site.probes[self.names[kind]][0]
            path = os.path.join(where, f"{self.names[kind]}.seen")
            with open(path, "wb") as out:
                self.programs.append(subprocess.Popen(
                    ["ip", "netns", "exec", ns, tool] + words, stdin=subprocess.DEVNULL,
                    stdout=out, start_new_session=True))
            self.files[kind] = path

    def finish(self):
        for p in self.programs:
            if p.poll() is not None:
                raise Failed(f"the prober of {self.address} ended by itself")
            p.send_signal(signal.SIGTERM)
        for p in self.programs:
            p.wait(30)
        self.programs = []
        self.take_in()

    def take_in(self):
        for kind, path in self.files.items():
            with open(path, encoding="utf-8") as f:
                for line in f:
                    words = line.split()
                    if len(words) != 4:
                        continue  # the last one, cut off
                    how, sent, received, name = words
                    sent = int(sent) / 1e6 - (ARP_LATE_S if how == "A" else 0.0)
                    into = self.client if kind == "client" else self.watch
                    into.append(Answer(sent, int(received) / 1e6,
                                       None if name == "-" else name))

    def kill(self):
        for p in self.programs:
            p.kill()
            p.wait(30)
        self.programs = []


class Sight:
    def __init__(self, bed):
        self.bed = bed
        self.probes = []

    def begin(self, where):
        self.probes = [One(self.bed, ADDRESSES[0], "client", "watch"),
                       One(self.bed, ADDRESSES[1], "client2", "watch2")]
        for p in self.probes:
            p.start_in(where)

    def end(self):
        """([longest time without an answer, for each address], what was wrong)"""
        gaps, wrong = [], []
        for p in self.probes:
            p.finish()
            if not p.client or not p.watch:
                wrong.append(f"the probers of {p.address} saw nothing")
                continue
            begin, end = p.client[0].sent, p.client[-1].sent
            gaps.append(p.longest_gap(begin, end))
            doubles = p.doubles(begin, end)
            if doubles:
                wrong.append(f"two machines answered for {p.address}: {len(doubles)} answers in "
                             f"{p.double_time(begin, end) * 1000:.0f} ms, the first at "
                             f"{doubles[0].sent:.3f} by {doubles[0].name}")
        self.probes = []
        return gaps, wrong

    def stop(self):
        for p in self.probes:
            p.kill()
