"""SQLite under quarantine, journal, ledger and store: one writer a process, many processes, errors mapped to StorageError.

A write is a function run whole in a thread of its own: no `await` lies between BEGIN IMMEDIATE and COMMIT, so a loop that
hangs never holds the lock that every other worker waits for. Reads have threads too, and hold nobody up, since the file is in WAL mode.
SQLAlchemy's asynchronous engine would do the same, and bring the ORM: 6 MB for each worker.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from sqlalchemy import URL, Connection, Engine, MetaData, UpdateBase, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from gateway.errors import StorageError

T = TypeVar("T")

BUSY = 10.0
"""Seconds a write waits for the lock of another process."""
READERS = 2
"""Reads at once, of one file and process."""
_FULL = {errno.ENOSPC, errno.EDQUOT}


def is_full(error: BaseException, directory: Path) -> bool:
    """Whether this error of the disk or the database means that the disk is full."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    origin = getattr(error, "orig", None) or error
    if getattr(origin, "sqlite_errorname", "") == "SQLITE_FULL" or "disk is full" in str(origin):
        return True
    if not isinstance(origin, sqlite3.OperationalError):
        return False
    try:  # a full disk may also show as SQLITE_IOERR or SQLITE_CANTOPEN (no room for -wal or -shm)
        found = os.statvfs(directory)
    except OSError:
        return False
    return found.f_bavail == 0


@contextmanager
def mapped(what: str, directory: Path) -> Iterator[None]:
    """The border: whatever disk and database raise leaves as StorageError."""
    try:
        yield
    except (OSError, SQLAlchemyError, sqlite3.Error) as error:
        origin = getattr(error, "orig", None) or error
        raise StorageError(f"{what}: {origin}", full=is_full(error, directory)) from error


def _engine(file: Path, connections: int, synchronous: str, **more: Any) -> Engine:
    """With so many connections at most, which threads of ours use in turn."""
    engine = create_engine(
        URL.create("sqlite", database=str(file)),
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        connect_args={"check_same_thread": False, "timeout": BUSY, **more},
    )
    _set_pragmas(engine, synchronous)
    return engine


def _set_pragmas(engine: Engine, synchronous: str) -> None:
    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(BUSY * 1000)}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute(f"PRAGMA synchronous = {synchronous}")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()


class Database:
    """One SQLite file. `open` before use, `close` after it; made after the fork, never carried over one."""

    def __init__(self, file: Path, metadata: MetaData, *, synchronous: Literal["FULL", "NORMAL"] = "FULL") -> None:
        self.file = file
        self._metadata = metadata
        self._writer = _engine(file, 1, synchronous, isolation_level=None)
        event.listen(self._writer, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sqlite-{file.stem}")
        self._reader = _engine(file, READERS, synchronous)
        self._readers = ThreadPoolExecutor(max_workers=READERS, thread_name_prefix=f"sqlite-{file.stem}-read")

    async def open(self) -> None:
        """Create directory, file and tables where they are missing. StorageError."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self.create)

    def create(self) -> None:
        """The same as `open`, in the calling thread, which is the writer's own. StorageError."""
        with mapped(f"cannot open {self.file}", self.file.parent):
            self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            for tries_left in range(20, -1, -1):
                try:
                    with self._writer.begin() as connection:
                        self._metadata.create_all(connection)
                except SQLAlchemyError as error:
                    # going to WAL needs the file alone and does not wait: workers start at the same moment
                    if "locked" not in str(error) or not tries_left:
                        raise
                    time.sleep(0.05)
                else:
                    return

    def write_now(self, work: Callable[[Connection], T]) -> T:
        """The same as `write`, in the calling thread, which is the writer's own. StorageError; nothing is changed then."""
        with mapped(f"cannot write {self.file}", self.file.parent):
            try:
                with self._writer.begin() as connection:
                    return work(connection)
            except (SQLAlchemyError, sqlite3.Error):
                self._writer.dispose()  # after an error of the disk the next write begins with a new connection
                raise

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run in one transaction, committed (and with FULL on the disk) before return. StorageError; nothing is changed then.

        A caller that is cancelled does not stop the transaction: it is committed or not, never half.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.write_now, work)

    async def execute(self, statement: UpdateBase) -> int:
        """One statement in a transaction of its own, as `write`; how many rows it changed."""
        return await self.write(lambda connection: connection.execute(statement).rowcount)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run a function that only reads. StorageError."""
        with mapped(f"cannot read {self.file}", self.file.parent):
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._read_now, work)

    def _read_now(self, work: Callable[[Connection], T]) -> T:
        with self._reader.connect() as connection:
            return work(connection)

    def reset(self) -> None:
        """Forget the writer's connection: the file may have been replaced. Called in the writer's thread."""
        self._writer.dispose()

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run a function in the writer's thread, between its transactions."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def close(self) -> None:
        """Wait for the writer and close every connection."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._writer.dispose)
        await loop.run_in_executor(self._readers, self._reader.dispose)
        self._thread.shutdown(wait=False)
        self._readers.shutdown(wait=False)


def storable(text: str) -> str:
    """Text that UTF-8 can hold: octets that came in as lone surrogates become `?`."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
