"""DATA, and small content right behind its 354: what goes out, and when nothing does."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from gateway.errors import LinkError
from gateway.relay.chunks import BLOCK
from gateway.relay.handover import AHEAD
from gateway.relay.identity import ClientFacts
from gateway.relay.link import Link
from gateway.relay.sending import Sending
from gateway.smtp.replies import Reply
from gateway.testing.next_hop import Answer, ScriptedNextHop
from tests.unit.test_relay_handover import codes, deliver, envelope, relaying

CLIENT = ClientFacts(address="192.0.2.1")
GO_ON = Reply(354, (b"Go on",))


def sending(said: list[bytes]) -> tuple[Sending, Link]:
    link = Link(asyncio.get_running_loop(), "next-hop.test:25", lambda _: None)
    transport = SimpleNamespace(write=said.append, abort=lambda: None, get_extra_info=lambda _: None)
    link.connection_made(cast("asyncio.Transport", transport))
    return Sending(link, [b".a\r\n", b".b"], asyncio.get_running_loop(), 5.0, float("inf")), link


async def test_content_goes_out_where_354_is_read() -> None:
    said: list[bytes] = []
    one, link = sending(said)
    one.data_answered(link, GO_ON)
    link.fail(LinkError("x", "test over"))
    assert said == [b"..a\r\n..b\r\n.\r\n"]
    assert one.has_begun
    with pytest.raises(LinkError) as caught:
        await one
    assert caught.value.unknown


@pytest.mark.parametrize(("takes", "code"), [(False, 354), (True, 250), (True, 554)])
async def test_nothing_goes_out_but_behind_354_to_a_link_that_takes_it(takes: bool, code: int) -> None:
    said: list[bytes] = []
    one, link = sending(said)
    if not takes:
        link.pause_writing()
    one.data_answered(link, Reply(code, (b"x",)))
    assert said == []
    assert not one.has_begun
    assert (await one).code == code


async def test_nothing_goes_out_for_whoever_was_cancelled() -> None:
    said: list[bytes] = []
    one, link = sending(said)

    async def waits() -> Reply:
        return await one

    task = asyncio.get_running_loop().create_task(waits())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    one.data_answered(link, GO_ON)
    assert said == []


@pytest.mark.parametrize("size", [0, 100, BLOCK, BLOCK + 1])
async def test_content_of_any_size_arrives_whole(size: int) -> None:
    content = (b".x" * size)[: max(0, size - 2)] + b"\r\n" * (size > 1)
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        handover = relay.handover("r", CLIENT)
        await envelope(handover, b"<c@d>")
        assert codes(await handover.send([content[:50], content[50:]], size=len(content))) == [250]
        assert hop.transactions[0].content == content
        assert codes(await deliver(relay)) == [250]
        assert hop.connections == 1


@pytest.mark.parametrize("size", [AHEAD, AHEAD + 1])
async def test_content_arrives_whole_where_data_is_said_on_a_second_link(size: int) -> None:
    pieces = [b".", b"x" * (size - 3), b"\r\n"]
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        hop.script("DATA", Answer("421 4.3.2 Going down", drop=True), stay=False)
        handover = relay.handover("r", CLIENT)
        await envelope(handover, b"<c@d>")
        assert codes(await handover.send(iter(pieces), size=size)) == [250]
        assert hop.connections == 2
        assert [one.content for one in hop.transactions if one.content] == [b"".join(pieces)]


async def test_nonsense_behind_354_is_seen_before_the_content_goes_out() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        hop.script("DATA", Answer(raw=b"354 Go on\r\n250 What?\r\n"), stay=False)
        with pytest.raises(LinkError, match="nobody asked for") as caught:
            await deliver(relay)
        assert caught.value.unknown
        await asyncio.sleep(0.02)
        assert not hop.transactions


async def test_small_content_that_cannot_be_read_is_not_begun() -> None:
    def gone() -> Iterator[bytes]:
        yield b"Subject: x\r\n"
        msg = "spool gone"
        raise OSError(msg)

    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        handover = relay.handover("r", CLIENT)
        await envelope(handover, b"<c@d>")
        with pytest.raises(OSError, match="spool gone"):
            await handover.send(gone(), size=100)
        handover.abandon()
        assert codes(await deliver(relay)) == [250]
        assert hop.connections == 2, "the link that waited for content was cut"
        assert len(hop.transactions) == 1
