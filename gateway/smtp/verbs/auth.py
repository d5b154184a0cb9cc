"""AUTH: RFC 4954 4. Challenges and responses pass between the client and the next hop; nothing of them is kept.

The next hop decides. Its verdict reaches the client word for word, after the plugins had their say on a success; the link
it was given on is this client's alone from then on.
"""

from __future__ import annotations

import re

import structlog

from gateway.errors import LinkError
from gateway.relay.bound import BoundLink
from gateway.smtp.conversation import Conversation
from gateway.smtp.protocol import Command
from gateway.smtp.replies import Reply
from gateway.smtp.sasl import MAX_LINE, MAX_ROUNDS, identity, is_response
from gateway.smtp.transactions import refuse_session

log = structlog.get_logger("mailgateway.smtp")

_CHALLENGE = re.compile(rb"[ -~]*")


async def auth(talk: Conversation, command: Command) -> Reply:
    """The exchange, and its end."""
    refusal = _out_of_place(talk)
    if refusal is not None:
        return refusal
    mechanism, *initial = command.argument.split(b" ")
    if not mechanism or len(initial) > 1:
        return talk.ours(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")
    name = mechanism.decode("ascii").upper()
    if talk.terms is None or name not in talk.terms.auth:
        return talk.ours(504, "5.5.4", "Mechanism is not offered")
    if initial and not (initial[0] == b"=" or (initial[0] != b"*" and is_response(initial[0]))):
        return talk.ours(501, "5.5.2", "Response is not BASE64")
    try:
        exchange = _Exchange(talk, await talk.bind(), name)
    except LinkError as error:
        return _failed(talk, error)
    return await exchange.run(b" ".join((b"AUTH", mechanism, *initial)), initial)


def _out_of_place(talk: Conversation) -> Reply | None:
    if not talk.door.config.auth_route:
        return talk.ours(502, "5.5.1", "AUTH is not offered")
    if talk.session.identity:
        return talk.ours(503, "5.5.1", "Already authenticated")  # RFC 4954 4
    if not talk.door.is_private(talk.session):
        return talk.ours(538, "5.7.11", "Encryption required for authentication")
    if "AUTH" not in talk.offered:
        return talk.ours(503, "5.5.1", "AUTH was not offered")
    return None


def _failed(talk: Conversation, error: LinkError) -> Reply:
    """A fault of our link: temporary for the client (RFC 4954 6)."""
    log.warning("auth.link_failed", session=talk.session.id, problem=str(error))
    return talk.ours(454, "4.7.0", "Temporary authentication failure")


class _Exchange:
    """One AUTH command and what follows it."""

    def __init__(self, talk: Conversation, link: BoundLink, mechanism: str) -> None:
        self._talk = talk
        self._link = link
        self._mechanism = mechanism
        self._identity = ""
        """Known from the first response that the client gives."""

    async def run(self, command: bytes, initial: list[bytes]) -> Reply:
        """To its end; the link is cut wherever it cannot be known where the next hop stands."""
        if initial:
            self._learn(initial[0])
        is_over = False
        try:
            verdict = await self._converse(command)
            is_over = True
        except LinkError as error:
            return _failed(self._talk, error)
        finally:
            if not is_over:
                self._talk.unbind(cut=True)
        return await self._conclude(verdict)

    async def _converse(self, line: bytes) -> Reply:
        """The next hop's verdict; a refusal of ours where the client's response was none, and was cancelled."""
        limit = self._link.settings.reply_timeout
        for _ in range(MAX_ROUNDS + 1):
            theirs = await self._link.ask(line, limit)
            if theirs.code != 334:
                return self._checked(theirs)
            (text,) = theirs.lines if len(theirs.lines) == 1 else (b"\n",)
            if not _CHALLENGE.fullmatch(text) or len(text) > MAX_LINE:
                raise LinkError(str(self._link), "a challenge that is none", enhanced="4.3.5")
            connection = self._talk.connection
            response = await connection.ask_client(theirs) if connection is not None else None
            if response is None or not is_response(response):
                self._checked(await self._link.ask(b"*", limit), cancelled=True)
                if response is None:
                    return self._talk.ours(500, "5.5.6", "Response too long")
                return self._talk.ours(501, "5.5.2", "Response is not BASE64")
            self._learn(response)
            line = response
        raise LinkError(str(self._link), "challenges without end", enhanced="4.3.5")

    def _learn(self, response: bytes) -> None:
        if not self._identity and response not in {b"*", b"="}:
            self._identity = identity(self._mechanism, (response,))

    def _checked(self, theirs: Reply, *, cancelled: bool = False) -> Reply:
        """The reply, if it can end an exchange. Those about our link are LinkError (design §1.4)."""
        if theirs.code == 235 and not cancelled:
            return theirs
        if theirs.first in {2, 3} or theirs.code in {421, 503}:
            raise LinkError(str(self._link), f"AUTH answered with {theirs.code}", enhanced="4.3.5")
        return theirs

    async def _conclude(self, theirs: Reply) -> Reply:
        talk, session = self._talk, self._talk.session
        facts = {"session": session.id, "client": session.client_address, "mechanism": self._mechanism}
        if theirs.code != 235:
            log.info("auth.refused", **facts, identity=self._identity, code=theirs.code)
            return talk.theirs(theirs)
        talk.authenticated_as(self._identity or self._mechanism.lower())
        if "authenticated" in talk.door.chain.stages:
            decision = await talk.door.chain.authenticated(session)
            if decision is not None:
                refused = talk.refused_by(decision)
                answer = Reply(535 if refused.first == 5 else 454, refused.lines)  # RFC 4954 6
                refuse_session(talk, decision, answer)
                talk.unbind()
                return answer
        log.info("auth.accepted", **facts, identity=session.identity)
        return talk.theirs(theirs)
