# SPDX-License-Identifier: Apache-2.0
"""The clients of a Bed, all of them: kazoo (clients.py), the C client, muster's own commands."""
import json
import os
import subprocess
import threading
import time

from bed import C_CLIENT, MUSTER, Failed

HERE = os.path.dirname(os.path.abspath(__file__))
KAZOO_CLIENTS = 5
C_CLIENTS = 2
COMMANDS = 90            # the number of the process that commands are in the history
COMMAND_PAUSE_S = 1.0
ANSWER_LIMIT_S = 400     # for a whole verification on a busy machine


class Program:
    """A program in the clients' namespace that takes lines and gives lines of JSON."""

    def __init__(self, bed, log, *words):
        with open(os.path.join(bed.dir, log), "ab") as out:
            self.p = subprocess.Popen(["ip", "netns", "exec", bed.probes["ops"][0], *words],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out,
                                      text=True, start_new_session=True)
        self.name = log

    def send(self, line):
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()

    def answer(self):
        timer = threading.Timer(ANSWER_LIMIT_S, self.p.kill)
        timer.start()
        line = self.p.stdout.readline()
        timer.cancel()
        if not line:
            raise Failed(f"a client ended ({self.name})")
        return json.loads(line)

    def kill(self):
        self.p.kill()
        self.p.wait(30)


class Commands(threading.Thread):
    """muster set, now and then, as a person would; in the history like everybody."""

    def __init__(self, bed):
        super().__init__(daemon=True)
        self.bed = bed
        self.path = self.out = None
        self.count = 0
        self.idle = threading.Event()
        self.is_over = False
        self.servers = ",".join(m.address for m in bed.machines.values())
        self.start()

    def run(self):
        while not self.is_over:
            if self.path is None:
                self.idle.set()
                time.sleep(0.05)
                continue
            self.step()
            time.sleep(COMMAND_PAUSE_S)

    def step(self):
        self.count += 1
        value = COMMANDS * 10 ** 8 + self.count
        key = f"{self.path}/r{self.count % 2}"
        op = {"process": COMMANDS, "id": self.count, "f": "write", "key": key, "value": value,
              "session": self.count, "start": time.monotonic_ns()}
        try:
            r = subprocess.run(["ip", "netns", "exec", self.bed.probes["ops"][0], MUSTER, "set",
                                key, str(value), "--json", "--timeout", "5", "--server",
                                self.servers], capture_output=True, text=True, timeout=60,
                               stdin=subprocess.DEVNULL, check=False)
            op["type"] = {0: "ok", 5: "fail"}.get(r.returncode, "info")
            if r.returncode == 0:
                op.update(self.stat_in(r.stdout))
            if r.returncode == 5:
                op["err"] = "NO_NODE"
        except subprocess.TimeoutExpired:
            op["type"] = "info"
            self.out.write(f"# wrong muster set {key} did not end within 60 s\n")
        op["end"] = time.monotonic_ns()
        self.out.write(json.dumps(op) + "\n")

    @staticmethod
    def stat_in(text):
        """What set --json prints of the znode."""
        stat = json.loads(text)["stat"]
        return {"version": stat["version"], "mzxid": stat["mzxid"]}

    def begin(self, path, name):
        self.out = open(name, "a", encoding="utf-8")  # pylint: disable=consider-using-with
        self.path = path

    def rest(self):
        self.idle.clear()
        self.path = None
        if not self.idle.wait(120):
            raise Failed("muster set does not end")
        self.out.close()


class Witnesses:
    def __init__(self, bed, seed):
        self.bed = bed
        self.seed = str(seed)
        self.programs = []
        self.commands = None

    def start(self):
        addresses = [m.address for m in self.bed.machines.values()]
        self.programs = [Program(self.bed, "kazoo.log", "/usr/bin/python3",
                                 os.path.join(HERE, "clients.py"), "1", str(KAZOO_CLIENTS),
                                 self.seed, *addresses)]
        self.programs += [Program(self.bed, f"c{i}.log", C_CLIENT, str(50 + i), self.seed,
                                  *addresses) for i in range(C_CLIENTS)]
        self.commands = Commands(self.bed)

    def ask(self, programs, lines):
        """All at once; the problems."""
        for p, line in zip(programs, lines):
            p.send(line)
        answers = [p.answer() for p in programs]
        return answers, [a["problem"] for a in answers if a.get("problem")]

    def begin(self, path, where):
        # The first makes the znodes that the others work below.
        for i, p in enumerate(self.programs):
            _, problems = self.ask([p], [f"begin {path} {where}/history-{i}.jsonl"])
            if problems:
                raise Failed(f"the clients cannot begin: {problems}")
        self.commands.begin(path, f"{where}/history-commands.jsonl")

    def rest(self):
        self.commands.rest()
        _, problems = self.ask(self.programs, ["rest"] * len(self.programs))
        if problems:
            raise Failed(f"clients do not rest: {problems}")

    def verify(self):
        return self.ask(self.programs, ["verify"] * len(self.programs))[1]

    def end(self, into):
        # The first removes the znodes: last.
        wrong = []
        for p in reversed(self.programs):
            answers, problems = self.ask([p], ["end"])
            wrong += problems
            for name, n in answers[0].get("errors", {}).items():
                into["errors"][name] += n
        return wrong

    def stop(self):
        if self.commands:
            self.commands.is_over = True
        for p in self.programs:
            p.kill()
