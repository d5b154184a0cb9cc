"""A look of `LoopLag` tells by how much it was late and how much of that the loop was held, and is followed by another until it is stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from gateway.server.lag import EVERY, EVERY_BUSY, LoopLag, Spent, ThreadTimes

Look = tuple[float, float, float]
"""When it comes; what the thread has run and waited so far."""


class Timers:
    """In the place of a loop: a timer is kept until it is called by hand."""

    def __init__(self) -> None:
        self.kept: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        self.kept.append((delay, callback))
        return asyncio.TimerHandle(0.0, callback, (), asyncio.get_running_loop())


class Times(ThreadTimes):
    """What a thread has spent, out of a list."""

    def __init__(self, looks: tuple[Look, ...], *, knows_waiting: bool) -> None:
        self._file = 0 if knows_waiting else -1
        self._spent = iter(looks)

    def __call__(self) -> Spent:
        _, ran, waited = next(self._spent)
        return Spent(ran, waited)


async def looked_at(*looks: Look, knows_waiting: bool = True) -> tuple[list[tuple[float, float]], list[float]]:
    """What is noted by these looks, of which the first is the start, and the intervals."""
    clock = iter([when for when, _, _ in looks])
    timers = Timers()
    noted: list[tuple[float, float]] = []
    lag = LoopLag(
        timers,  # type: ignore[arg-type]  # one of a loop's methods is enough
        lambda late, held: noted.append((round(late, 6), round(held, 6))),
        clock=lambda: next(clock),
        times=Times(looks, knows_waiting=knows_waiting),
    )
    lag.start()
    for number in range(len(looks) - 1):
        timers.kept[number][1]()
    return noted, [delay for delay, _ in timers.kept]


async def test_a_look_tells_by_how_much_it_was_late() -> None:
    noted, intervals = await looked_at((10.0, 0, 0), (10.05, 0.001, 0), (10.12, 0.002, 0), (10.17, 0.003, 0))
    assert noted == [(0.0, 0.0), (0.02, 0.02), (0.0, 0.0)]
    assert intervals == [EVERY] * 4


async def test_who_waits_for_a_core_is_late_and_not_held() -> None:
    noted, _ = await looked_at((10.0, 0, 1.0), (10.09, 0.001, 1.03), (10.15, 0.05, 1.2))
    assert noted == [(0.04, 0.01), (0.055, 0.0)]


async def test_a_busy_loop_is_looked_at_more_often() -> None:
    _, intervals = await looked_at((10.0, 0, 0), (10.05, 0.003, 0), (10.056, 0.003, 0.001), (10.062, 0.003, 0.001))
    assert intervals == [EVERY, EVERY_BUSY, EVERY_BUSY, EVERY]


async def test_where_waiting_is_not_known_a_hold_is_what_the_thread_ran() -> None:
    noted, _ = await looked_at((10.0, 0, 0), (10.1, 0.02, 0), (10.165, 0.12, 0), knows_waiting=False)
    assert noted == [(0.05, 0.02), (0.06, 0.06)]


async def test_a_look_that_comes_early_is_not_late() -> None:
    assert await looked_at((10.0, 0, 0), (10.049, 0, 0)) == ([(0.0, 0.0)], [EVERY, EVERY])


async def test_a_held_loop_is_seen_and_nothing_after_the_stop() -> None:
    loop = asyncio.get_running_loop()
    times = iter([0.0, EVERY + 0.3, 1.0])
    seen: asyncio.Future[float] = loop.create_future()
    lag = LoopLag(loop, lambda late, _: seen.set_result(late), clock=lambda: next(times))
    lag.start()
    assert round(await seen, 6) == 0.3
    lag.stop()
    lag.stop()
    assert lag._next is None


@pytest.mark.parametrize("is_linux", [True, False])
def test_a_thread_that_runs_is_seen_to_run(*, is_linux: bool) -> None:
    times = ThreadTimes()
    if not is_linux:
        times.close()
    assert times.knows_waiting is is_linux
    before = times()
    end = time.thread_time() + 0.02
    while time.thread_time() < end:
        pass
    time.sleep(0)
    after = times()
    times.close()
    assert after.ran > before.ran
    assert after.waited >= before.waited
