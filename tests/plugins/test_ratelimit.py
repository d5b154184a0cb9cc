"""The plugin `ratelimit`: what counts for whom at which command, what is left, what is given back, workers that share buckets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from typing_extensions import override

from gateway import Defer, Fact, OptionError, PluginError, Reject, Score, Session
from gateway.plugins.ratelimit import MAX_NOTED, Options, RateLimit
from gateway.store import SqliteStore
from gateway.testing import Clock, EndToEnd, FakeContext, a_message, a_recipient, a_session, a_transaction, run_plugin
from gateway.testing.context import MemoryStore


class Site:
    """One gateway's limits, and clients that come to it."""

    def __init__(self, *limits: dict[str, Any], context: FakeContext | None = None, **options: Any) -> None:
        self.context = FakeContext() if context is None else context
        named = [{"name": f"limit{n}", **one} for n, one in enumerate(limits)]
        self.plugin = RateLimit(Options.model_validate({"limit": named, **options}), name="ratelimit", context=self.context)

    async def send(
        self,
        reverse_path: str = "alice@client.example",
        recipients: Sequence[str] = ("bob@example.org",),
        *,
        body: str = "Hello",
        from_: str = "alice@client.example",
        settings: dict[str, Any] | None = None,
        **session: Any,
    ) -> Any:
        transaction = a_transaction(reverse_path=reverse_path, recipients=recipients, session=a_session(**session))
        message = a_message(from_=from_, body=body)
        return await run_plugin(self.plugin, transaction=transaction, message=message, context=self.context, **(settings or {}))

    async def hook_of(self, *arguments: Any, **facts: Any) -> str:
        """Where a message is refused; `` when it passes."""
        found = await self.send(*arguments, **facts)
        return "" if found.decision is None else str(found.decision.hook)

    async def pass_count(self, times: int = 10, **facts: Any) -> int:
        return sum([await self.hook_of(**facts) == "" for _ in range(times)])


async def test_a_burst_then_the_rate() -> None:
    site = Site({"rate": "60 per 1h", "burst": 3})
    assert await site.pass_count() == 3
    verdict = (await site.send()).verdict
    assert verdict == Defer(
        text="Too many messages, please come back in 60 seconds",
        reason="ratelimit-limit0",
        evidence="limit limit0: 192.0.2.1: 1 messages more, 1 beyond 60 per 1h (burst 3); 60 s until then",
    )
    site.context.clock.move(59)
    assert (await site.send()).verdict.text == "Too many messages, please come back in 1 seconds"
    site.context.clock.move(1)
    assert await site.pass_count() == 1
    site.context.clock.move(100_000)
    assert await site.pass_count() == 3


async def test_reject_and_score() -> None:
    refused = (await Site({"rate": "1 per 1h", "then": "reject", "burst": 1}).send()).verdict
    assert refused is None
    site = Site({"rate": "1 per 1h", "then": "reject"})
    await site.send()
    verdict = (await site.send()).verdict
    assert isinstance(verdict, Reject)
    assert (verdict.code, verdict.enhanced, verdict.text) == (550, "5.7.1", "Too many messages")
    site = Site({"name": "camp-aign", "rate": "1 per 1h", "then": "score", "weight": 1.5})
    assert (await site.send()).findings == (Fact(name="ratelimit.camp-aign", value=0.0),)
    result = await site.send()
    assert result.verdict is None
    fact, score = result.findings
    assert fact == Fact(name="ratelimit.camp-aign", value=0.0)
    assert (score.symbol, score.weight) == ("RATELIMIT_CAMP_AIGN", 1.5)
    assert score.evidence.startswith("limit camp-aign: 192.0.2.1: 1 messages more, 1 beyond 1 per 1h")


async def test_what_is_left_is_a_finding_and_a_metric() -> None:
    site = Site({"rate": "3 per 1h"})
    values = [one.value for _ in range(4) for one in (await site.send()).findings]
    assert values == [2.0, 1.0, 0.0]
    assert [(value, labels["result"]) for _, value, labels in site.context.metrics.values] == [(1, "within")] * 3 + [
        (1, "beyond")
    ]


SAME: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # what a limit is of: one message, another of the same, and one of somebody else
    "client": ({}, {"client_address": "::ffff:192.0.2.1"}, {"client_address": "192.0.2.2"}),
    "network": ({}, {"client_address": "192.0.2.77"}, {"client_address": "192.0.3.1"}),
    "reverse_path": ({}, {"reverse_path": "prvs=4713a8c3d1=Alice+x@client.example"}, {"reverse_path": "alice2@client.example"}),
    "reverse_path_domain": ({}, {"reverse_path": "bob@Client.example"}, {"reverse_path": "alice@other.example"}),
    "author_domain": ({}, {"from_": "bob@Client.example"}, {"from_": "alice@other.example"}),
    "recipient": ({}, {"recipients": ["BOB@example.org"]}, {"recipients": ["carol@example.org"]}),
    "recipient_domain": ({}, {"recipients": ["carol@example.org"]}, {"recipients": ["bob@example.net"]}),
    "identity": ({"identity": "a"}, {"identity": "a", "client_address": "192.0.2.2"}, {"identity": "b"}),
    "listener": ({}, {"client_address": "192.0.2.2"}, {"listener": "other"}),
}


@pytest.mark.parametrize("of", SAME)
async def test_whose_bucket(of: str) -> None:
    site = Site({"of": [of], "rate": "1 per 1h"})
    first, same, other = SAME[of]
    assert await site.hook_of(**first) == ""
    assert await site.hook_of(**same) != ""
    assert await site.hook_of(**other) == ""


async def test_everybody_and_combinations() -> None:
    site = Site({"of": ["everybody"], "rate": "1 per 1h"})
    assert [await site.hook_of(client_address=f"192.0.{n}.1") for n in range(2)] == ["", "data"]
    site = Site({"of": ["identity", "recipient_domain"], "rate": "1 per 1h"})
    assert await site.hook_of(identity="a") == ""
    assert await site.hook_of(identity="b") == ""
    assert await site.hook_of(identity="a", recipients=["x@example.net"]) == ""
    assert await site.hook_of(identity="a", recipients=["x@example.org"]) == "rcpt"


@pytest.mark.parametrize(
    ("of", "facts"),
    [
        ("identity", {}),
        ("reverse_path", {"reverse_path": ""}),
        ("reverse_path_domain", {"reverse_path": ""}),
        ("author_domain", {"from_": "nobody"}),
        ("recipient_domain", {"recipients": ["postmaster"]}),
    ],
)
async def test_what_is_not_there_is_not_limited(of: str, facts: dict[str, Any]) -> None:
    assert await Site({"of": [of], "rate": "1 per 1h"}).pass_count(3, **facts) == 3


async def test_clients_without_an_address_share_a_bucket() -> None:
    assert await Site({"rate": "2 per 1h"}).pass_count(client_address="") == 2


@pytest.mark.parametrize(
    ("limit", "where"),
    [
        ({"count": "connections"}, "connect"),
        ({"count": "messages"}, "data"),
        ({"count": "messages", "of": ["recipient"]}, "rcpt"),
        ({"count": "recipients"}, "rcpt"),
        ({"count": "recipients", "of": ["author_domain"]}, "judge"),
        ({"count": "messages", "of": ["author_domain"]}, "judge"),
        ({"count": "octets", "rate": "300 per 1h"}, "judge"),
    ],
)
async def test_where_a_limit_counts(limit: dict[str, Any], where: str) -> None:
    site = Site({"rate": "1 per 1h", **limit})
    assert [await site.hook_of() for _ in range(2)] == ["", where]


async def test_at_connect_the_codes_are_those_of_a_greeting() -> None:
    site = Site({"count": "connections", "rate": "1 per 1h"})
    await site.send()
    verdict = (await site.send()).verdict
    assert (verdict.code, verdict.enhanced) == (421, "4.7.1")
    site = Site({"count": "connections", "rate": "1 per 1h", "then": "reject"})
    await site.send()
    assert (await site.send()).verdict.code == 554


async def test_recipients_are_counted_one_by_one() -> None:
    site = Site({"count": "recipients", "of": ["identity"], "rate": "3 per 1h"})
    five = [f"user{n}@example.org" for n in range(5)]
    decisions = (await site.send(recipients=five, identity="a")).decisions
    assert [decision is None for decision in decisions.values()] == [True, True, True, False, False]


async def test_a_message_to_several_of_a_domain_is_one_message_to_it() -> None:
    site = Site({"of": ["recipient_domain"], "rate": "2 per 1h"})
    five = [f"user{n}@example.org" for n in range(5)]
    assert await site.pass_count(5, recipients=five) == 2
    site = Site({"of": ["recipient_domain", "author_domain"], "rate": "2 per 1h"})
    assert await site.pass_count(5, recipients=five) == 2


async def test_recipients_of_an_author_count_at_once() -> None:
    site = Site({"count": "recipients", "of": ["author_domain"], "rate": "5 per 1h"})
    assert await site.hook_of(recipients=[f"u{n}@example.org" for n in range(3)]) == ""
    assert await site.hook_of(recipients=[f"u{n}@example.org" for n in range(3)]) == "judge"
    assert await site.hook_of(recipients=[f"u{n}@example.org" for n in range(2)]) == ""


async def test_octets() -> None:
    site = Site({"count": "octets", "rate": "11KB per 1h"})
    size = a_message(from_="alice@client.example", body="x" * 3_000).size
    assert await site.pass_count(body="x" * 3_000) == 11_000 // size
    assert await site.hook_of(body="x" * 100) == ""


async def test_what_a_refused_message_took_is_given_back() -> None:
    site = Site({"name": "a", "rate": "3 per 1h"}, {"name": "b", "rate": "1 per 1h", "of": ["reverse_path"]})
    assert [await site.hook_of() for _ in range(5)] == ["", "data", "data", "data", "data"]
    assert [await site.hook_of(reverse_path=f"{name}@client.example") for name in "xyz"] == ["", "", "data"]


async def test_a_score_does_not_give_back_nor_stop() -> None:
    site = Site({"name": "a", "rate": "1 per 1h", "then": "score"}, {"name": "b", "rate": "2 per 1h"})
    assert [await site.hook_of() for _ in range(3)] == ["", "", "data"]


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"exempt_networks": ["192.0.2.0/24"]}, {}),
        ({"exempt_identities": ["Alice"]}, {"identity": "alice"}),
        ({"exempt_senders": ["client.example"]}, {}),
        ({"exempt_recipients": ["bob@"]}, {}),
    ],
)
@pytest.mark.parametrize("of", ["client", "recipient", "author_domain"])
async def test_who_has_no_limits(of: str, options: dict[str, Any], facts: dict[str, Any]) -> None:
    site = Site({"of": [of], "rate": "1 per 1h"}, **options)
    assert await site.pass_count(3, **facts) == 3


async def test_exempt_networks_may_connect() -> None:
    site = Site({"count": "connections", "rate": "1 per 1h"}, exempt_networks=["192.0.2.0/24"])
    assert await site.pass_count(3) == 3


async def test_limits_of_one_class_of_clients() -> None:
    site = Site({"rate": "1 per 1h", "clients": ["authenticated"]})
    assert await site.pass_count(3) == 3
    assert await site.pass_count(3, identity="a") == 1


async def test_one_fact_and_one_score_however_many_recipients() -> None:
    site = Site({"count": "recipients", "rate": "2 per 1h", "then": "score"})
    findings = (await site.send(recipients=[f"user{n}@example.org" for n in range(9)])).findings
    assert [type(one) for one in findings] == [Fact, Score]


class Guessing:
    """A session whose recipients are refused."""

    def __init__(self, site: Site, **facts: Any) -> None:
        self.site = site
        self.session: Session = a_session(**facts)

    async def connects(self) -> bool:
        return await self.site.plugin.connect(self.session) is None

    async def guess(self) -> str:
        """`asked`: the next hop was asked, and refused."""
        transaction = a_transaction(recipients=[], session=self.session)
        found = await self.site.plugin.rcpt(transaction, a_recipient("nobody@example.org"))
        self.session.unknown_recipients += 1
        return "asked" if found is None else found.reason

    async def leaves(self) -> None:
        await self.site.plugin.disconnect(self.session)


async def test_who_guesses_addresses_is_kept_out() -> None:
    site = Site({"name": "guess", "count": "refused", "of": ["network"], "rate": "5 per 50s", "then": "reject"})
    first = Guessing(site)
    assert await first.connects()
    answers = [await first.guess() for _ in range(8)]
    assert answers == ["asked"] * 5 + ["ratelimit-guess"] * 3
    await first.leaves()
    second = Guessing(site, client_address="192.0.2.99")
    assert not await second.connects()
    assert await Guessing(site, client_address="192.0.3.1").connects()
    site.context.clock.move(10)
    assert await second.connects()
    assert await second.guess() == "asked"
    assert await second.guess() == "ratelimit-guess"
    assert not site.plugin._refused.get(first.session.id)


async def test_what_was_refused_last_counts_when_the_client_leaves() -> None:
    site = Site({"count": "refused", "rate": "3 per 1h"})
    guess = Guessing(site)
    for _ in range(3):
        await guess.guess()
    assert await Guessing(site).connects()
    await guess.leaves()
    assert not await Guessing(site).connects()
    await Guessing(site).leaves()


async def test_refused_recipients_as_a_score() -> None:
    site = Site({"name": "guess", "count": "refused", "rate": "1 per 1h", "then": "score"})
    assert Score not in {type(one) for one in (await site.send(unknown_recipients=0)).findings}
    await site.send(unknown_recipients=3)
    result = await site.send()
    assert result.verdict is None
    assert [one.symbol for one in result.findings if isinstance(one, Score)] == ["RATELIMIT_GUESS"]


async def test_a_score_of_a_connection_is_in_each_transaction_of_it() -> None:
    site = Site({"name": "c", "count": "connections", "rate": "1 per 1h", "then": "score"})
    await site.send()
    assert [type(one) for one in (await site.send()).findings] == [Fact, Score]
    assert not site.plugin._noted


async def test_in_monitor_mode_nothing_is_refused_and_everything_is_written_down() -> None:
    site = Site({"rate": "1 per 1h"})
    settings = {"mode": "monitor"}
    await site.send(settings=settings)
    result = await site.send(settings=settings)
    assert (result.verdict, [one.reason for one in result.would]) == (None, ["ratelimit-limit0"])


class NoStore(MemoryStore):
    """A store that is down."""

    @override
    async def take(self, key: str, amount: float = 1, *, rate: float, burst: float) -> float:
        raise OSError("no store")


async def test_a_store_that_is_down_is_a_fault_of_the_plugin() -> None:
    site = Site({"rate": "1 per 1h"})
    site.context.store = NoStore(site.context.clock)
    with pytest.raises(PluginError, match="no store"):
        await site.send()
    assert (await site.send(settings={"on_error": "defer"})).verdict.reason == "plugin-error"
    assert (await site.send(settings={"on_error": "ignore"})).verdict is None


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ({"rate": "100"}, 'allowed: "100 per 1h"'),
        ({"rate": "0 per 1h"}, 'allowed: "100 per 1h"'),
        ({"rate": "many per 1h"}, 'allowed: "100 per 1h"'),
        ({"rate": "1 per 1ms"}, 'allowed: "100 per 1h"'),
        ({"rate": "1 per 1h", "of": []}, "at least 1"),
        ({"rate": "1 per 1h", "of": ["sender"]}, "author_domain"),
        ({"rate": "1 per 1h", "count": "connections", "of": ["recipient"]}, "allowed: client, everybody, listener, network"),
        ({"rate": "1 per 1h", "count": "refused", "of": ["identity"]}, "allowed: client, everybody"),
        ({"rate": "1 per 1h", "name": "a b"}, "name"),
    ],
)
def test_limits_that_cannot_be(limit: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as error:
        Site(limit)
    assert told in str(error.value)


def test_limits_that_no_message_could_keep() -> None:
    context = FakeContext(limits={"message_size": 50_000_000, "recipients": 1_000})
    with pytest.raises(OptionError) as error:
        Site(
            {"count": "octets", "rate": "10MB per 1h"},
            {"count": "recipients", "of": ["author_domain"], "rate": "2000 per 1h", "burst": 999},
            {"rate": "1 per 1h", "name": "limit0"},
            {"count": "octets", "rate": "10MB per 1h", "burst": "50MB"},
            context=context,
        )
    assert [(one.key, one.found) for one in error.value.mistakes] == [
        (("limit", 0, "rate"), "a burst of 1e+07"),
        (("limit", 1, "burst"), "a burst of 999"),
        (("limit", 2, "name"), "'limit0'"),
    ]


async def test_what_is_noted_is_bounded() -> None:
    site = Site({"rate": "1000000 per 1h"})
    for _ in range(MAX_NOTED + 5):
        await site.plugin.data(a_transaction())
    assert len(site.plugin._noted) == MAX_NOTED


async def test_workers_share_a_bucket(tmp_path: Path) -> None:
    clock = Clock()
    stores = [await SqliteStore.open(tmp_path / "store.sqlite", clock=clock) for _ in range(3)]
    try:
        sites = []
        for store in stores:
            context = FakeContext(clock=clock)
            context.store = store  # type: ignore[assignment]  # the real one
            sites.append(
                Site({"name": "a", "rate": "20 per 1h"}, {"name": "b", "rate": "30 per 1h", "of": ["network"]}, context=context)
            )
        found = await asyncio.gather(*(site.hook_of() for site in sites * 20))
        assert found.count("") == 20
    finally:
        for store in stores:
            await store.close()


EVENTS = st.lists(st.tuples(st.floats(0, 400), st.sampled_from("ab"), st.sampled_from("xy")), max_size=25)


@given(EVENTS, st.integers(1, 6), st.integers(1, 6))
async def test_never_more_than_the_burst_and_what_came_in_since(
    events: list[tuple[float, str, str]], burst: int, other: int
) -> None:
    site = Site(
        {"name": "r", "rate": "36 per 1h", "burst": burst, "of": ["reverse_path"]},
        {"name": "e", "rate": "72 per 1h", "burst": other, "of": ["everybody"]},
    )
    start, passed = site.context.clock(), []
    for wait, sender, _ in events:
        site.context.clock.move(wait)
        elapsed = site.context.clock() - start
        if await site.plugin.data(a_transaction(reverse_path=f"{sender}@client.example")) is None:
            passed.append(sender)
        assert passed.count(sender) <= burst + elapsed * 36 / 3_600 + 1e-6
        assert len(passed) <= other + elapsed * 72 / 3_600 + 1e-6


async def test_what_a_client_sees() -> None:
    """Through the whole gateway: recipients that the next hop refuses count, over sessions."""
    limits = [
        {"name": "guessing", "of": ["network"], "count": "refused", "rate": "2 per 1h", "then": "reject"},
        {"name": "messages", "rate": "1 per 1h"},
    ]
    hop = ["RCPT TO:<eve@example.org>=550"]
    async with EndToEnd(plugins=["ratelimit"], options={"ratelimit": {"limit": limits}}, next_hop=hop) as mail:
        sent = await mail.send()
        second = await mail.send(recipients=["eve@example.org", "bob@example.org"])
        other = await mail.send(recipients=["eve@example.org"])
        async with mail.client() as client:
            greeting = await client.reply()
    assert sent.code == 250
    assert [reply[:9] for reply in second.replies[1:]] == ["550 5.1.1", "250 2.1.5", "451 4.7.1"]
    assert second.replies[-1].startswith("451 4.7.1 Too many messages, please come back in 36")
    assert other.replies[1].startswith("550 5.1.1")
    assert greeting.startswith("554 5.7.1 Too many unknown recipients")
