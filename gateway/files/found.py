"""What readers find in a file, and the budget that all of one message share. No format is known here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from gateway.files.values import FileBounds

Octets: TypeAlias = bytes | bytearray
PIECE = 256 * 1024
"""Octets that are unpacked at a time."""
SMALL = 10_000_000
"""Octets of a file whose ratio is nobody's concern."""


class LimitError(Exception):
    """A limit was met. `is_final`: nothing more of this message is opened."""

    def __init__(self, word: str, reason: str, *, is_final: bool = False) -> None:
        super().__init__(f"{word}: {reason}")
        self.word = word
        self.reason = reason
        self.is_final = is_final


class MalformedError(Exception):
    """These octets are not what they begin like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One attachment, decoded."""

    names: tuple[str, ...]
    content: Octets
    declared_type: str
    part: int
    within: tuple[str, ...] = ()
    """Names of the attached messages that it lies in."""
    signs: tuple[str, ...] = ()
    is_open: bool = True
    """False: what is in it is given beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file within a file."""

    names: tuple[str, ...] = ()
    """With their directories, the likeliest first."""
    content: Octets | None = None
    """None: it is only listed."""
    size: int = 0
    """As declared, where there is no content."""
    declared_type: str = ""
    is_encrypted: bool = False
    signs: tuple[str, ...] = ()
    target: str = ""
    trouble: LimitError | None = None
    """Why there is no content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """Something about the file itself: a word of `File.signs`, or one of the facts that have a name."""

    word: str = ""
    is_encrypted: bool = False
    has_macros: bool = False
    type: str = ""
    """A closer one than its first octets told."""
    target: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """The file was not read to its end."""

    word: str
    reason: str


Found: TypeAlias = Member | Sign | Trouble


class Budget:
    """What one message may still cost."""

    def __init__(self, bounds: FileBounds) -> None:
        self.bounds = bounds
        self.count = 0
        self.total = 0
        self.live = 0
        """Octets that are held now."""
        self._end = time.process_time() + bounds.time

    def look(self) -> None:
        """LimitError when the time is over."""
        if time.process_time() > self._end:
            raise LimitError("files-time", f"more than {self.bounds.time:g} s of CPU", is_final=True)

    def one_more(self) -> None:
        """A file was found. LimitError for one too many."""
        self.count += 1
        if self.count > self.bounds.count:
            raise LimitError("files-count", f"more than {self.bounds.count} files", is_final=True)
        if self.count % 64 == 0:
            self.look()

    def collect(self, pieces: Iterable[Octets], packed: int) -> bytearray:
        """What these pieces make; `packed`: from how many octets. LimitError."""
        bounds = self.bounds
        found = bytearray()
        for piece in pieces:
            found += piece
            size = len(found)
            self.total += len(piece)
            if size > bounds.size:
                raise LimitError("files-size", f"more than {bounds.size:,} octets")
            if size > SMALL and size > bounds.ratio * packed:
                raise LimitError("files-ratio", f"more than {bounds.ratio} times its {packed:,} packed octets")
            if self.total > bounds.total:
                raise LimitError("files-total", f"more than {bounds.total:,} octets in all", is_final=True)
            if self.live + size > bounds.memory * 3 // 5:  # the rest is for what readers need beside it
                raise LimitError("files-memory", f"{self.live + size:,} octets of files inside one another")
            self.look()
        return found

    def take(self, octets: Octets) -> Octets:
        """What is there already, counted as if it had been unpacked. LimitError."""
        return self.collect(slices(octets), len(octets)) if len(octets) > PIECE else self._small(octets)

    def _small(self, octets: Octets) -> Octets:
        self.total += len(octets)
        if self.total > self.bounds.total:
            raise LimitError("files-total", f"more than {self.bounds.total:,} octets in all", is_final=True)
        return octets


def slices(octets: Octets) -> Iterator[Octets]:
    """In pieces."""
    for at in range(0, len(octets), PIECE):
        yield octets[at : at + PIECE]
