"""What a decision record says of transactions with several endings."""

from __future__ import annotations

from gateway.smtp.conversation import Refused
from gateway.smtp.paths import Path
from gateway.smtp.record import Ending, build
from gateway.smtp.replies import reply
from gateway.testing import a_transaction
from gateway.verdict import Decision, quarantine

NOBODY = Refused(path=Path(b"<nobody@a.test>", "nobody", "a.test"), reply=reply(450, "4.2.0", "later"), reason="next-hop")


def verdict_of(
    ending: Ending, *refused: Refused, recipients: tuple[str, ...] = ("bob@a.test",), held: bool = False
) -> tuple[str, str, str]:
    transaction = a_transaction(recipients=recipients)
    if held:
        transaction.recipients[0].decision = Decision(verdict=quarantine("because"), plugin="judge", hook="judge")
    record = build(transaction, ending, list(refused), generation="g", now=transaction.started + 1)
    assert len(record["recipients"]) == len(recipients) + len(refused)
    return record["verdict"], record["plugin"], record["reason"]


def test_a_refusal_at_rcpt_does_not_hide_a_delivery() -> None:
    assert verdict_of(Ending(reply=reply(250, "2.0.0", "Ok"), fates={0: "delivered"}), NOBODY)[0] == "delivered"


def test_refused_alone_it_names_the_verdict() -> None:
    assert verdict_of(Ending(), NOBODY, recipients=()) == ("deferred", "", "next-hop")


def test_held_is_stronger_than_delivered() -> None:
    ending = Ending(reply=reply(250, "2.0.0", "Ok"), fates={0: "held", 1: "delivered"})
    assert verdict_of(ending, recipients=("bob@a.test", "eve@a.test"), held=True) == ("held", "judge", "because")
