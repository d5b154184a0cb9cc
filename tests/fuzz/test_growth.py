"""Thousands of small messages through one gateway: when they are through, nothing of them is left."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from pathlib import Path

import pytest

from gateway.config.models import Config
from gateway.testing.in_process import InProcessGateway
from gateway.testing.next_hop import ScriptedNextHop
from tests.fuzzing import TIMES

MESSAGES = 3_000 * min(TIMES, 7)  # what is left shows after a few thousand: more tells nothing new
IN_SESSION = 20
CLIENTS = 8
SLACK = 60
"""Objects of one kind that may be more than before: caches that fill, links that were opened."""

_OPEN = b"EHLO client.test\r\n"
_GOOD = b"MAIL FROM:<a@client.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n"
_CONTENT = b"Subject: x\r\nFrom: a@client.test\r\n\r\nbody\r\n.\r\n"
_BAD = b"MAIL FROM:<a@client.test>\r\nRCPT TO:<x@elsewhere.test>\r\nRSET\r\n"


async def session(port: int, *, leaves: bool) -> None:
    """Some messages one after the other, a refused transaction between them; at the end QUIT, or nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_OPEN)
    for _ in range(IN_SESSION):
        writer.write(_BAD + _GOOD)
        while not (await reader.readline()).startswith(b"354"):
            pass
        writer.write(_CONTENT)
        assert (await reader.readline()).startswith(b"250")
    if leaves:
        writer.write(_GOOD + b"Subject: half")
    else:
        writer.write(b"QUIT\r\n")
        await reader.read()
    writer.close()


async def settled(gateway: InProcessGateway, hop: ScriptedNextHop) -> Counter[str]:
    """Living objects by kind, when nothing is under way."""
    await gateway.quiet()
    await asyncio.sleep(0.1)
    gateway.records.clear()
    hop.transactions.clear()
    hop.begun.clear()
    hop.commands.clear()
    hop.reads.clear()
    gc.collect()
    return Counter(type(one).__qualname__ for one in gc.get_objects())


@pytest.mark.slow
async def test_nothing_is_left_of_thousands_of_messages(tmp_path: Path) -> None:
    gc.collect()
    others = Counter(type(one).__qualname__ for one in gc.get_objects())  # what earlier tests of this process left
    async with ScriptedNextHop() as hop:
        config = Config.model_validate(
            {
                "server": {"name": "mx.example.test"},
                "listener": [{"name": "mx"}],
                "route": [{"domains": ["example.test"], "servers": [hop.address]}],
                "limits": {"errors": 10_000, "unknown_recipients": 10_000},
            }
        )
        async with InProcessGateway(config, directory=tmp_path) as gateway:

            async def some(messages: int) -> None:
                sessions = iter(range(messages // IN_SESSION))

                async def client() -> None:
                    for number in sessions:
                        await session(gateway.port(), leaves=number % 5 == 4)

                await asyncio.gather(*(client() for _ in range(CLIENTS)))

            await some(400)
            before, tasks = await settled(gateway, hop), len(asyncio.all_tasks())
            await some(MESSAGES)
            taken = len(hop.transactions)
            after = await settled(gateway, hop)
            assert taken == MESSAGES
            more = {kind: count - before[kind] for kind, count in after.items() if count - before[kind] > SLACK}
            assert not more
            for kind in ("Server", "Conversation", "Session", "Transaction", "Handover", "Message", "Content", "Engine", "Trace"):
                assert after[kind] - others[kind] <= CLIENTS, kind
            assert len(asyncio.all_tasks()) <= tasks + CLIENTS
