"""The quarantine itself: pending, held and kept copies, and how one becomes the other (design 1.1).

Every change of state is a compare-and-set on (id, epoch) in one committed transaction. Order on the disk: blob, its directory,
row; and backwards: row, then blob. So at any crash a row that promises content has it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gateway.content import Content
from gateway.errors import StorageError
from gateway.quarantine.blobs import Blob, Blobs
from gateway.quarantine.copies import Copy, Entry, State, Ticket
from gateway.quarantine.rows import Query, change, end, insert_all, is_there, listing
from gateway.quarantine.tables import SCHEMA, entry_of, row_of
from gateway.sqlite import Connection, Database, mapped, marks, storable

MAX_OWNED = 3600.0
"""Seconds for which a lease is renewed at most: no transaction lasts longer (`limits.transaction_time`)."""
INTERRUPTED = "the release was interrupted; the next hop may have the message"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepReport:
    """What a sweep found."""

    orphans: int = 0
    """Pending copies of a worker that is gone: now kept, unconfirmed."""
    interrupted: int = 0
    """Releases (and expiries) that broke off: held again."""


class Quarantine:
    """Copies of messages in files and SQLite; several processes at once. `close` when done."""

    def __init__(self, directory: Path, *, retention: float, lease: float, clock: Callable[[], float] = time.time) -> None:
        self.directory = directory
        self.retention = retention
        self.lease = lease
        self.clock = clock
        self.database = Database(directory / "quarantine.sqlite", SCHEMA, synchronous="FULL")
        self.blobs = Blobs(directory / "blobs")
        self.strays_looked_for = float("-inf")
        """When `collect` last looked through all files."""
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="quarantine")
        self._owned: dict[str, tuple[Ticket, float]] = {}

    @classmethod
    async def open(cls, directory: Path, *, retention: float, lease: float, clock: Callable[[], float] = time.time) -> Self:
        """Open or make it. `retention` and `lease` are seconds. StorageError."""
        quarantine = cls(directory, retention=retention, lease=lease, clock=clock)
        try:
            await quarantine.in_thread("open", quarantine.blobs.create)
            await quarantine.database.open()
        except StorageError:
            await quarantine.close()
            raise
        return quarantine

    async def close(self) -> None:
        """Close the database. What is pending stays pending until its lease lapses."""
        await self.database.close()
        self._threads.shutdown(wait=False)

    async def in_thread(self, what: str, work: Callable[..., Any], *arguments: object) -> Any:
        """Run a call of the disk off the loop; what it raises leaves as StorageError."""
        with mapped(f"quarantine: cannot {what}", self.directory):
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    # -- writing -----------------------------------------------------------------------------------------------------

    async def write_pending(self, copy: Copy) -> Ticket:
        """Durable, and nobody's promise yet. StorageError."""
        return (await self.write_all([copy], State.PENDING))[0]

    async def write_held(self, copy: Copy) -> Ticket:
        """Durable and held, in one commit: nothing is forwarded. StorageError."""
        return (await self.write_all([copy], State.HELD))[0]

    async def write_kept(self, copy: Copy) -> Ticket:
        """A copy of a refused message, as evidence. StorageError."""
        return (await self.write_all([copy], State.KEPT))[0]

    async def write_all(self, to_write: Sequence[Copy], state: State) -> list[Ticket]:
        """Several copies in one commit; those with the same `content` object share one blob. StorageError: none is there."""
        if not to_write:
            return []
        written: dict[int, Blob] = {}
        try:
            for copy in to_write:
                if id(copy.content) not in written:
                    written[id(copy.content)] = await self.in_thread("write content", self._write_blob, copy.content)
            now = self.clock()
            tickets = [Ticket(id=f"q{secrets.token_hex(7)}", epoch=secrets.token_hex(8)) for _ in to_write]
            rows = [
                row_of(copy)
                | {
                    "id": ticket.id,
                    "epoch": ticket.epoch,
                    "state": state,
                    "confirmed": True,
                    "lease": now + self.lease,
                    "created": now,
                    "updated": now,
                    "blob": written[id(copy.content)].name,
                    "digest": written[id(copy.content)].digest,
                }
                for copy, ticket in zip(to_write, tickets, strict=True)
            ]
            await self.database.write(lambda connection: insert_all(connection, written.values(), rows))
        except StorageError:
            await self._unwrite(written.values())
            raise
        if state is State.PENDING:
            self._owned.update({ticket.id: (ticket, now) for ticket in tickets})
        return tickets

    def _write_blob(self, content: Content) -> Blob:
        try:
            return self.blobs.write(content)
        except (ValueError, BufferError) as error:  # the spool was closed under us
            raise OSError(str(error)) from error

    async def _unwrite(self, written: Iterable[Blob]) -> None:
        """Give the room back after a failure, once it is certain that no row names the file; else `collect` finds it later."""
        names = [blob.name for blob in written]
        try:
            statement = f"SELECT name FROM blobs WHERE name IN ({marks(len(names))})"  # noqa: S608 - question marks
            found = await self.database.read(lambda connection: {row["name"] for row in connection.execute(statement, names)})
            for name in names:
                if name not in found:
                    await self.in_thread("remove content", self.blobs.remove, name)
        except StorageError:
            return

    # -- the owner's moves -------------------------------------------------------------------------------------------

    async def hold(self, ticket: Ticket, *more: Ticket) -> bool:
        """Pending becomes held, for all of them or none. False: no longer ours, so the answer is 4xx. StorageError."""
        tickets = (ticket, *more)
        now = self.clock()

        def work(connection: Connection) -> None:
            for one in tickets:
                held = {"state": State.HELD, "updated": now}
                if not change(connection, held, id=one.id, epoch=one.epoch, state=State.PENDING):
                    raise _NotOurs

        try:
            await self.database.write(work)
        except _NotOurs:
            return False
        finally:
            self.forget(*tickets)
        return True

    async def drop(self, ticket: Ticket) -> None:
        """The message was refused as a whole: the pending copy goes. Does nothing when it is no longer ours. StorageError."""
        self.forget(ticket)

        def work(connection: Connection) -> str | None:
            if not is_there(connection, ticket.id, State.PENDING, epoch=ticket.epoch):
                return None
            return end(connection, ticket.id, State.DROPPED, now=self.clock())

        await self.bury(await self.database.write(work))

    def forget(self, *tickets: Ticket) -> None:
        """Renew these leases no longer."""
        for ticket in tickets:
            self._owned.pop(ticket.id, None)

    def own(self, ticket: Ticket) -> None:
        """Renew this lease from now on."""
        self._owned[ticket.id] = (ticket, self.clock())

    async def renew(self) -> None:
        """Renew the leases of what this process owns; call at least three times in a lease. StorageError."""
        now = self.clock()
        for id_ in [id_ for id_, (_, since) in self._owned.items() if now - since > MAX_OWNED]:
            del self._owned[id_]
        owned = [(ticket.id, ticket.epoch) for ticket, _ in self._owned.values()]
        if not owned:
            return

        def work(connection: Connection) -> None:
            for id_, epoch in owned:
                change(connection, {"lease": now + self.lease}, id=id_, epoch=epoch)

        await self.database.write(work)

    async def sweep(self) -> SweepReport:
        """Take over what its owner has let go. Deletes nothing. StorageError."""
        now = self.clock()

        def work(connection: Connection) -> SweepReport:
            # a new epoch: should the owner only have been stopped, its compare-and-set finds nothing
            new = (secrets.token_hex(8), now)

            def lapsed(state: State, changes: str, *values: object) -> int:
                statement = f"UPDATE copies SET epoch = ?, updated = ?, {changes} WHERE state = ? AND lease < ?"  # noqa: S608 - ours
                return connection.execute(statement, (*new, *values, state, now)).rowcount

            return SweepReport(
                orphans=lapsed(State.PENDING, "state = ?, confirmed = FALSE", State.KEPT),
                interrupted=lapsed(State.RELEASING, "state = ?, last_reply = ?", State.HELD, INTERRUPTED)
                + lapsed(State.EXPIRING, "state = ?", State.HELD),
            )

        return await self.database.write(work)

    # -- what is there -----------------------------------------------------------------------------------------------

    async def search(self, query: Query) -> list[Entry]:
        """What the query asks for, newest first. StorageError."""
        statement, values = listing(query)
        return await self.database.read(lambda connection: [entry_of(row) for row in connection.execute(statement, values)])

    async def get(self, id_: str) -> Entry | None:
        """One copy, whatever its state; None when there is none of this id. StorageError."""

        def work(connection: Connection) -> Entry | None:
            row = connection.execute("SELECT * FROM copies WHERE id = ?", (storable(id_),)).fetchone()
            return None if row is None else entry_of(row)

        return await self.database.read(work)

    async def content(self, entry: Entry) -> Content:
        """The original octets; the caller closes it. StorageError when they are gone."""
        if not entry.blob:
            raise StorageError(f"quarantine: {entry.id} is {entry.state}, its content is gone")
        content: Content = await self.in_thread("read content", self.blobs.read, entry.blob)
        return content

    async def delete(self, id_: str) -> bool:
        """An operator's decision: held or kept becomes deleted. False when it is neither. StorageError."""

        def work(connection: Connection) -> tuple[bool, str | None]:
            if not is_there(connection, id_, State.HELD, State.KEPT):
                return False, None
            return True, end(connection, id_, State.DELETED, now=self.clock())

        found, blob = await self.database.write(work)
        await self.bury(blob)
        return found

    async def bury(self, blob: str | None) -> None:
        """Remove the file of a blob whose row is a tombstone, then the row. A failure here is left to `collect`."""
        if blob is None:
            return
        try:
            await self.in_thread("remove content", self.blobs.remove, blob)
            await self.database.execute("DELETE FROM blobs WHERE name = ? AND tombstone", (blob,))
        except StorageError:
            return


class _NotOurs(Exception):  # noqa: N818 - not an error: rolls the transaction back
    """A compare-and-set met another epoch."""
