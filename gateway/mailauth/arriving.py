"""Body hashes of a large content, made while it arrives: what a verifier will ask for is known when the header section is there.

Nothing that is found here is more than a guess at what will be asked for: what is missing is computed when somebody asks, as for
any other message, and so is everything after a fault here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

import structlog

from gateway.content import Content
from gateway.fields import HeaderSection, scan
from gateway.mailauth.canonical import BodyHash, BodyHasher, BodyHashWanted, hashers
from gateway.mailauth.key import ALGORITHMS
from gateway.mailauth.tags import TagListError, parse_tags

MAX_SIGNATURES = 8
"""Signature fields that are looked at, from the top: as many as the plugin dkim verifies where nothing else is said."""
MAX_FIELD = 8192
"""Octets of a signature field's body; verifiers look at no more."""
MAX_DIGITS = 76
"""Of l= (RFC 6376 3.5)."""
MAX_BLANK = 100_000
"""Blank lines in a row that are kept in mind. With more it is left to the process pool: they all would have to be hashed at once."""
PIECE = 64 * 1024
"""Octets that are hashed at once at least: pieces of a slow client are gathered."""
_EITHER_WAY: Final = "arc-message-signature"
"""The field that, without c=, is tried in both ways (`gateway.mailauth.arc`)."""
_METHODS: Final = {b"simple": False, b"relaxed": True}

log = structlog.get_logger("gateway.mailauth")


class Arriving:
    """The hashes of one body that is arriving. Its octets are taken one after the other, those of the header section before them."""

    __slots__ = ("_found", "_hashers", "_size", "_waiting", "body_offset")

    def __init__(self, wanted: Iterable[BodyHashWanted], body_offset: int) -> None:
        self._hashers: list[BodyHasher] = hashers(wanted)
        self.body_offset = body_offset
        self._size = 0
        self._waiting = bytearray()
        self._found: dict[BodyHashWanted, BodyHash] | None = None

    def take(self, octets: bytes) -> None:
        """The next octets of the body. Raises nothing."""
        self._size += len(octets)
        if not self._hashers:
            return
        if self._waiting or len(octets) < PIECE:
            self._waiting += octets
            if len(self._waiting) < PIECE:
                return
            octets = bytes(self._waiting)
            self._waiting.clear()
        self._update(octets)

    def hashes(self, size: int) -> dict[BodyHashWanted, BodyHash]:
        """Those of a body of this size, at the end of the same octets; none where that is not what was taken."""
        if size != self._size:
            return {}
        if self._found is None:
            self._found = self._finish()
        return self._found

    def _finish(self) -> dict[BodyHashWanted, BodyHash]:
        self._update(bytes(self._waiting))
        self._waiting.clear()
        try:
            return {wanted: found for hasher in self._hashers for wanted, found in hasher.finish().items()}
        except Exception as error:  # noqa: BLE001 - as below
            log.warning("body_hash.fault", error=repr(error))
            return {}

    def _update(self, octets: bytes) -> None:
        try:
            for hasher in self._hashers:
                hasher.update(octets)
            if any(hasher.canonicalizer.blank > MAX_BLANK for hasher in self._hashers):
                self._hashers = []
        except Exception as error:  # noqa: BLE001 - nothing is lost: who asks for the hashes computes them
            self._hashers = []
            log.warning("body_hash.fault", error=repr(error))


def arriving(pieces: Iterable[bytes], names: Collection[str]) -> Arriving | None:
    """What goes on with these first octets of a content: None without a signature in a field of these names, in lower case.

    None too where the header section has not ended within them. Raises nothing.
    """
    try:
        beginning = b"".join(pieces)
        section = scan(Content(beginning))
        if not section.has_blank_line or section.is_cut:
            return None
        wanted = list(_wanted(section, names))
    except Exception as error:  # noqa: BLE001 - as above
        log.warning("body_hash.fault", error=repr(error))
        return None
    if not wanted:
        return None
    made = Arriving(wanted, section.body_offset)
    made.take(beginning[section.body_offset :])
    return made


def _wanted(section: HeaderSection, names: Collection[str]) -> Iterator[BodyHashWanted]:
    """The body hashes that the signatures of these fields stand on, as far as they can be read."""
    if not any(b"\n" + name.encode() in section.lowered for name in names):
        return
    left = dict.fromkeys(names, MAX_SIGNATURES)
    for field in section.fields:
        name = field.name.lower()
        if left.get(name, 0):
            left[name] -= 1
            yield from _of_one(name, field.raw)


def _of_one(name: str, raw: bytes) -> Iterator[BodyHashWanted]:
    """By a=, c= and l= of one signature (RFC 6376 3.5). Nothing where it cannot be valid."""
    if len(raw) > MAX_FIELD:
        return
    try:
        tags = parse_tags(raw)
    except TagListError:
        return
    if tags.get(b"a", b"").decode("latin-1").lower() not in ALGORITHMS:
        return
    octets: int | None = None
    if b"l" in tags:
        if not tags[b"l"].isdigit() or len(tags[b"l"]) > MAX_DIGITS:
            return
        octets = int(tags[b"l"])
    if b"c" not in tags and name == _EITHER_WAY:
        yield BodyHashWanted(True, octets)
    method = _METHODS.get(tags.get(b"c", b"").lower().partition(b"/")[2] or b"simple")
    if method is not None:
        yield BodyHashWanted(method, octets)
