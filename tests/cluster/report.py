# SPDX-License-Identifier: Apache-2.0
"""How a test program tells what came of each test: a line "ok NAME" or "FAILED NAME: why".

tests/run.py counts these lines; whatever else is printed is for who reads the log.
"""
import subprocess
import sys
import traceback

from cluster import Failed


class Report:
    def __init__(self, prefix=""):
        self.prefix = prefix
        self.passed = 0
        self.failed = 0

    def ok(self, name, more=""):
        self.passed += 1
        print(f"ok {self.prefix}{name}{': ' + more if more else ''}", flush=True)

    def fail(self, name, why):
        self.failed += 1
        print(f"FAILED {self.prefix}{name}: {' | '.join(str(why).strip().splitlines())}",
              flush=True)

    def check(self, name, condition, why):
        if condition:
            self.ok(name)
        else:
            self.fail(name, why)
        return bool(condition)

    def run(self, name, test):
        """test() returns a text for the line, or nothing; what it raises is the failure."""
        try:
            more = test()
        except (AssertionError, Failed, OSError, ValueError, subprocess.SubprocessError) as e:
            traceback.print_exc()
            self.fail(name, f"{type(e).__name__} {e}" if not isinstance(e, Failed) else e)
            return False
        self.ok(name, more or "")
        return True

    def stop_well(self, site):
        """The end of a site, and what its sanitizers had to say."""
        def stop():
            wrong = site.stop_well()
            if wrong:
                raise Failed("; ".join(wrong[:5]))
        self.run("all of muster ends well", stop)

    def end(self):
        sys.exit(1 if self.failed else 0)
