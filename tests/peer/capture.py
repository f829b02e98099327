#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/fixtures/zookeeper-3.8/records.txt again: bytes of Apache ZooKeeper's own.

    capture.py [FILE]

Starts Debian's ZooKeeper (as differ.py does, and with SASL) and Capture.java on it, a client
that asks it everything. tests/unit/test_wire_captured.c reads the file.
"""
import glob
import os
import subprocess
import sys
import tempfile

import differ

OUT = os.path.join(differ.TOP, "tests", "fixtures", "zookeeper-3.8", "records.txt")
JAAS = """Server { org.apache.zookeeper.server.auth.DigestLoginModule required user_joe="secret"; };
Client { org.apache.zookeeper.server.auth.DigestLoginModule required username="joe" password="secret"; };
"""
HEAD = """# SPDX-License-Identifier: Apache-2.0
# What Apache ZooKeeper 3.8.0's client and server have sent each other; made by
# tests/peer/capture.py. A line a record: its name in src/wire/wire.h, who sent it, its bytes,
# and its fields as ZooKeeper's own classes print them; before the first of a kind a line
# with what these classes call its fields.
"""


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else OUT
    with tempfile.TemporaryDirectory() as directory:
        jaas = os.path.join(directory, "jaas.conf")
        with open(jaas, "w", encoding="utf-8") as f:
            f.write(JAAS)
        login = f"-Djava.security.auth.login.config={jaas}"
        differ.JAVA = (*differ.JAVA, login, "-Dzookeeper.authProvider.1="
                       "org.apache.zookeeper.server.auth.SASLAuthenticationProvider")
        server = differ.ZooKeeper(directory)
        try:
            server.wait()
            jars = [j for n in differ.JARS for j in glob.glob(f"/usr/share/java/{n}.jar")]
            lines = os.path.join(directory, "lines")
            subprocess.run(["java", login, "-cp", ":".join(jars),
                            os.path.join(differ.TOP, "tests", "peer", "Capture.java"),
                            str(server.port), lines], check=True, timeout=120)
            with open(lines, encoding="utf-8") as f:
                text = f.read()
        finally:
            server.end()
    os.makedirs(os.path.dirname(name), exist_ok=True)
    with open(name, "w", encoding="utf-8") as f:
        f.write(HEAD + text)
    print(f"{name}: {len(text.splitlines())} records")


main()
