"""The benchmarks' bars and tables: what is held, missed or not measured, and where it is written."""

from __future__ import annotations

import pytest

from benchmarks import bars, report
from benchmarks.bars import BARS, LOOKS, Bar, Judged
from benchmarks.curves import is_line, prices
from benchmarks.instructions import apart
from benchmarks.results import DIRECT, HAPROXY, HARAKA, ONE, TWO, Results

EVERY = {bar.work for bar in BARS} - {bars.LOOP}


def measured() -> Results:
    results = Results()
    for work in ("kept", "new100", "session"):
        results.begin(work, "`make bench`")
    for way, rates, cpu in ((HAPROXY, (100.0, 300.0), 0.1), (ONE, (110.0, 130.0), 0.16), (TWO, (170.0, 190.0), 0.2)):
        for rate in rates:
            results.note("kept", way, rate=rate, cpu=cpu)
    results.note("new100", HARAKA, rate=10.0)
    results.note("session", DIRECT, p50=0.2, p99=0.3)
    results.note("session", ONE, p50=0.5, p99=2.004)
    return results


def verdicts(results: Results) -> dict[tuple[str, str], tuple[str, str]]:
    return {(one.bar.work, one.bar.says): (one.verdict, one.goal) for one in bars.judged(results)}


def test_bars_are_held_or_missed_by_what_was_measured() -> None:
    found = verdicts(measured())
    assert found["kept", "msg/s, x haproxy"] == ("held", "reached")  # 0.9: the faster of one worker and two
    assert found["kept", "ms CPU a message, one worker"] == ("held", "")
    assert found["kept", "two workers over one"] == ("missed", "not reached")  # 2 x 0.16 / 0.2
    assert found["session", "ms added to a message, median"] == ("held", "not reached")
    assert found["session", "ms of a message, p99"] == ("held", "")  # as it is printed: 2.00
    assert found["new", "msg/s, x haproxy"] == ("not measured", "")
    assert found["loop", "p99.9 ms that the loop was held"] == ("not measured", "")


@pytest.mark.parametrize(
    ("is_least", "figure", "verdict", "goal"),
    [
        (True, 0.59, "missed", "not reached"),
        (True, 0.6, "held", "not reached"),
        (True, 0.9, "held", "reached"),
        (False, 1.0, "missed", "not reached"),
        (False, 0.6, "held", "reached"),
        (True, None, "not measured", ""),
    ],
)
def test_a_bar_is_on_one_side_of_its_limit(*, is_least: bool, figure: float | None, verdict: str, goal: str) -> None:
    bar = Bar(work="kept", says="x", figure=lambda _: figure, bar=0.6, goal=0.9, is_least=is_least)
    judged = Judged(bar, figure)
    assert (judged.verdict, judged.goal) == (verdict, goal)


def test_the_lag_is_that_of_every_gateway_under_every_load() -> None:
    results = measured()
    late, held = LOOKS["late"], LOOKS["held"]
    results.note("kept", ONE, **{f"{late}1": 990.0, f"{late}10": 9.0, f"{held}1": 997.0, f"{held}10": 2.0})
    results.note("session", ONE, **{f"{late}50": 1.0, f"{held}50": 1.0})
    assert bars.held(results) == 10.0
    assert bars.lag(results, "held", 1.0) == 50.0
    assert verdicts(results)["loop", "p99.9 ms that the loop was held"] == ("held", "not reached")
    assert report.lag_line(results) == (
        "The loops of the gateways under load were late by at most p50 1 ms, p99 1 ms, p99.9 10 ms (1,000 looks), "
        "and held for at most p50 1 ms, p99 1 ms, p99.9 10 ms (1,000 looks)."
    )


def test_every_work_that_has_a_bar_has_a_table() -> None:
    assert set(report.TABLES) >= EVERY


def test_a_table_has_the_columns_of_which_there_are_figures() -> None:
    lines = list(report.table(measured(), "kept"))
    assert lines[0] == "| 4 KB, 20 sessions, kept connections | msg/s | apart | x haproxy | ms CPU a message |"
    assert lines[2] == "| haproxy | 200 | 100% | 1.00 | 0.100 |"
    assert {line.count("|") for line in lines} == {6}


def test_the_page_names_failures_and_each_bar() -> None:
    results = measured()
    results.failures.append("new: haproxy, round 1: refused")
    text = report.page(results)
    assert text.count("`make bench`:") == 1
    assert "- new: haproxy, round 1: refused" in text
    assert sum(text.count(f"| {word} |") for word in ("held", "missed", "not measured")) == len(BARS)


def test_a_work_of_which_nothing_was_measured_has_no_table() -> None:
    results = measured()
    results.begin("tls", "`make bench`")
    before, _, _ = report.page(results).partition("| work | figure |")
    assert report.TABLES["kept"].title in before
    assert report.TABLES["tls"].title not in before


def test_a_page_is_written_between_its_marks_and_nowhere_else() -> None:
    page = "before\n<!-- make x: begin -->\nold\n<!-- make x: end -->\nafter <!-- make y: end -->\n"
    assert report.written(page, "new\n", "make x") == (
        "before\n<!-- make x: begin -->\n\nnew\n\n<!-- make x: end -->\nafter <!-- make y: end -->\n"
    )
    with pytest.raises(ValueError, match="no place for make y"):
        report.written(page, "new", "make y")


def test_a_curve_is_a_line_while_a_further_unit_does_not_become_dearer() -> None:
    line = [(1, 100.0), (10, 190.0), (100, 1090.0)]
    bent = [(1, 100.0), (10, 190.0), (100, 2000.0)]
    assert prices(line) == [10.0, 10.0]
    assert is_line(line)
    assert not is_line(bent)


def test_what_rose_and_what_fell_is_named_with_by_how_much() -> None:
    kept = {"same": 1000, "dear": 1000, "cheap": 1000, "edge": 1000, "not counted": 1000}
    found = {"same": 1001, "dear": 1100, "cheap": 900, "edge": 1030, "new": 5}
    assert apart(found, kept) == [
        "more than 3% dearer than what is kept: dear (+10.0%)",
        "more than 3% cheaper: keep it, so that a later rise is seen: cheap (-10.0%)",
        "not kept yet: new",
    ]
    assert apart({"same": 1001, "edge": 970}, kept) == []
