"""Run one hook: arguments, thread or loop, deadline, isolation, answer.

A hook's coroutine is driven in the task of its transaction, without a task of its own: one that never waits costs a call.
At the deadline it is cancelled as `asyncio.timeout` would; if it goes on waiting even then (cleaning up, or ignoring
the cancellation), what is left of it is carried on apart for a short grace, and the transaction goes on at once.
"""

from __future__ import annotations

import asyncio
import time
import types
from collections.abc import Coroutine, Generator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from gateway.answers import WrongAnswerError, read_answer
from gateway.isolation.errors import IsolationError
from gateway.quiet import Begun
from gateway.steps import Kind, Step
from gateway.threads import Threads

GRACE = 5.0
"""Seconds that a cancelled hook may still clean up in the background."""
MAX_ABANDONED = 1_000
"""Cancelled hooks that clean up at once; more are closed without it."""


class HookTimeoutError(Exception):
    """The deadline of a hook passed."""


class CircuitOpenError(Exception):
    """The plugin has lost as many threads as it may and is not run."""


@dataclass(slots=True)
class Run:
    """What came of one run of a hook."""

    values: tuple[Any, ...] = ()
    """The answer's values, checked; empty for None and after an error."""
    duration: float = 0.0
    """Seconds."""
    fault: str = ""
    """`error`, `timeout`, `circuit` or ``."""
    evidence: str = ""
    """What went wrong, for the operator."""


class Runner:
    """Runs steps for one generation in one worker."""

    def __init__(self, threads: Threads) -> None:
        self.threads = threads
        self.abandoned: set[asyncio.Task[None]] = set()
        """Cancelled hooks that have not ended yet."""
        self.closed_late = 0
        """Cancelled hooks that were closed without a grace, or did not end in it."""
        self._unclosable: list[object] = []
        """Kept for good: the garbage collector would try to close them once more, and they would spin."""

    async def run(self, step: Step, facts: tuple[Any, ...], deadline: float, begun: Begun | None = None) -> Run:
        """Run a hook until the deadline (loop time), or go on with one that was begun. Whatever the plugin does, a Run comes
        back; CancelledError only when the transaction itself is cancelled.
        """
        started = time.perf_counter() - (0.0 if begun is None else begun.seconds)
        clock = asyncio.get_running_loop().time
        try:
            if begun is not None:
                answer = await self._rest_of(begun, deadline)
            elif clock() >= deadline:
                return _timeout(started)
            else:
                pick = step.pick
                arguments = facts if pick is None else [facts[n] for n in pick]
                if step.is_async:
                    coroutine = step.call(*arguments)
                    try:
                        waiting = coroutine.send(None)
                    except StopIteration as stop:
                        answer = stop.value
                    else:
                        answer = await self._go_on(coroutine, waiting, deadline)
                elif step.kind is Kind.CHEAP:
                    answer = step.call(*arguments)
                else:
                    answer = await self._in_thread(step, arguments, deadline)
            if clock() > deadline and type(answer) is not types.CoroutineType:  # it blocked the loop: a late answer is dropped
                return _timeout(started)
            values = () if answer is None else _values(step, answer)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - protects the transaction from whatever a plugin raises, SystemExit too
            return _fault(step, error, started)
        return Run(values, time.perf_counter() - started)

    async def _rest_of(self, begun: Begun, deadline: float) -> Any:
        """The answer of a hook that was begun in this task."""
        if begun.error is not None:
            raise begun.error
        if begun.coroutine is not None:
            return await self._go_on(begun.coroutine, begun.waiting, deadline)
        return begun.answer

    async def _in_thread(self, step: Step, arguments: Sequence[Any], deadline: float) -> Any:
        if step.circuit.is_open:
            raise CircuitOpenError
        job = self.threads.submit(lambda: step.call(*arguments), step.circuit)
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                return await job.future
        except TimeoutError as error:
            if not limit.expired():
                raise  # the hook's own
            raise HookTimeoutError from error
        finally:
            if job.future.cancelled():
                self.threads.abandon(job)

    @types.coroutine
    def _go_on(self, coroutine: Coroutine[Any, Any, Any], waiting: Any, deadline: float) -> Generator[Any, Any, Any]:
        """Drive a hook's coroutine that waits for something, until the deadline and not longer."""
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        before = task.cancelling()
        alarm = _Alarm(task)
        timer = asyncio.get_running_loop().call_at(deadline, alarm.ring)
        try:
            while True:
                try:
                    yield from _wait_for(waiting)
                except asyncio.CancelledError as error:
                    if alarm.rang:
                        self._cancel(coroutine, error)
                        break
                    waiting = coroutine.throw(error)
                except BaseException as error:  # noqa: BLE001 - GeneratorExit and KeyboardInterrupt belong to the hook too
                    waiting = coroutine.throw(error)
                else:
                    waiting = coroutine.send(None)
        except StopIteration as stop:
            if not alarm.rang:
                if task.cancelling() > before:  # it swallowed a cancellation that was not its own
                    raise asyncio.CancelledError from None
                return stop.value
        finally:
            timer.cancel()
            if alarm.rang:
                task.uncancel()
        if task.cancelling() > before:  # cancelled from outside at the same time
            raise asyncio.CancelledError
        raise HookTimeoutError

    def _cancel(self, coroutine: Coroutine[Any, Any, Any], error: asyncio.CancelledError) -> None:
        """Cancel a hook; if it goes on waiting, carry it on apart for a while."""
        try:
            waiting = coroutine.throw(error)
        except BaseException:  # noqa: BLE001 - it ended, however: its answer is late and dropped
            return
        if len(self.abandoned) >= MAX_ABANDONED:
            self._close(coroutine)
            return
        task = asyncio.get_running_loop().create_task(self._carry_on(coroutine, waiting), name="cancelled hook")
        self.abandoned.add(task)
        task.add_done_callback(self.abandoned.discard)

    def _close(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.closed_late += 1
        try:
            coroutine.close()
        except BaseException:  # noqa: BLE001 - it ignores even GeneratorExit; nothing waits for it
            self._unclosable.append(coroutine)

    async def _carry_on(self, coroutine: Coroutine[Any, Any, Any], waiting: Any) -> None:
        try:
            async with asyncio.timeout(GRACE):
                await _rest(coroutine, waiting)
        except TimeoutError:
            self._close(coroutine)
        except asyncio.CancelledError:
            self._close(coroutine)
            raise
        except BaseException:  # noqa: BLE001 - what a cancelled hook raises in the end concerns nobody
            return


def _values(step: Step, answer: Any) -> tuple[Any, ...]:
    """Those of an answer. WrongAnswerError."""
    if type(answer) is types.CoroutineType:
        answer.close()
        raise WrongAnswerError(f"{step.hook} answered a coroutine: a `def` hook must not return one")
    return read_answer(step.hook, answer)


def _timeout(started: float) -> Run:
    limit = time.perf_counter() - started
    return Run((), limit, "timeout", f"no answer after {limit:.3f} s")


def _fault(step: Step, error: BaseException, started: float) -> Run:
    """What an error comes to. CancelledError is raised again when it is the transaction that is cancelled."""
    match error:
        case HookTimeoutError():
            return _timeout(started)
        case CircuitOpenError():
            return Run((), 0.0, "circuit", f"{step.circuit.lost} threads hang in it; not run")
        case IsolationError():
            return Run((), time.perf_counter() - started, error.fault, str(error))
        case WrongAnswerError():
            return Run((), time.perf_counter() - started, "error", str(error))
        case asyncio.CancelledError() if _is_cancelled():
            raise error
        case _:
            return Run((), time.perf_counter() - started, "error", _describe(error))


class _Alarm:
    """Cancels a task at a hook's deadline, and remembers that it did."""

    __slots__ = ("rang", "task")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.rang = False

    def ring(self) -> None:
        self.rang = True
        self.task.cancel()


@types.coroutine
def _rest(coroutine: Coroutine[Any, Any, Any], waiting: Any) -> Generator[Any, Any, None]:
    """The rest of a coroutine that waits for something already. A cancellation ends it here, whatever it does."""
    try:
        while True:
            yield from _wait_for(waiting)
            waiting = coroutine.send(None)
    except StopIteration:
        return


def _wait_for(waiting: Any) -> Generator[Any, Any, None]:
    """Wait until what a coroutine yielded to the loop is done, whatever its result.

    Through a future of our own, so that a cancellation gets through at once even where the hook awaits a task that
    ignores its own.
    """
    if waiting is None:  # asyncio.sleep(0)
        yield
        return
    if not getattr(waiting, "_asyncio_future_blocking", False):
        raise RuntimeError(f"the hook awaited {type(waiting).__name__}, which asyncio does not know")
    waiting._asyncio_future_blocking = False  # noqa: SLF001 - what asyncio.Task does with a future it is handed
    done = asyncio.get_running_loop().create_future()

    def wake(_: object) -> None:
        if not done.done():
            done.set_result(None)

    waiting.add_done_callback(wake)
    try:
        yield from done
    except asyncio.CancelledError:
        waiting.remove_done_callback(wake)
        waiting.cancel()
        raise


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _describe(error: BaseException) -> str:
    """Kind, text and place of an error, for the operator."""
    where = ""
    frames = error.__traceback__
    while frames is not None:
        where = f" at {frames.tb_frame.f_code.co_filename.rpartition('/')[2]}:{frames.tb_lineno}"
        frames = frames.tb_next
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a plugin's own exception class may fail at this too
        text = ""
    return f"{type(error).__name__}: {text[:500]}{where}"
