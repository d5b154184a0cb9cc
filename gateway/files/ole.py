"""Compound files ([MS-CFB]), by olefile: Office before 2007, Outlook messages, installers, and what encrypted Office files lie in."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator

import olefile

from gateway.files.found import Budget, Found, LimitError, MalformedError, Member, Octets, Sign, Trouble
from gateway.files.packages import native
from gateway.files.streams import feed

_ATTACHMENT = re.compile(r"(.*__attach_version1\.0_#[0-9A-Fa-f]{8})/__substg1\.0_37010102")
_NAMES = (("3707001F", "utf-16-le"), ("3707001E", "cp1252"), ("3704001F", "utf-16-le"), ("3704001E", "cp1252"))
_DDE = re.compile(rb"\x13\s{0,20}D\0?D\0?E\0?(?:A\0?U\0?T\0?O\0?)?\s")
_VBA_IN_SLIDES = re.compile(
    rb"\x1f\x00\xff\x03\x14\x00\x00\x00[\x02\x12]\x00\x00\x04\x0c\x00\x00\x00.{4}[^\0]", re.DOTALL
)  # [MS-PPT] 2.4.10, 2.4.11
_STORED_OBJECT = b"\x10\x00\x11\x10"  # [MS-PPT] 2.10.35
_HEAD = 20_000_000
"""Octets of one stream that are searched."""
_MOST_STREAMS = 5_000
_MOST_OBJECTS = 200


def read(octets: Octets, budget: Budget) -> Iterator[Found]:
    """What the names of the streams tell, then what those hold that hold files."""
    with olefile.OleFileIO(io.BytesIO(octets)) as ole:
        paths = ["/".join(path) for path in ole.listdir()[: _MOST_STREAMS + 1]]
        if len(paths) > _MOST_STREAMS:
            yield Trouble("files-count", f"ole: more than {_MOST_STREAMS} streams")
        budget.look()
        yield from _kind(ole, paths)
        for path in paths:
            yield from _stream(ole, path, budget)


def _kind(ole: olefile.OleFileIO, paths: list[str]) -> Iterator[Found]:
    names = {path.rpartition("/")[2] for path in paths}
    top = {path for path in paths if "/" not in path}
    if "__properties_version1.0" in top:
        yield Sign(type="application/vnd.ms-outlook")
    elif "EncryptedPackage" in top or "EncryptionInfo" in top:
        yield Sign(is_encrypted=True, type="application/x-encrypted-office")
    elif "WordDocument" in top:
        yield Sign(type="application/msword", is_encrypted=_flags(ole, "WordDocument") & 0x0100 != 0)  # [MS-DOC] 2.5.2
    elif {"Workbook", "Book"} & top:
        yield Sign(type="application/vnd.ms-excel")
    elif "PowerPoint Document" in top:
        yield Sign(type="application/vnd.ms-powerpoint")
    elif any("\u3800" <= character <= "\u4840" for name in top for character in name):  # names of tables, packed
        yield Sign(type="application/x-msi")
    if "_VBA_PROJECT" in names or any(path.rpartition("/")[0].endswith("VBA") and path.endswith("/dir") for path in paths):
        yield Sign(has_macros=True)


def _flags(ole: olefile.OleFileIO, path: str) -> int:
    with ole.openstream(path) as stream:
        return int.from_bytes(stream.read(12)[10:12], "little")


def _stream(ole: olefile.OleFileIO, path: str, budget: Budget) -> Iterator[Found]:
    name = path.rpartition("/")[2]
    try:
        attached = _ATTACHMENT.fullmatch(path)
        if attached is not None:
            yield Member(names=_attached_names(ole, attached[1]), content=_content(ole, path, budget))
        elif name == "\x01Ole10Native":
            yield Sign(word="embedded-object")
            yield native(bytes(_content(ole, path, budget)))
        elif name in {"Package", "CONTENTS", "EmbeddedOdf"}:
            yield Sign(word="embedded-object")
            yield Member(names=(name,), content=_content(ole, path, budget))
        elif name in {"Workbook", "Book"}:
            yield from _workbook(bytes(_content(ole, path, budget)))
        elif name == "WordDocument":
            if _DDE.search(_content(ole, path, budget)[:_HEAD]):
                yield Sign(word="dde")
        elif name == "PowerPoint Document":
            yield from _slides(bytes(_content(ole, path, budget)), budget)
    except LimitError as error:
        if error.is_final:
            raise
        yield Member(names=(name,), size=ole.get_size(path), trouble=error)
    except (MalformedError, zlib.error) as error:
        yield Trouble("files-malformed", str(error))


def _content(ole: olefile.OleFileIO, path: str, budget: Budget) -> Octets:
    with ole.openstream(path) as stream:
        return budget.take(stream.read())


def _attached_names(ole: olefile.OleFileIO, storage: str) -> tuple[str, ...]:
    """[MS-OXMSG] 2.2.2, [MS-OXCMSG] 2.2.2: the long name, then the short one."""
    found = []
    for tag, charset in _NAMES:
        path = f"{storage}/__substg1.0_{tag}"
        if ole.exists(path) and ole.get_size(path) < 4_000:
            with ole.openstream(path) as stream:
                found.append(stream.read().decode(charset, "replace").rstrip("\0"))
    return tuple(dict.fromkeys(filter(None, found)))


def _workbook(octets: bytes) -> Iterator[Found]:
    """The records of the globals ([MS-XLS] 2.1.7.20.3): a password, and sheets of Excel 4.0 macros."""
    at = 0
    for _ in range(20_000):
        if at + 4 > len(octets):
            return
        kind, size = int.from_bytes(octets[at : at + 2], "little"), int.from_bytes(octets[at + 2 : at + 4], "little")
        if kind == 0x2F:  # FilePass
            yield Sign(is_encrypted=True)
        elif kind == 0x85 and octets[at + 9 : at + 10] == b"\x01":  # BoundSheet8: a macro sheet
            yield Sign(word="excel4-macros", has_macros=True)
        elif kind == 0x0A:  # EOF
            return
        at += 4 + size


def _slides(octets: bytes, budget: Budget) -> Iterator[Found]:
    """Macros, and compressed storages of objects."""
    if _VBA_IN_SLIDES.search(octets):
        yield Sign(has_macros=True)
    at = octets.find(_STORED_OBJECT)
    for _ in range(_MOST_OBJECTS):
        if at < 0:
            return
        size = int.from_bytes(octets[at + 4 : at + 8], "little")
        end = at + 8 + size
        if 8 < size <= len(octets) - at - 8:
            try:
                content = budget.collect(feed(zlib.decompressobj(), memoryview(octets)[at + 12 : end]), size)
                yield Sign(word="embedded-object")
                yield Member(names=("object",), content=content)
            except (zlib.error, MalformedError):
                end = at + 4
        else:
            end = at + 4
        at = octets.find(_STORED_OBJECT, end)
