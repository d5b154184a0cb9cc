"""Zip archives (APPNOTE 6.3.10), read with care: by the central directory, against the local headers, and around both.

What one archiver shows and another does not is what malware hides behind. So members that the directory does not list are
found too, both names are kept where the two headers differ, and members that overlap are listed and not unpacked.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.files.found import PIECE, Budget, Found, LimitError, MalformedError, Member, Octets, Sign, Trouble
from gateway.files.streams import WINDOW, XZ_MEMORY, Decompressor, feed, zstd

_LOCAL = struct.Struct("<4s5H3L2H")  # APPNOTE 4.3.7
_CENTRAL = struct.Struct("<4s6H3L5H2L")  # APPNOTE 4.3.12
_END = struct.Struct("<4s4H2LH")  # APPNOTE 4.3.16
_LOCAL_MARK, _CENTRAL_MARK, _END_MARK, _END64_MARK, _LOCATOR_MARK = (
    b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
)  # fmt: skip
_WIDE = 0xFFFFFFFF
_ENCRYPTED, _DESCRIPTOR, _UTF8, _STRONG, _HIDDEN = 0x1, 0x8, 0x800, 0x40, 0x2000
_AES = 99
_METHODS = {0: "stored", 8: "deflate", 9: "deflate64", 12: "bzip2", 14: "lzma", 20: "zstd", 93: "zstd", 95: "xz", _AES: "AES"}
_UNLISTED = 100
"""Members outside of the central directory that are looked for."""
_MOST_MARKS = 20_000
"""Places that begin like one."""
_NEWEST = 63
"""Version that is needed to extract, the largest there is (APPNOTE 4.4.3)."""


@dataclass(slots=True, kw_only=True)
class _Entry:
    """One member, by its central header, its local one, or both."""

    at: int
    """Of the local header."""
    names: tuple[str, ...]
    flags: int
    method: int
    packed: int
    size: int
    is_listed: bool = True
    data: int = 0
    """Where its content begins."""
    is_directory: bool = False
    differs: bool = False

    @property
    def end(self) -> int:
        return self.data + self.packed

    @property
    def is_encrypted(self) -> bool:
        return bool(self.flags & (_ENCRYPTED | _STRONG | _HIDDEN)) or self.method == _AES


def read(octets: Octets, budget: Budget) -> Iterator[Found]:
    """Members in the order of the central directory, then those that it does not list."""
    directory = _directory(octets)
    entries: list[_Entry] = []
    if directory is None:
        yield Trouble("files-malformed", "zip: no central directory")
    else:
        start, offset, count = directory
        most = budget.bounds.count + 1 - min(budget.count, budget.bounds.count)
        for entry in _listed(octets, start, offset, most):
            if isinstance(entry, str):
                yield Trouble("files-malformed", f"zip: {entry}")
                break
            entries.append(entry)
        if len(entries) < most and count not in (len(entries), len(entries) & 0xFFFF):
            yield Trouble("files-mismatch", f"zip: {count} members announced, {len(entries)} listed")
    overlapping = _overlapping(entries)
    if overlapping:
        yield Trouble("files-overlap", f"zip: {len(overlapping)} members lie within others")
    for entry in entries:
        yield from _member(octets, entry, budget, is_overlapping=id(entry) in overlapping)
    for entry in _unlisted(octets, entries, budget):
        yield Sign(word="unlisted-member")
        yield from _member(octets, entry, budget, is_overlapping=False)


def _directory(octets: Octets) -> tuple[int, int, int] | None:
    """Where the central directory begins, what its offsets are counted from, and how many members it announces."""
    at = octets.rfind(_END_MARK, max(0, len(octets) - 65_557 - 1_024))
    if at < 0 or at + _END.size > len(octets):
        at = octets.rfind(_END_MARK)
        if at < 0 or at + _END.size > len(octets):
            return None
    _, _, _, _, count, size, offset, _ = _END.unpack_from(octets, at)
    end = at
    if at >= 20 and octets[at - 20 : at - 16] == _LOCATOR_MARK:  # APPNOTE 4.3.15
        wide = octets.rfind(_END64_MARK, max(0, at - 20 - 65_536), at)
        if wide >= 0 and wide + 56 <= len(octets):
            count, size, offset = struct.unpack_from("<3Q", octets, wide + 32)
            end = wide
    start = end - size
    if start < 0 or (octets[start : start + 4] not in (_CENTRAL_MARK, b"") and count):
        start = offset  # the sizes lie: believe the offset
        if octets[start : start + 4] != _CENTRAL_MARK:
            start = octets.find(_CENTRAL_MARK)
            return None if start < 0 else (start, 0, count)
        return start, 0, count
    return start, start - offset, count


def _listed(octets: Octets, at: int, shift: int, most: int) -> Iterator[_Entry | str]:
    """The members of the central directory, `most` of them; a word about it where it ends early."""
    for _ in range(most):
        if octets[at : at + 4] != _CENTRAL_MARK:
            return
        if at + _CENTRAL.size > len(octets):
            yield "the central directory is cut off"
            return
        head = _CENTRAL.unpack_from(octets, at)
        _, _, _, flags, method, _, _, _, packed, size, name_size, extra_size, comment_size, _, _, attributes, offset = head[:17]
        front = at + _CENTRAL.size
        raw = bytes(octets[front : front + name_size])
        extra = bytes(octets[front + name_size : front + name_size + extra_size])
        size, packed, offset = _wide(extra, size, packed, offset)
        at = front + name_size + extra_size + comment_size
        entry = _Entry(at=offset + shift, names=_names(raw, flags, extra), flags=flags, method=method, packed=packed, size=size)
        entry.is_directory = (raw.endswith((b"/", b"\\")) and size == 0) or bool(attributes & 0x10 and size == 0)
        problem = _join_local(octets, entry)
        if problem:
            yield problem
            return
        yield entry


def _wide(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Zip64 (APPNOTE 4.5.3): the values whose place in the header is full, in this order."""
    field = _extra(extra, 0x0001)
    values = [int.from_bytes(field[n : n + 8], "little") for n in range(0, len(field) - 7, 8)]
    values.reverse()
    size = values.pop() if size == _WIDE and values else size
    packed = values.pop() if packed == _WIDE and values else packed
    offset = values.pop() if offset == _WIDE and values else offset
    return size, packed, offset


def _extra(extra: bytes, wanted: int) -> bytes:
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == wanted:
            return extra[at + 4 : at + 4 + size]
        at += 4 + size
    return b""


def _names(raw: bytes, flags: int, extra: bytes) -> tuple[str, ...]:
    """Every reading of a name: the Unicode path (Info-ZIP 0x7075), UTF-8, code page 437, and what Windows makes of it."""
    names: list[str] = []
    unicode_path = _extra(extra, 0x7075)  # APPNOTE 4.6.9
    if len(unicode_path) > 5 and int.from_bytes(unicode_path[1:5], "little") == zlib.crc32(raw):
        names.append(unicode_path[5:].decode("utf-8", "replace"))
    if raw.isascii():
        names.append(raw.decode("ascii"))
    else:
        as_utf8 = _decoded(raw, "utf-8")
        readings = [as_utf8, raw.decode("cp437"), raw.decode("cp1252", "replace")]
        names.extend(one for one in readings if one)
    # What stands behind a NUL is not shown by all.
    cut = [name.split("\0")[0] for name in names if "\0" in name]
    del flags
    return tuple(dict.fromkeys(cut + names))


def _decoded(raw: bytes, charset: str) -> str:
    try:
        return raw.decode(charset)
    except UnicodeDecodeError:
        return ""


def _join_local(octets: Octets, entry: _Entry) -> str:
    """Find the content behind the local header, and note where the two headers disagree. What is wrong, or ``."""
    if not 0 <= entry.at <= len(octets) - _LOCAL.size or octets[entry.at : entry.at + 4] != _LOCAL_MARK:
        return "a member without local header"
    _, _, flags, method, _, _, _, packed, size, name_size, extra_size = _LOCAL.unpack_from(octets, entry.at)
    front = entry.at + _LOCAL.size
    raw = bytes(octets[front : front + name_size])
    extra = bytes(octets[front + name_size : front + name_size + extra_size])
    entry.data = front + name_size + extra_size
    local = _names(raw, flags, extra)
    size, packed, _ = _wide(extra, size, packed, 0)
    if not set(local) & set(entry.names) or method != entry.method or (flags ^ entry.flags) & _ENCRYPTED:
        entry.differs = True
    if not flags & _DESCRIPTOR and (packed, size) != (entry.packed, entry.size):
        entry.differs = True
    entry.names = tuple(dict.fromkeys(entry.names + local))
    return ""


def _overlapping(entries: list[_Entry]) -> set[int]:
    """Members whose octets begin before those of the one in front end (D. Fifield, "A better zip bomb")."""
    found: set[int] = set()
    end = 0
    for entry in sorted(entries, key=lambda one: (one.at, one.data)):
        if entry.at < end:
            found.add(id(entry))
        end = max(end, entry.end)
    return found


def _unlisted(octets: Octets, entries: list[_Entry], budget: Budget) -> Iterator[_Entry]:
    """Members with a local header outside of all that is listed: another archiver may go by these."""
    spans = sorted((entry.at, entry.end) for entry in entries)
    count, at, number = 0, 0, 0
    for _ in range(_MOST_MARKS):
        at = octets.find(_LOCAL_MARK, at)
        if at < 0 or count >= _UNLISTED or at + _LOCAL.size > len(octets):
            return
        while number < len(spans) and spans[number][1] <= at:
            number += 1
        if number < len(spans) and spans[number][0] <= at:
            at = max(spans[number][1], at + 1)
            continue
        budget.look()
        _, version, flags, method, _, _, _, packed, size, name_size, extra_size = _LOCAL.unpack_from(octets, at)
        front = at + _LOCAL.size
        if version & 0xFF > _NEWEST or method not in _METHODS or not name_size or name_size > 4_096:
            at += 4
            continue
        extra = bytes(octets[front + name_size : front + name_size + extra_size])
        size, packed, _ = _wide(extra, size, packed, 0)
        entry = _Entry(
            at=at, names=_names(bytes(octets[front : front + name_size]), flags, extra), flags=flags, method=method,
            packed=packed, size=size, is_listed=False, data=front + name_size + extra_size,
        )  # fmt: skip
        if flags & _DESCRIPTOR and not packed:
            entry.packed = len(octets) - entry.data  # the stream says where it ends
        count += 1
        yield entry
        at = entry.end if entry.data < entry.end < len(octets) else entry.data


def _member(octets: Octets, entry: _Entry, budget: Budget, *, is_overlapping: bool) -> Iterator[Found]:
    if entry.is_directory:
        return
    signs = tuple(word for word, holds in (("differing-headers", entry.differs), ("unlisted", not entry.is_listed)) if holds)
    listed = Member(names=entry.names, size=entry.size, is_encrypted=entry.is_encrypted, signs=signs)
    if entry.differs:
        yield Trouble("files-mismatch", f"zip: the headers of {entry.names[:1]} differ")
    if entry.is_encrypted or is_overlapping:
        yield listed
        return
    try:
        content = budget.collect(_unpacked(octets, entry), max(1, min(entry.packed, len(octets) - entry.data)))
    except LimitError as error:
        yield Member(names=entry.names, size=entry.size, signs=signs, trouble=error)
        if error.is_final:
            raise
        return
    except (zlib.error, lzma.LZMAError, MalformedError, OSError, EOFError, ValueError) as error:
        trouble = LimitError("files-malformed", f"zip: {error}")
        yield Member(names=entry.names, size=entry.size, signs=signs, trouble=trouble)
        return
    if len(content) != entry.size and entry.is_listed:
        yield Trouble("files-mismatch", f"zip: {entry.size:,} octets announced for {entry.names[:1]}, {len(content):,} there")
    yield Member(names=entry.names, content=content, signs=signs)


def _unpacked(octets: Octets, entry: _Entry) -> Iterator[Octets]:
    view = memoryview(octets)[entry.data : max(entry.data, min(entry.end, len(octets)))]
    decompressor: Decompressor
    match entry.method:
        case 0:
            for at in range(0, len(view), PIECE):
                yield bytes(view[at : at + PIECE])
            return
        case 8:
            decompressor = zlib.decompressobj(-15)
        case 12:
            decompressor = bz2.BZ2Decompressor()
        case 14:
            decompressor, view = _lzma(view)
        case 20 | 93:
            decompressor = zstd()
        case 95:
            decompressor = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
        case method:
            raise LimitError("files-unsupported", f"zip: the method {_METHODS.get(method, method)}")
    yield from feed(decompressor, view)


def _lzma(view: memoryview) -> tuple[lzma.LZMADecompressor, memoryview]:
    """APPNOTE 5.8.8: two octets of version, two of size, then five of properties."""
    if len(view) < 9 or int.from_bytes(view[2:4], "little") != 5:
        raise MalformedError("lzma properties")
    return raw_lzma1(bytes(view[4:9])), view[9:]


def raw_lzma1(properties: bytes) -> lzma.LZMADecompressor:
    """A decompressor for the five octets of properties of LZMA 1. MalformedError."""
    first, size = properties[0], int.from_bytes(properties[1:5], "little")
    if first >= 225 or size > WINDOW:
        raise MalformedError("lzma properties, or a dictionary of more than 64 MB")
    lc, rest = first % 9, first // 9
    chain = {"id": lzma.FILTER_LZMA1, "dict_size": max(size, 4096), "lc": lc, "lp": rest % 5, "pb": rest // 5}
    return lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=[chain])
