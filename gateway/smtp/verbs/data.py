"""DATA: RFC 5321 4.1.1.4. 354 is the gateway's own; the next hop gets the content only after the verdict."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from gateway import metrics
from gateway.begun import in_task
from gateway.chain import StageDeferredError
from gateway.content import Content
from gateway.delivery import Parcel
from gateway.errors import LinkError
from gateway.message import Message
from gateway.outcome import NOTHING, SMTP, SUBMISSION, Ability, Fate, Plan, Settlement, Wish, plan
from gateway.smtp.conversation import Conversation
from gateway.smtp.each import answers, named, note_answers, to_all
from gateway.smtp.extensions.binarymime import is_binary
from gateway.smtp.intake import Intake, has_hidden_end
from gateway.smtp.parcel import make_parcel
from gateway.smtp.protocol import Command
from gateway.smtp.received import MAX_OWN, hops
from gateway.smtp.record import Ending
from gateway.smtp.replies import Reply
from gateway.smtp.transactions import end
from gateway.transaction import Transaction
from gateway.verdict import Decision, Discard, Quarantine, defer

_GO_ON: Final = Reply(354, (b"End data with <CR><LF>.<CR><LF>",))
_WORDS: Final = {fate: fate.value for fate in Fate}


def data(talk: Conversation, command: Command) -> Reply | Coroutine[Any, Any, Reply]:
    """354, or the refusal."""
    if command.argument:
        return talk.ours(501, "5.5.4", "Syntax: DATA")
    transaction = talk.transaction
    if transaction is not None and transaction.parameters and is_binary(transaction.parameters):
        return talk.ours(503, "5.5.1", "BODY=BINARYMIME goes with BDAT")  # RFC 3030 3
    return opening(talk)


def opening(talk: Conversation) -> Reply | Coroutine[Any, Any, Reply]:
    """354 if content may come now, else the refusal."""
    transaction = talk.transaction
    if transaction is None:
        return talk.ours(503, "5.5.1", "Need MAIL command")
    if not transaction.recipients and talk.session.protocol == "lmtp":
        return talk.ours(503, "5.5.1", "No valid recipients")  # RFC 2033 4.2
    if not transaction.recipients:
        return talk.ours(554, "5.5.1", "No valid recipients")  # RFC 5321 3.3
    if talk.handover is not None:
        talk.handover.rest()
    chain = talk.door.chain
    if "data" in chain.stages:
        return _ask_chain(talk, transaction)
    if "check" in chain.stages:
        talk.begun = chain.begin_checks(transaction)
    return _GO_ON


async def _ask_chain(talk: Conversation, transaction: Transaction) -> Reply:
    chain = talk.door.chain
    decision = await chain.data(transaction)
    if decision is None:
        talk.begun = chain.begin_checks(transaction)
        return _GO_ON
    answer = talk.refused_by(decision)
    end(talk, answer, decision=decision)
    return answer


def finish_content(talk: Conversation, intake: Intake, vanished: Callable[[], bool]) -> Coroutine[Any, Any, Reply]:
    """The reply to the final dot, or one for each recipient, after everything it promises is done, and in time
    (RFC 5321 4.5.3.2.6). `conclude` is owed when it is written.
    """
    ability = talk.ability()
    if ability is SMTP or ability is SUBMISSION:
        return _finish(talk, intake, vanished, ability)
    return _finish_each(talk, intake, vanished, ability)


async def _finish_each(talk: Conversation, intake: Intake, vanished: Callable[[], bool], ability: Ability) -> Reply:
    count = named(talk)
    return to_all(await _finish(talk, intake, vanished, ability), ability, count)


async def _finish(  # noqa: PLR0912 - one frame for all of it
    talk: Conversation, intake: Intake, vanished: Callable[[], bool], ability: Ability
) -> Reply:
    """From the dot to the reply. One frame for all of it, as each is resumed whenever something was waited for."""
    transaction = talk.transaction
    if transaction is None:
        intake.discard()
        return talk.ours(451, "4.3.0", "The transaction has ended")
    content = _taken_in(talk, transaction, intake)
    if isinstance(content, Reply):
        return content
    try:
        if intake.has_nul and not content.is_binary and has_hidden_end(content.octets):
            answer = talk.ours(550, "5.6.0", "A line of NUL and one dot: an end of data in disguise")
            end(talk, answer, ending=Ending(reply=answer, size=intake.size))
            return answer
        message = Message(content)
        refusal = bounds(talk, message)
        if refusal is not None:
            end(talk, refusal, ending=Ending(reply=refusal, message=message, size=message.size))
            return refusal
        site, chain = talk.door.site, talk.door.chain
        if "check" in chain.stages or "judge" in chain.stages:
            await in_task()
            begun, talk.begun = talk.begun, None
            await chain.decide(transaction, message, begun)
        if vanished():  # nobody waits for a reply: the client will come again
            end(talk, None, ending=Ending(message=message, size=message.size))
            return talk.ours(451, "4.4.2", "The client left")
        if site.storage_problem:
            durable_only(talk, transaction)
        history = NOTHING
        if not site.delivery.is_new(transaction, talk.opened):
            await in_task()
            history = await site.delivery.history(transaction, message, since=talk.opened)
        planned = plan(wishes(transaction), ability, history, transaction.id)
        try:
            parcel = make_parcel(talk, transaction, message, planned)
            if not isinstance(parcel, Parcel):
                await in_task()
                parcel = await parcel
        except (StageDeferredError, LinkError) as error:
            settlement = _undone(talk, transaction, planned, error)
        else:
            settlement = await site.delivery.carry_out(planned, parcel)
        return _settled(talk, transaction, message, planned, settlement)
    finally:
        if talk.ending is None:
            content.close()


def _taken_in(talk: Conversation, transaction: Transaction, intake: Intake) -> Content | Reply:
    """The content; or the reply by which the transaction has ended, as it cannot be had or is refused already."""
    due = talk.reply_due = talk.loop.time() + talk.door.site.limits.final_reply
    if transaction.deadline is not None and transaction.deadline > due:
        transaction.deadline = due
    if intake.fault is not None:
        answer = talk.with_id(intake.fault)
        end(talk, answer, ending=Ending(reply=answer, size=intake.size))
        return answer
    metrics.count_content(intake.size)
    try:
        return intake.content()
    except OSError as error:
        intake.discard()
        note(transaction, f"spool: {error}")
        answer = talk.ours(451, "4.3.0", "Spool failed; try again later")
        end(talk, answer, ending=Ending(reply=answer, size=intake.size))
        return answer


def _settled(talk: Conversation, transaction: Transaction, message: Message, planned: Plan, settlement: Settlement) -> Reply:
    """The reply, and how the transaction ends behind it: as the delivery did."""
    answer = settlement.reply
    if not settlement.is_ours and not answer.is_usual:
        answer = talk.theirs(answer)
    if settlement.replies:
        answer = answers(answer, tuple(talk.theirs(one) for one in settlement.replies), planned.ability)
    for problem in settlement.problems:
        note(transaction, problem)
    theirs = settlement.next_hop_replies
    if len(theirs) > 1:
        note_answers(transaction, planned, settlement)
    fates = settlement.fates
    talk.ending = Ending(
        answer,
        None,
        {0: _WORDS[fates[0]]} if len(fates) == 1 else {index: _WORDS[fate] for index, fate in enumerate(fates)},
        settlement.next_hop,
        theirs[0] if theirs else None,
        message,
        message.content.size,
    )
    return answer


def _undone(talk: Conversation, transaction: Transaction, planned: Plan, error: StageDeferredError | LinkError) -> Settlement:
    """There is nothing that could be carried out: a plugin failed that must not, or there is no way."""
    problem = str(error)
    note(transaction, problem)
    if isinstance(error, StageDeferredError):
        for recipient in transaction.recipients:  # whatever was decided before, this is why it is not so
            recipient.decision = error.decision
        answer = talk.refused_by(error.decision)
    else:
        answer = talk.ours(451, error.enhanced, "The next hop cannot be reached now; try again later")
    return talk.door.site.delivery.failed(planned, answer, problem)


def bounds(talk: Conversation, message: Message) -> Reply | None:
    """What a message may not be, whatever the plugins think: header too large, or in a loop."""
    site = talk.door.site
    limits, header = site.limits, message.header
    if header.body_offset > limits.header_size or header.is_cut:
        return talk.ours(552, "5.3.4", f"Header section is larger than {limits.header_size} octets or has too many fields")
    count, own = hops(header.lowered, site.server_name)
    if count >= limits.max_received or own > MAX_OWN:
        return talk.ours(554, "5.4.6", "Too many hops: this message is in a loop")  # RFC 5321 6.3
    return None


def wishes(transaction: Transaction) -> list[Wish]:
    """What the chain wants for each recipient, for the planner."""
    found: list[Wish] = []
    for one in transaction.recipients:  # no comprehension, which is a call, and no `enumerate`: most messages have one
        found.append(Wish(len(found), one.forward_path.mailbox, one.decision, one.policy_class, one.route, one.added))
    return found


def note(transaction: Transaction, problem: str) -> None:
    """A fault of ours, into the record."""
    if transaction.trace is not None:
        transaction.trace.step(stage="delivery", plugin="", outcome="error", evidence=problem)


def durable_only(talk: Conversation, transaction: Transaction) -> None:
    """Where the state directory would not survive, nothing is held or discarded: 451 (design §1.1)."""
    problem = talk.door.site.storage_problem
    if not problem:
        return
    for recipient in transaction.recipients:
        if recipient.decision is not None and isinstance(recipient.decision.verdict, Quarantine | Discard):
            verdict = defer("Nothing can be held here now", enhanced="4.3.5", reason="state-not-durable", evidence=problem)
            recipient.decision = Decision(verdict=verdict, plugin=recipient.decision.plugin, hook=recipient.decision.hook)
