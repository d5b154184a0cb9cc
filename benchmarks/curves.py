"""The points at which growth is counted: one dimension of a message at a time, the rest as small as it can be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from benchmarks.scenarios import Prepare, Scenario, config, content, messages, pipelined, rules, simple

_PARTS = {"name": "parts", "use": "benchmarks.scenarios:Parts"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One dimension."""

    name: str
    unit: str
    sizes: tuple[int, ...]
    per: int = 1
    """Units for which the price is told."""

    def prepare(self, size: int) -> Prepare:
        """The message that is so large in this dimension."""
        match self.name:
            case "size":
                return partial(messages, config(), simple(content(size)))
            case "recipients":
                return partial(messages, config(), pipelined(content(1_000), size))
            case "header fields":
                return partial(messages, config(_PARTS), simple(content(1_000, fields=size)))
            case "MIME parts":
                return partial(messages, config(_PARTS), simple(content(1_000, parts=size)))
            case _:
                return partial(messages, rules(size), simple(content(1_000)))

    def point(self, size: int) -> Scenario:
        """Enough messages for an even count, and few where each is large."""
        heavy = size * {"octet": 1, "recipient": 10_000, "field": 2_000, "part": 20_000, "rule": 5_000}[self.unit]
        return Scenario(name=f"{self.name}, {size:,}", count=max(1, min(20, 400_000 // heavy)), prepare=self.prepare(size))


CURVES = (
    Curve(name="size", unit="octet", sizes=(1_000, 10_000, 100_000, 900_000, 2_000_000, 5_000_000, 10_000_000), per=1_000),
    Curve(name="recipients", unit="recipient", sizes=(1, 10, 100, 300, 1_000)),
    Curve(name="header fields", unit="field", sizes=(1, 10, 100, 300, 1_000, 4_000)),
    Curve(name="MIME parts", unit="part", sizes=(1, 10, 100, 300, 900)),
    Curve(name="rules", unit="rule", sizes=(1, 10, 100, 300, 1_000)),
)


def points() -> dict[str, Scenario]:
    """All points of all curves, by name."""
    found = [curve.point(size) for curve in CURVES for size in curve.sizes]
    return {one.name: one for one in found}
