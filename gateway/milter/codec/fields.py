"""The parts packets are made of: 32 and 16 bit numbers in network order, strings that end in NUL. Octets in, values out."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from gateway.milter.codec.errors import BadPacket, BadValue


def strings(payload: bytes, what: str) -> list[bytes]:
    """All strings of a payload that has nothing else; each ends in NUL."""
    if not payload:
        return []
    if payload[-1:] != b"\0":
        raise BadPacket(f"{what}: the last string does not end in NUL")
    return payload[:-1].split(b"\0")


def exactly(payload: bytes, number: int, what: str) -> list[bytes]:
    """As many strings as the packet has."""
    found = strings(payload, what)
    if len(found) != number:
        raise BadPacket(f"{what}: {len(found)} strings instead of {number}")
    return found


def number(payload: bytes, what: str) -> tuple[int, bytes]:
    """A 32 bit number in front, and what follows it."""
    if len(payload) < 4:
        raise BadPacket(f"{what}: cut off within a number")
    return struct.unpack_from("!I", payload)[0], payload[4:]


def nothing(payload: bytes, what: str) -> None:
    """The packet has no payload."""
    if payload:
        raise BadPacket(f"{what}: {len(payload)} octets where there are none")


def joined(values: Iterable[bytes]) -> bytes:
    """Strings, each with its NUL."""
    return b"".join(value + b"\0" for value in values)


def check(what: str, *values: bytes) -> None:
    """No NUL within a string. BadValue."""
    for value in values:
        if b"\0" in value:
            raise BadValue(f"{what}: a NUL within a string")


def check_number(what: str, value: int, most: int = 0xFFFF_FFFF) -> None:
    """A number that fits. BadValue."""
    if not 0 <= value <= most:
        raise BadValue(f"{what}: {value} is not from 0 to {most}")
