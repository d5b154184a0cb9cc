"""One client's flood of commands does not keep the others waiting; replies go out together where they belong together."""

from __future__ import annotations

import asyncio
from itertools import product
from pathlib import Path

from gateway.config.models import Config
from gateway.smtp.server import Server, prototype
from gateway.testing.in_process import InProcessGateway
from gateway.testing.overheard import MemoryTransport
from gateway.testing.wire import Party, connect


async def test_others_get_their_turn_between_pipelined_commands(tmp_path: Path) -> None:
    config = Config.model_validate({"route": [{"domains": ["example.test"], "servers": ["127.0.0.1:9"]}]})
    number = 30_000
    async with InProcessGateway(config, directory=tmp_path) as gateway:
        client = await connect(gateway.port())
        await client.line()
        turns = 0
        flood = asyncio.get_running_loop().create_task(_replies(client, number))
        client.say(b"NOOP\r\n" * number)
        while not flood.done():
            turns += 1
            await asyncio.sleep(0)
        assert flood.result() == number
        client.close()
    assert turns > number / 100


async def _replies(client: Party, number: int) -> int:
    return sum([await client.line() == "250 2.0.0 Ok" for _ in range(number)])


async def test_replies_of_a_group_are_written_together(tmp_path: Path) -> None:
    config = Config.model_validate({"route": [{"domains": ["example.test"], "servers": ["127.0.0.1:9"]}]})
    async with InProcessGateway(config, directory=tmp_path) as gateway:
        door, _ = next(iter(gateway._doors.values()))
        server = Server(door, prototype(door, asyncio.get_running_loop()))
        written: list[bytes] = []
        server.connection_made(MemoryTransport(server, written.append))
        server.data_received(b"EHLO c.test\r\n")
        for octets, replies in [
            (b"NOOP\r\n", 1),
            (b"NOOP\r\nRSET\r\nNOOP\r\n", 3),
            (b"NOOP\r\nNOOP\r\nNO", 2),
            (b"OP\r\nRSET\r\n", 2),
            (b"VRFY x\r\nNOOP\r\nVRFY x\r\n", 3),
        ]:
            await asyncio.sleep(0.01)
            written.clear()
            server.data_received(octets)
            await asyncio.sleep(0.01)
            assert [octets.count(b"\r\n") for octets in written] == [replies]
        server.data_received(b"QUIT\r\n")
        await asyncio.sleep(0.01)


async def test_a_session_that_says_quit_is_over_with_its_reply(tmp_path: Path) -> None:
    config = Config.model_validate({"route": [{"domains": ["example.test"], "servers": ["127.0.0.1:9"]}]})
    async with InProcessGateway(config, directory=tmp_path) as gateway:
        door, _ = next(iter(gateway._doors.values()))
        hellos = (b"", b"HELO c.test\r\n")  # with HELO its task has asked the next hop, and waits
        for hello, said, is_taken in product(hellos, (b"QUIT\r\n", b"NOOP\r\nQUIT\r\n"), (True, False)):
            server = Server(door, prototype(door, asyncio.get_running_loop()))
            written: list[bytes] = []
            server.connection_made(MemoryTransport(server, written.append))
            assert door.site.connections.count == 1
            if hello:
                server.data_received(hello)
                await asyncio.sleep(0.01)
            if not is_taken:
                server._paused = True  # the client does not read its replies: they are waited for first
            server.data_received(said)
            is_over = b"".join(written).endswith(b"221 2.0.0 Bye\r\n"), not door.sessions
            assert is_over == (is_taken, is_taken)
            if not is_taken:
                server.resume_writing()
            await asyncio.sleep(0.01)
            assert b"".join(written).endswith(b"221 2.0.0 Bye\r\n")
            server.connection_lost(None)
            assert not door.sessions
            assert door.site.connections.count == 0
