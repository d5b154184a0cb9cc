"""Hooks that answer at once and have no opinion: run in a row, without a coroutine or a row of the trace for each.

Most hooks say nothing about most messages. What such a run costs is the call itself, a look at the clock, and two sums for the
metrics; the first hook that says something, fails, or waits is handed on as it was begun.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gateway.steps import Step

LONGEST: Final = 0.0005
"""Seconds: a hook that took longer gets a row of its own, though it had no opinion. The first bound of its histogram."""


class QuietRuns:
    """How often one hook of one plugin had no opinion at once, and how long that took: read and emptied for the metrics."""

    __slots__ = ("calls", "seconds")

    def __init__(self) -> None:
        self.calls = 0
        self.seconds = 0.0

    def take(self) -> tuple[int, float]:
        """Both since the last time."""
        taken = self.calls, self.seconds
        self.calls, self.seconds = 0, 0.0
        return taken


@dataclass(slots=True, kw_only=True)
class Begun:
    """A hook that was begun: it answered, it failed, or it waits for something."""

    seconds: float
    """That it took so far."""
    answer: Any = None
    error: BaseException | None = None
    coroutine: Coroutine[Any, Any, Any] | None = None
    """It waits, for `waiting`."""
    waiting: Any = None


class _Row:
    """Where a row of hooks is: its coroutine writes it down, whoever drives it reads it."""

    __slots__ = ("began", "limit", "number")

    def __init__(self, number: int, limit: float) -> None:
        self.number = number
        self.limit = limit
        """Seconds within which a hook must have answered for the row to go on; below zero: the row ends with this hook."""
        self.began = 0.0


_NOT_BEGUN: Final = object()


def run_quiet(steps: Sequence[Step], at: int, upto: int, facts: tuple[Any, ...], stop: float) -> tuple[int, Begun | None]:
    """Run the hooks from `at` on that answer None at once; the number of the first other one, and what it began, if it did.

    `stop`: the reading of `time.perf_counter` after which none is begun. Whatever a hook raises is in what it began. One that
    waits is to be gone on with in the same task.
    """
    row = _Row(at, LONGEST)
    coroutine = _run_row(row, steps, at, upto, facts, stop)
    try:
        waiting = coroutine.send(None)
    except StopIteration as ended:
        if ended.value is _NOT_BEGUN:
            return row.number, None
        return row.number, Begun(seconds=time.perf_counter() - row.began, answer=ended.value)
    except BaseException as error:  # noqa: BLE001 - raised again where every fault of a hook is dealt with
        return row.number, Begun(seconds=time.perf_counter() - row.began, error=error)
    row.limit = -1.0
    return row.number, Begun(seconds=time.perf_counter() - row.began, coroutine=coroutine, waiting=waiting)


async def _run_row(  # noqa: PLR0917 - called in one place
    row: _Row, steps: Sequence[Step], at: int, upto: int, facts: tuple[Any, ...], stop: float
) -> Any:
    """The answer of the first hook that is not quiet; its coroutine is awaited here, which costs less than to drive it."""
    clock = time.perf_counter
    picked: dict[tuple[int, ...] | None, tuple[Any, ...]] = {None: facts}
    row.began = began = clock()
    for number in range(at, upto):
        step = steps[number]
        row.number = number
        if not step.is_quick or began >= stop:
            return _NOT_BEGUN
        pick = step.pick
        if pick in picked:
            arguments = picked[pick]
        else:
            assert pick is not None
            arguments = picked[pick] = tuple([facts[n] for n in pick])
        answer = await step.call(*arguments) if step.is_async else step.call(*arguments)
        now = clock()
        took = now - began
        if answer is not None or took > row.limit:
            return answer
        quiet = step.quiet
        quiet.calls += 1
        quiet.seconds += took
        row.began = began = now
    row.number = upto
    return _NOT_BEGUN
