"""With one link to the next hop: a message that is being checked, or is still coming in, does not keep another one waiting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.config.models import Config
from gateway.relay import lending
from gateway.relay.handover import LENT
from gateway.testing.in_process import InProcessGateway
from gateway.testing.next_hop import KEYWORDS, ScriptedNextHop
from gateway.testing.wire import Party, connect

PLUGIN = '''
"""Waits for a file where the sender is slow."""

import asyncio
from pathlib import Path

from gateway import Plugin, Transaction, hook


class Waits(Plugin):
    @hook
    async def check(self, transaction: Transaction) -> None:
        while b"slow" in transaction.reverse_path.octets and not Path(__file__).with_name("go").exists():
            await asyncio.sleep(0.01)
'''
CONTENT = b"Subject: x\r\n\r\nx\r\n"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "AFTER", 0.01)


async def begun(gateway: InProcessGateway, sender: bytes, then: bytes) -> Party:
    """A client whose envelope was accepted, and that has said `then`."""
    client = await connect(gateway.port())
    await client.line()
    client.say(b"HELO c.example\r\nMAIL FROM:<" + sender + b"@a.example>\r\nRCPT TO:<b@example.test>\r\n")
    for _ in range(3):
        assert str(await client.line())[:3] == "250"
    client.say(then)
    return client


@pytest.mark.parametrize("how", ["DATA, checked", "BDAT, checked", "DATA, coming in", "BDAT, coming in"])
async def test_a_message_that_waits_lends_its_link(how: str, tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text(PLUGIN)
    chunk = b"BDAT %d\r\n%b" % (len(CONTENT), CONTENT)
    then, rest = {
        "DATA, checked": (b"DATA\r\n", CONTENT + b".\r\n"),
        "DATA, coming in": (b"DATA\r\n", CONTENT),
        "BDAT, checked": (chunk, b"BDAT 0 LAST\r\n"),
        "BDAT, coming in": (chunk, b""),
    }[how]
    async with ScriptedNextHop(keywords=(*KEYWORDS, "CHUNKING")) as hop:
        config = Config.model_validate(
            {
                "route": [{"domains": ["example.test"], "servers": [hop.address]}],
                "relay": {"max_links": 1},
                "plugin_path": [str(tmp_path)],
                "plugins": ["waits"],
            }
        )
        async with InProcessGateway(config, directory=tmp_path) as gateway:
            slow = await begun(gateway, b"slow", then)
            assert str(await slow.line())[:3] in {"354", "250"}
            slow.say(rest)
            other = await begun(gateway, b"quick", b"DATA\r\n")
            assert str(await other.line()).startswith("354")
            other.say(CONTENT + b".\r\n")
            assert await other.line() == "250 2.0.0 Ok: queued as SCRIPTED"
            assert [taken.reverse_path for taken in hop.transactions] == [b"<quick@a.example>"]
            (tmp_path / "go").touch()
            if how.endswith("coming in"):
                slow.say(b".\r\n" if how.startswith("DATA") else b"BDAT 0 LAST\r\n")
            assert await slow.line() == "250 2.0.0 Ok: queued as SCRIPTED"
            assert [taken.reverse_path for taken in hop.transactions] == [b"<quick@a.example>", b"<slow@a.example>"]
            assert hop.connections == 1
            slow.close()
            other.close()
        quick, lent = gateway.records
        assert LENT not in json.dumps(quick)
        assert LENT in json.dumps(lent)
