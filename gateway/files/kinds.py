"""The media type of a file, closer than its first octets alone tell: `gateway.filetype` first, then what needs more of it."""

from __future__ import annotations

from gateway.files.found import Octets
from gateway.filetype import detect

_HEAD = 4_096
_ISO_AT = 32_769


def closer_type(content: Octets, names: tuple[str, ...]) -> str:
    """The type, or `` for what is in no table. By the name only where the content fits it."""
    head = bytes(content[:_HEAD])
    found = detect(head)
    if found:
        return found
    if content[_ISO_AT : _ISO_AT + 5] in (b"CD001", b"BEA01"):
        return "application/x-iso9660-image"
    if head.startswith(b"\x78\x9f\x3e\x22"):
        return "application/vnd.ms-tnef"
    del names
    return ""
