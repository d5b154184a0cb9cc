"""What a signature leaves open: fields that are not signed, or occur more often than signed (RFC 6376 5.4.2, 8.15), and the body behind l=."""

from __future__ import annotations

from dataclasses import dataclass

from gateway import Message

# RFC 5322 3.6: at most one each; RFC 2045 3 for those of MIME. What a reader is shown, or what decides how the body is read.
SINGLE = (
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "date",
    "subject",
    "message-id",
    "in-reply-to",
    "references",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
)
_OCTETS = {name: name.encode() for name in SINGLE}
_ORDER = {name: place for place, name in enumerate(SINGLE)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Of one signature, on the message as it is."""

    unsigned: tuple[str, ...]
    """Fields that are there and that h= does not name."""
    added: tuple[tuple[str, int, int], ...]
    """Fields that occur more often than h= names them: name, how often it occurs, how often it is signed."""
    is_from_sealed: bool
    """h= names From more often than it occurs: one that is added breaks the signature by itself."""

    def __repr__(self) -> str:
        """As a dataclass has it, at once: it is in the trace of every signed message."""
        return f"Coverage(unsigned={self.unsigned!r}, added={self.added!r}, is_from_sealed={self.is_from_sealed!r})"


def occurrences(message: Message) -> dict[str, int]:
    """How often each of those fields is there, in their order; absent ones are left out."""
    names = [field.name.lower() for field in message.fields]
    return {name: names.count(name) for name in sorted(_ORDER.keys() & names, key=_ORDER.__getitem__)}


def covered(occurs: dict[str, int], headers: tuple[bytes, ...]) -> Coverage:
    """Compare what is there with h=."""
    unsigned, added = [], []
    for name, count in occurs.items():
        octets = _OCTETS[name]
        if octets not in headers:
            unsigned.append(name)
        elif count > 1 and count > headers.count(octets):
            added.append((name, count, headers.count(octets)))
    sealed = headers.count(b"from") > occurs.get("from", 0)
    return Coverage(unsigned=tuple(unsigned), added=tuple(added), is_from_sealed=sealed)


def shown(name: str) -> str:
    """A field name as people write it."""
    return (
        "MIME-Version"
        if name == "mime-version"
        else "-".join(part.capitalize() for part in name.split("-")).replace("-Id", "-ID")
    )
