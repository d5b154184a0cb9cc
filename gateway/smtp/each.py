"""A reply for each recipient, and what the next hop said of each: RFC 2033 4.2."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.outcome import Plan, Settlement
    from gateway.transaction import Transaction


def note_answers(transaction: Transaction, plan: Plan, settlement: Settlement) -> None:
    """The next hop's answers for the trace, one step for each recipient."""
    if transaction.trace is None:
        return
    for index, answer in zip(plan.forward, settlement.next_hop_replies, strict=True):
        recipient = transaction.recipients[index].mailbox
        transaction.trace.step(stage="delivery", plugin="", outcome="answer", recipient=recipient, evidence=str(answer))
