"""The verdict of a whole transaction, as journal, log and metrics have it."""

from __future__ import annotations

import pytest

from gateway import AuthResult, Fact
from gateway.smtp.conversation import Refused
from gateway.smtp.record import MAX_RESULTS, Ending, build, results
from gateway.smtp.replies import Reply, reply
from gateway.testing import a_recipient, a_transaction
from gateway.trace import Record, Trace

TYPO = Refused(path=a_recipient("typo@example.org").forward_path, reply=reply(550, "5.1.1", "who?"), reason="next-hop")


def record(fates: dict[int, str], answer: Reply | None, *refused: Refused) -> Record:
    transaction = a_transaction()
    transaction.recipients[:] = [a_recipient(f"r{index}@example.org") for index in fates]
    return build(transaction, Ending(reply=answer, fates=fates), list(refused), generation="g", now=transaction.started)


@pytest.mark.parametrize(
    ("fates", "verdict"),
    [
        ({0: "delivered"}, "delivered"),
        ({0: "delivered", 1: "held"}, "held"),
        ({0: "held", 1: "discarded"}, "held"),
        ({0: "delivered", 1: "discarded"}, "discarded"),
        ({0: "delivered", 1: "rejected"}, "rejected"),
        ({0: "deferred", 1: "delivered"}, "deferred"),
    ],
)
def test_the_strongest_fate_is_the_verdict(fates: dict[int, str], verdict: str) -> None:
    assert record(fates, reply(250, "2.0.0", "Ok"))["verdict"] == verdict


def test_a_typo_among_the_recipients_makes_no_rejected_message_of_a_delivered_one() -> None:
    told = record({0: "delivered"}, reply(250, "2.0.0", "Ok"), TYPO)
    assert (told["verdict"], told["reason"], len(told["recipients"])) == ("delivered", "", 2)


def test_when_nobody_was_accepted_the_refusal_is_the_verdict() -> None:
    told = record({}, None, TYPO)
    assert (told["verdict"], told["reason"], told["reply"]) == ("rejected", "next-hop", "550 5.1.1 who?")


def test_a_client_that_left() -> None:
    assert record({0: "vanished"}, None, TYPO)["verdict"] == "vanished"


def test_what_authentication_came_to_is_told_in_short() -> None:
    transaction = a_transaction()
    transaction.trace = Trace()
    told = [("spf", "pass"), ("dkim", "fail"), ("dkim", "pass"), ("dkim", "fail"), ("dmarc", "pass")]
    findings = (Fact(name="x", value=1), *(AuthResult(method=method, result=result) for method, result in told))
    transaction.trace.step(stage="check", plugin="several", outcome="finding", findings=findings)
    ending = Ending(reply=None, fates={})
    assert (
        results(build(transaction, ending, [], generation="g", now=transaction.started)) == "spf=pass dkim=fail,pass dmarc=pass"
    )
    assert results(record({}, None)) == ""
    many = tuple(AuthResult(method="dkim", result=f"odd{number}") for number in range(150))
    transaction.trace.step(stage="check", plugin="odd", outcome="finding", findings=many)
    assert len(results(build(transaction, ending, [], generation="g", now=transaction.started))) == MAX_RESULTS
