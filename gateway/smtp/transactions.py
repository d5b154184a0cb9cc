"""The end of a transaction, whatever it was: the link goes back, the record is written, observers are told."""

from __future__ import annotations

from typing import Final

import structlog

from gateway.errors import DomainError, DomainFault, LinkError
from gateway.smtp.books import FEW, SMALL
from gateway.smtp.conversation import Conversation
from gateway.smtp.record import Ending, build, fate_of, of_session, queue_id
from gateway.smtp.replies import Reply
from gateway.trace import Record
from gateway.transaction import Outcome
from gateway.verdict import Decision

log: Final = structlog.get_logger("mailgateway")


def link_reply(talk: Conversation, error: LinkError) -> Reply:
    """451 for a fault of our link; what happened stays in the trace (design §1.4)."""
    transaction = talk.transaction
    if transaction is not None and transaction.trace is not None:
        transaction.trace.step(stage="relay", plugin="", outcome="error", evidence=str(error))
    if isinstance(error, DomainError):
        return _domain_reply(talk, error)
    log.warning("next_hop.failed", id=talk.id, problem=str(error))
    if error.enhanced == "4.3.2":
        return talk.ours(451, "4.3.2", "All links to the next hop are in use; try again later")
    return talk.ours(451, error.enhanced, "The next hop cannot be reached now; try again later")


def _domain_reply(talk: Conversation, error: DomainError) -> Reply:
    """Mail for the domain can go nowhere: that is about the recipient (RFC 5321 5.1)."""
    match error.fault:
        case DomainFault.NULL_MX:  # RFC 7505 4.1
            return talk.ours(556, "5.1.10", "This domain accepts no mail (null MX)")
        case DomainFault.NO_SUCH_DOMAIN:
            return talk.ours(550, "5.1.2", "There is no such mail domain")
        case DomainFault.NO_USABLE_EXCHANGE:
            return talk.ours(550, "5.4.4", "No mail exchanger of this domain has an address")
        case DomainFault.LOOP:  # of our making, so that nobody's mail is returned for it
            return talk.ours(451, "4.4.6", "Mail for this domain leads back to this server")


def end(
    talk: Conversation,
    answer: Reply | None,
    *,
    decision: Decision | None = None,
    next_hop_reply: Reply | None = None,
    ending: Ending | None = None,
    record: Record | None = None,
    is_owed: bool = False,
) -> None:
    """End the transaction with this reply (None: the client left). Once only; a second call does nothing.

    `is_owed`: its record may be made a little later, and its content is closed with it. Observers hear of it from `tell_observers`.
    """
    transaction, talk.transaction = talk.transaction, None
    if transaction is None:
        return
    if talk.chunks is not None:
        talk.chunks.discard()
        talk.chunks = None
    if talk.begun is not None:
        talk.begun.cancel()
        talk.begun = None
    site = talk.door.site
    handover = talk.handover
    if ending is None:
        ending = Ending(reply=answer, decision=decision, next_hop=talk.handover_name, next_hop_reply=next_hop_reply)
    if handover is not None and handover.note and transaction.trace is not None:
        evidence = f"{handover.next_hop}: {handover.note}"
        transaction.trace.step(stage="relay", plugin="", outcome="link", evidence=evidence)
    talk.leave_next_hop()
    if is_owed:
        site.books.owe(site, transaction, ending, talk.refused, talk.loop)
    else:
        if record is None:
            record = build(transaction, ending, talk.refused, generation=site.generation, now=site.clock())
        site.books.write(site, record)
    if "done" in talk.door.chain.stages:
        fates = tuple(
            (recipient.mailbox, ending.fates.get(index) or fate_of(ending.reply))
            for index, recipient in enumerate(transaction.recipients)
        )
        outcome = Outcome(reply=ending.reply, fates=fates, next_hop=ending.next_hop, queue_id=queue_id(ending.next_hop_reply))
        talk.ended.append((transaction, outcome))


def conclude(talk: Conversation) -> None:
    """End the transaction whose reply to the content is on its way: no client waits for a record. Nothing where none is owed."""
    ending, talk.ending = talk.ending, None
    if ending is None:
        return
    transaction = talk.transaction
    if (
        transaction is not None
        and ending.size <= SMALL
        and len(transaction.recipients) <= FEW
        and "done" not in talk.door.chain.stages  # whose steps are not the record's
    ):
        end(talk, ending.reply, ending=ending, is_owed=True)
        return
    try:
        end(talk, ending.reply, ending=ending)
    finally:
        if ending.message is not None:
            ending.message.content.close()


async def tell_observers(talk: Conversation) -> None:
    """`done` for what has ended; called when the replies are written, so that an observer delays none of them."""
    ended, talk.ended = talk.ended, []
    for transaction, outcome in ended:
        await talk.door.chain.done(transaction, outcome)


def abandon(talk: Conversation, *, why: str) -> None:
    """The client gave the transaction up: RSET, EHLO, QUIT, or it left."""
    if talk.transaction is None:
        return
    if talk.transaction.trace is not None:
        talk.transaction.trace.step(stage="session", plugin="", outcome="abandoned", evidence=why)
    end(talk, None)


def refuse_session(talk: Conversation, decision: Decision | None, answer: Reply, *, reason: str = "") -> None:
    """The record of a session refused outside a transaction, by a plugin or for this reason."""
    site = talk.door.site
    record = of_session(talk.session, decision, answer, generation=site.generation, now=site.clock())
    record["reason"] = record["reason"] or reason
    site.books.write(site, record)
