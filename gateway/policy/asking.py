"""A client's session as a Postfix asks about it: what the chain says of connection, HELO, AUTH, MAIL, each RCPT and DATA. RFC 5321 3.3.

A Postfix asks when its restrictions say so, often for the first time at RCPT: what comes before is then done first, once, in order. A
refusal of it is the answer to every request that follows about the same client or message, until Postfix tells of another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import StorageError
from gateway.policy.codec import clean
from gateway.policy.facts import TRANSACTION, Request, client_of, fill_in, greet, number, parameters_of, path_of, state_of
from gateway.session import Session
from gateway.smtp.conversation import Conversation, Refused
from gateway.smtp.identifiers import session_id
from gateway.smtp.record import Ending, build
from gateway.smtp.replies import Reply
from gateway.smtp.transactions import end, refuse_session, tell_observers
from gateway.transaction import Recipient
from gateway.verdict import Decision, Defer, Discard, Redirect, Reject

if TYPE_CHECKING:
    from gateway.smtp.site import Door
    from gateway.stages import RcptAnswer

GO_ON = "DUNNO"
"""Never OK: that would pass over the restrictions behind ours, such as the one that keeps Postfix from being an open relay."""
CANNOT = (451, "4.3.5", "This cannot be carried out here; try again later")
"""What has no action; docs/policy_server.md. A Postfix hears it, no client of ours."""
PASSED = "passed"
"""The fate of what we let pass: what became of it, the Postfix knows."""


class Client:
    """One client of a Postfix."""

    def __init__(self, door: Door, request: Request) -> None:
        self.who = client_of(request)
        self._door = door
        session = Session(id=session_id(), listener=door.config.name, started=door.site.clock())
        fill_in(session, request)
        session.client_class = door.client_class(session)
        self._talk = Conversation(door=door, session=session, lenient=door.is_lenient(session))
        self._is_connected = False
        self._refusal: str = ""
        """Of the connection, of HELO or of AUTH: the answer to whatever is asked."""
        self._instance: str | None = None
        self._mail_answer: str = ""
        """A refusal, or DISCARD, of MAIL."""
        self._recipients: dict[str, str] = {}
        """Answers by recipient: several restrictions may ask about the same one."""
        self._data_answer: str | None = None
        self._data_refusal: tuple[Reply, Decision] | None = None

    async def answer(self, request: Request) -> str:
        """The action. PolicyFault for what is no request."""
        state = state_of(request)
        refusal = await self._session(request)
        if refusal or state not in TRANSACTION:
            return refusal or GO_ON
        await self._transaction(request)
        if self._mail_answer and state == "MAIL":
            return self._mail_answer
        if state == "RCPT":
            return await self._recipient(request)
        if self._mail_answer:
            return self._mail_answer
        if state == "DATA":
            return await self._data()
        return GO_ON

    async def leave(self) -> None:
        """Another client is told of, or the connection ended."""
        await self._end_transaction()
        if "disconnect" in self._door.chain.stages:
            await self._door.chain.disconnect(self._talk.session)

    async def _session(self, request: Request) -> str:
        """Connection, HELO and AUTH, as far as they are new."""
        talk, chain = self._talk, self._door.chain
        if not self._is_connected:
            self._is_connected = True
            if "connect" in chain.stages:
                self._refuse(await chain.connect(talk.session))
        if self._refusal:
            return self._refusal
        if greet(talk.session, request) and "helo" in chain.stages and (decision := await chain.helo(talk.session)):
            talk.session.helo = ""  # asked again with the next request
            return self._said(decision)
        identity = clean(request.get("sasl_username", ""))[:320]
        if identity != talk.session.identity:
            talk.authenticated_as(identity)
            if identity and "authenticated" in chain.stages:
                self._refuse(await chain.authenticated(talk.session))
        return self._refusal

    def _refuse(self, decision: Decision | None) -> None:
        if decision is not None:
            self._refusal = self._said(decision)

    def _said(self, decision: Decision) -> str:
        """A refusal outside of a transaction, and its record."""
        answer = self._talk.refused_by(decision)
        refuse_session(self._talk, decision, answer)
        return action_of(answer)

    async def _transaction(self, request: Request) -> None:
        """MAIL, if this is another message than before."""
        talk, chain = self._talk, self._door.chain
        instance = request.get("instance", "")
        if instance == self._instance and talk.transaction is not None:
            return
        await self._end_transaction()
        self._instance = instance
        transaction = talk.begin(path_of(request.get("sender", ""), is_reverse=True), parameters_of(request))
        transaction.declared_size = number(request.get("size", "")) or None
        if transaction.trace is not None:
            told = f"asked by Postfix, instance {clean(instance)[:80]}, queue id {clean(request.get('queue_id', ''))[:40] or 'none yet'}"
            transaction.trace.step(stage="session", plugin="", outcome="policy", evidence=told)
        if "mail" not in chain.stages:
            return
        said = await chain.mail(transaction)
        talk.mail_decision = said.decision
        if said.reverse_path is not None:
            self._mail_answer = self._cannot("another reverse-path")
        elif said.decision is not None and isinstance(said.decision.verdict, Discard):
            self._mail_answer = "DISCARD"
        elif said.decision is not None:
            self._mail_answer = action_of(talk.refused_by(said.decision))

    async def _recipient(self, request: Request) -> str:
        talk = self._talk
        transaction = talk.transaction
        mailbox = request.get("recipient", "")
        if transaction is None or not mailbox:
            return self._mail_answer or GO_ON
        known = self._recipients.get(mailbox)
        if known is not None:
            return known
        if len(self._recipients) >= self._door.site.limits.recipients:
            return action_of(talk.ours(452, "4.5.3", "Too many recipients"))
        path = path_of(mailbox, is_reverse=False)
        recipient = Recipient(forward_path=path, sent_path=path.octets, decision=talk.mail_decision)
        if self._mail_answer == "DISCARD":
            answer = await self._discard(recipient)
        elif self._mail_answer:
            decision = talk.mail_decision
            refused = _reply(self._mail_answer)
            talk.refuse(Refused(path=path, reply=refused, decision=decision, reason="" if decision else "cannot-be-said"))
            answer = self._mail_answer
        else:
            answer = await self._ask_chain(recipient)
        self._recipients[mailbox] = answer
        return answer

    async def _ask_chain(self, recipient: Recipient) -> str:
        talk, transaction = self._talk, self._talk.transaction
        if transaction is None:
            return GO_ON
        if "rcpt" in self._door.chain.stages:
            said = await self._door.chain.rcpt(transaction, recipient)
            decision = said.decision
            if decision is not None and isinstance(decision.verdict, Reject | Defer):
                answer = talk.refused_by(decision)
                talk.refuse(Refused(path=recipient.forward_path, reply=answer, decision=decision))
                return action_of(answer)
            if what := _without_word(said):
                cannot = self._cannot(what)
                reason = "cannot-be-said"
                talk.refuse(Refused(path=recipient.forward_path, reply=_reply(cannot), decision=decision, reason=reason))
                return cannot
            recipient.decision = decision
        transaction.recipients.append(recipient)
        return GO_ON

    async def _discard(self, recipient: Recipient) -> str:
        """The whole message goes, once the record of it is on the disk (design §1.1)."""
        talk, site = self._talk, self._door.site
        transaction = talk.transaction
        if transaction is None:
            return GO_ON
        if site.storage_problem:
            return self._cannot(site.storage_problem)
        transaction.recipients.append(recipient)
        fates = dict.fromkeys(range(len(transaction.recipients)), "discarded")
        try:
            ending = Ending(fates=fates, decision=talk.mail_decision)
            await site.journal.commit(build(transaction, ending, talk.refused, generation=site.generation, now=site.clock()))
        except StorageError as error:
            transaction.recipients.pop()
            return self._cannot(f"the record of a discard: {error}")
        return "DISCARD"

    async def _data(self) -> str:
        transaction = self._talk.transaction
        if self._data_answer is None:
            self._data_answer = GO_ON
            if transaction is not None and "data" in self._door.chain.stages:
                decision = await self._door.chain.data(transaction)
                if decision is not None:
                    answer = self._talk.refused_by(decision)
                    self._data_answer, self._data_refusal = action_of(answer), (answer, decision)
        return self._data_answer

    def _cannot(self, what: str) -> str:
        """What the protocol has no word for costs a retry, and the record says why."""
        transaction = self._talk.transaction
        if transaction is not None and transaction.trace is not None:
            evidence = f"{what}: a Postfix cannot be told so"
            transaction.trace.step(stage="policy", plugin="", outcome="error", evidence=evidence)
        return action_of(self._talk.ours(*CANNOT))

    async def _end_transaction(self) -> None:
        talk, site = self._talk, self._door.site
        transaction = talk.transaction
        if transaction is not None:
            is_gone = self._mail_answer == "DISCARD"
            refused, decision = self._data_refusal or (None, talk.mail_decision)
            if self._mail_answer and not is_gone:
                refused = _reply(self._mail_answer)
            fates: dict[int, str] = {}
            if refused is None:
                fates = dict.fromkeys(range(len(transaction.recipients)), "discarded" if is_gone else PASSED)
            ending = Ending(reply=refused, decision=decision, fates=fates)
            record = build(transaction, ending, talk.refused, generation=site.generation, now=site.clock())
            if record["verdict"] == "vanished":
                record["verdict"] = PASSED
            end(talk, refused, ending=ending, record=record)
        await tell_observers(talk)
        self._instance, self._mail_answer, self._recipients = None, "", {}
        self._data_answer, self._data_refusal = None, None


def action_of(answer: Reply) -> str:
    """A refusal as an action: code and text, which Postfix sends on behind its own words."""
    return f"{answer.code} {answer.lines[0].decode('utf-8', 'replace')}"


def _reply(action: str) -> Reply:
    """The other way round, of an action that begins with a code."""
    return Reply(int(action[:3]), (action[4:].encode(),))


def _without_word(said: RcptAnswer) -> str:
    """What a plugin wants at RCPT and no action can say."""
    if said.forward_path is not None:
        return "another forward-path"
    if said.added:
        return "one more recipient"
    verdict = said.decision.verdict if said.decision is not None else None
    if isinstance(verdict, Redirect):
        return "another next hop"
    # DISCARD is for the whole message, so it would take the mail of the others, too
    return "a discard for one recipient" if isinstance(verdict, Discard) else ""
