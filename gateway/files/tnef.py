"""TNEF, the winmail.dat of Outlook ([MS-OXTNEF]): attachments by their attributes and by the MAPI properties within."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.files.found import Budget, Found, MalformedError, Member, Octets, Trouble

_RENDERING, _TITLE, _DATA, _PROPERTIES, _MESSAGE_PROPERTIES = 0x9002, 0x8010, 0x800F, 0x9005, 0x9003
_FIXED = {0x02: 4, 0x03: 4, 0x04: 4, 0x05: 8, 0x06: 8, 0x07: 8, 0x0A: 4, 0x0B: 4, 0x14: 8, 0x40: 8, 0x48: 16}
_STRING, _UNICODE, _OBJECT, _BINARY = 0x1E, 0x1F, 0x0D, 0x102
_LONG_NAME, _NAME, _CONTENT = 0x3707, 0x3704, 0x3701
_MOST_VALUES = 100_000


@dataclass(slots=True)
class _Attachment:
    names: list[str] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)

    def members(self) -> Iterator[Member]:
        names = tuple(dict.fromkeys(filter(None, self.names)))
        for content in dict.fromkeys(self.contents):
            yield Member(names=names, content=content)


def read(octets: Octets, budget: Budget) -> Iterator[Found]:
    """Each attachment with each of its names; content that two attributes give differently is two members."""
    attachment = _Attachment()
    at = 6
    while at + 9 <= len(octets):
        budget.look()
        kind = int.from_bytes(octets[at + 1 : at + 3], "little")
        size = int.from_bytes(octets[at + 5 : at + 9], "little")
        data = bytes(octets[at + 9 : at + 9 + size])
        at += 9 + size + 2
        if kind == _RENDERING:
            yield from attachment.members()
            attachment = _Attachment()
        elif kind == _TITLE:
            attachment.names.append(_text(data, "cp1252"))
        elif kind == _DATA:
            attachment.contents.append(bytes(budget.take(data)))
        elif kind in {_PROPERTIES, _MESSAGE_PROPERTIES}:
            try:
                _properties(data, attachment)
            except (MalformedError, struct.error) as error:
                yield Trouble("files-malformed", f"tnef: {error}")
        if len(data) < size:
            yield Trouble("files-malformed", "tnef: cut off")
    yield from attachment.members()


def _text(data: bytes, charset: str) -> str:
    return data.decode(charset, "replace").split("\0")[0]


def _properties(data: bytes, attachment: _Attachment) -> None:
    """[MS-OXTNEF] 2.1.3.4: names and content of an attachment. MalformedError."""
    at = 4
    for _ in range(min(int.from_bytes(data[:4], "little"), _MOST_VALUES)):
        kind, number = struct.unpack_from("<2H", data, at)
        at += 4
        if number >= 0x8000:
            at = _after_name(data, at)
        values, at = _values(data, at, kind)
        for value in values:
            if number == _LONG_NAME:
                attachment.names.insert(0, _text(value, "utf-16-le" if kind & 0xFFF == _UNICODE else "cp1252"))
            elif number == _NAME:
                attachment.names.append(_text(value, "utf-16-le" if kind & 0xFFF == _UNICODE else "cp1252"))
            elif number == _CONTENT and kind & 0xFFF in {_OBJECT, _BINARY}:
                attachment.contents.append(value[16:] if kind == _OBJECT else value)


def _after_name(data: bytes, at: int) -> int:
    """A property with a name of its own: a GUID, then a number or a text."""
    (kind,) = struct.unpack_from("<L", data, at + 16)
    at += 20
    if kind == 0:
        return at + 4
    (size,) = struct.unpack_from("<L", data, at)
    return at + 4 + _padded(size)


def _values(data: bytes, at: int, kind: int) -> tuple[list[bytes], int]:
    """The values of one property, and where they end."""
    plain = kind & 0xFFF
    count = 1
    if kind & 0x1000 or plain in {_STRING, _UNICODE, _OBJECT, _BINARY}:
        (count,) = struct.unpack_from("<L", data, at)
        at += 4
    values = []
    for _ in range(min(count, _MOST_VALUES)):
        if at >= len(data):
            raise MalformedError("properties are cut off")
        if plain in {_STRING, _UNICODE, _OBJECT, _BINARY}:
            (size,) = struct.unpack_from("<L", data, at)
            values.append(data[at + 4 : at + 4 + size])
            at += 4 + _padded(size)
        elif plain in _FIXED:
            at += _FIXED[plain]
        else:
            raise MalformedError(f"a property of the type {plain}")
    return values, at


def _padded(size: int) -> int:
    return (size + 3) // 4 * 4
