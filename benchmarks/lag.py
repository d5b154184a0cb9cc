"""How late the loops of a gateway were, out of the files from which its `/metrics` is made: no page needs to be served for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

NAME = "mailgateway_loop_lag_seconds"


def looks(state: Path) -> Counter[float]:
    """Looks so far by the upper edge of their bucket in milliseconds, over all workers."""
    total: Counter[float] = Counter()
    for place in state.glob("run/*/metrics"):
        collector = MultiProcessCollector(CollectorRegistry(), path=str(place))  # type: ignore[no-untyped-call]  # of the library
        for family in collector.collect():  # type: ignore[no-untyped-call]  # the same
            if family.name == NAME:
                total += Counter(single({float(s.labels["le"]): s.value for s in family.samples if "le" in s.labels}))
    return total


def single(cumulative: dict[float, float]) -> dict[float, float]:
    """How many fell into each bucket; edges become milliseconds."""
    found, before = {}, 0.0
    for edge in sorted(cumulative):
        found[1000 * edge] = cumulative[edge] - before
        before = cumulative[edge]
    return found
