"""Statements of the quarantine: what inserts, ends and lists rows. Each runs in a transaction of its caller."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.quarantine.blobs import Blob
from gateway.quarantine.copies import ENDED, State
from gateway.quarantine.tables import searchable
from gateway.sqlite import Connection, marks, scalar

MAX_LIST = 1_000
INSERT_BLOB = 'INSERT INTO blobs (name, digest, size, "references", tombstone) VALUES (?, ?, ?, ?, ?)'
_RELEASE_BLOB = 'UPDATE blobs SET "references" = "references" - 1 WHERE name = ?'
_BURY_BLOB = 'UPDATE blobs SET tombstone = TRUE WHERE name = ? AND "references" <= 0'


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to list; empty means any."""

    state: str = ""
    box: str = ""
    search: str = ""
    """Part of a path, of the client's address, the subject or the Message-ID; without regard to case."""
    since: float = 0.0
    """Seconds since the epoch."""
    limit: int = 100


def insert_all(connection: Connection, written: Iterable[Blob], rows: list[dict[str, Any]]) -> None:
    """New copies and their blobs, each with as many references as there are rows that name it."""
    for blob in written:
        references = sum(row["blob"] == blob.name for row in rows)
        connection.execute(INSERT_BLOB, (blob.name, blob.digest, blob.size, references, False))
    for row in rows:
        names = ", ".join(row)
        connection.execute(f"INSERT INTO copies ({names}) VALUES ({marks(len(row))})", tuple(row.values()))  # noqa: S608 - names of ours


def change(connection: Connection, values: Mapping[str, Any], **where: object) -> int:
    """Set columns of the copies whose other columns are as told; how many there were. Names are those of the table, never text from outside."""
    new = ", ".join(f"{name} = ?" for name in values)
    condition = " AND ".join(f"{name} = ?" for name in where)
    statement = f"UPDATE copies SET {new} WHERE {condition}"  # noqa: S608 - see above
    return connection.execute(statement, (*values.values(), *where.values())).rowcount


def is_there(connection: Connection, id_: str, *states: State, epoch: str | None = None) -> bool:
    """A copy in one of these states, and of this epoch where it is told."""
    row = connection.execute("SELECT state, epoch FROM copies WHERE id = ?", (id_,)).fetchone()
    return row is not None and row["state"] in states and epoch in (None, row["epoch"])


def end(connection: Connection, id_: str, state: State, *, now: float, reply: str = "") -> str | None:
    """Make a row a tombstone, in the caller's transaction; the blob's name when that was the last reference to it."""
    name: str | None = scalar(connection, "SELECT blob FROM copies WHERE id = ?", (id_,))
    changes: dict[str, Any] = {"state": state, "blob": None, "updated": now, "epoch": "", "lease": 0.0}
    if reply:
        changes["last_reply"] = reply
    change(connection, changes, id=id_)
    if name is None:
        return None
    connection.execute(_RELEASE_BLOB, (name,))
    return name if connection.execute(_BURY_BLOB, (name,)).rowcount else None


def listing(query: Query) -> tuple[str, tuple[object, ...]]:
    """A statement and its values. Newest first, at most MAX_LIST; without a state: held and kept ones and those on their way."""
    ended = [*ENDED]
    conditions: list[tuple[str, tuple[object, ...]]] = [
        ("state = ?", (query.state,)) if query.state else (f"state NOT IN ({marks(len(ended))})", tuple(ended))
    ]
    if query.box:
        conditions.append(("box = ?", (query.box,)))
    if query.since:
        conditions.append(("created >= ?", (query.since,)))
    if query.search:
        conditions.append(("instr(search, ?) > 0", (searchable(query.search),)))
    where = " AND ".join(condition for condition, _ in conditions)
    values = [value for _, some in conditions for value in some]
    statement = f"SELECT * FROM copies WHERE {where} ORDER BY created DESC, id LIMIT ?"  # noqa: S608 - nothing from outside is in it
    return statement, (*values, max(0, min(query.limit, MAX_LIST)))
