"""The resolver against a name server on loopback: cache, single flight, TCP, time limits, lies."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.message
import pytest

from gateway import metrics
from gateway.config.models import DnsConfig
from gateway.dns import CachingResolver, asking, exchange, over_aiodns
from gateway.dns import resolver as module
from gateway.dns.servers import Servers
from gateway.errors import DnsError
from gateway.testing import Clock, StubDnsServer
from gateway.testing.dns_lies import (
    CIRCLE,
    CUT_OFF,
    ENDLESS_CHAIN,
    GARBAGE,
    HALF_CHAIN,
    HELD,
    NO_EDNS,
    ONLY_CUT,
    ONLY_GARBAGE,
    REFUSED,
    SERVFAIL,
    SILENT,
    TRUNCATED,
    WRONG_ID,
    WRONG_NAME,
    WRONG_QUESTION,
    WRONG_SOURCE,
)

pytestmark = pytest.mark.usefixtures("backend")

ZONES: dict[str, Any] = {
    "example.org": {
        "A": ["192.0.2.1", "192.0.2.2"],
        "AAAA": ["2001:db8::1"],
        "MX": [[20, "mx2.example.org"], [10, "mx1.example.org"]],
        "TXT": [["v=spf1 ", "-all"], "other"],
        "NS": ["ns.example.org"],
        "SOA": ["ns.example.org. root.example.org. 1 2 3 4 5"],
    },
    "nullmx.example": {"MX": [[0, "."]]},
    "1.2.0.192.in-addr.arpa": {"PTR": ["mx.example.org"]},
    "alias.example": {"CNAME": ["alias2.example"]},
    "alias2.example": {"CNAME": ["example.org"]},
    "dangling.example": {"CNAME": ["gone.example"]},
    "circle.example": {"CNAME": ["circle2.example"]},
    "circle2.example": {"CNAME": ["circle.example"]},
    "fails.example": "TEMPFAIL",
    "_dmarc.xn--bcher-kva.example": {"TXT": ["v=DMARC1"]},
    "big.example": {"TXT": ["x" * 250 + str(i) for i in range(20)]},
    "huge.example": {"TXT": ["x" * 250 + str(i) for i in range(200)]},
    "many.example": {"A": [f"10.{i // 250}.{i % 250}.1" for i in range(1_500)]},
}


@asynccontextmanager
async def a_resolver(
    clock: Clock | None = None, *, settings: dict[str, Any] | None = None, **misbehaviour: Any
) -> AsyncIterator[tuple[CachingResolver, StubDnsServer]]:
    async with StubDnsServer(ZONES, **misbehaviour) as server:
        config = DnsConfig(nameservers=(server.address,), **{"cache_size": 100, **(settings or {})})
        resolver = CachingResolver(config, clock=clock or Clock())
        yield resolver, server
        await resolver.close()


@pytest.mark.parametrize(
    ("name", "kind", "records"),
    [
        ("example.org", "A", {"192.0.2.1", "192.0.2.2"}),
        ("EXAMPLE.org.", "aaaa", {"2001:db8::1"}),
        ("example.org", "MX", {(10, "mx1.example.org"), (20, "mx2.example.org")}),
        ("nullmx.example", "MX", {(0, ".")}),
        ("example.org", "TXT", {(b"v=spf1 ", b"-all"), (b"other",)}),
        ("example.org", "NS", {"ns.example.org"}),
        ("example.org", "SOA", {"ns.example.org"}),
        ("1.2.0.192.in-addr.arpa", "PTR", {"mx.example.org"}),
        ("alias2.example", "CNAME", {"example.org"}),
        ("_dmarc.bücher.example", "TXT", {(b"v=DMARC1",)}),
        ("_dmarc.BÜCHER。example", "TXT", {(b"v=DMARC1",)}),
    ],
)
async def test_records_are_plain_values(name: str, kind: str, records: set[Any], backend: str) -> None:
    async with a_resolver() as (resolver, _):
        answer = await resolver.query(name, kind)
    if kind == "TXT" and backend == "aiodns":  # c-ares joins the strings of a record
        records = {(b"".join(strings),) for strings in records}
    assert set(answer.records) == records
    assert answer.exists
    assert not answer.cached


async def test_absence_is_an_answer() -> None:
    async with a_resolver() as (resolver, _):
        missing = await resolver.query("missing.example", "A")
        empty = await resolver.query("nullmx.example", "A")
    assert (missing.exists, missing.records) == (False, ())
    assert (empty.exists, empty.records) == (True, ())


@pytest.mark.parametrize(
    "name",
    [
        "a" * 64 + ".example",
        "a..example",
        ".example",
        ".".join(["a" * 60] * 5),
        "x" * 5_000,
        "\ud800.example",
        "ü" * 64,
        "\u200b.example",
    ],
)
async def test_names_that_cannot_exist_are_absent_and_ask_nobody(name: str) -> None:
    async with a_resolver() as (resolver, server):
        answer = await resolver.query(name, "A")
        assert (answer.exists, answer.records) == (False, ())
        assert server.queries == []


@pytest.mark.parametrize("name", ["a b.example", 'q"u\\ote.example', "nul\0.example", "at@.example", "(),;.example", ""])
async def test_odd_octets_are_ordinary(name: str, backend: str) -> None:
    async with a_resolver() as (resolver, server):
        assert not (await resolver.query(name, "A")).exists
        is_asked = backend == "dnspython" or not name  # c-ares takes host names only, and would cut one at a NUL
        assert server.queries == [(name, "A", "udp")] * is_asked


async def test_an_unknown_kind_is_a_dns_error() -> None:
    async with a_resolver() as (resolver, _):
        with pytest.raises(DnsError, match="not one of"):
            await resolver.query("example.org", "ANY")


async def test_aliases_are_followed(backend: str) -> None:
    async with a_resolver() as (resolver, server):
        answer = await resolver.query("alias.example", "A")
        assert (set(answer.records), answer.canonical, answer.name) == (
            {"192.0.2.1", "192.0.2.2"},
            "example.org",
            "alias.example",
        )
        gone = await resolver.query("dangling.example", "A")
        assert (gone.exists, gone.canonical) == (False, "gone.example" if backend == "dnspython" else "")
        assert len(server.queries) == 2
        with pytest.raises(DnsError):
            await resolver.query("circle.example", "A")


async def test_half_a_chain_is_finished_by_questions_of_our_own() -> None:
    how = {"alias.example": HALF_CHAIN, "alias2.example": HALF_CHAIN, "circle.example": HALF_CHAIN, "circle2.example": HALF_CHAIN}
    async with a_resolver(misbehave=how) as (resolver, server):
        answer = await resolver.query("alias.example", "A")
        assert (set(answer.records), answer.canonical) == ({"192.0.2.1", "192.0.2.2"}, "example.org")
        assert [name for name, _, _ in server.queries] == ["alias.example", "alias2.example", "example.org"]
        with pytest.raises(DnsError, match="chain too long"):
            await resolver.query("circle.example", "A")
        assert len(server.queries) <= 3 + asking.MAX_CHAIN + 1


async def test_answers_are_kept_for_their_time_to_live() -> None:
    clock = Clock()
    async with a_resolver(clock, ttl=100) as (resolver, server):
        await resolver.query("example.org", "A")
        clock.move(99)
        again = await resolver.query("Example.Org.", "A")
        assert (again.cached, set(again.records)) == (True, {"192.0.2.1", "192.0.2.2"})
        clock.move(1)
        assert not (await resolver.query("example.org", "A")).cached
        assert len(server.queries) == 2


async def test_no_answer_is_kept_longer_than_the_cap(backend: str) -> None:
    clock = Clock()
    cap = 900 if backend == "dnspython" else over_aiodns.NEGATIVE_TTL
    async with a_resolver(clock, ttl=10**6, negative_ttl=10**6) as (resolver, _):
        await resolver.query("example.org", "A")
        await resolver.query("missing.example", "A")
        clock.move(cap - 1)
        assert (await resolver.query("missing.example", "A")).cached
        clock.move(1)
        assert not (await resolver.query("missing.example", "A")).cached
        clock.move(3_600)
        assert not (await resolver.query("example.org", "A")).cached


async def test_the_limits_of_times_to_live_are_settings(backend: str) -> None:
    clock = Clock()
    limits = {"min_ttl": 10, "max_ttl": 20, "min_negative_ttl": 3, "max_negative_ttl": 5}
    for ttl, kept, kept_negative in [(1, 10, 3), (15, 15, 5), (500, 20, 5), (0, 10, 3), (4, 10, 4)]:
        async with a_resolver(clock, settings=limits, ttl=ttl, negative_ttl=ttl) as (resolver, _):
            for name, seconds in (("example.org", kept), ("missing.example", kept_negative if backend == "dnspython" else 5)):
                await resolver.query(name, "A")
                clock.move(seconds - 1)
                assert (await resolver.query(name, "A")).cached
                clock.move(1)
                assert not (await resolver.query(name, "A")).cached


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="min_ttl up to max_ttl"):
        DnsConfig(min_ttl=10, max_ttl=5)
    with pytest.raises(ValueError, match="min_negative_ttl up to"):
        DnsConfig(min_negative_ttl=10, max_negative_ttl=5)


async def test_a_failure_that_comes_back_is_remembered_longer_each_time() -> None:
    clock = Clock()
    async with a_resolver(clock, misbehave={"example.org": SERVFAIL}) as (resolver, server):
        for pause in (1, 2, 4, 8, 16, 30, 30):
            with pytest.raises(DnsError, match=r"SERVFAIL$"):
                await resolver.query("example.org", "A")
            asked = len(server.queries)
            clock.move(pause - 0.5)
            with pytest.raises(DnsError, match=r"SERVFAIL \(a moment ago\)"):
                await resolver.query("example.org", "A")
            assert len(server.queries) == asked
            clock.move(0.5)
        server.misbehave.clear()
        assert (await resolver.query("example.org", "A")).records
        assert (await resolver.query("example.org", "A")).cached


@pytest.mark.parametrize(("negative_ttl", "kept"), [(30, True), (0, False), (None, False)])
async def test_absence_is_kept_as_long_as_its_soa_says(negative_ttl: int | None, kept: bool, backend: str) -> None:
    if backend == "aiodns":
        return  # it does not show the record; test_no_answer_is_kept_longer_than_the_cap
    clock = Clock()
    async with a_resolver(clock, ttl=100, negative_ttl=negative_ttl) as (resolver, _):
        await resolver.query("missing.example", "A")
        clock.move(29)
        assert (await resolver.query("missing.example", "A")).cached is kept
        clock.move(1)
        assert not (await resolver.query("missing.example", "A")).cached


async def test_a_time_to_live_of_zero_is_not_kept() -> None:
    async with a_resolver(ttl=0) as (resolver, server):
        await resolver.query("example.org", "A")
        await resolver.query("example.org", "A")
        assert len(server.queries) == 2


async def test_a_failure_is_remembered_for_a_moment() -> None:
    clock = Clock()
    async with a_resolver(clock) as (resolver, server):
        for _ in range(3):
            with pytest.raises(DnsError):
                await resolver.query("fails.example", "TXT")
        asked = len(server.queries)
        clock.move(1)
        with pytest.raises(DnsError):
            await resolver.query("fails.example", "TXT")
        assert len(server.queries) == 2 * asked


async def test_the_cache_is_bounded() -> None:
    async with a_resolver(settings={"cache_size": 3}) as (resolver, server):
        for number in range(5):
            await resolver.query(f"missing{number}.example", "A")
        await resolver.query("missing4.example", "A")
        assert len(server.queries) == 5
        await resolver.query("missing0.example", "A")
        assert len(server.queries) == 6
        assert len(resolver._cache) == 3


async def test_one_look_up_serves_all_who_ask_at_once() -> None:
    async with a_resolver(delay={"example.org": 0.05}) as (resolver, server):
        answers = await asyncio.gather(*(resolver.query("example.org", "TXT") for _ in range(50)))
        assert len(server.queries) == 1
        assert all(answer == answers[0] for answer in answers)


async def test_whoever_leaves_does_not_take_the_answer_from_the_others() -> None:
    async with a_resolver(delay={"example.org": 0.5}) as (resolver, server):
        loop = asyncio.get_running_loop()
        first = loop.create_task(resolver.query("example.org", "A"))
        await asyncio.sleep(0.01)
        second = loop.create_task(resolver.query("example.org", "A"))
        await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (await second).records
        assert len(server.queries) == 1


async def test_a_failure_nobody_waits_for_any_more_is_no_noise() -> None:
    async with a_resolver(settings={"timeout": 0.05}, misbehave={"example.org": SILENT}) as (resolver, _):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(resolver.query("example.org", "A"), 0.01)
        await asyncio.sleep(0.1)
        assert resolver._in_flight == {}


async def test_a_question_given_up_at_any_moment_is_no_noise() -> None:
    """Before its socket is there, too."""
    noise: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, what: noise.append(what))
    query = dns.message.make_query("example.org", "A")
    async with StubDnsServer(ZONES, misbehave={"example.org": SILENT}) as server:
        for turns in range(12):
            question = loop.create_task(exchange.ask(("127.0.0.1", int(server.address.rpartition(":")[2])), query))
            for _ in range(turns):
                await asyncio.sleep(0)
            question.cancel()
            await asyncio.wait([question])
            assert question.cancelled()
            await asyncio.sleep(0)
    gc.collect()
    assert noise == []


@pytest.mark.parametrize("name", ["big.example", "example.org"])
async def test_what_is_cut_over_udp_comes_over_tcp(name: str) -> None:
    async with a_resolver(misbehave={"example.org": TRUNCATED}) as (resolver, server):
        assert (await resolver.query(name, "TXT")).records
        assert [transport for _, _, transport in server.queries] == ["udp", "tcp"]


@pytest.mark.parametrize(("name", "kind"), [("huge.example", "TXT"), ("many.example", "A")])
async def test_an_answer_that_is_too_large_is_a_failure(name: str, kind: str) -> None:
    async with a_resolver() as (resolver, _):
        with pytest.raises(DnsError, match=r"octets|no usable answer"):
            await resolver.query(name, kind)


@pytest.mark.parametrize("how", [WRONG_ID, WRONG_QUESTION, GARBAGE])
async def test_what_does_not_answer_the_question_is_passed_over(how: str, backend: str) -> None:
    if how == GARBAGE and backend == "aiodns":  # a malformed datagram ends the try: a failure, never an answer
        async with a_resolver(misbehave={"example.org": how}) as (resolver, _):
            with pytest.raises(DnsError) as raised:
                await resolver.query("example.org", "A")
            assert raised.value.cause == "answer"
        return
    async with a_resolver(misbehave={"example.org": how}) as (resolver, server):
        assert set((await resolver.query("example.org", "A")).records) == {"192.0.2.1", "192.0.2.2"}
        assert len(server.queries) == 1


@pytest.mark.parametrize("how", [SILENT, ONLY_GARBAGE])
async def test_without_an_answer_the_time_limit_holds(how: str, backend: str) -> None:
    if how == ONLY_GARBAGE and backend == "aiodns":
        return  # as above
    async with a_resolver(settings={"timeout": 0.2}, misbehave={"example.org": how}) as (resolver, server):
        began = asyncio.get_running_loop().time()
        with pytest.raises(DnsError, match="no answer"):
            await resolver.query("example.org", "A")
        assert 0.15 < asyncio.get_running_loop().time() - began < 2
        assert len(server.queries) == 2


@pytest.mark.parametrize(
    ("how", "word", "cause"),
    [
        (SERVFAIL, "SERVFAIL", "servfail"),
        (REFUSED, "REFUSED", "refused"),
        (SILENT, "no answer", "timeout"),
        (ONLY_GARBAGE, "no answer", "timeout"),
    ],
)
async def test_a_failure_tells_its_cause_also_a_moment_later(how: str, word: str, cause: str, backend: str) -> None:
    if how == ONLY_GARBAGE and backend == "aiodns":
        word, cause = "Misformatted", "answer"
    async with a_resolver(misbehave={"example.org": how}, settings={"timeout": 0.2}) as (resolver, _):
        for _ in range(2):
            with pytest.raises(DnsError, match=word) as raised:
                await resolver.query("example.org", "A")
            assert raised.value.cause == cause


async def test_a_server_that_is_not_there_is_a_cause_too() -> None:
    resolver = CachingResolver(DnsConfig(nameservers=(_closed_port(),)))
    with pytest.raises(DnsError) as raised:
        await resolver.query("example.org", "A")
    assert raised.value.cause == "unreachable"
    await resolver.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_name_servers_of_both_families_over_udp_and_tcp(host: str) -> None:
    async with a_resolver(host=host, misbehave={"alias2.example": TRUNCATED}) as (resolver, server):
        assert (await resolver.query("example.org", "A")).records
        assert (await resolver.query("alias2.example", "A")).records
        assert [transport for _, _, transport in server.queries] == ["udp", "udp", "tcp"]


@pytest.mark.parametrize(("trust_ad", "believed"), [("loopback", True), ("always", True), ("never", False)])
async def test_the_ad_bit_is_shown_where_the_server_is_believed(trust_ad: str, believed: bool, backend: str) -> None:
    believed = believed and backend == "dnspython"  # the other does not show it
    async with a_resolver(settings={"trust_ad": trust_ad}, authenticated=True) as (resolver, _):
        for _ in range(2):
            assert (await resolver.query("example.org", "A")).authenticated is believed
        assert (await resolver.query("missing.example", "A")).authenticated is believed


async def test_without_the_ad_bit_nothing_is_authenticated() -> None:
    async with a_resolver(settings={"trust_ad": "always"}) as (resolver, _):
        assert not (await resolver.query("example.org", "A")).authenticated


async def test_every_query_is_counted_by_its_outcome() -> None:
    def values() -> dict[str, float]:
        metrics.flush()
        found = {outcome: metrics.DNS_QUERIES.labels(outcome) for outcome in ("static", "cached", "asked", "stale", "failed")}
        counters = {**found, "servfail": metrics.DNS_FAILURES.labels("servfail")}
        return {name: counter._value.get() for name, counter in counters.items()}

    before, clock = values(), Clock()
    async with a_resolver(clock, settings={"zones": {"a.test": {"A": ["192.0.2.1"]}}}, ttl=10) as (resolver, server):
        await resolver.query("a.test", "A")
        for _ in range(3):
            await resolver.query("example.org", "A")
        clock.move(10)
        server.misbehave["example.org"] = SERVFAIL
        assert (await resolver.query("example.org", "A")).stale
        for _ in range(2):
            with pytest.raises(DnsError):
                await resolver.query("fails.example", "A")
    after = values()
    counted = {name: after[name] - before[name] for name in after}
    assert counted == {"static": 1, "cached": 2, "asked": 1, "stale": 1, "failed": 2, "servfail": 2}


async def test_a_server_that_knows_no_edns_is_asked_without() -> None:
    async with a_resolver(misbehave={"example.org": NO_EDNS}) as (resolver, server):
        assert (await resolver.query("example.org", "A")).records
        assert len(server.queries) == 2


async def test_who_sends_from_elsewhere_is_not_heard() -> None:
    async with a_resolver(misbehave={"example.org": WRONG_SOURCE}) as (resolver, server):
        assert set((await resolver.query("example.org", "A")).records) == {"192.0.2.1", "192.0.2.2"}
        assert len(server.queries) == 1


async def test_records_of_another_name_are_no_answer() -> None:
    async with a_resolver(misbehave={"example.org": WRONG_NAME}) as (resolver, _):
        answer = await resolver.query("example.org", "A")
        assert (answer.exists, answer.records) == (True, ())
        assert not (await resolver.query("other.example", "A")).records


@pytest.mark.parametrize("how", [CIRCLE, ENDLESS_CHAIN, ONLY_CUT, CUT_OFF])
async def test_answers_that_lead_nowhere_are_failures(how: str, backend: str) -> None:
    """Each within its time and with a bounded number of questions."""
    if how == ONLY_CUT and backend == "aiodns":
        return  # c-ares believes an empty answer over TCP, cut or not
    lies = {"example.org": how, "*.example.org": how}
    async with a_resolver(misbehave=lies, settings={"timeout": 1}) as (resolver, server):
        with pytest.raises(DnsError) as raised:
            await resolver.query("example.org", "A")
        assert raised.value.cause in {"answer", "timeout", "unreachable"}
        assert len(server.queries) <= 2 * (asking.MAX_CHAIN + 1)


async def test_a_slow_name_does_not_hold_up_another() -> None:
    """As many questions without an answer as may be sent at once, and the next one is answered all the same."""
    lies = {"*.slow.example": HELD}
    async with a_resolver(misbehave=lies, settings={"timeout": 30}) as (resolver, server):
        loop = asyncio.get_running_loop()
        slow = [loop.create_task(resolver.query(f"{number}.slow.example", "A")) for number in range(asking.MAX_BURST)]
        await server.holds(asking.MAX_BURST)
        assert (await resolver.query("example.org", "A")).records
        assert server.held >= asking.MAX_BURST
        assert not any(task.done() for task in slow)
        server.release()
        assert not any(answer.exists for answer in await asyncio.gather(*slow))


def _closed_port() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


async def test_the_next_server_is_asked_and_stays_first() -> None:
    async with StubDnsServer(ZONES) as server, StubDnsServer(ZONES, misbehave={"example.org": SERVFAIL}) as broken:
        resolver = CachingResolver(DnsConfig(nameservers=(_closed_port(), broken.address, server.address)))
        assert (await resolver.query("example.org", "A")).records
        assert (await resolver.query("example.org", "MX")).records
        assert len(broken.queries) == 1
        assert len(server.queries) == 2
        await resolver.close()


@pytest.mark.parametrize("text", [None, "", "# nothing\nsearch example.org\noptions ndots:5\n"])
async def test_no_name_server_is_an_error_of_each_query_not_of_the_start(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "resolv.conf"
    if text is not None:
        file.write_text(text)
    clock = Clock()
    resolver = CachingResolver(DnsConfig(), clock=clock, servers=Servers((), clock=clock, resolv_conf=file))
    with pytest.raises(DnsError, match="no name server is known"):
        await resolver.query("example.org", "A")
    await resolver.close()


async def test_a_closed_resolver_ends_what_is_under_way() -> None:
    async with a_resolver(misbehave={"example.org": SILENT}) as (resolver, _):
        under_way = asyncio.get_running_loop().create_task(resolver.query("example.org", "A"))
        await asyncio.sleep(0.01)
        await resolver.close()
        with pytest.raises(DnsError, match="closed"):
            await under_way
        with pytest.raises(DnsError, match="closed"):
            await resolver.query("example.org", "MX")


async def test_look_ups_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IN_FLIGHT", 2)
    delay: Mapping[str, float] = {f"missing{i}.example": 0.1 for i in range(3)}
    async with a_resolver(delay=delay) as (resolver, _):
        answers = await asyncio.gather(*(resolver.query(name, "A") for name in delay), return_exceptions=True)
        assert [isinstance(answer, DnsError) for answer in answers] == [False, False, True]


async def test_a_burst_loses_nothing_on_the_wire(backend: str) -> None:
    async with a_resolver(settings={"timeout": 25, "cache_size": 1_000}) as (resolver, server):
        answers = await asyncio.gather(*(resolver.query(f"missing{i}.example", "A") for i in range(asking.MAX_BURST * 3)))
        assert not any(answer.exists for answer in answers)
        assert len(set(server.queries)) == len(answers)
        assert len(server.queries) == len(answers) or backend == "aiodns"  # c-ares is less patient
