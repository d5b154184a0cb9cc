"""Smuggling through sockets: the whole gateway in front of a next hop that is lax on purpose. RFC 5321 2.3.8, 4.1.1.4.

Each proof has its control: the same with a gateway that is made as lax as those of the reports, which must be found out.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway import core
from gateway.config.models import Config
from gateway.relay.protocol import NextHopProtocol
from gateway.smtp.intake import Intake
from gateway.testing.in_process import InProcessGateway
from gateway.testing.next_hop import ScriptedNextHop
from gateway.testing.wire import Party, connect
from tests.fuzz.lax_next_hop import LaxNextHop
from tests.fuzz.test_smuggling import BEHIND, FRONT, strings

interpreted = pytest.mark.skipif(core.STATUS.endswith("modules"), reason="compiled code cannot be replaced by laxer code")

PUBLISHED = [
    # SEC Consult, "SMTP Smuggling – Spoofing E-Mails Worldwide", and its scanner
    b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\r\n\0.\r\n",
    # CVE-2023-51764 (Postfix), CVE-2023-51765 (Sendmail), CVE-2023-51766 (Exim), and checkers made for them
    b"\n\n.\r\n", b"\n\r\n.\n", b"\r\n.\0\r\n", b"\r\n\0.\r", b"\r\n\0.\n", b"\r\n\0.\0\r\n", b"\n\0.\n", b"\r\0.\r", b"\0\r\n\0.\r\n",
    b"\n\r.\r\n", b"\n\r\n.\r\r\n", b"\r\n.\r\0\n", b"\r\0\n.\r\0\n", b"\n.\0\n", b"\r.\0\r\n",
]  # fmt: skip
VERB = b"X-SMUGGLED"
"""Hidden in paths: neither side knows it, so a next hop that hears it was told by an accident."""


@asynccontextmanager
async def between(next_hop: str, directory: Path, *, lenient: bool) -> AsyncIterator[InProcessGateway]:
    config = {
        "server": {"name": "mx.example.test"},
        "listener": [{"name": "mx", "lenient_networks": ["127.0.0.0/8"] if lenient else []}],
        "route": [{"domains": ["example.test"], "servers": [next_hop]}],
        "limits": {"errors": 1000, "spool_memory": "100KB"},
    }
    async with InProcessGateway(Config.model_validate(config), directory=directory) as gateway:
        yield gateway


async def lines(client: Party) -> AsyncIterator[str]:
    while (line := await client.line()) is not None:
        yield line


async def send(gateway: InProcessGateway, pieces: Iterable[bytes], number: int) -> list[str]:
    """A transaction with this content, each piece in a write of its own; codes of all replies, QUIT's too."""
    client = await connect(gateway.port())
    client.say(b"EHLO x.test\r\nMAIL FROM:<n%d@x.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n" % number)
    for piece in pieces:
        client.say(piece)
        await client.drain()
        await asyncio.sleep(0.0005)
    client.say(b"QUIT\r\n")
    try:
        return [line[:3] async for line in lines(client) if line[3:4] == " "]
    finally:
        client.close()


async def attacked(marks: Iterable[bytes], directory: Path, *, lenient: bool, split: bool) -> tuple[LaxNextHop, list[bytes]]:
    """The next hop after all marks were tried, and for each message that the gateway took its mark."""
    taken: list[bytes] = []
    async with LaxNextHop() as lax, between(lax.address, directory, lenient=lenient) as gateway:
        for number, mark in enumerate(marks):
            wire = FRONT + mark + BEHIND
            front = len(FRONT)
            cuts = range(front, front + len(mark) + 1) if split else [front]
            for at in cuts:
                codes = await send(gateway, [wire[:at], wire[at:]] if split else [wire], number)
                assert codes[-1] == "221"
                assert len(codes) == 7, (mark, codes)
                taken += [mark] if codes[5] == "250" else []
        await gateway.quiet()
    return lax, taken


@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
@pytest.mark.parametrize("lenient", [False, True], ids=["stranger", "lenient network"])
async def test_no_published_mark_smuggles(lenient: bool, split: bool, tmp_path: Path) -> None:
    assert len(set(PUBLISHED)) == len(PUBLISHED) >= 25
    assert not any(b"\r\n.\r\n" in mark for mark in PUBLISHED)
    lax, taken = await attacked(PUBLISHED, tmp_path, lenient=lenient, split=split)
    assert lax.smuggled == []
    assert len(lax.messages) == len(taken)
    if lenient:  # line ends are made CRLF; what a NUL disguises is refused
        assert {mark for mark in PUBLISHED if b"\0" not in mark} <= set(taken)
    else:  # one alone: its dot is taken away as the client's own stuffing, and a line of NUL is left
        assert set(taken) == {b"\r\n.\0\r\n"}


async def test_no_other_mark_smuggles(tmp_path: Path) -> None:
    """A sample of all strings; tests/fuzz/test_smuggling.py has every one of them, without sockets."""
    sample = random.Random(5321).sample([one for one in strings(6) if b"\r\n.\r\n" not in one], 150)
    lax, taken = await attacked(sample, tmp_path, lenient=False, split=False)
    assert lax.smuggled == []
    assert len(lax.messages) == len(taken)
    assert 0 < len(taken) < len(sample)


@interpreted
async def test_a_lax_gateway_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: line ends are not looked at, NUL neither."""
    strict = Intake.take

    def lax_take(self: Intake, octets: bytes) -> None:
        self._stream.has_bare = False
        strict(self, octets)
        self.has_nul = False

    monkeypatch.setattr(Intake, "take", lax_take)
    lax, taken = await attacked(PUBLISHED, tmp_path, lenient=False, split=False)
    assert taken == PUBLISHED
    assert len(lax.smuggled) > 15, "the others begin with CRLF and a dot, which is taken away as stuffing"


# ---- paths --------------------------------------------------------------------------------------------------------------

_BREAKS = [
    b"\r",
    b"\n",
    b"\0",
    b"\r\0",
    b"\x0b",
    b"\x0c",
    b"\x1c",
    b"\x85",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\xe2\x80\xa9",
    b"+0D+0A",
    b"\\\r",
    b"\\\n",
]


def hidden() -> list[bytes]:
    """Commands with another one behind something that somebody may take for a line's end, in every place where there is text."""
    found = []
    for octets in _BREAKS:
        inside = b"a" + octets + VERB + octets + b"b"
        found += [
            b"EHLO " + inside,
            b'MAIL FROM:<"' + inside + b'"@x.test>',
            b'MAIL FROM:<"' + inside + b'"@x.test> SMTPUTF8',
            b"MAIL FROM:<a@x.test> ENVID=" + inside,
            b"MAIL FROM:<@" + inside + b":a@x.test>",
            b'RCPT TO:<"' + inside + b'"@example.test>',
            b"RCPT TO:<" + inside + b"@example.test>",
            b"RCPT TO:<bob@example.test> ORCPT=rfc822;" + inside,
            b"RCPT TO:<@" + inside + b":bob@example.test>",
            b"NOOP " + inside,
        ]
    return found


async def tell(gateway: InProcessGateway, command: bytes) -> None:
    """The command where its verb may come, and a transaction behind it."""
    before = [b"EHLO x.test", b"MAIL FROM:<j\xc3\xb6@x.test> SMTPUTF8"] if command.startswith(b"RCPT") else [b"EHLO x.test"]
    client = await connect(gateway.port())
    for line in (*before, command, b"RSET", b"MAIL FROM:<a@x.test>", b"RCPT TO:<bob@example.test>", b"QUIT"):
        client.say(line + b"\r\n")
    assert [line async for line in lines(client)][-1].startswith("221")
    client.close()


@pytest.mark.parametrize("lenient", [False, True], ids=["stranger", "lenient network"])
async def test_no_command_hides_in_a_path(lenient: bool, tmp_path: Path) -> None:
    async with LaxNextHop() as lax, between(lax.address, tmp_path, lenient=lenient) as gateway:
        for command in hidden():
            await tell(gateway, command)
        await gateway.quiet()
    assert [line for line in lax.commands if line.upper().startswith(VERB)] == []
    assert {line.partition(b" ")[0] for line in lax.commands} <= {b"EHLO", b"MAIL", b"RCPT", b"RSET", b"QUIT", b"NOOP"}
    assert sum(line.startswith(b"RCPT TO:<bob@example.test>") for line in lax.commands) >= len(hidden())
    assert any(b"ORCPT=rfc822;a+0D+0A" in line for line in lax.commands), "encoded, it goes on as it came"


@interpreted
async def test_a_gateway_that_hands_on_control_characters_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a grammar whose quoted strings hold any octet, and a relay that does not look again."""
    lax_path = re.compile(rb'<(?P<route>)(?P<local>"[^"]*"|[a-z]+)@(?P<domain>[a-z.]+)>', re.DOTALL)
    monkeypatch.setattr("gateway.smtp.grammar._PATH", lax_path)

    def queue(self: NextHopProtocol[Any], line: bytes, token: Any, *, last: bool = False) -> None:
        self.queued.append((line + b"\r\n", token, last))

    def say(self: NextHopProtocol[Any], line: bytes, token: Any, last: bool) -> bytes:
        queue(self, line, token, last=last)
        return self.octets_to_send()

    monkeypatch.setattr(NextHopProtocol, "command", queue)
    monkeypatch.setattr(NextHopProtocol, "at_once", say)
    async with LaxNextHop() as lax, between(lax.address, tmp_path, lenient=False) as gateway:
        for command in hidden():
            await tell(gateway, command)
        await gateway.quiet()
    assert [line for line in lax.commands if line.upper().startswith(VERB)]


# ---- boundaries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0, 1, 2])
async def test_dots_everywhere_go_through_unchanged(shift: int, tmp_path: Path) -> None:
    """Lines of one dot, so that whatever is cut on either side is cut in one of them, in memory and on the disk."""
    for count in (30_000, 300_000):
        content = FRONT + b"x" * shift + b"\r\n" + b".\r\n" * count
        async with ScriptedNextHop() as hop, between(hop.address, tmp_path, lenient=False) as gateway:
            wire = content.replace(b"\r\n.", b"\r\n..") + b".\r\n"
            codes = await send(gateway, [wire], shift)
            assert codes[5] == "250"
        (taken,) = hop.transactions
        assert taken.content.endswith(content)
        assert taken.content.count(b"\r\n.\r\n" + b".\r\n" * (count - 1)) == 1
