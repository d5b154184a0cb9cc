"""Lists in DNS: whether an address or a domain is on one, and what that weighs. RFC 5782.

Nothing here raises for what a list answers or does not answer: it is an `Answer` with a `fault`. A list that lists everything, as dead
ones do, is found out by the entry that no list has, and is not believed; one that fails again and again is left alone for a while.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pydantic import Field, field_validator

from gateway.context import Context, Resolver
from gateway.errors import DnsError
from gateway.plugin import PluginOptions
from gateway.reputation.codes import Codes, Weight, parse_pattern
from gateway.reputation.keys import LISTED, NOT_LISTED, Key, Kind, plain_domain

FAILURES = 5
"""In a row: then a list is not asked for REST seconds."""
REST = 60.0
MAX_RECORDS = 50
"""Records of one answer that are read."""
MAX_QUESTIONS = 400
"""Of one message."""
_SHOWN = 200
_MAX_NAME = 253
_NOT_THEIRS = frozenset({"budget", "overload", "closed"})
"""Causes of a DnsError that say nothing about the list."""


class ListOptions(PluginOptions):
    """One list."""

    zone: str
    """Name of the list in DNS."""
    symbol: str = Field(default="", pattern=r"^[A-Za-z0-9_]{0,64}$")
    """Of the score; `` makes one from the zone."""
    weight: Weight = 1.0
    """What a listing adds to the total; below zero speaks for the sender; `"allow"` lets the message through whatever others say."""
    weights: dict[str, Weight] = Field(default_factory=dict, max_length=100)
    """Instead of `weight`, by return code: `{ "127.0.0.2" = 3, "127.0.0.10-11" = 1 }`. Codes that are not there count nothing."""
    faults: tuple[str, ...] = ("127.255.255.*",)
    """Return codes that say that the list will not be asked: refused, over quota."""
    explain: bool = False
    """Also ask for the list's own words (TXT), as evidence."""

    @field_validator("zone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        name = plain_domain(value)
        if not name:
            raise ValueError(f"found {value[:100]!r}; allowed: a domain name")
        return name

    @field_validator("weights")
    @classmethod
    def _are_codes(cls, value: dict[str, Weight]) -> dict[str, Weight]:
        for text in value:
            parse_pattern(text)
        return value

    @field_validator("faults")
    @classmethod
    def _are_patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            parse_pattern(text)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one list says of one value."""

    zone: str
    symbol: str
    value: str
    kind: Kind = "domain"
    codes: tuple[str, ...] = ()
    """None: it is not listed, or with a code that counts nothing."""
    weight: float = 0.0
    is_allowed: bool = False
    text: str = ""
    """The list's own words, cleaned."""
    fault: str = ""
    may_allow: bool = False
    """Of a list that did not answer: it could have let the message through."""
    possible: float = 0.0
    """And the most that it could have added."""

    @property
    def evidence(self) -> str:
        """For people."""
        if self.fault:
            return f"{self.zone}: {self.fault}"
        words = f": {self.text}" if self.text else ""
        return f"{self.value} is listed by {self.zone} ({', '.join(self.codes)}){words}"


class DnsList:
    """One list, and how it has behaved in this worker."""

    def __init__(self, options: ListOptions, *, prefix: str, clock: Callable[[], float]) -> None:
        self.options = options
        self.zone = options.zone
        self.symbol = (options.symbol or f"{prefix}_{re.sub(r'[^a-z0-9]', '_', options.zone)}").upper()[:64]
        self.codes = Codes(options.weight, options.weights, options.faults)
        self._clock = clock
        self._failures = 0
        self._rests_until = 0.0
        self._problem = ""

    async def ask(self, resolver: Resolver, key: Key) -> Answer:
        """For as long as the caller waits, who calls `gave_up` when it does not any more."""
        if len(key.labels) + 1 + len(self.zone) > _MAX_NAME:
            return self._not_listed(key)
        if self._rests_until and (now := self._clock()) < self._rests_until:
            return self._failed(key, f"not asked for {self._rests_until - now:.0f} s after {FAILURES} failures: {self._problem}")
        try:
            answer = await self._ask(resolver, key)
        except DnsError as error:
            return self._failed(key, error.what if error.cause in _NOT_THEIRS else self._note(error.what))
        if answer.fault:
            self._note(answer.fault)
        else:
            self._failures = 0
        return answer

    def gave_up(self, key: Key, limit: float) -> Answer:
        """It took too long."""
        return self._failed(key, self._note(f"no answer within {limit:g} s"))

    async def probe(self, resolver: Resolver, kind: Kind) -> str:
        """What is wrong with the list by its test entries (RFC 5782 5); `` when nothing is, or it does not answer now."""
        try:
            if (await resolver.query(f"{NOT_LISTED[kind]}.{self.zone}", "A")).records:
                return f"lists {NOT_LISTED[kind]}, so it lists everything"
            if kind in LISTED and not (await resolver.query(f"{LISTED[kind]}.{self.zone}", "A")).records:
                return f"does not list its test entry {LISTED[kind]}: it may be dead"
        except DnsError as error:
            return "" if error.cause in _NOT_THEIRS else f"does not answer: {error.what}"
        return ""

    async def _ask(self, resolver: Resolver, key: Key) -> Answer:
        name = f"{key.labels}.{self.zone}"
        records = [str(one) for one in (await resolver.query(name, "A")).records[:MAX_RECORDS]]
        if not records:
            return self._not_listed(key)
        reading = self.codes.read(records)
        if reading.fault:
            return self._failed(key, reading.fault)
        if not reading.counted:
            return self._not_listed(key)
        if await self._lists_everything(resolver, key.kind):
            return self._failed(key, f"not believed: it lists {NOT_LISTED[key.kind]} too, so it lists everything")
        return Answer(
            zone=self.zone,
            symbol=self.symbol,
            value=key.value,
            kind=key.kind,
            codes=reading.counted,
            weight=reading.weight,
            is_allowed=reading.is_allowed,
            text=await self._words(resolver, name),
        )

    async def _lists_everything(self, resolver: Resolver, kind: Kind) -> bool:
        """Asked where somebody is listed only; mostly it is in the cache."""
        try:
            return bool((await resolver.query(f"{NOT_LISTED[kind]}.{self.zone}", "A")).records)
        except DnsError:
            return False

    async def _words(self, resolver: Resolver, name: str) -> str:
        if not self.options.explain:
            return ""
        try:
            records = (await resolver.query(name, "TXT")).records
        except DnsError:
            return ""
        return shown(b"".join(records[0]).decode("ascii", "replace")) if records else ""

    def _not_listed(self, key: Key) -> Answer:
        return Answer(zone=self.zone, symbol=self.symbol, value=key.value, kind=key.kind)

    def _failed(self, key: Key, fault: str) -> Answer:
        return Answer(
            zone=self.zone,
            symbol=self.symbol,
            value=key.value,
            kind=key.kind,
            fault=shown(fault),
            may_allow=self.codes.may_allow,
            possible=self.codes.most,
        )

    def _note(self, problem: str) -> str:
        self._failures += 1
        if self._failures >= FAILURES:
            self._failures = FAILURES - 1  # one more failure behind it, and it rests again
            self._rests_until = self._clock() + REST
            self._problem = problem
        return problem


async def ask_all(questions: Iterable[tuple[DnsList, Key]], resolver: Resolver, limit: float) -> tuple[Answer, ...]:
    """Every list at once. Each question is asked once; what is beyond MAX_QUESTIONS is not asked."""
    asked = list(dict.fromkeys(questions))[:MAX_QUESTIONS]
    if not asked:
        return ()
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(one.ask(resolver, key)) for one, key in asked]
    try:
        await asyncio.wait(tasks, timeout=limit)
    finally:
        for task in tasks:
            task.cancel()  # those that are done are left as they are
    return tuple(
        task.result() if task.done() and not task.cancelled() else one.gave_up(key, limit)
        for task, (one, key) in zip(tasks, asked, strict=True)
    )


async def watch(lists: Sequence[tuple[DnsList, Kind]], context: Context, interval: float) -> None:
    """Lists die, or begin to list everything: the log says so, once each time their test entries are looked at."""
    while True:
        problems = await asyncio.gather(*(one.probe(context.resolver, kind) for one, kind in lists))
        for (one, _), problem in zip(lists, problems, strict=True):
            if problem:
                context.log.warning("plugin.list_unusable", zone=one.zone, problem=shown(problem))
                context.metrics.count("unusable_lists", zone=one.zone)
        await asyncio.sleep(interval)


def shown(text: str) -> str:
    """A stranger's text fit for a log or a reply: printable ASCII in one line, bounded."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in text[: _SHOWN + 1])
    return plain if len(plain) <= _SHOWN else plain[: _SHOWN - 3] + "..."
