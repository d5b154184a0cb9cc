"""What plugins get beside their options, in a worker: shared DNS and store, a log and metrics of their own, a process pool."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import BrokenExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never, ParamSpec, TypeVar

import structlog

from gateway.context import Context, DnsAnswer, Metrics, Resolver, Store
from gateway.discovery import install_site_modules, loaded_site_files
from gateway.errors import DnsError, PluginError, StorageError
from gateway.files.values import FileBounds, Opened

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing.process import BaseProcess

    from gateway.config.models import Config
    from gateway.files.openers import Openers
    from gateway.message import Message

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.get_logger("gateway.plugin")

MAX_SPAWNED = 100
"""Background tasks of one plugin."""
MAX_QUEUED = 100
"""Calls waiting for the process pool of a worker."""
_CLOSE_LIMIT = 5.0
_LABEL = re.compile(r"[a-z][a-z0-9_]{0,63}")


class NoResolver:
    """Stands where a plugin is loaded and not run."""

    async def query(self, name: str, kind: str) -> DnsAnswer:
        """DnsError."""
        raise DnsError(name, kind, "no DNS: the plugin is not run here")


class NoStore:
    """Stands where a plugin is loaded and not run; every call raises StorageError."""

    async def get(self, key: str) -> bytes | None:
        """StorageError."""
        self._refuse(key)

    async def put(self, key: str, value: bytes, *, ttl: float) -> None:  # noqa: ARG002 - the interface
        """StorageError."""
        self._refuse(key)

    async def put_if_absent(self, key: str, value: bytes, *, ttl: float) -> bool:  # noqa: ARG002 - the interface
        """StorageError."""
        self._refuse(key)

    async def incr(self, key: str, amount: int = 1, *, ttl: float) -> int:  # noqa: ARG002 - the interface
        """StorageError."""
        self._refuse(key)

    async def take(self, key: str, amount: float = 1, *, rate: float, burst: float) -> float:  # noqa: ARG002 - the interface
        """StorageError."""
        self._refuse(key)

    async def delete(self, key: str) -> None:
        """StorageError."""
        self._refuse(key)

    def _refuse(self, key: str) -> Never:
        raise StorageError(f"no store for {key!r}: the plugin is not run here")


class PrefixedStore:
    """One plugin's own keys in the shared store."""

    def __init__(self, store: Store, plugin: str) -> None:
        self._store = store
        self._front = f"{plugin}/"

    async def get(self, key: str) -> bytes | None:
        """Value, or None when absent or expired."""
        return await self._store.get(self._front + key)

    async def put(self, key: str, value: bytes, *, ttl: float) -> None:
        """Set for `ttl` seconds."""
        await self._store.put(self._front + key, value, ttl=ttl)

    async def put_if_absent(self, key: str, value: bytes, *, ttl: float) -> bool:
        """Set unless there; True when this call set it."""
        return await self._store.put_if_absent(self._front + key, value, ttl=ttl)

    async def incr(self, key: str, amount: int = 1, *, ttl: float) -> int:
        """Add to a counter; the new value."""
        return await self._store.incr(self._front + key, amount, ttl=ttl)

    async def take(self, key: str, amount: float = 1, *, rate: float, burst: float) -> float:
        """Take from a token bucket; what is left, below 0 what was missing."""
        return await self._store.take(self._front + key, amount, rate=rate, burst=burst)

    async def delete(self, key: str) -> None:
        """Forget."""
        await self._store.delete(self._front + key)


@lru_cache(maxsize=1_000)
def _metric(kind: str, name: str, labels: tuple[str, ...]) -> Any:
    """A metric of prometheus_client; registered once in a process, whatever generation asks."""
    from prometheus_client import Counter, Histogram

    make = Counter if kind == "count" else Histogram
    return make(name, "Of a plugin.", labels)


class PluginMetrics:
    """Counters and times named `mailgateway_plugin_<name>_…`. ValueError for a name that cannot be."""

    def __init__(self, plugin: str) -> None:
        self._front = f"mailgateway_plugin_{re.sub(r'[^a-z0-9_]', '_', plugin.lower())}_"

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        self._get("count", name, labels).inc(amount)

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add to a histogram of seconds."""
        self._get("observe", name, labels).observe(seconds)

    def _get(self, kind: str, name: str, labels: Mapping[str, str]) -> Any:
        if not _LABEL.fullmatch(name):
            raise ValueError(f"{name!r} is not a name of a metric: lower case letters, digits and _")
        names = tuple(sorted(labels))
        metric = _metric(kind, self._front + name, names)
        return metric.labels(*(labels[one][:100] for one in names)) if names else metric


class PluginContexts:
    """Makes the context of each plugin of a worker: `contexts("spf")`. Close it after the last generation."""

    def __init__(
        self,
        config: Config,
        *,
        directory: Path,
        resolver: Resolver | None = None,
        store: Store | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.directory = directory
        self.state_directory = directory / config.server.state_directory
        self.server_name = config.server.name
        self.authserv_id = config.server.authserv_id or config.server.name
        self.limits: Mapping[str, int] = {name: int(value) for name, value in config.limits.model_dump().items()}
        self.resolver: Resolver = NoResolver() if resolver is None else resolver
        self.store: Store = NoStore() if store is None else store
        self.clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._pool: ProcessPoolExecutor | None = None
        self._starting: asyncio.Future[ProcessPoolExecutor] | None = None
        self._queued = 0
        self.file_bounds = FileBounds.of(config.limits.model_dump())
        self._openers: Openers | None = None

    def __call__(self, plugin: str) -> Context:
        """The context of the plugin of this name."""
        return WorkerContext(self, plugin)

    async def run(self, plugin: str, call: Callable[[], R]) -> R:
        """Call in the process pool, which is started when first asked for. PluginError when it is full or broke."""
        if self._queued >= MAX_QUEUED:
            raise PluginError(plugin, f"{MAX_QUEUED} calls wait for the process pool already")
        self._queued += 1
        try:
            pool = self._pool or await self._started_pool()
            return await asyncio.get_running_loop().run_in_executor(pool, call)
        except BrokenExecutor as error:
            self._pool = None
            raise PluginError(plugin, "a process of the pool ended in the middle of a call") from error
        finally:
            self._queued -= 1

    async def _started_pool(self) -> ProcessPoolExecutor:
        """The pool, started by the first who asks; others wait for the same. In a thread: two processes hold the loop for 40 ms."""
        starting = self._starting
        if starting is None:
            starting = self._starting = asyncio.get_running_loop().run_in_executor(None, _new_pool)
        try:
            pool = await asyncio.shield(starting)
        finally:
            if starting.done() and self._starting is starting:
                self._starting = None
        if self._pool is None:
            self._pool = pool
        return pool

    async def open_files(self, plugin: str, message: Message) -> Opened:
        """The files of a message. PluginError."""
        from gateway.files.openers import Openers  # like the pool, for plugins alone (`server.preload`)
        from gateway.files.opening import open_files

        if self._openers is None:
            self._openers = Openers()
        opened = partial(self._openers.open, plugin, message.content, self.file_bounds)
        return await open_files(message, self.file_bounds, opened)

    def spawn(self, plugin: str, work: Awaitable[None], name: str) -> None:
        """Run in the background until `close`. PluginError when the plugin has too many such tasks."""
        front = f"{plugin}: "
        if sum(task.get_name().startswith(front) for task in self._tasks) >= MAX_SPAWNED:
            if inspect.iscoroutine(work):
                work.close()
            raise PluginError(plugin, f"{MAX_SPAWNED} background tasks run already")
        task = asyncio.get_running_loop().create_task(_logged(plugin, work, name), name=front + name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if inspect.iscoroutine(work):  # cancelled before it began, it would be missed by nobody but the interpreter
            task.add_done_callback(lambda _: work.close())

    async def close(self) -> None:
        """End background tasks and the pool; waits a few seconds at most."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_LIMIT)
        if self._starting is not None:  # whoever asked for it was cancelled, or will find it closed
            self._starting.add_done_callback(_end_pool)
            self._starting = None
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
        if self._openers is not None:
            self._openers.close()
            self._openers = None


def _new_pool() -> ProcessPoolExecutor:
    """Processes started fresh: a fork of a worker would keep its sockets."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    pool = ProcessPoolExecutor(
        max_workers=2,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(loaded_site_files(),),
        max_tasks_per_child=1_000,
    )
    pool.submit(int)  # starts them
    return pool


def _end_pool(starting: asyncio.Future[ProcessPoolExecutor]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        starting.result().shutdown(wait=False, cancel_futures=True)


def _begin(site_files: dict[str, tuple[str, bytes]]) -> None:
    """In a process of the pool: end with the worker, however it ends; know the site's modules."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to everybody; the worker decides
    install_site_modules(site_files)
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), name="parent", daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(0)


async def _logged(plugin: str, work: Awaitable[None], name: str) -> None:
    try:
        await work
    except Exception as error:  # noqa: BLE001 - protects the worker from a plugin's background work
        log.warning("plugin.background_error", plugin=plugin, task=name, error=repr(error)[:500])


class WorkerContext:
    """`self.context` of a plugin in a worker."""

    def __init__(self, contexts: PluginContexts, plugin: str) -> None:
        self._contexts = contexts
        self._plugin = plugin
        self.resolver = contexts.resolver
        self.store: Store = PrefixedStore(contexts.store, plugin)
        self.log = structlog.get_logger(f"plugin.{plugin}").bind(plugin=plugin)
        self.metrics: Metrics = PluginMetrics(plugin)
        self.server_name = contexts.server_name
        self.authserv_id = contexts.authserv_id
        self.limits = contexts.limits
        self.base_directory = str(contexts.directory)
        self.state_directory = str(contexts.state_directory)

    def clock(self) -> float:
        """Seconds since the epoch."""
        return self._contexts.clock()

    async def run_in_process(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run CPU-heavy work in the worker's process pool; function and arguments must pickle. PluginError when it cannot."""
        return await self._contexts.run(self._plugin, partial(function, *args, **kwargs))

    async def open_files(self, message: Message) -> Opened:
        """Every file of the message, attachments and what is in them. PluginError when it cannot be done at all."""
        return await self._contexts.open_files(self._plugin, message)

    def spawn(self, work: Awaitable[None], *, name: str) -> None:
        """Run in the background until shutdown; an error is logged. PluginError past 100 at once."""
        self._contexts.spawn(self._plugin, work, name)
