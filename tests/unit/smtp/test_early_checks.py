"""Checks that need no content are under way while it comes: gateway.checking at the wire."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.config.models import Config
from gateway.testing.in_process import InProcessGateway
from gateway.testing.next_hop import ScriptedNextHop
from gateway.testing.wire import Party, connect

PLUGIN = '''
"""Writes down when its check begins and how it ends; waits where it is told to."""

import asyncio
from pathlib import Path

from gateway import Label, Plugin, Transaction, hook

FILE = Path(__file__).with_name("seen")


class Early(Plugin):
    @hook
    async def check(self, transaction: Transaction) -> Label:
        with FILE.open("a") as seen:
            seen.write(f"begun for {len(transaction.recipients)}\\n")
        try:
            await asyncio.sleep(30 if transaction.reverse_path.mailbox.startswith("slow") else 0)
        except asyncio.CancelledError:
            with FILE.open("a") as seen:
                seen.write("cancelled\\n")
            raise
        return Label(name="early")
'''


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    (tmp_path / "early.py").write_text(PLUGIN)
    (tmp_path / "seen").touch()
    return tmp_path / "seen"


def noted(seen: Path) -> str:
    return seen.read_text()


async def begin(gateway: InProcessGateway, sender: str) -> Party:
    client = await connect(gateway.port())
    await client.line()
    client.say(b"EHLO client.example\r\n")
    while str(await client.line())[3:4] == "-":
        pass
    client.say(b"MAIL FROM:<%s@source.test>\r\n" % sender.encode())
    assert str(await client.line()).startswith("250 ")
    client.say(b"RCPT TO:<a@example.test>\r\n")
    assert str(await client.line()).startswith("250 ")
    return client


def settings(tmp_path: Path, server: str) -> Config:
    return Config.model_validate(
        {
            "route": [{"domains": ["example.test"], "servers": [server]}],
            "plugin_path": [str(tmp_path)],
            "plugins": ["early"],
            "limits": {"message_size": 1_000},
        }
    )


@pytest.mark.parametrize(
    ("opening", "content"),
    [
        (b"DATA\r\n", b"Subject: x\r\n\r\nx\r\n.\r\n"),
        (b"BDAT 6\r\nSubjec", b"BDAT 9 LAST\r\nt: x\r\n\r\nx"),
    ],
)
async def test_it_begins_with_the_content(tmp_path: Path, seen: Path, opening: bytes, content: bytes) -> None:
    async with (
        ScriptedNextHop() as next_hop,
        InProcessGateway(settings(tmp_path, next_hop.address), directory=tmp_path) as gateway,
    ):
        client = await begin(gateway, "quick")
        assert noted(seen) == ""
        client.say(opening)
        await client.line()
        assert noted(seen) == "begun for 1\n"
        client.say(content)
        assert str(await client.line()).startswith("250 ")
        assert noted(seen) == "begun for 1\n"
        client.close()
        (record,) = gateway.records
        assert [step["findings"][0]["name"] for step in record["steps"] if step["plugin"] == "early"] == ["early"]


@pytest.mark.parametrize("leaving", ["close", "too large"])
async def test_it_ends_with_its_transaction(tmp_path: Path, seen: Path, leaving: str) -> None:
    async with (
        ScriptedNextHop() as next_hop,
        InProcessGateway(settings(tmp_path, next_hop.address), directory=tmp_path) as gateway,
    ):
        client = await begin(gateway, "slow")
        client.say(b"DATA\r\n")
        assert str(await client.line()).startswith("354 ")
        if leaving == "close":
            client.close()
        else:
            client.say(b"x" * 990 + b"\r\n" + b"y" * 990 + b"\r\n.\r\n")
            assert str(await client.line()).startswith("552 ")
        for _ in range(200):
            await asyncio.sleep(0.01)
            if "cancelled" in noted(seen):
                break
        assert noted(seen) == "begun for 1\ncancelled\n"
        client.close()
