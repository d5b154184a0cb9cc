"""Rate limits: token buckets in `context.store`, by client, sender, recipient, user or listener. What they count is `limits`.

One bucket is taken from in one atomic step of the store. A message that several limits concern takes from each in turn; where one of them
has not enough, what was taken in this step is given back, so that a refused message counts nowhere.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from pydantic import Field

from gateway import (
    Context,
    Defer,
    Fact,
    Finding,
    Message,
    OptionError,
    OptionMistake,
    Plugin,
    PluginOptions,
    Recipient,
    Reject,
    Score,
    Session,
    Transaction,
    defer,
    hook,
    mailbox_key,
    reject,
)
from gateway.exemptions import Mailboxes, MailboxPattern, Networks, NetworkText
from gateway.plugins.ratelimit.limits import Limit, Stage, Taking, takings

T = TypeVar("T")

MAX_NOTED = 10_000
"""Transactions, and sessions, with something to tell at once; of older ones nothing is told."""
MAX_SESSIONS = 100_000
"""Whose refused recipients are counted."""
_WHAT = {
    "messages": "messages",
    "recipients": "recipients",
    "octets": "octets",
    "connections": "connections",
    "refused": "unknown recipients",
}


class Options(PluginOptions):
    """The limits, and who has none."""

    limit: tuple[Limit, ...] = Field(default=(), max_length=50)
    """`[[plugin.ratelimit.limit]]`, in the order in which they are asked."""
    exempt_networks: tuple[NetworkText, ...] = ()
    """Clients without limits: `["192.0.2.0/24"]`."""
    exempt_identities: tuple[str, ...] = ()
    """Authenticated users without limits, in whatever case."""
    exempt_senders: tuple[MailboxPattern, ...] = ()
    """Reverse-paths: `["alerts@example.net", "*.example.com"]`. Anybody can write them."""
    exempt_recipients: tuple[MailboxPattern, ...] = ()
    """Recipients whose mail no limit counts: `["postmaster@"]`."""


@dataclass(frozen=True, slots=True)
class Beyond:
    """A limit that has not enough left."""

    taking: Taking
    missing: float

    @property
    def seconds(self) -> int:
        """Until there is enough."""
        return max(1, math.ceil(self.missing / self.taking.limit.per_second - 1e-6))

    @property
    def evidence(self) -> str:
        """The figures."""
        limit = self.taking.limit
        return (
            f"limit {limit.name}: {self.taking.who}: {self.taking.amount:g} {_WHAT[limit.count]} more, {self.missing:g} beyond "
            f"{limit.rate} (burst {limit.most:g}); {self.seconds} s until then"
        )[:1_000]


class RateLimit(Plugin[Options]):
    """Takes, and says who has taken too much."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """OptionError for limits that bear one name, or that a single message could never keep."""
        super().__init__(options, name=name, context=context)
        own = self.options
        self._check(context)
        self._networks = Networks.of(own.exempt_networks)
        self._identities = frozenset(one.casefold() for one in own.exempt_identities)
        self._senders = Mailboxes.of(own.exempt_senders)
        self._recipients = Mailboxes.of(own.exempt_recipients)
        self._by_stage: dict[Stage, list[Limit]] = {"connect": [], "rcpt": [], "data": [], "content": []}
        self._harvest = [one for one in own.limit if one.count == "refused"]
        for one in own.limit:
            if one.count != "refused":
                self._by_stage[one.stage].append(one)
        self._noted: OrderedDict[str, dict[str, Finding]] = OrderedDict()
        self._judged: OrderedDict[str, Defer | Reject] = OrderedDict()
        self._refused: OrderedDict[str, int] = OrderedDict()

    def _check(self, context: Context | None) -> None:
        mistakes: list[OptionMistake] = []
        names = [one.name for one in self.options.limit]
        bounds = {} if context is None else context.limits
        for number, one in enumerate(self.options.limit):
            if one.name in names[:number]:
                mistakes.append(OptionMistake(key=("limit", number, "name"), found=repr(one.name), allowed="each name once"))
            least = 1
            if one.count == "octets":
                least = bounds.get("message_size", 1)
            elif one.count == "recipients" and one.stage == "content":
                least = bounds.get("recipients", 1)
            if one.most < least:
                key = ("limit", number, "rate" if one.burst is None else "burst")
                allowed = f"a burst of {least} or more, which one message may have by [limits]"
                mistakes.append(OptionMistake(key=key, found=f"a burst of {one.most:g}", allowed=allowed))
        if mistakes:
            raise OptionError(*mistakes)

    @hook
    async def connect(self, session: Session) -> Defer | Reject | None:
        """Connections, and what clients have guessed before."""
        if self._is_exempt(session):
            return None
        found = await self._look(session, session.id) or await self._take("connect", session, None, [], None)
        return self._greeting(found) if found is not None else None

    @hook
    async def rcpt(self, transaction: Transaction, recipient: Recipient) -> Defer | Reject | None:
        """What is counted by recipient; refused recipients of the session so far."""
        session = transaction.session
        if self._is_exempt(session, transaction) or mailbox_key(recipient.forward_path) in self._recipients:
            return None
        if self._harvest:
            await self._count_refused(session)
            if (beyond := await self._look(session, transaction.id)) is not None:
                return self._verdict(beyond)
        found = await self._take("rcpt", session, transaction, [recipient], None)
        return self._verdict(found) if found is not None else None

    @hook
    async def data(self, transaction: Transaction) -> Defer | Reject | None:
        """Messages."""
        if self._is_exempt(transaction.session, transaction):
            return None
        recipients = self._counted(transaction.recipients)
        if not recipients:
            return None
        found = await self._take("data", transaction.session, transaction, recipients, None)
        return self._verdict(found) if found is not None else None

    @hook
    async def check(self, transaction: Transaction, message: Message) -> list[Finding]:
        """What needs the content; and what was found before, for the judges."""
        if self._by_stage["content"] and not self._is_exempt(transaction.session, transaction):
            recipients = self._counted(transaction.undecided)
            found = await self._take("content", transaction.session, transaction, recipients, message) if recipients else None
            if found is not None:
                _keep(self._judged, transaction.id, self._verdict(found))
        whole = {**self._noted.get(transaction.session.id, {}), **self._noted.pop(transaction.id, {})}
        return list(whole.values())

    @hook(cheap=True)
    def judge(self, transaction: Transaction) -> Defer | Reject | None:
        """What `check` has found to be too much."""
        return self._judged.pop(transaction.id, None)

    @hook(cheap=True)
    def done(self, transaction: Transaction) -> None:
        """Forget the transaction."""
        self._noted.pop(transaction.id, None)
        self._judged.pop(transaction.id, None)

    @hook
    async def disconnect(self, session: Session) -> None:
        """Count what was refused since the last recipient, and forget the session."""
        self._noted.pop(session.id, None)
        if self._harvest and not self._is_exempt(session):
            await self._count_refused(session)
        self._refused.pop(session.id, None)

    def _is_exempt(self, session: Session, transaction: Transaction | None = None) -> bool:
        if session.client_address in self._networks or (session.identity and session.identity.casefold() in self._identities):
            return True
        if transaction is None or transaction.reverse_path.is_null:
            return False
        return mailbox_key(transaction.reverse_path) in self._senders

    def _counted(self, recipients: Iterable[Recipient]) -> list[Recipient]:
        return [one for one in recipients if mailbox_key(one.forward_path) not in self._recipients]

    async def _take(
        self,
        stage: Stage,
        session: Session,
        transaction: Transaction | None,
        recipients: list[Recipient],
        message: Message | None,
    ) -> Beyond | None:
        """From every bucket of a stage; the first that has not enough and refuses. What was taken is given back then."""
        taken: list[Taking] = []
        about = transaction.id if transaction is not None else session.id
        for limit in self._by_stage[stage]:
            for one in takings(limit, session, transaction, recipients, message):
                left = await self._from(one)
                self._count(limit, left)
                if left < 0 and limit.then != "score":
                    for before in taken:
                        await self._from(replace(before, amount=-before.amount))
                    return Beyond(one, -left)
                if left >= 0:
                    taken.append(one)
                self._note(about, one, left)
        return None

    async def _look(self, session: Session, about: str) -> Beyond | None:
        """A limit on refused recipients that has nothing left: one is taken and given back."""
        for limit in self._harvest:
            for one in takings(limit, session, None, [], None):
                left = await self._from(one)
                if left >= 0:
                    left = await self._from(replace(one, amount=-one.amount))
                self._count(limit, left)
                if left < 0 and limit.then != "score":
                    return Beyond(one, -left)
                self._note(about, one, left)
        return None

    async def _count_refused(self, session: Session) -> None:
        """Take for the recipients that were refused since the last look, as far as there is something left."""
        new = session.unknown_recipients - self._refused.get(session.id, 0)
        if new <= 0:
            return
        _keep(self._refused, session.id, session.unknown_recipients, most=MAX_SESSIONS)
        for limit in self._harvest:
            for one in takings(limit, session, None, [], None):
                wanted = replace(one, amount=min(float(new), limit.most))
                left = await self._from(wanted)
                if left < 0 and (rest := wanted.amount + left) > 0:
                    await self._from(replace(one, amount=rest))

    async def _from(self, one: Taking) -> float:
        return await self.context.store.take(one.key, one.amount, rate=one.limit.per_second, burst=one.limit.most)

    def _note(self, about: str, one: Taking, left: float) -> None:
        """What is left, and a score where that is nothing: one of each for a transaction, however many recipients it has."""
        limit = one.limit
        found = dict(self._noted.get(about, ()))
        found[limit.name] = Fact(name=f"{self.name}.{limit.name}", value=round(max(left, 0.0), 1))
        if left < 0:
            symbol = f"RATELIMIT_{limit.name.upper().replace('-', '_')}"
            found[symbol] = Score(symbol=symbol, weight=limit.weight, evidence=Beyond(one, -left).evidence)
        _keep(self._noted, about, found)

    def _verdict(self, beyond: Beyond) -> Defer | Reject:
        limit = beyond.taking.limit
        what, reason = _WHAT[limit.count], f"ratelimit-{limit.name}"
        if limit.then == "reject":
            return reject(f"Too many {what}", code=550, enhanced="5.7.1", reason=reason, evidence=beyond.evidence)
        return defer(
            f"Too many {what}, please come back in {beyond.seconds} seconds",
            code=451,
            enhanced="4.7.1",
            reason=reason,
            evidence=beyond.evidence,
        )

    def _greeting(self, beyond: Beyond) -> Defer | Reject:
        """The same in the place of the greeting (RFC 5321 3.1)."""
        refused = self._verdict(beyond)
        return replace(refused, code=554) if isinstance(refused, Reject) else replace(refused, code=421)

    def _count(self, limit: Limit, left: float) -> None:
        self.context.metrics.count("takings", limit=limit.name, result="within" if left >= 0 else "beyond")


def _keep(where: OrderedDict[str, T], key: str, value: T, *, most: int = MAX_NOTED) -> None:
    where[key] = value
    if len(where) > most:
        where.popitem(last=False)
