"""Several next hops that fail on command, in lists by weight and behind MX: while one of them is well, every message arrives, once."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from gateway.config.models import RelayConfig, RouteConfig
from gateway.errors import LinkError
from gateway.relay.identity import ClientFacts
from gateway.relay.pool import Relay
from gateway.testing.dns import FakeResolver
from gateway.testing.next_hop import DROP, SILENCE, Answer, ScriptedNextHop

CLIENT = ClientFacts(address="192.0.2.1")
FAULTS: dict[str, tuple[str, str | Answer]] = {
    "greets with 554": ("GREETING", "554 5.3.2 No service"),
    "greets with 421": ("GREETING", Answer("421 4.3.2 Busy", drop=True)),
    "closes before it greets": ("GREETING", DROP),
    "says nothing": ("GREETING", SILENCE),
    "talks nonsense": ("GREETING", Answer(raw=b"HTTP/1.1 400 Bad Request\r\n\r\n")),
    "refuses EHLO for now": ("EHLO", "421 4.3.2 Busy"),
    "leaves at MAIL": ("MAIL", Answer("421 4.3.2 Leaving", drop=True)),
    "closes at MAIL": ("MAIL", DROP),
    "leaves at RCPT": ("RCPT", Answer("421 4.3.2 Leaving", drop=True)),
    "closes at RCPT": ("RCPT", DROP),
    "leaves at DATA": ("DATA", Answer("421 4.3.2 Leaving", drop=True)),
    "closes at DATA": ("DATA", DROP),
}


@contextlib.asynccontextmanager
async def three_hops() -> AsyncIterator[list[ScriptedNextHop]]:
    """On one port of three addresses, so that they can stand behind MX."""
    async with contextlib.AsyncExitStack() as stack:
        hops = [await stack.enter_async_context(ScriptedNextHop())]
        for address in ("127.0.0.2", "127.0.0.3"):
            hop = ScriptedNextHop()
            hop.host, hop.port = address, hops[0].port
            hops.append(await stack.enter_async_context(hop))
        yield hops


def route(kind: str, hops: list[ScriptedNextHop]) -> RouteConfig:
    if kind == "mx":
        servers: list[object] = [f"mx::{hops[0].port}"]
    else:
        servers = [{"address": hop.address, "priority": 0, "weight": n + 1} for n, hop in enumerate(hops)]
    return RouteConfig.model_validate({"name": "r", "domains": ["example.org"], "servers": servers})


async def deliver(relay: Relay, number: int) -> int:
    handover = relay.handover(relay.way("r", "example.org"), CLIENT)
    try:
        await handover.mail(b"<a@b>", [])
        await handover.rcpt(b"<c@d>", [])
        return (await handover.send([b"%d\r\n" % number], size=3))[0].code
    finally:
        handover.abandon()


@pytest.mark.parametrize("kind", ["weighted", "mx"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_one_that_is_well_is_enough(kind: str, fault: str) -> None:
    """Two of three fail, the third changes; nobody but the gateway notices."""
    records = {"example.org": {"MX": [[10, f"h{n}.test"] for n in range(3)]}}
    resolver = FakeResolver({**records, **{f"h{n}.test": {"A": [f"127.0.0.{n + 1}"]} for n in range(3)}})
    limits = dict.fromkeys(("connect_timeout", "greeting_timeout", "hello_timeout"), 0.3)
    settings = RelayConfig.model_validate({**limits, "rest": 60.0})
    draw = random.Random(fault).random
    async with three_hops() as hops:
        relay = Relay([route(kind, hops)], settings, server_name="gw.test", draw=draw, resolver=resolver)
        for round_ in range(3):
            for n, hop in enumerate(hops):
                hop._script.clear()
                if n != round_:
                    hop.script(FAULTS[fault][0], FAULTS[fault][1])
            for pool in relay._find(relay.way("r", "example.org")).pools:
                if pool.health.is_resting:
                    await pool.probe_in_background()
            codes = await asyncio.gather(*(deliver(relay, 100 * round_ + n) for n in range(10)))
            assert codes == [250] * 10
        arrived = Counter(taken.content for hop in hops for taken in hop.transactions)
        assert arrived == {b"%d\r\n" % number: 1 for number in (*range(10), *range(100, 110), *range(200, 210))}
        await relay.close()


@pytest.mark.parametrize("kind", ["weighted", "mx"])
async def test_none_that_is_well_is_a_fault_of_the_link(kind: str) -> None:
    resolver = FakeResolver({"example.org": {"A": ["127.0.0.1", "127.0.0.2", "127.0.0.3"]}})
    async with three_hops() as hops:
        relay = Relay([route(kind, hops)], RelayConfig(rest=60.0), server_name="gw.test", resolver=resolver)
        for hop in hops:
            await hop.stop()
        for _ in range(2):
            with pytest.raises(LinkError) as error:
                await deliver(relay, 1)
            assert error.value.enhanced == "4.4.1"
        assert relay.resting("r") == 3
        await hops[1].start()
        assert await deliver(relay, 2) == 250, "all rest: all are tried"
        assert relay.resting("r") == 2
        await relay.close()
