"""SQLite under quarantine, journal, ledger and store: one writer a process, many processes, errors mapped to StorageError.

A write is a function run whole in a thread of its own: no `await` lies between BEGIN IMMEDIATE and COMMIT, so a loop that
hangs never holds the lock that every other worker waits for. Reads have threads too, and hold nobody up, since the file is in WAL mode.
Statements are SQL and nothing else: a library that makes them would be a quarter of a worker's memory.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from sqlite3 import Connection, Row
from typing import Any, Literal, TypeVar

from gateway.errors import StorageError

__all__ = ["Connection", "Database", "Row", "is_full", "mapped", "marks", "scalar", "storable"]

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
    if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL" or "disk is full" in str(error):
        return True
    if not isinstance(error, sqlite3.OperationalError):
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
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"{what}: {error}", full=is_full(error, directory)) from error


def scalar(connection: Connection, statement: str, values: Sequence[Any] = ()) -> Any:
    """The first value of the first row; None where there is no row."""
    row = connection.execute(statement, values).fetchone()
    return None if row is None else row[0]


def marks(number: int) -> str:
    """Places for so many values in a statement."""
    return ", ".join("?" * number)


class Database:
    """One SQLite file. `open` before use, `close` after it; made after the fork, never carried over one."""

    def __init__(self, file: Path, schema: Sequence[str], *, synchronous: Literal["FULL", "NORMAL"] = "FULL") -> None:
        """`schema`: statements that make what is not there yet."""
        self.file = file
        self._schema = schema
        self._synchronous = synchronous
        self._writer: Connection | None = None
        self._idle: list[Connection] = []
        """Of readers."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sqlite-{file.stem}")
        self._readers = ThreadPoolExecutor(max_workers=READERS, thread_name_prefix=f"sqlite-{file.stem}-read")

    def _connect(self) -> Connection:
        """Transactions begin and end by our own statements; threads of ours use it in turn."""
        connection = sqlite3.connect(self.file, timeout=BUSY, isolation_level=None, check_same_thread=False)
        try:
            connection.row_factory = Row
            connection.execute(f"PRAGMA busy_timeout = {int(BUSY * 1000)}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("PRAGMA foreign_keys = ON")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    async def open(self) -> None:
        """Create directory, file and tables where they are missing. StorageError."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self.create)

    def create(self) -> None:
        """The same as `open`, in the calling thread, which is the writer's own. StorageError."""
        with mapped(f"cannot open {self.file}", self.file.parent):
            self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            for tries_left in range(20, -1, -1):
                try:
                    self._transaction(self._make)
                except sqlite3.Error as error:
                    # going to WAL needs the file alone and does not wait: workers start at the same moment
                    if "locked" not in str(error) or not tries_left:
                        raise
                    time.sleep(0.05)
                else:
                    return

    def _make(self, connection: Connection) -> None:
        for statement in self._schema:
            connection.execute(statement)

    def _transaction(self, work: Callable[[Connection], T]) -> T:
        """Whole or nothing. After an error of the disk the next one begins with a new connection."""
        try:
            connection = self._begin()
            try:
                result = work(connection)
            except BaseException:
                connection.rollback()
                raise
            connection.commit()
        except sqlite3.Error:
            self.reset()
            raise
        return result

    def _begin(self) -> Connection:
        if self._writer is None:
            self._writer = self._connect()
        self._writer.execute("BEGIN IMMEDIATE")
        return self._writer

    def write_now(self, work: Callable[[Connection], T]) -> T:
        """The same as `write`, in the calling thread, which is the writer's own. StorageError; nothing is changed then."""
        with mapped(f"cannot write {self.file}", self.file.parent):
            return self._transaction(work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run in one transaction, committed (and with FULL on the disk) before return. StorageError; nothing is changed then.

        A caller that is cancelled does not stop the transaction: it is committed or not, never half.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.write_now, work)

    async def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """One statement in a transaction of its own, as `write`; how many rows it changed."""
        return await self.write(lambda connection: connection.execute(statement, values).rowcount)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run a function that only reads. StorageError."""
        with mapped(f"cannot read {self.file}", self.file.parent):
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._read_now, work)

    def _read_now(self, work: Callable[[Connection], T]) -> T:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            result = work(connection)
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return result

    def reset(self) -> None:
        """Forget the writer's connection: the file may have been replaced. Called in the writer's thread."""
        connection, self._writer = self._writer, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _reset_readers(self) -> None:
        while self._idle:
            with suppress(sqlite3.Error):
                self._idle.pop().close()

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run a function in the writer's thread, between its transactions."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def close(self) -> None:
        """Wait for the writer and close every connection."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self.reset)
        await loop.run_in_executor(self._readers, self._reset_readers)
        self._thread.shutdown(wait=False)
        self._readers.shutdown(wait=False)


def storable(text: str) -> str:
    """Text that UTF-8 can hold: octets that came in as lone surrogates become `?`."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
