"""What a delivery is handed: the final octets and the way to the next hop, made of a transaction and its plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.delivery import Parcel
from gateway.delivery.parcel import facts_of
from gateway.message import Message
from gateway.smtp.conversation import onward
from gateway.smtp.received import received
from gateway.smtp.record import Ending, build
from gateway.splice import Spliced, apply, rendered
from gateway.spliced_content import SplicedContent

if TYPE_CHECKING:
    from gateway.edits import Edit
    from gateway.outcome import Plan
    from gateway.relay.handover import Handover
    from gateway.smtp.conversation import Conversation
    from gateway.trace import Record
    from gateway.transaction import Transaction

Envelope = tuple[bytes, Sequence[bytes]]


async def make_parcel(talk: Conversation, transaction: Transaction, message: Message, plan: Plan) -> Parcel:
    """Edits, trace field and signatures carried out. StageDeferredError when a plugin failed that must not."""
    site = talk.door.site
    edits: tuple[Edit, ...] = ()
    stages = talk.door.chain.stages
    if not plan.forward and not plan.holds:
        spliced = Spliced(message.content, ())
    elif "rewrite" in stages or "sign" in stages:
        edits, spliced = await _final(talk, transaction, message)
    else:
        trace = received(transaction, server_name=site.config.server.name, now=site.clock())
        spliced = apply(message.content, (), on_top=trace, section=message.header)

    def discard_record(indexes: Sequence[int]) -> Record:
        ending = Ending(fates=dict.fromkeys(indexes, "discarded"), message=message, size=message.size)
        return build(transaction, ending, talk.refused, generation=site.generation, now=site.clock())

    route = plan.route
    if plan.forward and site.by_domain:  # a redirect names the route only
        route = site.way(route, [transaction.recipients[index] for index in plan.forward])
    mail, recipients = _envelope(talk, transaction, plan, route)
    return Parcel(
        transaction=transaction,
        content=message.content,
        chunks=spliced.chunks,
        size=spliced.size,
        form=spliced.form,
        handover=_way(talk, route) if plan.forward else None,
        mail=mail,
        recipients=recipients,
        discard_record=discard_record,
        edits=edits,
        facts=facts_of(transaction, message) if plan.holds or plan.keeps else {},
    )


def _way(talk: Conversation, route: str) -> Handover:
    """The live handover, or after a redirect a new one. LinkError when there is no such route."""
    if talk.handover is None or talk.route != route:
        if talk.handover is not None:
            talk.left.append(talk.handover)
        talk.handover = talk.new_handover(route)
        talk.route = route
    talk.handover.due = talk.reply_due
    return talk.handover


def _envelope(talk: Conversation, transaction: Transaction, plan: Plan, route: str) -> tuple[Envelope, list[Envelope]]:
    """Paths and parameters as they go on: the same octets that went out live, unless the plan changed the route."""
    if not plan.forward:
        return (transaction.sent_reverse_path, []), []
    mail = (transaction.sent_reverse_path, onward(talk, transaction.parameters, route, rcpt=False))
    named = [transaction.recipients[index] for index in plan.forward]
    return mail, [(one.sent_path, onward(talk, one.parameters, route, rcpt=True)) for one in named]


async def _final(talk: Conversation, transaction: Transaction, message: Message) -> tuple[tuple[Edit, ...], Spliced]:
    """The edits that plugins asked for, and the octets as they go on."""
    site = talk.door.site
    stages = talk.door.chain.stages
    edits = await talk.door.chain.rewrite(transaction, message) if "rewrite" in stages else ()
    trace = received(transaction, server_name=site.config.server.name, now=site.clock())
    spliced = apply(message.content, edits, on_top=trace, utf8=talk.utf8, section=message.header)
    if "sign" not in stages:
        return edits, spliced
    final = SplicedContent(spliced, is_binary=message.content.is_binary)
    fields = await talk.door.chain.sign(transaction, Message(final))
    if fields:  # onto what came, so that the whole that was put together to be signed is not kept until it is sent
        on_top = rendered(fields, utf8=talk.utf8) + trace
        spliced = apply(message.content, edits, on_top=on_top, utf8=talk.utf8, section=message.header)
    return (*edits, *fields), spliced
