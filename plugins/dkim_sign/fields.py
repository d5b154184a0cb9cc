"""Which header fields a signature covers: RFC 6376 5.4.1, and against added ones 5.4.2 and 8.15 (oversigning)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gateway import Message

SIGNED = (
    "From", "Sender", "Reply-To", "Subject", "Date", "Message-ID", "To", "Cc", "In-Reply-To", "References",
    "MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Content-ID", "Content-Description", "Auto-Submitted",
    "Resent-Date", "Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc", "Resent-Message-ID",
    "List-Id", "List-Help", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Subscribe", "List-Post", "List-Owner",
    "List-Archive", "Feedback-ID",
)  # fmt: skip
"""Signed where they are there. RFC 8058 4 asks for the List-Unsubscribe ones."""
SEALED = ("From", "Subject", "To", "Cc", "Reply-To", "Content-Type", "Content-Transfer-Encoding")
"""Named once more than they are there, so that none can be added: what a reader is shown, and how the body is read."""
SEALED_IF_PRESENT = (
    "Date", "Message-ID", "Sender", "In-Reply-To", "References", "MIME-Version", "List-Id", "List-Unsubscribe", "List-Unsubscribe-Post",
)  # fmt: skip
"""The same, where there is one: servers on the way add what is missing, and mailing lists theirs."""
NEVER = re.compile(
    r"received|return-path|delivered-to|bcc|resent-bcc|dkim-signature|authentication-results|arc-.*", re.IGNORECASE
)
"""Others add, change or remove them on the way (RFC 6376 5.4)."""
MAX_NAMES = 300
"""Names in h= at most; a message with more fields than that is not signed."""
MAX_OCTETS = 262_144
"""Of all signed fields together at most: they are hashed once for each signature, on the event loop."""
_NAME = re.compile(r"[!-9;-~]{1,76}")


def check_names(names: Iterable[str]) -> None:
    """ValueError for what is no name of a field, or of one that a signature must not cover."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"names of header fields; {name!r} is none")
        if ";" in name:
            raise ValueError(f"names that h= can hold (RFC 6376 3.5); {name!r} has a semicolon")
        if NEVER.fullmatch(name):
            raise ValueError(f"fields that stay as they are on the way; {name!r} does not")


class FieldChoice:
    """The names, ready for any message."""

    def __init__(self, signed: Iterable[str], sealed: Iterable[str], sealed_if_present: Iterable[str]) -> None:
        always = {name.lower() for name in ("From", *sealed)}
        present = {name.lower() for name in sealed_if_present}
        named = ("from", *(name.lower() for name in (*signed, *sealed, *sealed_if_present)))
        self._names = tuple((name, name in always, name in present) for name in dict.fromkeys(named))

    def names(self, message: Message) -> list[bytes]:
        """h= of this message: each name as often as it is there, and once more where none may be added. Empty when it is too much."""
        found: list[bytes] = []
        size = 0
        for name, is_sealed, is_sealed_if_present in self._names:
            fields = message.fields_named(name)
            count = len(fields) + (is_sealed or (is_sealed_if_present and bool(fields)))
            size += sum(field.end - field.start for field in fields)
            if len(found) + count > MAX_NAMES or size > MAX_OCTETS:
                return []
            found += [name.encode("ascii")] * count
        return found
