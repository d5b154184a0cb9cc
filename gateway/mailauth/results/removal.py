"""The edits that take forged Authentication-Results fields out of a message, at whatever position (RFC 8601 5)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from gateway.edits import RemoveHeader, remove_header
from gateway.fields import beyond
from gateway.mailauth.results.ids import Names, bears_name
from gateway.message import Message

FIELD: Final = "Authentication-Results"
MAX_FIELDS: Final = 60
"""Fields that are looked at; of a message with more all go, for no mail server has written them."""


def remove_forged(message: Message, names: Names, *, keep: Collection[int] = ()) -> tuple[list[RemoveHeader], int]:
    """Edits, and how many fields they are about; `keep` has places, counted from the top, of fields that are not forged.

    Where some stand behind what counts as the header section (too many fields, or a line that is none) all go.
    """
    fields = message.fields_named(FIELD)
    behind = beyond(message.content, message.header, FIELD)
    if len(fields) > MAX_FIELDS or behind:
        return [remove_header(FIELD)], len(fields) + len(behind)
    forged = [place for place, field in enumerate(fields) if place not in keep and bears_name(field.raw, names)]
    if forged and len(forged) == len(fields):
        return [remove_header(FIELD)], len(forged)
    return [remove_header(FIELD, place) for place in forged], len(forged)
