"""The tables of the quarantine: `copies`, one row a copy, and `blobs`, one row a file with its counted references."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Table, Text
from sqlalchemy.engine import Row

from gateway.quarantine.copies import Copy, Entry, State, edits_from_json, edits_to_json, envelope_from_json, envelope_to_json
from gateway.sqlite import storable

metadata = MetaData()

blobs = Table(
    "blobs",
    metadata,
    Column("name", String, primary_key=True),  # unique to each write: digest and nonce
    Column("digest", String, nullable=False),
    Column("size", Integer, nullable=False),
    Column("references", Integer, nullable=False),
    Column("tombstone", Boolean, nullable=False, default=False),
)

copies = Table(
    "copies",
    metadata,
    Column("id", String, primary_key=True),
    Column("transaction_id", String, nullable=False, index=True),
    Column("state", String, nullable=False),
    Column("confirmed", Boolean, nullable=False),
    Column("epoch", String, nullable=False),
    Column("lease", Float, nullable=False),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Column("box", String, nullable=False),
    Column("plugin", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("edits", Text, nullable=False),
    Column("envelope", Text, nullable=False),
    Column("released", Text, nullable=False, default="[]"),
    Column("facts", Text, nullable=False),
    Column("search", LargeBinary, nullable=False),  # paths, client, subject in lower case: what `list --search` looks through
    Column("size", Integer, nullable=False),
    Column("blob", String, ForeignKey("blobs.name"), nullable=True),  # null: the content is gone
    Column("digest", String, nullable=False),
    Column("last_reply", Text, nullable=False, default=""),
    Index("copies_state_created", "state", "created"),
    Index("copies_state_lease", "state", "lease"),
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


def entry_of(row: Row[Any]) -> Entry:
    """A row as a value."""
    reverse_path, parameters, recipients = envelope_from_json(row.envelope)
    return Entry(
        id=row.id,
        transaction_id=row.transaction_id,
        state=State(row.state),
        confirmed=row.confirmed,
        created=row.created,
        updated=row.updated,
        box=row.box,
        plugin=row.plugin,
        reason=row.reason,
        evidence=row.evidence,
        edits=edits_from_json(row.edits),
        reverse_path=reverse_path,
        parameters=parameters,
        recipients=recipients,
        released=frozenset(json.loads(row.released)),
        facts=json.loads(row.facts),
        size=row.size,
        blob=row.blob or "",
        digest=row.digest,
        epoch=row.epoch,
        last_reply=row.last_reply,
    )
