"""Decision records on the disk: the table, the columns that are searched, and the record itself as compressed JSON."""

from __future__ import annotations

import json
import zlib
from functools import cache
from json.encoder import encode_basestring_ascii as quoted
from operator import itemgetter
from typing import Any, Final, cast

from gateway.sqlite import storable
from gateway.trace import RecipientRecord, Record

RECORDS: Final = (
    """CREATE TABLE IF NOT EXISTS records (
        number INTEGER NOT NULL,
        id VARCHAR NOT NULL,
        time FLOAT NOT NULL,
        reverse_path TEXT NOT NULL,
        recipients TEXT NOT NULL, -- one a line
        client TEXT NOT NULL,
        verdict VARCHAR NOT NULL,
        message_id TEXT NOT NULL,
        record BLOB NOT NULL,
        PRIMARY KEY (number),
        UNIQUE (id)
    )""",
    "CREATE INDEX IF NOT EXISTS records_time ON records (time)",
)

ROWS: Final = 100
"""Rows of one statement."""
_INSERT: Final = (
    "INSERT OR REPLACE INTO records (id, time, reverse_path, recipients, client, verdict, message_id, record) VALUES "
)


@cache
def insert_of(rows: int) -> str:
    """The statement for so many rows. A discard's early record and its transaction's final one bear the same id: the later stands."""
    return _INSERT + ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?)"] * rows)


Row = tuple[str, float, str, str, str, str, str, bytes]

PLAIN: Final = 1_024
"""Octets of JSON up to which compressing costs more than it saves."""
_WINDOW_BITS: Final = 13
_MEMORY: Final = 5
WINDOW: Final = 1 << _WINDOW_BITS
"""Octets of JSON up to which nothing is gained by zlib's full window."""
MAX_COLUMN: Final = 100_000

# Made once: `dumps` makes one for each record. What is in a record was made for it, in a depth that is bounded: nothing is within itself.
_encode: Final = json.JSONEncoder(separators=(",", ":"), default=str, check_circular=False).encode


def _object(shape: type) -> str:
    """A JSON object with a place for each value: the names are written once, not for each record."""
    return "{" + ",".join(f'"{name}":%s' for name in shape.__annotations__) + "}"


_RECORD: Final = _object(Record)
_RECIPIENT: Final = _object(RecipientRecord)
_SIZE: Final = len(Record.__annotations__)
_recipient_values: Final = itemgetter(*RecipientRecord.__annotations__)


def json_of(record: Record) -> str:
    """As JSON's encoder writes it, in half the time where the values are what their types say."""
    try:
        return _plain_json(record) if len(record) == _SIZE else _encode(record)
    except (KeyError, TypeError):
        return _encode(record)


def _plain_json(record: Record) -> str:
    rows, parameters, steps = record["recipients"], record["parameters"], record["steps"]
    return _RECORD % (
        quoted(record["id"]),
        quoted(record["session"]),
        float.__repr__(record["time"]),
        float.__repr__(record["duration_ms"]),
        quoted(record["listener"]),
        quoted(record["client"]),
        quoted(record["helo"]),
        quoted(record["identity"]),
        quoted(record["tls"]),
        quoted(record["reverse_path"]),
        _encode(parameters) if parameters else "[]",
        "[" + ",".join([_RECIPIENT % tuple(map(quoted, _recipient_values(row))) for row in rows]) + "]",
        quoted(record["message_id"]),
        quoted(record["subject"]),
        int.__repr__(record["size"]),
        quoted(record["verdict"]),
        quoted(record["plugin"]),
        quoted(record["reason"]),
        quoted(record["reply"]),
        quoted(record["next_hop"]),
        quoted(record["next_hop_reply"]),
        quoted(record["queue_id"]),
        quoted(record["generation"]),
        _encode(steps) if steps else "[]",
        int.__repr__(record["steps_dropped"]),
    )


def _column(text: str) -> str:
    text = text[:MAX_COLUMN].lower()
    return text if text.isascii() else storable(text)


def row_of(record: Record) -> Row:
    """A record as the values of INSERT. Raises what a wrong record raises: KeyError, TypeError, ValueError."""
    return packed(plain_row_of(record))


def packed(row: Row) -> Row:
    """The row with its record compressed, where that saves something."""
    octets = row[-1]
    return row if len(octets) <= PLAIN else (*row[:-1], _compressed(octets))


def _compressed(octets: bytes) -> bytes:
    """What zlib reads whoever wrote it. Of the usual size with a window of 8 KB: as small, in a fifth of the memory, which is made ready each time."""
    if len(octets) > WINDOW:
        return zlib.compress(octets, 1)
    work = zlib.compressobj(1, zlib.DEFLATED, _WINDOW_BITS, _MEMORY)
    return work.compress(octets) + work.flush()


def plain_row_of(record: Record) -> Row:
    """The same, not compressed."""
    rows = record["recipients"]
    paths = rows[0]["forward_path"] if len(rows) == 1 else "\n".join([row["forward_path"] for row in rows])
    return (
        storable(record["id"]),
        float(record["time"]),
        _column(record["reverse_path"]),
        _column(paths),
        _column(record["client"]),
        storable(record["verdict"]),
        _column(record["message_id"]),
        json_of(record).encode(),
    )


def record_of(octets: bytes) -> Record:
    """The record again. ValueError or zlib.error when the octets are not one."""
    found: Any = json.loads(octets if octets[:1] == b"{" else zlib.decompress(octets))
    return cast("Record", found)
