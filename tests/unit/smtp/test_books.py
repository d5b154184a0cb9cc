"""Records that are owed: nobody waits for them, and each tells what was so when its transaction ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.config.models import Config
from gateway.smtp.books import CLOSE, DELAY, MOST, Books
from gateway.smtp.record import Ending
from gateway.testing import a_transaction
from gateway.testing.in_process import InProcessGateway
from gateway.testing.next_hop import ScriptedNextHop
from gateway.testing.wire import Party, connect

MESSAGE = b"MAIL FROM:<%s@example.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n"
CONTENT = b"Subject: x\r\n\r\n.\r\n"


OBSERVER = '''
"""Is told of what has ended."""

from gateway import Outcome, Plugin, Transaction, hook


class Observes(Plugin):
    @hook
    async def done(self, transaction: Transaction, outcome: Outcome) -> None:
        return None
'''


def gateway(hop: ScriptedNextHop, directory: Path, *plugins: str) -> InProcessGateway:
    config = Config.model_validate(
        {
            "route": [{"domains": ["example.test"], "servers": [hop.address]}],
            "plugin_path": [str(directory)],
            "plugins": list(plugins),
        }
    )
    return InProcessGateway(config, directory=directory)


async def hello(gateway: InProcessGateway, name: bytes = b"one.example") -> Party:
    client = await connect(gateway.port())
    await client.line()
    client.say(b"HELO " + name + b"\r\n")
    await client.line()
    return client


async def envelope(client: Party, sender: bytes) -> None:
    """Up to the 354."""
    client.say(MESSAGE % sender)
    assert [str(await client.line())[:3] for _ in range(3)] == ["250", "250", "354"]


async def message(client: Party, sender: bytes) -> None:
    await envelope(client, sender)
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
        await envelope(client, b"a")
        client.say(CONTENT + b"HELO two.example\r\n")
        assert [str(await client.line())[:3] for _ in range(2)] == ["250", "250"]
        [record] = under_test.records
        assert (record["helo"], record["verdict"], record["subject"]) == ("one.example", "delivered", "x")
        client.close()


async def test_recipients_refused_in_the_next_transaction_are_not_its_own(tmp_path: Path) -> None:
    async with ScriptedNextHop() as hop, gateway(hop, tmp_path) as under_test:
        client = await hello(under_test)
        await envelope(client, b"a")
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


async def test_a_record_is_made_before_observers_are_told(tmp_path: Path) -> None:
    (tmp_path / "observes.py").write_text(OBSERVER)
    async with ScriptedNextHop() as hop, gateway(hop, tmp_path, "observes") as under_test:
        client = await hello(under_test)
        for _ in range(3):  # the second and third would be owed for some milliseconds
            await message(client, b"a")
        client.close()
        await under_test.quiet()
    assert ["done" in {step["stage"] for step in record["steps"]} for record in under_test.records] == [False] * 3


async def test_when_records_are_made(tmp_path: Path) -> None:
    class Loop:
        def __init__(self) -> None:
            self.calls: list[tuple[float, Callable[[], None]]] = []

        def call_later(self, seconds: float, call: Callable[[], None]) -> None:
            self.calls.append((seconds, call))

        def call_soon(self, call: Callable[[], None]) -> None:
            self.calls.append((0.0, call))

        def turn(self) -> float:
            [(seconds, call)] = self.calls  # one is enough
            self.calls.clear()
            call()
            return seconds

    loop: Any = Loop()
    now = 1_000.0
    async with ScriptedNextHop() as hop, gateway(hop, tmp_path) as under_test:
        site, books = under_test.door().site, Books()
        site.clock = lambda: now

        def owe(name: object) -> None:
            books.owe(site, a_transaction(reverse_path=f"{name}@example.test"), Ending(), [], loop)

        owe("first")
        assert loop.turn() == 0.0
        now += CLOSE * 2
        owe("far")
        assert loop.turn() == 0.0
        now += CLOSE / 2
        owe("close")
        owe("closer")
        assert senders(under_test) == ["first", "far"]
        assert loop.turn() == DELAY
        assert senders(under_test) == ["first", "far", "close", "closer"]
        under_test.journal.records.clear()
        for number in range(MOST):
            assert senders(under_test) == []
            owe(number)
        assert senders(under_test) == [str(number) for number in range(MOST)]


async def test_what_is_owed_at_the_end_is_written(tmp_path: Path) -> None:
    async with ScriptedNextHop() as hop:
        async with gateway(hop, tmp_path) as under_test:
            client = await hello(under_test)
            await message(client, b"a")
            client.close()
        assert senders(under_test) == ["a"]
