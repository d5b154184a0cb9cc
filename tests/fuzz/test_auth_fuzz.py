"""AUTH with any lines from the client and any answers from the next hop: a reply for each line, nothing but BASE64 goes on. RFC 4954 4."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import LogCapture

from gateway.config.models import Config
from gateway.testing.in_process import InProcessGateway

SECRET = base64.b64encode(b"\0joe\0not to be written down")
LINES = [
    b"AUTH LOGIN", b"AUTH PLAIN", b"AUTH PLAIN " + SECRET, b"AUTH LOGIN =", b"auth login am9l", b"AUTH CRAM-MD5", b"*", b"", b"am9l", SECRET,
    b"NOOP", b"RSET", b"MAIL FROM:<a@client.test>", b"RCPT TO:<bob@example.test>", b"EHLO client.test", b"QUJD" * 3072, b"QUJD" * 3073, b"am9",
]  # fmt: skip
ANSWERS = [
    b"334 ", b"334 VXNlcm5hbWU6", b"334 VXNlcm5hbWU6", b"334 " + b"QUJD" * 3072, b"235 2.7.0 Welcome", b"535 5.7.8 No", b"454 Later",
    b"421 4.3.2 Bye", b"250 Well", b"503 What", b"garbage", b"334 \xff", b"334-a\r\n334 b", b"",
]  # fmt: skip
_GOES_ON = re.compile(rb"(?i:AUTH) (?i:LOGIN|PLAIN)(?: (?:=|[A-Za-z0-9+/]+=*))?|\*|[A-Za-z0-9+/]*={0,2}")
_OURS = re.compile(rb"EHLO mx\.example\.test|MAIL FROM:<a@client\.test>|RCPT TO:<bob@example\.test>|RSET|QUIT")


class NextHop:
    """Answers AUTH, and what follows a challenge, with what it was given; everything else with 250."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.lines: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 next-hop.test\r\n")
        challenged = False
        while line := await reader.readline():
            line = line.removesuffix(b"\r\n")
            self.lines.append(line)
            if challenged or line[:5].upper() == b"AUTH ":
                answer = self.answers.pop(0) if self.answers else b"535 5.7.8 No"
                challenged = answer.startswith(b"334 ")
                if not answer:
                    break
            elif line.startswith(b"EHLO"):
                answer = b"250-next-hop.test\r\n250-PIPELINING\r\n250 AUTH PLAIN LOGIN"
            else:
                answer = b"221 Bye" if line == b"QUIT" else b"250 2.0.0 Ok"
            writer.write(answer + b"\r\n")
            if line == b"QUIT":
                break
        writer.close()


class Bench:
    """A gateway and the next hop, in a loop of their own."""

    def __init__(self, directory: Path) -> None:
        self.runner = asyncio.Runner()
        self.directory = directory
        self.hop = NextHop()
        self.log = LogCapture()
        self.server: asyncio.Server
        self.gateway: InProcessGateway

    async def open(self) -> None:
        self.server = await asyncio.start_server(self.hop.serve, "127.0.0.1", 0, limit=1 << 17)
        port = self.server.sockets[0].getsockname()[1]
        config = Config.model_validate(
            {
                "server": {"name": "mx.example.test"},
                "listener": [{"name": "mx", "auth_route": "default", "lenient_networks": []}],
                "route": [{"domains": ["example.test"], "servers": [f"127.0.0.1:{port}"]}],
                "relay": {"rest": 0.001, "connect_timeout": 2.0},
            }
        )
        self.gateway = await InProcessGateway(config, directory=self.directory).__aenter__()

    async def close(self) -> None:
        await self.gateway.__aexit__(None, None, None)
        self.server.close()

    async def say(self, lines: list[bytes], answers: list[bytes]) -> list[bytes]:
        self.hop.answers, self.hop.lines = list(answers), []
        self.log.entries.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port(), limit=1 << 17)
        async with asyncio.timeout(10):
            writer.write(b"".join(line + b"\r\n" for line in lines))
            writer.write_eof()
            octets = await reader.read()
            writer.close()
            await self.gateway.quiet()
        return [line for line in octets.split(b"\r\n") if line[3:4] == b" "]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    before = structlog.get_config()
    made = Bench(tmp_path_factory.mktemp("auth"))
    structlog.configure(processors=[made.log], cache_logger_on_first_use=False)
    with made.runner:
        made.runner.run(made.open())
        yield made
        made.runner.run(made.close())
    structlog.configure(**before)


said = st.lists(st.sampled_from(LINES) | st.binary(max_size=20).map(lambda octets: octets.replace(b"\n", b"")), max_size=12)


@settings(
    max_examples=150, derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=said, answers=st.lists(st.sampled_from(ANSWERS), max_size=8))
def test_each_line_has_its_reply_and_only_base64_goes_on(bench: Bench, lines: list[bytes], answers: list[bytes]) -> None:
    replies = bench.runner.run(bench.say([b"EHLO client.test", *lines], answers))
    assert replies[0].startswith(b"220 ")
    is_over = replies[-1].startswith(b"421")
    assert is_over or len(replies) == len(lines) + 2, (lines, replies)
    for line in bench.hop.lines:
        assert _OURS.fullmatch(line) or _GOES_ON.fullmatch(line), line
    assert not [entry for entry in bench.log.entries if entry["log_level"] in {"error", "critical"}], bench.log.entries
    assert SECRET.decode() not in repr(bench.log.entries)
    assert "not to be written down" not in repr(bench.log.entries)
