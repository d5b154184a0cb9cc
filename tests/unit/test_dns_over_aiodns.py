"""The backend on aiodns: what c-ares does otherwise, and what must not come of it."""

from __future__ import annotations

import asyncio
import socket

import pycares
import pytest

from gateway.config.models import DnsConfig
from gateway.dns import CachingResolver, over_aiodns
from gateway.dns.answers import BadAnswerError
from gateway.dns.exchange import MAX_RECORDS
from gateway.dns.over_aiodns import AiodnsBackend, read
from gateway.dns.servers import parse_server
from gateway.errors import DnsError
from gateway.testing import StubDnsServer
from gateway.testing.dns_lies import SILENT

ZONES = {"example.org": {"A": ["192.0.2.1"]}, "nul": {"A": ["203.0.113.66"]}}


async def test_the_configuration_chooses_it() -> None:
    async with StubDnsServer(ZONES) as server:
        resolver = CachingResolver(DnsConfig(nameservers=(server.address,), backend="aiodns"))
        assert isinstance(resolver._asker._backend, AiodnsBackend)
        assert (await resolver.query("example.org", "A")).records == ("192.0.2.1",)
        await resolver.close()


async def test_a_server_given_by_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with StubDnsServer(ZONES) as server:
        host, _, port = server.address.partition(":")

        async def getaddrinfo(name: str, _: int) -> list[tuple[object, ...]]:
            if name != "unbound.example":
                raise OSError("Name or service not known")
            return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (host, int(port)))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        known = CachingResolver(DnsConfig(nameservers=(f"unbound.example:{port}",), backend="aiodns"))
        assert (await known.query("example.org", "A")).records == ("192.0.2.1",)
        await known.close()
        missing = CachingResolver(DnsConfig(nameservers=(f"missing.example:{port}",), backend="aiodns"))
        with pytest.raises(DnsError, match="not known") as raised:
            await missing.query("example.org", "A")
        assert raised.value.cause == "unreachable"
        await missing.close()


async def test_c_ares_keeps_nothing_of_its_own() -> None:
    async with StubDnsServer(ZONES) as server:
        backend = AiodnsBackend()
        for _ in range(3):
            await backend.ask(parse_server(server.address), "example.org", "A", want_ad=False)
            await backend.ask(parse_server(server.address), "missing.example", "A", want_ad=False)
        await backend.close()
        assert len(server.queries) == 6


async def test_a_name_is_not_cut_at_a_nul() -> None:
    async with StubDnsServer(ZONES) as server:
        backend = AiodnsBackend()
        reading = await backend.ask(parse_server(server.address), "nul\0.example", "A", want_ad=False)
        await backend.close()
        assert (reading.exists, reading.records, server.queries) == (False, (), [])


async def test_an_old_channel_serves_those_who_wait_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with StubDnsServer(ZONES, delay={"example.org": 0.1}) as server:
        backend, address = AiodnsBackend(), parse_server(server.address)
        waiting = asyncio.get_running_loop().create_task(backend.ask(address, "example.org", "A", want_ad=False))
        await asyncio.sleep(0.02)
        old = backend._channels[address]
        monkeypatch.setattr(over_aiodns, "CHANNEL_AGE", 0.0)
        await backend.ask(address, "missing.example", "A", want_ad=False)
        assert backend._channels[address] is not old
        assert (await waiting).records == ("192.0.2.1",)
        assert old.retired
        assert not old.waiting
        await backend.close()


async def test_closed_it_leaves_nobody_waiting() -> None:
    async with StubDnsServer(ZONES, misbehave={"example.org": SILENT}) as server:
        backend = AiodnsBackend()
        waiting = asyncio.get_running_loop().create_task(
            backend.ask(parse_server(server.address), "example.org", "A", want_ad=False)
        )
        await asyncio.sleep(0.02)
        await backend.close()
        with pytest.raises(BadAnswerError):
            await waiting


def _record(name: str, kind: int, data: object, ttl: int = 60) -> pycares.DNSRecord:
    return pycares.DNSRecord(name=name, type=kind, record_class=1, ttl=ttl, data=data)  # type: ignore[arg-type] # any of its values


def _alias(name: str, target: str, ttl: int = 60) -> pycares.DNSRecord:
    return _record(name, pycares.QUERY_TYPE_CNAME, pycares.CNAMERecordData(cname=target), ttl)


def _address(name: str, text: str, ttl: int = 60) -> pycares.DNSRecord:
    return _record(name, pycares.QUERY_TYPE_A, pycares.ARecordData(addr=text), ttl)


def _result(*answer: pycares.DNSRecord, authority: tuple[pycares.DNSRecord, ...] = ()) -> pycares.DNSResult:
    return pycares.DNSResult(answer=list(answer), authority=list(authority), additional=[])


def test_a_chain_in_any_order_ends_at_its_last_name_with_the_least_time() -> None:
    answer = _result(
        _address("C.example", "192.0.2.1", 50), _alias("b.example", "c.example.", 40), _alias("a.example", "B.example")
    )
    reading = read(answer, "a.example", "A")
    assert (reading.records, reading.canonical, reading.ttl, reading.unfinished) == (("192.0.2.1",), "c.example", 40, False)


def test_records_of_other_names_are_no_answer() -> None:
    reading = read(_result(_address("evil.example", "203.0.113.66")), "a.example", "A")
    assert (reading.records, reading.ttl) == ((), 0)
    chained = read(_result(_alias("a.example", "b.example"), _address("evil.example", "203.0.113.66")), "a.example", "A")
    assert (chained.records, chained.canonical, chained.unfinished) == ((), "b.example", True)


def test_the_soa_record_behind_an_alias_says_how_long_absence_holds() -> None:
    soa = pycares.SOARecordData(mname="ns", rname="root", serial=1, refresh=1, retry=1, expire=1, minimum=30)
    end = _record("example", pycares.QUERY_TYPE_SOA, soa)
    reading = read(_result(_alias("a.example", "b.example"), authority=(end,)), "a.example", "A")
    assert (reading.records, reading.ttl, reading.unfinished) == ((), 30, False)


@pytest.mark.parametrize(
    "answer",
    [
        _result(_alias("a.example", "b.example"), _alias("b.example", "a.example")),
        _result(_alias("a.example", "a.example")),
        _result(*(_address("a.example", "192.0.2.1") for _ in range(MAX_RECORDS + 1))),
    ],
)
def test_what_cannot_be_is_a_failure(answer: pycares.DNSResult) -> None:
    with pytest.raises(BadAnswerError):
        read(answer, "a.example", "A")
