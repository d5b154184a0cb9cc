"""The plugin `greylist`: triplets and their times, networks that are allowed, who is spared, stages, workers that share a store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from typing_extensions import override

from gateway import AuthResult, Defer, Fact, Label, Plugin, PluginError, Score, hook
from gateway.plugins.greylist import MAX_TRANSACTIONS, Greylist, Options
from gateway.plugins.greylist.triplets import State, Times, Triplets
from gateway.store import SqliteStore
from gateway.testing import Clock, EndToEnd, FakeContext, a_session, a_transaction, run_chain
from gateway.testing.context import MemoryStore

DAY = 86_400.0


class Sender:
    """One gateway's greylist, and clients that come to it."""

    def __init__(self, *, context: FakeContext | None = None, **options: Any) -> None:
        self.context = FakeContext() if context is None else context
        self.options = Options.model_validate(options)

    async def result(
        self,
        reverse_path: str = "alice@client.example",
        recipients: Any = ("bob@example.org",),
        *,
        before: list[Plugin[Any]] | None = None,
        on_error: str | None = None,
        **session: Any,
    ) -> Any:
        transaction = a_transaction(reverse_path=reverse_path, recipients=recipients, session=a_session(**session))
        plugins = [*(before or []), Greylist(self.options, name="greylist")]
        return await run_chain(plugins, transaction=transaction, context=self.context, on_error=on_error)

    async def wait(self, *arguments: Any, **facts: Any) -> int:
        """Seconds that a message is asked to wait; 0: it passes."""
        found = await self.result(*arguments, **facts)
        if found.verdict is None:
            return 0
        assert isinstance(found.verdict, Defer)
        assert (found.verdict.code, found.verdict.enhanced, found.verdict.reason) == (451, "4.7.1", "greylisted")
        return int(found.verdict.text.removeprefix("Greylisted, please come back in ").removesuffix(" seconds"))

    def states(self) -> list[str]:
        return [labels["state"] for name, _, labels in self.context.metrics.values if name == "triplets"]


async def test_new_then_early_then_passed_then_known() -> None:
    sender = Sender()
    assert await sender.wait() == 300
    sender.context.clock.move(100.5)
    assert await sender.wait() == 200
    sender.context.clock.move(199.5)
    result = await sender.result()
    assert (result.verdict, result.findings) == (None, (Fact(name="greylist.waited", value=300),))
    result = await sender.result()
    assert (result.verdict, result.findings) == (None, ())
    assert sender.states() == ["new", "early", "passed", "known"]


async def test_the_evidence_has_the_triplet() -> None:
    sender = Sender()
    verdict = (await sender.result("Prvs=4713a8c3d1=Alice@Client.example", ["BOB@example.org"])).verdict
    assert verdict.evidence == "new: 192.0.2.0/24, <alice@client.example>, <bob@example.org>; 300 s left"
    assert (await sender.result()).verdict.evidence.startswith("back too soon: 192.0.2.0/24")


async def test_the_window_ends_and_the_lifetime_begins_anew_with_each_use() -> None:
    sender = Sender(retry_window="1h", lifetime="10d", auto_allow=0)
    assert await sender.wait() == 300
    sender.context.clock.move(3_601)
    assert await sender.wait() == 300
    sender.context.clock.move(301)
    assert await sender.wait() == 0
    for _ in range(3):
        sender.context.clock.move(9 * DAY)
        assert await sender.wait() == 0
    sender.context.clock.move(10 * DAY + 1)
    assert await sender.wait() == 300


async def test_triplets_differ_by_network_sender_and_recipient() -> None:
    sender = Sender()
    assert await sender.wait() == 300
    sender.context.clock.move(300)
    assert await sender.wait(client_address="192.0.3.1") == 300
    assert await sender.wait("carol@client.example") == 300
    assert await sender.wait(recipients=["carol@example.org"]) == 300
    assert await sender.wait(client_address="192.0.2.200") == 0
    assert await sender.wait("Alice+news@client.example", ["BOB@Example.org"], client_address="::ffff:192.0.2.9") == 0


async def test_ipv6_networks() -> None:
    sender = Sender()
    assert await sender.wait(client_address="2001:db8:1:2::1") == 300
    sender.context.clock.move(300)
    assert await sender.wait(client_address="2001:db8:1:3::1") == 300
    assert await sender.wait(client_address="2001:db8:1:2:ffff::9") == 0


async def test_without_normalising() -> None:
    sender = Sender(normalise=False)
    assert await sender.wait("prvs=4713a8c3d1=alice@client.example") == 300
    sender.context.clock.move(300)
    assert await sender.wait("prvs=4714b8c3d2=alice@client.example") == 300
    assert await sender.wait("prvs=4713a8c3d1=alice@client.example") == 0


async def test_a_network_that_passed_often_enough_is_allowed() -> None:
    sender = Sender(auto_allow=2)
    for name in ("alice", "bob", "carol"):
        assert await sender.wait(f"{name}@client.example") == 300
    sender.context.clock.move(300)
    assert await sender.wait("alice@client.example") == 0
    assert await sender.wait("alice@client.example") == 0  # the same triplet counts once
    assert await sender.wait("dave@client.example") == 300
    assert await sender.wait("bob@client.example") == 0
    assert await sender.wait("erin@client.example") == 0
    assert await sender.wait("erin@client.example", client_address="198.51.100.1") == 300
    assert sender.states()[-2:] == ["allowed", "new"]


async def test_clients_without_an_address_share_a_network_that_is_never_allowed() -> None:
    sender = Sender(auto_allow=1)
    for name in ("alice", "bob"):
        assert await sender.wait(f"{name}@client.example", client_address="") == 300
        sender.context.clock.move(300)
        assert await sender.wait(f"{name}@client.example", client_address="") == 0


async def test_a_flood_of_new_triplets_is_not_remembered() -> None:
    sender = Sender(new_per_hour=10, auto_allow=0)
    waits = [await sender.wait(f"{chr(97 + n)}@client.example") for n in range(12)]
    assert waits == [300] * 12
    assert sender.states() == ["new"] * 10 + ["flood"] * 2
    assert "not remembered" in (await sender.result("z@client.example")).verdict.evidence
    sender.context.clock.move(300)
    assert await sender.wait("a@client.example") == 0
    assert await sender.wait("l@client.example", client_address="198.51.100.1") == 300


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({}, {"identity": "alice"}),
        ({}, {"client_class": "trusted"}),
        ({"exempt_networks": ["192.0.2.0/28"]}, {}),
        ({"exempt_networks": ["2001:db8::/32"]}, {"client_address": "2001:db8:1::1"}),
        ({"exempt_names": ["*.client.example"]}, {"client_name": "MX.client.example"}),
        ({"exempt_names": ["mx.client.example"]}, {}),  # by DNS
        ({"exempt_senders": ["client.example"]}, {}),
        ({"exempt_senders": ["Alice@client.example"]}, {}),
        ({"exempt_recipients": ["bob@"]}, {}),
        ({"exempt_recipients": ["*.org"]}, {}),
    ],
)
async def test_who_is_never_asked(options: dict[str, Any], facts: dict[str, Any]) -> None:
    zones = {"1.2.0.192.in-addr.arpa": {"PTR": ["mx.client.example"]}, "mx.client.example": {"A": ["192.0.2.1"]}}
    sender = Sender(context=FakeContext(zones=zones), **options)
    assert await sender.wait(**facts) == 0
    assert sender.states() == ["exempt"]


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"exempt_networks": ["192.0.2.128/25"]}, {}),
        ({"exempt_names": ["*.mx.client.example", "client.example"]}, {"client_name": "mx.client.example"}),
        ({"exempt_names": ["mx.client.example"]}, {"client_address": "192.0.2.2"}),  # its name does not lead back
        ({"exempt_senders": ["*.client.example", "bob@client.example"]}, {}),
        ({"exempt_recipients": ["alice@", "example.net"]}, {}),
    ],
)
async def test_who_is_asked_all_the_same(options: dict[str, Any], facts: dict[str, Any]) -> None:
    zones = {"2.2.0.192.in-addr.arpa": {"PTR": ["mx.client.example"]}, "mx.client.example": {"A": ["192.0.2.1"]}}
    assert await Sender(context=FakeContext(zones=zones), **options).wait(**facts) == 300


async def test_at_rcpt_each_recipient_has_its_own_answer() -> None:
    sender = Sender(exempt_recipients=["postmaster@"])
    assert await sender.wait() == 300
    sender.context.clock.move(300)
    result = await sender.result(recipients=["bob@example.org", "carol@example.org", "postmaster@example.org"])
    deferred = [name for name, decision in result.decisions.items() if decision is not None]
    assert deferred == ["carol@example.org"]


@pytest.mark.parametrize("stage", ["data", "content"])
async def test_later_the_message_waits_as_a_whole(stage: str) -> None:
    sender = Sender(stage=stage)
    assert await sender.wait() == 300
    sender.context.clock.move(300)
    result = await sender.result(recipients=["bob@example.org", "carol@example.org"])
    assert {decision.verdict.reason for decision in result.decisions.values()} == {"greylisted"}
    assert result.decision.hook == {"data": "data", "content": "judge"}[stage]
    sender.context.clock.move(300)
    assert await sender.wait(recipients=["bob@example.org", "carol@example.org"]) == 0


@pytest.mark.parametrize(("null_sender", "where"), [("data", "data"), ("rcpt", "rcpt"), ("never", "")])
async def test_the_null_reverse_path(null_sender: str, where: str) -> None:
    decision = (await Sender(null_sender=null_sender).result("")).decision
    assert (decision.hook if decision is not None else "") == where


async def test_the_null_reverse_path_never_at_content() -> None:
    assert await Sender(stage="content", null_sender="never").wait("") == 0


class Finds(Plugin):
    """Gives findings."""

    def __init__(self, *findings: Any) -> None:
        super().__init__(name="finds")
        self._findings = findings

    @hook(cheap=True)
    def check(self) -> list[Any]:
        return list(self._findings)


SPF_PASS = AuthResult(method="spf", result="pass")


@pytest.mark.parametrize(
    ("options", "findings", "is_asked"),
    [
        ({}, [SPF_PASS], True),
        ({"skip_when": ["spf=pass"]}, [SPF_PASS], False),
        ({"skip_when": ["spf=pass"]}, [AuthResult(method="spf", result="fail")], True),
        ({"skip_when": ["label:list"]}, [Label(name="list")], False),
        ({"skip_when": ["score:DNSWL_HI"]}, [Score(symbol="DNSWL_HI", weight=-3)], False),
        ({"skip_when": ["fact:geoip.country=NL"]}, [Fact(name="geoip.country", value="NL")], False),
        ({"skip_when": ["fact:geoip.country=NL"]}, [Fact(name="geoip.country", value="DE")], True),
        ({"skip_when": ["fact:seen"]}, [Fact(name="seen", value=True)], False),
        ({"skip_when": ["fact:seen"]}, [Fact(name="seen", value=False)], True),
        ({"skip_when": ["fact:seen=true"]}, [Fact(name="seen", value=True)], False),
        ({"only_when": ["spf=fail"]}, [SPF_PASS], False),
        ({"only_when": ["spf=fail", "spf=pass"]}, [SPF_PASS], True),
        ({"min_score": 2.0}, [Score(symbol="A", weight=1), Score(symbol="B", weight=1)], True),
        ({"min_score": 2.5}, [Score(symbol="A", weight=1), Score(symbol="B", weight=1)], False),
        ({"min_score": 2.0, "only_when": ["spf=pass"]}, [SPF_PASS], True),
        ({"min_score": 1.0, "skip_when": ["spf=pass"]}, [SPF_PASS, Score(symbol="A", weight=9)], False),
    ],
)
async def test_only_what_is_suspicious(options: dict[str, Any], findings: list[Any], is_asked: bool) -> None:
    sender = Sender(stage="content", **options)
    assert (await sender.wait(before=[Finds(*findings)]) == 300) is is_asked


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"skip_when": ["spf=pass"]}, 'allowed: stage = "content"'),
        ({"stage": "content", "skip_when": ["spf pass"]}, 'allowed: "spf=pass"'),
        ({"stage": "content", "skip_when": ["label:a=b"]}, 'allowed: "spf=pass"'),
        ({"retry_window": "5m"}, "retry_window"),
        ({"exempt_networks": ["192.0.2.1/24"]}, "allowed: a network"),
        ({"exempt_names": ["*"]}, "allowed: a name"),
        ({"exempt_senders": ["a b@example.org"]}, 'allowed: "alice@example.org"'),
        ({"exempt_recipients": ["alice@*.example.org"]}, 'allowed: "alice@example.org"'),
        ({"exempt_recipients": [""]}, 'allowed: "alice@example.org"'),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as error:
        Options.model_validate(options)
    assert told in str(error.value)


class NoStore(MemoryStore):
    """A store that is down."""

    @override
    async def get(self, key: str) -> bytes | None:
        raise OSError(f"no {key}")


async def test_a_store_that_is_down_is_a_fault_of_the_plugin() -> None:
    sender = Sender(auto_allow=0)
    sender.context.store = NoStore(sender.context.clock)
    with pytest.raises(PluginError, match="no p/"):
        await sender.result()
    assert (await sender.result(on_error="defer")).verdict.reason == "plugin-error"
    assert (await sender.result(on_error="ignore")).verdict is None


async def test_what_is_noted_is_bounded_and_forgotten() -> None:
    plugin = Greylist(name="greylist", context=FakeContext())
    for n in range(MAX_TRANSACTIONS + 10):
        plugin._note(a_transaction(id=str(n)), 1.0)
    assert len(plugin._waited) == MAX_TRANSACTIONS
    transaction = a_transaction(id=str(MAX_TRANSACTIONS))
    plugin.done(transaction)
    assert plugin.check(transaction) is None


TIMES = Times(delay=300, window=DAY, lifetime=30 * DAY, allow_after=3, new_per_hour=1_000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_two_workers_set_one_time_and_count_a_triplet_once(tmp_path: Path, clock: Clock) -> None:
    stores = [await SqliteStore.open(tmp_path / "store.sqlite", clock=clock) for _ in range(3)]
    try:
        workers = [Triplets(store, TIMES) for store in stores]
        seen = await asyncio.gather(*(worker.see("192.0.2.0/24", "a", "b", clock()) for worker in workers * 5))
        assert [one.state for one in seen].count(State.NEW) == 1
        assert {one.state for one in seen} <= {State.NEW, State.EARLY}
        clock.move(300)
        seen = await asyncio.gather(*(worker.see("192.0.2.0/24", "a", "b", clock()) for worker in workers * 5))
        assert all(one.wait == 0 for one in seen)
        assert await stores[0].get("n/192.0.2.0/24") == b"1"
    finally:
        for store in stores:
            await store.close()


@given(st.lists(st.tuples(st.floats(0, 200), st.integers(0, 2)), max_size=30))
async def test_nobody_passes_before_the_delay_and_everybody_who_waits_does(steps: list[tuple[float, int]]) -> None:
    clock = Clock()
    triplets = Triplets(FakeContext(clock=clock).store, TIMES)
    first: dict[int, float] = {}
    for wait, who in steps:
        clock.move(wait)
        seen = await triplets.see("192.0.2.0/24", str(who), "b", clock())
        waited = clock() - first.setdefault(who, clock())
        assert (seen.wait == 0) is (waited >= TIMES.delay - 0.001)
        assert seen.wait == 0 or abs(waited + seen.wait - TIMES.delay) < 0.01


async def test_a_clock_that_was_ahead_costs_one_delay(clock: Clock) -> None:
    triplets = Triplets(FakeContext(clock=clock).store, TIMES)
    await triplets.see("n", "a", "b", clock())
    clock.move(-1_000)
    assert (await triplets.see("n", "a", "b", clock())).wait == 300


async def test_values_that_are_no_times() -> None:
    context = FakeContext()
    triplets = Triplets(context.store, TIMES)
    await triplets.see("n", "a", "b", context.clock())
    (waiting,) = [key for key in context.store._values if key.startswith("w/")]
    for value in (b"text", b"nan", b""):
        await context.store.put(waiting, value, ttl=1_000)
        assert (await triplets.see("n", "a", "b", context.clock())).state is State.EARLY


async def test_what_a_client_sees() -> None:
    """Through the whole gateway: the next hop is not asked about who has to come back."""
    async with EndToEnd(
        plugins=["greylist"], options={"greylist": {"exempt_recipients": ["postmaster@"], "delay": "100s"}}
    ) as mail:
        first = await mail.send(recipients=["bob@example.org", "postmaster@example.org"])
        again = await mail.send(client_address="127.0.0.9")
        bounce = await mail.send(reverse_path="")
    assert first.replies[1].startswith("451 4.7.1 Greylisted, please come back in 100 seconds")
    assert (first.code, first.taken[0].paths) == (250, [b"<postmaster@example.org>"])
    assert again.replies[1].startswith("451 4.7.1 Greylisted, please come back in ")
    assert again.taken == ()
    assert [reply[:3] for reply in bounce.replies] == ["250", "250", "451"]  # at DATA
