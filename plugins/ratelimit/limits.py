"""A limit as an option, and what it counts: whose bucket, how much of it, and at which of the client's commands. Pure; no I/O."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, TypeAdapter, model_validator

from gateway import (
    Duration,
    Message,
    PluginOptions,
    Recipient,
    Session,
    Size,
    Transaction,
    client_network,
    mailbox_key,
    sender_key,
)

MAX_AUTHORS = 5
"""Domains of From that are counted for one message."""
_RATE = re.compile(r"(?P<number>\S+) per (?P<period>\S+)")
_SIZE: TypeAdapter[int] = TypeAdapter(Size)
_DURATION: TypeAdapter[float] = TypeAdapter(Duration)

Key = Literal[
    "client",
    "network",
    "reverse_path",
    "reverse_path_domain",
    "author_domain",
    "recipient",
    "recipient_domain",
    "identity",
    "listener",
    "everybody",
]
Stage = Literal["connect", "rcpt", "data", "content"]
_OF_A_SESSION = frozenset({"client", "network", "identity", "listener", "everybody"})
_BEFORE_THE_GREETING = frozenset({"client", "network", "listener", "everybody"})


def parse_rate(text: str) -> tuple[float, float]:
    """Number and seconds of `100 per 1h` or `500MB per 1d`. ValueError says what is allowed."""
    found = _RATE.fullmatch(text.strip())
    try:
        number, period = (0, 0.0) if found is None else (_SIZE.validate_python(found["number"]), _period(found["period"]))
    except ValueError:
        number, period = 0, 0.0
    if number < 1 or period < 1:
        raise ValueError(f'found {text!r}; allowed: "100 per 1h", "20 per 1m", "500MB per 1d"; a second at least')
    return float(number), period


def _period(text: str) -> float:
    return _DURATION.validate_python(text)


def _check_rate(text: str) -> str:
    parse_rate(text)
    return text


class Limit(PluginOptions):
    """So much of something in so long, of each of whom it is about."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    """For the record, findings and metrics. Another name is another count."""
    of: tuple[Key, ...] = Field(default=("client",), min_length=1, max_length=4)
    """Whose: several mean each combination, `["identity", "recipient_domain"]`."""
    count: Literal["messages", "recipients", "octets", "connections", "refused"] = "messages"
    """What is counted; `refused`: recipients that were refused for good, which those who guess addresses have many of."""
    rate: Annotated[str, AfterValidator(_check_rate)]
    """How much in how long: `"100 per 1h"`, `"500MB per 1d"`."""
    burst: Size | None = Field(default=None, ge=1)
    """How much at once, before the rate counts; by default as much as the rate's number."""
    then: Literal["defer", "reject", "score"] = "defer"
    """What becomes of what is beyond."""
    weight: float = 3.0
    """Of the score, where `then = "score"`."""
    clients: tuple[Literal["authenticated", "trusted", "stranger"], ...] = ("authenticated", "trusted", "stranger")
    """Whose mail is counted."""

    @model_validator(mode="after")
    def _can_be_counted(self) -> Limit:
        allowed = {"connections": _BEFORE_THE_GREETING, "refused": _BEFORE_THE_GREETING}.get(self.count)
        if allowed is not None and (wrong := sorted(set(self.of) - allowed)):
            raise ValueError(f"found count = {self.count!r} of {wrong[0]!r}; allowed: {', '.join(sorted(allowed))}")
        return self

    @property
    def per_second(self) -> float:
        """Of the rate."""
        number, period = parse_rate(self.rate)
        return number / period

    @property
    def most(self) -> float:
        """The burst."""
        return parse_rate(self.rate)[0] if self.burst is None else float(self.burst)

    @property
    def stage(self) -> Stage:
        """Where all that it counts is known first."""
        if self.count in {"connections", "refused"}:
            return "connect"
        if self.count == "octets" or "author_domain" in self.of:
            return "content"
        if self.count == "recipients" or not {"recipient", "recipient_domain"}.isdisjoint(self.of):
            return "rcpt"
        return "data"


@dataclass(frozen=True, slots=True)
class Taking:
    """What one event takes from one bucket."""

    limit: Limit
    who: str
    """For the operator."""
    amount: float

    @property
    def key(self) -> str:
        """In the store. What clients write is hashed: it has the length it has."""
        digest = hashlib.sha256(self.who.encode("utf-8", "replace")).hexdigest()[:32]
        return f"{self.limit.name}/{digest}"


def takings(
    limit: Limit, session: Session, transaction: Transaction | None, recipients: list[Recipient], message: Message | None
) -> Iterator[Taking]:
    """What a limit takes now: one for each combination of whom it is about; none where one of them is not there."""
    if session.client_class.value not in limit.clients:
        return
    if _was_counted(limit, transaction, recipients, message):
        return
    whole = message.size if limit.count == "octets" and message is not None else 1
    by_recipient = not {"recipient", "recipient_domain"}.isdisjoint(limit.of)
    seen: dict[str, float] = {}
    asked: list[Recipient | None] = [*recipients] if by_recipient else [None]
    for recipient in asked:
        for who in _combinations(limit.of, session, transaction, recipient, message):
            each = len(recipients) if limit.count == "recipients" and not by_recipient and recipients else whole
            is_again = who in seen and limit.count == "messages"
            seen[who] = seen.get(who, 0.0) + (0.0 if is_again else each)
    for who, amount in seen.items():
        yield Taking(limit, who, min(amount, limit.most))


def _was_counted(limit: Limit, transaction: Transaction | None, recipients: list[Recipient], message: Message | None) -> bool:
    """At RCPT: a message to several recipients of a domain is one message."""
    if (
        limit.count != "messages"
        or "recipient" in limit.of
        or transaction is None
        or message is not None
        or limit.stage != "rcpt"
    ):
        return False
    domains = {one.domain for one in transaction.recipients if one not in recipients}
    return all(one.domain in domains for one in recipients)


def _combinations(
    of: tuple[Key, ...],
    session: Session,
    transaction: Transaction | None,
    recipient: Recipient | None,
    message: Message | None,
) -> list[str]:
    found = [""]
    for key in of:
        values = _VALUES[key](session, transaction, recipient, message)
        found = [f"{front}, {value}" if front else value for front in found for value in values]
    return found


_Values = Callable[[Session, Transaction | None, Recipient | None, Message | None], list[str]]


def _client(session: Session, *_: object) -> list[str]:
    return [client_network(session.client_address, ipv4=32, ipv6=128).partition("/")[0] or "unknown"]


def _network(session: Session, *_: object) -> list[str]:
    return [client_network(session.client_address) or "unknown"]


def _identity(session: Session, *_: object) -> list[str]:
    return [session.identity] if session.identity else []


def _listener(session: Session, *_: object) -> list[str]:
    return [session.listener]


def _reverse_path(_: Session, transaction: Transaction | None, *__: object) -> list[str]:
    if transaction is None or transaction.reverse_path.is_null:  # bounces have no sender in common
        return []
    return [f"<{sender_key(transaction.reverse_path, exact=True).address}>"]


def _reverse_path_domain(_: Session, transaction: Transaction | None, *__: object) -> list[str]:
    domain = mailbox_key(transaction.reverse_path).domain if transaction is not None else ""
    return [domain] if domain else []


def _recipient(_: Session, __: Transaction | None, recipient: Recipient | None, ___: object) -> list[str]:
    return [f"to <{mailbox_key(recipient.forward_path).address}>"] if recipient is not None else []


def _recipient_domain(_: Session, __: Transaction | None, recipient: Recipient | None, ___: object) -> list[str]:
    domain = mailbox_key(recipient.forward_path).domain if recipient is not None else ""
    return [f"to {domain}"] if domain else []


def _author_domain(_: Session, __: Transaction | None, ___: Recipient | None, message: Message | None) -> list[str]:
    return [f"from {one}" for one in sorted(set(message.author_domains))[:MAX_AUTHORS]] if message is not None else []


def _everybody(*_: object) -> list[str]:
    return ["everybody"]


_VALUES: dict[Key, _Values] = {
    "client": _client,
    "network": _network,
    "reverse_path": _reverse_path,
    "reverse_path_domain": _reverse_path_domain,
    "author_domain": _author_domain,
    "recipient": _recipient,
    "recipient_domain": _recipient_domain,
    "identity": _identity,
    "listener": _listener,
    "everybody": _everybody,
}
