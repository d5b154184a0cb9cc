"""Believe the Authentication-Results of another gateway of ours in front of this one (RFC 8601 4.1, 5, 7.1).

Behind another gateway the client's address is that gateway's: SPF and reverse names cannot be checked any more. What it found out
stands in the field that it wrote, and this plugin makes findings of it, as if they had been found here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from gateway import AuthResult, Edit, Fact, Finding, HeaderField, Message, Plugin, PluginOptions, Session, Transaction, hook
from gateway.mailauth.results import FIELD, Names, Reading, Resinfo, read_id, read_results, remove_forged

METHODS = ("spf", "dkim", "dmarc", "arc", "iprev", "auth")
MAX_FIELDS = 20
"""Authentication-Results fields that are looked at, from the top."""
MAX_OCTETS = 20_000
"""Octets of them together."""
# RFC 5322 3.6.1 to 3.6.6, RFC 2045 3: what authors write. No gateway puts its results below that.
_OF_AUTHORS = re.compile(
    r"(?:resent-)?(?:date|from|sender|to|cc|bcc|message-id)|reply-to|in-reply-to|references|subject|comments|keywords"
    r"|mime-version|content-.*",
    re.IGNORECASE,
)


class Trusted(BaseModel):
    """One gateway."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    id: str = Field(min_length=1, max_length=255)
    """Its authserv-id."""
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = Field(min_length=1)
    """Where its mail comes from: itself, or what stands between it and us."""
    methods: tuple[str, ...] = METHODS
    """Whose results are taken over."""
    hops: int = Field(default=1, ge=1, le=10)
    """Received fields that hosts of ours have written when its mail arrives here: its own, and one for each host between."""


class Options(PluginOptions):
    """`[plugin.upstream]`."""

    trusted: tuple[Trusted, ...] = ()
    """The gateways: `[{ id = "mx1.example.org", networks = ["192.0.2.0/24"] }]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamResult(AuthResult):
    """A result that another gateway of ours found."""

    upstream: str = ""
    """Its authserv-id."""


class Upstream(Plugin[Options]):
    """The plugin."""

    gives: ClassVar[tuple[str, ...]] = tuple(f"auth.{method}" for method in METHODS)

    @cached_property
    def _names(self) -> Names:
        return Names(gateway.id for gateway in self.options.trusted)

    @hook(cheap=True)
    def check(self, transaction: Transaction, message: Message) -> list[Finding]:
        """The results of the gateway that the client is, or stands behind."""
        found: list[Finding] = []
        for gateway in self._in_front(transaction.session):
            places = _trusted_places(message, gateway)
            read = [(read_results(field.raw), field) for place, field in _fields(message) if place in places]
            for reading, _ in read:
                found += _findings(reading, gateway)
            found.append(Fact(name="upstream.id", value=gateway.id))
            found.append(Fact(name="upstream.fields", value=len(read)))
            problems = [problem for reading, _ in read for problem in _problems(reading)]
            if problems:
                found.append(Fact(name="upstream.problems", value="; ".join(problems[:10])))
        return found

    @hook(cheap=True)
    def rewrite(self, transaction: Transaction, message: Message) -> Sequence[Edit]:
        """Cut the fields that claim to be of one of the gateways and are not."""
        if not self.options.trusted:
            return ()
        keep: set[int] = set()
        for gateway in self._in_front(transaction.session):
            keep |= _trusted_places(message, gateway)
        edits, forged = remove_forged(message, self._names, keep=keep)
        if forged:
            self.context.metrics.count("forged_fields_removed", forged)
        return edits

    def _in_front(self, session: Session) -> Iterator[Trusted]:
        """The gateways that mail of this client may come from."""
        try:
            address = ipaddress.ip_address(session.client_address.partition("%")[0])
        except ValueError:
            return
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        for gateway in self.options.trusted:
            if any(address in network for network in gateway.networks):
                yield gateway


def _fields(message: Message) -> Iterator[tuple[int, HeaderField]]:
    return iter(enumerate(message.fields_named(FIELD)))


def _trusted_places(message: Message, gateway: Trusted) -> set[int]:
    """Which Authentication-Results fields, counted from the top, the gateway has written itself.

    Everything above the last Received field of ours was written by hosts of ours. The field may also stand right below that one:
    then the topmost is the gateway's, and one below it may be the client's that the gateway talked to.
    """
    names = Names((gateway.id,))
    levels: dict[int, list[int]] = {}
    received = place = octets = 0
    for field in message.fields:
        name = field.name.lower()
        if name == "received":
            received += 1
            if received > gateway.hops:
                break
        elif name == FIELD.lower():
            octets += field.end - field.start
            if place >= MAX_FIELDS or octets > MAX_OCTETS:
                break
            if read_id(field.raw) in names:
                levels.setdefault(received, []).append(place)
            place += 1
        elif _OF_AUTHORS.fullmatch(name):
            break
    if not levels:
        return set()
    level = min(levels)
    return set(levels[level] if level < gateway.hops else levels[level][:1])


def _findings(reading: Reading, gateway: Trusted) -> Iterator[UpstreamResult]:
    """Of what was read without a doubt; of an unknown version nothing (RFC 8601 2.2)."""
    if reading.version != 1:
        return
    for one in reading.results:
        if one.method in gateway.methods and one.version == 1 and not one.problem:
            yield UpstreamResult(
                method=one.method,
                result=one.result,
                reason=one.reason or one.comment,
                properties=(*_properties(one), ("policy.upstream", gateway.id)),
                upstream=gateway.id,
            )


def _properties(one: Resinfo) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in one.properties if "." in name and name != "policy.upstream")


def _problems(reading: Reading) -> Iterator[str]:
    yield from reading.problems
    if reading.version != 1:
        yield f"version {reading.version} of the field is not known here"
    for one in reading.results:
        if one.version != 1:
            yield f"{one.method}: version {one.version} of the method is not known here"
