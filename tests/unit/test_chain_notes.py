"""What `judge` may answer beside verdicts: plugins to pass over, scores, and what would have been decided."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway import Note, Plugin, Score, Transaction, Verdict, hook, quarantine, reject, skip, would
from gateway.testing import run_chain, run_plugin

Answer = Verdict | Note | Score | Sequence[Verdict | Note | Score] | None


class Answers(Plugin):
    """Answers what it was given."""

    def __init__(self, answer: Answer, *, name: str) -> None:
        super().__init__(name=name)
        self._answer = answer

    @hook
    async def judge(self) -> Answer:
        return self._answer


class Counts(Plugin):
    """Holds what has a score."""

    @hook
    async def judge(self, transaction: Transaction) -> Verdict | None:
        total = sum(found.weight for found in transaction.findings.of(Score))
        return quarantine(f"score-{total:g}") if total else None


async def test_a_plugin_is_passed_over_and_the_trace_says_by_whom() -> None:
    first = Answers(skip("second", reason="known-partner"), name="first")
    result = await run_chain([first, Answers(reject("no"), name="second"), Answers(quarantine("hold"), name="third")])
    assert result.verdict == quarantine("hold")
    steps = [(step["plugin"], step["outcome"], step["evidence"]) for step in result.trace if step["stage"] == "judge"]
    assert steps == [
        ("first", "skip", "skips second: "),
        ("second", "skipped", "by first: known-partner"),
        ("third", "verdict", ""),
    ]


async def test_a_score_reaches_the_judges_behind() -> None:
    result = await run_chain([Answers([Score(symbol="A", weight=2), Score(symbol="B", weight=1)], name="first"), Counts()])
    assert result.verdict == quarantine("score-3")
    assert result.findings == (Score(symbol="A", weight=2), Score(symbol="B", weight=1))


async def test_would_is_written_down_only() -> None:
    result = await run_plugin(Answers(would(reject("no"), reason="x", evidence="rule x"), name="first"))
    assert result.verdict is None
    assert result.would == (reject("no"),)
    (step,) = [step for step in result.trace if step["stage"] == "judge"]
    assert (step["outcome"], step["mode"], step["evidence"]) == ("would", "monitor", "rule x")


async def test_would_without_a_verdict() -> None:
    result = await run_plugin(Answers([would(None, evidence="rule x"), quarantine("hold")], name="first"))
    assert result.verdict == quarantine("hold")
    assert [step["outcome"] for step in result.trace if step["stage"] == "judge"] == ["would", "verdict"]


async def test_in_monitor_mode_nothing_of_it_counts() -> None:
    answer: Answer = [skip("counts"), Score(symbol="A", weight=2), reject("no")]
    result = await run_plugin(Answers(answer, name="first"), mode="monitor")
    assert result.verdict is None
    assert result.findings == ()
    assert result.would == (reject("no"),)


def test_skip_names_somebody() -> None:
    with pytest.raises(ValueError, match="at least one plugin"):
        skip()
