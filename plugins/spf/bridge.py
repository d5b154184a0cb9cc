"""Run a library that knows no `await` without a thread: it runs in a greenlet, and waits by switching back to the coroutine.

The technique is SQLAlchemy's. What the library waits for is awaited in the task that called `run`, so deadlines and cancellation
work as everywhere else.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, cast

from greenlet import getcurrent, greenlet

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class _Worker(greenlet):
    """A greenlet started by `run`; `wait` works in no other."""


def wait(work: Coroutine[Any, Any, T]) -> T:
    """In a function started by `run`: the result of `work`, awaited by the coroutine outside. RuntimeError elsewhere."""
    current = getcurrent()
    if not isinstance(current, _Worker) or current.parent is None:
        work.close()
        raise RuntimeError("wait() is for functions started by run()")
    return cast("T", current.parent.switch(work))


async def run(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call `function`, which may `wait`, and give its result or its error.

    Cancelled, it throws the cancellation into the function at its `wait`. Should the function swallow it, as a bare `except` does,
    each further `wait` throws it again, and in the end it is raised all the same.
    """
    worker = _Worker(function)
    worker.gr_context = contextvars.copy_context()
    stopped: BaseException | None = None
    step: Any = worker.switch(*args, **kwargs)
    while not worker.dead:
        if stopped is not None:
            step.close()
            step = worker.throw(stopped)
            continue
        try:
            value = await step
        except BaseException as error:  # noqa: BLE001 - everything belongs to the function that waits
            if not isinstance(error, Exception):
                stopped = error
            step = worker.throw(error)
        else:
            step = worker.switch(value)
    if stopped is not None:
        raise stopped
    return cast("R", step)
