"""Copies in the quarantine as values, and their exact JSON form: octets as Latin-1 text, edits by the names of their types.

A *held* copy was accepted and is ours; a *kept* copy was refused and is evidence only (design 2). The two are never mixed up.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, get_args

from gateway.content import Content
from gateway.edits import Edit, ReplaceBody, ReplacePart

Addressee = tuple[bytes, tuple[bytes, ...], str]
"""Forward-path with angle brackets, RCPT parameters, name of the route."""

_EDITS: dict[str, type[Edit]] = {kind.__name__: kind for kind in get_args(Edit)}


class State(StrEnum):
    """Where a copy is in its life."""

    PENDING = "pending"
    """Written before the next hop is asked; nobody has been told that it is ours."""
    HELD = "held"
    KEPT = "kept"
    RELEASING = "releasing"
    EXPIRING = "expiring"
    """Retention has ended; the record of it is being written."""
    RELEASED = "released"
    DELETED = "deleted"
    EXPIRED = "expired"
    DROPPED = "dropped"
    """Pending, and the message was refused as a whole."""


ENDED = (State.RELEASED, State.DELETED, State.EXPIRED, State.DROPPED)
"""Tombstones: the row is there, the content is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What is to be stored: the original octets, the edits, the envelope with its parameters, the verdict."""

    transaction_id: str
    content: Content
    edits: tuple[Edit, ...] = ()
    reverse_path: bytes = b"<>"
    """With angle brackets, as it would have gone to the next hop."""
    parameters: tuple[bytes, ...] = ()
    recipients: tuple[Addressee, ...]
    box: str = "default"
    plugin: str = ""
    reason: str = ""
    evidence: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    """`client`, `helo`, `protocol`, `subject`, `message_id`, `time` … : JSON values only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A copy that this process owns, and the epoch under which it does."""

    id: str
    epoch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A copy as it is found in the quarantine."""

    id: str
    transaction_id: str
    state: State
    confirmed: bool
    """False: an orphan; whether anybody was told anything about it is not known."""
    created: float
    """Seconds since the epoch."""
    updated: float
    box: str
    plugin: str
    reason: str
    evidence: str
    edits: tuple[Edit, ...]
    reverse_path: bytes
    parameters: tuple[bytes, ...]
    recipients: tuple[Addressee, ...]
    released: frozenset[int]
    """Indexes of the recipients that a release has reached already."""
    facts: dict[str, Any]
    size: int
    blob: str
    digest: str
    epoch: str
    last_reply: str
    """What the last release came to, `` before any."""

    def fact(self, name: str) -> str:
        """A fact as text, `` when it is not known."""
        value = self.facts.get(name, "")
        return value if isinstance(value, str) else str(value)


def _text(octets: bytes) -> str:
    return octets.decode("latin-1")


def edits_to_json(edits: Sequence[Edit]) -> str:
    """The edits, in order."""
    return json.dumps([{"kind": type(edit).__name__, **dataclasses.asdict(edit)} for edit in edits], default=_text)


def edits_from_json(text: str) -> tuple[Edit, ...]:
    """The same edits again. ValueError when a kind is not known or a value cannot be."""
    edits = []
    for item in json.loads(text):
        kind = _EDITS.get(item.pop("kind", ""))
        if kind is None:
            msg = "an edit of a kind that this version does not know"
            raise ValueError(msg)
        if kind in {ReplaceBody, ReplacePart}:
            item["octets"] = item["octets"].encode("latin-1")
        edits.append(kind(**item))
    return tuple(edits)


def envelope_to_json(reverse_path: bytes, parameters: Sequence[bytes], recipients: Sequence[Addressee]) -> str:
    """Paths and parameters, octet for octet."""
    return json.dumps(
        {
            "reverse_path": _text(reverse_path),
            "parameters": [_text(p) for p in parameters],
            "recipients": [[_text(path), [_text(p) for p in found], route] for path, found, route in recipients],
        }
    )


def envelope_from_json(text: str) -> tuple[bytes, tuple[bytes, ...], tuple[Addressee, ...]]:
    """Reverse-path, parameters, recipients."""
    found = json.loads(text)
    return (
        found["reverse_path"].encode("latin-1"),
        tuple(p.encode("latin-1") for p in found["parameters"]),
        tuple(
            (path.encode("latin-1"), tuple(p.encode("latin-1") for p in parameters), route)
            for path, parameters, route in found["recipients"]
        ),
    )
