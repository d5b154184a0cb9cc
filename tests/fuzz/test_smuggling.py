"""A second message hidden in the content of a first one, for next hops that read ends of data laxly. RFC 5321 4.1.1.4, 4.5.2.

Every string of CR, LF, dot, an octet and NUL up to a length, between two halves of a message: whatever the gateway takes must
have its only end of data at its very end, also for a reader that takes bare CR or LF as a line's end and drops NUL.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config.models import Config, LimitsConfig
from gateway.relay.protocol import DotStuffer
from gateway.smtp.intake import Intake, has_hidden_end
from gateway.smtp.protocol import Command, Content, EndOfContent, Engine
from gateway.testing.in_process import InProcessGateway
from gateway.testing.wire import Party, connect

FRONT = b"Subject: x\r\n\r\nbody"
BEHIND = b"MAIL FROM:<smuggled@x.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nevil\r\n.\r\n"
LENGTH = 6
_LAX_END = re.compile(rb"(?:\r|\n)\.(?:\r|\n)")


def strings(length: int) -> list[bytes]:
    """All strings of the five octets that matter, up to this length."""
    return [bytes(one) for size in range(length + 1) for one in itertools.product(b"\r\n.a\0", repeat=size)]


def lax_ends(wire: bytes) -> list[int]:
    """Ends of data as the laxest reader sees them: places where a line of one dot ends, NUL dropped, any CR or LF a line's end."""
    return [found.end() for found in _LAX_END.finditer(b"\n" + wire.replace(b"\0", b""))]


def taken(
    octets: bytes, *, lenient: bool, directory: Path, lf: bool = False, step: int = 1_000_000
) -> tuple[bytes, list[Command]]:
    """Octets behind a 354 through engine, intake and dot-stuffer: what would go on (nothing: refused), commands behind it."""
    engine = Engine()
    stream = engine.begin_content(lines_end_in_lf=lf, line_limit=100_000)
    intake = Intake(stream, LimitsConfig(), directory=directory, lenient=lenient)
    commands: list[Command] = []
    onward: list[bytes] = []
    for at in range(0, len(octets), step):
        engine.feed(octets[at : at + step])
        while (event := engine.next_event()) is not None:
            match event:
                case Content():
                    intake.take(event.octets)
                case EndOfContent():
                    content = b"" if intake.fault is not None else bytes(intake.content().octets)
                    if intake.fault is None and not (intake.has_nul and has_hidden_end(content)):
                        stuffer = DotStuffer()
                        onward = [stuffer.feed(content), stuffer.finish()]
                case Command():
                    commands.append(event)
                case _:
                    raise AssertionError(event)
    return b"".join(onward), commands


@pytest.mark.parametrize("lenient", [False, True], ids=["stranger", "lenient network"])
def test_what_goes_on_has_one_end_for_the_laxest_reader(lenient: bool, tmp_path: Path) -> None:
    sent = refused = ended = 0
    for between in strings(LENGTH):
        wire = FRONT + between + BEHIND
        passed, commands = taken(wire, lenient=lenient, directory=tmp_path)
        is_end = b"\r\n.\r\n" in between  # two messages of one client, as it says itself
        assert bool(commands) is is_end, between
        ended += is_end
        if not passed:
            refused += 1
            continue
        sent += 1
        ends = lax_ends(passed)
        assert len(ends) == 1, (between, passed)
        assert passed.endswith(b"\r\n.\r\n")
    assert sent + refused == len(strings(LENGTH)) == 19_531
    assert sent > 1000
    assert ended > 0
    assert (refused > 10_000) is not lenient, "a lenient network's line ends are made CRLF"


@pytest.mark.parametrize(
    "how", [(False, False), (True, False), (True, True)], ids=["stranger", "lenient network", "typed by hand"]
)
def test_cut_anywhere_the_same_goes_on(how: tuple[bool, bool], tmp_path: Path) -> None:
    """The commands behind it too: what a person pipes in with LF is not half of it CRLF."""
    lenient, lf = how
    for between in strings(4):
        wire = FRONT + between + BEHIND
        whole = taken(wire, lenient=lenient, lf=lf, directory=tmp_path)
        for step in (1, 2, 3):
            assert taken(wire, lenient=lenient, lf=lf, directory=tmp_path, step=step) == whole, (between, step)
        assert not whole[0] or len(lax_ends(whole[0])) == 1


class LaxNextHop:
    """Takes every CR, LF and CRLF as a line's end, drops NUL, and keeps the envelope of each message."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bytes]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 lax.test\r\n")
        rest, mail, content, in_content = b"", b"", b"", False
        while octets := await reader.read(1 << 16):
            rest += octets.replace(b"\0", b"")
            while (found := re.search(rb"\r\n|\n|\r(?=[^\n])", rest)) is not None:
                line, rest = rest[: found.start()], rest[found.end() :]
                if in_content:
                    if line == b".":
                        in_content = False
                        self.messages.append((mail, content))
                        writer.write(b"250 Ok\r\n")
                    else:
                        content += line + b"\r\n"
                elif line.upper().startswith(b"DATA"):
                    in_content, content = True, b""
                    writer.write(b"354 Go on\r\n")
                else:
                    mail = line if line.upper().startswith(b"MAIL") else mail
                    writer.write(b"250 Ok\r\n")
        writer.close()


async def test_nothing_is_smuggled_through_sockets(tmp_path: Path) -> None:
    """A sample of the same, and those that are known from the wild, through the whole gateway."""
    known = [
        b"\n.\n",
        b"\n.\r\n",
        b"\r.\r",
        b"\r.\r\n",
        b"\r\n.\n",
        b"\r\n.\r",
        b"\r\n\0.\r\n",
        b"\r\n.\0\r\n",
        b"\n\0.\n",
        b"\r\r\n.\r\r\n",
    ]
    sample = [*known, *random.Random(5321).sample([one for one in strings(5) if b"\r\n.\r\n" not in one], 150)]
    lax = LaxNextHop()
    server = await asyncio.start_server(lax.serve, "127.0.0.1", 0)
    address = "{}:{}".format(*server.sockets[0].getsockname())
    config = Config.model_validate(
        {
            "server": {"name": "mx.example.test"},
            "listener": [{"name": "mx", "lenient_networks": []}],
            "route": [{"domains": ["example.test"], "servers": [address]}],
        }
    )
    accepted = 0
    async with InProcessGateway(config, directory=tmp_path) as gateway:
        for number, between in enumerate(sample):
            client = await connect(gateway.port())
            client.say(b"EHLO x.test\r\nMAIL FROM:<n%d@x.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n" % number)
            client.say(FRONT + between + BEHIND)
            client.say(b"QUIT\r\n")
            codes = [line[:3] async for line in lines(client) if line[3:4] == " "]
            client.close()
            assert codes[-1] == "221"
            assert len(codes) == 7, (between, codes)
            accepted += codes[5] == "250"
        await gateway.quiet()
    server.close()
    assert [mail for mail, _ in lax.messages if b"smuggled" in mail] == []
    assert len(lax.messages) == accepted
    assert 0 < accepted < len(sample)


async def lines(client: Party) -> AsyncIterator[str]:
    while (line := await client.line()) is not None:
        yield line
