"""Types of files that our own table does not know, by puremagic.

puremagic tries 1,400 signatures one after the other, a millisecond for each file, and takes two octets for proof. So it is asked
only where a signature of four octets or more begins as the file does, and believed only where four octets agree. Importing this
takes a twentieth of a second: `server.preload` does it before the workers are forked.
"""

from __future__ import annotations

import puremagic

_LEAST = 4


def _begins() -> dict[int, frozenset[bytes]]:
    """The first four octets of its signatures, by where they stand."""
    found: dict[int, set[bytes]] = {}
    for one in puremagic.magic_header_array:
        octets = bytes(one.byte_match)
        if len(octets) >= _LEAST and one.offset >= 0 and octets.strip(b"\0 "):
            found.setdefault(one.offset, set()).add(octets[:_LEAST])
    return {offset: frozenset(octets) for offset, octets in found.items()}


_BEGINS = _begins()


def type_of(head: bytes) -> str:
    """The type, or `` for what it does not know."""
    if not any(head[offset : offset + _LEAST] in known for offset, known in _BEGINS.items()):
        return ""
    try:
        found = puremagic.magic_string(head)
    except (LookupError, ValueError):  # it knows nothing of the kind
        return ""
    return next((one.mime_type for one in found if one.mime_type and len(one.byte_match) >= _LEAST), "")
