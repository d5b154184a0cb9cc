"""The header hash over a message's fields: RFC 6376 3.7 and 5.4.2, which ARC (RFC 8617 4.1) shares."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from gateway.fields import HeaderField
from gateway.mailauth.canonical import LF, TAB, relaxed_field
from gateway.mailauth.tags import without_value
from gateway.message import Message


def select_fields(message: Message, names: Iterable[bytes], *, own: HeaderField | None = None) -> list[HeaderField]:
    """The fields that `h=` names, in its order: from the bottom up, each once (RFC 6376 5.4.2). A name without a field is left out.

    `own` is the signature's own field: other signatures may be signed, it itself cannot be (RFC 6376 3.5, h=).
    """
    left: dict[bytes, list[HeaderField]] = {}
    chosen: list[HeaderField] = []
    for name in names:
        if name in left:
            fields = left[name]
        else:
            fields = left[name] = list(message.fields_named(name.decode("latin-1")))
            if own is not None and own in fields:
                fields.remove(own)
        if fields:
            chosen.append(fields.pop())
    return chosen


def canonical_field(field: HeaderField, *, is_relaxed: bool) -> bytes:
    """RFC 6376 3.4.1 and 3.4.2, with its CRLF."""
    if is_relaxed:
        value = field.raw
        if LF in value or TAB in value or value.find(b"  ") >= 0:
            return relaxed_field(field.name.encode(), value)
        return b"%b:%b\r\n" % (field.name.lower().encode(), value.strip(b" "))
    octets = field.octets
    return octets if octets.endswith(b"\n") else octets + b"\r\n"


def own_field(octets: bytes, *, is_relaxed: bool) -> bytes:
    """The signature's own field as it is hashed: b= without its value, without the CRLF at the end (RFC 6376 3.7).

    `octets` is the whole field: name, colon, body; its line end may be missing.
    """
    name, _, body = octets.partition(b":")
    body = without_value(body.removesuffix(b"\n").removesuffix(b"\r"))
    if is_relaxed:
        return relaxed_field(name, body).removesuffix(b"\r\n")
    return name + b":" + body


def header_hash(fields: Sequence[HeaderField], own: bytes, *, is_relaxed: bool) -> bytes:
    """SHA-256 of the chosen fields and of the signature's own field (octets, as in `own_field`)."""
    pieces = [canonical_field(field, is_relaxed=is_relaxed) for field in fields]
    pieces.append(own_field(own, is_relaxed=is_relaxed))
    return hashlib.sha256(b"".join(pieces)).digest()
