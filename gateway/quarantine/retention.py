"""The end of copies: what has been kept for its time goes, a held one only after a record of it is in the journal.

Ending a held message is a discard of our own (design 2): no DSN is written, and its record comes first.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

import structlog
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from gateway.errors import StorageError
from gateway.quarantine.copies import ENDED, Entry, State
from gateway.quarantine.hold import Quarantine, end
from gateway.quarantine.tables import blobs, copies, entry_of
from gateway.trace import RecipientRecord, Record

Commit = Callable[[Record], Awaitable[None]]
"""`Journal.commit`: durable before it returns, else StorageError."""

BATCH = 200
"""Copies ended in one round."""
STRAY_AGE = 86_400.0
"""Seconds after which a file that no row names is taken for the rest of a crash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiryReport:
    """What came to its end."""

    held: int = 0
    kept: int = 0
    files: int = 0
    """Files removed whose rows had gone before, or that no row ever named."""


async def expire(quarantine: Quarantine, commit: Commit) -> ExpiryReport:
    """End the copies older than the retention, at most BATCH of each kind. StorageError."""
    moment = quarantine.clock() - quarantine.retention
    held = 0
    for entry in await _older(quarantine, State.HELD, moment):
        held += await _expire_held(quarantine, entry, commit)
    kept = 0
    for entry in await _older(quarantine, State.KEPT, moment):
        kept += await _end(quarantine, entry, State.KEPT, entry.epoch)
    files = await collect(quarantine)
    ended = delete(copies).where(copies.c.state.in_(ENDED), copies.c.updated < moment)
    await quarantine.database.execute(ended)
    return ExpiryReport(held=held, kept=kept, files=files)


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
    await commit(record_of(entry, quarantine.clock()))
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
    """Remove files whose rows are tombstones, and files older than a day that no row names. StorageError."""
    dead = select(blobs.c.name).where(blobs.c.tombstone).limit(BATCH)
    names = await quarantine.database.read(lambda connection: list(connection.scalars(dead)))
    old = await quarantine.in_thread("list contents", lambda: list(quarantine.blobs.older_than(quarantine.clock() - STRAY_AGE)))
    known = await quarantine.database.read(lambda connection: set(connection.scalars(select(blobs.c.name))))
    for name in [name for name in old if name not in known][:BATCH]:
        if await _claim_stray(quarantine, name):
            names.append(name)
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


async def tend(quarantine: Quarantine, commit: Commit, *, interval: float | None = None) -> NoReturn:
    """Renew, sweep and expire for as long as the process lives; a failure is logged and tried again.

    `interval` is in seconds, by default a third of the lease. Retention is looked after once in 20 rounds.
    """
    log = structlog.get_logger()
    turn = 0
    while True:
        try:
            await quarantine.renew()
            report = await quarantine.sweep()
            if report.orphans or report.interrupted:
                log.warning("quarantine.swept", orphans=report.orphans, interrupted=report.interrupted)
            if turn % 20 == 0:
                ended = await expire(quarantine, commit)
                if ended.held or ended.kept or ended.files:
                    log.info("quarantine.expired", held=ended.held, kept=ended.kept, files=ended.files)
        except StorageError as error:
            log.error("quarantine.failed", error=str(error), full=error.full)  # noqa: TRY400 - the text says it all
        turn += 1
        await asyncio.sleep(quarantine.lease / 3 if interval is None else interval)


def record_of(entry: Entry, now: float) -> Record:
    """The decision record of a held message that is discarded because its time has come."""
    reason = "quarantine-expired"
    evidence = f"held as {entry.id} in box {entry.box} by {entry.plugin}: {entry.reason}"
    return Record(
        id=f"{entry.transaction_id}.{entry.id}",
        session="",
        time=now,
        duration_ms=0.0,
        listener="",
        client=entry.fact("client"),
        helo=entry.fact("helo"),
        identity=entry.fact("identity"),
        tls="",
        reverse_path=entry.reverse_path.decode("utf-8", "replace"),
        parameters=[p.decode("utf-8", "replace") for p in entry.parameters],
        recipients=[
            RecipientRecord(
                forward_path=path.decode("utf-8", "replace"),
                sent_path=path.decode("utf-8", "replace"),
                route=route,
                fate="discarded",
                verdict="discard",
                plugin="",
                reason=reason,
                evidence=evidence,
                reply="",
            )
            for index, (path, _, route) in enumerate(entry.recipients)
            if index not in entry.released
        ],
        message_id=entry.fact("message_id"),
        subject=entry.fact("subject"),
        size=entry.size,
        verdict="discarded",
        plugin="",
        reason=reason,
        reply="",
        next_hop="",
        next_hop_reply="",
        queue_id="",
        generation="",
        steps=[],
        steps_dropped=0,
    )
