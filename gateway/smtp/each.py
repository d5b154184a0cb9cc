"""A reply for each recipient, to the client and from the next hop: RFC 2033 4.2, draft-hall-prdr 4.5."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from typing_extensions import override

from gateway.outcome import Ability
from gateway.smtp.replies import Reply
from gateway.values import value

if TYPE_CHECKING:
    from gateway.outcome import Plan, Settlement
    from gateway.smtp.conversation import Conversation
    from gateway.transaction import Transaction

_BEGINS: Final = Reply(353, (b"A reply for each recipient follows",))


@value(frozen=True, slots=True)
class Answers(Reply):
    """The replies to the content as one: by itself it is the summary for record and metrics; on the wire it is all of them."""

    each: tuple[Reply, ...] = ()
    """One for each recipient that the client named and that was accepted, in the order of the RCPTs."""
    is_prdr: bool = False
    """353 goes before them and the summary behind them."""

    def __init__(self, code: int, lines: tuple[bytes, ...], each: tuple[Reply, ...] = (), is_prdr: bool = False) -> None:
        """Written, as what it inherits has one that is made: see gateway.constructors."""
        Reply.__init__(self, code, lines)
        self.each, self.is_prdr = each, is_prdr  # type: ignore[misc] # see value

    @override
    def render(self) -> bytes:
        each = b"".join(one.render() for one in self.each)
        return _BEGINS.render() + each + Reply(self.code, self.lines).render() if self.is_prdr else each


def answers(summary: Reply, each: tuple[Reply, ...], ability: Ability) -> Reply:
    """What this client is told: the summary alone, where it has one reply for all."""
    if ability.has_single_reply or not each:
        return summary
    return Answers(summary.code, summary.lines, each, ability is Ability.PRDR)


def to_all(answer: Reply, ability: Ability, named: int) -> Reply:
    """The same reply for every recipient, where the client wants one for each and they have none of their own."""
    return answer if isinstance(answer, Answers) else answers(answer, (answer,) * named, ability)


def named(talk: Conversation) -> int:
    """Recipients that the client named and that were accepted."""
    return sum(not one.added for one in talk.transaction.recipients) if talk.transaction is not None else 0


def note_answers(transaction: Transaction, plan: Plan, settlement: Settlement) -> None:
    """The next hop's answers for the trace, one step for each recipient."""
    if transaction.trace is None:
        return
    for index, answer in zip(plan.forward, settlement.next_hop_replies, strict=True):
        recipient = transaction.recipients[index].mailbox
        transaction.trace.step(stage="delivery", plugin="", outcome="answer", recipient=recipient, evidence=str(answer))
