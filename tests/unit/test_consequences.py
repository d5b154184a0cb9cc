"""What follows from what a scanner found: gateway.consequences."""

from __future__ import annotations

import pytest

from gateway import Defer, Discard, Fact, Finding, Label, Message, Quarantine, Reject, Transaction, Verdict, hook
from gateway.consequences import ConsequenceOptions, Then, consequence, told
from gateway.scanning import Scanner
from gateway.testing import a_message, run_plugin


class Options(ConsequenceOptions):
    then: Then = "reject"


class Finds(Scanner[Options]):
    @hook
    async def check(self, message: Message) -> list[Finding]:
        if label := self.is_too_large(message):
            return [label]
        return [Fact(name="other", value="reject x"), Label(name="found"), *told(self.name, self.options.then, "because\nof it")]

    @hook
    async def judge(self, transaction: Transaction) -> Verdict | None:
        return consequence(self, transaction, reason="found-it")


@pytest.mark.parametrize(
    ("then", "kind"), [("reject", Reject), ("quarantine", Quarantine), ("discard", Discard), ("defer", Defer), ("pass", None)]
)
async def test_what_was_told_is_carried_out(then: Then, kind: type[Verdict] | None) -> None:
    verdict = (await run_plugin(Finds(Options(then=then, text="No", box="odd"), name="finds"))).verdict
    assert (None if verdict is None else type(verdict)) is kind
    if verdict is not None:
        assert (verdict.reason, verdict.evidence) == ("found-it", "because\nof it")
    if isinstance(verdict, Reject):
        assert verdict.text == "No"
    if isinstance(verdict, Quarantine):
        assert verdict.box == "odd"


async def test_too_large_comes_first() -> None:
    options = Options(max_size=1, oversize="reject")
    verdict = (await run_plugin(Finds(options, name="finds"), message=a_message())).verdict
    assert isinstance(verdict, Reject)
    assert verdict.code == 552


def test_evidence_is_bounded() -> None:
    [fact] = told("x", "reject", "y" * 10_000)
    assert isinstance(fact, Fact)
    assert len(str(fact.value)) == 2_000
