# SPDX-License-Identifier: Apache-2.0
"""Loopback ports for servers that a test starts, perhaps more than once.

Not of the kernel's choice: those come from the range of outgoing connections, and while a
server is not listening, the next connection of any other test may take its port.
tests/lib/port.h does the same."""
import random
import socket

PORT_MIN, PORT_MAX = 10000, 32767  # below ip_local_port_range
TRIES = 1000
_draw = random.SystemRandom()


def free_ports(n):
    found = []
    for _ in range(TRIES):
        port = _draw.randint(PORT_MIN, PORT_MAX)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
        if len(found) == n:
            return found
    raise OSError(f"no {n} free ports between {PORT_MIN} and {PORT_MAX}")


def free_port():
    return free_ports(1)[0]
