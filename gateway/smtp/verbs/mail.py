"""MAIL: RFC 5321 4.1.1.2. Where everything leads to one route, the next hop is asked at once."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from gateway.errors import LinkError
from gateway.smtp.conversation import Conversation, Pending, check_parameters, needs, onward
from gateway.smtp.grammar import SyntaxFault, parse_mail
from gateway.smtp.protocol import Command
from gateway.smtp.replies import Reply
from gateway.smtp.transactions import end, link_reply, refuse_session
from gateway.transaction import Transaction
from gateway.verdict import Discard

if TYPE_CHECKING:
    from gateway.relay.envelope import Step


def mail(talk: Conversation, command: Command) -> Reply | Pending | Coroutine[Any, Any, Reply | Pending]:
    """Begin a transaction."""
    if talk.session.transactions >= talk.door.site.limits.transactions:
        over = talk.ours(421, "4.7.0", "Too many transactions")
        refuse_session(talk, None, over, reason="too-many-transactions")
        return over
    path, parameters = command.path, command.parameters
    if path is None:
        try:
            address = parse_mail(command.argument, utf8=False, lenient=talk.lenient)
        except SyntaxFault as fault:
            return talk.ours(fault.code, fault.enhanced, fault.text)
        path, parameters = address.path, address.parameters
    if talk.door.requires_certificate and not talk.has_certificate:
        return certificate_missing(talk)
    refusal = check_parameters(talk, parameters, rcpt=False) if parameters else None
    transaction = talk.begin(path, parameters)
    if refusal is not None:
        refused = talk.with_id(refusal)
        end(talk, refused)
        return refused
    if parameters:
        size = transaction.parameter("SIZE")
        if size is not None:
            transaction.declared_size = int(size.value or "0")
    if talk.door.listener.refuse_null_mx_senders and path.domain and not talk.trusted:
        return _ask_dns(talk, transaction)
    if "mail" in talk.door.chain.stages:
        return _ask_chain(talk, transaction)
    return _next_hop_or_later(talk, transaction)


async def _ask_dns(talk: Conversation, transaction: Transaction) -> Reply | Pending:
    """A reverse-path that can get no report is refused where the listener says so (RFC 7505 4.2)."""
    if await talk.door.site.relay.accepts_no_mail(transaction.reverse_path.domain_key):
        refused = talk.ours(550, "5.7.27", "The sender's domain accepts no mail (null MX)")
        end(talk, refused)
        return refused
    if "mail" in talk.door.chain.stages:
        return await _ask_chain(talk, transaction)
    return _next_hop_or_later(talk, transaction)


def certificate_missing(talk: Conversation) -> Reply:
    """Where the listener requires a client's certificate, nothing is sent without (RFC 3207 4)."""
    if talk.session.tls is None:
        return talk.ours(530, "5.7.0", "Must issue a STARTTLS command first")
    return talk.ours(530, "5.7.0", "A client certificate is required")


async def _ask_chain(talk: Conversation, transaction: Transaction) -> Reply | Pending:
    """What the plugins say of the reverse-path."""
    answer = await talk.door.chain.mail(transaction)
    if answer.decision is not None and not isinstance(answer.decision.verdict, Discard):
        refused = talk.refused_by(answer.decision)
        end(talk, refused, decision=answer.decision)
        return refused
    talk.mail_decision = answer.decision
    if answer.reverse_path is not None:
        transaction.sent_reverse_path = f"<{answer.reverse_path.path}>".encode()
    return _next_hop_or_later(talk, transaction)


def _next_hop_or_later(talk: Conversation, transaction: Transaction) -> Reply | Pending:
    route = talk.bound.route if talk.bound is not None and talk.session.identity else talk.door.site.only_route
    if not route or talk.mail_decision is not None:
        return talk.ours(250, "2.1.0", "Ok")  # the next hop is asked with the first RCPT
    return begin_at_next_hop(talk, transaction, route)


def begin_at_next_hop(talk: Conversation, transaction: Transaction, route: str, is_answered: bool = False) -> Pending:
    """MAIL to the next hop of a route. `is_answered`: the client has its 250, so that a refusal is each recipient's."""
    talk.route = route
    talk.handover = handover = talk.new_handover(route)
    path, parameters = transaction.sent_reverse_path, transaction.parameters
    if parameters:
        said = onward(talk, parameters, route, rcpt=False)
        theirs = handover.mail(path, said, needs=needs(talk, parameters, route, rcpt=False), alone=talk.alone and not is_answered)
    else:
        theirs = handover.mail(path, (), (), talk.alone and not is_answered)
    return _PendingMail(talk, transaction, theirs, is_answered)


class _PendingMail(Pending):
    """MAIL is out."""

    __slots__ = ("_is_answered", "_talk", "_transaction")

    def __init__(self, talk: Conversation, transaction: Transaction, theirs: Step, is_answered: bool) -> None:
        self.theirs = theirs
        self._talk = talk
        self._transaction = transaction
        self._is_answered = is_answered

    @override
    def finish(self, answer: Reply | LinkError) -> Reply:
        talk = self._talk
        if talk.transaction is not self._transaction:
            return talk.ours(503, "5.5.1", "The transaction has ended")
        if isinstance(answer, Reply) and answer.is_positive:
            return answer if answer.is_usual else talk.theirs(answer)
        refused = self._refusal(answer)
        if self._is_answered:
            talk.mail_refusal = refused
        else:
            end(talk, refused, next_hop_reply=answer if isinstance(answer, Reply) else None)
        return refused

    def _refusal(self, answer: Reply | LinkError) -> Reply:
        talk, transaction = self._talk, self._transaction
        if isinstance(answer, LinkError):
            return link_reply(talk, answer)
        if answer.code == 552 and transaction.declared_size is not None:
            # RFC 1870 6.1: it speaks of the size, and the size it was told is ours (design §1.4)
            return link_reply(talk, LinkError(talk.handover_name, f"the raised SIZE answered with {answer}", enhanced="4.3.5"))
        if transaction.sent_reverse_path == transaction.reverse_path.octets:
            return talk.theirs(answer)
        # the path is ours, so is the fault (design §1.4)
        return talk.ours(451, "4.3.5", "The next hop refused the reverse-path")
