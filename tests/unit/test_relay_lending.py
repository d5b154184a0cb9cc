"""Links that wait for a verdict are lent: to whom, when, which never, and what becomes of the lender's message."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from gateway import metrics
from gateway.config.models import RelayConfig, RouteConfig
from gateway.content import Form
from gateway.errors import LinkError
from gateway.relay import lending
from gateway.relay.envelope import EnvelopeError
from gateway.relay.handover import LENT, Handover
from gateway.relay.identity import ClientFacts
from gateway.relay.pool import Relay
from gateway.testing.next_hop import KEYWORDS, SILENCE, ScriptedNextHop

CLIENT = ClientFacts(address="192.0.2.1", session="s")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "AFTER", 0.01)


@contextlib.asynccontextmanager
async def relaying(*hops: ScriptedNextHop, route: dict[str, object] | None = None, **settings: float) -> AsyncIterator[Relay]:
    named = {"name": "r", "domains": ["*"], "servers": [hop.address for hop in hops], **(route or {})}
    limits = {"max_links": 1, "wait_limit": 5.0, "reply_timeout": 5.0, "rest": 0.2, **settings}
    relay = Relay([RouteConfig.model_validate(named)], RelayConfig.model_validate(limits), server_name="gw.test")
    try:
        yield relay
    finally:
        await relay.close()


async def begin(relay: Relay, path: bytes = b"<c@d>", *, rests: bool = True) -> Handover:
    handover = relay.handover("r", CLIENT)
    await asyncio.gather(handover.mail(b"<a@b>", []), handover.rcpt(path, []))
    if rests:
        handover.rest()
    return handover


async def finish(handover: Handover, content: bytes = b"x\r\n", form: Form = Form.LINES) -> int:
    try:
        return (await handover.send([content], size=len(content), form=form))[0].code
    finally:
        handover.abandon()


async def deliver(relay: Relay, path: bytes = b"<other@d>") -> int:
    return await finish(await begin(relay, path, rests=False))


def lent() -> float:
    return float(metrics.LINKS_LENT._value.get())


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never happened")


async def test_who_waits_for_a_verdict_lends_and_says_the_envelope_anew() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        before = lent()
        waiting = await begin(relay)
        assert await deliver(relay) == 250
        assert await finish(waiting, b"first\r\n") == 250
        assert hop.connections == 1
        assert [taken.paths for taken in hop.transactions] == [[b"<other@d>"], [b"<c@d>"]]
        assert [taken.content for taken in hop.transactions] == [b"x\r\n", b"first\r\n"]
        assert hop.commands.count(b"RSET") == 1
        assert hop.commands.count(b"RCPT TO:<c@d>") == 2
        assert waiting.note == LENT
        assert lent() == before + 1


async def test_nothing_is_lent_while_nobody_stands_in_line() -> None:
    async with ScriptedNextHop() as hop, relaying(hop, max_links=2) as relay:
        waiting = await begin(relay)
        await asyncio.sleep(0.05)
        assert await deliver(relay) == 250
        assert await finish(waiting) == 250
        assert b"RSET" not in hop.commands
        assert waiting.note == ""
        assert all(pool._lending._timer is None for pool in relay._routes["r"].pools)


async def test_who_has_rested_longest_lends_first() -> None:
    async with ScriptedNextHop() as hop, relaying(hop, max_links=3) as relay:
        waiting = [await begin(relay, path) for path in (b"<1@d>", b"<2@d>", b"<3@d>")]
        await asyncio.sleep(0.03)
        assert list(await asyncio.gather(deliver(relay), deliver(relay))) == [250, 250]
        assert [bool(one.note) for one in waiting] == [False, False, False]  # none has taken another one yet
        assert [one._link is None for one in waiting] == [True, True, False]
        assert [await finish(one) for one in waiting] == [250, 250, 250]
        assert hop.connections == 3
        assert len(hop.transactions) == 5


async def test_a_link_rests_a_while_before_it_is_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "AFTER", 3600.0)
    async with ScriptedNextHop() as hop, relaying(hop, wait_limit=0.1) as relay:
        waiting = await begin(relay)
        with pytest.raises(LinkError, match="all links are in use"):
            await deliver(relay)
        assert await finish(waiting) == 250
        assert b"RSET" not in hop.commands


async def test_what_is_not_at_rest_is_not_lent() -> None:
    async with ScriptedNextHop() as hop, relaying(hop, wait_limit=0.1) as relay:
        hop.script("RCPT TO:<late@", SILENCE)
        for step in ("envelope", "RCPT", "refused"):
            handover = relay.handover("r", CLIENT)
            await handover.mail(b"<a@b>", [])
            if step == "envelope":
                await handover.rcpt(b"<c@d>", [])
            elif step == "RCPT":
                handover.rcpt(b"<late@d>", [])
                handover.rest()
            else:
                handover.rest()
            with pytest.raises(LinkError, match="all links are in use"):
                await deliver(relay)
            assert handover._link is not None
            handover.give_up()
            await hop.drop_all()
        assert not hop.transactions


async def test_a_content_under_way_is_not_disturbed() -> None:
    async with ScriptedNextHop() as hop, relaying(hop, wait_limit=0.1) as relay:
        hop.script("DATA", SILENCE)
        sending = asyncio.get_running_loop().create_task(finish(await begin(relay)))
        await until(lambda: b"DATA" in hop.commands)
        with pytest.raises(LinkError, match="all links are in use"):
            await deliver(relay)
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending
        assert b"RSET" not in hop.commands


async def test_many_more_wait_than_there_are_links() -> None:
    async with ScriptedNextHop() as hop, relaying(hop, max_links=3) as relay:
        waiting = await asyncio.gather(*(begin(relay, b"<%d@d>" % number) for number in range(30)))
        for _ in range(5):
            assert await deliver(relay) == 250
        assert await asyncio.gather(*(finish(one, b"%d\r\n" % number) for number, one in enumerate(waiting))) == [250] * 30
        taken = [one for one in hop.transactions if one.content != b"x\r\n"]
        assert sorted((one.paths, one.content) for one in taken) == sorted(
            ([b"<%d@d>" % number], b"%d\r\n" % number) for number in range(30)
        )
        assert hop.connections == 3
        await until(lambda: all(pool._lending._timer is None for pool in relay._routes["r"].pools))


async def test_a_routes_own_line_borrows_too() -> None:
    async with ScriptedNextHop() as hop, relaying(hop, route={"max_links": 1}, max_links=10) as relay:
        waiting = await begin(relay)
        assert await deliver(relay) == 250
        assert await finish(waiting) == 250
        assert hop.connections == 1
        turns = relay._routes["r"]._turns
        assert turns is not None
        assert not turns.out
        assert turns._free == 1


async def test_a_refusal_of_what_was_accepted_before_is_about_our_link() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        waiting = await begin(relay)
        assert await deliver(relay) == 250
        hop.script("RCPT TO:<c@", "550 5.1.1 No such user")
        with pytest.raises(LinkError, match="was accepted before, and now answered with 550") as caught:
            await finish(waiting)
        assert not caught.value.unknown
        assert len(hop.transactions) == 1
        assert await deliver(relay) == 250


async def test_a_lender_that_finds_no_link_in_time_is_deferred() -> None:
    async with ScriptedNextHop() as hop, relaying(hop, wait_limit=0.1) as relay:
        waiting = await begin(relay)
        other = await begin(relay, rests=False)
        with pytest.raises(LinkError, match="all links are in use") as caught:
            await finish(waiting)
        assert (caught.value.enhanced, caught.value.unknown) == ("4.3.2", False)
        assert await finish(other) == 250


async def test_a_changed_envelope_is_said_on_the_next_link() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        waiting = await begin(relay)
        assert await deliver(relay) == 250
        await waiting.prepare((b"<new@b>", []), [(b"<new@d>", [])])
        assert await finish(waiting) == 250
        assert (hop.transactions[1].reverse_path, hop.transactions[1].paths) == (b"<new@b>", [b"<new@d>"])
        assert hop.commands.count(b"RCPT TO:<c@d>") == 1
        waiting = await begin(relay)
        assert await deliver(relay) == 250
        hop.script("RCPT TO:<bad@", "550 5.1.1 No such user")
        with pytest.raises(EnvelopeError):
            await waiting.prepare((b"<new@b>", []), [(b"<bad@d>", [])])
        waiting.abandon()


async def test_an_unchanged_envelope_is_prepared_without_a_link() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        waiting = await begin(relay)
        assert await deliver(relay) == 250
        await waiting.prepare((b"<a@b>", []), [(b"<c@d>", [])])
        assert hop.commands.count(b"RCPT TO:<c@d>") == 1
        assert await finish(waiting) == 250


async def test_a_recipient_after_all_brings_the_envelope_back() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        waiting = await begin(relay)
        assert await deliver(relay) == 250
        assert (await waiting.rcpt(b"<e@f>", [])).code == 250
        assert await finish(waiting) == 250
        assert hop.transactions[1].paths == [b"<c@d>", b"<e@f>"]


async def test_a_lender_that_is_abandoned_takes_nothing() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        waiting = await begin(relay)
        assert await deliver(relay) == 250
        waiting.abandon()
        with pytest.raises(LinkError, match="given up"):
            await waiting.send([b"x\r\n"], size=3)
        assert await deliver(relay) == 250
        assert len(hop.transactions) == 2


async def test_a_reset_that_is_refused_makes_a_place_instead() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        hop.script("RSET", "500 5.5.1 What?")
        waiting = await begin(relay)
        assert await deliver(relay) == 250
        assert hop.connections == 2
        assert await finish(waiting) == 250


@pytest.mark.parametrize("keywords", [KEYWORDS, (*KEYWORDS, "CHUNKING")], ids=["DATA", "BDAT"])
async def test_by_lmtp_each_recipient_is_answered(keywords: tuple[str, ...]) -> None:
    async with ScriptedNextHop(lmtp=True, keywords=keywords) as hop, relaying(hop) as relay:
        hop.script("RCPT TO:<no@", "550 5.1.1 No such user")
        hop.script("CONTENT <2@", "452 4.2.2 Mailbox full")
        waiting = relay.handover("r", CLIENT)
        steps = [waiting.mail(b"<a@b>", []), *(waiting.rcpt(path, []) for path in (b"<1@d>", b"<no@d>", b"<2@d>"))]
        assert [reply.code for reply in await asyncio.gather(*steps)] == [250, 250, 550, 250]
        waiting.rest()
        assert await deliver(relay) == 250
        replies = await waiting.send([b"x"], size=1, form=Form.UNENDED)
        assert [reply.code for reply in replies] == [250, 452]
        assert hop.commands.count(b"RCPT TO:<no@d>") == 1


async def test_what_is_forwarded_goes_with_each_envelope() -> None:
    keywords = (*KEYWORDS, "XFORWARD ADDR")
    async with ScriptedNextHop(keywords=keywords) as hop, relaying(hop, route={"client_address": "xforward"}) as relay:
        waiting = await begin(relay)
        other = relay.handover("r", ClientFacts(address="192.0.2.2", session="t"))
        await asyncio.gather(other.mail(b"<a@b>", []), other.rcpt(b"<other@d>", []))
        assert await finish(other) == 250
        assert await finish(waiting) == 250
        said = [line for line in hop.commands if line.startswith((b"XFORWARD", b"RSET"))]
        assert said == [b"XFORWARD ADDR=192.0.2.1", b"RSET", b"XFORWARD ADDR=192.0.2.2", b"XFORWARD ADDR=192.0.2.1"]


@pytest.mark.parametrize("how", ["xclient", "proxy", "bound"])
async def test_the_link_of_one_client_is_never_lent(how: str) -> None:
    route: dict[str, object] = {} if how == "bound" else {"client_address": how}
    hop = ScriptedNextHop(keywords=(*KEYWORDS, "XCLIENT ADDR"))
    hop.expects_proxy = how == "proxy"
    async with hop, relaying(hop, route=route, wait_limit=0.1) as relay:
        bound = await relay.bind("r", CLIENT, on_lost=lambda: None) if how == "bound" else None
        waiting = relay.handover("r", CLIENT, bound=bound)
        await asyncio.gather(waiting.mail(b"<a@b>", []), waiting.rcpt(b"<c@d>", []))
        waiting.rest()
        with pytest.raises(LinkError, match="all links are in use"):
            await deliver(relay)
        assert await finish(waiting) == 250
        assert b"RSET" not in hop.commands
        if bound is not None:
            bound.close()
