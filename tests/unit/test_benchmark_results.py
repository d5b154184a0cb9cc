"""The benchmarks' figures: medians, shares, what is kept as JSON, and what a partial run leaves of an earlier one."""

from __future__ import annotations

import pytest

from benchmarks.lag import single
from benchmarks.results import Results, late, over, share, spread


def of(work: str, **ways: list[float]) -> Results:
    results = Results()
    results.begin(work, "by hand")
    for way, rates in ways.items():
        for rate in rates:
            results.note(work, way, rate=rate)
    return results


def test_medians_and_ratios_are_of_the_rounds() -> None:
    results = of("kept", ours=[5.0, 1.0, 9.0], theirs=[2.0, 3.0])
    assert results.median("kept", "ours", "rate") == 5.0
    assert results.ratio("kept", "ours", "theirs", "rate") == 2.0


@pytest.mark.parametrize(("work", "way", "measure"), [("new", "ours", "rate"), ("kept", "mine", "rate"), ("kept", "ours", "cpu")])
def test_what_was_not_measured_has_no_figure(work: str, way: str, measure: str) -> None:
    results = of("kept", ours=[5.0])
    assert results.rounds(work, way, measure) == []
    assert results.median(work, way, measure) is None


@pytest.mark.parametrize(
    ("figure", "other", "expected"), [(3.0, 2.0, 1.5), (None, 2.0, None), (3.0, None, None), (3.0, 0.0, None)]
)
def test_a_ratio_needs_both(figure: float | None, other: float | None, expected: float | None) -> None:
    assert over(figure, other) == expected


def test_shares_are_by_nearest_rank() -> None:
    hundred = [float(number) for number in range(100, 0, -1)]
    assert share(hundred, 0.5) == 51.0
    assert share(hundred, 0.99) == 100.0
    assert share([7.0], 0.99) == 7.0


def test_a_histogram_tells_the_edge_that_a_share_stays_below() -> None:
    looks = {1.0: 990.0, 5.0: 9.0, 50.0: 1.0}
    assert [late(looks, part) for part in (0.5, 0.99, 0.999, 1.0)] == [1.0, 1.0, 5.0, 50.0]
    assert late({}, 0.5) == 0.0
    assert late({1.0: 0.0, 2.0: 3.0}, 0.0) == 2.0


def test_buckets_of_the_metrics_are_cumulative_seconds() -> None:
    assert single({0.005: 12.0, 0.001: 10.0, float("inf"): 12.0}) == {1.0: 10.0, 5.0: 2.0, float("inf"): 0.0}


def test_rounds_that_agree_are_not_apart() -> None:
    assert spread([2.0, 2.0]) == 0.0
    assert spread([1.0, 2.0, 3.0]) == 1.0
    assert spread([]) == 0.0


def test_what_is_kept_is_what_was_found_to_five_figures() -> None:
    results = of("kept", ours=[1234.5678, 2.0])
    results.failures.append("kept: ours, round 3: refused")
    again = Results.from_json(results.to_json())
    assert again.rounds("kept", "ours", "rate") == [1234.6, 2.0]
    assert (again.works["kept"].made, again.failures) == ("by hand", results.failures)
    assert Results.from_json(again.to_json()) == again


def test_a_partial_run_replaces_its_works_with_their_failures_and_no_others() -> None:
    whole = of("kept", ours=[1.0])
    whole.update(of("new", ours=[2.0]))
    whole.failures = ["kept: refused", "new: refused"]
    part = of("new", ours=[3.0])
    part.failures = ["new: too late"]
    whole.update(part)
    assert [whole.median(work, "ours", "rate") for work in ("kept", "new")] == [1.0, 3.0]
    assert whole.failures == ["kept: refused", "new: too late"]
