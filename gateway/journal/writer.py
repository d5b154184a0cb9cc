"""The journal: one decision record a transaction, written in batches off the mail path (design 1.7).

`record` appends to a bounded queue and returns: a journal that is full, slow or broken costs records, which are counted, and never
mail. Only a discard waits, by `commit`, until its own record is on the disk. Both write the same file, as do all workers.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Self

import structlog

from gateway.config.models import DmarcReportsConfig
from gateway.errors import StorageError
from gateway.journal.dmarc_tables import SCHEMA, Collector
from gateway.journal.records import ROWS, Row, insert_of, packed, plain_row_of, record_of, row_of
from gateway.metrics import DMARC_LEFT_OUT, JOURNAL_DROPPED
from gateway.sqlite import Connection, Database, scalar
from gateway.trace import Record

BATCH = 500
"""Records in one transaction."""
DELAY = 0.25
"""Seconds a record waits for others at most."""
RETRY = 1.0
"""Seconds between two tries while the file cannot be written."""
REPORT = 60.0
"""Seconds between two lines in the log about lost records."""
CLEANING = 600.0
"""Seconds between two looks at the retention."""
MAX_FOUND = 1_000

Pending = Record | Callable[[], Record]
Queued = Row | Pending


class Journal:
    """Decision records in SQLite. Made by `open`, ended by `close`, which writes what is queued."""

    def __init__(
        self,
        file: Path,
        *,
        retention: float,
        queue: int,
        clock: Callable[[], float] = time.time,
        reports: DmarcReportsConfig | None = None,
    ) -> None:
        self.file = file
        self.retention = retention
        self.clock = clock
        self.dropped = 0
        """Records lost since the start."""
        self._limit = queue
        self._reports = Collector(reports) if reports is not None else None
        self._collects = reports is not None and reports.enabled
        self._queue: deque[Queued] = deque()
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._batches = Database(file, SCHEMA, synchronous="NORMAL")
        self._discards = Database(file, SCHEMA, synchronous="FULL")
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._inode = 0
        self._reported = float("-inf")
        self._unreported = 0
        self._cleaned = float("-inf")

    @classmethod
    async def open(
        cls,
        file: Path,
        *,
        retention: float,
        queue: int,
        clock: Callable[[], float] = time.time,
        reports: DmarcReportsConfig | None = None,
    ) -> Self:
        """Open or make it and begin to write. Never raises for the file's sake: what is wrong is reported and tried again.

        `reports`: rows of DMARC aggregate reports are collected from the records, where they are enabled, and end by their retention.
        """
        journal = cls(file, retention=retention, queue=queue, clock=clock, reports=reports)
        try:
            await journal._discards.open()
        except StorageError as error:
            journal._report(str(error))
        journal._task = asyncio.get_running_loop().create_task(journal._run(), name="journal")
        return journal

    # -- writing -----------------------------------------------------------------------------------------------------

    def record(self, record: Pending) -> None:
        """Queue it; a function is called later, off the loop, to make the record. Never blocks, never raises."""
        if len(self._queue) >= self._limit or self._closing:
            self._drop(1)
            return
        queued: Queued = record
        if not self._collects and not callable(record):
            # Made into its row while it is warm: 500 records that wait as dictionaries cost twice as much to make and to collect.
            try:
                queued = plain_row_of(record)
            except Exception:  # noqa: BLE001 - protects mail from a record that cannot be made
                self._drop(1)
                return
        self._queue.append(queued)
        if len(self._queue) == 1:
            self._wake.set()
        elif len(self._queue) == BATCH:
            self._hurry.set()

    async def commit(self, record: Record) -> None:
        """Write it durably before return: a discard's own. StorageError."""
        try:
            row = row_of(record)
        except (KeyError, TypeError, ValueError) as error:
            raise StorageError(f"journal: not a record: {error}") from error
        try:
            await self._discards.write(lambda connection: _insert(connection, [row]))
        except StorageError as error:
            if error.full:
                raise
            await self._discards.open()  # it was not there at the start, or is not there any more
            await self._discards.write(lambda connection: _insert(connection, [row]))

    async def close(self) -> None:
        """Write what is queued, once; what cannot be written is counted as lost."""
        self._closing = True
        self._wake.set()
        self._hurry.set()
        if self._task is not None:
            await self._task
        await self._batches.close()
        await self._discards.close()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            if len(self._queue) < BATCH:
                with suppress(TimeoutError):
                    async with asyncio.timeout(DELAY):
                        await self._hurry.wait()
            if not self._closing:
                self._hurry.clear()
            if not self._queue:
                if self._closing:
                    return
                self._wake.clear()
                continue
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            try:
                self._drop(await self._batches.in_thread(partial(self._write, batch)))
            except StorageError as error:
                if self._closing:
                    self._drop(len(batch) + len(self._queue), str(error))
                    self._queue.clear()
                    return
                self._report(str(error))
                self._queue.extendleft(reversed(batch))
                await asyncio.sleep(RETRY)

    def _write(self, batch: list[Queued]) -> int:
        """In the writer's thread: one transaction; how many were no records. StorageError: none of them is written."""
        rows: list[Row] = []
        made: list[Record] = []
        for item in batch:
            if isinstance(item, tuple):
                rows.append(packed(item))
                continue
            try:
                record = item() if callable(item) else item
                rows.append(row_of(record))
            except Exception:  # noqa: BLE001, S112 - protects the other records of the batch from one that cannot be made
                continue
            made.append(record)
        self._look_at_file()
        self._insert(rows, made)
        self._clean()
        return len(batch) - len(rows)

    def _insert(self, rows: list[Row], made: list[Record]) -> None:
        """The records, and in the same transaction what they say for DMARC reports: both or neither."""
        collector = self._reports
        if collector is None or not self._collects:
            self._batches.write_now(lambda connection: _insert(connection, rows))
            return
        tally = collector.tally(made)

        def work(connection: Connection) -> int:
            _insert(connection, rows)
            return collector.add(connection, tally)

        left_out = self._batches.write_now(work)
        if left_out:
            DMARC_LEFT_OUT.inc(left_out)

    def _look_at_file(self) -> None:
        """The file may have been moved away or removed under us: then a new one is begun."""
        try:
            inode = self.file.stat().st_ino
        except OSError:
            inode = 0
        if not inode or inode != self._inode:
            self._batches.reset()
            self._batches.create()
            self._inode = self.file.stat().st_ino

    def _clean(self) -> None:
        """The retention, a part at a time."""
        now = self.clock()
        if now - self._cleaned < CLEANING:
            return
        old = "DELETE FROM records WHERE number IN (SELECT number FROM records WHERE time < ? LIMIT ?)"
        found = self._batches.write_now(lambda c: c.execute(old, (now - self.retention, 10 * BATCH)).rowcount)
        collector = self._reports
        is_done = collector is None or self._batches.write_now(lambda c: collector.clean(c, now))
        if found < 10 * BATCH and is_done:
            self._cleaned = now

    def _drop(self, number: int, why: str = "the queue is full or a record could not be made") -> None:
        if number:
            self.dropped += number
            JOURNAL_DROPPED.inc(number)
            self._unreported += number
            self._report(why)

    def _report(self, why: str) -> None:
        """At most once a minute."""
        now = time.monotonic()
        if now - self._reported >= REPORT:
            structlog.get_logger().error("journal.failed", error=why, dropped=self._unreported, dropped_since_start=self.dropped)
            self._reported = now
            self._unreported = 0

    # -- reading -----------------------------------------------------------------------------------------------------

    async def get(self, id_: str) -> Record | None:
        """The record of a transaction, None when there is none. StorageError."""
        statement = "SELECT record FROM records WHERE id = ?"
        found = await self._discards.read(lambda connection: scalar(connection, statement, (id_,)))
        return None if found is None else _decoded(found)

    async def later(self, id_: str) -> list[Record]:
        """What became of its held copies: records `ID.COPY`, oldest first, at most MAX_FOUND. StorageError."""
        return await self._found("id BETWEEN ? AND ? ORDER BY time LIMIT ?", (f"{id_}.", f"{id_}/", MAX_FOUND))

    async def _found(self, rest: str, values: Sequence[object]) -> list[Record]:
        """The records that the rest of a statement is about."""
        statement = f"SELECT record FROM records WHERE {rest}"  # noqa: S608 - what is searched for is among the values
        found = await self._discards.read(lambda connection: connection.execute(statement, values).fetchall())
        return [_decoded(octets) for (octets,) in found]

    async def search(
        self,
        *,
        from_: str = "",
        to: str = "",
        client: str = "",
        since: float = 0.0,
        verdict: str = "",
        limit: int = 100,
    ) -> list[Record]:
        """Newest first, at most MAX_FOUND. `from_` and `to` are parts of paths, `client` the beginning of an address. StorageError."""
        conditions: dict[str, object] = {}
        if since:
            conditions["time >= ?"] = since
        if verdict:
            conditions["verdict = ?"] = verdict
        if from_:
            conditions["instr(reverse_path, ?)"] = from_.lower()
        if to:
            conditions["instr(recipients, ?)"] = to.lower()
        if client:
            conditions["instr(client, ?) = 1"] = client.lower()
        newest = f"{' AND '.join(conditions) or 'TRUE'} ORDER BY time DESC LIMIT ?"
        return await self._found(newest, (*conditions.values(), max(0, min(limit, MAX_FOUND))))


def _insert(connection: Connection, rows: list[Row]) -> None:
    """A statement for many rows: SQLite lets go of Python's lock once for each statement, and the loop takes it meanwhile."""
    for at in range(0, len(rows), ROWS):
        some = rows[at : at + ROWS]
        connection.execute(insert_of(len(some)), tuple(chain.from_iterable(some)))


def _decoded(octets: bytes) -> Record:
    try:
        return record_of(octets)
    except (ValueError, zlib.error) as error:
        raise StorageError(f"journal: a record that cannot be read: {error}") from error
