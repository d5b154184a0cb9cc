"""Statements of the quarantine: what inserts, ends and lists rows. Each runs in a transaction of its caller."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select, update

from gateway.quarantine.blobs import Blob
from gateway.quarantine.copies import ENDED, State
from gateway.quarantine.tables import blobs, copies, searchable

MAX_LIST = 1_000


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
        values = {"name": blob.name, "digest": blob.digest, "size": blob.size, "references": references, "tombstone": False}
        connection.execute(insert(blobs).values(values))
    connection.execute(insert(copies), rows)


def end(connection: Connection, id_: str, state: State, *, now: float, reply: str = "") -> str | None:
    """Make a row a tombstone, in the caller's transaction; the blob's name when that was the last reference to it."""
    name = connection.execute(select(copies.c.blob).where(copies.c.id == id_)).scalar()
    changes: dict[str, Any] = {"state": state, "blob": None, "updated": now, "epoch": "", "lease": 0.0}
    if reply:
        changes["last_reply"] = reply
    connection.execute(update(copies).where(copies.c.id == id_).values(changes))
    if name is None:
        return None
    connection.execute(update(blobs).where(blobs.c.name == name).values(references=blobs.c.references - 1))
    gone = update(blobs).where(blobs.c.name == name, blobs.c.references <= 0).values(tombstone=True)
    return name if connection.execute(gone).rowcount else None


def listing(query: Query) -> Select[Any]:
    """Newest first, at most MAX_LIST; without a state: held and kept ones and those on their way."""
    statement = select(copies).order_by(copies.c.created.desc(), copies.c.id).limit(max(0, min(query.limit, MAX_LIST)))
    statement = statement.where(copies.c.state == query.state if query.state else copies.c.state.not_in(ENDED))
    if query.box:
        statement = statement.where(copies.c.box == query.box)
    if query.since:
        statement = statement.where(copies.c.created >= query.since)
    if query.search:
        statement = statement.where(func.instr(copies.c.search, searchable(query.search)) > 0)
    return statement
