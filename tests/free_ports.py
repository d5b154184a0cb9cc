"""Ports of loopback for servers that bind them a moment later, in a process of their own.

They lie below those that the kernel gives away by itself: one of those, once let go of, may become another test's listener, or the near
end of any connection, before the server that it is meant for has started.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
from pathlib import Path

LOWEST = 10_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_KERNELS = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32_768
HIGHEST = _KERNELS - 1 if _KERNELS > LOWEST + 1_000 else 32_767


def _ours() -> itertools.cycle[int]:
    """Each process of a parallel run has its share, and begins somewhere: another run on this host is likely elsewhere."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = range(LOWEST + worker, HIGHEST + 1, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    start = random.SystemRandom().randrange(len(share))
    return itertools.cycle([*share[start:], *share[:start]])


_PORTS = _ours()


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on now, and that is given to nobody else for a long while."""
    for port in itertools.islice(_PORTS, HIGHEST - LOWEST):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free port")
