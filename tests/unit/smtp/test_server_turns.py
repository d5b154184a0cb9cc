"""One client's flood of commands does not keep the others waiting."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.config.models import Config
from gateway.testing.in_process import InProcessGateway
from gateway.testing.wire import Party, connect


async def test_others_get_their_turn_between_pipelined_commands(tmp_path: Path) -> None:
    config = Config.model_validate({"route": [{"domains": ["example.test"], "servers": ["127.0.0.1:9"]}]})
    number = 30_000
    async with InProcessGateway(config, directory=tmp_path) as gateway:
        client = await connect(gateway.port())
        await client.line()
        turns = 0
        flood = asyncio.get_running_loop().create_task(_replies(client, number))
        client.say(b"NOOP\r\n" * number)
        while not flood.done():
            turns += 1
            await asyncio.sleep(0)
        assert flood.result() == number
        client.close()
    assert turns > number / 100


async def _replies(client: Party, number: int) -> int:
    return sum([await client.line() == "250 2.0.0 Ok" for _ in range(number)])
