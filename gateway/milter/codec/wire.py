"""Packets on the wire: four octets of length, a letter, a payload. `Reader` is fed octets cut anywhere and gives packets; bounded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from gateway.milter.codec.answers import ANSWERS, Answer
from gateway.milter.codec.commands import COMMANDS, Command
from gateway.milter.codec.errors import BadPacket
from gateway.milter.codec.packet import Packet

LONGEST = 1024 * 1024 + 64
"""Octets of the longest packet taken unless told otherwise: the largest that can be agreed on (MDS_1M), and room for a number and a name."""
P = TypeVar("P", bound=Packet)


def write(*packets: Packet) -> bytes:
    """The packets as octets."""
    parts = []
    for packet in packets:
        payload = packet.payload()
        parts += [(len(payload) + 1).to_bytes(4, "big"), packet.letter, payload]
    return b"".join(parts)


class Reader(Generic[P]):
    """Octets in, packets out. It keeps less than one packet; a packet that is too long is refused before it comes."""

    __slots__ = ("_buffer", "_fault", "_kinds", "longest")

    def __init__(self, kinds: dict[bytes, type[P]], longest: int = LONGEST) -> None:
        self._kinds = kinds
        self._buffer = bytearray()
        self._fault: BadPacket | None = None
        self.longest = longest
        """Octets of letter and payload."""

    @property
    def waiting(self) -> int:
        """Octets of a packet that is not whole yet: not 0 where a connection ends means that it was cut off."""
        return len(self._buffer)

    def feed(self, octets: bytes) -> list[P]:
        """The packets that are whole now.

        BadPacket behind good ones is raised at the next call, so that none of them is lost; after it the reader is of no more use.
        """
        if self._fault is not None:
            raise self._fault
        self._buffer += octets
        found: list[P] = []
        at = 0
        try:
            while (end := self._end(at)) is not None:
                found.append(self._packet(at + 4, end))
                at = end
        except BadPacket as fault:
            self._fault = fault
            self._buffer.clear()
            if not found:
                raise
            return found
        del self._buffer[:at]
        return found

    def _end(self, at: int) -> int | None:
        """Where the packet that begins there ends; None if that is not there yet."""
        if len(self._buffer) - at < 4:
            return None
        length = int.from_bytes(self._buffer[at : at + 4], "big")
        if not 0 < length <= self.longest:
            raise BadPacket(f"a packet of {length} octets; allowed are 1 to {self.longest}")
        end = at + 4 + length
        return end if len(self._buffer) >= end else None

    def _packet(self, at: int, end: int) -> P:
        letter = bytes(self._buffer[at : at + 1])
        kind = self._kinds.get(letter)
        if kind is None:
            raise BadPacket(f"an unknown packet, {letter!r}")
        return kind.decode(bytes(self._buffer[at + 1 : end]))


def read_commands(longest: int = LONGEST) -> Reader[Command]:
    """A reader of what an MTA sends."""
    return Reader(COMMANDS, longest)


def read_answers(longest: int = LONGEST) -> Reader[Answer]:
    """A reader of what a milter answers."""
    return Reader(ANSWERS, longest)


def chunks(octets: bytes, size: int) -> Iterable[bytes]:
    """Parts of at most so many octets, for Body and ReplaceBody."""
    return (octets[at : at + size] for at in range(0, len(octets), size))
