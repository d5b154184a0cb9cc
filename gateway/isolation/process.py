"""A plugin's process as its worker sees it: started, asked, answered for its questions; ended when it hangs or talks nonsense; replaced.

What its end costs is told to the calls that were under way, and to the later hooks of transactions that it knew something of.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import itertools
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from gateway.isolation.codec import GarbageError, UnknownValueError, unpack
from gateway.isolation.errands import Errands
from gateway.isolation.errors import IsolationError
from gateway.isolation.facts import LARGE, pack_fact, share
from gateway.isolation.frames import Frames
from gateway.isolation.start import MEMORY_EXIT, THREADS_EXIT, Start, launch
from gateway.message import Message

if TYPE_CHECKING:
    from gateway.context import Context
    from gateway.transaction import Transaction

log = structlog.get_logger("gateway.plugin")

START_LIMIT = 60.0
"""Seconds from the start of a process to its first word, and as many for `startup`."""
SILENCE = 1.0
"""Seconds that a process has to say that it dropped a call whose time was over; then it hangs, and is killed."""
FIRST_REST = 0.1
LONGEST_REST = 30.0
"""Between a death and the next start: twice as long each time, while no call was answered in between."""
CLOSE_LIMIT = 6.0
MAX_CALLS = 1_000
MAX_ASKED = 1_000
"""Questions of one process at once."""
MAX_LINES = 200
"""Log lines and metrics of one process in a second; more are dropped and counted."""
MAX_REMEMBERED = 10_000
"""Transactions of which it is known which process knows them."""


@dataclass(slots=True)
class _Call:
    hook: str
    future: asyncio.Future[Any]
    context: contextvars.Context


@dataclass(slots=True)
class _Life:
    """One process, from its start to its end."""

    number: int
    process: subprocess.Popen[bytes]
    frames: Frames
    up: asyncio.Future[None]
    calls: dict[int, _Call] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    """Calls whose time was over, until it says that it knows."""
    asked: set[asyncio.Task[None]] = field(default_factory=set)
    writes: bool = False
    why: str = ""
    """Why we ended it; ``: it did so itself."""
    second: int = 0
    lines: int = 0
    answered: bool = False


class PluginProcess:
    """The process of one plugin of one generation in one worker, and its successors."""

    def __init__(self, start: Start, context: Context) -> None:
        self.start = start
        self._context = context
        self._errands = Errands(start.name, context)
        self._life: _Life | None = None
        self._lives = itertools.count(1)
        self._numbers = itertools.count(1)
        self._deaths = 0
        """In a row, without an answered call in between."""
        self._rests_until = 0.0
        self._last_end = ""
        self._starts_up = False
        self._closed = False
        self._knows: collections.OrderedDict[str, int] = collections.OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._burial: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Of the process; 0 while there is none."""
        return 0 if self._life is None else self._life.process.pid

    # -- calls -------------------------------------------------------------------------------------------------------

    async def call(
        self, hook: str, facts: dict[str, Any], left: float, *, transaction: Transaction | None = None
    ) -> tuple[Any, ...]:
        """The values a hook answered with. `transaction`: what it is about. IsolationError when they are lost, with why."""
        if hook == "startup":
            self._starts_up, self._closed = True, False
        life = await self._living()
        if hook == "startup":
            return ()  # as part of each start
        if transaction is not None:
            self._check_memory(hook, transaction, life)
        if len(life.calls) >= MAX_CALLS:
            raise IsolationError(f"{MAX_CALLS} calls wait for its process already", fault="circuit")
        return await self._call(life, hook, facts, left)

    async def _call(self, life: _Life, hook: str, facts: dict[str, Any], left: float) -> tuple[Any, ...]:
        message: dict[str, Any] = {"hook": hook, "left": left, "now": self._context.clock()}
        file = None
        try:
            message["facts"] = {name: pack_fact(fact) for name, fact in facts.items()}
            for fact in facts.values():
                if isinstance(fact, Message):
                    message["bounds"] = {name: getattr(fact.bounds, name) for name in fact.bounds.__dataclass_fields__}
                    large = fact.size > LARGE and fact.content.fileno() is None
                    file = await asyncio.to_thread(share, fact.content) if large else share(fact.content)
                    message["file"] = True
        except (UnknownValueError, OSError) as error:
            raise IsolationError(f"its facts cannot be handed over: {error}") from error
        number = message["call"] = next(self._numbers)
        future = asyncio.get_running_loop().create_future()
        life.calls[number] = _Call(hook, future, contextvars.copy_context())
        try:
            self._say(life, message, file)
            found: tuple[Any, ...] = await future
        except asyncio.CancelledError:
            self._drop(life, number)
            raise
        except GarbageError as error:
            life.calls.pop(number, None)
            raise IsolationError(str(error)) from error
        return found

    def _check_memory(self, hook: str, transaction: Transaction, life: _Life) -> None:
        """A plugin may have kept something of this transaction: another process than the first does not know it."""
        known = self._knows.get(transaction.id)
        self._knows[transaction.id] = life.number
        if hook == "done":
            del self._knows[transaction.id]
        elif len(self._knows) > MAX_REMEMBERED:
            self._knows.popitem(last=False)
        if known is not None and known != life.number:
            raise IsolationError(f"its process ended ({self._last_end}): what it knew of this message is lost")

    def _drop(self, life: _Life, number: int) -> None:
        """Nobody waits for this call any more. A process that does not even say that it knows is ended."""
        if life.calls.pop(number, None) is None or life is not self._life:
            return
        with contextlib.suppress(GarbageError):
            self._say(life, {"cancel": number})
        life.dropped.add(number)
        asyncio.get_running_loop().call_later(SILENCE, self._end_if_silent, life, number)

    def _end_if_silent(self, life: _Life, number: int) -> None:
        if number in life.dropped:
            self._kill(life, "it hung past its time")

    # -- the process -------------------------------------------------------------------------------------------------

    async def _living(self) -> _Life:
        """A process that is up; started when there is none and it may."""
        if self._life is None and self._burial is not None and not self._burial.done():
            await asyncio.shield(self._burial)
        life = self._life
        if life is None:
            if self._closed:
                raise IsolationError("its process was ended with its generation")
            rest = self._rests_until - time.monotonic()
            if rest > 0:
                raise IsolationError(
                    f"not run: its process ended {self._deaths} times in a row ({self._last_end})", fault="circuit"
                )
            life = self._begin()
        if not life.up.done() or life.up.exception() is not None:
            await asyncio.shield(life.up)
        return life

    def _begin(self) -> _Life:
        loop = asyncio.get_running_loop()
        try:
            process, end = launch(self.start.surroundings["base_directory"])
        except OSError as error:
            self._died(f"it could not be started: {error}")
            raise IsolationError(self._last_end) from error
        life = self._life = _Life(next(self._lives), process, Frames(end), loop.create_future())
        life.up.add_done_callback(lambda up: up.cancelled() or up.exception())  # told in the log too
        loop.add_reader(end, self._read, life)
        self._say(life, {"start": self.start.facts()})
        timer = loop.call_later(START_LIMIT, self._kill, life, f"it did not begin within {START_LIMIT:g} s")
        life.up.add_done_callback(lambda _: timer.cancel())
        return life

    def _say(self, life: _Life, message: dict[str, Any], file: int | None = None) -> None:
        life.frames.queue(message, file)
        self._write(life)

    def _write(self, life: _Life) -> None:
        try:
            life.frames.send()
        except OSError:
            return  # the reader sees the end
        if life.frames.waits != life.writes:
            life.writes = life.frames.waits
            loop = asyncio.get_running_loop()
            if life.writes:
                loop.add_writer(life.frames.end, self._write, life)
            else:
                loop.remove_writer(life.frames.end)

    def _read(self, life: _Life) -> None:
        try:
            for message in life.frames.receive():
                if life is self._life:
                    self._heard(life, message)
        except Exception as error:  # noqa: BLE001 - protects the worker from whatever the other end may say
            self._kill(life, f"garbage on its channel: {type(error).__name__}: {str(error)[:200]}")
            return
        if life.frames.is_over and life is self._life:
            self._over(life)

    def _heard(self, life: _Life, message: dict[str, Any]) -> None:
        if "done" in message:
            call = life.calls.pop(int(message["done"]), None)
            life.dropped.discard(int(message["done"]))
            if call is not None and not call.future.done():
                self._answered(life, call, message)
        elif "cancelled" in message:
            life.dropped.discard(int(message["cancelled"]))
        elif "ask" in message:
            self._asked(life, message)
        elif "hello" in message:
            self._hello(life, message["hello"])
        elif self._may_say_more(life):
            self._errands.note(message)

    def _answered(self, life: _Life, call: _Call, message: dict[str, Any]) -> None:
        fault, evidence = str(message["fault"]), str(message["evidence"])[:2000]
        if fault == "memory":
            call.future.set_exception(IsolationError(self._memory_limit))
            self._kill(life, self._memory_limit)  # what is left of it is not to be trusted
        elif fault == "timeout":
            call.future.set_exception(IsolationError(evidence, fault="timeout"))
        elif fault:
            call.future.set_exception(IsolationError(evidence, fault=fault if fault in {"error", "circuit"} else "error"))
        else:
            values = unpack(message["values"])
            if not isinstance(values, tuple):
                raise GarbageError("an answer that is no list")
            life.answered, self._deaths = True, 0
            call.future.set_result(values)

    @property
    def _memory_limit(self) -> str:
        return f"memory limit ({self.start.memory // 1_000_000} MB)"

    def _hello(self, life: _Life, hello: dict[str, Any]) -> None:
        if hello["problems"]:
            self._kill(life, f"it cannot begin: {str(hello['problems'][0]['found'])[:500]}")
        elif self._starts_up and "startup" in hello["hooks"]:
            self._spawn(self._start_up(life))
        else:
            self._is_up(life)

    async def _start_up(self, life: _Life) -> None:
        try:
            async with asyncio.timeout(START_LIMIT):
                await self._call(life, "startup", {}, START_LIMIT)
        except (IsolationError, TimeoutError) as error:
            self._kill(life, f"startup: {str(error) or 'no end'}")
        else:
            self._is_up(life)

    def _is_up(self, life: _Life) -> None:
        if not life.up.done():
            life.up.set_result(None)
            if life.number > 1:
                log.info("plugin.process_started", plugin=self.start.name, pid=life.process.pid, after=self._last_end)

    def _kill(self, life: _Life, why: str) -> None:
        if life is not self._life:
            return
        life.why = why
        with contextlib.suppress(OSError):
            life.process.kill()
        self._over(life)

    def _over(self, life: _Life) -> None:
        """Its channel is closed, or it was killed: what is left is to learn how it ended."""
        self._life = None
        loop = asyncio.get_running_loop()
        loop.remove_reader(life.frames.end)
        if life.writes:
            loop.remove_writer(life.frames.end)
        life.frames.close()
        for task in life.asked:
            task.cancel()
        self._burial = loop.create_task(self._bury(life), name=f"end of the process of {self.start.name}")

    async def _bury(self, life: _Life) -> None:
        """Learn how it ended, and tell those whose calls are lost."""
        how = life.why
        try:
            status = await asyncio.to_thread(life.process.wait, 0.5 if not how else 5.0)
            how = how or self._how(status)
        except subprocess.TimeoutExpired:
            how = how or "it closed its channel"
            with contextlib.suppress(OSError):
                life.process.kill()
            await asyncio.to_thread(life.process.wait)
        self._died(how)
        error = IsolationError(f"its process ended: {how}")
        if not life.up.done():
            life.up.set_exception(error)
        for call in life.calls.values():
            if not call.future.done():
                call.future.set_exception(error)
        life.calls.clear()
        if not self._closed:
            log.warning("plugin.process_ended", plugin=self.start.name, pid=life.process.pid, how=how, in_a_row=self._deaths)
            if life.answered:
                self._spawn(self._again())

    async def _again(self) -> None:
        """The next one at once, so that the next call does not wait for it."""
        await asyncio.sleep(max(0.0, self._rests_until - time.monotonic()))
        if self._life is None and not self._closed:
            with contextlib.suppress(IsolationError):
                await self._living()

    def _how(self, status: int) -> str:
        if status < 0:
            return f"by signal {-status} ({signal.Signals(-status).name})"
        if status == MEMORY_EXIT:
            return self._memory_limit
        if status == THREADS_EXIT:
            return "hung threads"
        return f"with status {status}"

    def _died(self, how: str) -> None:
        self._last_end = how
        self._deaths += 1
        rest = min(LONGEST_REST, FIRST_REST * 2 ** min(self._deaths - 1, 12)) if self._deaths > 1 else 0.0
        self._rests_until = time.monotonic() + rest

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End it: its generation has ended."""
        self._closed = True
        self._knows.clear()
        life = self._life
        if life is not None:
            self._kill(life, "its generation ended")
        for task in tuple(self._tasks):
            task.cancel()
        left = [*self._tasks, *([self._burial] if self._burial is not None else [])]
        if left:
            await asyncio.wait(left, timeout=CLOSE_LIMIT)

    # -- what it asks for --------------------------------------------------------------------------------------------

    def _may_say_more(self, life: _Life) -> bool:
        second = int(time.monotonic())
        if second != life.second:
            if life.lines > MAX_LINES:
                log.warning("plugin.lines_dropped", plugin=self.start.name, lines=life.lines - MAX_LINES)
            life.second, life.lines = second, 0
        life.lines += 1
        return life.lines <= MAX_LINES

    def _asked(self, life: _Life, message: dict[str, Any]) -> None:
        if len(life.asked) >= MAX_ASKED:
            raise GarbageError(f"more than {MAX_ASKED} questions at once")
        call = life.calls.get(int(message["call"]))
        context = call.context if call is not None else contextvars.copy_context()  # DNS is charged to the transaction
        arguments = unpack(message["args"])
        task = asyncio.get_running_loop().create_task(
            self._answer(life, int(message["ask"]), str(message["what"]), arguments), context=context
        )
        life.asked.add(task)
        task.add_done_callback(life.asked.discard)

    async def _answer(self, life: _Life, number: int, what: str, arguments: tuple[Any, ...]) -> None:
        answer = await self._errands.answer(what, arguments)
        if life is self._life:
            try:
                self._say(life, {"answer": number, **answer})
            except GarbageError as error:  # too large
                self._say(life, {"answer": number, **self._errands.refusal(str(error))})
