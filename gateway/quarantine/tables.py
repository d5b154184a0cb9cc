"""The tables of the quarantine: `copies`, one row a copy, and `blobs`, one row a file with its counted references."""

from __future__ import annotations

import json
from typing import Any

from gateway.quarantine.copies import Copy, Entry, State, edits_from_json, edits_to_json, envelope_from_json, envelope_to_json
from gateway.sqlite import Row, storable

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS blobs (
        name VARCHAR NOT NULL, -- unique to each write: digest and nonce
        digest VARCHAR NOT NULL,
        size INTEGER NOT NULL,
        "references" INTEGER NOT NULL,
        tombstone BOOLEAN NOT NULL,
        PRIMARY KEY (name)
    )""",
    """CREATE TABLE IF NOT EXISTS copies (
        id VARCHAR NOT NULL,
        transaction_id VARCHAR NOT NULL,
        state VARCHAR NOT NULL,
        confirmed BOOLEAN NOT NULL,
        epoch VARCHAR NOT NULL,
        lease FLOAT NOT NULL,
        created FLOAT NOT NULL,
        updated FLOAT NOT NULL,
        box VARCHAR NOT NULL,
        plugin VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        evidence TEXT NOT NULL,
        edits TEXT NOT NULL,
        envelope TEXT NOT NULL,
        released TEXT NOT NULL,
        facts TEXT NOT NULL,
        search BLOB NOT NULL, -- paths, client, subject in lower case: what `list --search` looks through
        size INTEGER NOT NULL,
        blob VARCHAR, -- null: the content is gone
        digest VARCHAR NOT NULL,
        last_reply TEXT NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(blob) REFERENCES blobs (name)
    )""",
    "CREATE INDEX IF NOT EXISTS ix_copies_transaction_id ON copies (transaction_id)",
    "CREATE INDEX IF NOT EXISTS copies_state_created ON copies (state, created)",
    "CREATE INDEX IF NOT EXISTS copies_state_lease ON copies (state, lease)",
)

MAX_EVIDENCE = 4_000
MAX_FACT = 2_000
MAX_FACTS = 64


def _bounded_facts(facts: dict[str, Any]) -> dict[str, Any]:
    kept = list(facts.items())[:MAX_FACTS]
    return {name[:64]: (value[:MAX_FACT] if isinstance(value, str) else value) for name, value in kept}


def searchable(text: str) -> bytes:
    """Text as it is compared in a search."""
    return text.lower().encode("utf-8", "replace")


def row_of(copy: Copy) -> dict[str, Any]:
    """The columns that come from the copy itself."""
    facts = _bounded_facts(copy.facts)
    words = [
        copy.reverse_path.decode("utf-8", "replace"),
        *(path.decode("utf-8", "replace") for path, _, _ in copy.recipients),
        *(str(facts.get(name, "")) for name in ("client", "subject", "message_id")),
    ]
    return {
        "transaction_id": storable(copy.transaction_id),
        "box": storable(copy.box),
        "plugin": storable(copy.plugin),
        "reason": storable(copy.reason),
        "evidence": storable(copy.evidence[:MAX_EVIDENCE]),
        "edits": edits_to_json(copy.edits),
        "envelope": envelope_to_json(copy.reverse_path, copy.parameters, copy.recipients),
        "released": "[]",
        "facts": json.dumps(facts, default=str),
        "search": searchable("\n".join(words)),
        "size": copy.content.size,
        "last_reply": "",
    }


def entry_of(row: Row) -> Entry:
    """A row as a value."""
    reverse_path, parameters, recipients = envelope_from_json(row["envelope"])
    return Entry(
        id=row["id"],
        transaction_id=row["transaction_id"],
        state=State(row["state"]),
        confirmed=bool(row["confirmed"]),
        created=row["created"],
        updated=row["updated"],
        box=row["box"],
        plugin=row["plugin"],
        reason=row["reason"],
        evidence=row["evidence"],
        edits=edits_from_json(row["edits"]),
        reverse_path=reverse_path,
        parameters=parameters,
        recipients=recipients,
        released=frozenset(json.loads(row["released"])),
        facts=json.loads(row["facts"]),
        size=row["size"],
        blob=row["blob"] or "",
        digest=row["digest"],
        epoch=row["epoch"],
        last_reply=row["last_reply"],
    )
