"""Records that are owed: nobody waits for them, and each tells what was so when its transaction ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.config.models import Config
from gateway.smtp.books import DELAY, MOST, Books
from gateway.smtp.record import Ending
from gateway.testing import a_transaction
from gateway.testing.in_process import InProcessGateway
from gateway.testing.next_hop import ScriptedNextHop
from gateway.testing.wire import Party, connect

MESSAGE = b"MAIL FROM:<%s@example.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n"
CONTENT = b"Subject: x\r\n\r\n.\r\n"


def gateway(hop: ScriptedNextHop, directory: Path) -> InProcessGateway:
    config = Config.model_validate({"route": [{"domains": ["example.test"], "servers": [hop.address]}]})
    return InProcessGateway(config, directory=directory)


async def hello(gateway: InProcessGateway, name: bytes = b"one.example") -> Party:
    client = await connect(gateway.port())
    await client.line()
    client.say(b"HELO " + name + b"\r\n")
    await client.line()
    return client


async def message(client: Party, sender: bytes) -> None:
    client.say(MESSAGE % sender)
    assert [str(await client.line())[:3] for _ in range(3)] == ["250", "250", "354"]
    client.say(CONTENT)
    assert str(await client.line()).startswith("250 ")


def senders(gateway: InProcessGateway) -> list[str]:
    """Of the records that are made, without asking for those owed."""
    return [record["reverse_path"].strip("<>").partition("@")[0] for record in gateway.journal.records]


async def test_a_record_is_made_soon_without_being_asked_for(tmp_path: Path) -> None:
    async with ScriptedNextHop() as hop, gateway(hop, tmp_path) as under_test:
        client = await hello(under_test)
        await message(client, b"a")
        async with asyncio.timeout(5):
            while senders(under_test) != ["a"]:  # noqa: ASYNC110 - the journal of a test tells nobody
                await asyncio.sleep(DELAY)
        client.close()


async def test_it_tells_what_was_so_then(tmp_path: Path) -> None:
    async with ScriptedNextHop() as hop, gateway(hop, tmp_path) as under_test:
        client = await hello(under_test)
        client.say(MESSAGE % b"a")
        for _ in range(3):
            await client.line()
        client.say(CONTENT + b"HELO two.example\r\n")
        assert [str(await client.line())[:3] for _ in range(2)] == ["250", "250"]
        [record] = under_test.records
        assert (record["helo"], record["verdict"], record["subject"]) == ("one.example", "delivered", "x")
        client.close()


async def test_recipients_refused_in_the_next_transaction_are_not_its_own(tmp_path: Path) -> None:
    async with ScriptedNextHop() as hop, gateway(hop, tmp_path) as under_test:
        client = await hello(under_test)
        client.say(MESSAGE % b"a")
        for _ in range(3):
            await client.line()
        client.say(CONTENT + b"MAIL FROM:<b@example.test>\r\nRCPT TO:<b@elsewhere.test>\r\nQUIT\r\n")
        assert [str(await client.line())[:3] for _ in range(4)] == ["250", "250", "550", "221"]
        first, second = under_test.records
        assert [row["forward_path"] for row in first["recipients"]] == ["<b@example.test>"]
        assert [row["forward_path"] for row in second["recipients"]] == ["<b@elsewhere.test>"]
        client.close()


async def test_what_is_recorded_at_once_stands_behind_what_is_owed(tmp_path: Path) -> None:
    async with ScriptedNextHop() as hop, gateway(hop, tmp_path) as under_test:
        client = await hello(under_test)
        await message(client, b"a")
        client.say(b"MAIL FROM:<b@example.test>\r\nRSET\r\n")
        assert [str(await client.line())[:3] for _ in range(2)] == ["250", "250"]
        assert senders(under_test) == ["a", "b"]
        client.close()


async def test_no_more_are_owed_than_are_made_in_a_moment(tmp_path: Path) -> None:
    timers = []

    class Loop:
        def call_later(self, seconds: float, call: Callable[[], None]) -> None:
            timers.append((seconds, call))

    loop: Any = Loop()
    async with ScriptedNextHop() as hop, gateway(hop, tmp_path) as under_test:
        site, books = under_test.door().site, Books()
        for number in range(MOST):
            assert len(under_test.journal.records) == 0
            books.owe(site, a_transaction(reverse_path=f"{number}@example.test"), Ending(), [], loop)
        assert senders(under_test) == [str(number) for number in range(MOST)]
        books.owe(site, a_transaction(reverse_path="later@example.test"), Ending(), [], loop)
        [(seconds, call)] = timers  # one is enough
        assert seconds == DELAY
        call()
        assert senders(under_test)[MOST:] == ["later"]


async def test_what_is_owed_at_the_end_is_written(tmp_path: Path) -> None:
    async with ScriptedNextHop() as hop:
        async with gateway(hop, tmp_path) as under_test:
            client = await hello(under_test)
            await message(client, b"a")
            client.close()
        assert senders(under_test) == ["a"]
