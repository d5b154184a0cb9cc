"""BODY=BINARYMIME from the client to the next hop and through the quarantine. RFC 3030 3.

No packaged server has BINARYMIME: the next hop is the scripted one of `gateway.testing`, a stand-in.
"""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config.models import Config
from gateway.quarantine import Query
from gateway.quarantine.release import ReleaseReport, release
from gateway.relay.identity import ClientFacts
from gateway.relay.pool import Relay
from gateway.testing.in_process import InProcessGateway
from gateway.testing.next_hop import KEYWORDS, ScriptedNextHop
from gateway.testing.wire import connect

STAND_IN = (*KEYWORDS, "CHUNKING", "BINARYMIME")
PLUGIN = '''
"""Marks what it sees, and holds what says so."""

from gateway import AddHeader, Message, Plugin, Verdict, add_header, hook, quarantine, remove_header
from gateway import Edit


class Marks(Plugin):
    @hook
    async def judge(self, message: Message) -> Verdict | None:
        return quarantine("asked-for") if message.subject == "hold" else None

    @hook
    async def rewrite(self, message: Message) -> list[Edit]:
        return [add_header("X-Seen", "yes"), remove_header("X-Gone")]
'''
BODY = bytes(range(256)) * 40 + b"\r\n.\r\n\n.\n\r.\r\0.\0\r\n\r\nBDAT 3 LAST\r\n" + b"\0" * 3000 + b"\r"


@contextlib.asynccontextmanager
async def gateway(hop: ScriptedNextHop, directory: Path, **limits: int) -> AsyncIterator[InProcessGateway]:
    (directory / "site").mkdir()
    (directory / "site" / "marks.py").write_text(textwrap.dedent(PLUGIN))
    config = {
        "server": {"name": "mx.example.test"},
        "plugins": ["marks"],
        "plugin_path": [str(directory / "site")],
        "listener": [{"name": "mx"}],
        "route": [{"name": "r", "domains": ["example.test"], "servers": [hop.address]}],
        "limits": limits,
    }
    async with InProcessGateway(Config.model_validate(config), directory=directory) as started:
        yield started


async def said(port: int, content: bytes) -> str:
    """The reply to the last of three chunks."""
    client = await connect(port)
    client.say(b"EHLO client.test\r\nMAIL FROM:<a@client.test> BODY=BINARYMIME SIZE=%d\r\n" % len(content))
    client.say(b"RCPT TO:<bob@example.test>\r\n")
    third = len(content) // 3
    chunks = [content[:third], content[third : 2 * third], content[2 * third :]]
    client.say(b"".join(b"BDAT %d%s\r\n%s" % (len(one), b" LAST" * (n == 2), one) for n, one in enumerate(chunks)))
    client.say(b"QUIT\r\n")
    replies = []
    while (line := await client.line()) is not None:
        replies.append(line)
    client.close()
    assert replies[-1].startswith("221"), replies
    return replies[-2]


@pytest.mark.parametrize("spool_memory", [1_000_000, 1000], ids=["in memory", "in a file"])
async def test_octets_are_those_of_the_client_below_the_fields_on_top(tmp_path: Path, spool_memory: int) -> None:
    head = b"Subject: binary\r\nX-Odd: bare\rCR\r\nX-Gone: 1\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    async with ScriptedNextHop(keywords=STAND_IN) as hop, gateway(hop, tmp_path, spool_memory=spool_memory) as started:
        assert await said(started.port(), head + BODY) == "250 2.0.0 Ok: queued as SCRIPTED"
        (taken,) = hop.transactions
        assert b"BODY=BINARYMIME" in taken.parameters
        assert taken.chunks == [len(taken.content)]
        assert b"DATA" not in hop.commands
        top, mark, rest = taken.content.partition(b"X-Seen: yes\r\n")
        assert top.startswith(b"Received: ")
        assert mark
        assert rest == head.replace(b"X-Gone: 1\r\n", b"") + BODY


async def test_what_has_no_header_stays_body(tmp_path: Path) -> None:
    async with ScriptedNextHop(keywords=STAND_IN) as hop, gateway(hop, tmp_path) as started:
        assert (await said(started.port(), BODY)).startswith("250")
        assert hop.transactions[0].content.endswith(b"X-Seen: yes\r\n\r\n" + BODY)


async def released(started: InProcessGateway, *servers: str) -> ReleaseReport:
    """The one held message, released to these servers."""
    (entry,) = await started.quarantine.search(Query(state="held"))
    route = started.config.route[0].model_validate({"name": "r", "domains": ["example.test"], "servers": servers})
    relay = Relay([route], started.config.relay, server_name="mx.example.test")
    try:
        client = ClientFacts(address="127.0.0.1")
        return await release(
            started.quarantine, entry.id, lambda name, _: relay.handover(name, client), server_name="mx.example.test"
        )
    finally:
        await relay.close()


async def test_held_and_released_it_goes_in_chunks_or_not_at_all(tmp_path: Path) -> None:
    content = b"Subject: hold\r\n\r\n" + BODY
    lesser = tuple(keyword for keyword in STAND_IN if keyword != "BINARYMIME")
    async with (
        ScriptedNextHop(keywords=STAND_IN) as hop,
        ScriptedNextHop(keywords=lesser) as other,
        gateway(hop, tmp_path) as started,
    ):
        assert (await said(started.port(), content)).startswith("250 2.0.0 Ok (")
        report = await released(started, other.address)
        assert not report.released
        assert "does not offer BINARYMIME" in str(report.attempts[0].reply)
        assert other.transactions == []
        assert not any(command.startswith((b"MAIL", b"DATA", b"BDAT")) for command in other.commands)
        assert (await released(started, hop.address)).released, "it was held as before"
        (taken,) = hop.transactions
        assert taken.parameters[0] == b"BODY=BINARYMIME"
        assert taken.chunks == [len(taken.content)]
        assert taken.content.endswith(b"X-Seen: yes\r\n" + content)
