"""ETRN's command: what its end means, and that it is bounded."""

from __future__ import annotations

import asyncio
import sys

import pytest

from gateway.config.models import EtrnCommand
from gateway.smtp.queue_start import MAX_AT_ONCE, Outcome, start_queue


def command(*parts: str, timeout: float = 10.0) -> EtrnCommand:
    return EtrnCommand.model_validate({"command": parts, "timeout": timeout})


@pytest.mark.parametrize(
    ("how", "outcome"),
    [
        (command("/bin/sh", "-c", '[ "$0 $1" = "a.test @a.test" ]', "{domain}", "{node}"), Outcome.STARTED),
        (command("/bin/sh", "-c", "exit 77"), Outcome.NOT_ALLOWED),
        (command("/bin/sh", "-c", "exit 3"), Outcome.FAILED),
        (command("/nonexistent/program"), Outcome.FAILED),
        (command("/bin/sleep", "20", timeout=0.1), Outcome.FAILED),
    ],
)
async def test_what_the_end_of_the_command_means(how: EtrnCommand, outcome: Outcome) -> None:
    assert await start_queue(how, node="@a.test", domain="a.test") is outcome


async def test_a_node_at_a_time_and_not_too_many() -> None:
    """RFC 1985 5.3: unable to queue, while as many as there may be are under way."""
    waiting = command(sys.executable, "-c", "import time; time.sleep(20)")
    tasks = [
        asyncio.get_running_loop().create_task(start_queue(waiting, node=f"n{n}", domain=f"N{n}")) for n in range(MAX_AT_ONCE)
    ]
    await asyncio.sleep(0)
    at_once = command("/bin/true")
    assert await start_queue(at_once, node="n0", domain="n0") is Outcome.FAILED
    assert await start_queue(at_once, node="other", domain="other") is Outcome.FAILED
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await start_queue(at_once, node="n0", domain="n0") is Outcome.STARTED


def test_who_takes_the_node_as_it_was_written() -> None:
    assert command("x", "{node}").takes_node
    assert not command("x", "{domain}").takes_node
