"""Answers past their time stand in while name servers fail: RFC 8767."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.config.models import DnsConfig
from gateway.dns import CachingResolver
from gateway.errors import DnsError
from gateway.testing import Clock, StubDnsServer
from gateway.testing.dns_lies import REFUSED, SERVFAIL, SILENT

pytestmark = pytest.mark.usefixtures("backend")

TTL = 100
ZONES = {"example.org": {"A": ["192.0.2.1"]}}
NEW = {"example.org": {"A": ["192.0.2.2"]}, "missing.example": {"A": ["192.0.2.3"]}}


@asynccontextmanager
async def expired(**settings: Any) -> AsyncIterator[tuple[CachingResolver, StubDnsServer, Clock]]:
    """A resolver that knows two answers whose time is just over."""
    clock = Clock()
    async with StubDnsServer(ZONES, ttl=TTL, negative_ttl=TTL, authenticated=True) as server:
        resolver = CachingResolver(DnsConfig(nameservers=(server.address,), **{"timeout": 0.5, **settings}), clock=clock)
        await resolver.query("example.org", "A")
        await resolver.query("missing.example", "A")
        clock.move(TTL)
        yield resolver, server, clock
        await resolver.close()


@pytest.mark.parametrize("how", [SERVFAIL, REFUSED, SILENT])
async def test_a_failure_is_answered_with_what_was_true_last(how: str) -> None:
    async with expired() as (resolver, server, _):
        server.misbehave = {"example.org": how, "missing.example": how}
        answer = await resolver.query("example.org", "A")
        assert (answer.records, answer.stale, answer.cached) == (("192.0.2.1",), True, True)
        absent = await resolver.query("missing.example", "A")
        assert (absent.exists, absent.stale) == (False, True)


async def test_a_stale_answer_is_not_authenticated(backend: str) -> None:
    if backend == "aiodns":
        return  # nothing is
    async with expired() as (resolver, server, _):
        server.misbehave = {"example.org": SERVFAIL}
        assert not (await resolver.query("example.org", "A")).authenticated
        server.misbehave = {}
        assert (await resolver.query("missing.example", "A")).authenticated


async def test_a_server_that_works_is_asked_first() -> None:
    async with expired() as (resolver, server, _):
        server.use(NEW)
        for name in NEW:
            answer = await resolver.query(name, "A")
            assert (answer.stale, answer.cached) == (False, False)
            assert answer.records == tuple(NEW[name]["A"])


async def test_after_a_failure_servers_are_left_alone_for_half_a_minute() -> None:
    async with expired() as (resolver, server, clock):
        server.misbehave = {"example.org": SERVFAIL}
        await resolver.query("example.org", "A")
        asked = len(server.queries)
        server.misbehave = {}
        clock.move(29)
        assert (await resolver.query("example.org", "A")).stale
        assert len(server.queries) == asked
        clock.move(1)
        assert not (await resolver.query("example.org", "A")).stale


async def test_whoever_waits_long_enough_gets_the_old_answer_and_the_next_one_the_new() -> None:
    async with expired(timeout=5, stale_wait=0.02) as (resolver, server, _):
        server.use(NEW)
        server.delay = {"example.org": 0.1}
        first = await resolver.query("example.org", "A")
        assert (first.records, first.stale) == (("192.0.2.1",), True)
        await asyncio.gather(*resolver._in_flight.values())
        second = await resolver.query("example.org", "A")
        assert (second.records, second.stale, second.cached) == (("192.0.2.2",), False, True)
        assert [name for name, _, _ in server.queries].count("example.org") == 2


async def test_without_a_wait_the_old_answer_comes_at_once_and_one_look_up_refreshes_it() -> None:
    async with expired(timeout=5, stale_wait=0) as (resolver, server, _):
        server.use(NEW)
        answers = await asyncio.gather(*(resolver.query("example.org", "A") for _ in range(20)))
        assert all(answer.stale for answer in answers)
        await asyncio.gather(*resolver._in_flight.values())
        assert (await resolver.query("example.org", "A")).records == ("192.0.2.2",)
        assert [name for name, _, _ in server.queries].count("example.org") == 2


@pytest.mark.parametrize(("stale_limit", "age", "usable"), [(1_000, 999, True), (1_000, 1_000, False), (0, 0, False)])
async def test_an_answer_stands_in_only_so_long(stale_limit: float, age: float, usable: bool) -> None:
    async with expired(stale_limit=stale_limit) as (resolver, server, clock):
        server.misbehave = {"example.org": SERVFAIL}
        clock.move(age)
        if usable:
            assert (await resolver.query("example.org", "A")).stale
        else:
            with pytest.raises(DnsError):
                await resolver.query("example.org", "A")


async def test_that_there_is_no_such_name_any_more_is_an_answer() -> None:
    """RFC 8767 4: a name server that says so is believed."""
    async with expired() as (resolver, server, _):
        server.use({})
        gone = await resolver.query("example.org", "A")
        assert (gone.exists, gone.stale) == (False, False)


async def test_a_new_answer_that_must_not_be_kept_ends_the_old_one() -> None:
    async with expired() as (resolver, server, _):
        server.ttl = 0
        assert not (await resolver.query("example.org", "A")).stale
        server.misbehave = {"example.org": SERVFAIL}
        with pytest.raises(DnsError):
            await resolver.query("example.org", "A")


async def test_the_time_of_an_old_answer_ends_while_servers_are_left_alone() -> None:
    async with expired(stale_limit=10) as (resolver, server, clock):
        server.misbehave = {"example.org": SERVFAIL}
        assert (await resolver.query("example.org", "A")).stale
        clock.move(10)
        with pytest.raises(DnsError, match="a moment ago"):
            await resolver.query("example.org", "A")
