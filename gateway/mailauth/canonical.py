"""Canonicalization and body hashes: RFC 6376 3.4, 3.7. Linear in the octets, whatever they are; no regular expressions.

Each canonicalization of a body is computed once and hashed once, however many lengths (`l=`) are asked for, and whatever pieces the
body comes in. SHA-256 is the only hash there is: RFC 8301 3.1 took SHA-1 away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

TAB, LF, SPACE = 0x09, 0x0A, 0x20
"""Single octets are looked for as numbers: `b"\\n" in octets` tries its left side as a number first, for ten times what the search costs."""
_PIECE = 1 << 20
_LONG_RUN = b" " * 16
MAX_PREFIXES = 2_000
"""Line ends, from the bottom, at which the beginning of a body is tried."""


@dataclass(frozen=True, slots=True)
class BodyHashWanted:
    """One body hash: relaxed or simple, and how many octets of the canonical body (`l=`); None: all."""

    is_relaxed: bool
    length: int | None = None


@dataclass(frozen=True, slots=True)
class BodyHash:
    """SHA-256 of a canonical body, or of its beginning."""

    digest: bytes
    size: int
    """Octets of the whole canonical body."""


@dataclass(frozen=True, slots=True)
class PrefixWanted:
    """Is a body hash that does not match that of the body's beginning? Then something was added below (a footer)."""

    is_relaxed: bool
    digest: bytes


def compress(octets: bytes) -> bytes:
    """Each run of spaces and tabs as one space."""
    octets = octets.replace(b"\t", b" ")
    if octets.find(b"  ") >= 0:
        while _LONG_RUN in octets:  # hostile: a line of spaces shrinks at once
            octets = octets.replace(_LONG_RUN, b" ")
        while b"  " in octets:
            octets = octets.replace(b"  ", b" ")
    return octets


def relaxed_field(name: bytes, body: bytes) -> bytes:
    """RFC 6376 3.4.2, with its CRLF."""
    value = body.replace(b"\r\n", b"").replace(b"\n", b"") if LF in body else body
    if TAB in value or value.find(b"  ") >= 0:
        value = compress(value)
    return b"%b:%b\r\n" % (name.strip().lower(), value.strip(b" "))


class Canonicalizer:
    """A body that comes in pieces, cut anywhere, on its way to its canonical form. What a border leaves open waits: two octets, and a count."""

    __slots__ = ("_held", "_is_empty", "_is_relaxed", "blank")

    def __init__(self, *, is_relaxed: bool) -> None:
        self._is_relaxed = is_relaxed
        self._held = b""
        """White space as one space, and a CR: the line may end here."""
        self._is_empty = True
        self.blank = 0
        """Line ends that may turn out to be the end of the body."""

    def feed(self, piece: bytes) -> bytes:
        """What is certain of the canonical form so far."""
        text = self._held + piece if self._held else piece
        held = b""
        if text.endswith(b"\r"):
            text, held = text[:-1], b"\r"
        if self._is_relaxed and (SPACE in text or TAB in text):  # an attachment has neither, and to find that out costs nothing
            text = compress(text).replace(b" \r\n", b"\r\n")
            if text.endswith(b" "):
                text, held = text[:-1], b" " + held
        self._held = held
        return self._without_end(text)

    def finish(self) -> bytes:
        """The rest; an end of line that lacks is added, white space before it goes too."""
        rest = self._without_end(self._held.removesuffix(b" "))
        self._held = b""
        return rest if self._is_empty and self._is_relaxed else rest + b"\r\n"

    def _without_end(self, text: bytes) -> bytes:
        """The text behind the line ends that turned out not to be the end, without those that may be."""
        kept, ends = _without_line_ends(text)
        if not kept:
            self.blank += ends
            return b""
        if self.blank:
            kept = b"\r\n" * self.blank + kept
        self.blank = ends
        self._is_empty = False
        return kept


def canonical_body(body: bytes, *, is_relaxed: bool) -> Iterator[bytes]:
    """RFC 6376 3.4.3 and 3.4.4, piece by piece."""
    canonicalizer = Canonicalizer(is_relaxed=is_relaxed)
    for at in range(0, len(body), _PIECE):
        yield canonicalizer.feed(body[at : at + _PIECE])
    yield canonicalizer.finish()


def _without_line_ends(text: bytes) -> tuple[bytes, int]:
    """The text without the CRLFs at its end, and their number."""
    if not text.endswith(b"\r\n"):
        return text, 0
    if not text.endswith(b"\n\r\n"):
        return text[:-2], 1
    tail = text[len(text.rstrip(b"\r\n")) :]
    marked = tail.replace(b"\r\n", b"\0")
    ends = len(marked) - len(marked.rstrip(b"\0"))
    return text[: len(text) - 2 * ends], ends


class BodyHasher:
    """The hashes of one canonicalization of a body that comes in pieces. All lengths by one pass: where one ends, the hash so far is kept."""

    __slots__ = ("_digests", "_hash", "_is_relaxed", "_is_whole_wanted", "_lengths", "_size", "_stops", "canonicalizer")

    def __init__(self, lengths: Collection[int | None], *, is_relaxed: bool) -> None:
        self.canonicalizer = Canonicalizer(is_relaxed=is_relaxed)
        self._is_relaxed = is_relaxed
        self._lengths = lengths
        self._is_whole_wanted = None in lengths
        self._stops = sorted([length for length in lengths if length is not None], reverse=True)
        self._digests: dict[int | None, bytes] = {}
        self._hash = hashlib.sha256()
        self._size = 0

    def update(self, piece: bytes) -> None:
        """The next octets of the body."""
        self._add(self.canonicalizer.feed(piece))

    def finish(self) -> dict[BodyHashWanted, BodyHash]:
        """That was all of it."""
        self._add(self.canonicalizer.finish())
        digests = self._digests
        digests.update(dict.fromkeys([*self._stops, None], self._hash.digest()))  # l= beyond the end: all there is
        return {BodyHashWanted(self._is_relaxed, length): BodyHash(digests[length], self._size) for length in self._lengths}

    def _add(self, text: bytes) -> None:
        stops, size, at = self._stops, self._size, 0
        while stops and stops[-1] <= size + len(text):
            stop = stops.pop()
            self._hash.update(text[at : stop - size])
            at = stop - size
            self._digests[stop] = self._hash.digest()
        if stops or self._is_whole_wanted:
            self._hash.update(text[at:] if at else text)
        self._size = size + len(text)


def hashers(wanted: Iterable[BodyHashWanted]) -> list[BodyHasher]:
    """What makes these hashes: one for each canonicalization."""
    each = tuple(dict.fromkeys(wanted))
    if len(each) == 1:
        return [BodyHasher([each[0].length], is_relaxed=each[0].is_relaxed)]
    found: list[BodyHasher] = []
    for is_relaxed in (False, True):
        lengths = [one.length for one in each if one.is_relaxed == is_relaxed]
        if lengths:
            found.append(BodyHasher(lengths, is_relaxed=is_relaxed))
    return found


def body_hashes(body: bytes, wanted: Iterable[BodyHashWanted]) -> dict[BodyHashWanted, BodyHash]:
    """Each hash once, each canonicalization once; runs in the process pool when the body is large and did not come in pieces."""
    found: dict[BodyHashWanted, BodyHash] = {}
    for hasher in hashers(wanted):
        for at in range(0, len(body), _PIECE):
            hasher.update(body[at : at + _PIECE])
        found.update(hasher.finish())
    return found


def find_prefixes(body: bytes, wanted: Iterable[PrefixWanted]) -> dict[PrefixWanted, int]:
    """Those that are the hash of a beginning of the canonical body, each with its octets. Only full lines are tried, the last ones."""
    found: dict[PrefixWanted, int] = {}
    for is_relaxed in (False, True):
        digests = {one.digest for one in wanted if one.is_relaxed == is_relaxed}
        if digests:
            octets = _prefixes(b"".join(canonical_body(body, is_relaxed=is_relaxed)), digests)
            found.update({PrefixWanted(is_relaxed, digest): size for digest, size in octets.items()})
    return found


def _prefixes(text: bytes, digests: set[bytes]) -> dict[bytes, int]:
    start = len(text)
    for _ in range(MAX_PREFIXES):
        start = text.rfind(b"\r\n", 0, start)
        if start < 0:
            break
    found: dict[bytes, int] = {}
    at = max(start, 0)
    hasher = hashlib.sha256(text[:at])
    while (end := text.find(b"\r\n", at)) >= 0:
        hasher.update(text[at : end + 2])
        if end > at and hasher.digest() in digests:  # a canonical body does not end in an empty line
            found[hasher.digest()] = end + 2
        at = end + 2
    return found
