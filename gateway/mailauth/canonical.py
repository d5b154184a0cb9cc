"""Canonicalization and body hashes: RFC 6376 3.4, 3.7. Linear in the octets, whatever they are; no regular expressions.

Each canonicalization of a body is computed once and hashed once, however many lengths (`l=`) are asked for. SHA-256 is the only
hash there is: RFC 8301 3.1 took SHA-1 away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

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
    while _LONG_RUN in octets:  # hostile: a line of spaces shrinks at once
        octets = octets.replace(_LONG_RUN, b" ")
    while b"  " in octets:
        octets = octets.replace(b"  ", b" ")
    return octets


def relaxed_field(name: bytes, body: bytes) -> bytes:
    """RFC 6376 3.4.2, with its CRLF."""
    value = body.replace(b"\r\n", b"").replace(b"\n", b"") if b"\n" in body else body
    if b"\t" in value or b"  " in value:
        value = compress(value)
    return b"%b:%b\r\n" % (name.strip().lower(), value.strip(b" "))


def canonical_body(body: bytes, *, is_relaxed: bool) -> Iterator[bytes]:
    """RFC 6376 3.4.3 and 3.4.4, piece by piece."""
    blank = 0  # line ends that may turn out to be the end of the body
    empty = True
    for piece in _pieces(body):
        text = _relaxed(piece) if is_relaxed else piece
        kept, ends = _without_line_ends(text)
        if kept:
            yield b"\r\n" * blank + kept
            blank, empty = ends, False
        else:
            blank += ends
    if not (empty and is_relaxed):
        yield b"\r\n"


def _relaxed(piece: bytes) -> bytes:
    """RFC 6376 3.4.4 for whole lines; the last one of a body may lack its CRLF, and its white space goes too."""
    text = compress(piece).replace(b" \r\n", b"\r\n")
    return text if text.endswith(b"\n") else text.removesuffix(b" ")


def _pieces(body: bytes) -> Iterator[bytes]:
    """The body cut behind line ends, so that no line is in two pieces."""
    at = 0
    while at < len(body):
        end = body.rfind(b"\r\n", at, at + _PIECE)
        if end < 0:
            end = body.find(b"\r\n", at)
        stop = len(body) if end < 0 else end + 2
        yield body[at:stop]
        at = stop


def _without_line_ends(text: bytes) -> tuple[bytes, int]:
    """The text without the CRLFs at its end, and their number."""
    if not text.endswith(b"\r\n"):
        return text, 0
    tail = text[len(text.rstrip(b"\r\n")) :]
    marked = tail.replace(b"\r\n", b"\0")
    ends = len(marked) - len(marked.rstrip(b"\0"))
    return text[: len(text) - 2 * ends], ends


def body_hashes(body: bytes, wanted: Iterable[BodyHashWanted]) -> dict[BodyHashWanted, BodyHash]:
    """Each hash once, each canonicalization once; runs in the process pool when the body is large."""
    found: dict[BodyHashWanted, BodyHash] = {}
    each = tuple(dict.fromkeys(wanted))
    for is_relaxed in (False, True):
        lengths = [one.length for one in each if one.is_relaxed == is_relaxed]
        if lengths:
            found.update(_hashes(body, is_relaxed=is_relaxed, lengths=lengths))
    return found


def _hashes(body: bytes, *, is_relaxed: bool, lengths: list[int | None]) -> dict[BodyHashWanted, BodyHash]:
    """All lengths by one pass: where one ends, the hash so far is copied."""
    stops = sorted((length for length in lengths if length is not None), reverse=True)
    digests: dict[int | None, bytes] = {}
    hasher = hashlib.sha256()
    size = 0
    for piece in canonical_body(body, is_relaxed=is_relaxed):
        at = 0
        while stops and stops[-1] <= size + len(piece):
            stop = stops.pop()
            hasher.update(piece[at : stop - size])
            at = stop - size
            digests[stop] = hasher.digest()
        hasher.update(piece[at:] if at else piece)
        size += len(piece)
    digests.update(dict.fromkeys([*stops, None], hasher.digest()))  # l= beyond the end: all there is
    return {BodyHashWanted(is_relaxed, length): BodyHash(digests[length], size) for length in lengths}


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
