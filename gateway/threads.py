"""Threads for `def` hooks: bounded, daemonic, and able to lose one.

A hook that hangs in its thread cannot be ended from outside. Its thread is counted as lost, another takes its place, and
at the bound the circuit of that plugin opens: it is not run again until a thread comes back. So one plugin can take no
more than `limits.threads` threads for good, none of them from another plugin. Daemonic, because a process must be able to
end with threads still hung (those of `concurrent.futures` are joined at exit).
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import itertools
import threading
import types
from collections.abc import Callable
from typing import Any

from gateway.answers import MAX_ANSWERS


class Circuit:
    """What one plugin has lost in threads, and whether it may be run."""

    __slots__ = ("bound", "lost")

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.lost = 0
        """Threads that hang in this plugin now."""

    @property
    def is_open(self) -> bool:
        """True when the plugin has lost as many threads as it may."""
        return self.lost >= self.bound


class Job:
    """One call in a thread."""

    __slots__ = ("_call", "_context", "_loop", "abandoned", "circuit", "future", "running")

    def __init__(self, call: Callable[[], Any], circuit: Circuit) -> None:
        self._call = call
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self._loop.create_future()
        self.circuit = circuit
        self.running = False
        self.abandoned = False

    def run(self) -> None:
        """In the thread: call, and tell the loop."""
        try:
            answer = self._context.run(self._call)
            if isinstance(answer, types.GeneratorType):  # its code belongs into the thread too
                answer = list(itertools.islice(answer, MAX_ANSWERS + 1))
            outcome: tuple[Any, BaseException | None] = (answer, None)
        except BaseException as error:  # noqa: BLE001 - a plugin's SystemExit must not end a thread of ours
            outcome = (None, error)
        try:
            self._loop.call_soon_threadsafe(self._tell, *outcome)
        except RuntimeError:  # the loop is closed: nobody waits for it
            return

    def _tell(self, answer: Any, error: BaseException | None) -> None:
        if self.future.done():  # a late answer is dropped
            return
        if error is None:
            self.future.set_result(answer)
        elif isinstance(error, StopIteration) or not isinstance(error, Exception):  # a future refuses or misreads these
            self.future.set_exception(RuntimeError(f"the hook raised {error!r}"))
        else:
            self.future.set_exception(error)


class Threads:
    """At most `bound` threads at work beside the lost ones; they start when needed and stay."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self._lock = threading.Condition()
        self._queue: collections.deque[Job] = collections.deque()
        self._idle = 0
        self._alive = 0
        self._lost = 0
        self._closed = False

    @property
    def lost(self) -> int:
        """Threads that hang in a hook now."""
        return self._lost

    def submit(self, call: Callable[[], Any], circuit: Circuit) -> Job:
        """Queue a call; its `future` belongs to the running loop."""
        job = Job(call, circuit)
        with self._lock:
            self._queue.append(job)
            self._start_if_needed()
            self._lock.notify()
        return job

    def abandon(self, job: Job) -> None:
        """Nobody waits for this call any more: take it from the queue, or count its thread as lost."""
        with self._lock:
            job.abandoned = True
            if job.running:
                job.circuit.lost += 1
                self._lost += 1
                self._start_if_needed()
            elif job in self._queue:
                self._queue.remove(job)

    def close(self) -> None:
        """Threads end when their call does. Does not wait."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    def _start_if_needed(self) -> None:
        if len(self._queue) > self._idle and self._alive - self._lost < self.bound and not self._closed:
            self._alive += 1
            threading.Thread(target=self._work, name="mailgateway-hook", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if self._alive - self._lost > self.bound:  # it was lost, and its place was taken
                    self._alive -= 1
                    return
                self._idle += 1
                while not self._queue and not self._closed:
                    self._lock.wait()
                self._idle -= 1
                if not self._queue:  # closed
                    self._alive -= 1
                    return
                job = self._queue.popleft()
                job.running = True
            job.run()
            with self._lock:
                job.running = False
                if job.abandoned:
                    job.circuit.lost -= 1
                    self._lost -= 1
