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


_float: Final = float.__repr__
_int: Final = int.__repr__
_SIZE: Final = len(Record.__annotations__)
_texts_of: Final = itemgetter(
    "id",
    "session",
    "listener",
    "client",
    "helo",
    "identity",
    "tls",
    "reverse_path",
    "message_id",
    "verdict",
    "plugin",
    "reason",
    "reply",
    "next_hop",
    "next_hop_reply",
    "queue_id",
    "generation",
)
_others_of: Final = itemgetter("time", "duration_ms", "parameters", "subject", "size", "steps", "steps_dropped")
_texts_of_recipient: Final = itemgetter(*RecipientRecord.__annotations__)
_AS_IT_IS: Final = bytes(set(range(0x20, 0x7F)) - set(b'"\\'))
"""What stands in JSON as it does in a text."""


def json_of(record: Record) -> str:
    """As JSON's encoder writes it, in a third of the time where the values are what their types say."""
    try:
        return _plain_json(record) if len(record) == _SIZE else _encode(record)
    except (KeyError, TypeError):
        return _encode(record)


def _plain_json(record: Record) -> str:
    texts: tuple[str, ...] = _texts_of(record)
    rows: list[tuple[str, ...]] = [_texts_of_recipient(row) for row in record["recipients"]]
    together = list(texts)
    for row in rows:
        together.extend(row)
    # Looked at all at once: unlike in the subject, there is hardly ever anything in them that is quoted.
    look = "".join(together)
    if not look.isascii() or look.encode().translate(None, _AS_IT_IS):
        texts = _quoted(texts)
        rows = [_quoted(row) for row in rows]
    ident, session, listener, client, helo, identity, tls, reverse_path, message_id = texts[:9]
    verdict, plugin, reason, reply, next_hop, next_hop_reply, queue_id, generation = texts[9:]
    others: tuple[Any, ...] = _others_of(record)
    time, duration, parameters, subject, size, steps, dropped = others
    recipients = _recipient(rows[0]) if len(rows) == 1 else ",".join(map(_recipient, rows))
    return (
        f'{{"id":"{ident}","session":"{session}","time":{_float(time)},"duration_ms":{_float(duration)},"listener":"{listener}",'
        f'"client":"{client}","helo":"{helo}","identity":"{identity}","tls":"{tls}","reverse_path":"{reverse_path}",'
        f'"parameters":{_encode(parameters) if parameters else "[]"},"recipients":[{recipients}],"message_id":"{message_id}",'
        f'"subject":{quoted(subject)},"size":{_int(size)},"verdict":"{verdict}","plugin":"{plugin}","reason":"{reason}",'
        f'"reply":"{reply}","next_hop":"{next_hop}","next_hop_reply":"{next_hop_reply}","queue_id":"{queue_id}",'
        f'"generation":"{generation}","steps":{_encode(steps) if steps else "[]"},"steps_dropped":{_int(dropped)}}}'
    )


def _recipient(texts: tuple[str, ...]) -> str:
    forward_path, sent_path, route, fate, verdict, plugin, reason, evidence, reply = texts
    return (
        f'{{"forward_path":"{forward_path}","sent_path":"{sent_path}","route":"{route}","fate":"{fate}","verdict":"{verdict}",'
        f'"plugin":"{plugin}","reason":"{reason}","evidence":"{evidence}","reply":"{reply}"}}'
    )


def _quoted(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Each as it stands between quotation marks."""
    return tuple([quoted(text)[1:-1] for text in texts])


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
