"""The end of copies: what has been kept for its time goes, a held one only after a record of it is in the journal.

Ending a held message is a discard of our own (design 2): no DSN is written, and its record comes first.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from gateway.quarantine.copies import ENDED, Entry, State
from gateway.quarantine.ends import record_of
from gateway.quarantine.hold import Quarantine
from gateway.quarantine.rows import end
from gateway.quarantine.tables import blobs, copies, entry_of
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
    ended = delete(copies).where(copies.c.state.in_(ENDED), copies.c.updated < moment)
    await quarantine.database.execute(ended)
    return ExpiryReport(held=held, kept=kept)


async def _older(quarantine: Quarantine, state: State, moment: float) -> list[Entry]:
    statement = select(copies).where(copies.c.state == state, copies.c.created < moment).order_by(copies.c.created).limit(BATCH)
    return await quarantine.database.read(lambda connection: [entry_of(row) for row in connection.execute(statement)])


async def _expire_held(quarantine: Quarantine, entry: Entry, commit: Commit) -> bool:
    """Held → expiring (ours alone) → record → expired. A crash in between: held again after the lease, and once more."""
    epoch = secrets.token_hex(8)
    mine = (copies.c.id == entry.id, copies.c.epoch == entry.epoch, copies.c.state == State.HELD)
    values = {"state": State.EXPIRING, "epoch": epoch, "lease": quarantine.clock() + quarantine.lease}
    claimed = await quarantine.database.execute(update(copies).where(*mine).values(values))
    if not claimed:
        return False
    await commit(record_of(entry, now=quarantine.clock(), fate="discarded", reason="quarantine-expired"))
    return await _end(quarantine, entry, State.EXPIRING, epoch)


async def _end(quarantine: Quarantine, entry: Entry, state: State, epoch: str) -> bool:
    def work(connection: Connection) -> tuple[bool, str | None]:
        mine = (copies.c.id == entry.id, copies.c.epoch == epoch, copies.c.state == state)
        if connection.execute(select(copies.c.id).where(*mine)).first() is None:
            return False, None
        return True, end(connection, entry.id, State.EXPIRED, now=quarantine.clock())

    found, blob = await quarantine.database.write(work)
    await quarantine.bury(blob)
    return found


async def collect(quarantine: Quarantine) -> int:
    """Remove files whose rows are tombstones and, now and then, files older than a day that no row names. StorageError."""
    dead = select(blobs.c.name).where(blobs.c.tombstone).limit(BATCH)
    names = await quarantine.database.read(lambda connection: list(connection.scalars(dead)))
    now = quarantine.clock()
    if now - quarantine.strays_looked_for >= STRAYS_EVERY:
        quarantine.strays_looked_for = now
        old = await quarantine.in_thread("list contents", lambda: list(quarantine.blobs.older_than(now - STRAY_AGE)))
        known = await quarantine.database.read(lambda connection: set(connection.scalars(select(blobs.c.name))))
        names += [name for name in old if name not in known and await _claim_stray(quarantine, name)]
    for name in names:
        await quarantine.bury(name)
    return len(names)


async def _claim_stray(quarantine: Quarantine, name: str) -> bool:
    """A tombstone of this name first: a writer that was only stopped then fails at its commit instead of losing its file."""
    values = {"name": name, "digest": "", "size": 0, "references": 0, "tombstone": True}

    def work(connection: Connection) -> bool:
        try:
            connection.execute(insert(blobs).values(values))
        except IntegrityError:
            return False  # the row came meanwhile
        return True

    return await quarantine.database.write(work)
