"""A message through a chain without a network: the stages in their order, for `mailgateway check` and `gateway.testing`.

Next hop and delivery are left out: what a recipient's own server would say is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.chain import StageDeferredError
from gateway.message import Message
from gateway.smtp.paths import Path
from gateway.splice import apply
from gateway.spliced_content import SplicedContent
from gateway.transaction import Outcome, Recipient
from gateway.verdict import Accept, Decision, Defer, Discard, Quarantine, Redirect, Reject

if TYPE_CHECKING:
    from gateway.chain import Chain
    from gateway.edits import AddHeader, Edit
    from gateway.session import Session
    from gateway.transaction import Transaction

FATES: dict[type, str] = {
    Accept: "delivered",
    Redirect: "delivered",
    Reject: "rejected",
    Defer: "deferred",
    Quarantine: "held",
    Discard: "discarded",
}
"""What a verdict comes to, where the next hop agrees."""


@dataclass(slots=True)
class Walk:
    """What came of it."""

    session: Session
    transaction: Transaction
    message: Message
    refusal: Decision | None = None
    """A refusal of connection, HELO, MAIL or DATA: nothing after it was asked."""
    refused: list[Recipient] = field(default_factory=list)
    """Recipients refused at RCPT, each with its decision; they are not among the transaction's."""
    edits: tuple[Edit, ...] = ()
    signatures: tuple[AddHeader, ...] = ()

    @property
    def goes_on(self) -> bool:
        """True when something is to be forwarded or held."""
        fates = {fate_of(recipient) for recipient in self.transaction.recipients}
        return self.refusal is None and bool(fates & {"delivered", "held"})


def fate_of(recipient: Recipient) -> str:
    """The fate a recipient's decision leads to."""
    return "delivered" if recipient.decision is None else FATES[type(recipient.decision.verdict)]


def path_of(mailbox: str) -> Path:
    """A path from `local-part@domain`; `` is the null reverse-path (RFC 5321 4.5.5)."""
    local_part, _, domain = mailbox.rpartition("@") if "@" in mailbox else (mailbox, "", "")
    return Path(f"<{mailbox}>".encode(), local_part, domain)


async def walk(chain: Chain, transaction: Transaction, message: Message) -> Walk:
    """All stages, as far as the message gets. `transaction.recipients` are taken as those the client names."""
    result = Walk(transaction.session, transaction, message)
    result.refusal = await _session(chain, transaction.session)
    if result.refusal is None:
        await _envelope(chain, result)
    if result.refusal is None and transaction.recipients:
        await _content(chain, result)
    fates = [(recipient.mailbox, fate_of(recipient)) for recipient in [*transaction.recipients, *result.refused]]
    await chain.done(transaction, Outcome(fates=tuple(fates)))
    await chain.disconnect(transaction.session)
    return result


async def _session(chain: Chain, session: Session) -> Decision | None:
    refusal = await chain.connect(session)
    if refusal is None and session.helo:
        refusal = await chain.helo(session)
    if refusal is None and session.identity:
        refusal = await chain.authenticated(session)
    return refusal


async def _envelope(chain: Chain, result: Walk) -> None:
    transaction = result.transaction
    answer = await chain.mail(transaction)
    if answer.reverse_path is not None:
        transaction.sent_reverse_path = f"<{answer.reverse_path.path}>".encode()
    decision = answer.decision
    if decision is not None and not isinstance(decision.verdict, Discard):
        result.refusal = decision
        return
    named, transaction.recipients = transaction.recipients, []
    for recipient in named:
        recipient.decision = decision
        await _recipient(chain, result, recipient)
    if transaction.recipients:
        result.refusal = await chain.data(transaction)


async def _recipient(chain: Chain, result: Walk, recipient: Recipient) -> None:
    """In the order of design: `rcpt`, `route`, `policy_class`."""
    transaction = result.transaction
    answer = await chain.rcpt(transaction, recipient)
    recipient.decision = recipient.decision or answer.decision
    if answer.forward_path is not None:
        recipient.sent_path = f"<{answer.forward_path.path}>".encode()
    if recipient.decision is not None and isinstance(recipient.decision.verdict, Reject | Defer):
        result.refused.append(recipient)
        return
    try:
        chosen = await chain.route(transaction, recipient)
        recipient.policy_class = await chain.policy_class(transaction, recipient)
    except StageDeferredError as error:
        recipient.decision = error.decision
        result.refused.append(recipient)
        return
    if recipient.decision is not None and isinstance(recipient.decision.verdict, Redirect):
        chosen = recipient.decision.verdict.next_hop
    recipient.route = chosen or recipient.route
    transaction.recipients.append(recipient)
    for added in answer.added:
        path = path_of(added.path)
        transaction.recipients.append(Recipient(forward_path=path, sent_path=path.octets, route=recipient.route, added=True))


async def _content(chain: Chain, result: Walk) -> None:
    transaction, message = result.transaction, result.message
    await chain.decide(transaction, message)
    if not result.goes_on:
        return
    try:
        result.edits = await chain.rewrite(transaction, message)
        if "sign" in chain.stages:
            final = SplicedContent(apply(message.content, result.edits), is_binary=message.content.is_binary)
            result.signatures = await chain.sign(transaction, Message(final))
    except StageDeferredError as error:
        for recipient in transaction.recipients:
            recipient.decision = error.decision
