"""Return codes of lists in DNS, and what they weigh: RFC 5782 2.1, 2.3. Pure: nothing is looked up.

A pattern is an address of 127.0.0.0/8 with a number, a range (`4-11`), bits of which one is set (`&8`), or `*` in each place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

Weight = Annotated[float, Field(ge=-1_000, le=1_000, allow_inf_nan=False)] | Literal["allow"]
"""What a listing adds to the total; `allow`: it lets the message through, whatever other lists say."""

ALLOWED = "127.0.0.2, 127.0.0.4-11, 127.0.*.3 or 127.0.0.&8"
_PLACE = re.compile(r"(?:(\d{1,3})(?:-(\d{1,3}))?|&(\d{1,3})|(\*))")
_ADDRESS = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})")

Octets = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CodePattern:
    """Codes that mean the same, as `parse_pattern` reads them."""

    text: str
    places: tuple[frozenset[int], ...]

    def matches(self, code: Octets) -> bool:
        """True when each octet is one of those in its place."""
        return all(octet in place for octet, place in zip(code, self.places, strict=True))


def parse_pattern(text: str) -> CodePattern:
    """ValueError says what is allowed."""
    places = [_place(piece) for piece in text.split(".")]
    if len(places) != 4 or not all(places) or places[0] != {127}:
        raise ValueError(f"found {text[:60]!r}; allowed: {ALLOWED}")
    return CodePattern(text, tuple(places))


def _place(text: str) -> frozenset[int]:
    """Empty where the text is none."""
    found = _PLACE.fullmatch(text)
    if found is None or any(int(one) > 255 for one in found.groups()[:3] if one):
        return frozenset()
    low, high, bits, _ = found.groups()
    if bits is not None:
        return frozenset(octet for octet in range(256) if octet & int(bits))
    if low is None:
        return frozenset(range(256))
    return frozenset(range(int(low), int(high or low) + 1))


def parse_code(text: str) -> Octets | None:
    """A record's address as octets; None for what is no IPv4 address."""
    found = _ADDRESS.fullmatch(text)
    octets = tuple(int(one) for one in found.groups()) if found is not None else ()
    return octets if octets and max(octets) <= 255 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the records of one answer say."""

    weight: float = 0.0
    is_allowed: bool = False
    counted: tuple[str, ...] = ()
    """Codes that weigh something, or allow."""
    fault: str = ""
    """Why the answer is none."""


class Codes:
    """One list's patterns and weights."""

    def __init__(self, weight: Weight, weights: Mapping[str, Weight], faults: Iterable[str]) -> None:
        """`weight` counts where `weights` is empty: any code then means the same. ValueError for what is no pattern."""
        given: Mapping[str, Weight] = weights or {"127.*.*.*": weight}
        self._weights = [(parse_pattern(text), one) for text, one in given.items()]
        self._faults = [parse_pattern(text) for text in faults]

    @property
    def may_allow(self) -> bool:
        """True when an answer could let a message through."""
        return any(weight == "allow" for _, weight in self._weights)

    @property
    def most(self) -> float:
        """The most that an answer could add."""
        return sum(weight for _, weight in self._weights if weight != "allow" and weight > 0)

    def read(self, records: Iterable[str]) -> Reading:
        """Each pattern counts once, however many records it matches; a record that is no code spoils the answer."""
        codes: list[tuple[str, Octets]] = []
        for record in records:
            octets = parse_code(record)
            if (
                octets is None or octets[0] != 127
            ):  # RFC 5782 2.1: else it is a parked domain, or a resolver that makes answers up
                return Reading(fault=f"answers {record[:60]}, which is no code of a list")
            if any(fault.matches(octets) for fault in self._faults):
                return Reading(fault=f"answers {record}: it refuses to be asked")
            codes.append((record, octets))
        weight, is_allowed, counted = 0.0, False, {}
        for pattern, one in self._weights:
            matched = [record for record, octets in codes if pattern.matches(octets)]
            if not matched:
                continue
            if one == "allow":
                is_allowed = True
            else:
                weight += one
            if one != 0:
                counted.update(dict.fromkeys(matched))
        return Reading(weight=weight, is_allowed=is_allowed, counted=tuple(counted))
