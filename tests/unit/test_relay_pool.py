"""Relay and its pools against scripted next hops: reuse, limits, fail-over, what is known of a route."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config.models import RelayConfig, RouteConfig
from gateway.errors import LinkError
from gateway.relay.handover import Handover
from gateway.relay.identity import ClientFacts
from gateway.relay.pool import Relay
from gateway.relay.queueing import Turns
from gateway.testing.next_hop import DROP, SILENCE, Answer, ScriptedNextHop

CLIENT = ClientFacts(address="192.0.2.1")


@contextlib.asynccontextmanager
async def relaying(*servers: str | dict[str, object], **settings: float) -> AsyncIterator[Relay]:
    route = RouteConfig.model_validate({"name": "r", "domains": ["*"], "servers": list(servers)})
    limits = {
        "connect_timeout": 0.5,
        "greeting_timeout": 0.5,
        "hello_timeout": 0.5,
        "reply_timeout": 5.0,
        "wait_limit": 0.2,
        "rest": 0.2,
        **settings,
    }
    relay = Relay([route], RelayConfig.model_validate(limits), server_name="gw.test", draw=random.Random(1).random)
    try:
        yield relay
    finally:
        await relay.close()


async def begin(relay: Relay, route: str = "r") -> Handover:
    handover = relay.handover(route, CLIENT)
    await asyncio.gather(handover.mail(b"<a@b>", []), handover.rcpt(b"<c@d>", []))
    return handover


async def deliver(relay: Relay, route: str = "r") -> int:
    handover = relay.handover(route, CLIENT)
    try:
        await handover.mail(b"<a@b>", [])
        await handover.rcpt(b"<c@d>", [])
        return (await handover.send([b"x\r\n"], size=3))[0].code
    finally:
        handover.abandon()


async def test_links_are_kept_and_used_last_in_first_out() -> None:
    async with ScriptedNextHop() as hop, relaying(hop.address) as relay:
        first, second = await begin(relay), await begin(relay)
        await first.send([b"1\r\n"], size=3)
        await second.send([b"2\r\n"], size=3)
        for _ in range(3):
            await deliver(relay)
        assert [taken.connection for taken in hop.transactions] == [1, 2, 2, 2, 2]


async def test_no_more_links_than_allowed() -> None:
    async with ScriptedNextHop() as hop, relaying(hop.address, max_links=2, wait_limit=5) as relay:
        held = [await begin(relay), await begin(relay)]
        third = asyncio.get_running_loop().create_task(deliver(relay))
        await asyncio.sleep(0.05)
        assert hop.connections == 2
        await held[0].send([b"x\r\n"], size=3)
        assert await third == 250
        assert hop.connections == 2
        held[1].abandon()


async def test_a_wait_for_a_link_ends() -> None:
    async with ScriptedNextHop() as hop, relaying(hop.address, max_links=1) as relay:
        held = await begin(relay)
        with pytest.raises(LinkError, match="all links are in use, none came back") as caught:
            await deliver(relay)
        assert caught.value.enhanced == "4.3.2"
        held.abandon()
        assert await deliver(relay) == 250


async def test_who_waits_gets_the_place_of_a_lost_link() -> None:
    async with ScriptedNextHop() as hop, relaying(hop.address, max_links=1, wait_limit=5) as relay:
        held = await begin(relay)
        waiting = asyncio.get_running_loop().create_task(deliver(relay))
        await asyncio.sleep(0.02)
        await hop.drop_all()
        assert await waiting == 250
        assert hop.connections == 2
        held.abandon()


@pytest.mark.parametrize("is_clean", [True, False])
@pytest.mark.parametrize("is_cancelled_first", [True, False])
async def test_who_gives_up_waiting_loses_nothing(is_clean: bool, is_cancelled_first: bool) -> None:
    """Cancelled in the very turn in which it is handed a link or a place."""
    async with ScriptedNextHop() as hop, relaying(hop.address, max_links=1, wait_limit=5) as relay:
        route = relay._routes["r"]
        held = await route.acquire()
        waiting = asyncio.get_running_loop().create_task(route.acquire())
        await asyncio.sleep(0.02)
        if is_cancelled_first:
            waiting.cancel()
        if is_clean:
            route.release(held)
        else:
            route.discard(held)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await deliver(relay) == 250
        assert hop.connections == (1 if is_clean else 2)


async def test_a_replay_takes_no_idle_link() -> None:
    """What made one kept link useless has perhaps done the same to all."""
    async with ScriptedNextHop() as hop, relaying(hop.address) as relay:
        held = [await begin(relay) for _ in range(2)]
        for handover in held:
            await handover.send([b"x\r\n"], size=3)
        hop.script("MAIL", DROP, stay=False)
        assert await deliver(relay) == 250
        assert hop.transactions[-1].connection == 3


async def test_a_fresh_link_takes_an_idle_one_s_place() -> None:
    async with ScriptedNextHop() as hop, relaying(hop.address, max_links=1) as relay:
        await deliver(relay)
        route = relay._routes["r"]
        route.release(await route.acquire(fresh=True))
        await asyncio.sleep(0.02)
        assert (hop.connections, hop.open_connections) == (2, 1)


async def test_refused_content_counts_as_refusal() -> None:
    async with ScriptedNextHop() as hop, relaying(hop.address, max_refusals=2) as relay:
        hop.script("CONTENT", "550 5.7.1 No")
        for _ in range(3):
            assert await deliver(relay) == 550
        assert [taken.connection for taken in hop.transactions] == [1, 1, 2]


@pytest.mark.parametrize(("settings", "connections"), [({"max_messages": 2}, 2), ({"max_age": 0.0}, 4), ({}, 1)])
async def test_links_are_retired(settings: dict[str, float], connections: int) -> None:
    async with ScriptedNextHop() as hop, relaying(hop.address, **settings) as relay:
        for _ in range(4):
            assert await deliver(relay) == 250
            await asyncio.sleep(0.01)
        assert hop.connections == connections
        await asyncio.sleep(0.02)
        assert hop.open_connections <= 1


async def test_refusals_retire_a_link_and_a_delivery_clears_them() -> None:
    async with ScriptedNextHop() as hop, relaying(hop.address, max_refusals=3) as relay:
        hop.script("RCPT TO:<no@", "550 5.1.1 No")
        for is_delivered in (False, True, False, True, False, False, False):
            handover = relay.handover("r", CLIENT)
            await handover.mail(b"<a@b>", [])
            await asyncio.gather(handover.rcpt(b"<no@d>", []), handover.rcpt(b"<no@e>", []), handover.rcpt(b"<c@d>", []))
            if is_delivered:
                await handover.send([b"x\r\n"], size=3)
            handover.abandon()
            await asyncio.sleep(0.02)
        assert hop.connections == 2


async def test_idle_links_are_closed() -> None:
    async with ScriptedNextHop() as hop, relaying(hop.address, idle_limit=0.1) as relay:
        await deliver(relay)
        await asyncio.sleep(0.3)
        assert hop.open_connections == 0
        assert hop.commands[-1] == b"QUIT"
        assert await deliver(relay) == 250


async def test_fail_over_rest_and_return() -> None:
    async with ScriptedNextHop() as one, ScriptedNextHop() as two, relaying(one.address, two.address, max_messages=1) as relay:
        one.script("GREETING", "421 4.3.2 Busy")
        assert await deliver(relay) == 250
        assert await deliver(relay) == 250
        assert (one.connections, two.connections) == (1, 2), "while it rests nobody asks"
        one.script("GREETING", "220 one")
        await asyncio.sleep(0.25)
        assert await deliver(relay) == 250
        assert len(one.transactions) == 1


async def test_no_message_is_the_probe_of_a_server_that_rests() -> None:
    """Its own probe brings it back, and nothing else while another server answers."""
    async with ScriptedNextHop() as one, ScriptedNextHop() as two, relaying(one.address, two.address, rest=60.0) as relay:
        one.script("GREETING", "554 5.3.2 No")
        pool = relay._routes["r"].pools[0]
        for _ in range(3):
            assert await deliver(relay) == 250
        await relay.probe()
        assert (one.connections, relay.resting("r")) == (1, 1)
        await pool.probe_in_background()
        assert await deliver(relay) == 250
        assert (one.connections, relay.resting("r"), pool.health.strikes) == (2, 1, 2)
        one.script("GREETING", "220 one")
        assert await deliver(relay) == 250
        assert one.connections == 2
        await pool.probe_in_background()
        assert (relay.resting("r"), len(one.transactions)) == (0, 0)
        assert await deliver(relay) == 250
        assert (one.connections, len(one.transactions), pool.health.strikes) == (3, 1, 0), "on the link of the probe"


async def test_a_rest_ends_with_a_probe_by_itself() -> None:
    async with ScriptedNextHop() as one, ScriptedNextHop() as two, relaying(one.address, two.address, rest=0.05) as relay:
        await one.stop()
        assert await deliver(relay) == 250
        await one.start()
        async with asyncio.timeout(5):
            while relay.resting("r"):  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.01)
        assert await deliver(relay) == 250
        assert len(one.transactions) == 1


async def test_a_server_that_greets_and_leaves_is_not_tried_again_and_again() -> None:
    """421 to the first MAIL of a new link is a failure like a refused connection; of an idle link it says nothing."""
    async with ScriptedNextHop() as one, ScriptedNextHop() as two, relaying(one.address, two.address, rest=60.0) as relay:
        pool = relay._routes["r"].pools[0]
        assert await deliver(relay) == 250
        one.script("MAIL", Answer("421 4.3.2 Not now", drop=True))
        assert await deliver(relay) == 250
        assert (one.connections, len(two.transactions)) == (2, 1), "the idle link, a new one, then the other server"
        for _ in range(3):
            assert await deliver(relay) == 250
        assert (one.connections, pool.health.strikes) == (2, 1)
        await pool.probe_in_background()
        assert await deliver(relay) == 250, "the probe's link is lost, then a new one"
        assert (one.connections, pool.health.strikes) == (4, 2), "a greeting alone did not make it forget the failure"


async def test_what_a_client_or_a_message_did_is_no_reason_to_rest() -> None:
    """Else one that guesses recipients could turn everybody's mail away from a server."""
    async with ScriptedNextHop() as one, ScriptedNextHop() as two, relaying(one.address, two.address, rest=60.0) as relay:
        one.script("RCPT", "550 5.1.1 No", "550 5.1.1 No", Answer("421 4.7.0 Too many errors", drop=True), stay=False)
        guessing = relay.handover("r", CLIENT)
        await guessing.mail(b"<a@b>", [])
        for number in range(3):
            await guessing.rcpt(b"<%d@d>" % number, [])
        assert relay.resting("r") == 0
        guessing.abandon()
        one.script("CONTENT", DROP, stay=False)
        with pytest.raises(LinkError) as lost:
            await deliver(relay)
        assert (lost.value.unknown, relay.resting("r")) == (True, 0)
        assert await deliver(relay) == 250
        assert len(two.transactions) == 0


async def test_a_probe_finds_a_place_among_idle_links() -> None:
    async with ScriptedNextHop() as one, relaying(one.address, max_links=1, rest=60.0) as relay:
        assert await deliver(relay) == 250
        pool = relay._routes["r"].pools[0]
        pool.rest()
        await pool.probe_in_background()
        assert (pool.health.is_resting, one.connections) == (False, 2)
        held = await begin(relay)
        pool.rest()
        await pool.probe_in_background()
        assert pool.health.is_resting, "no place for a probe"
        held.abandon()
        assert await deliver(relay) == 250
        await pool.probe_in_background()
        assert not pool.health.is_resting


async def test_weights_share_the_messages() -> None:
    async with ScriptedNextHop() as one, ScriptedNextHop() as two, ScriptedNextHop() as three:
        servers = (
            {"address": one.address, "priority": 0, "weight": 3},
            {"address": two.address, "priority": 0},
            three.address,
        )
        async with relaying(*servers, max_messages=1000, rest=60.0) as relay:
            for _ in range(200):
                assert await deliver(relay) == 250
            taken = [len(hop.transactions) for hop in (one, two, three)]
            assert taken[0] == pytest.approx(150, abs=20)
            assert taken[2] == 0
            assert (one.connections, two.connections) == (1, 1)
            await one.stop()
            assert await deliver(relay) == 250
            await two.stop()
            assert await deliver(relay) == 250
            assert len(three.transactions) == 1


async def test_all_servers_rest_and_are_asked_all_the_same() -> None:
    async with ScriptedNextHop() as one, ScriptedNextHop() as two, relaying(one.address, two.address, rest=60.0) as relay:
        await one.stop()
        await two.stop()
        with pytest.raises(LinkError):
            await deliver(relay)
        await two.start()
        assert await deliver(relay) == 250


async def test_a_full_server_leaves_the_work_to_the_next() -> None:
    async with ScriptedNextHop() as one, ScriptedNextHop() as two, relaying(one.address, two.address, max_links=1) as relay:
        held = await begin(relay)
        assert await deliver(relay) == 250
        assert (one.connections, two.connections) == (1, 1)
        held.abandon()


async def test_who_waits_takes_the_first_link_of_any_server() -> None:
    """Not one server after the other, each with its own time."""
    async with (
        ScriptedNextHop() as one,
        ScriptedNextHop() as two,
        relaying(one.address, two.address, max_links=1, wait_limit=30) as relay,
    ):
        held = [await begin(relay), await begin(relay)]
        waiting = asyncio.get_running_loop().create_task(deliver(relay))
        await asyncio.sleep(0.02)
        await held[1].send([b"x\r\n"], size=3)
        assert await waiting == 250
        assert (len(one.transactions), len(two.transactions)) == (0, 2)
        assert [pool.waiting for pool in relay._routes["r"].pools] == [0, 0], "it left the other line"
        held[0].abandon()


async def test_the_line_is_in_order_and_of_bounded_length() -> None:
    async with ScriptedNextHop() as hop, relaying(hop.address, max_links=1, wait_limit=30, max_waiting=3) as relay:
        held = await begin(relay)
        ended: list[int] = []

        async def waits(number: int) -> None:
            assert await deliver(relay) == 250
            ended.append(number)

        loop = asyncio.get_running_loop()
        waiting = [loop.create_task(waits(number)) for number in range(3)]
        await asyncio.sleep(0.02)
        with pytest.raises(LinkError, match="and 3 wait for one already") as refused:
            await deliver(relay)
        assert refused.value.enhanced == "4.3.2"
        await held.send([b"x\r\n"], size=3)
        await asyncio.gather(*waiting)
        assert ended == [0, 1, 2]
        assert hop.connections == 1


async def test_a_server_has_fewer_links_where_its_entry_says_so() -> None:
    async with (
        ScriptedNextHop() as one,
        ScriptedNextHop() as two,
        relaying({"address": one.address, "max_links": 1}, two.address, max_links=2) as relay,
    ):
        held = [await begin(relay) for _ in range(3)]
        assert (one.connections, two.connections) == (1, 2)
        with pytest.raises(LinkError, match="none came back"):
            await deliver(relay)
        for handover in held:
            handover.abandon()


async def test_a_route_has_fewer_links_out_than_its_servers_allow() -> None:
    route = {"name": "r", "domains": ["*"], "max_links": 2}
    async with ScriptedNextHop() as one, ScriptedNextHop() as two:
        servers = [{"address": hop.address, "priority": 0} for hop in (one, two)]
        settings = RelayConfig(wait_limit=30, max_waiting=1)
        relay = Relay([RouteConfig.model_validate({**route, "servers": servers})], settings, server_name="gw.test")
        held = [await begin(relay) for _ in range(2)]
        waiting = asyncio.get_running_loop().create_task(deliver(relay))
        await asyncio.sleep(0.02)
        with pytest.raises(LinkError, match="1 wait for one"):
            await deliver(relay)
        cancelled = held.pop()
        cancelled.abandon()
        assert await waiting == 250
        assert await deliver(relay) == 250
        assert one.open_connections + two.open_connections <= 3
        held[0].abandon()
        await one.stop()
        await two.stop()
        for _ in range(3):
            with pytest.raises(LinkError, match="no connection"):
                await deliver(relay)
        await relay.close()


async def test_who_gives_up_waiting_for_a_turn_takes_none_away() -> None:
    turns = Turns("r", 1, longest=5)
    assert turns.take()
    loop = asyncio.get_running_loop()
    first, second = (loop.create_task(turns.wait(30)) for _ in range(2))
    await asyncio.sleep(0)
    assert not turns.take()
    turns.give()
    first.cancel()  # in the turn in which it is its turn
    await second
    with pytest.raises(asyncio.CancelledError):
        await first
    with pytest.raises(LinkError, match="had its links out"):
        await turns.wait(0.01)
    turns.give()
    assert turns.take()


async def test_next_hop_started_later() -> None:
    async with ScriptedNextHop() as hop, relaying(hop.address) as relay:
        await hop.stop()
        with pytest.raises(LinkError) as caught:
            await deliver(relay)
        assert caught.value.enhanced == "4.4.1"
        with pytest.raises(LinkError):
            await relay.learn("r")
        assert relay.capabilities("r") is None
        assert not relay.healthy("r")
        await hop.start()
        assert await deliver(relay) == 250
        assert relay.healthy("r")


async def test_next_hop_back_on_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is looked up at each new connection."""
    async with ScriptedNextHop() as hop:
        address = "127.0.0.77"

        async def found(*_: object, **__: object) -> list[tuple[object, ...]]:
            return [(0, 0, 0, "", (address, hop.port))]

        with monkeypatch.context() as patch:
            patch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", found)
            async with relaying(f"next-hop.test:{hop.port}") as relay:
                with pytest.raises(LinkError):
                    await deliver(relay)
                address = "127.0.0.1"
                assert await deliver(relay) == 250


async def test_an_address_that_failed_is_not_tried_first_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with several addresses is one server; each link goes to one that works."""
    async with ScriptedNextHop() as one:
        two = ScriptedNextHop()
        two.host, two.port = "127.0.0.2", one.port
        async with two, relaying(f"next-hop.test:{one.port}", max_messages=1) as relay:

            async def found(*_: object, **__: object) -> list[tuple[object, ...]]:
                return [(0, 0, 0, "", (hop.host, hop.port)) for hop in (one, two)]

            with monkeypatch.context() as patch:
                patch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", found)
                one.script("GREETING", "421 4.3.2 Busy")
                for _ in range(3):
                    assert await deliver(relay) == 250
                assert (one.connections, two.connections, relay.resting("r")) == (1, 3, 0)
                one.script("GREETING", "220 one")
                two.script("GREETING", "421 4.3.2 Busy")
                for _ in range(3):
                    assert await deliver(relay) == 250
                assert (len(one.transactions), two.connections) == (3, 4)


async def test_capabilities_are_the_intersection() -> None:
    async with (
        ScriptedNextHop(keywords=("SIZE 1000", "DSN", "PIPELINING")) as one,
        ScriptedNextHop(keywords=("SIZE 500", "SMTPUTF8", "PIPELINING")) as two,
        relaying(one.address, two.address) as relay,
    ):
        assert relay.capabilities("r") is None
        assert set((await relay.learn("r")).keywords) == {"SIZE", "DSN", "PIPELINING"}
        await relay.probe()
        found = relay.capabilities("r")
        assert found is not None
        assert found.keywords == {"SIZE": ("500",), "PIPELINING": ()}
        assert relay.capabilities("r") is found, "worked out once for what they offer"
        assert (one.connections, two.connections) == (1, 1)
        assert await deliver(relay) == 250
        assert (one.connections, two.connections) == (1, 1), "learn and probe leave their links in the pool"


async def test_many_learn_at_once_by_one_link() -> None:
    async with ScriptedNextHop() as hop, relaying(hop.address) as relay:
        results = await asyncio.gather(*(relay.learn("r") for _ in range(20)))
        assert hop.connections == 1
        assert all(found.offers("DSN") for found in results)


async def test_learn_fails_for_everybody_and_is_tried_again() -> None:
    async with ScriptedNextHop() as hop, relaying(hop.address) as relay:
        hop.script("GREETING", DROP, stay=False)
        results = await asyncio.gather(*(relay.learn("r") for _ in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [LinkError] * 3
        assert (await relay.learn("r")).offers("DSN")


async def test_learn_anew_after_its_age(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.relay.server_pool.CAPABILITIES_AGE", 0.05)
    async with ScriptedNextHop(keywords=("DSN",)) as hop, relaying(hop.address, max_links=1) as relay:
        await relay.learn("r")
        hop.keywords = ("SMTPUTF8",)
        await asyncio.sleep(0.1)
        assert set((await relay.learn("r")).keywords) == {"SMTPUTF8"}
        held = await begin(relay)
        await asyncio.sleep(0.1)
        assert set((await relay.learn("r")).keywords) == {"SMTPUTF8"}, "all links in use: what is known stays"
        held.abandon()


async def test_probe_sees_a_next_hop_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.relay.server_pool.HEALTH_AGE", 0.2)
    async with ScriptedNextHop() as hop, relaying(hop.address, connect_timeout=0.1, rest=60.0) as relay:
        await relay.probe()
        assert relay.healthy("r")
        await relay.probe()
        assert b"NOOP" not in hop.commands, "it answered just now"
        await asyncio.sleep(0.1)
        await relay.probe()
        assert hop.commands[-1] == b"NOOP"
        assert relay.healthy("r")
        hop.script("NOOP", SILENCE)
        await asyncio.sleep(0.25)
        await relay.probe()
        assert not relay.healthy("r")
        assert relay.resting("r") == 1, "no message has to find it out"
        hop.script("NOOP", Answer("500 5.5.1 What?"))
        await relay.probe()
        await asyncio.sleep(0.1)
        await relay.probe()
        assert hop.connections >= 2


async def test_links_come_from_the_route_s_address() -> None:
    """Of the family of the server; another route to the same server has links of its own."""
    peers: list[str] = []

    def met(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername")[0])
        writer.close()

    server = await asyncio.start_server(met, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    from_there = RouteConfig(name="there", domains=("*",), servers=(address,), source=("2001:db8::1", "127.0.0.7"))
    from_anywhere = RouteConfig(name="any", domains=("*",), servers=(address,), source=("2001:db8::1",))
    from_nowhere = RouteConfig(name="nowhere", domains=("*",), servers=(address,), source=("192.0.2.1",))
    relay = Relay([from_there, from_anywhere, from_nowhere], RelayConfig(), server_name="gw.test")
    for route in ("there", "any", "nowhere"):
        with pytest.raises(LinkError):
            await deliver(relay, route)
    assert set(peers) == {"127.0.0.7", "127.0.0.1"}
    await relay.close()
    server.close()
    await server.wait_closed()


async def test_unix_socket_route(tmp_path: Path) -> None:
    async with ScriptedNextHop(unix_path=str(tmp_path / "hop")) as hop, relaying(hop.address) as relay:
        assert await deliver(relay) == 250


async def test_inbox() -> None:
    route = RouteConfig(name="r", domains=("*",), servers=("inbox:",))
    with pytest.raises(ValueError, match="no inbox runs"):
        Relay([route], RelayConfig(), server_name="gw.test")
    async with ScriptedNextHop() as hop:
        relay = Relay([route], RelayConfig(), server_name="gw.test", inbox_address=("127.0.0.1", hop.port))
        assert await deliver(relay) == 250
        await relay.close()


async def test_a_server_in_place_of_a_route() -> None:
    """As a plugin's redirect names it."""
    async with ScriptedNextHop() as hop, relaying("127.0.0.1:9") as relay:
        assert await deliver(relay, hop.address) == 250
        assert await deliver(relay, hop.address) == 250
        assert hop.connections == 1
        with pytest.raises(LinkError, match="neither a route nor a server"):
            relay.handover("no route", CLIENT)
        for port in range(1, 300):
            relay.handover(f"127.0.0.1:{port}", CLIENT)
        assert len(relay._others) <= 256


async def test_close_takes_leave() -> None:
    async with ScriptedNextHop() as hop, relaying(hop.address) as relay:
        held = await begin(relay)
        await deliver(relay)
        await relay.close()
        assert hop.commands[-1] == b"QUIT"
        assert hop.open_connections == 0
        held.abandon()
