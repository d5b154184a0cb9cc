"""What the planner reads and makes, as values. Recipients are named by their index in the transaction."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any, Final

from gateway.smtp.replies import Reply
from gateway.values import value
from gateway.verdict import Accept, Decision, Defer, Discard, Quarantine, Redirect, Reject

ALONE: Final = "alone"
"""The hint of a recipient that shares its transaction with nobody."""
DONE: Final = "done"
"""The hint of recipients that the ledger knows as delivered or held."""
MAX_ROUNDS: Final = 2
"""So often one reverse-path and recipient set is split by classes; afterwards one recipient a transaction."""


class Ability(Enum):
    """How this client can be answered, and whether it tries again by itself."""

    SMTP = "smtp"
    """A stranger's MTA: one reply, it retries each recipient that was deferred."""
    SUBMISSION = "submission"
    """Authenticated or of a trusted network: one reply, it may never retry."""
    LMTP = "lmtp"
    """A reply for each recipient (RFC 2033 4.2)."""
    PRDR = "prdr"
    """A reply for each recipient and one for the message (draft-hall-prdr)."""

    @property
    def has_single_reply(self) -> bool:
        """One reply stands for all recipients."""
        return self is SMTP or self is SUBMISSION


SMTP: Final = Ability.SMTP
SUBMISSION: Final = Ability.SUBMISSION
"""By themselves, as a look into an Enum's class costs as much as a call in Python 3.11, and these are asked for with each message."""
NOBODY: Final[Mapping[int, Any]] = MappingProxyType({})
"""No recipient."""


class Fate(StrEnum):
    """What became of one recipient in one transaction; exactly one of these."""

    DELIVERED = "delivered"
    HELD = "held"
    DISCARDED = "discarded"
    REJECTED = "rejected"
    DEFERRED = "deferred"

    @property
    def is_accepted(self) -> bool:
        """The client may be told 2xx for it."""
        return self is not Fate.REJECTED and self is not Fate.DEFERRED


@value(frozen=True, slots=True)
class Wish:
    """What the chain wants for one recipient. `index` is its place in `transaction.recipients`."""

    index: int
    mailbox: str
    decision: Decision | None = None
    policy_class: tuple[Hashable, ...] = ()
    route: str = ""
    """Name of the route found at RCPT."""
    added: bool = False
    """A plugin added it: the client neither named it nor gets a reply for it."""

    @property
    def fate(self) -> Fate:
        """The fate it has if everybody plays along."""
        match self.decision.verdict if self.decision else None:
            case Reject():
                return Fate.REJECTED
            case Defer():
                return Fate.DEFERRED
            case Quarantine():
                return Fate.HELD
            case Discard():
                return Fate.DISCARDED
            case Accept() | Redirect() | None:
                return Fate.DELIVERED

    @property
    def next_route(self) -> str:
        """The route it goes to: a redirect's, else the one found at RCPT."""
        verdict = self.decision.verdict if self.decision else None
        return verdict.next_hop if isinstance(verdict, Redirect) else self.route


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What ledger and hints know of this very content and these recipients."""

    past: Mapping[int, Fate] = field(default_factory=lambda: MappingProxyType({}))
    """Recipients that an earlier try delivered or held, whose client was told 451."""
    rounds: int = 0
    """How often this reverse-path and recipient set has been split already."""


NOTHING: Final = History()
"""What is known of nearly every message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One copy to be held, for the recipients whose verdicts are alike."""

    box: str
    plugin: str
    reason: str
    evidence: str
    recipients: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """One copy of what is refused, as evidence."""

    plugin: str
    reason: str
    evidence: str
    recipients: tuple[int, ...]


@value(frozen=True, slots=True)
class Plan:
    """What is to be done with one message. Nothing in it has happened yet."""

    ability: Ability
    wishes: tuple[Wish, ...]
    transaction_id: str = ""
    rounds: int = 0
    route: str = ""
    """The route everything in `forward` goes to; `` when nothing does."""
    forward: tuple[int, ...] = ()
    """Recipients the next hop gets."""
    holds: tuple[Hold, ...] = ()
    discards: tuple[int, ...] = ()
    """Their record is committed before anything is sent."""
    keeps: tuple[Keep, ...] = ()
    past: Mapping[int, Fate] = field(default_factory=lambda: MappingProxyType({}))
    """Satisfied by the ledger: nothing is done for them again."""
    refused: Mapping[int, Reply] = field(default_factory=lambda: MappingProxyType({}))
    """Our own refusals, each with the reply it would get alone."""
    verdict: Settlement | None = None
    """Set when nothing is sent, held or discarded: the reply is known already."""


@value(frozen=True, slots=True)
class Settlement:
    """How a message ended."""

    reply: Reply
    """The reply after the final dot; for PRDR the last one; for LMTP a summary for the log."""
    replies: tuple[Reply, ...] = ()
    """LMTP and PRDR: one for each recipient the client named, in order."""
    fates: tuple[Fate, ...] = ()
    """By index of the wish."""
    entries: Mapping[int, Fate] = field(default_factory=lambda: MappingProxyType({}))
    """Delivered or held although the client is told 451: for the ledger, committed before the reply."""
    consume: tuple[int, ...] = ()
    """Ledger entries that end with this reply: deleted durably before it."""
    hints: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    """Classes for the retry."""
    is_ours: bool = True
    """False when `reply` is the next hop's, word for word."""
    duplicates: tuple[int, ...] = ()
    """Delivered or held (or perhaps: a link broke after the content), the client told 4xx, and no ledger entry: a retry makes
    a duplicate."""
    next_hop: str = ""
    next_hop_replies: tuple[Reply, ...] = ()
    held: tuple[str, ...] = ()
    """Identifiers of the copies held."""
    problems: tuple[str, ...] = ()
    """What went wrong on our side, for trace and log; never for the peer."""

    def deferred(self, plan: Plan) -> frozenset[str]:
        """Mailboxes whose client is told 4xx."""
        if not self.replies and self.reply.first != 4:
            return frozenset()
        named = [wish.mailbox for wish in plan.wishes if not wish.added]
        told = self.replies or (self.reply,) * len(named)
        return frozenset(mailbox for mailbox, answer in zip(named, told, strict=True) if answer.first == 4)
