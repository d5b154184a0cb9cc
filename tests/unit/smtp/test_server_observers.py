"""Observers hear of a transaction when its reply is out: none of them makes a client wait."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.config.models import Config
from gateway.testing.in_process import InProcessGateway
from gateway.testing.wire import connect

PLUGIN = '''
"""Takes its time when all is done."""

import asyncio

from gateway import Plugin, Transaction, Verdict, discard, hook


class SlowObserver(Plugin):
    @hook
    async def mail(self, transaction: Transaction) -> Verdict:
        return discard("nobody wants it")

    @hook
    async def done(self, transaction: Transaction) -> None:
        await asyncio.sleep(1)
'''


async def test_an_observer_delays_no_reply(tmp_path: Path) -> None:
    (tmp_path / "slow_observer.py").write_text(PLUGIN)
    config = Config.model_validate(
        {
            "route": [{"domains": ["example.test"], "servers": ["127.0.0.1:9"]}],
            "plugin_path": [str(tmp_path)],
            "plugins": ["slow_observer"],
        }
    )
    async with InProcessGateway(config, directory=tmp_path) as gateway:
        client = await connect(gateway.port())
        await client.line()
        client.say(b"HELO client.example\r\nMAIL FROM:<>\r\n")
        for _ in range(2):
            assert str(await client.line()).startswith("250 ")
        client.say(b"RSET\r\n")
        async with asyncio.timeout(0.5):
            assert await client.line() == "250 2.0.0 Ok"
        client.say(b"NOOP\r\n")
        assert await client.line() == "250 2.0.0 Ok"
        client.close()
