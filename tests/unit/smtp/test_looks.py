"""Sessions that are looked at in groups: each once, in its time, whatever becomes of the others; and those that need no task have none."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.smtp import looks
from gateway.smtp.looks import Looks
from gateway.testing.in_process import InProcessGateway
from gateway.testing.wire import connect
from tests.unit.smtp.test_server_endings import config


class Looked:
    """A session that notes when it was looked at."""

    def __init__(self, *, fails: bool = False) -> None:
        self.at: list[float] = []
        self._fails = fails

    def look(self) -> None:
        self.at.append(asyncio.get_running_loop().time())
        if self._fails:
            raise RuntimeError("a defect")


async def test_each_is_looked_at_once_between_least_and_most() -> None:
    loop = asyncio.get_running_loop()
    watch = Looks(0.02, 0.06)
    joined = []
    for _ in range(4):
        session = Looked()
        joined.append((session, loop.time()))
        watch.join(session, loop.time())
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    assert all(len(session.at) == 1 and session.at[0] >= began + 0.019 for session, began in joined)


async def test_who_has_left_is_not_looked_at() -> None:
    watch = Looks(0.0, 0.02)
    stays, leaves = Looked(), Looked()
    now = asyncio.get_running_loop().time()
    watch.join(stays, now)
    watch.join(leaves, now).discard(leaves)
    await asyncio.sleep(0.05)
    assert (len(stays.at), len(leaves.at)) == (1, 0)


async def test_one_that_fails_costs_no_other_its_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "AT_ONCE", 3)
    loop = asyncio.get_running_loop()
    problems: list[object] = []
    loop.set_exception_handler(lambda _, context: problems.append(context["exception"]))
    watch = Looks(0.0, 0.01)
    sessions = [Looked(fails=number % 2 == 0) for number in range(10)]
    for session in sessions:
        watch.join(session, loop.time())
    await asyncio.sleep(0.05)
    assert [len(session.at) for session in sessions] == [1] * 10
    assert len(problems) == 5


async def test_a_client_that_asks_for_nothing_has_no_task(tmp_path: Path) -> None:
    async with InProcessGateway(config(tmp_path), directory=tmp_path) as gateway:
        client = await connect(gateway.port())
        await client.line()
        client.say(b"RSET\r\nNOOP\r\n")
        assert [str(await client.line())[:3] for _ in range(2)] == ["250", "250"]
        assert not any("_converse" in repr(task) for task in asyncio.all_tasks())
        client.say(b"HELP\r\n")  # which is answered by the task
        assert str(await client.line()).startswith("214 ")
        assert any("_converse" in repr(task) for task in asyncio.all_tasks())
        client.close()
        await gateway.quiet()
