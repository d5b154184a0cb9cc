"""Domains and names that could be taken for others: look-alikes of domains one knows, display names of people one knows. Pure.

Letters are compared by what they look like (`skeleton`, UTS 39); a name's words by which they are, in whatever order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from gateway.lookalikes import skeleton, u_labels

MAX_NAME = 250
"""Characters of a display name that are looked at."""
MAX_WORDS = 20
_SHORT = 4
"""A label of less is like too many others."""
_WORD = re.compile(r"[^\W\d_]+")
_ADDRESS = re.compile(r"[^\s<>\"'(),;:\[\]]{1,64}@[^\s<>\"'(),;:\[\]@]{1,253}\.[^\s<>\"'(),;:\[\]@.]{2,63}")
_TITLES = frozenset(
    [
        "dr",
        "prof",
        "mr",
        "mrs",
        "ms",
        "miss",
        "sir",
        "herr",
        "frau",
        "dhr",
        "mevr",
        "mme",
        "ing",
        "dipl",
        "phd",
        "mba",
        "jr",
        "sr",
        "ceo",
        "cfo",
        "coo",
        "cto",
        "cio",
    ]
)

Likeness = Literal["lookalike", "similar"]


@dataclass(frozen=True, slots=True)
class Known:
    """A domain that one knows."""

    domain: str
    label: str
    """The one that somebody chose: `example` of `example.co.uk`."""
    suffix: str
    seen: str
    """What the whole looks like."""
    seen_label: str
    words: tuple[str, ...]
    """Of the label, between hyphens."""
    dashed: str
    """The whole with hyphens for dots, and around it."""


class KnownDomains:
    """The domains that others may try to look like."""

    def __init__(self, domains: Iterable[str], registrable: Callable[[str], str]) -> None:
        """`domains` as `plain_domain` gives them."""
        self._registrable = registrable
        self._known = tuple(self._describe(domain) for domain in dict.fromkeys(domains))
        self.compare = lru_cache(maxsize=10_000)(self._compare)
        """(likeness, why) of a `plain_domain`; None: it is one of them, lies below one, or is like none."""

    def is_known(self, domain: str) -> bool:
        """One of them, or below one."""
        return any(domain == one.domain or domain.endswith(f".{one.domain}") for one in self._known)

    def _describe(self, domain: str) -> Known:
        chosen = self._registrable(domain)
        label, _, suffix = chosen.partition(".")
        seen_label = skeleton(label)
        return Known(
            domain=domain,
            label=label,
            suffix=suffix,
            seen=skeleton(chosen),
            seen_label=seen_label.replace("-", ""),
            words=tuple(seen_label.split("-")),
            dashed=f"-{skeleton(domain).replace('.', '-')}-",
        )

    def _compare(self, domain: str) -> tuple[Likeness, str] | None:
        if not domain or self.is_known(domain):
            return None
        theirs = self._describe(domain)
        if any(theirs.seen == one.seen and theirs.label == one.label and theirs.suffix == one.suffix for one in self._known):
            return None  # another host of the same domain
        for one in self._known:
            if why := _lookalike(theirs, one):
                return "lookalike", f"{_told(domain)} {why} {one.domain}"
        for one in self._known:
            if why := _similar(theirs, one):
                return "similar", f"{_told(domain)} {why} {one.domain}"
        return None


def _lookalike(theirs: Known, known: Known) -> str:
    if theirs.seen == known.seen or (theirs.suffix == known.suffix and theirs.seen_label == known.seen_label):
        return "looks like"
    if known.dashed in theirs.dashed:
        return "bears within it the name"
    if theirs.suffix == known.suffix and _is_misspelt(theirs.seen_label, known.seen_label):
        return "is nearly spelt like"
    return ""


def _similar(theirs: Known, known: Known) -> str:
    if len(known.label) < _SHORT:
        return ""
    if theirs.seen_label == known.seen_label:
        return "has another ending than"
    if _is_misspelt(theirs.seen_label, known.seen_label) and len(known.label) >= 2 * _SHORT:
        return "is nearly spelt like, with another ending,"
    if known.seen_label in theirs.words:
        return "adds words to"
    return ""


def _is_misspelt(theirs: str, known: str) -> bool:
    """One change where five letters or more stand, two where twelve do; the letters themselves are another question."""
    limit = 0 if len(known) <= _SHORT else 1 if len(known) < 3 * _SHORT else 2
    return theirs != known and distance(theirs, known, limit) <= limit


def distance(one: str, other: str, limit: int) -> int:
    """Letters that are changed, added, left out, or swapped with their neighbour; `limit` + 1 for any more (optimal string alignment)."""
    if abs(len(one) - len(other)) > limit or len(set(one) ^ set(other)) > 2 * limit:
        return limit + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for at, letter in enumerate(one, 1):
        last, before, row = before, row, [at] + [0] * len(other)
        for place, theirs in enumerate(other, 1):
            row[place] = min(before[place] + 1, row[place - 1] + 1, before[place - 1] + (letter != theirs))
            if last and place > 1 and letter == other[place - 2] and one[at - 2] == theirs:
                row[place] = min(row[place], last[place - 2] + 1)
        if min(row) > limit:
            return limit + 1
    return min(row[-1], limit + 1)


def _told(domain: str) -> str:
    """With its letters, where it has others than ASCII's, for people."""
    shown = u_labels(domain)
    return domain if shown == domain else f"{domain} ({shown.encode('ascii', 'backslashreplace').decode()})"


def words_of(name: str) -> frozenset[str]:
    """The words of a name, as they look, without titles."""
    return frozenset(one for one in _all_words(name) if one not in _TITLES)


def _all_words(name: str) -> list[str]:
    plain = skeleton(name[:MAX_NAME])
    return [found[0] for found in _WORD.finditer(plain)][:MAX_WORDS]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whose name others may use."""

    name: str
    words: frozenset[str]
    together: frozenset[str]
    """The words of the name without a space, forwards and backwards."""


def person(name: str) -> Person:
    """ValueError where the name has no word."""
    words = [one for one in _all_words(name) if one not in _TITLES]
    if not words or not any(letter.isalpha() for letter in name):
        raise ValueError(f"found {name[:60]!r}; allowed: a name with letters")
    return Person(name, frozenset(words), frozenset({"".join(words), "".join(reversed(words))}))


def bears_name(display: str, people: Sequence[Person]) -> str:
    """The first whose name it is: in any order, with words beside it, or with spaces in other places; ``: nobody's."""
    words = words_of(display)
    together = "".join(_all_words(display))
    for one in people:
        if (one.words <= words if len(one.words) > 1 else one.words == words) or together in one.together:
            return one.name
    return ""


def addresses_within(display: str) -> list[str]:
    """Addresses that stand in a display name, where mail clients show them as if they were the author's; at most 5."""
    return [found[0] for found in _ADDRESS.finditer(display[:MAX_NAME])][:5]
