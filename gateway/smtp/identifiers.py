"""Identifiers of sessions and transactions: short, unique, sortable by time, safe in a reply and a file name."""

from __future__ import annotations

import os
import time
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford: no letter is mistaken for a digit
_PAIRS: Final = [first + second for first in _ALPHABET for second in _ALPHABET]
_LETTERS: Final = _ALPHABET.encode() * 8
"""A letter for each octet: eight octets have the same one, so that all are as likely."""
_RANDOM: Final = 5
"""Random letters in an identifier."""
_DRAWN_AT_ONCE: Final = 256
_drawn: Final[list[str]] = []
"""Random ends for the sessions that come: one question to the kernel for all of them."""
os.register_at_fork(after_in_child=_drawn.clear)
_second = (-1, "")
"""The milliseconds without their last ten bits, about a second, and the characters for them."""


def session_id() -> str:
    """Milliseconds since the epoch (9 characters) and 25 random bits (5 characters)."""
    global _second  # noqa: PLW0603 - what all sessions of a second have in common
    now = time.time_ns() // 1_000_000
    second, front = _second
    if second != now >> 10:
        second = now >> 10
        front = "".join([_ALPHABET[second >> shift & 31] for shift in range(30, -1, -5)])
        _second = (second, front)
    if not _drawn:
        letters = os.urandom(_RANDOM * _DRAWN_AT_ONCE).translate(_LETTERS).decode()
        _drawn.extend([letters[at : at + _RANDOM] for at in range(0, len(letters), _RANDOM)])
    return front + _PAIRS[now & 1023] + _drawn.pop()


def transaction_id(session: str, number: int) -> str:
    """The n-th transaction of a session."""
    return f"{session}-{number}"
