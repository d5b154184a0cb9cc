"""Identifiers of sessions and transactions: short, unique, sortable by time, safe in a reply and a file name."""

from __future__ import annotations

import os
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford: no letter is mistaken for a digit

_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_SHIFTS = range(60, -1, -10)


def session_id() -> str:
    """Milliseconds since the epoch (9 characters) and 25 random bits (5 characters)."""
    value = (time.time_ns() // 1_000_000) << 25 | int.from_bytes(os.urandom(4)) & 0x1FFFFFF
    return "".join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS])


def transaction_id(session: str, number: int) -> str:
    """The n-th transaction of a session."""
    return f"{session}-{number}"
