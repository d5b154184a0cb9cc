"""A small message that only the next hop is asked about: its reply needs no task, and whatever comes in between changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.config.models import Config
from gateway.smtp.server import Server, prototype
from gateway.testing.in_process import InProcessGateway
from gateway.testing.next_hop import DROP, SILENCE, Answer, ScriptedNextHop
from gateway.testing.overheard import MemoryTransport

ENVELOPE = (b"MAIL FROM:<a@example.test>\r\n", b"RCPT TO:<b@example.test>\r\n", b"DATA\r\n")
CONTENT = b"Subject: x\r\n\r\nHello\r\n.\r\n"
SLOW = Answer("250 2.0.0 Ok", delay=0.2)


class Client:
    """A client in memory."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.told = b""
        self.heard = asyncio.Event()
        server.connection_made(MemoryTransport(server, self._hear))

    def _hear(self, octets: bytes) -> None:
        self.told += octets
        self.heard.set()

    async def says(self, *pieces: bytes) -> list[int]:
        """The codes of the replies, when there is one for each piece."""
        for piece in pieces:
            self.heard.clear()
            asyncio.get_running_loop().call_soon(self.server.data_received, piece)  # as a transport does, in no task
            await self.heard.wait()
        return self.codes()

    def codes(self) -> list[int]:
        """What was told so far, less greeting and capabilities."""
        lines = [line for line in self.told.split(b"\r\n") if line[3:4] == b" "]
        return [int(line[:3]) for line in lines[2:]]


@asynccontextmanager
async def session(hop: ScriptedNextHop, directory: Path) -> AsyncIterator[tuple[InProcessGateway, Client]]:
    config = Config.model_validate({"route": [{"domains": ["example.test"], "servers": [hop.address]}]})
    async with InProcessGateway(config, directory=directory) as gateway:
        door, _ = next(iter(gateway._doors.values()))
        client = Client(Server(door, prototype(door, asyncio.get_running_loop())))
        await client.says(b"EHLO c.example\r\n")
        yield gateway, client
        client.server.connection_lost(None)
        await gateway.quiet()


async def test_messages_need_no_task(tmp_path: Path) -> None:
    async with ScriptedNextHop() as hop, session(hop, tmp_path) as (gateway, client):
        await client.says(*ENVELOPE, CONTENT)  # for the first one a link is opened, and the ledger looked into
        task = client.server._handler_coroutine
        assert task is not None
        waits_for = client.server._waiter
        await client.says(*ENVELOPE, CONTENT, *ENVELOPE, CONTENT)
        assert client.codes() == [250, 250, 354, 250] * 3
        assert client.server._waiter is waits_for  # nobody has woken it
        assert [record["verdict"] for record in gateway.records] == ["delivered"] * 3
        assert len(hop.transactions) == 3


async def test_a_session_on_a_warm_link_has_no_task_at_all(tmp_path: Path) -> None:
    async with ScriptedNextHop() as hop, session(hop, tmp_path) as (_, first):
        await first.says(*ENVELOPE, CONTENT)
        second = Client(Server(first.server._door, prototype(first.server._door, asyncio.get_running_loop())))
        await second.says(b"EHLO d.example\r\n", *ENVELOPE, CONTENT)
        assert second.codes() == [250, 250, 354, 250]
        assert second.server._handler_coroutine is None
        second.server.connection_lost(None)


@pytest.mark.parametrize(
    ("answer", "code", "fate"),
    [
        (Answer("554 5.7.1 No"), 554, "rejected"),
        (Answer("451 4.7.1 Later"), 451, "deferred"),
        (Answer("421 4.3.2 Going"), 451, "deferred"),
        (Answer("354 What"), 451, "deferred"),
        (DROP, 451, "deferred"),
        (Answer("250 2.0.0 Ok", drop=True), 250, "delivered"),
        (Answer("250-2.0.0 Ok\n250 2.0.0 of two lines"), 250, "delivered"),
        (Answer(raw=b"250 2.0.0 Ok\r\n250 2.0.0 Nobody asked\r\n"), 250, "delivered"),
    ],
)
async def test_answers_to_the_content(tmp_path: Path, answer: Answer, code: int, fate: str) -> None:
    async with ScriptedNextHop() as hop, session(hop, tmp_path) as (gateway, client):
        await client.says(*ENVELOPE, CONTENT)
        hop.script("CONTENT", answer, stay=False)
        await client.says(*ENVELOPE, CONTENT)
        assert client.codes()[4:] == [250, 250, 354, code]
        await client.says(*ENVELOPE, CONTENT)
        assert client.codes()[8:] == [250, 250, 354, 250]
        assert [record["verdict"] for record in gateway.records] == ["delivered", fate, "delivered"]


@pytest.mark.parametrize("answer", [DROP, Answer("421 4.3.2 Going", drop=True), Answer("503 5.5.1 What"), Answer("554 5.7.1 No")])
async def test_answers_to_data(tmp_path: Path, answer: Answer) -> None:
    async with ScriptedNextHop() as hop, session(hop, tmp_path) as (_, client):
        await client.says(*ENVELOPE, CONTENT)
        hop.script("DATA", answer, stay=False)
        await client.says(*ENVELOPE, CONTENT)
        expected = {"503 5.5.1 What": 451, "554 5.7.1 No": 554}.get(answer.reply, 250)  # a link that fails before is replaced
        assert client.codes()[7] == expected
        await client.says(*ENVELOPE, CONTENT)
        assert client.codes()[11] == 250


@pytest.mark.parametrize("what", ["eof", "lost", "draining", "end of session", "more", "next message"])
async def test_what_comes_while_the_next_hop_thinks(tmp_path: Path, what: str) -> None:
    async with ScriptedNextHop() as hop, session(hop, tmp_path) as (gateway, client):
        await client.says(*ENVELOPE, CONTENT)
        hop.script("CONTENT", SLOW, "250 2.0.0 Ok")
        await client.says(*ENVELOPE)
        server = client.server
        asyncio.get_running_loop().call_soon(server.data_received, CONTENT)
        await asyncio.sleep(0.05)
        then: list[int] = []
        match what:
            case "eof":
                server.eof_received()
            case "lost":
                server.connection_lost(None)
            case "draining":
                server._door.draining = True
                server.drain()
                then = [421]
            case "end of session":
                server.end_session("Enough")
                then = [421]
            case "more":
                server.data_received(b"NOOP\r\nMAIL FROM:<c@example.test>\r\nQUIT\r\n")
                then = [250, 250, 221]
            case _:
                server.data_received(b"".join(ENVELOPE))
                then = [250, 250, 354]
        assert len(client.codes()) == 7  # nothing before the next hop has answered
        count = 7 + (what != "lost") + len(then)
        async with asyncio.timeout(5):
            while len(client.codes()) < count or len(gateway.records) < 2:  # noqa: ASYNC110 - the record makes no event
                await asyncio.sleep(0.005)
        assert client.codes()[7:] == [250, *then][: count - 7]
        assert gateway.records[1]["verdict"] == "delivered"
        server._door.draining = False


async def test_a_session_that_is_cancelled_says_nothing_made_up(tmp_path: Path) -> None:
    async with ScriptedNextHop() as hop, session(hop, tmp_path) as (gateway, client):
        await client.says(*ENVELOPE, CONTENT)
        hop.script("CONTENT", SILENCE)
        await client.says(*ENVELOPE)
        asyncio.get_running_loop().call_soon(client.server.data_received, CONTENT)
        await asyncio.sleep(0.05)
        task = client.server._handler_coroutine
        assert task is not None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert client.codes()[7:] == []
        assert [record["verdict"] for record in gateway.records] == ["delivered", "vanished"]
        hop.script("CONTENT", "250 2.0.0 Ok")
        after = Client(Server(client.server._door, prototype(client.server._door, asyncio.get_running_loop())))
        await after.says(b"EHLO d.example\r\n", *ENVELOPE, CONTENT)
        assert after.codes() == [250, 250, 354, 250]
        assert hop.connections == 2  # the link on which content was given up is not used again
        after.server.connection_lost(None)
