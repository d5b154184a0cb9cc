"""The plugin `dnsbl`: what lists say, weights and thresholds, lists that are dead, slow or lie."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway import AuthResult, ClientClass, Defer, DnsAnswer, DnsError, Fact, PluginError, Quarantine, Reject, Score
from gateway.config.models import DnsConfig
from gateway.dns import CachingResolver
from gateway.plugins.dnsbl import Dnsbl, Options
from gateway.testing import (
    TEMPFAIL,
    FakeContext,
    FakeResolver,
    Result,
    StubDnsServer,
    a_message,
    a_session,
    a_transaction,
    run_plugin,
)
from gateway.testing.dns_lies import ONLY_GARBAGE, SERVFAIL, SILENT
from tests.generated import examples

BAD, GOOD, NAMES = "bad.example", "good.example", "names.example"
ZONES: dict[str, Any] = {
    f"1.2.0.192.{BAD}": {"A": ["127.0.0.2", "127.0.0.4"], "TXT": ["see https://bad.example/?192.0.2.1\r\nX-Evil: 1"]},
    f"2.2.0.192.{BAD}": {"A": ["127.255.255.254"]},
    f"3.2.0.192.{BAD}": {"A": ["127.0.0.2"]},
    f"3.2.0.192.{GOOD}": {"A": ["127.0.9.3"]},
    f"4.2.0.192.{BAD}": TEMPFAIL,
    f"5.2.0.192.{BAD}": {"A": ["127.0.0.2"]},
    f"5.2.0.192.{GOOD}": TEMPFAIL,
    f"6.2.0.192.{BAD}": {"A": ["203.0.113.5"]},
    f"7.2.0.192.{BAD}": {"A": ["127.0.0.4"]},
    f"7.2.0.192.{GOOD}": {"A": ["127.0.9.1"]},
    f"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.{BAD}": {"A": ["127.0.0.2"]},
    f"spam.example.{NAMES}": {"A": ["127.0.1.2"]},
    f"xn--bcher-kva.example.{NAMES}": {"A": ["127.0.1.2"]},
    f"2.0.0.127.{BAD}": {"A": ["127.0.0.2"]},
    f"2.0.0.127.{GOOD}": {"A": ["127.0.0.2"]},
    f"test.{NAMES}": {"A": ["127.0.0.2"]},
}
LISTS: list[dict[str, Any]] = [
    {"zone": BAD, "symbol": "BAD", "weights": {"127.0.0.2": 3.0, "127.0.0.4-7": 1.5}},
    {"zone": GOOD, "weights": {"127.0.*.2-3": "allow", "127.0.*.1": -1}},
    {"zone": NAMES, "of": ["helo", "reverse_path", "author"], "weight": 2.5},
]


async def checked(address: str = "192.0.2.9", zones: dict[str, Any] = ZONES, **more: Any) -> Result:
    options = Options.model_validate({"lists": LISTS, "probe": 0, **more.pop("options", {})})
    context = more.pop("context", None) or FakeContext(resolver=more.pop("resolver", None) or FakeResolver(zones))
    facts = {name: more.pop(name) for name in ("reverse_path", "recipients") if name in more}
    message = a_message(from_=more.pop("from_", "Alice <alice@client.example>"))
    on_error = {"on_error": more.pop("on_error")} if "on_error" in more else {}
    transaction = a_transaction(session=a_session(client_address=address, **more), **facts)
    plugin = Dnsbl(options, name="dnsbl")
    return await run_plugin(plugin, transaction=transaction, message=message, context=context, **on_error)


def scores(result: Result) -> dict[str, float]:
    return {one.symbol: one.weight for one in result.findings if isinstance(one, Score)}


def fact(result: Result, name: str) -> str:
    return next((str(one.value) for one in result.findings if isinstance(one, Fact) and one.name == f"dnsbl.{name}"), "")


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("192.0.2.9", {}),
        ("192.0.2.1", {"BAD": 4.5}),
        ("::ffff:192.0.2.1", {"BAD": 4.5}),
        ("2001:db8::1", {"BAD": 3.0}),
        ("192.0.2.2", {}),
        ("192.0.2.3", {"BAD": 0.0, "DNSBL_GOOD_EXAMPLE": 0.0}),
        ("192.0.2.4", {}),
        ("192.0.2.6", {}),
        ("192.0.2.7", {"BAD": 1.5, "DNSBL_GOOD_EXAMPLE": -1.0}),
        ("", {}),
        ("unknown", {}),
    ],
)
async def test_scores_of_the_client(address: str, found: dict[str, float]) -> None:
    result = await checked(address)
    assert scores(result) == found
    assert result.verdict is None, "nothing is refused without a threshold"


@pytest.mark.parametrize(
    "facts",
    [
        {"helo": "Spam.Example"},
        {"reverse_path": "a@spam.example"},
        {"reverse_path": "a@bücher.example"},
        {"from_": "x <a@spam.example>"},
        {"from_": "x <a@ok.example>, <b@SPAM.example>"},
    ],
)
async def test_domains_of_envelope_and_author(facts: dict[str, Any]) -> None:
    assert scores(await checked(**facts)) == {"DNSBL_NAMES_EXAMPLE": 2.5}


async def test_each_domain_weighs_and_is_asked_once() -> None:
    resolver = FakeResolver({**ZONES, f"other.example.{NAMES}": {"A": ["127.0.1.2"]}})
    result = await checked(helo="spam.example", reverse_path="a@spam.example", from_="<a@other.example>", resolver=resolver)
    assert [one.weight for one in result.findings if isinstance(one, Score)] == [2.5, 2.5]
    assert resolver.queries.count((f"spam.example.{NAMES}", "A")) == 1


async def test_only_the_registrable_domain_where_that_is_asked_for() -> None:
    lists = [{"zone": NAMES, "of": ["helo"], "registrable": True}]
    assert scores(await checked(helo="a.b.c.spam.example", options={"lists": lists})) == {"DNSBL_NAMES_EXAMPLE": 1.0}
    lists = [{"zone": NAMES, "of": ["helo"]}]
    assert scores(await checked(helo="a.b.c.spam.example", options={"lists": lists})) == {}


async def test_lists_that_know_no_ipv6_are_not_asked_about_it() -> None:
    resolver = FakeResolver(ZONES)
    await checked("2001:db8::1", resolver=resolver, options={"lists": [{"zone": BAD, "ipv6": False}]})
    assert resolver.queries == []


async def test_the_words_of_a_list_are_a_strangers_text() -> None:
    quiet = await checked("192.0.2.1")
    [score] = [one for one in quiet.findings if isinstance(one, Score)]
    assert score.evidence == "192.0.2.1 is listed by bad.example (127.0.0.2, 127.0.0.4)"
    told = await checked("192.0.2.1", options={"lists": [{"zone": BAD, "explain": True}]})
    [score] = [one for one in told.findings if isinstance(one, Score)]
    assert score.evidence.endswith("(127.0.0.2, 127.0.0.4): see https://bad.example/?192.0.2.1??X-Evil: 1")


async def test_the_trace_says_what_is_listed_where_and_clean_mail_leaves_none() -> None:
    told = (await checked("192.0.2.1", options={"reject_at": 4})).explain()
    assert "score symbol=BAD weight=4.5 (192.0.2.1 is listed by bad.example (127.0.0.2, 127.0.0.4))" in told
    assert (await checked("192.0.2.9")).findings == ()


async def test_thresholds() -> None:
    for options, kind in (
        ({"reject_at": 4.5}, Reject),
        ({"quarantine_at": 4, "defer_at": 1}, Quarantine),
        ({"defer_at": 4, "quarantine_at": 5}, Defer),
        ({"reject_at": 4.6}, type(None)),
    ):
        assert isinstance((await checked("192.0.2.1", options=options)).verdict, kind)
    verdict = (await checked("192.0.2.1", options={"reject_at": 1})).verdict
    assert isinstance(verdict, Reject)
    assert (verdict.code, verdict.enhanced, verdict.reason) == (550, "5.7.1", "dnsbl-listed")
    assert verdict.text == "Refused: 192.0.2.1 is listed by bad.example"
    held = (await checked("192.0.2.1", options={"quarantine_at": 1, "box": "listed"})).verdict
    assert isinstance(held, Quarantine)
    assert held.box == "listed"


async def test_a_list_that_allows_wins() -> None:
    result = await checked("192.0.2.3", helo="spam.example", options={"reject_at": 0.1})
    assert (result.verdict, fact(result, "allowed")) == (None, GOOD)
    assert sum(scores(result).values()) == 0.0


@pytest.mark.parametrize(("address", "codes"), [("192.0.2.3", "127.0.9.3"), ("192.0.2.7", "127.0.9.1")])
async def test_a_list_that_speaks_for_the_client_is_a_result_of_authentication(address: str, codes: str) -> None:
    """RFC 8904 3.2."""
    result = await checked(address)
    [found] = [one for one in result.findings if isinstance(one, AuthResult)]
    assert (found.method, found.result, found.properties) == ("dnswl", "pass", (("dns.zone", GOOD), ("policy.ip", codes)))
    zones = {**ZONES, f"3.2.0.192.{GOOD}": {"A": ["127.0.9.3"], "TXT": ["good.example 3"]}}
    told = await checked("192.0.2.3", zones, options={"lists": [{"zone": GOOD, "weight": "allow", "explain": True}]})
    [found] = [one for one in told.findings if isinstance(one, AuthResult)]
    assert found.property("policy.txt") == "good.example 3"
    assert not [one for one in (await checked("192.0.2.1")).findings if isinstance(one, AuthResult)]


@pytest.mark.parametrize("at", ["rcpt", "connect"])
async def test_earlier_than_the_content(at: str) -> None:
    result = await checked("192.0.2.1", recipients=["a@example.org", "b@example.org"], options={"at": at, "reject_at": 4})
    verdict = result.verdict
    assert isinstance(verdict, Reject)
    assert verdict.code == (554 if at == "connect" else 550)
    assert {step["stage"] for step in result.trace if step["plugin"] == "dnsbl"} <= {at, "mail", "connect", "done"}
    deferred = await checked("192.0.2.1", options={"at": at, "defer_at": 4})
    assert isinstance(deferred.verdict, Defer)
    assert (await checked("192.0.2.9", options={"at": at, "reject_at": 4})).verdict is None


async def test_what_is_to_be_held_comes_in_at_rcpt() -> None:
    assert isinstance((await checked("192.0.2.1", options={"at": "rcpt", "quarantine_at": 4})).verdict, Quarantine)


def test_at_connect_only_the_address_is_known() -> None:
    with pytest.raises(ValidationError, match="nothing else is known then"):
        Options.model_validate({"at": "connect", "lists": [{"zone": NAMES, "of": ["helo"]}]})


async def test_who_is_not_checked() -> None:
    for facts in (
        {"client_class": ClientClass.AUTHENTICATED},
        {"client_class": ClientClass.TRUSTED},
        {"options": {"exempt": ["192.0.2.0/28"], "at": "connect"}},
    ):
        result = await checked("192.0.2.1", **facts)
        assert result.findings == ()
    mine = {"lists": [{"zone": BAD}]}
    for private in ("127.0.0.1", "10.1.1.1", "192.168.3.4", "::1", "fd00::1"):
        resolver = FakeResolver({})
        await checked(private, resolver=resolver, options=mine)
        assert resolver.queries == []
    assert scores(await checked("192.0.2.1", client_class=ClientClass.TRUSTED, options={"all_clients": True})) == {"BAD": 4.5}


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("192.0.2.2", "bad.example: answers 127.255.255.254: it refuses to be asked"),
        ("192.0.2.4", "bad.example: temporary failure"),
        ("192.0.2.6", "bad.example: answers 203.0.113.5, which is no code of a list"),
    ],
)
async def test_what_is_no_answer_is_a_fault_and_no_listing(address: str, why: str) -> None:
    result = await checked(address, options={"reject_at": 0.1})
    assert (result.verdict, fact(result, "unanswered")) == (None, why)
    for on_error, kind in (("defer", Defer), ("ignore", type(None))):
        found = await checked(address, options={"reject_at": 0.1, "unanswered": "fault"}, on_error=on_error)
        assert isinstance(found.verdict, kind)
    with pytest.raises(PluginError, match="could change the verdict do not answer: bad"):
        await checked(address, options={"reject_at": 0.1, "unanswered": "fault"})
    irrelevant = await checked(address, options={"reject_at": 50, "unanswered": "fault"}, on_error="defer")
    assert irrelevant.verdict is None


async def test_no_refusal_for_good_while_a_list_that_might_allow_is_silent() -> None:
    verdict = (await checked("192.0.2.5", options={"reject_at": 1})).verdict
    assert isinstance(verdict, Defer)
    assert (verdict.code, verdict.text) == (451, "Not now: 192.0.2.5 is listed by bad.example")


@pytest.mark.parametrize(
    ("zone", "facts"),
    [
        (f"1.0.0.127.{BAD}", {"address": "192.0.2.1"}),
        (f"1.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.{BAD}", {"address": "2001:db8::1"}),
        (f"invalid.{NAMES}", {"helo": "spam.example"}),
    ],
)
async def test_a_list_that_lists_everything_is_not_believed(zone: str, facts: dict[str, Any]) -> None:
    """RFC 5782 5."""
    result = await checked(zones={**ZONES, zone: {"A": ["127.0.0.2"]}}, options={"reject_at": 1}, **facts)
    assert (result.verdict, scores(result)) == (None, {})
    assert "so it lists everything" in fact(result, "unanswered")


class Slow(FakeResolver):
    async def query(self, name: str, kind: str) -> DnsAnswer:
        if name.endswith(NAMES):
            await asyncio.sleep(60)
        return await super().query(name, kind)


async def test_a_slow_list_holds_up_nobody_past_the_limit() -> None:
    result = await checked("192.0.2.1", resolver=Slow(ZONES), options={"time_limit": 0.02, "reject_at": 4})
    assert isinstance(result.verdict, Reject)
    assert fact(result, "unanswered") == "names.example: no answer within 0.02 s"


async def test_the_time_ends_before_that_of_the_hook() -> None:
    plugin = Dnsbl(Options.model_validate({"lists": LISTS, "probe": 0}), name="dnsbl")
    result = await run_plugin(plugin, transaction=a_transaction(), context=FakeContext(resolver=Slow({})), timeout=0.2)
    assert fact(result, "unanswered") == "names.example: no answer within 0.18 s"


async def test_a_list_that_fails_again_and_again_is_left_alone() -> None:
    resolver = FakeResolver({**ZONES, f"9.2.0.192.{BAD}": TEMPFAIL})
    context = FakeContext(resolver=resolver)
    plugin = Dnsbl(Options.model_validate({"lists": [{"zone": BAD}], "probe": 0}), name="dnsbl", context=context)
    await plugin.startup(context)

    async def ask() -> Result:
        transaction = a_transaction(session=a_session(client_address="192.0.2.9"))
        return await run_plugin(plugin, transaction=transaction, start=False)

    results = [await ask() for _ in range(8)]
    assert len(resolver.queries) == 5
    assert fact(results[-1], "unanswered") == "bad.example: not asked for 60 s after 5 failures: temporary failure"
    context.clock.move(61)
    await ask()
    await ask()
    assert len(resolver.queries) == 6, "one try, and it rests again"
    context.clock.move(61)
    resolver.zones.clear()
    for _ in range(3):
        assert fact(await ask(), "unanswered") == ""
    assert len(resolver.queries) == 9


async def test_a_spent_budget_is_not_the_lists_fault() -> None:
    class Spent(FakeResolver):
        async def query(self, name: str, kind: str) -> DnsAnswer:
            self.queries.append((name, kind))
            raise DnsError(name, kind, "the budget is spent", cause="budget")

    resolver = Spent({})
    context = FakeContext(resolver=resolver)
    for _ in range(7):
        await checked(context=context, options={"lists": [{"zone": BAD}]})
    assert len(resolver.queries) == 7


async def test_look_ups_begin_at_mail_and_are_made_once() -> None:
    resolver = FakeResolver(ZONES)
    context = FakeContext(resolver=resolver)
    plugin = Dnsbl(Options.model_validate({"lists": LISTS, "probe": 0, "at": "rcpt"}), name="dnsbl", context=context)
    await plugin.startup(context)
    transaction = a_transaction(session=a_session(client_address="192.0.2.9"))
    plugin.mail(transaction)
    for _ in range(5):
        await asyncio.sleep(0)
    begun = len(resolver.queries)
    assert begun == 3, "bad, good, and one domain that HELO and MAIL share"
    await plugin.rcpt(transaction)
    await plugin.rcpt(transaction)
    await plugin.check(transaction, a_message(from_="<a@other.example>"))
    assert len(resolver.queries) == begun + 1
    plugin.done(transaction)
    assert plugin._begun == {}


async def test_what_nobody_waits_for_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.plugins.dnsbl.MAX_WAITING", 10)
    context = FakeContext(zones=ZONES)
    plugin = Dnsbl(Options.model_validate({"lists": LISTS, "probe": 0}), name="dnsbl", context=context)
    await plugin.startup(context)
    for _ in range(25):
        plugin.mail(a_transaction())
    assert len(plugin._begun) == 10
    await asyncio.sleep(0)
    plugin.shutdown()
    assert plugin._begun == {}


async def told(zones: dict[str, Any], lists: Sequence[dict[str, Any]] = LISTS) -> list[tuple[object, object]]:
    context = FakeContext(zones=zones)
    plugin = Dnsbl(Options.model_validate({"lists": lists}), name="dnsbl", context=context)
    await plugin.startup(context)
    for _ in range(20):
        await asyncio.sleep(0)
    return [(facts["zone"], facts["problem"]) for _, event, facts in context.log.lines if event == "plugin.list_unusable"]


async def test_test_entries_are_looked_at() -> None:
    """RFC 5782 5."""
    assert await told(ZONES) == []
    assert await told({}) == [
        (BAD, "does not list its test entry 2.0.0.127: it may be dead"),
        (GOOD, "does not list its test entry 2.0.0.127: it may be dead"),
        (NAMES, "does not list its test entry test: it may be dead"),
    ]
    assert await told({**ZONES, f"1.0.0.127.{BAD}": {"A": ["127.0.0.2"]}, f"invalid.{NAMES}": TEMPFAIL}) == [
        (BAD, "lists 1.0.0.127, so it lists everything"),
        (NAMES, "does not answer: temporary failure"),
    ]


async def test_over_the_wire_all_lists_at_once() -> None:
    """A dead name, a late one, one that answers rubbish, and one that works."""
    zones = {f"1.2.0.192.{BAD}": {"A": ["127.0.0.2"]}, f"1.2.0.192.{GOOD}": {"A": ["127.0.0.1"]}}
    lists = [{"zone": zone} for zone in (BAD, "silent.example", "servfail.example", "garbage.example", "late.example")]
    lies = {"*.silent.example": SILENT, "*.servfail.example": SERVFAIL, "*.garbage.example": ONLY_GARBAGE}
    async with StubDnsServer(zones, misbehave=lies, delay={"*.late.example": 0.05}) as server:
        resolver = CachingResolver(DnsConfig(nameservers=(server.address,), timeout=0.3))
        result = await checked("192.0.2.1", resolver=resolver, options={"lists": lists, "time_limit": 2})
        await resolver.close()
    assert scores(result) == {"DNSBL_BAD_EXAMPLE": 1.0}
    unanswered = fact(result, "unanswered")
    assert [zone in unanswered for zone in ("silent", "servfail", "garbage", "late", BAD)] == [True, True, True, False, False]


class Odd(FakeResolver):
    """Answers with any text, or not at all."""

    def __init__(self, records: list[Any]) -> None:
        super().__init__({})
        self.records = records

    async def query(self, name: str, kind: str) -> DnsAnswer:
        if not self.records:
            raise DnsError(name, kind, "x" * 500)
        found = tuple((b"\xff\r\n" * 100,) for _ in self.records) if kind == "TXT" else tuple(self.records)
        return DnsAnswer(name=name, kind=kind, records=found)


TEXT = st.text(max_size=40) | st.sampled_from(["127.0.0.2", "127.255.255.1", "[192.0.2.1]", "a.example", "::1"])


@examples(60)
@given(st.lists(TEXT, max_size=4), TEXT, TEXT, TEXT)
async def test_no_input_raises(records: list[str], address: str, helo: str, author: str) -> None:
    lists = [{"zone": BAD, "explain": True, "of": ["client", "helo", "reverse_path", "author"], "registrable": True}]
    result = await checked(
        address,
        resolver=Odd(records),
        helo=helo,
        from_=author.replace("\r", "").replace("\n", ""),
        options={"lists": lists, "reject_at": 1},
    )
    assert result.verdict is None or isinstance(result.verdict, Reject | Defer)
