"""The media type of a file, closer than its first octets alone tell: `gateway.filetype` first, then what needs more of it."""

from __future__ import annotations

from gateway.files.found import Octets
from gateway.filetype import DEEP, type_of

_NUMBER = frozenset(b"01234567 \0")
_BYTE_ORDER = b"\xef\xbb\xbf"


def closer_type(content: Octets, names: tuple[str, ...]) -> str:
    """The type, or `` for what is in no table. By the name only where the content fits it."""
    head = bytes(content[:DEEP])
    found = type_of(head)
    if found == "text/xml" or not found:
        return _text_type(head[:4_096].removeprefix(_BYTE_ORDER).lstrip(), found) or (
            "application/x-tar" if _is_tar(head) else found
        )
    if found == "text/html" and any(name.lower().endswith(".hta") for name in names):
        return "application/hta"
    return found


def _text_type(head: bytes, found: str) -> str:
    """What the desktops of Windows and others follow (shortcuts)."""
    if found == "text/xml" or head.startswith(b"<"):
        for mark, name in (
            (b"<libraryDescription", "application/windows-library+xml"),
            (b"<searchConnectorDescription", "application/windows-search-connector+xml"),
            (b"<PCSettings", "application/windows-settings+xml"),
        ):
            if mark in head:
                return name
    if head[:20].lower().startswith(b"[internetshortcut"):
        return "application/x-mswinurl"
    return "application/x-desktop" if head.startswith(b"[Desktop Entry]") else ""


def _is_tar(head: bytes) -> bool:
    """A tar older than its magic number: the sum of its first header is right."""
    field = head[148:156]
    if len(head) < 512 or not field.strip(b" \0") or not _NUMBER.issuperset(field):
        return False
    return sum(head[:148]) + sum(head[156:512]) + 8 * 32 == int(field.split(b"\0")[0].strip() or b"0", 8)
