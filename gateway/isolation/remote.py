"""The worker, as a plugin in a process of its own sees it: each function of its context is a question over the channel."""

from __future__ import annotations

import asyncio
import contextvars
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar

from gateway.context import DnsAnswer
from gateway.errors import DnsError, PluginError, StorageError
from gateway.files.openers import Openers
from gateway.files.opening import open_files
from gateway.files.values import FileBounds, Opened
from gateway.isolation.codec import pack, unpack
from gateway.isolation.frames import Frames
from gateway.message import Message

P = ParamSpec("P")
R = TypeVar("R")

CALL: contextvars.ContextVar[int] = contextvars.ContextVar("call", default=0)
"""Of a hook, whose transaction what it asks for is charged to."""


class Bridge:
    """The worker, as the plugin's context sees it."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._loop = asyncio.get_running_loop()
        self._writes = False
        self.clock = (time.time(), time.monotonic())

    def say(self, message: dict[str, Any]) -> None:
        """To the worker, from the loop's own thread."""
        self.frames.queue(message)
        self._send()

    def _send(self) -> None:
        try:
            self.frames.send()
        except OSError:
            os._exit(0)  # the worker is gone
        if self.frames.waits != self._writes:
            self._writes = self.frames.waits
            if self._writes:
                self._loop.add_writer(self.frames.end, self._send)
            else:
                self._loop.remove_writer(self.frames.end)

    def tell(self, message: dict[str, Any]) -> None:
        """To the worker, from any thread."""
        self._loop.call_soon_threadsafe(self.say, message)

    async def ask(self, what: str, *arguments: Any) -> Any:
        """A question about what the worker has. DnsError, StorageError, PluginError."""
        self._number += 1
        number, future = self._number, self._loop.create_future()
        self._asked[number] = future
        try:
            self.say({"ask": number, "call": CALL.get(), "what": what, "args": [pack(one) for one in arguments]})
            return await future
        finally:
            del self._asked[number]

    def answered(self, message: dict[str, Any]) -> None:
        """The worker's answer."""
        future = self._asked.get(message["answer"])
        if future is None or future.done():
            return
        fault = message.get("fault")
        if fault is None:
            future.set_result(unpack(message["value"]))
        elif fault["kind"] == "dns":
            future.set_exception(DnsError(fault["name"], fault["type"], fault["what"], cause=fault["cause"]))
        elif fault["kind"] == "storage":
            future.set_exception(StorageError(fault["what"], full=fault["full"]))
        else:
            future.set_exception(PluginError(fault["plugin"], fault["what"]))


class RemoteResolver:
    """`context.resolver`."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    async def query(self, name: str, kind: str) -> DnsAnswer:
        """Asked by the worker, within the transaction's budget. DnsError."""
        found: DnsAnswer = await self._bridge.ask("resolver.query", name, kind)
        return found


class RemoteStore:
    """`context.store`."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    async def get(self, key: str) -> bytes | None:
        """Value, or None when absent or expired."""
        found: bytes | None = await self._bridge.ask("store.get", key)
        return found

    async def put(self, key: str, value: bytes, *, ttl: float) -> None:
        """Set for `ttl` seconds."""
        await self._bridge.ask("store.put", key, value, ttl)

    async def put_if_absent(self, key: str, value: bytes, *, ttl: float) -> bool:
        """Set unless there; True when this call set it."""
        return bool(await self._bridge.ask("store.put_if_absent", key, value, ttl))

    async def incr(self, key: str, amount: int = 1, *, ttl: float) -> int:
        """Add to a counter; the new value."""
        return int(await self._bridge.ask("store.incr", key, amount, ttl))

    async def take(self, key: str, amount: float = 1, *, rate: float, burst: float) -> float:
        """Take from a token bucket; what is left, below 0 what was missing."""
        return float(await self._bridge.ask("store.take", key, amount, rate, burst))

    async def delete(self, key: str) -> None:
        """Forget."""
        await self._bridge.ask("store.delete", key)


class RemoteLog:
    """`context.log`."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def debug(self, event: str, **facts: object) -> None:
        """A line of this level."""
        self._line("debug", event, facts)

    def info(self, event: str, **facts: object) -> None:
        """A line of this level."""
        self._line("info", event, facts)

    def warning(self, event: str, **facts: object) -> None:
        """A line of this level."""
        self._line("warning", event, facts)

    def error(self, event: str, **facts: object) -> None:
        """A line of this level."""
        self._line("error", event, facts)

    def _line(self, level: str, event: str, facts: dict[str, object]) -> None:
        plain = {
            name: one if isinstance(one, int | float | bool) or one is None else str(one)[:2000] for name, one in facts.items()
        }
        self._bridge.tell({"log": level, "event": str(event)[:500], "facts": plain})


class RemoteMetrics:
    """`context.metrics`."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        self._bridge.tell({"metric": "count", "name": name, "amount": amount, "labels": labels})

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add to a histogram of seconds."""
        self._bridge.tell({"metric": "observe", "name": name, "amount": seconds, "labels": labels})


class RemoteContext:
    """`self.context` of the plugin."""

    def __init__(self, bridge: Bridge, surroundings: dict[str, Any]) -> None:
        self._bridge = bridge
        self.resolver = RemoteResolver(bridge)
        self.store = RemoteStore(bridge)
        self.log = RemoteLog(bridge)
        self.metrics = RemoteMetrics(bridge)
        self.server_name: str = surroundings["server_name"]
        self.authserv_id: str = surroundings["authserv_id"]
        self.limits: dict[str, int] = surroundings["limits"]
        self.base_directory: str = surroundings["base_directory"]
        self.state_directory: str = surroundings["state_directory"]
        self._bounds = FileBounds.of(self.limits)
        self._openers: Openers | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def clock(self) -> float:
        """Seconds since the epoch, as the worker has them."""
        told, when = self._bridge.clock
        return told + time.monotonic() - when

    async def run_in_process(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """In a thread of this process, which is the plugin's own."""
        return await asyncio.to_thread(function, *args, **kwargs)

    async def open_files(self, message: Message) -> Opened:
        """In a process beside this one. PluginError when it cannot be done at all."""
        if self._openers is None:
            self._openers = Openers()
        return await open_files(message, self._bounds, partial(self._openers.open, "", message.content, self._bounds))

    def spawn(self, work: Awaitable[None], *, name: str) -> None:
        """In the background, until this process ends; an error is logged."""

        async def run() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001 - it is told, and nobody waits for it
                self.log.warning("plugin.background_error", task=name, error=repr(error)[:500])

        task = asyncio.get_running_loop().create_task(run(), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
