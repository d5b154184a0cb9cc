"""The points at which growth is counted: one dimension at a time, the rest as small as it can be. And what makes a curve a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from benchmarks.scenarios import LONG, Prepare, Scenario, at_once, config, content, messages, pipelined, rules, simple

_PARTS = {"name": "parts", "use": "benchmarks.scenarios:Parts", "timeout": LONG}
_ENOUGH = 4_000_000
"""Instructions about which a count is even: small messages are sent some times over."""
_LONG = 50_000_000
"""Instructions beside which a session's beginning and end are nothing."""
STEEPER = 2.0
"""A last step at more than this many times the dearest before it is not on a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One dimension."""

    name: str
    unit: str
    sizes: tuple[int, ...]
    weight: int
    """About so many instructions a unit."""
    per: int = 1
    """Units for which the price is told."""
    of: str = "a message"

    def prepare(self, size: int) -> Prepare:
        """The message that is so large in this dimension."""
        match self.name:
            case "size":
                return partial(messages, config(limits={"message_size": max(2 * size, 50_000_000)}), simple(content(size)))
            case "recipients":
                return partial(messages, config(), pipelined(content(1_000), size))
            case "header fields":
                return partial(messages, config(_PARTS), simple(content(1_000, fields=size)))
            case "MIME parts":
                return partial(messages, config(_PARTS), simple(content(1_000, parts=size)))
            case "connections":
                limits = {"connections": 2 * size, "network_connections": 0}
                relay = {"wait_limit": LONG}  # 100 links for all of them: counting takes its time
                return partial(at_once, config(limits=limits, relay=relay), simple(content(1_000)), size)
            case _:
                return partial(messages, rules(size), simple(content(1_000)))

    def point(self, size: int) -> Scenario:
        """Enough messages for an even count, and few where each is large."""
        weight = size * self.weight
        return Scenario(
            name=f"{self.name}, {size:,}",
            count=max(1, min(20, _ENOUGH // weight)),
            is_long=weight >= _LONG,
            prepare=self.prepare(size),
        )


CURVES = (
    Curve(
        name="size",
        unit="octet",
        sizes=(1_000, 10_000, 100_000, 900_000, 2_000_000, 10_000_000, 30_000_000, 100_000_000),
        per=1_000,
        weight=10,
    ),
    Curve(name="recipients", unit="recipient", sizes=(1, 10, 100, 300, 1_000), weight=190_000),
    Curve(name="header fields", unit="field", sizes=(1, 10, 100, 300, 1_000, 4_000), weight=15_000),
    Curve(name="MIME parts", unit="part", sizes=(1, 10, 100, 300, 900), weight=170_000),
    Curve(name="rules", unit="rule", sizes=(1, 10, 100, 300, 1_000), weight=9_000),
    Curve(name="connections", unit="connection", sizes=(1, 10, 100, 300), weight=1_600_000, of="of all"),
)


def points() -> dict[str, Scenario]:
    """All points of all curves, by name."""
    found = [curve.point(size) for curve in CURVES for size in curve.sizes]
    return {one.name: one for one in found}


def prices(points: Sequence[tuple[int, float]]) -> list[float]:
    """What a further unit cost from each point to the next."""
    return [(after - before) / (more - fewer) for (fewer, before), (more, after) in pairwise(points)]


def is_line(points: Sequence[tuple[int, float]]) -> bool:
    """The last step was not much dearer, unit for unit, than any before it."""
    found = prices(points)
    return found[-1] <= STEEPER * max(found[:-1])
