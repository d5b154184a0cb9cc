"""A Context for tests: DNS from a table, a store in memory, a log and metrics that can be read, a clock that can be set."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from gateway import bucket
from gateway.context import Resolver
from gateway.files.opening import open_files, open_here
from gateway.files.parts import Wanted
from gateway.files.values import FileBounds, Opened
from gateway.message import Message
from gateway.testing.dns import FakeResolver

P = ParamSpec("P")
R = TypeVar("R")


class Clock:
    """Seconds since the epoch, moved by hand.

    Examples:
        >>> clock = Clock(now=100.0)
        >>> clock.move(60)
        >>> clock()
        160.0
    """

    def __init__(self, now: float = 1_795_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time."""
        return self.now

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class MemoryStore:
    """The Store of a test.

    Examples:
        >>> clock = Clock()
        >>> store = MemoryStore(clock)
        >>> await store.put("key", b"value", ttl=60)
        >>> clock.move(61)
        >>> await store.get("key") is None
        True
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._values: dict[str, tuple[bytes, float]] = {}

    async def get(self, key: str) -> bytes | None:
        """Value, or None when absent or expired."""
        value, expires = self._values.get(key, (b"", 0.0))
        return value if expires > self._clock() else None

    async def put(self, key: str, value: bytes, *, ttl: float) -> None:
        """Set for `ttl` seconds."""
        self._values[key] = (value, self._clock() + ttl)

    async def put_if_absent(self, key: str, value: bytes, *, ttl: float) -> bool:
        """Set unless there; True when this call set it."""
        if await self.get(key) is not None:
            return False
        await self.put(key, value, ttl=ttl)
        return True

    async def incr(self, key: str, amount: int = 1, *, ttl: float) -> int:
        """Add to a counter; the new value. The first incr sets the time to live."""
        value = await self.get(key)
        number = int(value or b"0") + amount
        expires = self._clock() + ttl if value is None else self._values[key][1]
        self._values[key] = (str(number).encode(), expires)
        return number

    async def take(self, key: str, amount: float = 1, *, rate: float, burst: float) -> float:
        """Take from a token bucket; what is left, below 0 what was missing."""
        bucket.check(amount, rate, burst)
        found = await self.get(key)
        left, value, ttl = bucket.taken(found, now=self._clock(), amount=amount, rate=rate, burst=burst)
        if left >= 0:
            await self.put(key, value, ttl=ttl)
        return left

    async def delete(self, key: str) -> None:
        """Forget."""
        self._values.pop(key, None)


@dataclass
class ListLog:
    """A log kept as a list of (level, event, facts).

    Examples:
        >>> log = ListLog()
        >>> log.warning("table.old", hours=30)
        >>> log.lines
        [('warning', 'table.old', {'hours': 30})]
    """

    lines: list[tuple[str, str, dict[str, object]]] = field(default_factory=list)

    def debug(self, event: str, **facts: object) -> None:
        """Keep a line."""
        self.lines.append(("debug", event, facts))

    def info(self, event: str, **facts: object) -> None:
        """Keep a line."""
        self.lines.append(("info", event, facts))

    def warning(self, event: str, **facts: object) -> None:
        """Keep a line."""
        self.lines.append(("warning", event, facts))

    def error(self, event: str, **facts: object) -> None:
        """Keep a line."""
        self.lines.append(("error", event, facts))


@dataclass
class ListMetrics:
    """Metrics kept as a list of (name, value, labels).

    Examples:
        >>> metrics = ListMetrics()
        >>> metrics.count("seen", country="NL")
        >>> metrics.values
        [('seen', 1, {'country': 'NL'})]
    """

    values: list[tuple[str, float, dict[str, str]]] = field(default_factory=list)

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Keep an increment."""
        self.values.append((name, amount, labels))

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Keep a time."""
        self.values.append((name, seconds, labels))


class FakeContext:
    """What a plugin gets, for tests. `clock.move(60)` lets time pass; `log.lines` and `metrics.values` can be read.

    Examples:
        >>> context = FakeContext(zones={"example.org": {"A": ["192.0.2.1"]}}, server_name="mx.example.org")
        >>> (await context.resolver.query("example.org", "A")).records
        ('192.0.2.1',)
    """

    def __init__(
        self,
        *,
        resolver: Resolver | None = None,
        zones: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        server_name: str = "mx.example.org",
        authserv_id: str = "mx.example.org",
        limits: Mapping[str, int] | None = None,
        base_directory: str = ".",
        state_directory: str = "",
    ) -> None:
        self.clock = Clock() if clock is None else clock
        self.resolver: Resolver = FakeResolver(zones) if resolver is None else resolver
        self.store = MemoryStore(self.clock)
        self.log = ListLog()
        self.metrics = ListMetrics()
        self.server_name = server_name
        self.authserv_id = authserv_id
        self.limits: Mapping[str, int] = {} if limits is None else limits
        self.base_directory = base_directory
        self.state_directory = state_directory or str(Path(base_directory, "var"))
        self._tasks: set[asyncio.Task[None]] = set()

    async def run_in_process(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs it here and now: a test has no process pool."""
        return function(*args, **kwargs)

    async def open_files(self, message: Message) -> Opened:
        """Opens them here and now, to the limits of `limits`: a test has no process for it."""
        bounds = FileBounds.of(self.limits)

        async def here(parts: list[Wanted]) -> Opened:
            return open_here(message.content, parts, bounds)

        return await open_files(message, bounds, here)

    def spawn(self, work: Awaitable[None], *, name: str) -> None:
        """Run in the background; ended by the end of the test's loop."""

        async def run() -> None:
            await work

        task = asyncio.get_running_loop().create_task(run(), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
