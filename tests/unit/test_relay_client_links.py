"""Two clients on one pool: what is known of the one is never seen for the other, and the one's guilt is not the other's."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.config.models import RelayConfig, RouteConfig
from gateway.errors import LinkError
from gateway.relay.identity import ClientFacts
from gateway.relay.pool import Relay
from gateway.testing.dns import FakeResolver
from gateway.testing.next_hop import KEYWORDS, Answer, ScriptedNextHop

XCLIENT = (*KEYWORDS, "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT")
XFORWARD = (*KEYWORDS, "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE")
CONTENT = b"Subject: x\r\n\r\nx\r\n"


@contextlib.asynccontextmanager
async def relaying(
    hop: ScriptedNextHop,
    client_address: str,
    *,
    decides: bool = False,
    zones: dict[str, Any] | None = None,
    **settings: float,
) -> AsyncIterator[Relay]:
    route = RouteConfig.model_validate(
        {
            "name": "r",
            "domains": ("*",),
            "servers": (hop.address,),
            "client_address": client_address,
            "next_hop_decides": decides or "without client address",
        }
    )
    limits = {"connect_timeout": 10.0, "wait_limit": 60.0, **settings}
    resolver = None if zones is None else FakeResolver(zones)
    relay = Relay([route], RelayConfig.model_validate(limits), server_name="gw.test", resolver=resolver)
    try:
        yield relay
    finally:
        await relay.close()


def client(number: int, **facts: Any) -> ClientFacts:
    """One of them has all facts, another few."""
    known = {"helo": f"h{number}.test", "protocol": "ESMTP"}
    if number % 2:
        known |= {"name": f"n{number}.test", "identity": f"user{number}"}
    return ClientFacts(**{"address": f"192.0.2.{number}", "port": 1000 + number, "session": f"s{number}", **known, **facts})


async def deliver(relay: Relay, who: ClientFacts, recipient: bytes = b"<c@d>", *, content: bool = True) -> list[int]:
    """One transaction, whose reverse-path names its client: the codes it got."""
    handover = relay.handover("r", who)
    try:
        path = f"<{who.address}>".encode()
        replies = list(await asyncio.gather(handover.mail(path, []), handover.rcpt(recipient, [])))
        if content and all(reply.is_positive for reply in replies):
            replies += await handover.send([CONTENT], size=len(CONTENT))
        return [reply.code for reply in replies]
    finally:
        handover.abandon()


async def all_closed(hop: ScriptedNextHop) -> None:
    async with asyncio.timeout(10):
        while hop.open_connections:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)


def expected(who: ClientFacts) -> dict[str, str]:
    unknown = "[UNAVAILABLE]"
    return {
        "NAME": who.name or unknown,
        "ADDR": who.address,
        "PORT": str(who.port),
        "PROTO": "ESMTP",
        "HELO": who.helo,
    }


@pytest.mark.parametrize("way", ["xclient", "xforward"])
async def test_ten_thousand_interleaved_transactions(way: str) -> None:
    """5,000 each way, of two clients over few links; every transaction is seen with its own client's facts, all of them."""
    clients = [client(1), client(2)]
    rng = random.Random(5)
    async with (
        ScriptedNextHop(keywords=XCLIENT if way == "xclient" else XFORWARD) as hop,
        relaying(hop, way, max_links=5) as relay,
    ):

        async def some(count: int) -> None:
            for number in range(count):
                assert set(await deliver(relay, rng.choice(clients), content=number % 5 == 0)) == {250}

        await asyncio.gather(*(some(500) for _ in range(10)))
        assert len(hop.begun) == 5000
        assert len(hop.transactions) == 1000
        by_path = {f"<{who.address}>".encode(): who for who in clients}
        front = "" if way == "xclient" else "XFORWARD-"
        users = set()
        for taken in hop.begun:
            who = by_path[taken.reverse_path]
            want = {front + name: value for name, value in expected(who).items()}
            if way == "xclient":
                want |= {"LOGIN": who.identity or "[UNAVAILABLE]", "DESTADDR": "[UNAVAILABLE]", "DESTPORT": "[UNAVAILABLE]"}
                assert taken.helo == who.helo
            else:
                want |= {"XFORWARD-IDENT": "[UNAVAILABLE]", "XFORWARD-SOURCE": "REMOTE"}
            assert taken.told == want
            users.add((taken.connection, taken.reverse_path))
        assert len(users) > len({connection for connection, _ in users})  # links went from the one to the other


@pytest.mark.parametrize("way", ["received", "xclient", "xforward"])
async def test_a_flood_of_unknown_recipients_does_not_touch_the_innocent(way: str) -> None:
    """The next hop drops who makes ten mistakes, as Postfix does; a link is retired after five."""
    async with ScriptedNextHop(keywords=(*XCLIENT, XFORWARD[-1])) as hop, relaying(hop, way, max_links=4) as relay:
        hop.error_limit = 10
        hop.script("RCPT TO:<nobody@", "550 5.1.1 No such user")

        async def flood() -> None:
            for _ in range(300):
                assert await deliver(relay, client(1), b"<nobody@d>") == [250, 550]

        async def innocent() -> None:
            for _ in range(300):
                assert await deliver(relay, client(2)) == [250, 250, 250]

        await asyncio.gather(flood(), flood(), innocent())
        assert len(hop.transactions) == 300


async def test_the_same_client_is_told_of_once() -> None:
    async with ScriptedNextHop(keywords=XCLIENT) as hop, relaying(hop, "xclient") as relay:
        for who in (client(1), client(1, ident="other"), client(1, helo="changed.test"), client(1, session="later")):
            await deliver(relay, who)
        assert [line.split()[0] for line in hop.commands].count(b"XCLIENT") == 3
        assert [taken.helo for taken in hop.transactions] == ["h1.test", "h1.test", "changed.test", "h1.test"]
        assert hop.connections == 1


async def test_a_refused_xclient_is_about_the_link_and_ends_it() -> None:
    async with ScriptedNextHop(keywords=XCLIENT) as hop, relaying(hop, "xclient") as relay:
        hop.script("XCLIENT", "550 5.7.0 Not you", "220 next-hop.test", stay=False)
        with pytest.raises(LinkError, match=r"XCLIENT answered with 550 5\.7\.0 Not you") as caught:
            await deliver(relay, client(1))
        assert caught.value.enhanced == "4.3.5"
        assert await deliver(relay, client(2)) == [250, 250, 250]
        assert [taken.connection for taken in hop.transactions] == [2]


async def test_a_refused_xforward_is_about_the_link_and_ends_it() -> None:
    async with ScriptedNextHop(keywords=XFORWARD) as hop, relaying(hop, "xforward") as relay:
        hop.script("XFORWARD", "501 5.5.4 Bad value")
        with pytest.raises(LinkError, match="XFORWARD answered with 501"):
            await deliver(relay, client(1))
        hop.script("XFORWARD", "250 2.0.0 Ok")
        assert await deliver(relay, client(2)) == [250, 250, 250]
        assert hop.open_connections == 1


async def test_xforward_is_said_again_with_a_changed_envelope() -> None:
    async with ScriptedNextHop(keywords=XFORWARD) as hop, relaying(hop, "xforward") as relay:
        handover = relay.handover("r", client(1))
        await asyncio.gather(handover.mail(b"<a@b>", []), handover.rcpt(b"<c@d>", []), handover.rcpt(b"<e@f>", []))
        await handover.prepare((b"<a@b>", []), [(b"<e@f>", [])])
        assert [reply.code for reply in await handover.send([CONTENT], size=len(CONTENT))] == [250]
        assert hop.transactions[0].told["XFORWARD-ADDR"] == "192.0.2.1"
        assert hop.transactions[0].paths == [b"<e@f>"]
        handover.abandon()


async def test_a_next_hop_that_offers_neither_sees_the_gateway() -> None:
    for way in ("xclient", "xforward"):
        async with ScriptedNextHop() as hop, relaying(hop, way) as relay:
            assert await deliver(relay, client(1)) == [250, 250, 250]
            assert hop.transactions[0].told == {}
            assert hop.transactions[0].helo == "gw.test"


async def test_who_cannot_be_introduced_is_no_business_of_a_next_hop_that_decides() -> None:
    async with ScriptedNextHop() as hop, relaying(hop, "xclient", decides=True) as relay:
        with pytest.raises(LinkError, match="XCLIENT is not offered, and a stranger's relaying is") as caught:
            await deliver(relay, client(1, is_stranger=True))
        assert caught.value.enhanced == "4.3.5"
        assert await deliver(relay, client(2)) == [250, 250, 250]
        assert not [line for line in hop.commands if b"192.0.2.1" in line]


async def test_a_link_on_which_nobody_else_can_be_introduced_is_not_reused() -> None:
    async with ScriptedNextHop(keywords=XCLIENT) as hop, relaying(hop, "xclient", decides=True) as relay:
        hop.script("EHLO gw.test", "250-x\n250 XCLIENT ADDR")
        hop.script("EHLO", "250 x")
        for number in (1, 2):
            assert await deliver(relay, client(number, is_stranger=True)) == [250, 250, 250]
        assert [taken.connection for taken in hop.transactions] == [1, 2]
        assert [taken.told for taken in hop.transactions] == [{"ADDR": "192.0.2.1"}, {"ADDR": "192.0.2.2"}]


async def test_a_proxied_link_is_one_sessions_alone() -> None:
    async with ScriptedNextHop() as hop, relaying(hop, "proxy", decides=True) as relay:
        hop.expects_proxy = True
        one, two = client(1, is_stranger=True), client(2, is_stranger=True)
        for who in (one, two, one, two):
            assert await deliver(relay, who) == [250, 250, 250]
        seen = [(taken.connection, taken.told, taken.helo) for taken in hop.transactions]
        first = (1, {"PROXY": "192.0.2.1:1001"}, "h1.test")
        second = (2, {"PROXY": "192.0.2.2:1002"}, "h2.test")
        assert seen == [first, second, first, second]
        relay.session_over("s1")
        await asyncio.sleep(0.05)
        assert hop.open_connections == 1
        # a client that is another now, by its own EHLO, gets another link
        await deliver(relay, client(2, helo="changed.test"))
        assert hop.transactions[-1].helo == "changed.test"
        assert hop.transactions[-1].connection == 3


async def test_a_proxied_link_given_up_after_its_session_is_closed() -> None:
    async with ScriptedNextHop() as hop, relaying(hop, "proxy") as relay:
        hop.expects_proxy = True
        handover = relay.handover("r", client(1))
        await handover.mail(b"<a@b>", [])
        handover.abandon()
        relay.session_over("s1")
        await all_closed(hop)
        assert not relay._own


async def test_a_proxied_link_does_not_wait_for_its_session_for_ever() -> None:
    async with ScriptedNextHop() as hop, relaying(hop, "proxy", idle_limit=0.05) as relay:
        hop.expects_proxy = True
        await deliver(relay, client(1))
        await all_closed(hop)
        assert await deliver(relay, client(1)) == [250, 250, 250]


async def test_our_own_probe_is_announced_as_such_and_carries_nobody() -> None:
    async with ScriptedNextHop() as hop, relaying(hop, "proxy", decides=True) as relay:
        hop.expects_proxy = True
        assert (await relay.learn("r")).offers("DSN")
        await deliver(relay, client(1, is_stranger=True))
        assert hop.transactions[0].told == {"PROXY": "192.0.2.1:1001"}
        with pytest.raises(LinkError, match="address is not known"):
            await deliver(relay, client(2, address="", is_stranger=True))


async def test_all_places_are_taken_by_others_sessions() -> None:
    async with ScriptedNextHop() as hop, relaying(hop, "proxy", max_links=1, wait_limit=0.05) as relay:
        hop.expects_proxy = True
        await deliver(relay, client(1))
        with pytest.raises(LinkError) as caught:
            await deliver(relay, client(2))
        assert caught.value.enhanced == "4.3.2"
        relay.session_over("s1")
        assert await deliver(relay, client(2)) == [250, 250, 250]


ZONES = {
    "192.0.2.2": {"PTR": ["liar.test", "two.test"]},
    "liar.test": {"A": ["192.0.2.99"]},
    "two.test": {"A": ["192.0.2.98", "192.0.2.2"]},
    "192.0.2.4": {"PTR": ["liar.test"]},
    "192.0.2.6": "TEMPFAIL",
    "2001:db8::8": {"PTR": ["eight.test"]},
    "eight.test": {"AAAA": ["2001:db8:0::8"]},
}


@pytest.mark.parametrize("way", ["xclient", "xforward"])
async def test_the_clients_name_is_looked_up_as_the_next_hop_would(way: str) -> None:
    async with ScriptedNextHop(keywords=(*XCLIENT, XFORWARD[-1])) as hop, relaying(hop, way, zones=ZONES) as relay:
        clients = [client(number) for number in (1, 2, 4, 6)] + [client(8, address="2001:db8::8"), client(10, address="")]
        for who in (*clients, clients[1]):
            assert await deliver(relay, who) == [250, 250, 250]
        front = "" if way == "xclient" else "XFORWARD-"
        names = ["n1.test", "two.test", "[UNAVAILABLE]", "[TEMPUNAVAIL]", "eight.test", "[UNAVAILABLE]", "two.test"]
        assert [taken.told[f"{front}NAME"] for taken in hop.transactions] == names
        resolver = relay._resolver
        assert isinstance(resolver, FakeResolver)
        assert [name for name, _ in resolver.queries].count("two.test") == 1  # once a session


@pytest.mark.parametrize("how", ["xclient", "proxy"])
async def test_a_client_that_is_not_wanted_lets_no_server_rest(how: str) -> None:
    """The next hop knows it and turns it away: that says nothing about the next hop. A refused connection does."""
    async with ScriptedNextHop(keywords=XCLIENT) as hop, relaying(hop, how, rest=60.0) as relay:
        hop.expects_proxy = how == "proxy"
        hop.script("MAIL", Answer("421 4.7.0 You are listed", drop=True))
        with pytest.raises(LinkError):
            await deliver(relay, client(1))
        if how == "proxy":
            hop.script("GREETING", "554 5.7.1 You are listed")
            with pytest.raises(LinkError, match="greeting answered"):
                await deliver(relay, client(2))
        assert relay.resting("r") == 0
        await hop.stop()
        with pytest.raises(LinkError, match="no connection"):
            await deliver(relay, client(3))
        assert relay.resting("r") == 1


@pytest.mark.parametrize("how", ["xclient", "proxy"])
async def test_another_server_may_want_it(how: str) -> None:
    async with ScriptedNextHop(keywords=XCLIENT) as one, ScriptedNextHop(keywords=XCLIENT) as two:
        route = {"name": "r", "domains": ("*",), "client_address": how, "next_hop_decides": "without client address"}
        servers = (one.address, two.address)
        relay = Relay([RouteConfig.model_validate({**route, "servers": servers})], RelayConfig(), server_name="gw.test")
        one.expects_proxy = two.expects_proxy = how == "proxy"
        one.script("MAIL", Answer("421 4.3.2 Leaving", drop=True))
        for number in range(3):
            assert await deliver(relay, client(number)) == [250, 250, 250]
        assert (len(two.transactions), relay.resting("r")) == (3, 0)
        await relay.close()


@pytest.mark.parametrize(("way", "asked"), [("received", 0), ("xclient", 1), ("xforward", 1)])
async def test_who_the_client_is_is_asked_only_where_the_next_hop_is_told(way: str, asked: int) -> None:
    questions = []

    def who() -> ClientFacts:
        questions.append(way)
        return client(1)

    async with ScriptedNextHop(keywords=(*XCLIENT, XFORWARD[-1])) as hop, relaying(hop, way) as relay:
        handover = relay.handover("r", who)
        await handover.mail(b"<a@b>", [])
        handover.abandon()
        assert len(questions) == asked
        assert bool(hop.begun[0].told) == bool(asked)
