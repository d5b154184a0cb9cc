"""How much two names look alike: between 0 and 1, by the edits that make one of the other, on what they look like."""

from __future__ import annotations

from functools import lru_cache

from gateway import skeleton

MAX_NAME = 100
"""Characters of a name that are compared."""
MAX_NAMES = 1_000
"""Of a list that a name is compared with."""


def similar(name: str, others: str | list[str]) -> float:
    """The likeness with a name, or with the one of several that it looks most like; 1.0: they look the same."""
    seen = _seen(name)
    best = 0.0
    for other in [others] if isinstance(others, str) else others[:MAX_NAMES]:
        wanted = _seen(str(other))
        longest = max(len(seen), len(wanted))
        if seen == wanted:
            return 1.0 if longest else 0.0
        if not seen or not wanted or 1 - abs(len(seen) - len(wanted)) / longest <= best:
            continue
        best = max(best, 1 - _distance(seen, wanted) / longest)
    return best


@lru_cache(maxsize=1_000)
def _seen(name: str) -> str:
    return skeleton(" ".join(name.split())[:MAX_NAME])[:MAX_NAME]


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
