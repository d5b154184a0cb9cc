"""The name server of the test kit, as a stranger's client sees it: each misbehaviour is what its name says."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import pytest

from gateway.testing import StubDnsServer, dns_lies
from gateway.testing.dns_lies import CUT_OFF, HELD, LIE, MISBEHAVIOURS, ONLY_CUT, SILENT, TRUNCATED, WRONG_NAME, WRONG_SOURCE

ZONES = {"example.org": {"A": ["192.0.2.1"]}, "alias.example": {"CNAME": ["example.org"]}}
QUERY = dns.message.make_query("example.org.", "A")
PAGE = Path(__file__).parents[2] / "docs" / "dns.md"


async def ask(server: StubDnsServer, query: dns.message.Message = QUERY, *, over_tcp: bool = False) -> dns.message.Message:
    host, _, port = server.address.rpartition(":")
    way: Any = dns.asyncquery.tcp if over_tcp else dns.asyncquery.udp
    answer: dns.message.Message = await way(query, host, port=int(port), timeout=0.2)
    return answer


async def test_a_right_answer() -> None:
    async with StubDnsServer(ZONES) as server:
        for over_tcp in (False, True):
            assert "192.0.2.1" in str((await ask(server, over_tcp=over_tcp)).answer)
        assert server.queries == [("example.org", "A", "udp"), ("example.org", "A", "tcp")]


async def test_truncation() -> None:
    for how, whole_over_tcp in [(TRUNCATED, True), (ONLY_CUT, False)]:
        async with StubDnsServer(ZONES, misbehave={"example.org": how}) as server:
            assert (await ask(server)).flags & dns.flags.TC
            assert bool((await ask(server, over_tcp=True)).answer) is whole_over_tcp
    async with StubDnsServer(ZONES, misbehave={"example.org": CUT_OFF}) as server:
        with pytest.raises(EOFError):
            await ask(server, over_tcp=True)


async def test_held_answers_come_when_they_are_released() -> None:
    async with StubDnsServer(ZONES, misbehave={"*": HELD}) as server:
        with pytest.raises(dns.exception.Timeout):
            await ask(server)
        asking = asyncio.get_running_loop().create_task(ask(server))
        await server.holds(2)
        server.release()
        assert (await asking).answer
        assert (await ask(server)).answer
        assert server.held == 0


async def test_a_spoof_comes_from_another_port_with_the_right_id() -> None:
    heard: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()

    class Ear(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            heard.put_nowait((data, addr))

    async with StubDnsServer(ZONES, misbehave={"example.org": WRONG_SOURCE}) as server:
        host, _, port = server.address.partition(":")
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Ear, local_addr=(host, 0))
        transport.sendto(QUERY.to_wire(), (host, int(port)))
        async with asyncio.timeout(5):
            (lie, liar), (_, honest) = await heard.get(), await heard.get()
        transport.close()
    assert honest == (host, int(port)) != liar
    assert lie[:2] == QUERY.to_wire()[:2]
    assert LIE in str(dns.message.from_wire(lie).answer)


async def test_a_lie_about_another_name() -> None:
    async with StubDnsServer(ZONES, misbehave={"example.org": WRONG_NAME}) as server:
        answer = await ask(server)
        assert [rrset.name.to_text() for rrset in answer.answer] == ["other.example."]


async def test_misbehaviour_of_names_below_and_of_all() -> None:
    lies = {"*": SILENT, "*.example.org": "servfail", "www.example.org": "refused", "example.org": ""}
    async with StubDnsServer(ZONES, delay={"*.b.example.org": 0.0}) as server:
        server.misbehave = lies
        assert (await ask(server)).rcode() == dns.rcode.NOERROR
        for name, rcode in [("a.b.example.org.", dns.rcode.SERVFAIL), ("www.example.org.", dns.rcode.REFUSED)]:
            assert (await ask(server, dns.message.make_query(name, "A"))).rcode() == rcode
        with pytest.raises(dns.exception.Timeout):
            await ask(server, dns.message.make_query("elsewhere.example.", "A"))


def test_a_misbehaviour_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown misbehaviour"):
        StubDnsServer(misbehave={"example.org": "nonsense"})


def test_every_misbehaviour_has_a_constant_and_a_line_in_the_docs() -> None:
    constants = {name: value for name, value in vars(dns_lies).items() if name.isupper() and value in MISBEHAVIOURS}
    assert set(constants.values()) == MISBEHAVIOURS
    section = PAGE.read_text(encoding="utf-8").partition("## A name server for tests")[2]
    assert {
        word for row in re.findall(r"^\| (`[A-Z].*?) \|", section, re.MULTILINE) for word in re.findall(r"`(\w+)`", row)
    } == set(constants)


async def test_the_example_of_the_page_passes() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## A name server for tests")[2]
    names: dict[str, Any] = {}
    exec(section.partition("```python\n")[2].partition("```")[0], names)
    await names["test_what_is_left_when_dns_is_dead"]()
