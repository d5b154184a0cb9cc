"""A named list as one file: built once, mapped by all workers of a host, looked into without reading it.

Entries are digests of 16 octets (BLAKE2b), sorted and found through an index of their first bits; networks are ranges of addresses,
sorted. A file is written beside its place and renamed, so whoever has the old one mapped goes on with it. It is this host's own: its
numbers are in the byte order of the machine.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path


class TooManyError(ValueError):
    """More entries than a list may have."""


MAX_ENTRIES = 2_000_000
"""Of one list."""
DIGEST = 16
MAGIC = f"mglist1 {sys.byteorder}".encode()
_HEADER = struct.Struct("=16s2B2xIQ32s")
_PER_BUCKET = 8
_EMPTY = bytes(32)
IPV4 = bytes(10) + b"\xff\xff"
"""How addresses of IPv4 begin, as IPv6 maps them."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself."""

    low: int
    """What its kind wants to remember of all entries: the fewest labels, …"""
    high: int
    """… and the most."""
    bits: int
    """Of the index; 0: ranges."""
    count: int
    source: bytes
    """SHA-256 of what it was built from."""


class Digests:
    """Entries that are looked for as they are."""

    def __init__(self, octets: mmap.mmap | bytes, header: Header) -> None:
        self._octets = octets
        self._entries = _HEADER.size + 4 * ((1 << header.bits) + 1)
        self._index = memoryview(octets)[_HEADER.size : self._entries].cast("I")
        self._shift = 32 - header.bits
        self.header = header

    def __contains__(self, key: bytes) -> bool:
        digest = blake2b(key, digest_size=DIGEST).digest()
        bucket = int.from_bytes(digest[:4], "big") >> self._shift
        start = self._entries + DIGEST * self._index[bucket]
        end = self._entries + DIGEST * self._index[bucket + 1]
        at = self._octets.find(digest, start, end)
        while at >= 0 and (at - start) % DIGEST:  # across two of them
            at = self._octets.find(digest, at + 1, end)
        return at >= 0


class Ranges:
    """Networks: addresses as numbers of 128 bits, in two halves; those of IPv4 as IPv6 maps them."""

    def __init__(self, octets: mmap.mmap | bytes, header: Header) -> None:
        size = 8 * header.count
        view = memoryview(octets)
        parts = [view[_HEADER.size + size * number : _HEADER.size + size * (number + 1)].cast("Q") for number in range(4)]
        self._from_high, self._from_low, self._to_high, self._to_low = parts
        self.header = header

    def __contains__(self, packed: bytes) -> bool:
        """Whether an address lies in one of them: its 16 octets."""
        high, low = int.from_bytes(packed[:8], "big"), int.from_bytes(packed[8:], "big")
        end = bisect_right(self._from_high, high)
        start = bisect_right(self._from_high, high - 1) if high else 0
        at = bisect_right(self._from_low, low, start, end) - 1
        if at < start:  # of those that begin in this half none before it: the one before may reach as far
            at = start - 1
        return at >= 0 and (high, low) <= (self._to_high[at], self._to_low[at])


Table = Digests | Ranges


def read_header(octets: bytes) -> Header | None:
    """None for what is none of our files."""
    if len(octets) < _HEADER.size:
        return None
    magic, low, high, bits, count, source = _HEADER.unpack(octets[: _HEADER.size])
    return Header(low, high, bits, count, source) if magic.rstrip(b"\0") == MAGIC else None


def header_of(path: Path) -> Header | None:
    """The header of a file; None when there is none that can be used."""
    try:
        with path.open("rb") as file:
            header = read_header(file.read(_HEADER.size))
            size = os.fstat(file.fileno()).st_size
    except OSError:
        return None
    return header if header is not None and size == _size(header) else None


def open_table(path: Path) -> Table | None:
    """The file mapped, shared by all who do so; None when it cannot be used. OSError."""
    if header_of(path) is None:
        return None
    with path.open("rb") as file:
        octets = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return _table(octets)


def table_of(octets: bytes) -> Table:
    """One in memory."""
    found = _table(octets)
    assert found is not None
    return found


def _table(octets: mmap.mmap | bytes) -> Table | None:
    header = read_header(octets[: _HEADER.size])
    if header is None or len(octets) != _size(header):
        return None
    return Digests(octets, header) if header.bits else Ranges(octets, header)


def _size(header: Header) -> int:
    return _HEADER.size + (4 * ((1 << header.bits) + 1) + DIGEST * header.count if header.bits else 32 * header.count)


class Building:
    """Takes entries, and gives the octets of a file: a sixteenth of a list of strings, and no more while it is made."""

    def __init__(self) -> None:
        self._parts = [bytearray() for _ in range(256)]
        self._ranges = [bytearray() for _ in range(513)]
        self.low = 255
        self.high = 0
        self.count = 0

    def add(self, key: bytes, measure: int = 0) -> None:
        """One that is looked for as it is. TooManyError."""
        self._count(measure)
        digest = blake2b(key, digest_size=DIGEST).digest()
        self._parts[digest[0]] += digest

    def add_range(self, first: bytes, last: bytes) -> None:
        """A network: its first and last address in 16 octets. TooManyError."""
        self._count(0)
        if first.startswith(IPV4):
            place = 1 + first[12]
        elif first[0] == 0:
            place = 0 if first < IPV4 else 257
        else:
            place = 257 + first[0]
        self._ranges[place] += first + last

    def octets(self, source: bytes = _EMPTY, *, ranges: bool) -> Iterator[bytes]:
        """The file in pieces."""
        yield from self._of_ranges(source) if ranges else self._of_digests(source)

    def _count(self, measure: int) -> None:
        self.count += 1
        if self.count > MAX_ENTRIES:
            raise TooManyError(f"more than {MAX_ENTRIES} entries")
        self.low = min(self.low, measure)
        self.high = max(self.high, measure)

    def _of_digests(self, source: bytes) -> Iterator[bytes]:
        bits = max(1, (self.count // _PER_BUCKET).bit_length())
        shift = 32 - bits
        index = array("I", bytes(4 * ((1 << bits) + 1)))
        for number, part in enumerate(self._parts):
            found = sorted({bytes(part[at : at + DIGEST]) for at in range(0, len(part), DIGEST)})
            for digest in found:
                index[(int.from_bytes(digest[:4], "big") >> shift) + 1] += 1
            self._parts[number] = bytearray(b"".join(found))
        total = 0
        for at, count in enumerate(index):
            total += count
            index[at] = total
        low, high = (self.low, self.high) if self.count else (0, 0)
        yield _HEADER.pack(MAGIC, low, high, bits, total, source)
        yield index.tobytes()
        yield from map(bytes, self._parts)

    def _of_ranges(self, source: bytes) -> Iterator[bytes]:
        halves = [array("Q") for _ in range(4)]
        for first, last in _merged(self._ranges):
            for half, octets in zip(halves, (first[:8], first[8:], last[:8], last[8:]), strict=True):
                half.append(int.from_bytes(octets, "big"))
        yield _HEADER.pack(MAGIC, 0, 0, 0, len(halves[0]), source)
        for half in halves:
            yield half.tobytes()


def _merged(parts: Iterable[bytearray]) -> Iterator[tuple[bytes, bytes]]:
    """In order, none within another."""
    begin, end = b"", b""
    for part in parts:
        for octets in sorted(bytes(part[at : at + 32]) for at in range(0, len(part), 32)):
            first, last = octets[:16], octets[16:]
            if end and first <= end:
                end = max(end, last)
                continue
            if end:
                yield begin, end
            begin, end = first, last
    if end:
        yield begin, end


def write_table(path: Path, pieces: Iterable[bytes]) -> None:
    """Beside its place first, then there at once. OSError."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with beside.open("wb") as file:
            for piece in pieces:
                file.write(piece)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
