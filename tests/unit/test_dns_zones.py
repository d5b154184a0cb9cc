"""Static answers of the configuration, and how they stand beside the name servers."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.models import DnsConfig
from gateway.dns import CachingResolver
from gateway.dns.zones import Zones
from gateway.errors import ConfigError, DnsError
from gateway.testing.dns_server import StubDnsServer

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


@pytest.mark.parametrize("name", ["other.example.org", "deep.below.example.org", "site.test", "_dmarc.other.test", "test"])
async def test_names_below_a_listed_one_and_in_its_reserved_domain_do_not_exist(name: str) -> None:
    async with StubDnsServer({name: {"A": ["203.0.113.1"]}}) as server:
        assert not (await query(name, "A", server)).exists
        assert server.queries == []


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
