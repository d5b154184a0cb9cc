"""Metrics that are noted and counted later are what the library's own calls would have made them."""

import pytest
from prometheus_client import Histogram

from gateway import metrics


def test_noted_times_are_what_observe_makes_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def histogram() -> Histogram:
        return Histogram("seconds", "-", buckets=metrics._SECONDS, registry=None)

    def samples(one: Histogram) -> list[tuple[str, str, float]]:
        (family,) = one.collect()
        return [(s.name, s.labels.get("le", ""), s.value) for s in family.samples if not s.name.endswith("_created")]

    times = [0.0, 0.0005, 0.00051, 0.02, 0.02, 60.0, 61.0]
    noted, observed = histogram(), histogram()
    metrics.flush()  # what other tests of this process have noted
    monkeypatch.setattr(metrics, "TRANSACTION_SECONDS", noted)
    for seconds in times:
        metrics.observe_transaction(seconds)
        observed.observe(seconds)
    metrics.flush()
    metrics.flush()
    assert samples(noted) == samples(observed)
    assert sum(value for _, le, value in samples(noted) if le == "+Inf") == len(times)


def test_the_lag_of_the_loop_is_counted_as_observe_would(monkeypatch: pytest.MonkeyPatch) -> None:
    def samples(one: Histogram) -> list[tuple[str, str, float]]:
        (family,) = one.collect()
        return [(s.name, s.labels.get("le", ""), s.value) for s in family.samples if not s.name.endswith("_created")]

    noted, observed, holds, held = (Histogram("lag", "-", buckets=metrics._LATE, registry=None) for _ in range(4))
    metrics.flush()  # what other tests of this process have noted
    monkeypatch.setattr(metrics, "LOOP_LAG", noted)
    monkeypatch.setattr(metrics, "LOOP_HELD", holds)
    for seconds in [0.0, 0.001, 0.0011, 0.01, 6.0]:
        metrics.observe_loop_lag(seconds, seconds / 2)
        observed.observe(seconds)
        held.observe(seconds / 2)
    metrics.flush()
    metrics.flush()
    assert samples(noted) == samples(observed)
    assert samples(holds) == samples(held)
    assert sum(value for name, _, value in samples(noted) if name == "lag_count") == 5


def test_noted_times_of_hooks_are_what_observe_makes_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def histogram() -> Histogram:
        return Histogram("seconds", "-", ["plugin", "hook"], buckets=metrics._SECONDS, registry=None)

    def samples(one: Histogram) -> list[tuple[str, dict[str, str], float]]:
        (family,) = one.collect()
        return [(s.name, s.labels, s.value) for s in family.samples if not s.name.endswith("_created")]

    noted, observed = histogram(), histogram()
    metrics.flush()  # what other tests of this process have noted
    monkeypatch.setattr(metrics, "PLUGIN_SECONDS", noted)
    for plugin, hook, seconds in [
        ("spf", "mail", 0.0005),
        ("spf", "mail", 0.25),
        ("spf", "check", 61.0),
        ("dkim", "check", 0.25),
    ]:
        metrics.observe_run(plugin, hook, "none", seconds)
        observed.labels(plugin, hook).observe(seconds)
    metrics.flush()
    metrics.flush()
    assert samples(noted) == samples(observed)
    assert sum(value for name, _, value in samples(noted) if name == "seconds_count") == 4


def test_flush_counts_each_note_once() -> None:
    def value(counter: str, **labels: str) -> float:
        found = metrics.OCTETS if counter == "octets" else metrics.TRANSACTIONS.labels(**labels)
        return float(found._value.get())

    metrics.flush()
    octets, held = value("octets"), value("transactions", verdict="held")
    metrics.count_content(10)
    metrics.count_content(5)
    metrics.count_transaction("held")
    assert value("octets") == octets
    metrics.flush()
    metrics.flush()
    assert (value("octets"), value("transactions", verdict="held")) == (octets + 15, held + 1)
