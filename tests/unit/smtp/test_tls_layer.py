"""STARTTLS on either loop: uvloop has a layer of its own, whose class and constructor `begin_tls` relies on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvloop

from gateway.config.models import Config
from gateway.testing.in_process import InProcessGateway
from gateway.testing.wire import client_tls
from tests.certificates import Authority

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Talk], list[Any]]:
    """Talk with a gateway on each loop; the events it logged."""
    pair = Authority(tmp_path).sign("mx.example.test")
    tls = {"certificate": str(pair.certificate), "key": str(pair.key)}
    settings = Config.model_validate(
        {
            "listener": [{"name": "mx", "bind": "127.0.0.1:0", "tls": tls}],
            "route": [{"domains": ["example.test"], "servers": ["127.0.0.1:1"]}],
        }
    )

    async def whole(talk: Talk) -> list[Any]:
        with structlog.testing.capture_logs() as logged:
            async with InProcessGateway(settings, directory=tmp_path / "state") as gateway, asyncio.timeout(10):
                reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port())
                await talk(reader, writer)
                writer.close()
                await gateway.quiet()
        return [event["event"] for event in logged if event["log_level"] != "debug"]

    def running(talk: Talk) -> list[Any]:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(whole(talk))

    return running


async def said(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes) -> bytes:
    writer.write(line)
    return await reader.readline()


def test_under_tls_the_session_begins_anew_and_ends_as_any_other(run: Callable[[Talk], list[Any]]) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readline()).startswith(b"220 ")
        assert (await said(reader, writer, b"HELO client\r\n")).startswith(b"250 ")
        assert (await said(reader, writer, b"STARTTLS\r\n")).startswith(b"220 2.0.0")
        await writer.start_tls(client_tls())
        assert (await said(reader, writer, b"MAIL FROM:<a@b.test>\r\n")).startswith(b"503 ")
        assert (await said(reader, writer, b"STARTTLS\r\n")).startswith(b"503 ")
        pieces = [b"HE", b"LO client\r\nNO", b"OP\r\n"]
        for piece in pieces:  # a record each
            writer.write(piece)
            await asyncio.sleep(0)
        assert [(await reader.readline())[:3] for _ in range(2)] == [b"250", b"250"]
        assert (await said(reader, writer, b"QUIT\r\n")).startswith(b"221 ")
        assert await reader.read() == b""

    assert "session.failed" not in run(talk)


def test_what_is_no_handshake_ends_the_session(run: Callable[[Talk], list[Any]]) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        await said(reader, writer, b"HELO client\r\n")
        await said(reader, writer, b"STARTTLS\r\n")
        writer.write(b"MAIL FROM:<a@b.test>\r\n")
        with suppress(ConnectionError):
            assert b"250" not in await reader.read()

    events = run(talk)
    assert "tls.handshake_failed" in events
    assert "session.failed" not in events
