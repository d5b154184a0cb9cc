"""Whole sessions of random commands and content: every command gets its reply, however the octets are cut, and nothing breaks."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from structlog.testing import LogCapture

from gateway.config.models import Config
from gateway.testing.in_process import InProcessGateway
from gateway.testing.next_hop import ScriptedNextHop
from gateway.testing.wire import Party, connect

_REPLY = re.compile(r"[2345]\d\d(?:[ -][ -~\t\x80-\U0010ffff]*)?")
COMMANDS = [
    b"EHLO client.test", b"HELO client.test", b"EHLO", b"MAIL FROM:<a@client.test>", b"MAIL FROM:<>", b"MAIL FROM:<a@client.test> SIZE=5",
    b"MAIL FROM:<refused@client.test>", b"MAIL FROM:<a@client.test> X=1", b"MAIL", b"RCPT TO:<bob@example.test>", b"RCPT TO:<carol@example.test>",
    b"RCPT TO:<bob@example.test>", b"RCPT TO:<unknown@example.test>", b"RCPT TO:<later@example.test>", b"RCPT TO:<x@elsewhere.test>",
    b"RCPT TO:<postmaster>", b"RCPT TO:bob", b"RSET", b"NOOP", b"VRFY bob", b"EXPN all", b"HELP", b"STARTTLS", b"AUTH PLAIN", b"BDAT 13 LAST\r\n\nQUIT\r\nRSET", b"BDAT 3\r\nx", b"",
    b"\x00\xff", b"X" * 5000, b"NOOP \xc3\xa9", b"MAIL FROM:<\xff@client.test>", b"DATA now",
]  # fmt: skip
CONTENTS = [
    b"Subject: x\r\n\r\nbody\r\n.\r\n",
    b".\r\n",
    b"..\r\n.\r\n",
    b"bare\nlf\r\n.\r\n",
    b"Subject: refused\r\n\r\n.\r\n",
    b"\x00\xff\r\n.\r\n",
]


@pytest.fixture
def log() -> Iterator[LogCapture]:
    before = structlog.get_config()
    captured = LogCapture()
    structlog.configure(processors=[captured], cache_logger_on_first_use=False)
    yield captured
    structlog.configure(**before)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[tuple[InProcessGateway, ScriptedNextHop]]:
    async with ScriptedNextHop() as hop:
        hop.script("MAIL FROM:<refused@", "550 5.7.1 refused")
        hop.script("RCPT TO:<unknown@", "550 5.1.1 unknown")
        hop.script("RCPT TO:<later@", "450 4.2.0 later")
        config = Config.model_validate(
            {
                "server": {"name": "mx.example.test"},
                "listener": [{"name": "mx", "lenient_networks": []}],
                "route": [{"domains": ["example.test"], "servers": [hop.address]}],
                "limits": {"errors": 1000, "unknown_recipients": 1000},
            }
        )
        async with InProcessGateway(config, directory=tmp_path) as gateway:
            yield gateway, hop


def chunks(dice: random.Random, octets: bytes) -> list[bytes]:
    """BDAT commands with their octets, the last one marked."""
    at = sorted(dice.randrange(len(octets) + 1) for _ in range(dice.randrange(3)))
    pieces = [octets[start:end] for start, end in zip([0, *at], [*at, len(octets)], strict=True)]
    return [b"BDAT %d%s\r\n%s" % (len(one), b" LAST" * (n == len(at)), one) for n, one in enumerate(pieces)]


def session(dice: random.Random) -> list[bytes]:
    """Commands with their CRLF; sometimes a whole transaction. DATA is followed by its content only where it will be asked for."""
    lines = [b"EHLO client.test\r\n"]
    for _ in range(dice.randrange(25)):
        if dice.random() < 0.3:
            known = dice.sample([b"bob", b"carol", b"postmaster", b"unknown", b"later"], dice.randrange(1, 4))
            lines += [b"RSET\r\n", b"MAIL FROM:<a@client.test>\r\n", b"RCPT TO:<bob@example.test>\r\n"]
            lines += [b"RCPT TO:<%s@example.test>\r\n" % name for name in known]
            if dice.random() < 0.5:
                lines += [b"DATA\r\n", dice.choice(CONTENTS)]
            else:
                lines += chunks(dice, dice.choice(CONTENTS)[:-3])
        elif dice.random() < 0.1:
            lines += [b"RSET\r\n", b"MAIL FROM:<a@client.test>\r\n", b"RCPT TO:<unknown@example.test>\r\n", b"DATA\r\n"]
        else:
            lines.append(dice.choice(COMMANDS) + b"\r\n")
    return [*lines, b"QUIT\r\n"]


async def replies(client: Party) -> list[str]:
    """First digits of all to the end; each line must be one of RFC 5321 4.2.

    What is refused behind a refused MAIL may be refused for another reason, when its refusal was not known yet.
    """
    found = []
    while (line := await client.line()) is not None:
        assert _REPLY.fullmatch(line), line
        found.append(line[:1])
    return found


async def told(gateway: InProcessGateway, pieces: list[bytes]) -> list[str]:
    client = await connect(gateway.port())
    for piece in pieces:
        client.say(piece)
        await client.drain()
    try:
        return await replies(client)
    finally:
        client.close()


@pytest.mark.parametrize("seed", range(40))
async def test_replies_do_not_depend_on_how_the_octets_arrive(
    seed: int, site: tuple[InProcessGateway, ScriptedNextHop], log: LogCapture
) -> None:
    gateway, hop = site
    dice = random.Random(seed)
    lines = session(dice)
    whole = b"".join(lines)
    client = await connect(gateway.port())
    one_by_one = [(await client.line() or "")[:1]]
    for line in lines:
        client.say(line)
        while True:
            got = await client.line()
            assert got is not None, f"no reply to {line!r}"
            assert _REPLY.fullmatch(got), got
            one_by_one.append(got[:1])
            if got[3:4] != "-":
                break
    assert await client.line() is None
    client.close()
    delivered = [taken.content.rpartition(b"+0000\r\n")[2] for taken in hop.transactions]
    for pieces in ([whole], [whole[at : at + 7] for at in range(0, len(whole), 7)]):
        hop.transactions.clear()
        assert await told(gateway, pieces) == one_by_one
        assert [taken.content.rpartition(b"+0000\r\n")[2] for taken in hop.transactions] == delivered
    assert not [entry for entry in log.entries if entry["event"] == "session.failed"]


@pytest.mark.parametrize("seed", range(30))
async def test_a_client_that_leaves_anywhere_leaves_nothing_behind(
    seed: int, site: tuple[InProcessGateway, ScriptedNextHop], log: LogCapture
) -> None:
    gateway, hop = site
    dice = random.Random(seed)
    whole = b"".join(session(dice))
    client = await connect(gateway.port())
    client.say(whole[: dice.randrange(len(whole))])
    if dice.random() < 0.5:
        await client.drain()
    client.close()
    assert (await told(gateway, [b"NOOP\r\nQUIT\r\n"]))[1:] == ["2", "2"]
    await gateway.quiet()
    assert not [entry for entry in log.entries if entry["event"] == "session.failed"]
    taken = sum(taken.code == 250 for taken in hop.transactions)
    assert taken == sum("delivered" in {row["fate"] for row in record["recipients"]} for record in gateway.records)
