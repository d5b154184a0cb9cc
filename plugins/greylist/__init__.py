"""Greylisting (RFC 6647): a sender that nobody knows here is asked to come back; what is no mail server does not.

What is remembered of a triplet is `triplets`; this module says who is asked, when, and what is answered.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Literal

from pydantic import Field, model_validator

from gateway import (
    Context,
    Defer,
    Duration,
    Fact,
    Plugin,
    PluginOptions,
    Recipient,
    Score,
    Session,
    Transaction,
    client_network,
    defer,
    hook,
    mailbox_key,
    sender_key,
)
from gateway.client_names import client_names
from gateway.exemptions import Mailboxes, MailboxPattern, NamePattern, Names, Networks, NetworkText
from gateway.plugins.greylist.conditions import Condition, holds
from gateway.plugins.greylist.triplets import Seen, State, Times, Triplets

MAX_TRANSACTIONS = 10_000
"""With a fact to tell, at once; older ones are not told of."""
UNKNOWN = "unknown"
"""The network of a client without an address."""


class Options(PluginOptions):
    """Who is asked to come back, when, and for how long that is remembered."""

    stage: Literal["rcpt", "data", "content"] = "rcpt"
    """Where: at each RCPT; at DATA, once for all recipients; or after the content, when the findings of all checks are known."""
    delay: Duration = Field(default=300.0, ge=1.0)
    """How long a new triplet waits."""
    retry_window: Duration = Field(default=2 * 86_400.0)
    """How long it may take to come back; later it is new again."""
    lifetime: Duration = Field(default=35 * 86_400.0, ge=3_600.0)
    """How long a triplet that passed is known after its last use."""
    auto_allow: int = Field(default=5, ge=0)
    """After so many triplets that passed, all mail of the client's network does; 0: never."""
    ipv4_prefix: int = Field(default=24, ge=8, le=32)
    """What a network is: large senders come back from another machine."""
    ipv6_prefix: int = Field(default=64, ge=16, le=128)
    """The same for IPv6."""
    normalise: bool = True
    """Take out of the reverse-path what SRS, BATV, VERP and mailing services make anew with each message."""
    null_sender: Literal["data", "rcpt", "never"] = "data"
    """When mail from the null reverse-path is asked to come back with `stage = "rcpt"`: at DATA, so that servers which only try out whether an
    address exists get their answer."""
    clients: tuple[Literal["authenticated", "trusted", "stranger"], ...] = ("stranger",)
    """Whose mail."""
    exempt_networks: tuple[NetworkText, ...] = ()
    """Clients that are never asked: `["192.0.2.0/24"]`."""
    exempt_names: tuple[NamePattern, ...] = ()
    """The same by the name that leads back to their address: `["*.example.net"]`."""
    exempt_senders: tuple[MailboxPattern, ...] = ()
    """Reverse-paths: `["alerts@example.net", "*.example.com"]`. Anybody can write them."""
    exempt_recipients: tuple[MailboxPattern, ...] = ()
    """Recipients who want no delay: `["postmaster@", "support@example.org"]`."""
    names_timeout: Duration = Field(default=3.0, gt=0)
    """For the look-up of a client's name, where `exempt_names` needs it."""
    skip_when: tuple[Condition, ...] = ()
    """Findings that spare a message, at `content` only: `["spf=pass", "score:DNSWL_HI"]`."""
    only_when: tuple[Condition, ...] = ()
    """Findings of which a message has one to be asked, at `content` only; none: all messages."""
    min_score: float | None = None
    """Sum of scores from which on a message is asked, at `content` only; beside `only_when`, either is enough."""
    new_per_hour: int = Field(default=1_000, ge=10)
    """New triplets of one network that are remembered in an hour; more of them are asked to come back and not remembered."""

    @model_validator(mode="after")
    def _fit_together(self) -> Options:
        if self.stage != "content" and (self.skip_when or self.only_when or self.min_score is not None):
            msg = f'found stage = "{self.stage}" with skip_when, only_when or min_score; allowed: stage = "content", where findings are known'
            raise ValueError(msg)
        if self.retry_window < 2 * self.delay:
            raise ValueError("found a retry_window shorter than twice the delay; allowed: one in which a sender can come back")
        return self


class Greylist(Plugin[Options]):
    """Defers what is new."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        super().__init__(options, name=name, context=context)
        own = self.options
        self._networks = Networks.of(own.exempt_networks)
        self._names = Names.of(own.exempt_names)
        self._senders = Mailboxes.of(own.exempt_senders)
        self._recipients = Mailboxes.of(own.exempt_recipients)
        self._waited: OrderedDict[str, float] = OrderedDict()

    @hook
    async def startup(self, context: Context) -> None:
        """The store."""
        own = self.options
        times = Times(
            delay=own.delay,
            window=own.retry_window,
            lifetime=own.lifetime,
            allow_after=own.auto_allow,
            new_per_hour=own.new_per_hour,
        )
        self._triplets = Triplets(context.store, times)

    @hook
    async def rcpt(self, transaction: Transaction, recipient: Recipient) -> Defer | None:
        """At `stage = "rcpt"`; the null reverse-path as `null_sender` says."""
        if self._stage_of(transaction) != "rcpt":
            return None
        return await self._ask(transaction, [recipient])

    @hook
    async def data(self, transaction: Transaction) -> Defer | None:
        """At `stage = "data"`, and for the null reverse-path."""
        if self._stage_of(transaction) != "data":
            return None
        return await self._ask(transaction, transaction.recipients)

    @hook(cheap=True)
    def check(self, transaction: Transaction) -> Fact | None:
        """How long the message had to wait, where it passes now for the first time."""
        waited = self._waited.pop(transaction.id, None)
        return None if waited is None else Fact(name=f"{self.name}.waited", value=int(waited))

    @hook
    async def judge(self, transaction: Transaction) -> Defer | None:
        """At `stage = "content"`."""
        if self._stage_of(transaction) != "content" or not self._is_suspicious(transaction):
            return None
        return await self._ask(transaction, transaction.undecided)

    @hook(cheap=True)
    def done(self, transaction: Transaction) -> None:
        """Forget the transaction."""
        self._waited.pop(transaction.id, None)

    def _stage_of(self, transaction: Transaction) -> str:
        own = self.options
        if own.stage == "rcpt" and transaction.reverse_path.is_null:
            return own.null_sender
        return "" if transaction.reverse_path.is_null and own.null_sender == "never" else own.stage

    async def _ask(self, transaction: Transaction, recipients: list[Recipient]) -> Defer | None:
        """One answer for all these recipients: the longest wait of theirs."""
        session, own, now = transaction.session, self.options, self.context.clock()
        asked = [one for one in recipients if mailbox_key(one.forward_path) not in self._recipients]
        network = client_network(session.client_address, ipv4=own.ipv4_prefix, ipv6=own.ipv6_prefix)
        if not asked or await self._is_exempt(transaction):
            self._count("exempt")
            return None
        if await self._triplets.allows(network, now):
            self._count(State.ALLOWED)
            return None
        found: list[tuple[Seen, str, str]] = []
        for recipient in asked:
            sender, to = self._sender(transaction, recipient), mailbox_key(recipient.forward_path).address
            seen = await self._triplets.see(network or UNKNOWN, sender, to, now)
            self._count(seen.state)
            found.append((seen, sender, to))
        longest, sender, to = max(found, key=lambda one: one[0].wait)
        if longest.wait > 0:
            return self._deferred(longest, f"{network or UNKNOWN}, <{sender}>, <{to}>")
        if (waited := max(seen.waited for seen, _, _ in found)) > 0:
            self._note(transaction, waited)
        return None

    async def _is_exempt(self, transaction: Transaction) -> bool:
        session = transaction.session
        if session.client_class.value not in self.options.clients or session.client_address in self._networks:
            return True
        if not transaction.reverse_path.is_null and mailbox_key(transaction.reverse_path) in self._senders:
            return True
        if not self._names.entries:
            return False
        return (await self._name(session)) in self._names

    async def _name(self, session: Session) -> str:
        """The client's name that leads back to its address; DNS that does not answer is no name."""
        limit = min(self.options.names_timeout, 0.9 * self.hook_limit)
        return (await client_names(session, self.context, limit))[0]

    def _sender(self, transaction: Transaction, recipient: Recipient) -> str:
        path = transaction.reverse_path
        if not self.options.normalise:
            return mailbox_key(path).address
        return sender_key(path, recipient=recipient.forward_path).address

    def _is_suspicious(self, transaction: Transaction) -> bool:
        own, findings = self.options, transaction.findings
        if any(holds(one, findings) for one in own.skip_when):
            self._count("skipped")
            return False
        if not own.only_when and own.min_score is None:
            return True
        total = sum(one.weight for one in findings.of(Score))
        if any(holds(one, findings) for one in own.only_when) or (own.min_score is not None and total >= own.min_score):
            return True
        self._count("skipped")
        return False

    def _deferred(self, seen: Seen, triplet: str) -> Defer:
        seconds = math.ceil(seen.wait)
        why = {
            State.NEW: f"new: {triplet}",
            State.EARLY: f"back too soon: {triplet}",
            State.FLOOD: f"more than {self.options.new_per_hour} new triplets in an hour, so not remembered: {triplet}",
        }
        return defer(
            f"Greylisted, please come back in {seconds} seconds",
            code=451,
            enhanced="4.7.1",
            reason="greylisted",
            evidence=f"{why[seen.state]}; {seconds} s left"[:1_000],
        )

    def _note(self, transaction: Transaction, waited: float) -> None:
        self._waited[transaction.id] = max(waited, self._waited.get(transaction.id, 0.0))
        if len(self._waited) > MAX_TRANSACTIONS:
            self._waited.popitem(last=False)

    def _count(self, state: str) -> None:
        self.context.metrics.count("triplets", state=str(state))
