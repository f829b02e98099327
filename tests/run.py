#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./dev test: runs every part and counts. A line a test on stdout, the rest in build/log/.

    run.py [PART...]     gcc units clang cost sim coverage mutants fuzz lint words differ clients
                         patroni moving zoo repair commands input cluster disk ensemble
                         chaos crowd confined backup bench; none: all

The last line is the sum over everything: "N passed, N failed".
"""
import glob
import json
import os
import re
import signal
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOG = os.path.join(TOP, "build", "log")
JOBS = os.environ.get("JOBS", "2")
SEEDS = int(os.environ.get("MUSTER_SEEDS", "1000"))
FUZZ_SECONDS = int(os.environ.get("MUSTER_FUZZ_SECONDS", "3"))
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}


class Part:
    """One part of the tests: its log, and what came of it."""

    def __init__(self, name):
        self.name = name
        self.passed = 0
        self.failed = 0
        self.path = os.path.join(LOG, f"{name}.txt")
        self.log = open(self.path, "w", encoding="utf-8")
        self.begun = time.monotonic()

    def note(self, text):
        self.log.write(text + "\n")
        self.log.flush()

    def result(self, passed, line):
        """One line for a test, or for `passed` of them at once."""
        if passed:
            self.passed += passed if passed is not True else 1
            print(f"ok {line}", flush=True)
        else:
            self.failed += 1
            print(f"FAILED {line}", flush=True)
        self.note(("ok " if passed else "FAILED ") + line)

    def run(self, *words, timeout=900, env=None):
        """Runs a program into the log; its exit code, and what it printed."""
        self.note("$ " + " ".join(words))
        with subprocess.Popen(words, cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace",
                              env={**os.environ, **(env or {})},
                              start_new_session=True) as p:
            try:
                out, _ = p.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                # Terminated, so that it can remove its namespaces; only then killed.
                p.terminate()
                try:
                    out, _ = p.communicate(timeout=30)
                except subprocess.TimeoutExpired:
                    os.killpg(p.pid, signal.SIGKILL)
                    out, _ = p.communicate()
                out += f"\nno end within {timeout} s\n"
                self.note(out)
                return 124, out
            except BaseException:
                p.terminate()
                p.wait(30)
                raise
        self.note(out)
        return p.returncode, out

    def report_lines(self, *words, timeout=900, env=None):
        """A program that prints "ok ..." and "FAILED ..." itself: passed on as it comes."""
        self.note("$ " + " ".join(words))
        found = failed = 0
        with subprocess.Popen(words, cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=self.log, text=True, errors="replace",
                              env={**os.environ, **(env or {})},
                              start_new_session=True) as p:
            signal.signal(signal.SIGALRM, lambda number, frame: p.terminate())
            signal.alarm(timeout)
            try:
                for line in p.stdout:
                    self.note(line.rstrip())
                    if line.startswith(("ok ", "FAILED ")):
                        print(line.rstrip()[:240], flush=True)
                        found += 1
                        failed += line.startswith("FAILED ")
            except BaseException:
                p.terminate()
                p.wait(30)
                raise
            finally:
                signal.alarm(0)
        self.passed += found - failed
        self.failed += failed
        if found == 0 or (p.returncode != 0 and failed == 0):
            self.result(False, f"{self.name}: it ended with code {p.returncode} ({self.path})")

    def build(self, option=""):
        code, _ = self.run("./dev", "build", *([option] if option else []))
        directory = "build" + option.replace("--", "-")
        self.result(code == 0, f"build {option or 'gcc'}: " +
                    ("clean" if code == 0 else f"see {directory}/build.txt"))
        return directory

    def end(self):
        self.note(f"{self.passed} passed, {self.failed} failed, "
                  f"{time.monotonic() - self.begun:.0f} s")
        self.log.close()


def listing(directory, kind):
    with open(os.path.join(TOP, directory, "rooms.txt"), encoding="utf-8") as f:
        return [w[1] for w in (line.split() for line in f) if w[0] == kind]


# ---- the parts ----

def units(part):
    directory = part.build("--asan")
    log = os.path.join(TOP, directory, "meson-logs", "testlog.json")
    if os.path.exists(log):
        os.unlink(log)
    code, out = part.run("meson", "test", "-C", directory, "--no-rebuild", "--print-errorlogs",
                         "--num-processes", JOBS, timeout=2400, env=SANITIZERS)
    if not os.path.exists(log):
        part.result(False, f"units: meson test ended with code {code}: {out[-200:]}")
        return
    seen = set()
    with open(log, encoding="utf-8") as f:
        for line in f:
            r = json.loads(line)
            text = r.get("stdout", "") + r.get("stderr", "")
            tests = len(re.findall(r"^\[       OK \]", text, re.M))
            bad = re.findall(r"^\[  FAILED  \] (\w+)$", text, re.M)
            name = r["name"].split(" / ")[-1].split(":")[-1]
            seen.add(name)
            part.note(text)
            if r["result"] == "OK":  # a program without cmocka counts as one test
                part.result(tests or 1, f"unit {name}: {tests or 1}")
            else:
                part.result(False, f"unit {name}: {r['result']}: "
                            f"{', '.join(sorted(set(bad))) or 'see the log'}")
    for name in listing(directory, "unit"):
        if name not in seen:
            part.result(False, f"unit {name}: not built or not run")


def clang(part):
    part.build("--clang")


def gcc(part):
    part.build()


def last_line(out):
    lines = [line for line in out.splitlines() if line.strip()]
    return lines[-1].strip()[:160] if lines else "no output"


def simulate(part, what, directory, *words, env=None):
    program = os.path.join(directory, "sim_site")
    if not os.access(os.path.join(TOP, program), os.X_OK):
        part.result(False, f"{what}: {program} is not built")
        return
    code, out = part.run(program, *words, env=env)
    worlds = re.findall(r"^\w+: \d+ seeds, \d+ failed", out, re.M)
    part.result(code == 0, f"{what}: {', '.join(worlds) if worlds else last_line(out)}")


def sim(part):
    # With --seeds, the kept ones (tests/sim/seeds) run as well.
    simulate(part, "simulation", "build", "--seeds", str(SEEDS))
    simulate(part, "simulation under the sanitizers", "build-asan", "--seeds",
             str(max(20, SEEDS // 20)), env=SANITIZERS)


def coverage(part):
    code, out = part.run("./dev", "sim", "--coverage", "--states", "--worlds", "site,raft",
                         "--seeds", str(SEEDS), timeout=3600)
    never = [line for line in out.splitlines() if line.startswith("never reached: ")]
    part.result(code == 0, f"states reached: {never[0] if never else last_line(out)}")


def mutants(part):
    directory = part.build("--mutants")
    code, out = part.run("tests/sim/mutants.sh", directory)
    part.result(code == 0, f"planted faults: {last_line(out)}")


def fuzz(part):
    directory = part.build("--fuzz")
    targets = listing(directory, "fuzz")
    if not targets:
        part.result(False, "fuzz: there is no target")
    for target in targets:
        program = os.path.join(directory, target)
        if not os.access(os.path.join(TOP, program), os.X_OK):
            part.result(False, f"fuzz {target}: not built")
            continue
        corpus = os.path.join("tests", "fuzz", "corpus", target)
        new = os.path.join(directory, "corpus", target)
        crashes = os.path.join(directory, "crashes", "")
        os.makedirs(os.path.join(TOP, new), exist_ok=True)
        os.makedirs(os.path.join(TOP, crashes), exist_ok=True)
        code, out = part.run(program, "-runs=0", f"-artifact_prefix={crashes}", corpus,
                             timeout=300)  # which fails where there is none
        part.result(code == 0, f"fuzz {target}: kept inputs")
        code, out = part.run(program, f"-max_total_time={FUZZ_SECONDS}", "-print_final_stats=1",
                             f"-artifact_prefix={crashes}", new, corpus, timeout=300)
        runs = re.search(r"number_of_executed_units: (\d+)", out)
        part.result(code == 0, f"fuzz {target}: " + (
            f"{runs.group(1) if runs else '?'} inputs" if code == 0 else last_line(out)))


def as_root(part):
    if os.geteuid() == 0:
        return True
    part.result(False, f"{part.name}: needs root for network namespaces: not run")
    return False


# The real processes, too, run under the sanitizers where the time that takes does not matter.
SANITIZED = {**SANITIZERS, "MUSTER": os.path.join(TOP, "build-asan", "muster")}


def clients(part):
    if as_root(part):
        part.report_lines("/usr/bin/python3", "tests/clients/run.py", env=SANITIZED)
        part.report_lines("/usr/bin/python3", "tests/peer/sessions.py")


def patroni(part):
    if as_root(part):
        part.report_lines("/usr/bin/python3", "tests/clients/patroni.py", env=SANITIZED)


def moving(part):
    part.report_lines("/usr/bin/python3", "tests/peer/moving.py", env=SANITIZED)


def words(part):
    part.report_lines("/usr/bin/python3", "tests/peer/words.py", env=SANITIZED)
    if as_root(part):
        part.report_lines("/usr/bin/python3", "tests/cluster/words_three.py", env=SANITIZED)


def zoo(part):
    part.report_lines("/usr/bin/python3", "tests/clients/ensemble.py", env=SANITIZED)


def repair(part):
    part.build("--mutants")
    part.report_lines("/usr/bin/python3", "tests/cluster/repair.py", env=SANITIZED)


def differ(part):
    part.report_lines("/usr/bin/python3", "tests/peer/differ.py", "--short", env=SANITIZED)


def commands(part):
    if as_root(part):
        part.report_lines("/usr/bin/python3", "tests/cluster/commands.py", env=SANITIZED)


def bad_input(part):
    if as_root(part):
        part.report_lines("/usr/bin/python3", "tests/cluster/bad_input.py")
        part.report_lines("/usr/bin/python3", "tests/cluster/bad_input.py", env=SANITIZED)
        part.report_lines("/usr/bin/python3", "tests/cluster/limits.py")


def cluster(part):
    if as_root(part):
        part.report_lines("/usr/bin/python3", "tests/cluster/failover.py")


def confined(part):
    if as_root(part):
        part.report_lines("/usr/bin/python3", "tests/cluster/confined.py")


def disk(part):
    if as_root(part):  # without the sanitizers, which a preloaded library would come before
        part.report_lines("/usr/bin/python3", "tests/cluster/disk.py")


def ensemble(part):
    if as_root(part):
        part.report_lines("/usr/bin/python3", "tests/cluster/ensemble.py", env=SANITIZED)


def chaos(part):
    if as_root(part):
        part.report_lines("/usr/bin/python3", "tests/chaos/test_history.py")
        part.report_lines("/usr/bin/python3", "tests/chaos/stuck.py")
        part.report_lines("/usr/bin/python3", "tests/chaos/chaos.py", "--short", "--minutes",
                          os.environ.get("MUSTER_CHAOS_MINUTES", "2"))
        part.report_lines("/usr/bin/python3", "tests/chaos/members.py", "--seed", "5")


def backup(part):
    part.report_lines("/usr/bin/python3", "tests/cluster/backup.py", env=SANITIZED)


def bench(part):
    part.report_lines("/usr/bin/python3", "bench/tree.py", "--check")
    part.report_lines("/usr/bin/python3", "bench/check_load.py")
    part.report_lines("/usr/bin/python3", "bench/sizes.py", "--quick", "--muster-only")
    part.report_lines("/usr/bin/python3", "bench/ensemble.py", "--quick", "--muster-only")


def crowd(part):
    if as_root(part):
        part.report_lines("/usr/bin/python3", "tests/chaos/crowd.py")


def cost(part):
    part.report_lines("/usr/bin/python3", "tests/cost/cost.py")


def lint(part):
    part.report_lines("tests/lint/lint.sh")


PARTS = {"gcc": gcc, "units": units, "clang": clang, "cost": cost, "sim": sim,
         "coverage": coverage, "mutants": mutants,
         "fuzz": fuzz, "lint": lint, "words": words, "differ": differ, "clients": clients,
         "patroni": patroni, "moving": moving, "zoo": zoo, "repair": repair,
         "commands": commands,
         "input": bad_input, "cluster": cluster, "disk": disk,
         "ensemble": ensemble, "chaos": chaos, "crowd": crowd,
         "confined": confined, "backup": backup, "bench": bench}
if not os.path.exists(os.path.join(TOP, "tests", "cluster", "commands.py")):
    del PARTS["commands"]


def main():
    names = sys.argv[1:] or list(PARTS)
    unknown = [n for n in names if n not in PARTS]
    if unknown:
        print(f"dev test: no part {' '.join(unknown)}; there are: {' '.join(PARTS)}",
              file=sys.stderr)
        return 2
    os.makedirs(LOG, exist_ok=True)
    if "gcc" not in names:
        names.insert(0, "gcc")
    passed = failed = 0
    begun = time.monotonic()
    def interrupted(number, frame):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupted)
    # Started in the background we may have been left with Ctrl-C ignored, and what we start
    # would inherit that; the commands' tests press it.
    signal.signal(signal.SIGINT, interrupted)
    for name in names:
        part = Part(name)
        try:
            PARTS[name](part)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        finally:
            part.end()
        passed += part.passed
        failed += part.failed
        took = time.monotonic() - part.begun
        print(f"-- {name}: {part.passed} passed, {part.failed} failed, {took:.0f} s", flush=True)
    print(f"-- all of it took {time.monotonic() - begun:.0f} s; logs in build/log/")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
