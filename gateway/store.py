"""`context.store`: small values with a time to live, shared by all workers of a host, in SQLite. Survives a restart.

Atomic over processes, since each change is one transaction that begins with the lock. It survives a killed process; a power cut may
cost the last moments (`synchronous = NORMAL`), which counters and caches can bear.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from gateway import bucket
from gateway.sqlite import Connection, Database, scalar, storable

MAX_KEY = 512
"""Characters."""
MAX_VALUE = 1_000_000
"""Octets."""

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS items (
        key VARCHAR NOT NULL,
        value BLOB NOT NULL,
        expires FLOAT NOT NULL,
        PRIMARY KEY (key)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS items_expires ON items (expires)",
)
_FIND = "SELECT value FROM items WHERE key = ? AND expires > ?"
_SET = """INSERT INTO items (key, value, expires) VALUES (?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires"""
_SET_WHERE_EXPIRED = f"{_SET} WHERE items.expires <= ?"


class SqliteStore:
    """Implements `gateway.context.Store`. Every method may raise StorageError; ValueError for a key or value past its bound."""

    def __init__(self, file: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._database = Database(file, _SCHEMA, synchronous="NORMAL")
        self._clock = clock

    @classmethod
    async def open(cls, file: Path, *, clock: Callable[[], float] = time.time) -> Self:
        """Open or make it. StorageError."""
        store = cls(file, clock=clock)
        await store._database.open()
        return store

    async def close(self) -> None:
        """Close the file."""
        await self._database.close()

    async def get(self, key: str) -> bytes | None:
        """Value, or None when absent or expired."""
        values = (_checked(key), self._clock())
        found: bytes | None = await self._database.read(lambda connection: scalar(connection, _FIND, values))
        return found

    async def put(self, key: str, value: bytes, *, ttl: float) -> None:
        """Set for `ttl` seconds."""
        await self._database.execute(_SET, (_checked(key), _bounded(value), self._clock() + ttl))

    async def put_if_absent(self, key: str, value: bytes, *, ttl: float) -> bool:
        """Set unless there; True when this call set it."""
        now = self._clock()
        values = (_checked(key), _bounded(value), now + ttl, now)
        return await self._database.execute(_SET_WHERE_EXPIRED, values) == 1

    async def incr(self, key: str, amount: int = 1, *, ttl: float) -> int:
        """Add to a counter; the new value. The first one sets the time to live. What is no number counts as 0."""
        now = self._clock()
        key = _checked(key)

        def work(connection: Connection) -> int:
            value = scalar(connection, _FIND, (key, now))
            total = amount + _number(value)
            octets = b"%d" % total
            if value is None:
                connection.execute(_SET, (key, octets, now + ttl))
            else:
                connection.execute("UPDATE items SET value = ? WHERE key = ?", (octets, key))
            return total

        return await self._database.write(work)

    async def take(self, key: str, amount: float = 1, *, rate: float, burst: float) -> float:
        """Take from a token bucket; what is left, below 0 what was missing. Nothing is written where nothing was taken."""
        bucket.check(amount, rate, burst)
        key = _checked(key)

        def work(connection: Connection) -> float:
            now = self._clock()  # with the lock held: the times of several workers do not cross
            found = scalar(connection, _FIND, (key, now))
            left, value, ttl = bucket.taken(found, now=now, amount=amount, rate=rate, burst=burst)
            if left >= 0:
                connection.execute(_SET, (key, value, now + ttl))
            return left

        return await self._database.write(work)

    async def delete(self, key: str) -> None:
        """Forget."""
        await self._database.execute("DELETE FROM items WHERE key = ?", (_checked(key),))

    async def sweep(self) -> int:
        """Remove what has expired; how many there were. Call now and then: reading needs it not."""
        return await self._database.execute("DELETE FROM items WHERE expires <= ?", (self._clock(),))


def _number(value: bytes | None) -> int:
    try:
        return int(value or b"0")
    except ValueError:
        return 0


def _checked(key: str) -> str:
    if not 0 < len(key) <= MAX_KEY:
        msg = f"a key of the store has 1 to {MAX_KEY} characters, not {len(key)}"
        raise ValueError(msg)
    return storable(key)


def _bounded(value: bytes) -> bytes:
    if len(value) > MAX_VALUE:
        msg = f"a value of the store has at most {MAX_VALUE} octets, not {len(value)}"
        raise ValueError(msg)
    return value
