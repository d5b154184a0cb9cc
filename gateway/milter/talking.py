"""A client's session as an MTA tells of it, up to DATA: what the chain says of each step, as the answer for the MTA. RFC 5321 3.3.

`smtp.verbs` without SMTP: the MTA has read the command, and has refused what it refuses itself; nobody is asked behind us.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.chain import StageDeferredError
from gateway.milter import codec
from gateway.milter.facts import Macros, fill_in, helo_name, parameters_of, path_of, tls_of
from gateway.milter.saying import reply
from gateway.session import Session
from gateway.smtp.conversation import Conversation, Refused
from gateway.smtp.identifiers import session_id
from gateway.smtp.replies import Reply
from gateway.smtp.transactions import abandon, end, refuse_session
from gateway.transaction import Recipient, Transaction
from gateway.verdict import Decision, Defer, Discard, Redirect, Reject, defer

if TYPE_CHECKING:
    from gateway.delivery import Delivery
    from gateway.milter.content import MilterIntake
    from gateway.smtp.site import Door
    from gateway.verdict import AddRecipient

NO_WAY = "an MTA cannot be told another next hop"
"""Why a redirect is deferred."""


@dataclass(slots=True, kw_only=True)
class MtaTalk:
    """One client of an MTA."""

    talk: Conversation
    agreed: codec.Agreement
    delivery: Delivery
    macros: Macros
    intake: MilterIntake | None = None
    said: list[tuple[Recipient, bytes]] = field(default_factory=list)
    """The transaction's recipients as the MTA named them: by these octets it knows them."""
    identity: str | None = None
    """Whom the plugins were told of by `authenticated`."""


def begin(door: Door, agreed: codec.Agreement, delivery: Delivery, macros: Macros, connect: codec.Connect) -> MtaTalk:
    """A client came to the MTA."""
    session = Session(id=session_id(), listener=door.config.name, esmtp=True, started=door.site.clock())
    fill_in(session, connect, macros)
    session.client_class = door.client_class(session)
    talk = Conversation(door=door, session=session, lenient=door.is_lenient(session))
    return MtaTalk(talk=talk, agreed=agreed, delivery=delivery, macros=macros)


async def connected(mta: MtaTalk) -> codec.Verdict | None:
    """What the plugins say of the client; an answer refuses the whole session."""
    talk = mta.talk
    if "connect" not in talk.door.chain.stages:
        return None
    decision = await talk.door.chain.connect(talk.session)
    if decision is None:
        return None
    refused = talk.refused_by(decision)
    refuse_session(talk, decision, refused)
    return reply(Reply(554 if refused.first == 5 else 421, refused.lines))  # RFC 5321 3.1, as in a greeting


async def greeted(mta: MtaTalk, helo: codec.Helo) -> codec.Verdict | None:
    """EHLO or HELO, and TLS before it."""
    talk = mta.talk
    abandon(talk, why="hello")
    talk.session.helo = helo_name(helo.name)
    talk.session.esmtp = mta.macros["r"].upper() != "SMTP"
    talk.session.tls = tls_of(mta.macros)
    if "helo" not in talk.door.chain.stages:
        return None
    decision = await talk.door.chain.helo(talk.session)
    if decision is None:
        return None
    refused = talk.refused_by(decision)
    refuse_session(talk, decision, refused)
    return reply(refused)


async def mail(mta: MtaTalk, command: codec.Mail) -> codec.Verdict | None:
    """A transaction begins; before it, AUTH, which has no command of its own here."""
    talk = mta.talk
    abandon(talk, why="another MAIL")
    mta.said = []
    if (tls := tls_of(mta.macros)) is not None:
        talk.session.tls = tls
    refused = await _authenticated(mta)
    if refused is not None:
        return refused
    transaction = talk.begin(path_of(command.path, is_reverse=True), parameters_of(command.parameters))
    size = transaction.parameter("SIZE")
    if size is not None and (size.value or "").isdecimal():
        transaction.declared_size = int((size.value or "0")[:20])
    _note_mta(mta, transaction)
    if "mail" not in talk.door.chain.stages:
        return None
    answer = await talk.door.chain.mail(transaction)
    if answer.decision is not None and not isinstance(answer.decision.verdict, Discard):
        told = talk.refused_by(answer.decision)
        end(talk, told, decision=answer.decision)
        return reply(told)
    talk.mail_decision = answer.decision
    if answer.reverse_path is not None:
        transaction.sent_reverse_path = f"<{answer.reverse_path.path}>".encode()
    return None


async def _authenticated(mta: MtaTalk) -> codec.Verdict | None:
    """Who the client is, as the MTA says at MAIL; the plugins hear of each identity once."""
    talk = mta.talk
    identity = mta.macros.of(codec.Mail.letter, "auth_authen")
    talk.authenticated_as(identity)
    if identity == mta.identity or not identity or "authenticated" not in talk.door.chain.stages:
        mta.identity = identity
        return None
    decision = await talk.door.chain.authenticated(talk.session)
    if decision is None:
        mta.identity = identity
        return None
    refused = talk.refused_by(decision)
    refuse_session(talk, decision, refused)
    return reply(refused)


def _note_mta(mta: MtaTalk, transaction: Transaction) -> None:
    """Into the record: whose word all this is."""
    macros = mta.macros
    told = [f"by {macros.mta}"]
    for name, shown in (
        ("v", "which is"),
        ("i", "queue id"),
        ("auth_type", "AUTH"),
        ("verify", "certificate"),
        ("mail_mailer", "mailer"),
    ):
        if value := macros[name]:
            told.append(f"{shown} {value[:200]}")
    if transaction.trace is not None:
        transaction.trace.step(stage="session", plugin="", outcome="milter", evidence=", ".join(told))


async def rcpt(mta: MtaTalk, command: codec.Rcpt) -> codec.Verdict | None:
    """A recipient: an answer refuses this one."""
    talk = mta.talk
    transaction = talk.transaction
    if transaction is None:
        return codec.Tempfail()
    if len(transaction.recipients) >= talk.door.site.limits.recipients:
        return reply(talk.ours(452, "4.5.3", "Too many recipients"))
    path = path_of(command.path, is_reverse=False)
    recipient = Recipient(forward_path=path, parameters=parameters_of(command.parameters), sent_path=path.octets)
    recipient.decision = talk.mail_decision
    try:
        added = await _ask_chain(talk, transaction, recipient)
    except StageDeferredError as error:
        added = error.decision
    if isinstance(added, Decision):
        told = talk.refuse(Refused(path=path, reply=talk.refused_by(added), decision=added))
        return reply(told)
    recipient.policy_class = ("", *recipient.policy_class)
    separate = await mta.delivery.admit(transaction, recipient, trusted=talk.trusted)
    if separate is not None:
        return reply(talk.refuse(Refused(path=path, reply=talk.with_id(separate), reason="separate")))
    recipient.reply = talk.ours(250, "2.1.5", "Ok")
    transaction.recipients.append(recipient)
    mta.said.append((recipient, command.path))
    for one in added:
        octets = f"<{one.path}>".encode()
        transaction.recipients.append(
            Recipient(
                forward_path=path_of(octets, is_reverse=False),
                sent_path=octets,
                policy_class=recipient.policy_class,
                added=True,
            )
        )
    return None


async def _ask_chain(talk: Conversation, transaction: Transaction, recipient: Recipient) -> Decision | tuple[AddRecipient, ...]:
    """What the plugins say of the recipient: a refusal, or the recipients to add. `route` is not asked: the MTA routes."""
    chain = talk.door.chain
    added: tuple[AddRecipient, ...] = ()
    if "rcpt" in chain.stages:
        answer = await chain.rcpt(transaction, recipient)
        if answer.decision is not None:
            verdict = answer.decision.verdict
            if isinstance(verdict, Redirect):
                return Decision(
                    verdict=defer(
                        "The message cannot be handled here now; try again later",
                        enhanced="4.3.5",
                        reason="redirect",
                        evidence=NO_WAY,
                    ),
                    plugin=answer.decision.plugin,
                    hook=answer.decision.hook,
                )
            if isinstance(verdict, Reject | Defer):
                return answer.decision
            if recipient.decision is None:
                recipient.decision = answer.decision
        if answer.forward_path is not None:
            recipient.sent_path = f"<{answer.forward_path.path}>".encode()
        added = answer.added
    if "policy_class" in chain.stages:
        recipient.policy_class = await chain.policy_class(transaction, recipient)
    return added


async def data(mta: MtaTalk) -> codec.Verdict | None:
    """DATA, before the content."""
    talk = mta.talk
    transaction = talk.transaction
    if transaction is None:
        return None
    chain = talk.door.chain
    decision = await chain.data(transaction) if "data" in chain.stages else None
    if decision is None:
        talk.begun = chain.begin_checks(transaction)
        return None
    told = talk.refused_by(decision)
    end(talk, told, decision=decision)
    return reply(told)
