"""RCPT: RFC 5321 4.1.1.3. Order: relay rule on the client's path, `rcpt`, `route`, `policy_class`, then the next hop, live."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from typing_extensions import override

from gateway.chain import StageDeferredError
from gateway.config.models import RouteConfig
from gateway.errors import LinkError
from gateway.smtp.conversation import Conversation, Pending, Refused, check_parameters, needs, onward
from gateway.smtp.grammar import SyntaxFault, parse_rcpt
from gateway.smtp.paths import Path
from gateway.smtp.protocol import Command
from gateway.smtp.relaying import route_of, stays
from gateway.smtp.replies import Reply
from gateway.smtp.transactions import link_reply
from gateway.smtp.verbs.mail import begin_at_next_hop
from gateway.transaction import Recipient, Transaction
from gateway.verdict import AddRecipient, Decision, Defer, Discard, Redirect, Reject

if TYPE_CHECKING:
    from gateway.relay.envelope import Step

Extra: TypeAlias = "list[tuple[AddRecipient, Step]]"
"""Recipients that a plugin added, and the next hop's answers to them."""
_STAGES: Final = ("rcpt", "route", "policy_class")


def rcpt(talk: Conversation, command: Command) -> Reply | Pending | Coroutine[Any, Any, Reply | Pending]:
    """Add a recipient."""
    transaction = talk.transaction
    if transaction is None:  # MAIL was refused while this command was on its way
        return talk.ours(503, "5.5.1", "Need MAIL command")
    path, parameters = command.path, command.parameters
    if path is None:
        try:
            address = parse_rcpt(command.argument, utf8=talk.utf8, lenient=talk.lenient)
        except SyntaxFault as fault:
            return talk.ours(fault.code, fault.enhanced, fault.text)
        path, parameters = address.path, address.parameters
    if parameters:
        refusal = check_parameters(talk, parameters, rcpt=True)
        if refusal is not None:
            return talk.with_id(refusal)
    site = talk.door.site
    terms, most = talk.terms, site.limits.recipients
    if terms is not None and terms.limits:
        most = terms.limits.get("RCPTMAX", most)
    if len(transaction.recipients) + talk.owed >= most:
        return talk.ours(452, "4.5.3", "Too many recipients")
    if terms is not None and terms.domains and not _domain_fits(talk, transaction, path):
        return talk.ours(452, "4.5.3", "Too many recipient domains in one transaction")  # RFC 9422 4.3
    found = route_of(path, talk.session.client_class, talk.door.listener, site.route, site.routes.route_for)
    if isinstance(found, Reply):
        return talk.refuse(Refused(path=path, reply=talk.with_id(found), reason="relay-denied"))
    route = found.name
    if site.map is not None:
        route = site.mapped(path) or route
        strayed = stays(found, route, talk.session.client_class)
        if strayed is not None:
            return talk.refuse(Refused(path=path, reply=talk.with_id(strayed), reason="relay-denied"))
    recipient = Recipient(path, parameters, path.octets, route)
    recipient.decision = talk.mail_decision
    stages = talk.door.chain.stages
    if not stages or stages.isdisjoint(_STAGES):
        return _admit(talk, transaction, recipient, ())
    return _with_chain(talk, transaction, recipient, found)


async def _with_chain(talk: Conversation, transaction: Transaction, recipient: Recipient, found: RouteConfig) -> Reply | Pending:
    try:
        answer = await _ask_chain(talk, transaction, recipient)
    except StageDeferredError as error:
        answer = error.decision
    if isinstance(answer, Decision):
        refused = talk.refused_by(answer)
        return talk.refuse(Refused(path=recipient.forward_path, reply=refused, decision=answer, route=recipient.route))
    strayed = stays(found, recipient.route, talk.session.client_class)
    if strayed is not None:
        return talk.refuse(Refused(path=recipient.forward_path, reply=talk.with_id(strayed), reason="relay-denied"))
    admitted = _admit(talk, transaction, recipient, answer)
    return admitted if isinstance(admitted, Reply | Pending) else await admitted


def _admit(
    talk: Conversation, transaction: Transaction, recipient: Recipient, added: tuple[AddRecipient, ...]
) -> Reply | Pending | Coroutine[Any, Any, Reply | Pending]:
    """Whether the recipient may join the others, then the next hop."""
    site = talk.door.site
    if site.by_domain:
        recipient.route = site.way(recipient.route, (recipient,))
    recipient.policy_class = (recipient.route, *recipient.policy_class) if recipient.policy_class else (recipient.route,)
    delivery = site.delivery
    if delivery.admit_first(transaction, recipient, talk.opened):
        if recipient.decision is None:
            return _ask_next_hop(talk, transaction, recipient, added)
        return _admitted(talk, transaction, recipient, added, None)
    if delivery.has_hints(talk.opened):
        return _admit_by_hint(talk, transaction, recipient, added)
    return _admitted(talk, transaction, recipient, added, delivery.admit_next(transaction, recipient, trusted=talk.trusted))


async def _admit_by_hint(
    talk: Conversation, transaction: Transaction, recipient: Recipient, added: tuple[AddRecipient, ...]
) -> Reply | Pending:
    separate = await talk.door.site.delivery.admit(transaction, recipient, trusted=talk.trusted)
    return _admitted(talk, transaction, recipient, added, separate)


def _admitted(
    talk: Conversation, transaction: Transaction, recipient: Recipient, added: tuple[AddRecipient, ...], separate: Reply | None
) -> Reply | Pending:
    if separate is not None:
        refused = Refused(path=recipient.forward_path, reply=talk.with_id(separate), route=recipient.route, reason="separate")
        return talk.refuse(refused)
    if recipient.decision is not None and isinstance(recipient.decision.verdict, Discard):
        transaction.recipients.append(recipient)
        recipient.reply = talk.ours(250, "2.1.5", "Ok")
        return recipient.reply
    return _ask_next_hop(talk, transaction, recipient, added)


def _domain_fits(talk: Conversation, transaction: Transaction, path: Path) -> bool:
    """Whether the next hop takes one more domain, if this is one, in the transaction (RFC 9422 4.3)."""
    if talk.domains_of is not transaction or talk.domains is None:
        talk.domains_of, talk.domains = transaction, set()
    if path.domain_key not in talk.domains and talk.terms is not None and len(talk.domains) >= talk.terms.domains:
        return False
    talk.domains.add(path.domain_key)
    return True


async def _ask_chain(talk: Conversation, transaction: Transaction, recipient: Recipient) -> Decision | tuple[AddRecipient, ...]:
    """What the plugins say of the recipient: a refusal, or the recipients to add."""
    chain = talk.door.chain
    added: tuple[AddRecipient, ...] = ()
    if "rcpt" in chain.stages:
        answer = await chain.rcpt(transaction, recipient)
        if answer.decision is not None:
            if isinstance(answer.decision.verdict, Reject | Defer):
                return answer.decision
            if isinstance(answer.decision.verdict, Redirect):
                recipient.route = answer.decision.verdict.next_hop
            elif recipient.decision is None:
                recipient.decision = answer.decision
        if answer.forward_path is not None:
            recipient.sent_path = f"<{answer.forward_path.path}>".encode()
        added = answer.added
    if "route" in chain.stages:
        recipient.route = await chain.route(transaction, recipient) or recipient.route
    if "policy_class" in chain.stages:
        recipient.policy_class = await chain.policy_class(transaction, recipient)
    return added


def _ask_next_hop(
    talk: Conversation, transaction: Transaction, recipient: Recipient, added: tuple[AddRecipient, ...]
) -> Reply | Pending:
    """The recipient live at the next hop; MAIL goes with it where it waited for the route."""
    if talk.handover is not None and talk.route != recipient.route:
        talk.leave_next_hop()  # all recipients of the other route were refused: admission lets one route in
    before: Pending | None = None
    if talk.handover is None:
        before = begin_at_next_hop(talk, transaction, recipient.route, is_answered=True)
    handover = talk.handover
    if handover is None:
        return talk.ours(451, "4.3.0", "No link to the next hop")
    parameters, route = recipient.parameters, recipient.route
    alone = talk.alone and not added
    if parameters:
        said = onward(talk, parameters, route, rcpt=True)
        theirs = handover.rcpt(recipient.sent_path, said, needs=needs(talk, parameters, route, rcpt=True), alone=alone)
    else:
        theirs = handover.rcpt(recipient.sent_path, (), (), alone)
    pending = _PendingRcpt(talk, transaction, recipient, theirs)
    if before is not None:
        pending.before = before
    if added:
        pending.extra = [(one, handover.rcpt(f"<{one.path}>".encode(), [])) for one in added]
    return pending


class _PendingRcpt(Pending):
    """RCPT is out."""

    __slots__ = ("_recipient", "_talk", "_transaction", "before", "extra")

    def __init__(self, talk: Conversation, transaction: Transaction, recipient: Recipient, theirs: Step) -> None:
        self.theirs = theirs
        self._talk = talk
        self._transaction = transaction
        self._recipient = recipient
        self.before: Pending | None = None
        """MAIL, where it went out with it."""
        self.extra: Extra = []

    @override
    def finish(self, answer: Reply | LinkError) -> Reply | Coroutine[Any, Any, Reply]:
        talk = self._talk
        if (
            isinstance(answer, Reply)
            and answer.is_positive
            and self.before is None
            and not self.extra
            and talk.transaction is self._transaction
            and talk.mail_refusal is None
        ):
            self._recipient.reply = told = answer if answer.is_usual else talk.theirs(answer)
            self._transaction.recipients.append(self._recipient)
            return told
        return self._finish_in_turn(answer)

    async def _finish_in_turn(self, answer: Reply | LinkError) -> Reply:
        talk, transaction, recipient = self._talk, self._transaction, self._recipient
        if self.before is not None:
            await _finish_mail(self.before)
        if talk.transaction is not transaction:
            return talk.ours(503, "5.5.1", "Need MAIL command")
        refusal = talk.mail_refusal or _judge_reply(talk, recipient, answer)
        if refusal is None:
            refusal = await _finish_added(talk, self.extra)
        if refusal is not None:
            await talk.door.site.delivery.withdraw(transaction, recipient)
            return talk.refuse(Refused(path=recipient.forward_path, reply=refusal, route=recipient.route, reason="next-hop"))
        if not isinstance(answer, Reply):
            return talk.ours(451, "4.3.0", "No answer")
        recipient.reply = told = talk.theirs(answer)
        transaction.recipients.append(recipient)
        transaction.recipients.extend(_added(one, recipient) for one, _ in self.extra)
        return told


async def _finish_mail(before: Pending) -> None:
    """MAIL went out with this RCPT: its refusal becomes the reply to every RCPT that follows (a listed difference)."""
    try:
        answer: Reply | LinkError = await before.theirs
    except LinkError as error:
        answer = error
    finished = before.finish(answer)
    if not isinstance(finished, Reply):
        await finished


def _judge_reply(talk: Conversation, recipient: Recipient, answer: Reply | LinkError) -> Reply | None:
    """The refusal that a next hop's answer means, or None."""
    if isinstance(answer, Reply):
        if answer.is_positive:
            return None
        if recipient.sent_path == recipient.forward_path.octets:
            return talk.theirs(answer)
        return link_reply(talk, LinkError("", f"rewritten path refused: {answer}", enhanced="4.3.5"))
    return link_reply(talk, answer)


async def _finish_added(talk: Conversation, extra: Extra) -> Reply | None:
    """Replies to recipients that a plugin added: a refusal is a fault of ours (design §1.4)."""
    refusal = None
    for one, waiting in extra:
        try:
            answer = await waiting
        except LinkError as error:
            refusal = link_reply(talk, error)
            continue
        if not answer.is_positive:
            refusal = link_reply(talk, LinkError("", f"added recipient {one.path} refused: {answer}", enhanced="4.3.5"))
    return refusal


def _added(one: AddRecipient, behind: Recipient) -> Recipient:
    octets = f"<{one.path}>".encode()
    local, _, domain = one.path.rpartition("@")
    return Recipient(
        forward_path=Path(octets, local, domain),
        sent_path=octets,
        route=behind.route,
        policy_class=behind.policy_class,
        added=True,
    )
