"""A link against a scripted next hop: greeting, groups in one write, content, time limits, every way to end."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from gateway.config.models import RelayConfig
from gateway.errors import LinkError
from gateway.relay.chunks import BLOCK
from gateway.relay.connect import Opening, open_link
from gateway.relay.link import Link
from gateway.relay.protocol import Capabilities
from gateway.relay.routes import Server, parse_server
from gateway.relay.setup import PLAIN
from gateway.smtp.replies import Reply
from gateway.testing.next_hop import DROP, SILENCE, Answer, ScriptedNextHop


def to(server: Server, seconds: float) -> Opening:
    """All of opening a link may take so long, each step."""
    settings = RelayConfig(connect_timeout=seconds, greeting_timeout=seconds, hello_timeout=seconds)
    return Opening.to(server, name="gw.test", settings=settings, setup=PLAIN)


@contextlib.asynccontextmanager
async def linked(hop: ScriptedNextHop, limit: float = 5.0) -> AsyncIterator[tuple[Link, list[Link]]]:
    lost: list[Link] = []
    link = await open_link(to(parse_server(hop.address), limit), on_lost=lost.append)
    try:
        yield link, lost
    finally:
        link.fail(LinkError(link.next_hop, "test over"))
        await link.closed


async def in_data(link: Link) -> None:
    replies = await asyncio.gather(link.ask(b"MAIL FROM:<a@b>", 5), link.ask(b"RCPT TO:<c@d>", 5))
    assert [reply.code for reply in replies] == [250, 250]
    assert (await link.ask(b"DATA", 5, last=True)).code == 354


@pytest.mark.parametrize(
    ("octets", "told", "lost"),
    [
        ((b"250 Ok\r\n",), [250], False),
        ((b"250 O", b"k\r\n"), [250], False),
        ((b"250-2", b"50 Ok\r\n", b"250 Ok\r\n"), [250], False),
        ((b"250-Ok\r\n", b"250 Ok\r\n"), [250], False),
        ((b"250 Ok\n",), [250], False),
        ((b"250 " + b"k" * 200 + b"\r\n",), [250], False),
        ((b"junk\r\n", b"250 Ok\r\n"), [None], True),
        ((b"250 Ok\r\n250 Ok\r\n",), [250], True),
        ((b"250 Ok\r\n", b"250 Ok\r\n"), [250], True),
    ],
)
async def test_a_reply_however_it_comes_is_told_once(octets: tuple[bytes, ...], told: list[int | None], lost: bool) -> None:
    link = Link(asyncio.get_running_loop(), "hop", lambda _: None)
    link.data_received(b"220 hop\r\n")
    heard: list[int | None] = []
    link.command(b"NOOP", 5, lambda _, answer: heard.append(answer.code if isinstance(answer, Reply) else None), last=True)
    for piece in octets:
        link.data_received(piece)
    assert heard == told
    assert (link.error is not None) is lost, "a reply that nobody asked for, or what is none, ends it"


async def test_greeting_and_ehlo() -> None:
    async with ScriptedNextHop(keywords=("PIPELINING", "SIZE 1000")) as hop, linked(hop) as (link, _):
        assert hop.commands == [b"EHLO gw.test"]
        assert link.capabilities.size == 1000
        assert link.next_hop == hop.address
        assert link.is_usable


async def test_helo_when_ehlo_is_not_known() -> None:
    async with ScriptedNextHop(esmtp=False) as hop, linked(hop) as (link, _):
        assert hop.commands == [b"EHLO gw.test", b"HELO gw.test"]
        assert not link.capabilities.keywords


@pytest.mark.parametrize(
    ("when", "answer", "enhanced"),
    [
        ("GREETING", "421 4.3.2 Busy", "4.4.1"),
        ("GREETING", "554 5.3.2 Never", "4.3.5"),
        ("GREETING", "250 Ok", "4.4.1"),
        ("GREETING", Answer(raw=b"HTTP/1.1 400 Bad Request\r\n\r\n"), "4.3.5"),
        ("GREETING", DROP, "4.4.2"),
        ("GREETING", SILENCE, "4.4.1"),
        ("EHLO", "421 4.3.2 Busy", "4.4.1"),
        ("EHLO", DROP, "4.4.2"),
        ("EHLO", SILENCE, "4.4.1"),
    ],
)
async def test_unfriendly_greetings(when: str, answer: str | Answer, enhanced: str) -> None:
    async with ScriptedNextHop() as hop:
        hop.script(when, answer)
        with pytest.raises(LinkError) as caught:
            async with linked(hop, limit=0.2):
                pass
        assert caught.value.enhanced == enhanced
        assert caught.value.next_hop == hop.address


async def test_helo_refused_too() -> None:
    async with ScriptedNextHop(esmtp=False) as hop:
        hop.script("HELO", "550 5.7.1 Not you")
        with pytest.raises(LinkError, match="HELO answered with 550"):
            async with linked(hop):
                pass


async def test_nobody_listens() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        server = Server("127.0.0.1", held.getsockname()[1])
        with pytest.raises(LinkError) as caught:
            await open_link(to(server, 5), on_lost=lambda _: None)
    assert caught.value.enhanced == "4.4.1"


@pytest.mark.parametrize("host", ["does-not-resolve.invalid", "x" * 64 + ".test"])
async def test_a_name_that_does_not_resolve(host: str) -> None:
    with pytest.raises(LinkError, match="looked up") as caught:
        await open_link(to(Server(host, 25), 20), on_lost=lambda _: None)
    assert caught.value.enhanced == "4.4.3"


async def test_all_addresses_of_a_name_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedNextHop() as hop:

        async def found(*_: object, **__: object) -> list[tuple[object, ...]]:
            return [(0, 0, 0, "", ("127.0.0.2", hop.port)), (0, 0, 0, "", ("127.0.0.1", hop.port))]

        loop = asyncio.get_running_loop()
        with monkeypatch.context() as patch:
            patch.setattr(type(loop), "getaddrinfo", found)
            link = await open_link(to(Server("two.test", hop.port), 5), on_lost=lambda _: None)
        link.quit()
        await link.closed
        assert hop.connections == 1


async def test_unix_socket(tmp_path: Path) -> None:
    async with ScriptedNextHop(unix_path=str(tmp_path / "hop.sock")) as hop, linked(hop) as (link, _):
        await in_data(link)
        reply = await link.content([b"x\r\n"], block_limit=5, final_limit=5)
        assert reply.code == 250
    assert hop.transactions[0].content == b"x\r\n"


async def test_commands_of_one_turn_go_out_in_one_write() -> None:
    async with ScriptedNextHop() as hop, linked(hop) as (link, _):
        hop.reads.clear()
        await asyncio.gather(*(link.ask(line, 5) for line in (b"MAIL FROM:<>", b"RCPT TO:<a@b>", b"RCPT TO:<c@d>")))
        assert hop.reads == [b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nRCPT TO:<c@d>\r\n"]


async def test_without_pipelining_each_waits_for_the_reply_before() -> None:
    async with ScriptedNextHop(keywords=()) as hop, linked(hop) as (link, _):
        hop.reads.clear()
        await asyncio.gather(*(link.ask(line, 5) for line in (b"MAIL FROM:<>", b"RCPT TO:<a@b>", b"RCPT TO:<c@d>")))
        assert hop.reads == [b"MAIL FROM:<>\r\n", b"RCPT TO:<a@b>\r\n", b"RCPT TO:<c@d>\r\n"]


async def test_small_content_is_one_write() -> None:
    async with ScriptedNextHop() as hop, linked(hop) as (link, _):
        await in_data(link)
        hop.reads.clear()
        reply = await link.content([b"Received: x\r\n", b"Subject: y\r\n\r\n", b".\r\nz"], block_limit=5, final_limit=5)
        assert reply.text == "2.0.0 Ok: queued as SCRIPTED"
        assert hop.reads == [b"Received: x\r\nSubject: y\r\n\r\n..\r\nz\r\n.\r\n"]
        assert hop.transactions[0].content == b"Received: x\r\nSubject: y\r\n\r\n.\r\nz\r\n"
        assert link.is_usable


@pytest.mark.parametrize("pieces", [1, 7, 5000])
async def test_large_content(pieces: int) -> None:
    content = b".line of text\r\n..\r\n" * 100_000
    size = len(content) // pieces + 1
    async with ScriptedNextHop() as hop, linked(hop) as (link, _):
        await in_data(link)
        chunks = [content[start : start + size] for start in range(0, len(content), size)]
        assert (await link.content(chunks, block_limit=5, final_limit=5)).code == 250
        assert hop.transactions[0].content == content


async def test_a_slow_next_hop_holds_the_content_back() -> None:
    """No more than what the transport and the kernel take is read from the spool."""
    async with ScriptedNextHop() as hop, linked(hop) as (link, _):
        await in_data(link)
        taken = 0

        def chunks() -> Iterator[bytes]:
            nonlocal taken
            for _ in range(200):
                taken += 1
                yield b"x" * (BLOCK - 2) + b"\r\n"

        hop.reading.clear()
        task = asyncio.get_running_loop().create_task(link.content(chunks(), block_limit=5, final_limit=5))
        await asyncio.sleep(0.3)
        assert taken < 150
        hop.reading.set()
        assert (await task).code == 250
        assert len(hop.transactions[0].content) == 200 * BLOCK


async def test_a_next_hop_that_stops_reading_content() -> None:
    async with ScriptedNextHop() as hop, linked(hop) as (link, lost):
        await in_data(link)
        hop.reading.clear()
        with pytest.raises(LinkError) as caught:
            await link.content((b"x" * BLOCK for _ in range(200)), block_limit=0.2, final_limit=5)
        assert caught.value.unknown
        assert lost == [link]


@pytest.mark.parametrize("answer", [DROP, SILENCE, Answer(raw=b"nonsense\r\n"), Answer(raw=b"250-half")])
async def test_no_reply_to_the_content(answer: Answer) -> None:
    async with ScriptedNextHop() as hop, linked(hop) as (link, lost):
        hop.script("CONTENT", answer)
        await in_data(link)
        with pytest.raises(LinkError) as caught:
            await link.content([b"x\r\n"], block_limit=5, final_limit=0.2)
        assert caught.value.unknown
        assert lost == [link]


async def test_connection_dropped_inside_content() -> None:
    async with ScriptedNextHop() as hop, linked(hop) as (link, _):
        hop.drop_in_content_after = 1_000_000
        await in_data(link)
        with pytest.raises(LinkError) as caught:
            await link.content((b"x" * BLOCK for _ in range(200)), block_limit=5, final_limit=5)
        assert caught.value.unknown
    assert not hop.transactions


async def test_a_refusal_inside_content_is_the_reply() -> None:
    async with ScriptedNextHop() as hop, linked(hop) as (link, lost):
        await in_data(link)
        hop.reading.clear()
        content = link.content((b"x" * BLOCK for _ in range(400)), block_limit=5, final_limit=5)
        task = asyncio.get_running_loop().create_task(content)
        await asyncio.sleep(0.1)
        await hop.say_all(b"552 5.3.4 Too big\r\n")
        assert (await task).code == 552
        assert lost == [link]


async def test_content_that_cannot_be_read_is_not_ended() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"x" * BLOCK
        yield b"y" * BLOCK
        msg = "spool gone"
        raise OSError(msg)

    async with ScriptedNextHop() as hop, linked(hop) as (link, lost):
        await in_data(link)
        with pytest.raises(OSError, match="spool gone"):
            await link.content(chunks(), block_limit=5, final_limit=5)
        assert lost == [link]
        await asyncio.sleep(0.05)
        assert not hop.transactions


async def test_cancelled_inside_content() -> None:
    async with ScriptedNextHop() as hop, linked(hop) as (link, lost):
        await in_data(link)
        hop.reading.clear()
        task = asyncio.get_running_loop().create_task(
            link.content((b"x" * BLOCK for _ in range(400)), block_limit=5, final_limit=5)
        )
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert lost == [link]
        hop.reading.set()
        await asyncio.sleep(0.05)
        assert not hop.transactions


async def test_silence_ends_the_link_and_all_that_wait() -> None:
    async with ScriptedNextHop() as hop, linked(hop) as (link, lost):
        hop.script("MAIL", SILENCE)
        results = await asyncio.gather(link.ask(b"MAIL FROM:<>", 0.1), link.ask(b"RCPT TO:<a@b>", 5), return_exceptions=True)
        assert [getattr(result, "enhanced", None) for result in results] == ["4.4.1", "4.4.1"]
        assert link.is_hung
        assert lost == [link]
        with pytest.raises(LinkError):
            await link.ask(b"NOOP", 5)


async def test_a_reply_octet_by_octet_does_not_move_the_deadline() -> None:
    async with ScriptedNextHop() as hop, linked(hop) as (link, _):
        hop.script("MAIL", SILENCE)
        reply = link.ask(b"MAIL FROM:<>", 0.3)
        for _ in range(30):
            await hop.say_all(b"2" if not reply.done() else b"")
            if reply.done():
                break
        else:
            pytest.fail("still waiting")
        assert isinstance(reply.exception(), LinkError)


async def test_the_deadline_is_per_reply() -> None:
    """Four replies of 0.15 s each, with a limit of 0.3 s."""
    async with ScriptedNextHop() as hop, linked(hop) as (link, _):
        hop.script("RSET", Answer("250 Ok", delay=0.15))
        replies = await asyncio.gather(*(link.ask(b"RSET", 0.3) for _ in range(4)))
        assert [reply.code for reply in replies] == [250] * 4


async def test_a_shorter_limit_after_a_longer_one_holds() -> None:
    async with ScriptedNextHop() as hop, linked(hop) as (link, _):
        await link.ask(b"RSET", 60)
        hop.script("NOOP", SILENCE)
        with pytest.raises(LinkError):
            await asyncio.wait_for(link.ask(b"NOOP", 0.1), 2)


async def test_an_idle_link_that_is_closed_says_so() -> None:
    async with ScriptedNextHop() as hop, linked(hop) as (link, lost):
        await hop.drop_all()
        assert lost == [link]
        assert not link.is_usable
        link.fail(LinkError("x", "twice"))
        assert lost == [link]


async def test_an_unasked_421_ends_an_idle_link() -> None:
    async with ScriptedNextHop() as hop, linked(hop) as (link, lost):
        await hop.say_all(b"421 4.3.2 Going down\r\n")
        assert lost == [link]
        assert link.error is not None
        assert link.error.enhanced == "4.4.2"


async def test_a_421_is_a_reply_and_the_last() -> None:
    async with ScriptedNextHop() as hop, linked(hop) as (link, _):
        hop.script("MAIL", "421 4.3.2 Going down")
        assert (await link.ask(b"MAIL FROM:<>", 5)).code == 421
        assert link.leaving
        assert not link.is_usable


@pytest.mark.parametrize("answer", ["221 2.0.0 Bye", DROP])
async def test_quit(answer: str | Answer) -> None:
    async with ScriptedNextHop() as hop, linked(hop) as (link, lost):
        hop.script("QUIT", answer)
        link.quit()
        await asyncio.wait_for(link.closed, 2)
        assert hop.commands[-1] == b"QUIT"
        assert lost == [link]


async def test_quit_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.relay.link.QUIT_LIMIT", 0.1)
    async with ScriptedNextHop() as hop, linked(hop) as (link, _):
        hop.script("QUIT", SILENCE)
        link.quit()
        await asyncio.wait_for(link.closed, 2)


async def test_the_library_s_own_commands_refuse_to_work() -> None:
    """aiosmtplib's reader would take our replies: its commands find no lock here."""
    async with ScriptedNextHop() as hop, linked(hop) as (link, _):
        with pytest.raises(Exception, match="not connected"):
            await link.execute_command(b"NOOP")
        assert link.is_connected


async def test_requiretls_counts_only_behind_tls_that_was_verified() -> None:
    """RFC 8689 4.2.1."""
    offered = Capabilities({"REQUIRETLS": (), "DSN": ()})
    async with ScriptedNextHop() as hop, linked(hop) as (link, _):
        link.greeted(offered)
        assert set(link.capabilities.keywords) == {"DSN"}
        link.verified_tls = True
        link.greeted(offered)
        assert link.capabilities.offers("REQUIRETLS")


@pytest.mark.parametrize(
    ("peer", "family", "ssl_object", "is_private"),
    [
        (("127.0.0.1", 25), socket.AF_INET, None, True),
        (("::1", 25, 0, 0), socket.AF_INET6, None, True),
        ("", socket.AF_UNIX, None, True),
        (("192.0.2.1", 25), socket.AF_INET, None, False),
        (("fe80::1%eth0", 25, 0, 2), socket.AF_INET6, None, False),
        (("192.0.2.1", 25), socket.AF_INET, object(), True),
    ],
)
async def test_auth_is_not_known_of_where_others_read(
    peer: object, family: socket.AddressFamily, ssl_object: object, is_private: bool
) -> None:
    sock = SimpleNamespace(family=family, setsockopt=lambda *_: None)
    extra = {"peername": peer, "socket": sock, "ssl_object": ssl_object}
    link = Link(asyncio.get_running_loop(), "x:25", lambda _: None)
    assert not link.is_private
    link.connection_made(
        cast(
            "asyncio.Transport",
            SimpleNamespace(get_extra_info=extra.get, abort=lambda: None, set_write_buffer_limits=lambda **_: None),
        )
    )
    link.greeted(Capabilities({"AUTH": ("PLAIN",)}))
    assert link.capabilities.offers("AUTH") is is_private


async def test_what_is_written_goes_out_where_it_is_written() -> None:
    """uvloop would keep it to the end of the turn of the loop, behind all that is done in it."""
    async with ScriptedNextHop() as hop, linked(hop) as (link, _):
        writer = cast("asyncio.WriteTransport", link.transport)
        assert writer.get_write_buffer_limits() == (0, 0)
