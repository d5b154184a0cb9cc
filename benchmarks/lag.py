"""How late the loops of a gateway were, and how long held, out of the files from which its `/metrics` is made: no page needs to be served for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

NAMES = {"late": "mailgateway_loop_lag_seconds", "held": "mailgateway_loop_held_seconds"}


def looks(state: Path) -> Counter[tuple[str, float]]:
    """Looks so far, `late` and `held`, by the upper edge of their bucket in milliseconds, over all workers."""
    total: Counter[tuple[str, float]] = Counter()
    for place in state.glob("run/*/metrics"):
        collector = MultiProcessCollector(CollectorRegistry(), path=str(place))  # type: ignore[no-untyped-call]  # of the library
        for family in collector.collect():  # type: ignore[no-untyped-call]  # the same
            for kind, name in NAMES.items():
                if family.name == name:
                    found = single({float(s.labels["le"]): s.value for s in family.samples if "le" in s.labels})
                    total += Counter({(kind, edge): count for edge, count in found.items()})
    return total


def single(cumulative: dict[float, float]) -> dict[float, float]:
    """How many fell into each bucket; edges become milliseconds."""
    found, before = {}, 0.0
    for edge in sorted(cumulative):
        found[1000 * edge] = cumulative[edge] - before
        before = cumulative[edge]
    return found
