"""Comparators and match types of Sieve: RFC 5228 2.7, RFC 5231, RFC 4790 9. Time is linear in the text, whatever the pattern.

`:matches` is an expression of RE2, whose wildcards take as little as they can (RFC 5229 3.2).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import re2

MAX_PATTERN = 1_000
"""Characters of a pattern of `:matches`."""
MAX_WILDCARDS = 50
MAX_TEXT = 1_000_000
"""Characters of a value that are looked at."""
_TO_LOWER = {upper: upper + 32 for upper in range(65, 91)}
_RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
}
_DIGITS = re.compile(r"[0-9]{1,18}")
_INFINITY = float("inf")


class PatternError(ValueError):
    """A pattern that is too much."""


def lowered(text: str) -> str:
    """RFC 4790 9.2: of ASCII only, so that nothing changes its length."""
    return text.translate(_TO_LOWER)


def number(text: str) -> float:
    """RFC 4790 9.1: the digits it begins with; what begins with none is larger than all."""
    found = _DIGITS.match(text)
    return float(int(found[0])) if found else _INFINITY


_READY: dict[str, Callable[[str], Any]] = {"i;octet": str, "i;ascii-numeric": number}


def matches(
    match: str, relation: str, comparator: str, values: Sequence[str], keys: Sequence[str]
) -> tuple[bool, tuple[str, ...] | None]:
    """Whether one of the values matches one of the keys; of `:matches`, what the wildcards took. PatternError."""
    if match == ":count":
        compare = _RELATIONS[relation.lower()]
        return any(compare(float(len(values)), number(key)) for key in keys), None
    ready = _READY.get(comparator, lowered)
    for value in values:
        shown = value[:MAX_TEXT]
        own = ready(shown)
        for key in keys:
            other = ready(key)
            if match == ":matches":
                taken = _taken(str(other), str(own), shown)
                if taken is not None:
                    return True, taken
            elif match == ":contains":
                if str(other) in str(own):
                    return True, None
            elif (_RELATIONS[relation.lower()] if match == ":value" else operator.eq)(own, other):
                return True, None
    return False, None


def _taken(pattern: str, text: str, shown: str) -> tuple[str, ...] | None:
    """The whole and what each wildcard took of it, as it was written; None when it does not match."""
    found = _compiled(pattern).fullmatch(text)
    if found is None:
        return None
    spans = [found.span(group) for group in range(min(found.re.groups, 9) + 1)]
    return tuple([shown[start:end] for start, end in spans])


@lru_cache(maxsize=1_000)
def _compiled(pattern: str) -> Any:
    if len(pattern) > MAX_PATTERN:
        raise PatternError(f"a pattern of {len(pattern)} characters; allowed: {MAX_PATTERN}")
    pieces: list[str] = []
    wildcards = 0
    characters = iter(pattern)
    for one in characters:
        if one in "*?":
            pieces.append("(.*?)" if one == "*" else "(.)")
            wildcards += 1
        else:
            literal = next(characters, "\\") if one == "\\" else one
            pieces.append(re.escape(literal))
    if wildcards > MAX_WILDCARDS:
        raise PatternError(f"a pattern with {wildcards} wildcards; allowed: {MAX_WILDCARDS}")
    options = re2.Options()
    options.log_errors = False
    return re2.compile("(?s)" + "".join(pieces), options)
