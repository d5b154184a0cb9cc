"""Rules that are asked at once answer as they do one by one."""

from __future__ import annotations

from typing import Any

import cel
import pytest

from gateway import Plugin, PluginError, Reject, Score
from gateway.plugins.rules import Options, Rules
from gateway.plugins.rules.expressions import Expression, Together
from gateway.plugins.rules.facts import Subject
from gateway.plugins.rules.searching import Patterns
from gateway.testing import Result, a_message, a_session, a_transaction, run_plugin

HOLDS = 'client.helo == "h.example"'
FAILS = 'attachments[0].name == "x"'


def rules(*conditions: tuple[str, object]) -> Rules:
    tables = [{"name": f"r{number}", "when": when, "then": then} for number, (when, then) in enumerate(conditions)]
    return Rules(Options.model_validate({"rule": tables}), name="rules")


async def judged(plugin: Plugin[Options]) -> Result:
    return await run_plugin(
        plugin, transaction=a_transaction(session=a_session(helo="h.example")), message=a_message(b"Subject: x\r\n\r\n")
    )


def given(result: Result) -> list[str]:
    return [finding.symbol for finding in result.findings if isinstance(finding, Score)]


@pytest.mark.parametrize("together", [True, False])
async def test_each_rule_does_what_it_says_in_its_order(monkeypatch: pytest.MonkeyPatch, together: bool) -> None:
    if not together:
        monkeypatch.setattr(Together, "hold", lambda *_: None)
    plugin = rules(
        (HOLDS, {"score": 1.0, "symbol": "first"}),
        ("false", {"score": 1.0, "symbol": "never"}),
        (f"{HOLDS} // with a comment", {"score": 2.0, "symbol": "second"}),
        ("score.total == 3.0", {"score": 1.0, "symbol": "sum"}),
        ('recipient.domain == "nowhere.example"', "discard"),
        ("score.total >= 4.0 && size(attachments) == 0", {"reject": "too much"}),
        (HOLDS, {"score": 1.0, "symbol": "late"}),
    )
    result = await judged(plugin)
    assert given(result) == ["first", "second", "sum"]
    assert isinstance(result.verdict, Reject)


async def test_one_that_fails_is_told_unless_it_is_below_a_decision() -> None:
    with pytest.raises(PluginError, match="rule 'r1'"):
        await judged(rules((HOLDS, {"score": 1.0, "symbol": "above"}), (FAILS, "accept"), (HOLDS, "discard")))
    assert isinstance((await judged(rules((HOLDS, {"reject": "no"}), (HOLDS, "accept"), (FAILS, "accept")))).verdict, Reject)


def test_the_library_is_called_once_for_all_and_each_fact_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    context = cel.Context

    def make(**facts: Any) -> cel.Context:
        made.append(facts)
        return context(**facts)

    monkeypatch.setattr(cel, "Context", make)
    together = Together([Expression(f"client.port > {number}") for number in range(20)], Patterns())
    found = together.hold(Subject(a_transaction(session=a_session(client_port=10)), a_message(b"\r\n")))
    assert found == [number < 10 for number in range(20)]
    assert len(made) == 1


def test_rules_too_many_or_too_large_for_one_call_are_asked_all_the_same() -> None:
    plugin = rules(*[(f"client.port == {n}", {"score": 1.0}) for n in range(120)])
    assert [len(run) for run, _ in plugin._runs] == [50, 50, 20]
