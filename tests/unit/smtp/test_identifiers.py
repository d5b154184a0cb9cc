"""Identifiers of sessions: sortable by time, and nobody's twice."""

from __future__ import annotations

import os
import time

from gateway.smtp import identifiers
from gateway.smtp.identifiers import session_id

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def value(text: str) -> int:
    found = 0
    for letter in text:
        found = found << 5 | ALPHABET.index(letter)
    return found


def test_it_begins_with_the_milliseconds() -> None:
    for _ in range(3):
        before, made, after = time.time_ns() // 1_000_000, session_id(), time.time_ns() // 1_000_000
        assert len(made) == 14
        assert before <= value(made[:9]) <= after


def test_the_rest_is_drawn_anew() -> None:
    made = [session_id()[9:] for _ in range(600)]
    assert len(set(made)) > 595
    assert len({one[0] for one in made}) == len({one[-1] for one in made}) == 32


def test_a_forked_process_draws_its_own() -> None:
    session_id()
    assert identifiers._drawn
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.write(writes, session_id()[9:].encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reads, 5).decode() != session_id()[9:]
    os.close(reads)
    os.close(writes)
