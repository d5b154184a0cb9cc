"""`context.store`: small values with a time to live, shared by all workers of a host, in SQLite. Survives a restart.

Atomic over processes, since each change is one transaction that begins with the lock. It survives a killed process; a power cut may
cost the last moments (`synchronous = NORMAL`), which counters and caches can bear.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from sqlalchemy import Column, Connection, Float, Index, LargeBinary, MetaData, String, Table, delete, select, update
from sqlalchemy.dialects.sqlite import Insert, insert

from gateway import bucket
from gateway.sqlite import Database, storable

MAX_KEY = 512
"""Characters."""
MAX_VALUE = 1_000_000
"""Octets."""

_metadata = MetaData()
_items = Table(
    "items",
    _metadata,
    Column("key", String, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    Column("expires", Float, nullable=False),
    Index("items_expires", "expires"),
    sqlite_with_rowid=False,
)


class SqliteStore:
    """Implements `gateway.context.Store`. Every method may raise StorageError; ValueError for a key or value past its bound."""

    def __init__(self, file: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._database = Database(file, _metadata, synchronous="NORMAL")
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
        statement = select(_items.c.value).where(_items.c.key == _checked(key), _items.c.expires > self._clock())
        found: bytes | None = await self._database.read(lambda connection: connection.execute(statement).scalar())
        return found

    async def put(self, key: str, value: bytes, *, ttl: float) -> None:
        """Set for `ttl` seconds."""
        statement = _set(_checked(key), _bounded(value), self._clock() + ttl)
        await self._database.execute(statement)

    async def put_if_absent(self, key: str, value: bytes, *, ttl: float) -> bool:
        """Set unless there; True when this call set it."""
        now = self._clock()
        statement = _set(_checked(key), _bounded(value), now + ttl, only_if_expired_at=now)
        return await self._database.execute(statement) == 1

    async def incr(self, key: str, amount: int = 1, *, ttl: float) -> int:
        """Add to a counter; the new value. The first one sets the time to live. What is no number counts as 0."""
        now = self._clock()
        key = _checked(key)
        found = select(_items.c.value).where(_items.c.key == key, _items.c.expires > now)

        def work(connection: Connection) -> int:
            value = connection.execute(found).scalar()
            total = amount + _number(value)
            octets = b"%d" % total
            if value is None:
                connection.execute(_set(key, octets, now + ttl))
            else:
                connection.execute(update(_items).where(_items.c.key == key).values(value=octets))
            return total

        return await self._database.write(work)

    async def take(self, key: str, amount: float = 1, *, rate: float, burst: float) -> float:
        """Take from a token bucket; what is left, below 0 what was missing. Nothing is written where nothing was taken."""
        bucket.check(amount, rate, burst)
        key = _checked(key)

        def work(connection: Connection) -> float:
            now = self._clock()  # with the lock held: the times of several workers do not cross
            found = connection.execute(select(_items.c.value).where(_items.c.key == key, _items.c.expires > now)).scalar()
            left, value, ttl = bucket.taken(found, now=now, amount=amount, rate=rate, burst=burst)
            if left >= 0:
                connection.execute(_set(key, value, now + ttl))
            return left

        return await self._database.write(work)

    async def delete(self, key: str) -> None:
        """Forget."""
        statement = delete(_items).where(_items.c.key == _checked(key))
        await self._database.execute(statement)

    async def sweep(self) -> int:
        """Remove what has expired; how many there were. Call now and then: reading needs it not."""
        old = delete(_items).where(_items.c.expires <= self._clock())
        return await self._database.execute(old)


def _set(key: str, value: bytes, expires: float, *, only_if_expired_at: float | None = None) -> Insert:
    statement = insert(_items).values(key=key, value=value, expires=expires)
    where = None if only_if_expired_at is None else _items.c.expires <= only_if_expired_at
    return statement.on_conflict_do_update(index_elements=["key"], set_={"value": value, "expires": expires}, where=where)


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
