"""Figures of the benchmarks: noted round by round, kept as JSON, read back for tables, bars and plots. Nothing is measured here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from gateway.core import find

DIRECT = "direct"
HAPROXY = "haproxy"
POSTFIX = "Postfix smtpd_proxy_filter"
HARAKA = "Haraka smtp_proxy"
ONE = "gateway, 1 worker"
TWO = "gateway, 2 workers"
WITH_CORE = ", compiled core"
"""What the name of a gateway ends with that runs the compiled core (docs/performance.md); the others run without it."""
ONE_WITH_CORE = ONE + WITH_CORE
TWO_WITH_CORE = TWO + WITH_CORE
WORKERS = {ONE: 1, TWO: 2, ONE_WITH_CORE: 1, TWO_WITH_CORE: 2}
"""Of a gateway of this name."""


def if_built(*ways: str) -> tuple[str, ...]:
    """These ways if there is a compiled core of this very source (`make core`)."""
    core, _ = find(Path(__file__).parent.parent)
    return ways if core else ()


@dataclass(slots=True)
class Work:
    """What was found of one kind of work."""

    made: str
    """By which command, when, on what."""
    ways: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Way → measure → a figure for each round."""


@dataclass(slots=True)
class Results:
    """All of it, by the name of the work."""

    works: dict[str, Work] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    """Rounds that failed or were left out, each with its reason."""

    def begin(self, work: str, made: str) -> None:
        """What was known of this work is forgotten."""
        self.works[work] = Work(made)

    def note(self, work: str, way: str, **figures: float) -> None:
        """One round's figures."""
        found = self.works[work].ways.setdefault(way, {})
        for measure, figure in figures.items():
            found.setdefault(measure, []).append(figure)

    def rounds(self, work: str, way: str, measure: str) -> list[float]:
        """A figure for each round that was measured."""
        known = self.works.get(work)
        return known.ways.get(way, {}).get(measure, []) if known else []

    def median(self, work: str, way: str, measure: str) -> float | None:
        """The median of the rounds, or None where nothing was measured."""
        found = self.rounds(work, way, measure)
        return median(found) if found else None

    def ratio(self, work: str, way: str, peer: str, measure: str) -> float | None:
        """The median of a way over that of a peer."""
        return over(self.median(work, way, measure), self.median(work, peer, measure))

    def with_core(self) -> Results:
        """The same with the gateways that run the compiled core in the place of those that do not; only works that have any."""
        found = Results()
        for name, work in self.works.items():
            compiled = {way.removesuffix(WITH_CORE): figures for way, figures in work.ways.items() if way.endswith(WITH_CORE)}
            if compiled:
                peers = {way: figures for way, figures in work.ways.items() if not way.startswith("gateway")}
                found.works[name] = Work(work.made, peers | compiled)
        return found

    def update(self, other: Results) -> None:
        """Works of another run take the place of ours; its failures are told with those of works it did not do."""
        self.failures = [one for one in self.failures if one.partition(":")[0] not in other.works] + other.failures
        self.works.update(other.works)

    def to_json(self) -> str:
        """For `from_json`; figures are rounded to what a reader can use."""
        values = asdict(self, dict_factory=lambda items: {name: _rounded(value) for name, value in items})
        return json.dumps(values, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Results:
        """What `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        works = {name: Work(one["made"], one["ways"]) for name, one in values["works"].items()}
        return cls(works, values["failures"])

    @classmethod
    def kept(cls, file: Path) -> Results:
        """Those of a file, or none."""
        return cls.from_json(file.read_text("utf-8")) if file.exists() else cls()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


def over(figure: float | None, other: float | None) -> float | None:
    """Their ratio where both were measured and it says something."""
    return None if figure is None or not other else figure / other


def share(latencies: Iterable[float], of_all: float) -> float:
    """The figure that this share of all does not exceed: 0.5 the median, 0.99 the 99th percentile (nearest rank)."""
    ordered = sorted(latencies)
    return ordered[min(len(ordered) - 1, int(of_all * len(ordered)))]


def late(looks: Mapping[float, float], of_all: float) -> float:
    """Upper edge of the bucket of a histogram (edge → how many) in which this share of all is reached; 0 without any."""
    wanted, seen = of_all * sum(looks.values()), 0.0
    for edge in sorted(looks):
        seen += looks[edge]
        if seen >= wanted and seen:
            return edge
    return 0.0


def spread(rounds: list[float]) -> float:
    """How far the rounds lie apart, as a share of their median."""
    middle = median(rounds) if rounds else 0.0
    return (max(rounds) - min(rounds)) / middle if middle else 0.0
