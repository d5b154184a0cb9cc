"""What workers tell the supervisor and the admin pages: slots in memory that all processes share. No locks.

The memory is made before the fork. Each field has one writer (the worker, or the supervisor before the worker runs), is eight octets
long and aligned, so that a reader sees the old value or the new one. Times are of the monotonic clock, which is one for all processes.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import IntEnum

_NUMBER = struct.Struct("@q")
_SECONDS = struct.Struct("@d")
_NAME_SIZE = 64
_HEADER_SIZE = 1088
_TEXT_AT = 32
_TEXT_SIZE = 960
_GENERATION_AT = 48 + _NAME_SIZE
_ROUTES_AT = _GENERATION_AT + 8
_COUNTS_AT = 1024
_LEAST_ROOM = 64
"""Routes that there is room for at least: a reload may bring more than the start had."""


class WorkerState(IntEnum):
    """Where a worker is in its life."""

    EMPTY = 0
    STARTING = 1
    READY = 2
    DRAINING = 3


def shared_file() -> int:
    """A file of the memory alone, to make slots in that another program can go on with; -1 where there is no such thing."""
    if sys.platform == "linux":
        with suppress(OSError):  # an old kernel
            return os.memfd_create("mailgateway-slots")
    return -1


class Counted(IntEnum):
    """What the supervisor counts."""

    EXITED = 0
    """Workers that ended unasked: by themselves, killed, or because they were blocked."""
    KILLED = 1
    BLOCKED = 2
    RELOAD_DONE = 3
    RELOAD_REFUSED = 4


class Slot:
    """The part of the shared memory that belongs to one worker."""

    def __init__(self, memory: mmap.mmap, index: int, offset: int, table: Mapping[str, int], clock: Callable[[], float]) -> None:
        self.index = index
        self._memory = memory
        self._at = offset
        self._routes: dict[str, int] = {}
        self.follow(table)
        self._clock = clock

    def follow(self, table: Mapping[str, int]) -> None:
        """These are the routes now, each with its place (`Slots.table`)."""
        self._routes = {route: self._at + _ROUTES_AT + 16 * place for route, place in table.items()}

    def _number(self, at: int) -> int:
        return int(_NUMBER.unpack_from(self._memory, self._at + at)[0])

    def _seconds(self, at: int) -> float:
        return float(_SECONDS.unpack_from(self._memory, self._at + at)[0])

    def take(self, pid: int = 0) -> None:
        """A worker begins here: everything its predecessor wrote is gone."""
        for route in self._routes.values():
            _SECONDS.pack_into(self._memory, route, 0.0)
            _NUMBER.pack_into(self._memory, route + 8, 0)
        self.note_sessions(0)
        self.note_blocking("")
        self.generation = 0
        self.beat()
        _NUMBER.pack_into(self._memory, self._at, pid or os.getpid())
        self.state = WorkerState.STARTING

    def empty(self) -> None:
        """No worker is here."""
        self.state = WorkerState.EMPTY
        self.note_sessions(0)
        _NUMBER.pack_into(self._memory, self._at, 0)

    @property
    def pid(self) -> int:
        """Process id of the worker; 0 for none."""
        return self._number(0)

    @property
    def state(self) -> WorkerState:
        """Where the worker is in its life."""
        return WorkerState(self._number(8))

    @state.setter
    def state(self, state: WorkerState) -> None:
        _NUMBER.pack_into(self._memory, self._at + 8, state)

    def beat(self) -> None:
        """The worker's loop turns."""
        _SECONDS.pack_into(self._memory, self._at + 16, self._clock())

    @property
    def last_beat(self) -> float:
        """When the loop turned last (monotonic clock)."""
        return self._seconds(16)

    @property
    def silence(self) -> float:
        """Seconds since the loop turned last."""
        return self._clock() - self.last_beat

    @property
    def generation(self) -> int:
        """Number of the configuration that new sessions get here; 0: none yet."""
        return self._number(_GENERATION_AT)

    @generation.setter
    def generation(self, number: int) -> None:
        _NUMBER.pack_into(self._memory, self._at + _GENERATION_AT, number)

    @property
    def sessions(self) -> int:
        """Sessions under way."""
        return self._number(24)

    def note_sessions(self, sessions: int) -> None:
        """So many are under way."""
        _NUMBER.pack_into(self._memory, self._at + 24, sessions)

    def note_health(self, route: str, healthy: bool, resting: int = 0) -> None:
        """A next hop of `route` answered just now, or none of them does; so many of them rest. An unknown route is passed over."""
        at = self._routes.get(route)
        if at is not None:
            _SECONDS.pack_into(self._memory, at, self._clock() if healthy else 0.0)
            _NUMBER.pack_into(self._memory, at + 8, resting)

    def resting(self, route: str) -> int:
        """How many next hops of `route` rest after a failure."""
        return int(_NUMBER.unpack_from(self._memory, self._routes[route] + 8)[0])

    def answered(self, route: str) -> float | None:
        """Seconds since a next hop of `route` was last seen to answer; None when none does or nobody knows."""
        when = float(_SECONDS.unpack_from(self._memory, self._routes[route])[0])
        return self._clock() - when if when else None

    def note_blocking(self, plugin: str) -> None:
        """The watchdog saw this plugin block the loop; `` when the loop turns again."""
        octets = plugin.encode("utf-8", "replace")[:_NAME_SIZE]
        _NUMBER.pack_into(self._memory, self._at + 40, 0)
        self._memory[self._at + 48 : self._at + 48 + len(octets)] = octets
        _NUMBER.pack_into(self._memory, self._at + 40, len(octets))

    @property
    def blocking(self) -> str:
        """Plugin that was last seen blocking the loop, or ``."""
        length = min(max(self._number(40), 0), _NAME_SIZE)
        return self._memory[self._at + 48 : self._at + 48 + length].decode("utf-8", "replace")


class Slots:
    """All slots, and what the supervisor says of the whole."""

    def __init__(
        self,
        workers: int,
        routes: Sequence[str] = (),
        *,
        file: int = -1,
        room: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.table: dict[str, int] = {route: place for place, route in enumerate(routes)}
        """Route → its place in each slot. A process knows what it was forked with and told since (`follow`)."""
        self.room = room or max(_LEAST_ROOM, 2 * len(self.table))
        self.file = file
        """What the memory is; -1: nothing that has a name."""
        size = _ROUTES_AT + 16 * self.room
        total = _HEADER_SIZE + size * workers
        if file >= 0:
            os.truncate(file, total)
        self._memory = mmap.mmap(file, total)
        self._all = tuple(Slot(self._memory, n, _HEADER_SIZE + size * n, self.table, clock) for n in range(workers))

    @property
    def routes(self) -> tuple[str, ...]:
        """Names of the routes."""
        return tuple(self.table)

    def follow(self, routes: Sequence[str]) -> None:
        """These are the routes now: those that stay keep their places. ValueError when there are more than `room`."""
        if len(routes) > self.room:
            msg = f"{len(routes)} routes, and there is room for {self.room}"
            raise ValueError(msg)
        kept = {route: self.table[route] for route in routes if route in self.table}
        free = iter(sorted(set(range(self.room)) - set(kept.values())))
        self.table = {route: kept[route] if route in kept else next(free) for route in routes}
        for slot in self._all:
            slot.follow(self.table)

    def __getitem__(self, index: int) -> Slot:
        return self._all[index]

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._all)

    @property
    def draining(self) -> bool:
        """The gateway is about to end: not ready, though its sessions go on."""
        return bool(_NUMBER.unpack_from(self._memory, 0)[0])

    def drain(self) -> None:
        """Say that the gateway is about to end."""
        _NUMBER.pack_into(self._memory, 0, 1)

    @property
    def generation(self) -> int:
        """Number of the configuration in force: 1 at the start, one more with each reload."""
        return int(_NUMBER.unpack_from(self._memory, 8)[0])

    @generation.setter
    def generation(self, number: int) -> None:
        _NUMBER.pack_into(self._memory, 8, number)

    @property
    def refusal(self) -> str:
        """Why the last reload changed nothing; `` when it did, or there was none."""
        length = min(max(int(_NUMBER.unpack_from(self._memory, 16)[0]), 0), _TEXT_SIZE)
        return self._memory[_TEXT_AT : _TEXT_AT + length].decode("utf-8", "replace")

    @refusal.setter
    def refusal(self, why: str) -> None:
        octets = why.encode("utf-8", "replace")[:_TEXT_SIZE]
        _NUMBER.pack_into(self._memory, 16, 0)
        self._memory[_TEXT_AT : _TEXT_AT + len(octets)] = octets
        _NUMBER.pack_into(self._memory, 16, len(octets))

    def count(self, what: Counted) -> None:
        """Once more."""
        _NUMBER.pack_into(self._memory, _COUNTS_AT + 8 * what, self.counted(what) + 1)

    def counted(self, what: Counted) -> int:
        """How often since the start."""
        return int(_NUMBER.unpack_from(self._memory, _COUNTS_AT + 8 * what)[0])

    def beating(self, limit: float) -> list[Slot]:
        """Slots of workers that serve and whose loop has turned in the last `limit` seconds."""
        serving = (WorkerState.READY, WorkerState.DRAINING)
        return [slot for slot in self._all if slot.state in serving and slot.silence <= limit]
