"""What one message may cost in DNS: look-ups and seconds, whoever in its hooks spends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway import DnsError, Plugin, hook
from gateway.config.models import DnsConfig
from gateway.dns import CachingResolver
from gateway.dns_account import ACCOUNT, DnsAccount
from gateway.testing import Clock, FakeContext, StubDnsServer, a_session, a_transaction, run_chain
from gateway.testing.dns_lies import SILENT

pytestmark = pytest.mark.usefixtures("backend")

Ask = Callable[[str], Awaitable[str]]


@asynccontextmanager
async def a_resolver(clock: Clock | None = None, *, stub: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[Any]:
    async with StubDnsServer({"known.example": {"A": ["192.0.2.1"]}}, **(stub or {})) as server:
        resolver = CachingResolver(DnsConfig(nameservers=(server.address,), **settings), clock=clock or Clock())
        yield resolver, server
        await resolver.close()


class Asks(Plugin):
    """Each hook looks three names up and notes what came of it."""

    def __init__(self, ask: Callable[[Asks, str], Awaitable[None]]) -> None:
        super().__init__()
        self.seen: list[str] = []
        self._ask = ask

    async def one(self, name: str) -> None:
        try:
            answer = await self.context.resolver.query(name, "A")
        except DnsError as error:
            self.seen.append(error.cause)
        else:
            self.seen.append("cached" if answer.cached else "asked")

    @hook
    async def mail(self) -> None:
        await self._ask(self, "mail")

    @hook
    async def check(self) -> None:
        await self._ask(self, "check")

    @hook
    async def sign(self) -> None:
        await self._ask(self, "sign")


async def in_turn(plugin: Asks, stage: str) -> None:
    for number in range(3):
        await plugin.one(f"{stage}{number}.example")


async def in_tasks(plugin: Asks, stage: str) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(plugin.one(f"{stage}{number}.example"))


async def in_the_background(plugin: Asks, stage: str) -> None:
    done = asyncio.Event()

    async def work() -> None:
        await in_turn(plugin, stage)
        done.set()

    plugin.context.spawn(work(), name="look up")
    await done.wait()


@pytest.mark.parametrize("ask", [in_turn, in_tasks, in_the_background])
async def test_all_hooks_of_a_transaction_and_their_tasks_spend_from_one_budget(ask: Any) -> None:
    async with a_resolver(transaction_look_ups=7) as (resolver, server):
        plugin = Asks(ask)
        result = await run_chain([plugin], context=FakeContext(resolver=resolver))
        assert sorted(plugin.seen) == ["asked"] * 7 + ["budget"] * 2
        assert len(server.queries) == 7
        trace = result.transaction.trace
        assert trace is not None
        account = trace.dns_account
        assert account is not None
        assert (account.look_ups, account.refused) == (7, 2)
        told = [step for step in result.trace if step["stage"] == "dns"]  # once, for whoever asks why
        assert [(step["outcome"], step["evidence"].partition(",")[0]) for step in told] == [
            ("budget", "spent: 7 look-ups at name servers")
        ]


async def test_the_next_transaction_has_a_budget_of_its_own() -> None:
    async with a_resolver(transaction_look_ups=9, cache_size=0) as (resolver, _):
        for _ in range(2):
            plugin = Asks(in_turn)
            await run_chain([plugin], context=FakeContext(resolver=resolver))
            assert plugin.seen == ["asked"] * 9


async def test_what_is_known_costs_nothing_and_comes_also_after_the_budget() -> None:
    async with a_resolver(transaction_look_ups=1) as (resolver, server):
        await resolver.query("known.example", "A")
        plugin = Asks(lambda me, stage: asyncio.gather(me.one("known.example"), me.one(f"{stage}.example")))  # type: ignore[arg-type, return-value] # a coroutine or a future, either is awaited
        await run_chain([plugin], context=FakeContext(resolver=resolver))
        assert plugin.seen == ["cached", "asked", "cached", "budget", "cached", "budget"]
        assert len(server.queries) == 2


async def test_an_old_answer_stands_in_when_the_budget_is_spent() -> None:
    clock = Clock()
    async with a_resolver(clock, transaction_look_ups=1, stub={"ttl": 10}) as (resolver, _):
        await resolver.query("known.example", "A")
        clock.move(10)
        ACCOUNT.set(DnsAccount())
        await resolver.query("other.example", "A")
        assert (await resolver.query("known.example", "A")).stale


async def test_time_is_what_the_client_waits_however_many_are_asked_at_once() -> None:
    names = [f"slow{number}.example" for number in range(20)]
    async with a_resolver(transaction_time=5, stub={"delay": dict.fromkeys(names, 0.05)}) as (resolver, _):
        account = DnsAccount()
        ACCOUNT.set(account)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(resolver.query(name, "A") for name in names))
        assert 0.05 <= account.seconds(loop.time()) <= loop.time() - began
        spent = account.seconds(loop.time())
        await asyncio.sleep(0.02)
        assert account.seconds(loop.time()) == spent


async def test_when_the_time_is_over_those_who_wait_are_told_and_the_next_ones_at_once() -> None:
    names = [f"silent{number}.example" for number in range(4)]
    async with a_resolver(transaction_time=0.1, timeout=5, stub={"misbehave": dict.fromkeys(names, SILENT)}) as (
        resolver,
        server,
    ):
        ACCOUNT.set(DnsAccount())
        waited = await asyncio.gather(*(resolver.query(name, "A") for name in names[:3]), return_exceptions=True)
        assert [getattr(error, "cause", error) for error in waited] == ["budget"] * 3
        account = ACCOUNT.get()
        assert account is not None
        assert account.refused == 3
        asked = len(server.queries)
        with pytest.raises(DnsError, match=r"budget of 0\.1 s") as raised:
            await resolver.query(names[3], "A")
        assert raised.value.cause == "budget"
        assert len(server.queries) == asked


async def test_a_spent_budget_of_one_is_no_failure_for_another() -> None:
    """The look-up goes on for those who may wait, and its answer is kept."""
    async with a_resolver(transaction_time=0.05, stub={"delay": {"known.example": 0.2}}) as (resolver, server):
        loop = asyncio.get_running_loop()
        patient = loop.create_task(resolver.query("known.example", "A"))
        await asyncio.sleep(0)
        ACCOUNT.set(DnsAccount())
        with pytest.raises(DnsError, match="budget"):
            await resolver.query("known.example", "A")
        assert (await patient).records
        assert (await resolver.query("known.example", "A")).cached
        assert len(server.queries) == 1


async def test_look_ups_of_nobodys_transaction_have_no_budget() -> None:
    async with a_resolver(transaction_look_ups=1) as (resolver, server):
        for number in range(5):
            await resolver.query(f"route{number}.example", "MX")
        assert len(server.queries) == 5


async def test_hooks_before_a_transaction_spend_from_the_sessions_budget() -> None:
    class Connects(Asks):
        @hook
        async def connect(self) -> None:
            await in_turn(self, "connect")

        @hook
        async def helo(self) -> None:
            await in_turn(self, "helo")

    async with a_resolver(transaction_look_ups=4) as (resolver, _):
        plugin = Connects(in_turn)
        session = a_session()
        await run_chain([plugin], context=FakeContext(resolver=resolver), session=session, transaction=a_transaction())
        assert plugin.seen[:6] == ["asked"] * 4 + ["budget"] * 2
        assert plugin.seen[6:] == ["asked"] * 4 + ["budget"] * 5


async def test_the_chain_leaves_no_account_behind() -> None:
    async with a_resolver() as (resolver, _):
        await run_chain([Asks(in_turn)], context=FakeContext(resolver=resolver))
        assert ACCOUNT.get() is None


async def test_a_message_within_its_budget_has_no_line_of_it_in_the_trace() -> None:
    async with a_resolver() as (resolver, _):
        result = await run_chain([Asks(in_turn)], context=FakeContext(resolver=resolver))
        assert not [step for step in result.trace if step["stage"] == "dns"]


async def test_a_hook_in_a_thread_spends_from_the_budget_too() -> None:
    class InThread(Plugin):
        seen: str = ""

        @hook
        def judge(self) -> None:
            work = asyncio.run_coroutine_threadsafe(self.look_up(), loop)
            work.result(timeout=5)

        async def look_up(self) -> None:
            for name in ("a.example", "b.example"):
                try:
                    await self.context.resolver.query(name, "A")
                except DnsError as error:
                    self.seen = error.cause

    loop = asyncio.get_running_loop()
    async with a_resolver(transaction_look_ups=1) as (resolver, server):
        plugin = InThread()
        await run_chain([plugin], context=FakeContext(resolver=resolver))
        assert plugin.seen == "budget"
        assert len(server.queries) == 1
