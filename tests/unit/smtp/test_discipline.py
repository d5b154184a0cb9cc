"""Early talk, improper pipelining, input behind STARTTLS: on the loop of asyncio and on uvloop; and the pace of content."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.config.models import Config
from gateway.smtp.discipline import Pace
from gateway.testing.in_process import InProcessGateway
from gateway.testing.next_hop import ScriptedNextHop
from gateway.testing.wire import server_certificate

Run = Callable[[Coroutine[Any, Any, None]], None]
TALK = b"EHLO client.test\r\nMAIL FROM:<a@client.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n"


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def running(work: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(work)

    return running


def gateway(
    directory: Path, hop: ScriptedNextHop | None = None, *, chain: dict[str, Any] | None = None, **listener: Any
) -> AbstractAsyncContextManager[InProcessGateway]:
    config = {
        **(chain or {}),
        "server": {"name": "mx.example.test"},
        "listener": [{"lenient_networks": [], **listener}],
        "route": [{"domains": ["example.test"], "servers": [hop.address if hop is not None else "127.0.0.1:9"]}],
    }
    return InProcessGateway(Config.model_validate(config), directory=directory)


def at_once(port: int, octets: bytes, undo: ExitStack) -> socket.socket:
    """Connected and said before the gateway's loop has turned."""
    client = undo.enter_context(socket.create_connection(("127.0.0.1", port)))
    client.sendall(octets)
    client.setblocking(False)
    return client


async def said(client: socket.socket) -> bytes:
    """Everything up to the end of the connection."""
    loop, parts = asyncio.get_running_loop(), []
    async with asyncio.timeout(10):
        while octets := await loop.sock_recv(client, 65536):
            parts.append(octets)
    return b"".join(parts)


def findings(gateway: InProcessGateway) -> list[tuple[str, object]]:
    """Of the last transaction's record: those of the session."""
    steps = [step for step in gateway.records[-1]["steps"] if step["stage"] == "session" and step["outcome"] == "finding"]
    return [(found["name"], found["value"]) for step in steps for found in step["findings"]]


def test_input_that_is_there_at_connect_is_early_talk(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with gateway(tmp_path, early_talkers="defer") as started:
            with ExitStack() as undo:
                assert (await said(at_once(started.port(), b"E", undo))).startswith(b"421 4.7.0 You talked before the greeting")
                with pytest.raises(TimeoutError):  # one that waits is greeted
                    async with asyncio.timeout(0.1):
                        await said(patient := at_once(started.port(), b"", undo))
                patient.close()
            assert [record["reason"] for record in started.records] == ["early-talker"]

    run(work())


SLOW = """
import asyncio

from gateway import Plugin, Session, hook


class Slow(Plugin):
    @hook
    async def connect(self, session: Session) -> None:
        await asyncio.sleep(0.2)
"""


def test_talk_during_the_hooks_of_connect_is_early_talk(run: Run, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(f'"""Takes its time."""\n{SLOW}')

    async def work() -> None:
        chain = {"plugins": ["slow"], "plugin_path": [str(tmp_path)]}
        async with gateway(tmp_path, chain=chain, early_talkers="defer") as started:
            with ExitStack() as undo:
                client = at_once(started.port(), b"", undo)
                await asyncio.sleep(0.1)
                client.sendall(b"EHLO client.test\r\n")
                assert (await said(client)).startswith(b"421 4.7.0 You talked before the greeting")

    run(work())


def test_early_talk_is_noted_in_each_transaction(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with ScriptedNextHop() as hop, gateway(tmp_path, hop) as started:
            with ExitStack() as undo:
                octets = TALK + b"Subject: x\r\n\r\n.\r\nMAIL FROM:<b@client.test>\r\nRSET\r\nQUIT\r\n"
                answer = await said(at_once(started.port(), octets, undo))
            assert answer.startswith(b"220 mx.example.test")
            assert answer.endswith(b"221 2.0.0 Bye\r\n")
            assert len(hop.transactions) == 1
            assert len(started.records) == 2
            assert findings(started) == [("early_talker", True), ("improper_pipelining", "EHLO")]

    run(work())


@pytest.mark.parametrize(
    ("groups", "found"),
    [
        ([b"EHLO c\r\n", b"MAIL FROM:<a@b>\r\nRCPT TO:<bob@example.test>\r\nRSET\r\n", b"MAIL FROM:<a@b>\r\n"], None),
        ([b"EHLO c\r\n", b"NOOP\r\nMAIL FROM:<a@b>\r\n"], "NOOP"),
        ([b"EHLO c\r\nMAIL FROM:<a@b>\r\n"], "EHLO"),
        ([b"HELO c\r\nMAIL FROM:<a@b>\r\n"], "HELO"),
        ([b"HELO c\r\n", b"MAIL FROM:<a@b>\r\nRSET\r\n"], "RSET"),
        ([b"HELO c\r\n", b"RSET\r\nMAIL FROM:<a@b>\r\n"], "RSET"),
        ([b"HELO c\r\n", b"RSET\r\n", b"MAIL FROM:<a@b>\r\n"], None),
    ],
)
async def test_groups_that_rfc_2920_allows_are_no_finding(groups: list[bytes], found: str | None, tmp_path: Path) -> None:
    async with ScriptedNextHop() as hop, gateway(tmp_path, hop) as started:
        reader, writer = await asyncio.open_connection("127.0.0.1", started.port())
        await reader.readline()
        for group in groups:
            writer.write(group)
            for _ in range(group.count(b"\r\n")):
                while (await reader.readline())[3:4] == b"-":
                    pass
        writer.close()
        await started.quiet()
        assert findings(started) == ([("improper_pipelining", found)] if found else [])


@pytest.mark.parametrize(
    "behind", [b"NOOP\r\n", b"MAIL FROM:<evil@client.test>\r\nRCPT TO:<bob@example.test>\r\n", b"\x16\x03\x01"]
)
def test_input_behind_starttls_ends_the_connection(run: Run, behind: bytes, tmp_path: Path) -> None:
    certificate, key = server_certificate(tmp_path)

    async def work() -> None:
        async with gateway(tmp_path, tls={"certificate": str(certificate), "key": str(key)}) as started:
            reader, writer = await asyncio.open_connection("127.0.0.1", started.port())
            writer.write(b"EHLO client.test\r\n")
            while not (await reader.readline()).startswith(b"250 "):
                pass
            writer.write(b"STARTTLS\r\n" + behind)
            async with asyncio.timeout(10):
                assert (await reader.read()).startswith(b"554 5.5.0 Input behind STARTTLS")
            writer.close()
            assert not started.records

    run(work())


def test_plain_text_in_the_place_of_the_handshake_is_never_answered(run: Run, tmp_path: Path) -> None:
    certificate, key = server_certificate(tmp_path)

    async def work() -> None:
        async with gateway(tmp_path, tls={"certificate": str(certificate), "key": str(key)}) as started:
            reader, writer = await asyncio.open_connection("127.0.0.1", started.port())
            writer.write(b"EHLO client.test\r\n")
            while not (await reader.readline()).startswith(b"250 "):
                pass
            writer.write(b"STARTTLS\r\n")
            assert (await reader.readline()).startswith(b"220 ")
            writer.write(b"MAIL FROM:<evil@client.test>\r\n" * 20)
            async with asyncio.timeout(10):
                answer = b""
                while octets := await reader.read(1000):
                    answer += octets
            assert b"250" not in answer
            writer.close()
            assert not started.records

    run(work())


def test_the_handshake_forgets_what_was_said_before(run: Run, tmp_path: Path) -> None:
    certificate, key = server_certificate(tmp_path)
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    async def work() -> None:
        async with gateway(tmp_path, tls={"certificate": str(certificate), "key": str(key)}) as started:
            reader, writer = await asyncio.open_connection("127.0.0.1", started.port())
            writer.write(b"EHLO client.test\r\n")
            while not (await reader.readline()).startswith(b"250 "):
                pass
            writer.write(b"STARTTLS\r\n")
            await reader.readline()
            await writer.start_tls(context)
            writer.write(b"MAIL FROM:<a@client.test>\r\n")
            assert (await reader.readline()).startswith(b"503 5.5.1")
            writer.close()

    run(work())


def test_pace() -> None:
    pace = Pace(100, 10.0)
    one, other = object(), object()
    assert not pace.is_too_slow(one, 0, 50.0), "grace"
    assert not pace.is_too_slow(one, 0, 59.9), "the window is not over"
    assert not pace.is_too_slow(one, 1000, 60.0)
    assert pace.is_too_slow(one, 1999, 70.0)
    assert not pace.is_too_slow(other, 0, 80.0), "another content has its own grace"
    assert pace.is_too_slow(other, 1999, 100.0), "100 octets a second over the time that passed"
    assert not Pace(0, 10.0).is_too_slow(one, 0, 50.0)


def test_no_rate_is_no_limit() -> None:
    pace = Pace(0, 1.0)
    assert not any(pace.is_too_slow(pace, 0, float(now)) for now in range(10))
