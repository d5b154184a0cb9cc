"""Connections at once, counted exactly over all workers of a host: overall, and for each network of clients. RFC 5321 7.8.

A connection holds a lock on one octet of a file that all workers have from the supervisor, and one more in the range of its
network; where connections a minute are limited, another for a minute. The kernel gives an octet to one process only, and takes back what a process held when it ends, however it ends: so
no count can be wrong, nobody waits for anybody, and there is nothing to tidy up behind a worker that was killed. A worker that
is alone on its host counts without the kernel: it is replaced only once it has ended, and its connections with it.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import ipaddress
import os
import struct
import sys
import tempfile
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from gateway.config.models import MOST_CONNECTIONS, LimitsConfig

_NETWORKS = 1 << 41
"""Ranges for networks behind the one for all, and as many again for their rates: offsets of a file have 63 bits."""
MINUTE = 60.0
_FLOCK = struct.Struct("@hhqqi4x")
"""Linux's `struct flock`: type, whence, start, length, process."""


class Full(Enum):
    """Which limit was reached."""

    ALL = "all"
    NETWORK = "network"
    RATE = "rate"


class Seat(NamedTuple):
    """What a connection holds: octets of the file."""

    of_all: int
    of_network: int | None = None


class Connections:
    """The seats of this process's connections. Without a `file` it counts them alone (tests, a single worker)."""

    def __init__(self, limits: LimitsConfig, *, file: int | None = None, tell: Callable[[int], None] = lambda _: None) -> None:
        self._limits = limits
        self._file = file
        self._tell = tell
        """Told how many connections this process has."""
        self._seats: set[int] = set()
        self._held: dict[int, set[int]] = {0: self._seats}
        """By range, the octets in it that this process holds; the kernel does not tell our own apart. The first is of all connections."""
        self._next = int.from_bytes(os.urandom(4), "big") % limits.connections
        """Where to look first: the seat given up last, else anywhere, so that workers do not meet."""

    @property
    def count(self) -> int:
        """Connections of this process."""
        return len(self._seats)

    def follow(self, limits: LimitsConfig) -> None:
        """These limits hold from here on; seats that are taken stay."""
        self._limits = limits
        self._next %= limits.connections

    def take(self, network: int | None = None) -> Seat | Full:
        """A seat for a connection, of this network (`network_of`) unless it is exempt; or which limit is reached."""
        limits = self._limits
        seats, most, one = self._seats, limits.connections, self._next
        if one not in seats and (self._file is None or self._lock(one)):
            seats.add(one)
        else:
            found = self._sit(0, most, one)
            if found is None:
                return Full.ALL
            one = found
        other = None
        if network is not None:
            if limits.network_rate and not self._count(network):
                self._rise(one)
                return Full.RATE
            if limits.network_connections:
                other = self._sit(network * MOST_CONNECTIONS, limits.network_connections, 0)
                if other is None:
                    self._rise(one)
                    return Full.NETWORK
        behind = one + 1
        self._next = behind if behind < most else 0
        self._tell(len(seats))
        return Seat(one, other)

    def leave(self, seat: Seat) -> None:
        """The connection is over."""
        one, seats = seat.of_all, self._seats
        self._next = one if one < self._limits.connections else 0
        seats.discard(one)
        if self._file is not None:
            self._unlock(one)
        if seat.of_network is not None:
            self._rise(seat.of_network)
        self._tell(len(seats))

    def _count(self, network: int) -> bool:
        """One more connection of this network within a minute; False: too many."""
        octet = self._sit((_NETWORKS + network) * MOST_CONNECTIONS, self._limits.network_rate, 0)
        if octet is None:
            return False
        asyncio.get_running_loop().call_later(MINUTE, self._rise, octet)
        return True

    def _sit(self, base: int, most: int, first: int) -> int | None:
        """The first octet of `most` that nobody holds, from `first` on and round; None: all are held."""
        held = self._held.setdefault(base, set())
        octet, end = base + first, base + most
        for stop in (end, base + first):
            while octet < stop:
                if octet in held:
                    octet += 1
                elif self._lock(octet):
                    held.add(octet)
                    return octet
                else:
                    octet = self._behind(octet)
            octet = base
        if not held and base:
            del self._held[base]
        return None

    def _rise(self, octet: int) -> None:
        base = octet - octet % MOST_CONNECTIONS
        held = self._held[base]
        held.discard(octet)
        if not held and base:
            del self._held[base]
        if self._file is not None:
            self._unlock(octet)

    def _unlock(self, octet: int) -> None:
        if self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, octet)

    def _lock(self, octet: int) -> bool:
        if self._file is None:
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, octet)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _behind(self, octet: int) -> int:
        """The next octet that another process may not hold: its neighbours are one lock."""
        if self._file is not None and sys.platform == "linux":
            asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, octet, 1, 0)
            kind, _, start, length, _ = _FLOCK.unpack(fcntl.fcntl(self._file, fcntl.F_GETLK, asked))
            return octet if kind == fcntl.F_UNLCK else max(octet + 1, int(start + length))
        return octet + 1


def open_file() -> int:
    """The file whose octets are seats, for the supervisor to open before it forks. It is never written."""
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def network_of(address: str, limits: LimitsConfig) -> int | None:
    """The range of an address's network; None for what is no address."""
    return _range(address.partition("%")[0], limits.ipv4_prefix, limits.ipv6_prefix)


@lru_cache(maxsize=4096)
def _range(address: str, ipv4: int, ipv6: int) -> int | None:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    bits = ipv4 if found.version == 4 else ipv6
    network = ipaddress.ip_network((found, bits), strict=False).network_address.packed
    if found.version == 4:
        return 1 + int.from_bytes(network, "big")
    digest = hashlib.blake2b(network, digest_size=8, key=_SECRET).digest()  # 41 bits are too few for 64
    return 1 + (1 << 32) + int.from_bytes(digest, "big") % (_NETWORKS - (1 << 33))


_SECRET = os.urandom(16)
"""Of the supervisor, which its workers inherit: nobody can choose addresses that fall into another's range."""
