"""What a delivery is handed: the final octets and the way to the next hop, made of a transaction and its plan."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from gateway.content import Content, Form
from gateway.delivery import Parcel
from gateway.delivery.parcel import facts_of
from gateway.message import Message
from gateway.smtp.conversation import onward
from gateway.smtp.received import received
from gateway.smtp.record import Ending, build
from gateway.splice import Spliced, apply, below, rendered
from gateway.spliced_content import SplicedContent

if TYPE_CHECKING:
    from gateway.edits import Edit
    from gateway.outcome import Plan
    from gateway.relay.handover import Handover
    from gateway.smtp.conversation import Conversation
    from gateway.trace import Record
    from gateway.transaction import Transaction

Envelope = tuple[bytes, Sequence[bytes]]
_LINES: Final = Form.LINES


def make_parcel(
    talk: Conversation, transaction: Transaction, message: Message, plan: Plan
) -> Parcel | Coroutine[Any, Any, Parcel]:
    """Edits, trace field and signatures carried out; to be awaited where a plugin is asked for them.

    StageDeferredError when a plugin failed that must not. LinkError when there is no such route.
    """
    if not plan.forward and not plan.holds:
        return _parcel(talk, transaction, message, plan, Spliced(message.content, ()))
    stages = talk.door.chain.stages
    if "rewrite" in stages or "sign" in stages:
        return _rewritten(talk, transaction, message, plan)
    if plan.holds or not _is_lines(message.content):
        return _parcel(talk, transaction, message, plan, _with_trace_field(talk, transaction, message))
    return _parcel(talk, transaction, message, plan, _TraceLater(talk, transaction, message))


def _is_lines(content: Content) -> bool:
    """Lines that all end in CRLF, and some octets."""
    size = content.size
    return size > 1 and not content.is_binary and content.octets[size - 2 :] == b"\r\n"


class _TraceLater:
    """Lines that go on as they came below our trace field, which is written when they are asked for: the next hop has DATA by then."""

    __slots__ = ("_message", "_talk", "_transaction", "form", "size")

    def __init__(self, talk: Conversation, transaction: Transaction, message: Message) -> None:
        self._talk = talk
        self._transaction = transaction
        self._message = message
        self.size = message.content.size
        self.form = _LINES

    def chunks(self) -> Iterator[bytes]:
        """All octets. A generator: nothing is done before the first of them is asked for."""
        message = self._message
        yield from below(_trace_field(self._talk, self._transaction), message.content, message.header)


def _with_trace_field(talk: Conversation, transaction: Transaction, message: Message) -> Spliced:
    return apply(message.content, (), on_top=_trace_field(talk, transaction), section=message.header)


def _parcel(
    talk: Conversation,
    transaction: Transaction,
    message: Message,
    plan: Plan,
    spliced: Spliced | _TraceLater,
    *,
    edits: tuple[Edit, ...] = (),
) -> Parcel:
    site = talk.door.site
    route = plan.route
    if plan.forward and site.by_domain:  # a redirect names the route only
        route = site.way(route, [transaction.recipients[index] for index in plan.forward])
    mail, recipients = _envelope(talk, transaction, plan, route)
    return Parcel(
        transaction,
        message.content,
        spliced.chunks,
        spliced.size,
        _discards(talk, transaction, message) if plan.discards else _nobody,
        spliced.form,
        _way(talk, route) if plan.forward else None,
        mail,
        recipients,
        edits,
        facts_of(transaction, message) if plan.holds or plan.keeps else {},
    )


def _discards(talk: Conversation, transaction: Transaction, message: Message) -> Callable[[Sequence[int]], Record]:
    """What makes the record that is committed before a message is thrown away for some."""
    site = talk.door.site

    def discard_record(indexes: Sequence[int]) -> Record:
        ending = Ending(fates=dict.fromkeys(indexes, "discarded"), message=message, size=message.size)
        return build(transaction, ending, talk.refused, generation=site.generation, now=site.clock())

    return discard_record


def _nobody(indexes: Sequence[int]) -> Record:
    raise ValueError(f"nothing is discarded, so not for {indexes}")


def _way(talk: Conversation, route: str) -> Handover:
    """The live handover, or after a redirect a new one. LinkError when there is no such route."""
    handover = talk.handover
    if handover is None or talk.route != route:
        if handover is not None:
            talk.left = (*talk.left, handover)
        talk.handover = handover = talk.new_handover(route)
        talk.route = route
    handover.due = talk.reply_due
    return handover


def _envelope(talk: Conversation, transaction: Transaction, plan: Plan, route: str) -> tuple[Envelope, list[Envelope]]:
    """Paths and parameters as they go on: the same octets that went out live, unless the plan changed the route."""
    if not plan.forward:
        return (transaction.sent_reverse_path, ()), []
    parameters = transaction.parameters
    mail = (transaction.sent_reverse_path, onward(talk, parameters, route, rcpt=False) if parameters else ())
    recipients: list[Envelope] = []
    named = transaction.recipients
    for index in plan.forward:
        one = named[index]
        recipients.append((one.sent_path, onward(talk, one.parameters, route, rcpt=True) if one.parameters else ()))
    return mail, recipients


def _trace_field(talk: Conversation, transaction: Transaction) -> bytes:
    site = talk.door.site
    return received(transaction, site.server_name, site.clock())


async def _rewritten(talk: Conversation, transaction: Transaction, message: Message, plan: Plan) -> Parcel:
    """With the edits that plugins asked for, and the octets as they go on."""
    chain = talk.door.chain
    edits = await chain.rewrite(transaction, message) if "rewrite" in chain.stages else ()
    trace = _trace_field(talk, transaction)
    spliced = apply(message.content, edits, on_top=trace, utf8=talk.utf8, section=message.header)
    if "sign" not in chain.stages:
        return _parcel(talk, transaction, message, plan, spliced, edits=edits)
    final = SplicedContent(spliced, is_binary=message.content.is_binary)
    fields = await chain.sign(transaction, Message(final))
    if fields:  # onto what came, so that the whole that was put together to be signed is not kept until it is sent
        on_top = rendered(fields, utf8=talk.utf8) + trace
        spliced = apply(message.content, edits, on_top=on_top, utf8=talk.utf8, section=message.header)
    return _parcel(talk, transaction, message, plan, spliced, edits=(*edits, *fields))
