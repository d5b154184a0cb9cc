"""How much two names look alike: between 0 and 1, by the edits that make one of the other, on what they look like.

What shares less than half of its letters is not compared any further: it is 0.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from gateway import skeleton

MAX_NAME = 100
"""Characters of a name that are compared."""
LEAST = 0.5
"""Less than this is nothing."""
MAX_NAMES = 1_000
"""Of a list that a name is compared with."""


def similar(name: str, others: str | list[str]) -> float:
    """The likeness with a name, or with the one of several that it looks most like; 1.0: they look the same."""
    seen, letters = _seen(name)
    best = LEAST
    found = 0.0
    for other in [others] if isinstance(others, str) else others[:MAX_NAMES]:
        wanted, wanted_letters = _seen(str(other))
        longest = max(len(seen), len(wanted))
        if seen == wanted:
            return 1.0 if longest else 0.0
        if not seen or not wanted or 1 - abs(len(seen) - len(wanted)) / longest < best:
            continue
        shared = sum(min(count, letters[letter]) for letter, count in wanted_letters.items())
        if shared / longest < best:  # every letter that they do not share is an edit
            continue
        likeness = 1 - _distance(seen, wanted) / longest
        if likeness >= best:
            best = found = likeness
    return found


@lru_cache(maxsize=1_000)
def _seen(name: str) -> tuple[str, Counter[str]]:
    text = skeleton(" ".join(name.split())[:MAX_NAME])[:MAX_NAME]
    return text, Counter(text)


def _distance(one: str, other: str) -> int:
    """Letters to change, add or leave out (Levenshtein), in time of the longer name: the whole column is one number (Myers, Hyyrö)."""
    places: dict[str, int] = {}
    for at, letter in enumerate(one):
        places[letter] = places.get(letter, 0) | 1 << at
    whole, last = (1 << len(one)) - 1, 1 << (len(one) - 1)
    up, down, distance = whole, 0, len(one)
    for letter in other:
        same = places.get(letter, 0)
        across = (((same & up) + up) ^ up) | same | down
        right = down | ~(across | up) & whole
        left = up & across
        distance += bool(right & last) - bool(left & last)
        right = (right << 1 | 1) & whole
        up = (left << 1 & whole) | ~(same | down | right) & whole
        down = right & (same | down)
    return distance
