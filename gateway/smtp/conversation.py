"""A conversation: what the verbs share about one session, its transaction and the replies that are still owed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from gateway.delivery import ability_of
from gateway.errors import LinkError
from gateway.findings import Findings
from gateway.outcome import SMTP, SUBMISSION, Ability
from gateway.relay.envelope import Step, Whose, whose
from gateway.relay.identity import ClientFacts
from gateway.session import ClientClass, Forwarded, Proxy, Session
from gateway.smtp.discipline import hand_on
from gateway.smtp.each import named
from gateway.smtp.extensions import Extension, Terms
from gateway.smtp.extensions.base import UNKNOWN_PARAMETER
from gateway.smtp.identifiers import transaction_id
from gateway.smtp.origin import note_origin
from gateway.smtp.paths import Parameter, Path
from gateway.smtp.replies import MAX_LINE, Reply, passed_on, reply
from gateway.smtp.site import Door
from gateway.smtp.states import State
from gateway.trace import Trace
from gateway.transaction import Outcome, Transaction
from gateway.verdict import Defer, Reject

if TYPE_CHECKING:
    from gateway.checking import Begun
    from gateway.relay.bound import BoundLink
    from gateway.relay.handover import Handover
    from gateway.smtp.chunks import ChunkIntake
    from gateway.smtp.record import Ending
    from gateway.verdict import Decision

_STRANGER: Final = (
    ClientClass.STRANGER
)  # a look into an Enum's class costs as much as a call in Python 3.11, and this is asked with each message
_GREETING: Final = State.GREETING
MAX_REFUSED_KEPT: Final = 100
"""Refused recipients that a decision record lists; more are counted."""


class Pending:
    """A reply that the next hop still owes: `finish` makes the client's reply of it, in the order of the commands."""

    __slots__ = ("theirs",)

    def __init__(self, theirs: Step) -> None:
        self.theirs = theirs

    def finish(self, answer: Reply | LinkError) -> Reply | Coroutine[Any, Any, Reply]:
        """The client's reply; at once where nothing has to be waited for."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A recipient that was refused at RCPT, for the decision record."""

    path: Path
    reply: Reply
    decision: Decision | None = None
    route: str = ""
    reason: str = ""
    """Where no plugin decided: `relay-denied`, `next-hop`, `separate`."""


NOT_OFFERED: Final[Mapping[str, Extension]] = {}
"""No extensions: before EHLO, and after HELO. Every session has it in common; nothing is ever put into it."""
_NOTHING_SAID: Final[Mapping[str, str]] = {}


class Connection(Protocol):
    """Whose conversation it is."""

    async def ask_client(self, challenge: Reply) -> bytes | None:
        """The client's line in answer to a challenge of AUTH; None: it was too long."""

    def end_session(self, why: str) -> None:
        """End the session with 421 as soon as nothing is under way."""


class Conversation:
    """One session as its verbs see it. No dataclass: its constructor took as long as the greeting. Nor arguments by name."""

    __slots__ = (
        "alone",
        "begun",
        "bound",
        "chunks",
        "connection",
        "domains",
        "domains_of",
        "door",
        "ended",
        "ending",
        "errors",
        "forwarded",
        "forwarded_attributes",
        "handover",
        "introduced",
        "introducer",
        "left",
        "lenient",
        "lf_lines",
        "loop",
        "mail_decision",
        "mail_refusal",
        "offered",
        "opened",
        "owed",
        "refused",
        "refused_count",
        "reply_due",
        "route",
        "session",
        "session_before",
        "state",
        "terms",
        "transaction",
    )

    def __init__(  # noqa: PLR0915 - one for each field
        self, door: Door, session: Session, loop: asyncio.AbstractEventLoop | None = None, lenient: bool = False
    ) -> None:
        self.door = door
        self.session = session
        self.loop = loop if loop is not None else asyncio.get_running_loop()
        self.state: State = _GREETING
        self.offered: Mapping[str, Extension] = NOT_OFFERED
        """Extensions of the last EHLO reply, by keyword."""
        self.terms: Terms | None = None
        self.transaction: Transaction | None = None
        self.handover: Handover | None = None
        self.left: tuple[Handover, ...] = ()
        """Handovers that were given up for another; abandoned with the transaction."""
        self.route: str = ""
        """Route of the handover."""
        self.chunks: ChunkIntake | None = None
        """The message that comes by BDAT, so far."""
        self.begun: Begun | None = None
        """Checks that run while the content comes; cancelled with the transaction."""
        self.refused: list[Refused] = []
        self.refused_count: int = 0
        self.mail_decision: Decision | None = None
        """A discard at MAIL: it is the verdict on every recipient."""
        self.mail_refusal: Reply | None = None
        """MAIL was answered 250 by us and then refused by the handover's next hop: what each of its recipients is told."""
        self.ending: Ending | None = None
        """How the transaction has ended whose reply is written now; `conclude` is owed for it."""
        self.ended: list[tuple[Transaction, Outcome]] = []
        """Transactions that `done` is still owed for."""
        self.introducer: Proxy | None = None
        """The connection's own end, once it has said by XCLIENT that the client is somebody else."""
        self.session_before: Session | None = None
        """Which XCLIENT has just ended; `disconnect` is owed for it."""
        self.introduced: Mapping[str, str] = _NOTHING_SAID
        """What it said, over all XCLIENT commands."""
        self.forwarded_attributes: Mapping[str, str] = _NOTHING_SAID
        self.forwarded: Forwarded | None = None
        """What XFORWARD said for the next transaction."""
        self.errors: int = 0
        self.lf_lines: bool = False
        """The last command ended in a bare LF."""
        self.lenient = lenient
        self.opened: float = math.inf
        """Loop time of the transaction's MAIL: what was looked up later than that, for whomever, is fresh for it."""
        self.reply_due: float = math.inf
        """Loop time at which the reply to the final dot must be out; what the checks leave of it is the next hop's."""
        self.domains: set[str] | None = None
        """Recipient domains said in the transaction `domains_of`; kept only where the next hop limits their number."""
        self.domains_of: Transaction | None = None
        self.bound: BoundLink | None = None
        """The link to `auth_route` that this client authenticates on, or has."""
        self.connection: Connection | None = None
        """Set by the server; None: it is a conversation in another protocol."""
        self.alone: bool = False
        """The command under way came alone: nothing is there yet that could go on with it."""
        self.owed: int = 0
        """Replies that the next hop owes to earlier commands."""

    @property
    def utf8(self) -> bool:
        """UTF-8 may go into replies: the transaction has SMTPUTF8 (RFC 6531 3.7.4)."""
        transaction = self.transaction
        return transaction is not None and bool(transaction.parameters) and transaction.parameter("SMTPUTF8") is not None

    @property
    def id(self) -> str:
        """The identifier that replies and log lines carry now."""
        return self.transaction.id if self.transaction is not None else self.session.id

    @property
    def handover_name(self) -> str:
        """The next hop under way, for logs; `` when there is none."""
        return self.handover.next_hop if self.handover is not None else ""

    @property
    def has_certificate(self) -> bool:
        """The client showed a certificate, and it was verified."""
        return self.session.tls is not None and bool(self.session.tls.peer_fingerprint)

    @property
    def trusted(self) -> bool:
        """Authenticated or in a trusted network."""
        return self.session.client_class is not _STRANGER

    @property
    def is_suspect(self) -> bool:
        """A stranger, and not of a lenient network: early talk and the connections of its network count."""
        return self.session.client_class is _STRANGER and not self.lenient

    def ability(self) -> Ability:
        """How this client can be answered after the content. PRDR is for several recipients only (draft-hall-prdr 4.4)."""
        transaction = self.transaction
        if transaction is None or (not transaction.parameters and self.session.protocol != "lmtp"):
            return SMTP if self.session.client_class is _STRANGER else SUBMISSION
        ability = ability_of(transaction, trusted=self.trusted)
        if ability is Ability.PRDR and named(self) < 2:
            return Ability.SMTP
        return ability

    def ours(self, code: int, enhanced: str | None, text: str) -> Reply:
        """A reply of our own that carries the identifier."""
        return reply(code, enhanced, f"{text} ({self.id})")

    def with_id(self, answer: Reply) -> Reply:
        """A reply of our own, made where nobody knew the identifier, with it behind each line."""
        return Reply(answer.code, tuple(line + f" ({self.id})".encode() for line in answer.lines))

    def refused_by(self, decision: Decision) -> Reply:
        """The reply that a Reject or Defer means, with the identifier."""
        verdict = decision.verdict
        if isinstance(verdict, Reject | Defer):
            return self.ours(verdict.code, verdict.enhanced, verdict.text)
        return self.ours(451, "4.3.0", "Try again later")

    def theirs(self, answer: Reply) -> Reply:
        """A next hop's reply for the client: word for word, x.0.0 added where it has no enhanced code (RFC 2034)."""
        if answer.is_usual:
            return answer
        cleaned = passed_on(answer, utf8=self.utf8)
        if cleaned.enhanced is None and "ENHANCEDSTATUSCODES" in self.offered and cleaned.first in {2, 4, 5}:
            front = b"%d.0.0 " % cleaned.first
            cleaned = Reply(cleaned.code, tuple((front + line)[: MAX_LINE - 6] for line in cleaned.lines))
        return cleaned

    def begin(self, path: Path, parameters: tuple[Parameter, ...]) -> Transaction:
        """A new transaction."""
        session, site = self.session, self.door.site
        session.transactions += 1
        self.opened = self.loop.time()
        transaction = self.transaction = Transaction(  # by position: a class that is given names builds a dict of them first
            transaction_id(session.id, session.transactions),
            session,
            path,
            parameters,
            path.octets,
            [],
            Findings(),
            site.clock(),
            self.opened + site.limits.transaction_time,
            Trace(),
        )
        if session.proxy is not None or self.forwarded is not None:
            transaction.forwarded = self.forwarded
            note_origin(transaction)
            self.forget_forwarded()
        if session.findings:
            hand_on(transaction, session.findings)
        if self.refused_count:
            self.refused = []
            self.refused_count = 0
        self.mail_decision = None
        return transaction

    def refuse(self, refused: Refused) -> Reply:
        """Note a refused recipient; its reply."""
        self.refused_count += 1
        if refused.reply.first == 5:
            self.session.unknown_recipients += 1
        if len(self.refused) < MAX_REFUSED_KEPT:
            self.refused.append(refused)
        return refused.reply

    def forget_forwarded(self) -> None:
        """XFORWARD is said anew for each transaction."""
        if self.forwarded is not None:
            self.forwarded = None
            self.forwarded_attributes = _NOTHING_SAID

    def client_facts(self) -> ClientFacts:
        """What the next hop may be told of the client."""
        session = self.session
        return ClientFacts(
            address=session.client_address,
            port=session.client_port,
            helo=session.helo,
            name=session.client_name,
            identity=session.identity,
            protocol=self.introduced.get("PROTO") or ("ESMTP" if session.esmtp else "SMTP"),
            session=session.id,
            ident=self.id,
            forwarded=self.transaction.forwarded if self.transaction is not None else None,
            is_stranger=session.client_class is _STRANGER,
        )

    def new_handover(self, route: str) -> Handover:
        """The way of a transaction to a route: on the client's own link, where it authenticated there. LinkError."""
        bound = self.bound
        if bound is not None and not (self.session.identity and bound.route == route):
            bound = None
        handover = self.door.site.relay.handover(route, self.client_facts, bound)
        handover.client_may_authenticate = "AUTH" in self.offered
        return handover

    async def ask_next_hop(self, route: str, line: bytes) -> Reply:
        """A next hop's reply to one command outside of a transaction. LinkError, also for a reply about our link."""
        relay, bound = self.door.site.relay, self.bound
        if bound is not None and self.session.identity and bound.route == route:
            answer = await bound.ask(line, bound.settings.reply_timeout)
        else:
            answer = await relay.ask(route, line, self.client_facts())
        if whose(answer, auth="AUTH" in self.offered) is not Whose.CLIENT:
            raise LinkError(route, f"{line[:4].decode()} answered with {answer}", enhanced="4.3.5")
        return answer

    async def bind(self) -> BoundLink:
        """The link to authenticate on, the same one for each try. LinkError."""
        if self.bound is None:
            route = self.door.config.auth_route
            self.bound = await self.door.site.relay.bind(route, self.client_facts(), on_lost=self._bound_lost)
        return self.bound

    def _bound_lost(self) -> None:
        if self.session.identity:  # it stays bound, so that nothing of this client goes out on another link
            if self.connection is not None:
                self.connection.end_session("The link to the next hop is lost")
        else:
            self.bound = None

    def unbind(self, *, cut: bool = False) -> None:
        """Close the client's own link and forget who it is; `cut` without taking leave."""
        bound, self.bound = self.bound, None
        if bound is not None:
            bound.close(cut=cut)
        self.authenticated_as("")

    def authenticated_as(self, identity: str) -> None:
        """Who the client is, `` for nobody known, and what follows from that."""
        session = self.session
        if session.identity != identity:
            session.identity = identity
            session.client_class = self.door.client_class(session)
            self.lenient = self.door.is_lenient(session)

    def leave_next_hop(self) -> None:
        """Give the link back; the envelope on it is void."""
        handover, self.handover = self.handover, None
        self.mail_refusal = None
        self.route = ""
        if self.left:
            left, self.left = self.left, ()
            for one in left:
                one.abandon()
        if handover is not None:
            handover.abandon()


def check_parameters(talk: Conversation, parameters: tuple[Parameter, ...], *, rcpt: bool) -> Reply | None:
    """The refusal, without an identifier, of the first parameter that was not offered or has a wrong value (RFC 5321 4.1.1.11)."""
    for parameter in parameters:
        extension = _owner(talk, parameter.keyword, rcpt=rcpt)
        if extension is None or talk.terms is None:
            return UNKNOWN_PARAMETER
        if extension.keyword not in talk.offered:
            return extension.not_offered()
        refusal = extension.check(parameter, talk.terms)
        if refusal is not None:
            return refusal
    return None


def _owner(talk: Conversation, keyword: str, *, rcpt: bool) -> Extension | None:
    known = talk.door.site.extensions
    return (known.rcpt if rcpt else known.mail).get(keyword)


def onward(talk: Conversation, parameters: tuple[Parameter, ...], route: str, *, rcpt: bool) -> list[bytes]:
    """The parameters as they go to the next hop of a route."""
    result: list[bytes] = []
    if not parameters:
        return result
    theirs = talk.door.site.capabilities(route)
    for parameter in parameters:
        extension = _owner(talk, parameter.keyword, rcpt=rcpt)
        octets = parameter.octets if extension is None else extension.onward(parameter, theirs)
        if octets is not None:
            if extension is not None and extension.from_strangers and not talk.session.identity:
                octets = extension.from_strangers
            result.append(octets)
    return result


def needs(talk: Conversation, parameters: tuple[Parameter, ...], route: str, *, rcpt: bool) -> set[str]:
    """EHLO keywords that a link must offer for the parameters that go on."""
    found: set[str] = set()
    if not parameters:
        return found
    for parameter in parameters:
        extension = _owner(talk, parameter.keyword, rcpt=rcpt)
        if extension is not None and extension.onward(parameter, talk.door.site.capabilities(route)) is not None:
            found |= extension.needs(parameter)
    return found
