"""The end of copies: what has been kept for its time goes, a held one only after a record of it is in the journal.

Ending a held message is a discard of our own (design 2): no DSN is written, and its record comes first.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.quarantine.copies import ENDED, Entry, State
from gateway.quarantine.ends import record_of
from gateway.quarantine.hold import Quarantine
from gateway.quarantine.rows import INSERT_BLOB, change, end, is_there
from gateway.quarantine.tables import entry_of
from gateway.sqlite import Connection, marks
from gateway.trace import Record

Commit = Callable[[Record], Awaitable[None]]
"""`Journal.commit`: durable before it returns, else StorageError."""

BATCH = 200
"""Copies ended in one round."""
STRAYS_EVERY = 3_600.0
"""Seconds between two looks through all files."""
STRAY_AGE = 86_400.0
"""Seconds after which a file that no row names is taken for the rest of a crash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiryReport:
    """What came to its end."""

    held: int = 0
    kept: int = 0


async def expire(quarantine: Quarantine, commit: Commit) -> ExpiryReport:
    """End the copies older than the retention, at most BATCH of each kind. StorageError."""
    moment = quarantine.clock() - quarantine.retention
    held = 0
    for entry in await _older(quarantine, State.HELD, moment):
        held += await _expire_held(quarantine, entry, commit)
    kept = 0
    for entry in await _older(quarantine, State.KEPT, moment):
        kept += await _end(quarantine, entry, State.KEPT, entry.epoch)
    ended = f"DELETE FROM copies WHERE state IN ({marks(len(ENDED))}) AND updated < ?"  # noqa: S608 - question marks
    await quarantine.database.execute(ended, (*ENDED, moment))
    return ExpiryReport(held=held, kept=kept)


async def _older(quarantine: Quarantine, state: State, moment: float) -> list[Entry]:
    statement = "SELECT * FROM copies WHERE state = ? AND created < ? ORDER BY created LIMIT ?"
    values = (state, moment, BATCH)
    return await quarantine.database.read(lambda connection: [entry_of(row) for row in connection.execute(statement, values)])


async def _expire_held(quarantine: Quarantine, entry: Entry, commit: Commit) -> bool:
    """Held → expiring (ours alone) → record → expired. A crash in between: held again after the lease, and once more."""
    epoch = secrets.token_hex(8)
    values = {"state": State.EXPIRING, "epoch": epoch, "lease": quarantine.clock() + quarantine.lease}

    def claim(connection: Connection) -> int:
        return change(connection, values, id=entry.id, epoch=entry.epoch, state=State.HELD)

    if not await quarantine.database.write(claim):
        return False
    await commit(record_of(entry, now=quarantine.clock(), fate="discarded", reason="quarantine-expired"))
    return await _end(quarantine, entry, State.EXPIRING, epoch)


async def _end(quarantine: Quarantine, entry: Entry, state: State, epoch: str) -> bool:
    def work(connection: Connection) -> tuple[bool, str | None]:
        if not is_there(connection, entry.id, state, epoch=epoch):
            return False, None
        return True, end(connection, entry.id, State.EXPIRED, now=quarantine.clock())

    found, blob = await quarantine.database.write(work)
    await quarantine.bury(blob)
    return found


async def collect(quarantine: Quarantine) -> int:
    """Remove files whose rows are tombstones and, now and then, files older than a day that no row names. StorageError."""
    names = await _names(quarantine, f"SELECT name FROM blobs WHERE tombstone LIMIT {BATCH}")  # noqa: S608 - a number
    now = quarantine.clock()
    if now - quarantine.strays_looked_for >= STRAYS_EVERY:
        quarantine.strays_looked_for = now
        old = await quarantine.in_thread("list contents", lambda: list(quarantine.blobs.older_than(now - STRAY_AGE)))
        known = set(await _names(quarantine, "SELECT name FROM blobs"))
        names += [name for name in old if name not in known and await _claim_stray(quarantine, name)]
    for name in names:
        await quarantine.bury(name)
    return len(names)


async def _names(quarantine: Quarantine, statement: str) -> list[str]:
    return await quarantine.database.read(lambda connection: [row["name"] for row in connection.execute(statement)])


async def _claim_stray(quarantine: Quarantine, name: str) -> bool:
    """A tombstone of this name first: a writer that was only stopped then fails at its commit instead of losing its file."""

    def work(connection: Connection) -> bool:
        try:
            connection.execute(INSERT_BLOB, (name, "", 0, 0, True))
        except sqlite3.IntegrityError:
            return False  # the row came meanwhile
        return True

    return await quarantine.database.write(work)
