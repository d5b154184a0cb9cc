"""A transaction: MAIL to the reply after the content (RFC 5321 3.3). Facts for hooks, read-only to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.findings import Findings
from gateway.session import Session
from gateway.smtp.paths import NULL, Parameter, Path

if TYPE_CHECKING:
    from collections.abc import Hashable

    from gateway.session import Forwarded
    from gateway.smtp.replies import Reply
    from gateway.trace import Trace
    from gateway.verdict import Decision


@dataclass(slots=True)
class Recipient:
    """One recipient of a transaction, as the client named it and as it goes on.

    Examples:
        >>> recipient = a_recipient("Bob@Example.org")
        >>> (recipient.mailbox, recipient.domain, recipient.decision)
        ('Bob@Example.org', 'example.org', None)
    """

    forward_path: Path
    parameters: tuple[Parameter, ...] = ()
    sent_path: bytes = b""
    """The path octets for the next hop; the client's own unless a plugin rewrote it."""
    route: str = ""
    """Name of the route it goes to."""
    policy_class: tuple[Hashable, ...] = ()
    reply: Reply | None = None
    """What the client was told at RCPT."""
    added: bool = False
    """True when a plugin added it: the client does not know of it."""
    decision: Decision | None = None
    """The first verdict on this recipient, with its author."""

    @property
    def onward_path(self) -> Path:
        """The forward-path as it goes on: that of the client, unless a plugin before has said another one."""
        if not self.sent_path or self.sent_path == self.forward_path.octets:
            return self.forward_path
        local_part, _, domain = self.sent_path[1:-1].decode("utf-8", "replace").rpartition("@")
        return Path(self.sent_path, local_part, domain)

    @property
    def mailbox(self) -> str:
        """`local-part@domain` as the client named it."""
        return self.forward_path.mailbox

    @property
    def domain(self) -> str:
        """Domain in lower case."""
        return self.forward_path.domain_key


@dataclass(slots=True)
class Transaction:
    """One mail transaction.

    Examples:
        >>> transaction = a_transaction(recipients=["bob@example.org", "carol@example.org"], parameters=["SIZE=1000"])
        >>> [recipient.mailbox for recipient in transaction.undecided]
        ['bob@example.org', 'carol@example.org']
        >>> transaction.parameter("SIZE").value
        '1000'
    """

    id: str
    session: Session
    reverse_path: Path = NULL
    parameters: tuple[Parameter, ...] = ()
    sent_reverse_path: bytes = b""
    """The reverse-path octets for the next hop."""
    recipients: list[Recipient] = field(default_factory=list)
    """Accepted at RCPT, in order."""
    findings: Findings = field(default_factory=Findings)
    started: float = 0.0
    """Seconds since the epoch."""
    deadline: float | None = None
    """Loop time at which the transaction must have ended; None: no limit."""
    trace: Trace | None = None
    """The decision record in the making; not for plugins."""
    declared_size: int | None = None
    forwarded: Forwarded | None = None
    """Where the message came from before the client, if the client is believed and said so (XFORWARD)."""

    @property
    def undecided(self) -> list[Recipient]:
        """Recipients without a verdict."""
        return [r for r in self.recipients if r.decision is None]

    def parameter(self, keyword: str) -> Parameter | None:
        """The MAIL parameter of this keyword (upper case), or None."""
        for parameter in self.parameters:
            if parameter.keyword == keyword:
                return parameter
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a transaction ended, for `done`.

    Examples:
        >>> Outcome(fates=(("bob@example.org", "delivered"),), next_hop="127.0.0.1:2526").fates[0][1]
        'delivered'
    """

    reply: Reply | None = None
    """The reply after the content; None when the client left before it."""
    fates: tuple[tuple[str, str], ...] = ()
    """(mailbox, fate): `delivered`, `held`, `rejected`, `deferred`, `discarded`, `vanished`, or `passed`
    where a policy listener was asked only."""
    next_hop: str = ""
    """`address:port` the message went to, `` when it went nowhere."""
    queue_id: str = ""
    """The next hop's own id of the message, as far as its reply tells."""
