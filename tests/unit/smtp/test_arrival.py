"""Connections before their session: header and handshake in any pieces, on asyncio and on uvloop; what never becomes a session."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.config.models import Config
from gateway.smtp.proxy_header import SIGNATURE
from gateway.testing.in_process import InProcessGateway
from gateway.testing.wire import client_tls
from tests.certificates import Authority

HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\n"
TLVS = struct.pack("!BH", 2, 14) + b"MX.example.org" + struct.pack("!BH", 5, 3) + b"a-1"
HEADER_2 = (
    SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 12 + len(TLVS)) + bytes([192, 0, 2, 7, 198, 51, 100, 1, 220, 4, 0, 25]) + TLVS
)
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"

try:
    from uvloop import new_event_loop as uvloop_loop
except ImportError:  # pragma: no cover - an extra
    LOOPS: list[Callable[[], Any]] = [asyncio.new_event_loop]
else:
    LOOPS = [asyncio.new_event_loop, uvloop_loop]

Scenario = Callable[[InProcessGateway, list[Any]], Awaitable[None]]


def config(folder: Path, *, implicit: bool = False, proxies: bool = True, **limits: object) -> Config:
    listener: dict[str, object] = {"name": "mx", "bind": "127.0.0.1:0", "trusted_proxies": ["127.0.0.1"] if proxies else []}
    if implicit:
        pair = Authority(folder).sign("mx.example.test")
        listener["tls"] = {"certificate": str(pair.certificate), "key": str(pair.key), "implicit": True}
    route = {"domains": ["example.test"], "servers": ["127.0.0.1:1"]}
    return Config.model_validate(
        {"listener": [listener], "route": [route], "limits": limits, "server": {"name": "mx.example.test"}}
    )


@pytest.fixture(params=LOOPS, ids=lambda make: str(make.__module__).partition(".")[0])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Config, Scenario], list[Any]]:
    """Run a scenario against a gateway, on each loop; the events it logged."""

    def running(settings: Config, scenario: Scenario) -> list[Any]:
        async def whole() -> list[Any]:
            with structlog.testing.capture_logs() as logged:
                async with InProcessGateway(settings, directory=tmp_path / "state") as gateway:
                    async with asyncio.timeout(10):
                        await scenario(gateway, logged)
                    await gateway.quiet()
            return [event for event in logged if event["log_level"] != "debug"]

        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(whole())

    return running


async def connect(gateway: InProcessGateway) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", gateway.port())


async def lines_until_end(reader: asyncio.StreamReader) -> list[bytes]:
    """What comes up to the end, which may be a reset."""
    lines = []
    try:
        while line := await reader.readline():
            lines.append(line)
    except ConnectionError:
        pass
    return lines


class TlsByHand:
    """A TLS client whose octets can be cut and joined at will."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client_tls().wrap_bio(self.incoming, self.outgoing, server_hostname="mx.example.test")

    async def shake(self, *, before: bytes = b"", behind: bytes = b"") -> None:
        """The handshake; `before` in one packet with the hello, `behind` with the last octets of the handshake."""
        front = before
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.writer.write(front + self.outgoing.read())
                front = b""
                self.incoming.write(await self.reader.read(65536))
                continue
            if behind:
                self.tls.write(behind)
            self.writer.write(self.outgoing.read())
            return

    async def read(self) -> bytes:
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                octets = await self.reader.read(65536)
                if not octets:
                    return b""
                self.incoming.write(octets)

    async def replies(self, count: int) -> bytes:
        octets = b""
        while octets.count(b"\r\n") < count:
            octets += await self.read()
        return octets


async def a_refused_recipient(gateway: InProcessGateway, say: Callable[[bytes], object]) -> dict[str, Any]:
    """The record of a transaction that needs no next hop."""
    say(b"EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@elsewhere.test>\r\nQUIT\r\n")
    while not gateway.records:  # noqa: ASYNC110 - records have no event
        await asyncio.sleep(0.005)
    record = gateway.records[-1]
    return {"client": record["client"], "tls": record["tls"][:7], "steps": [step["evidence"] for step in record["steps"][:1]]}


@pytest.mark.parametrize("header", [HEADER, HEADER_2], ids=["1", "2"])
@pytest.mark.parametrize("pieces", [1, 1000], ids=["octet by octet", "with what follows"])
def test_a_header_in_any_pieces(run: Callable[..., Any], tmp_path: Path, header: bytes, pieces: int) -> None:
    async def scenario(gateway: InProcessGateway, _: object) -> None:
        reader, writer = await connect(gateway)
        stream = header + b"NOOP\r\n"
        for at in range(0, len(stream), pieces):
            writer.write(stream[at : at + pieces])
            await asyncio.sleep(0)
        assert (await reader.readline()).startswith(b"220 ")
        assert (await reader.readline()).startswith(b"250 ")
        record = await a_refused_recipient(gateway, writer.write)
        assert record["client"] == "192.0.2.7"
        assert record["tls"] == ""
        names = ", TLS name MX.example.org, unique id a-1" if header == HEADER_2 else ""
        assert record["steps"] == [f"through 127.0.0.1{names}"]
        writer.close()

    run(config(tmp_path), scenario)


@pytest.mark.parametrize("header", [HEADER, HEADER_2, b""], ids=["1", "2", "no proxy"])
def test_implicit_tls_behind_the_header_in_one_packet(run: Callable[..., Any], tmp_path: Path, header: bytes) -> None:
    async def scenario(gateway: InProcessGateway, _: object) -> None:
        reader, writer = await connect(gateway)
        client = TlsByHand(reader, writer)
        await client.shake(
            before=header, behind=b"NOOP\r\n"
        )  # an early talker: that it gets its reply shows that nothing was lost
        assert [line[:4] for line in (await client.replies(2)).splitlines()] == [b"220 ", b"250 "]

        def say(octets: bytes) -> None:
            client.tls.write(octets)
            writer.write(client.outgoing.read())

        record = await a_refused_recipient(gateway, say)
        assert record["client"] == ("192.0.2.7" if header else "127.0.0.1")
        assert record["tls"] == "TLSv1.3"
        writer.close()

    run(config(tmp_path, implicit=True, proxies=bool(header)), scenario)


def test_probes_leave_no_trace(run: Callable[..., Any], tmp_path: Path) -> None:
    async def scenario(gateway: InProcessGateway, _: object) -> None:
        for octets in (b"", LOCAL):
            _, writer = await connect(gateway)
            writer.write(octets)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        await gateway.quiet()
        assert gateway.records == []

    assert run(config(tmp_path), scenario) == []


def test_a_local_connection_is_a_strangers(run: Callable[..., Any], tmp_path: Path) -> None:
    async def scenario(gateway: InProcessGateway, _: object) -> None:
        reader, writer = await connect(gateway)
        writer.write(LOCAL)
        assert (await reader.readline()).startswith(b"220 ")
        assert (await a_refused_recipient(gateway, writer.write))["client"] == ""
        writer.close()

    settings = config(tmp_path)
    [listener] = settings.listener
    run(
        settings.model_copy(update={"listener": (listener.model_copy(update={"trusted_networks": ("127.0.0.1/32",)}),)}), scenario
    )


@pytest.mark.parametrize(
    ("octets", "problem"),
    [
        (b"EHLO client.example\r\n", "neither version 1 nor version 2 begins so"),
        (b"\x16\x03\x01", "neither version 1 nor version 2 begins so"),
        (HEADER_2[:-1] + b"x" + HEADER_2[-1:] * 40, ""),
        (HEADER[:20], "cut off"),
        (HEADER_2[:20], "cut off"),
        (b"PROXY TCP4 " + b"1" * 500, "longer than 107 octets"),
        (SIGNATURE + b"\x21\x11\xff\xff", "longer than 16384 octets"),
    ],
    ids=["none", "TLS", "whole", "cut off", "cut off 2", "too long", "too long 2"],
)
def test_broken_headers_end_the_connection_with_a_line(
    run: Callable[..., Any], tmp_path: Path, octets: bytes, problem: str
) -> None:
    async def scenario(gateway: InProcessGateway, _: object) -> None:
        reader, writer = await connect(gateway)
        writer.write(octets)
        if problem == "cut off":
            writer.close()
        else:
            writer.write_eof()
        lines = await lines_until_end(reader)
        assert [line[:3] for line in lines[:1]] == ([] if problem else [b"220"])
        writer.close()

    logged = run(config(tmp_path), scenario)
    told = [(event["event"], event["proxy"], event["problem"]) for event in logged if event["event"] == "proxy.refused"]
    assert told == ([("proxy.refused", "127.0.0.1", f"PROXY header: {problem}")] if problem else [])


@pytest.mark.parametrize("octets", [b"", HEADER[:20]], ids=["silent", "slow"])
def test_a_header_has_little_time(run: Callable[..., Any], tmp_path: Path, octets: bytes) -> None:
    async def scenario(gateway: InProcessGateway, _: object) -> None:
        reader, writer = await connect(gateway)
        writer.write(octets)
        assert await lines_until_end(reader) == []
        writer.close()

    [event] = run(config(tmp_path, proxy_header="50ms"), scenario)
    assert event["problem"] == ("PROXY header: not within the time limit" if octets else "PROXY header: none came")


@pytest.mark.parametrize("header", [HEADER_2, b""], ids=["proxy", "no proxy"])
@pytest.mark.parametrize(
    ("octets", "told"), [(b"EHLO client.example\r\n" * 500, 1), (b"", 1), (b"\x16\x03\x01\x00\x05abc", 1), (None, 0)]
)
def test_a_handshake_that_fails_ends_the_connection(
    run: Callable[..., Any], tmp_path: Path, header: bytes, octets: bytes | None, told: int
) -> None:
    async def scenario(gateway: InProcessGateway, _: object) -> None:
        reader, writer = await connect(gateway)
        writer.write(header + (octets or b""))
        if octets is None:  # a probe
            await writer.drain()
            writer.close()
        assert all(not line.startswith(b"220") for line in await lines_until_end(reader))
        writer.close()
        await gateway.quiet()
        assert gateway.records == []

    logged = run(config(tmp_path, implicit=True, proxies=bool(header), tls_handshake="100ms"), scenario)
    assert [event["event"] for event in logged] == ["tls.handshake_failed"] * told
    assert all(event["client"] == ("192.0.2.7" if header else "127.0.0.1") for event in logged)


def test_those_that_wait_count_as_sessions(run: Callable[..., Any], tmp_path: Path) -> None:
    async def scenario(gateway: InProcessGateway, _: object) -> None:
        waiting = [await connect(gateway) for _ in range(2)]
        reader, writer = await connect(gateway)
        assert await lines_until_end(reader) == []
        for _, other in (*waiting, (reader, writer)):
            other.close()

    run(config(tmp_path, connections=2), scenario)


@pytest.mark.parametrize("header", [HEADER, b""], ids=["proxy", "no proxy"])
def test_a_connection_keeps_to_one_seat(run: Callable[..., Any], tmp_path: Path, header: bytes) -> None:
    async def scenario(gateway: InProcessGateway, _: object) -> None:
        for _again in range(3):
            reader, writer = await connect(gateway)
            client = TlsByHand(reader, writer)
            await client.shake(before=header)
            assert (await client.replies(1)).startswith(b"220 ")
            writer.close()
            await gateway.quiet()

    run(config(tmp_path, implicit=True, proxies=bool(header), connections=1, network_connections=1, network_rate=3), scenario)


@pytest.mark.parametrize("implicit", [False, True])
def test_a_worker_that_stops_does_not_wait_for_them(run: Callable[..., Any], tmp_path: Path, implicit: bool) -> None:
    async def scenario(gateway: InProcessGateway, _: object) -> None:
        reader, writer = await connect(gateway)
        writer.write(HEADER if implicit else HEADER[:10])
        await asyncio.sleep(0.05)
        door, _ = gateway._doors["mx"]
        await door.drain()
        assert await lines_until_end(reader) == []
        writer.close()

    run(config(tmp_path, implicit=implicit), scenario)
