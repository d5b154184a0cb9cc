"""Shortcuts: files whose content is to lead elsewhere. Windows .lnk ([MS-SHLLINK]), .url, .library-ms, .settingcontent-ms; .desktop."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from gateway.files.found import Budget, Found, Octets, Sign

_HEAD = 65_536
_URL = re.compile(rb"^\s*(?:URL|Exec|BaseURL)\s*=\s*([^\r\n]{1,4000})", re.MULTILINE | re.IGNORECASE)
_XML = re.compile(rb"<(?:\w{1,20}:)?(?:url|DeepLink)[^>]{0,200}>([^<]{1,4000})<", re.IGNORECASE)
_HAS_IDS, _HAS_INFO, _HAS_NAME, _HAS_PATH, _HAS_DIRECTORY, _HAS_ARGUMENTS, _IS_UNICODE = 1, 2, 4, 8, 16, 32, 128


def text(octets: Octets, budget: Budget) -> Iterator[Found]:
    """The first address or command in a shortcut that is text."""
    del budget
    head = bytes(octets[:_HEAD])
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = head.decode("utf-16", "replace").encode()
    found = _URL.search(head) or _XML.search(head)
    yield Sign(word="shortcut", target=found[1].decode("utf-8", "replace").strip() if found else "")


def link(octets: Octets, budget: Budget) -> Iterator[Found]:
    """The command line of a .lnk file: its path and what it is given."""
    del budget
    yield Sign(word="shortcut", target=" ".join(filter(None, _link(bytes(octets[:_HEAD])))))
    if len(octets) > _HEAD:
        yield Sign(word="appended-data")


def _link(octets: bytes) -> list[str]:
    if len(octets) < 76:
        return []
    flags, at = struct.unpack_from("<L", octets, 20)[0], 76
    path, texts = "", {}
    if flags & _HAS_IDS:  # [MS-SHLLINK] 2.2
        at += 2 + int.from_bytes(octets[at : at + 2], "little")
    if flags & _HAS_INFO:  # 2.3
        size = int.from_bytes(octets[at : at + 4], "little")
        offset = int.from_bytes(octets[at + 16 : at + 20], "little")
        if 28 <= offset < size:
            path = octets[at + offset : at + size].split(b"\0")[0].decode("cp1252", "replace")
        at += max(size, 4)
    width = 2 if flags & _IS_UNICODE else 1
    for bit in (_HAS_NAME, _HAS_PATH, _HAS_DIRECTORY, _HAS_ARGUMENTS):  # 2.4, in this order
        if flags & bit:
            size = int.from_bytes(octets[at : at + 2], "little") * width
            raw = octets[at + 2 : at + 2 + size]
            texts[bit] = raw.decode("utf-16-le" if width == 2 else "cp1252", "replace")
            at += 2 + size
    return [path or texts.get(_HAS_PATH, ""), texts.get(_HAS_ARGUMENTS, "").strip()]
