"""Decision records on the disk: the table, the columns that are searched, and the record itself as compressed JSON."""

from __future__ import annotations

import json
import zlib
from functools import cache
from typing import Any, cast

from sqlalchemy import Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text

from gateway.sqlite import storable
from gateway.trace import Record

metadata = MetaData()

records = Table(
    "records",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("time", Float, nullable=False),
    Column("reverse_path", Text, nullable=False),
    Column("recipients", Text, nullable=False),  # one a line
    Column("client", Text, nullable=False),
    Column("verdict", String, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("record", LargeBinary, nullable=False),
    Index("records_time", "time"),
)

ROWS = 100
"""Rows of one statement."""
_INSERT = "INSERT OR REPLACE INTO records (id, time, reverse_path, recipients, client, verdict, message_id, record) VALUES "


@cache
def insert_of(rows: int) -> str:
    """The statement for so many rows. A discard's early record and its transaction's final one bear the same id: the later stands."""
    return _INSERT + ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?)"] * rows)


Row = tuple[str, float, str, str, str, str, str, bytes]

PLAIN = 1_024
"""Octets of JSON up to which compressing costs more than it saves."""
MAX_COLUMN = 100_000

_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode  # made once: `dumps` makes one for each record


def _column(text: str) -> str:
    return storable(text[:MAX_COLUMN].lower())


def row_of(record: Record) -> Row:
    """A record as the values of INSERT. Raises what a wrong record raises: KeyError, TypeError, ValueError."""
    octets = _encode(record).encode()
    return (
        storable(record["id"]),
        float(record["time"]),
        _column(record["reverse_path"]),
        _column("\n".join(recipient["forward_path"] for recipient in record["recipients"])),
        _column(record["client"]),
        storable(record["verdict"]),
        _column(record["message_id"]),
        octets if len(octets) <= PLAIN else zlib.compress(octets, 1),
    )


def record_of(octets: bytes) -> Record:
    """The record again. ValueError or zlib.error when the octets are not one."""
    found: Any = json.loads(octets if octets[:1] == b"{" else zlib.decompress(octets))
    return cast("Record", found)
