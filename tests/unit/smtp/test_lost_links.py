"""A link that is lost while the envelope is said: the client is told 451, and the record says it once."""

from __future__ import annotations

from pathlib import Path

from gateway.config.models import Config
from gateway.testing.in_process import InProcessGateway
from gateway.testing.next_hop import DROP, ScriptedNextHop
from gateway.testing.wire import connect


async def test_a_link_lost_at_rcpt_is_one_step_of_the_trace(tmp_path: Path) -> None:
    async with ScriptedNextHop() as hop:
        hop.script("RCPT TO:<lost@", DROP)
        config = Config.model_validate({"route": [{"domains": ["example.test"], "servers": [hop.address]}]})
        async with InProcessGateway(config, directory=tmp_path) as gateway:
            client = await connect(gateway.port())
            await client.line()
            client.say(b"HELO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<lost@example.test>\r\n")
            told = [str(await client.line())[:3] for _ in range(3)]
            client.say(b"QUIT\r\n")
            await client.line()
            client.close()
            await gateway.quiet()
            assert told == ["250", "250", "451"]
            [record] = gateway.records
            assert [step["stage"] for step in record["steps"] if step["outcome"] == "error"] == ["relay"]
            assert [row["fate"] for row in record["recipients"]] == ["deferred"]
