"""The end of a message: decided, planned and carried out as behind SMTP, and said to the MTA. It owns the message until we answer.

What we hold is held, durably, before the answer; so an MTA that then loses the message leaves a copy too many, never one too few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway import metrics
from gateway.chain import StageDeferredError
from gateway.content import Form
from gateway.delivery import Envelope, Parcel
from gateway.delivery.parcel import facts_of
from gateway.message import Message
from gateway.milter import codec
from gateway.milter.saying import CannotBeSaidError, edits, envelope, reply
from gateway.outcome import Plan, Settlement, plan
from gateway.outcome.wording import taken
from gateway.smtp.intake import has_hidden_end
from gateway.smtp.record import Ending, build
from gateway.smtp.replies import Reply
from gateway.smtp.transactions import end
from gateway.smtp.verbs.data import bounds, durable_only, note, wishes
from gateway.splice import Spliced, apply
from gateway.spliced_content import SplicedContent
from gateway.verdict import Quarantine

if TYPE_CHECKING:
    from gateway.edits import Edit
    from gateway.milter.content import MilterIntake
    from gateway.milter.talking import MtaTalk
    from gateway.trace import Record
    from gateway.transaction import Recipient, Transaction

Packets = list[codec.Answer]


class _BackToMta:
    """What stands in the place of a next hop: the MTA, which gets the message by our answer and not before."""

    added_crlf = False

    def __init__(self, name: str) -> None:
        self.next_hop = name

    def stands(self, mail: Envelope, recipients: Sequence[Envelope]) -> bool:
        """It has the envelope."""
        del mail, recipients
        return True

    async def prepare(self, mail: Envelope, recipients: Sequence[Envelope]) -> None:
        """As there is nothing else that it could be given."""

    async def send(self, chunks: Iterable[bytes], *, size: int, form: Form = Form.LINES) -> list[Reply]:
        """It has the content."""
        del chunks, size, form
        return [taken("")]


async def finish(mta: MtaTalk, *, vanished: Callable[[], bool]) -> Packets:
    """The answer to the end of the message: edits, then the verdict. Everything that it promises is done before it is given."""
    talk, intake = mta.talk, mta.intake
    mta.intake = None
    transaction = talk.transaction
    if transaction is None or intake is None:
        if intake is not None:
            intake.discard()
        return [codec.Tempfail()]
    due = talk.reply_due = talk.loop.time() + talk.door.site.limits.final_reply
    if transaction.deadline is None or transaction.deadline > due:
        transaction.deadline = due
    intake.finish()
    if intake.fault is not None:
        return _refuse(mta, talk.with_id(intake.fault), size=intake.size)
    metrics.count_content(intake.size)
    try:
        content = intake.content()
    except OSError as error:
        intake.discard()
        note(transaction, f"spool: {error}")
        return _refuse(mta, talk.ours(451, "4.3.0", "Spool failed; try again later"), size=intake.size)
    try:
        if intake.has_nul and has_hidden_end(content.octets):
            told = talk.ours(550, "5.6.0", "A line of NUL and one dot: an end of data in disguise")
            return _refuse(mta, told, size=intake.size)
        return await _decide(mta, transaction, Message(content), intake, vanished)
    finally:
        content.close()


def _refuse(mta: MtaTalk, told: Reply, *, message: Message | None = None, size: int = 0) -> Packets:
    _end(mta, Ending(reply=told, message=message, size=size))
    return [reply(told)]


async def _decide(
    mta: MtaTalk, transaction: Transaction, message: Message, intake: MilterIntake, vanished: Callable[[], bool]
) -> Packets:
    talk = mta.talk
    refusal = bounds(talk, message)
    if refusal is not None:
        return _refuse(mta, refusal, message=message, size=message.size)
    if not transaction.recipients:
        return _refuse(mta, talk.ours(554, "5.5.1", "No valid recipients"), message=message, size=message.size)
    begun, talk.begun = talk.begun, None
    await talk.door.chain.decide(transaction, message, begun)
    if vanished():  # nobody waits for an answer: the client will come again
        _end(mta, Ending(message=message, size=message.size))
        return [codec.Tempfail()]
    by_mta = _held_by_mta(mta, transaction)
    if by_mta is None:
        durable_only(talk, transaction)
    wanted = [replace(wish, decision=None) if by_mta else wish for wish in wishes(transaction)]
    history = await mta.delivery.history(transaction, message, since=talk.opened)
    planned = plan(wanted, talk.ability(), history, transaction_id=transaction.id)
    settlement, said = await _carry_out(mta, transaction, message, planned, intake)
    for problem in settlement.problems:
        note(transaction, problem)
    _end(mta, _ending(settlement, message, planned, is_by_mta=by_mta is not None))
    if not settlement.reply.is_positive:
        return [reply(settlement.reply)]
    if not planned.forward:
        return [codec.Discard()]
    held: Packets = [codec.Quarantine(by_mta.reason.encode("ascii", "replace"))] if by_mta is not None else []
    # At the end of a message Accept and Continue are the same to an MTA, and other milters are asked all the same.
    return [*said, *held, codec.Accept()]


def _held_by_mta(mta: MtaTalk, transaction: Transaction) -> Quarantine | None:
    """The verdict to hold, where the listener leaves that to the MTA: only if it is the same for all, since a hold queue holds all."""
    if not mta.talk.door.config.mta_quarantine or not mta.agreed.actions & codec.Actions.QUARANTINE:
        return None
    verdicts = [one.decision.verdict if one.decision is not None else None for one in transaction.recipients]
    first = verdicts[0]
    return first if isinstance(first, Quarantine) and all(isinstance(one, Quarantine) for one in verdicts) else None


async def _carry_out(
    mta: MtaTalk, transaction: Transaction, message: Message, planned: Plan, intake: MilterIntake
) -> tuple[Settlement, Packets]:
    """What the plan says, and the edits for the MTA. What cannot be said to it is found out before anything is held."""
    talk = mta.talk
    said: Packets = []
    try:
        if planned.forward and planned.route:
            raise CannotBeSaidError("redirect: an MTA cannot be told another next hop")  # noqa: TRY301 - one place answers all
        final = await _final(mta, transaction, message, planned)
        if planned.forward:
            forward = [transaction.recipients[index] for index in planned.forward]
            said += edits(final[1], intake.places, intake.body_offset, mta.agreed)
            said += envelope(transaction, mta.said, forward, mta.agreed)
    except StageDeferredError as error:
        for recipient in transaction.recipients:  # whatever was decided before, this is why it is not so
            recipient.decision = error.decision
        return mta.delivery.failed(planned, talk.refused_by(error.decision), str(error)), []
    except (CannotBeSaidError, codec.BadValue) as error:
        told = talk.ours(451, "4.3.5", "The message cannot be handled here now; try again later")
        return mta.delivery.failed(planned, told, f"milter: {error}"), []
    return await mta.delivery.carry_out(planned, _parcel(mta, transaction, message, planned, final)), said


async def _final(mta: MtaTalk, transaction: Transaction, message: Message, planned: Plan) -> tuple[tuple[Edit, ...], Spliced]:
    """The edits that plugins asked for, and the content with them. The trace field on top is the MTA's own."""
    if not planned.forward and not planned.holds:
        return (), Spliced(message.content, ())
    chain = mta.talk.door.chain
    edited = await chain.rewrite(transaction, message) if "rewrite" in chain.stages else ()
    spliced = apply(message.content, edited, utf8=mta.talk.utf8, section=message.header)
    if "sign" not in chain.stages:
        return edited, spliced
    fields = await chain.sign(transaction, Message(SplicedContent(spliced, is_binary=False)))
    if not fields:
        return edited, spliced
    edited = (*edited, *fields)
    return edited, apply(message.content, edited, utf8=mta.talk.utf8, section=message.header)


def _parcel(
    mta: MtaTalk, transaction: Transaction, message: Message, planned: Plan, final: tuple[tuple[Edit, ...], Spliced]
) -> Parcel:
    talk = mta.talk
    edited, spliced = final
    site = talk.door.site
    if planned.holds or planned.keeps:
        for recipient in transaction.recipients:  # where a copy goes when it is released
            recipient.route = _route_of(mta, recipient)

    def discard_record(indexes: Sequence[int]) -> Record:
        ending = Ending(fates=dict.fromkeys(indexes, "discarded"), message=message, size=message.size)
        return build(transaction, ending, talk.refused, generation=site.generation, now=site.clock())

    return Parcel(
        transaction=transaction,
        content=message.content,
        chunks=spliced.chunks,
        size=spliced.size,
        form=Form.LINES,
        handover=_BackToMta(mta.macros.mta),
        recipients=[(transaction.recipients[index].sent_path, ()) for index in planned.forward],
        discard_record=discard_record,
        edits=edited,
        facts=facts_of(transaction, message) if planned.holds or planned.keeps else {},
    )


def _route_of(mta: MtaTalk, recipient: Recipient) -> str:
    site, listener = mta.talk.door.site, mta.talk.door.config
    found = site.routes.route_for(recipient.domain) if recipient.domain else None
    if found is not None:
        return found.name
    routes = site.config.route
    return listener.default_route or (routes[0].name if routes else "")


def _ending(settlement: Settlement, message: Message, planned: Plan, *, is_by_mta: bool) -> Ending:
    told = settlement.reply
    if not told.is_positive:  # refused as a whole: nobody has anything of it
        fates = dict.fromkeys(range(len(planned.wishes)), "rejected" if told.first == 5 else "deferred")
    elif is_by_mta:
        fates = dict.fromkeys(range(len(planned.wishes)), "held")
    else:
        fates = {index: fate.value for index, fate in enumerate(settlement.fates)}
    next_hop = settlement.next_hop if told.is_positive and planned.forward else ""
    return Ending(reply=told, fates=fates, next_hop=next_hop, message=message, size=message.size)


def _end(mta: MtaTalk, ending: Ending) -> None:
    """The record, with the MTA's own identifier of the message."""
    talk, site = mta.talk, mta.talk.door.site
    transaction = talk.transaction
    if transaction is None:
        return
    record = build(transaction, ending, talk.refused, generation=site.generation, now=site.clock())
    record["queue_id"] = mta.macros["i"][:64]
    end(talk, ending.reply, ending=ending, record=record)
