"""`gateway.Lookup`: remembers, shares, bounds, and leaves alone what fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway import Lookup, LookupFailedError
from gateway.testing import Clock


class _Asked:
    """A look-up whose answers and failures the test sets."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.keys: list[str] = []
        self.answer: Any = True
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = self.most = 0
        self.lookup: Lookup[str, Any] = Lookup(
            self._ask, clock=self.clock, keep=lambda value: 100.0 if value else 10.0, **settings
        )

    async def _ask(self, key: str) -> Any:
        self.keys.append(key)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_an_answer_is_remembered_for_as_long_as_it_says() -> None:
    asked = _Asked()
    assert [await asked.lookup("a"), await asked.lookup("a")] == [True, True]
    asked.clock.move(99.9)
    await asked.lookup("a")
    assert asked.keys == ["a"]
    asked.clock.move(0.2)
    asked.answer = False
    assert await asked.lookup("a") is False
    asked.clock.move(10.1)
    await asked.lookup("a")
    assert asked.keys == ["a"] * 3


async def test_what_is_forgotten_is_asked_anew() -> None:
    asked = _Asked()
    await asked.lookup("a")
    asked.lookup.forget("a")
    asked.lookup.forget("never asked")
    await asked.lookup("a")
    assert asked.keys == ["a", "a"]


async def test_the_answer_unused_for_longest_goes_first() -> None:
    asked = _Asked(size=2)
    for key in "abacab":
        await asked.lookup(key)
    assert asked.keys == ["a", "b", "c", "b"]


async def test_those_who_ask_the_same_share_one_look_up_and_one_that_leaves_does_not_end_it() -> None:
    asked = _Asked()
    asked.gate.clear()
    first, second = (asyncio.get_running_loop().create_task(asked.lookup("a")) for _ in range(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    asked.gate.set()
    assert await second is True
    assert asked.keys == ["a"]
    assert first.cancelled()


async def test_only_so_many_run_and_wait() -> None:
    asked = _Asked(at_once=2, waiting=3)
    asked.gate.clear()
    tasks = [asyncio.get_running_loop().create_task(asked.lookup(str(n))) for n in range(6)]
    with pytest.raises(LookupFailedError, match="5 look-ups run or wait already"):
        await tasks[5]
    asked.gate.set()
    assert await asyncio.gather(*tasks[:5]) == [True] * 5
    assert asked.most == 2


async def test_time_is_limited() -> None:
    asked = _Asked(limit=0.01)
    asked.gate.clear()
    with pytest.raises(LookupFailedError, match=r"no answer within 0.01 s"):
        await asked.lookup("a")


async def test_an_old_answer_serves_while_there_is_no_new_one() -> None:
    asked = _Asked(stale=50)
    await asked.lookup("a")
    asked.answer = ConnectionError("gone\r\nsecond line")
    asked.clock.move(149)
    assert await asked.lookup("a") is True
    asked.clock.move(2)
    with pytest.raises(LookupFailedError, match=r"^ConnectionError: gone$"):
        await asked.lookup("a")


async def test_what_a_server_says_is_shown_on_one_line_and_bounded() -> None:
    asked = _Asked()
    asked.answer = ValueError("\x1b[31m" + "x" * 1_000)
    with pytest.raises(LookupFailedError) as failed:
        await asked.lookup("a")
    assert str(failed.value).isprintable()
    assert len(str(failed.value)) < 400


async def test_after_failures_in_a_row_it_is_left_alone_for_a_while() -> None:
    asked = _Asked(failures=2, pause=30)
    asked.answer = OSError("refused")
    for key in "abc":
        with pytest.raises(LookupFailedError, match="refused"):
            await asked.lookup(key)
    assert asked.keys == ["a", "b"]
    asked.clock.move(31)
    asked.answer = True
    assert await asked.lookup("c") is True
    asked.answer = OSError("refused")
    with pytest.raises(LookupFailedError):
        await asked.lookup("d")
    asked.answer = True
    assert await asked.lookup("e") is True  # one failure after a success is no row


async def test_close_ends_what_runs() -> None:
    asked = _Asked()
    asked.gate.clear()
    waiting = asyncio.get_running_loop().create_task(asked.lookup("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asked.lookup.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert asked.running == 0
