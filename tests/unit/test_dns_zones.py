"""Static answers of the configuration, and how they stand beside the name servers."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.models import DnsConfig
from gateway.dns import CachingResolver
from gateway.dns.zones import Zones
from gateway.errors import ConfigError, DnsError
from gateway.testing import StubDnsServer

ZONES: dict[str, dict[str, Any]] = {
    "Example.ORG.": {"A": ["192.0.2.1"], "MX": [[10, "mx.example.org."], [0, "."]], "TXT": ["v=spf1 -all", ["a", "b"]]},
    "alias.example.org": {"CNAME": ["example.org"]},
    "live.example.org": {"CNAME": ["elsewhere.example"]},
    "loop.example.org": {"CNAME": ["loop.example.org"]},
    "fails.example.org": {"TXT": ["TEMPFAIL"], "A": ["192.0.2.9"]},
    "a.site.test": {"A": ["192.0.2.3"]},
}


async def query(name: str, kind: str, server: StubDnsServer) -> Any:
    resolver = CachingResolver(DnsConfig(zones=ZONES, nameservers=(server.address,)))
    try:
        return await resolver.query(name, kind)
    finally:
        await resolver.close()


async def test_listed_names_are_answered_without_a_packet() -> None:
    async with StubDnsServer() as server:
        assert (await query("example.org", "A", server)).records == ("192.0.2.1",)
        assert (await query("example.org", "MX", server)).records == ((10, "mx.example.org"), (0, "."))
        assert (await query("example.org.", "TXT", server)).records == ((b"v=spf1 -all",), (b"a", b"b"))
        nothing = await query("example.org", "AAAA", server)
        assert (nothing.exists, nothing.records) == (True, ())
        alias = await query("alias.example.org", "A", server)
        assert (alias.name, alias.records, alias.canonical) == ("alias.example.org", ("192.0.2.1",), "example.org")
        assert (await query("alias.example.org", "CNAME", server)).records == ("example.org",)
        assert server.queries == []


@pytest.mark.parametrize("name", ["other.example.org", "deep.below.example.org", "other.site.test", "_dmarc.other.test"])
async def test_names_below_a_listed_one_and_in_its_reserved_domain_do_not_exist(name: str) -> None:
    async with StubDnsServer({name: {"A": ["203.0.113.1"]}}) as server:
        assert not (await query(name, "A", server)).exists
        assert server.queries == []


async def test_a_name_with_listed_names_below_it_exists() -> None:
    async with StubDnsServer() as server:
        for name in ("site.test", "test"):
            answer = await query(name, "A", server)
            assert (answer.exists, answer.records) == (True, ())
        assert server.queries == []


@pytest.mark.parametrize(
    ("name", "records", "exists"),
    [
        ("any.wild.example", ("192.0.2.7",), True),
        ("ANY.deep.wild.example", ("192.0.2.7",), True),  # RFC 4592 2.1.1: as many labels as you like
        ("listed.wild.example", ("192.0.2.8",), True),
        ("below.listed.wild.example", (), False),  # RFC 4592 2.2.1: listed.wild.example is closer
        ("between.wild.example", (), True),  # it exists by the name below it, so no wildcard (RFC 4592 2.2.2)
        ("other.between.wild.example", (), False),
        ("wild.example", ("203.0.113.1",), True),  # the name itself is not below the wildcard: it is asked for
        ("*.wild.example", ("192.0.2.7",), True),
    ],
)
async def test_wildcards(name: str, records: tuple[str, ...], exists: bool) -> None:
    zones = {
        "*.wild.example": {"A": ["192.0.2.7"]},
        "listed.wild.example": {"A": ["192.0.2.8"]},
        "a.between.wild.example": {"A": ["192.0.2.9"]},
    }
    async with StubDnsServer({"wild.example": {"A": ["203.0.113.1"]}}) as server:
        resolver = CachingResolver(DnsConfig(zones=zones, nameservers=(server.address,)))
        answer = await resolver.query(name, "A")
        await resolver.close()
        assert (answer.name, answer.records, answer.exists) == (name.lower(), records, exists)
        assert len(server.queries) == (name == "wild.example")


async def test_a_wildcard_answers_other_kinds_with_nothing_and_follows_its_alias() -> None:
    zones = {
        "*.wild.example": {"CNAME": ["target.example"]},
        "target.example": {"A": ["192.0.2.1"]},
        "*.b.example": {"A": ["192.0.2.2"]},
    }
    resolver = CachingResolver(DnsConfig(zones=zones))
    alias = await resolver.query("x.wild.example", "A")
    assert (alias.records, alias.canonical) == (("192.0.2.1",), "target.example")
    nothing = await resolver.query("x.b.example", "MX")
    assert (nothing.records, nothing.exists) == ((), True)
    await resolver.close()


async def test_one_name_is_ours_and_the_rest_of_its_domain_is_not() -> None:
    """Split horizon: what is beside a listed name goes to the name servers."""
    theirs: dict[str, dict[str, Any]] = {
        "example.org": {"MX": [[10, "mx.example.org"]]},
        "www.example.org": {"A": ["203.0.113.2"]},
    }
    async with StubDnsServer(theirs) as server:
        resolver = CachingResolver(DnsConfig(zones={"mail.example.org": {"A": ["10.0.0.1"]}}, nameservers=(server.address,)))
        assert (await resolver.query("mail.example.org", "A")).records == ("10.0.0.1",)
        assert (await resolver.query("www.example.org", "A")).records == ("203.0.113.2",)
        assert (await resolver.query("example.org", "MX")).records == ((10, "mx.example.org"),)
        await resolver.close()


@pytest.mark.parametrize("name", ["org", "other.org", "xexample.org", "other.invalid"])
async def test_other_names_are_asked_for(name: str) -> None:
    async with StubDnsServer({name: {"A": ["203.0.113.1"]}}) as server:
        assert (await query(name, "A", server)).records == ("203.0.113.1",)


async def test_an_alias_may_lead_out() -> None:
    async with StubDnsServer({"elsewhere.example": {"A": ["203.0.113.1"]}}) as server:
        answer = await query("live.example.org", "A", server)
        assert (answer.name, answer.records, answer.canonical) == ("live.example.org", ("203.0.113.1",), "elsewhere.example")


async def test_failures_on_request() -> None:
    async with StubDnsServer() as server:
        with pytest.raises(DnsError):
            await query("fails.example.org", "TXT", server)
        assert (await query("fails.example.org", "A", server)).records == ("192.0.2.9",)
        with pytest.raises(DnsError, match="chain too long"):
            await query("loop.example.org", "A", server)


def test_every_mistake_is_named() -> None:
    zones: dict[str, dict[str, Any]] = {
        "bad..name": {"A": ["192.0.2.1"]},
        "example.org": {"A": [1], "MX": ["mx.example.org"], "TXT": [7], "SRV": ["x"]},
    }
    with pytest.raises(ConfigError) as raised:
        Zones(zones)
    assert [problem.key for problem in raised.value.problems] == [
        "dns.zones.bad..name",
        "dns.zones.example.org.A",
        "dns.zones.example.org.MX",
        "dns.zones.example.org.TXT",
        "dns.zones.example.org",
    ]


def test_a_long_text_is_cut_into_strings() -> None:
    answer = Zones({"example.org": {"TXT": ["x" * 300, ""]}}).answer("example.org", "TXT")
    assert answer is not None
    assert [tuple(map(len, record)) for record in answer.records] == [(255, 45), (0,)]
