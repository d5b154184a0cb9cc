"""Chunks that come faster than the next hop answers: the client has to wait, and nothing is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.config.models import Config
from gateway.smtp.server import PAUSE_AT, Server
from gateway.testing.in_process import InProcessGateway
from gateway.testing.next_hop import Answer, ScriptedNextHop
from gateway.testing.wire import CHUNK, connect


async def test_a_chunk_behind_a_slow_recipient_is_not_piled_up(tmp_path: Path) -> None:
    content = b"Subject: x\r\n\r\n" + b"0123456789abcde\r\n" * 600_000
    async with ScriptedNextHop() as hop:
        hop.script("RCPT", Answer("250 2.1.5 Ok", delay=0.3))
        config = Config.model_validate({"route": [{"domains": ["example.test"], "servers": [hop.address]}]})
        async with InProcessGateway(config, directory=tmp_path) as gateway:
            client = await connect(gateway.port())
            client.say(b"EHLO c.test\r\nMAIL FROM:<a@c.test>\r\nRCPT TO:<b@example.test>\r\n")
            half = len(content) // 2
            client.say(b"BDAT %d\r\n%s" % (half, content[:half]))
            client.say(b"BDAT %d LAST\r\n%sQUIT\r\n" % (len(content) - half, content[half:]))
            (server,) = [one for door, _ in gateway._doors.values() for one in door.sessions]
            most = 0
            while not hop.transactions:
                most = max(most, server._engine.pending)  # type: ignore[attr-defined] # a session as its door knows it
                await asyncio.sleep(0.005)
            while (line := await client.line()) != "221 2.0.0 Bye":
                assert line is not None
                assert line.startswith("2")
            client.close()
        assert hop.transactions[0].content.endswith(content)
    assert CHUNK < most <= PAUSE_AT + (1 << 18), "the octets wait, and they are bounded"


async def test_who_sends_much_is_read_again_when_the_others_had_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"Subject: x\r\n\r\n" + b"0123456789abcde\r\n" * 300_000
    turns: list[Server] = []
    read_on = Server._read_on

    def noted(server: Server) -> None:
        turns.append(server)
        read_on(server)

    monkeypatch.setattr(Server, "_read_on", noted)
    async with ScriptedNextHop() as hop:
        config = Config.model_validate({"route": [{"domains": ["example.test"], "servers": [hop.address]}]})
        async with InProcessGateway(config, directory=tmp_path) as gateway:
            client = await connect(gateway.port())
            client.say(b"EHLO c.test\r\nMAIL FROM:<a@c.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n")
            while (line := await client.line()) is not None and not line.startswith("354"):
                assert line.startswith("2")
            client.say(content + b".\r\nQUIT\r\n")
            while (line := await client.line()) != "221 2.0.0 Bye":
                assert line is not None
                assert line.startswith("2")
            client.close()
        assert hop.transactions[0].content.endswith(content)
    assert turns
