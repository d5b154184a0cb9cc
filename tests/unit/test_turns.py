"""How much work is begun in one turn of the loop, and in which order it goes on."""

from __future__ import annotations

import asyncio

import pytest

from gateway import turns
from gateway.turns import LONGEST, TOGETHER, Turns


class Clock:
    now = 1.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(turns, "time", clock)
    return clock


async def test_a_turn_that_has_worked_for_long_is_full_and_the_next_is_not(clock: Clock) -> None:
    ours = Turns()
    assert ours.has_room()
    assert ours.has_room()
    clock.now += 2 * LONGEST
    assert not ours.has_room()
    await asyncio.sleep(0)
    assert ours.has_room()


async def test_who_waits_goes_on_in_the_order_of_arrival_a_few_in_a_turn(clock: Clock) -> None:
    ours = Turns()
    went_on: list[list[int]] = [[]]

    async def work(number: int) -> None:
        if not ours.has_room():
            await ours.room()
        clock.now += 2 * LONGEST
        went_on[-1].append(number)

    tasks = [asyncio.get_running_loop().create_task(work(number)) for number in range(2 * TOGETHER + 2)]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        went_on.append([])
    assert [number for turn in went_on for number in turn] == list(range(2 * TOGETHER + 2))
    assert max(map(len, went_on)) <= TOGETHER
    await asyncio.sleep(0)
    assert ours.has_room()


async def test_who_gives_up_holds_up_nobody(clock: Clock) -> None:
    ours = Turns()
    assert ours.has_room()
    clock.now += 2 * LONGEST
    tasks = [asyncio.get_running_loop().create_task(ours.room()) for _ in range(3 * TOGETHER)]
    await asyncio.sleep(0)
    for task in tasks[:-1]:
        task.cancel()
    await asyncio.wait_for(tasks[-1], 5)
    await asyncio.sleep(0)
    assert ours.has_room()
