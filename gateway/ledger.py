"""Ledger and hints: what a retry must know of the try before it (design 2, "Recipients that differ"; docs/promises.md).

A ledger entry says that the next hop took (or we hold) this very content for this recipient although the client was told
451. It is written only with such a 451 and committed before it; it is consumed, durably, before the 250 it leads to. Hints are
small and short-lived and live in the shared store; losing one costs a retry, never a message.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gateway.content import Content
from gateway.context import Store
from gateway.errors import StorageError
from gateway.left_behind import LeftBehind, stamp
from gateway.outcome import Fate, History
from gateway.sqlite import Connection, Database, marks, scalar

LIFETIME = 7 * 86400.0
"""Seconds an entry waits for its retry: longer than queues keep mail (RFC 5321 4.5.4.1: 4–5 days)."""
HINT_LIFETIME = 6 * 3600.0
"""Seconds a hint lives: longer than a queue's longest pause between two tries."""
MAX_ENTRIES = 100_000
"""Entries kept; beyond, the oldest go, which may cause a duplicate, never a loss."""
_MAX_ORIGINS = 1_000
"""Origins remembered in memory; with more, each message is looked up."""
MAX_HEADER = 1_000_000
"""Octets searched for Date and Message-ID."""

_DATE = re.compile(rb"^date[ \t]*:", re.IGNORECASE | re.MULTILINE)
_MESSAGE_ID = re.compile(rb"^message-id[ \t]*:", re.IGNORECASE | re.MULTILINE)

LOCAL = "unix:"
"""In front of the listener's name, in the place of the address of a client at its UNIX socket."""

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS entries (
        key BLOB NOT NULL,
        origin BLOB NOT NULL,
        fate VARCHAR NOT NULL,
        transaction_id VARCHAR NOT NULL,
        created FLOAT NOT NULL,
        PRIMARY KEY (key)
    )""",
    "CREATE INDEX IF NOT EXISTS ix_entries_origin ON entries (origin)",
)
_INSERT = "INSERT INTO entries (key, origin, fate, transaction_id, created) VALUES (?, ?, ?, ?, ?)"
_DELETE_OLDEST = "DELETE FROM entries WHERE key IN (SELECT key FROM entries ORDER BY created LIMIT ?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One message as received: everything the ledger's key is made of."""

    client_address: str
    reverse_path: bytes
    parameters: tuple[bytes, ...]
    """Of MAIL, as received."""
    recipients: tuple[tuple[bytes, tuple[bytes, ...]], ...]
    """Forward-path and parameters as received, by index of the wish; of added ones as they would go on."""
    content: Content

    @property
    def origin(self) -> bytes | None:
        """Client network and reverse-path; None when the client's address is not known."""
        network = client_network(self.client_address)
        return None if network is None else _digest((network, self.reverse_path, *self.parameters))

    def keys(self) -> tuple[bytes, ...] | None:
        """A key for each recipient; None for content that can have no entry. Reads all octets: call in a thread."""
        origin = self.origin
        if origin is None or not has_identity(self.content):
            return None
        octets = hashlib.sha256()
        for chunk in self.content.chunks():
            octets.update(chunk)
        same = octets.digest()
        return tuple(_digest((origin, same, path, *parameters)) for path, parameters in self.recipients)


class Ledger(LeftBehind):
    """Entries in SQLite, hints in the store; several processes at once. `close` when done."""

    def __init__(
        self, file: Path, store: Store, *, lifetime: float, hint_lifetime: float, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(file, hint_lifetime=hint_lifetime, clock=clock)
        self._database = Database(file, _SCHEMA, synchronous="FULL")
        self._store = store
        self._lifetime = lifetime

    @classmethod
    async def open(
        cls,
        file: Path,
        store: Store,
        *,
        lifetime: float = LIFETIME,
        hint_lifetime: float = HINT_LIFETIME,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Open or make it. Lifetimes are seconds. StorageError."""
        ledger = cls(file, store, lifetime=lifetime, hint_lifetime=hint_lifetime, clock=clock)
        try:
            await ledger._database.open()
            ledger._make_mark()
        except StorageError:
            await ledger.close()
            raise
        return ledger

    async def close(self) -> None:
        """Close the database."""
        await self._database.close()

    # -- hints ---------------------------------------------------------------------------------------------------------

    async def hint(self, reverse_path: bytes, mailbox: str) -> str:
        """The class an earlier transaction left for this recipient, `` when none. Costs a `stat` where no hint lives. StorageError."""
        if not self.may_have_hints():
            return ""
        found = await self._store.get(_hint_key(reverse_path, mailbox))
        return found.decode("utf-8", "replace") if found else ""

    async def leave(self, reverse_path: bytes, hints: Mapping[str, str]) -> None:
        """Hints by mailbox; an empty one is forgotten. StorageError."""
        self._mark_hints()
        for mailbox, group in hints.items():
            key = _hint_key(reverse_path, mailbox)
            if group:
                await self._store.put(key, group.encode(), ttl=self._hint_lifetime)
            else:
                await self._store.delete(key)

    async def split(self, reverse_path: bytes, hints: Mapping[str, str]) -> None:
        """Hints by mailbox, and one more round for this recipient set. StorageError."""
        await self.leave(reverse_path, hints)
        await self._store.incr(_rounds_key(reverse_path, hints), ttl=self._hint_lifetime)

    async def rounds(self, reverse_path: bytes, mailboxes: Iterable[str]) -> int:
        """How often this reverse-path and recipient set has been split."""
        if not self.may_have_hints():
            return 0
        found = await self._store.get(_rounds_key(reverse_path, mailboxes))
        return int(found) if found and found.isdigit() else 0

    def _make_mark(self) -> None:
        """There is a mark from the beginning, of long ago: to look for one that is missing takes an exception each time."""
        mark = Path(self._hints_mark)
        if mark.exists():
            return
        with suppress(OSError), tempfile.NamedTemporaryFile(dir=mark.parent, prefix=mark.name) as made:
            os.utime(made.fileno(), (0, 0))
            os.link(made.name, mark)  # all at once: another process may leave a hint now

    def _mark_hints(self) -> None:
        self._hints_looked = -math.inf
        try:
            Path(self._hints_mark).touch(mode=0o600)
        except OSError as error:
            raise StorageError(f"cannot mark hints: {error}") from error

    # -- entries -------------------------------------------------------------------------------------------------------

    async def history(self, attempt: Attempt, mailboxes: Sequence[str]) -> History:
        """What is known of this very content. Costs a `stat` call unless the ledger has something from this origin.

        A store or ledger that cannot be read knows nothing: in doubt, deliver.
        """
        rounds = 0
        if len(mailboxes) > 1:
            try:
                rounds = await self.rounds(attempt.reverse_path, mailboxes)
            except StorageError:
                rounds = 0
        try:
            found = await self._lookup(attempt)
        except StorageError:
            found = {}
        return History(past=found, rounds=rounds)

    async def _lookup(self, attempt: Attempt) -> dict[int, Fate]:
        now = stamp(self._files)
        if now != self._seen:
            query = f"SELECT DISTINCT origin FROM entries LIMIT {_MAX_ORIGINS}"  # noqa: S608 - a number of ours
            self._origins = await self._database.read(lambda connection: frozenset(row[0] for row in connection.execute(query)))
            self._seen = now
        if not self._origins or (len(self._origins) < _MAX_ORIGINS and attempt.origin not in self._origins):
            return {}
        keys = await asyncio.to_thread(attempt.keys)
        if keys is None:
            return {}
        oldest = self._clock() - self._lifetime

        def work(connection: Connection) -> dict[bytes, str]:
            known: dict[bytes, str] = {}
            for some in _batches(keys):
                query = f"SELECT key, fate FROM entries WHERE key IN ({marks(len(some))}) AND created >= ?"  # noqa: S608 - question marks
                known.update((key, fate) for key, fate in connection.execute(query, (*some, oldest)))
            return known

        known = await self._database.read(work)
        return {index: Fate(known[key]) for index, key in enumerate(keys) if key in known}

    async def write(self, attempt: Attempt, entries: Mapping[int, Fate], transaction_id: str) -> bool:
        """Commit entries, before the 451 that they go with. False: this content can have none. StorageError."""
        keys = await asyncio.to_thread(attempt.keys)
        if keys is None:
            return False
        now = self._clock()
        origin = attempt.origin
        rows = {keys[index]: (keys[index], origin, fate.value, transaction_id, now) for index, fate in entries.items()}

        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM entries WHERE created < ?", (now - self._lifetime,))
            _delete(connection, rows)
            connection.executemany(_INSERT, rows.values())
            surplus = scalar(connection, "SELECT count(*) FROM entries") - MAX_ENTRIES
            if surplus > 0:
                connection.execute(_DELETE_OLDEST, (surplus,))

        await self._database.write(work)
        return True

    async def consume(self, attempt: Attempt, indexes: Iterable[int]) -> bool:
        """Delete entries durably, all or none, before the 250 that they lead to. False: another transaction had them. StorageError."""
        keys = await asyncio.to_thread(attempt.keys)
        if keys is None:
            return False
        used = {keys[index] for index in indexes}

        def work(connection: Connection) -> None:
            if _delete(connection, used) != len(used):
                raise _NotThereError

        try:
            await self._database.write(work)
        except _NotThereError:
            return False
        return True


class _NotThereError(Exception):
    """Rolls a consumption back."""


def client_network(address: str) -> bytes | None:
    """/24 of IPv4, /64 of IPv6: a farm of senders retries from the next machine; a UNIX socket by itself. None when it is no address."""
    if address.startswith(LOCAL):
        return address.encode()
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.packed[:3] if isinstance(parsed, ipaddress.IPv4Address) else parsed.packed[:8]


def has_identity(content: Content) -> bool:
    """Both Date and Message-ID: without them two messages may have the same octets (RFC 5322 3.6)."""
    end = content.octets.find(b"\r\n\r\n", 0, MAX_HEADER)
    header = content.octets[: MAX_HEADER if end < 0 else end]
    return _DATE.search(header) is not None and _MESSAGE_ID.search(header) is not None


def _digest(fields: Iterable[bytes]) -> bytes:
    """SHA-256 over fields with their lengths, so that no two lists give the same octets."""
    digest = hashlib.sha256()
    for field in fields:
        digest.update(len(field).to_bytes(8, "big") + field)
    return digest.digest()


def _hint_key(reverse_path: bytes, mailbox: str) -> str:
    return f"hint:{_digest((reverse_path, mailbox.encode('utf-8', 'surrogateescape'))).hex()}"


def _rounds_key(reverse_path: bytes, mailboxes: Iterable[str]) -> str:
    names = sorted({mailbox.encode("utf-8", "surrogateescape") for mailbox in mailboxes})
    return f"hint-rounds:{_digest((reverse_path, *names)).hex()}"


def _delete(connection: Connection, keys: Iterable[bytes]) -> int:
    """Entries by their keys; how many there were."""
    statement = "DELETE FROM entries WHERE key IN ({})"
    return sum(connection.execute(statement.format(marks(len(some))), some).rowcount for some in _batches(keys))


def _batches(keys: Iterable[bytes], size: int = 500) -> Iterator[list[bytes]]:
    """A statement of SQLite takes a bounded number of values."""
    found = list(keys)
    return (found[start : start + size] for start in range(0, len(found), size))
