"""Cabinets ([MS-CAB]): stored and MSZIP folders; Quantum and LZX are only listed."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.files.found import Budget, Found, LimitError, MalformedError, Member, Octets, Trouble

_METHODS = {0: "stored", 1: "MSZIP", 2: "Quantum", 3: "LZX"}
_WINDOW = 32_768


@dataclass(frozen=True, slots=True, kw_only=True)
class _Folder:
    at: int
    blocks: int
    method: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    names: tuple[str, ...]
    size: int
    start: int
    folder: int


def read(octets: Octets, budget: Budget) -> Iterator[Found]:
    """Folder by folder: files of one are behind one another in its stream."""
    folders, files, reserve = _directory(bytes(octets), budget)
    for number, folder in enumerate(folders):
        inside = sorted((one for one in files if one.folder == number), key=lambda one: one.start)
        if folder.method not in {0, 1}:
            yield Trouble("files-unsupported", f"cab: the method {_METHODS.get(folder.method, folder.method)}")
            for one in inside:
                yield Member(names=one.names, size=one.size)
            continue
        yield from _unpacked(octets, folder, reserve, inside, budget)
    for one in files:
        if one.folder >= len(folders):  # it goes on in another cabinet
            yield Member(names=one.names, size=one.size, trouble=LimitError("files-unsupported", "cab: part of a set"))


def _unpacked(octets: Octets, folder: _Folder, reserve: int, files: list[_File], budget: Budget) -> Iterator[Found]:
    packed = max(1, len(octets) - folder.at)
    problem: LimitError | None = None
    stream: bytes | bytearray = b""
    try:
        stream = budget.collect(_blocks(octets, folder, reserve), packed)
    except LimitError as error:
        if error.is_final:
            raise
        problem = error
    except (MalformedError, zlib.error, struct.error) as error:
        problem = LimitError("files-malformed", f"cab: {error}")
    for one in files:
        if problem is None and one.start + one.size > len(stream):
            problem = LimitError("files-malformed", "cab: a file is longer than its folder")
        if problem is not None:
            yield Member(names=one.names, size=one.size, trouble=problem)
        else:
            yield Member(names=one.names, content=bytes(stream[one.start : one.start + one.size]))


def _directory(octets: bytes, budget: Budget) -> tuple[list[_Folder], list[_File], int]:
    """[MS-CAB] 2.1 to 2.3; the reserve of each block beside it."""
    first, count_folders, count_files, flags = struct.unpack_from("<L4xxx2HH", octets, 16)[:4]
    at, folder_reserve, block_reserve = 36, 0, 0
    if flags & 4:
        header_reserve, folder_reserve, block_reserve = struct.unpack_from("<HBB", octets, at)
        at += 4 + header_reserve
    for bit in (1, 2):
        if flags & bit:  # the cabinets before and after: a file name and a disk
            for _ in range(2):
                at = octets.index(b"\0", at) + 1
    folders = []
    for _ in range(count_folders):
        start, blocks, method = struct.unpack_from("<LHH", octets, at)
        folders.append(_Folder(at=start, blocks=blocks, method=method & 0xF))
        at += 8 + folder_reserve
    files = []
    at = first
    for _ in range(min(count_files, budget.bounds.count + 1)):
        size, start, folder, attributes = struct.unpack_from("<LLH4xH", octets, at)
        end = octets.index(b"\0", at + 16, at + 16 + 1_024)
        raw = octets[at + 16 : end]
        name = raw.decode("utf-8" if attributes & 0x80 else "cp1252", "replace")
        files.append(_File(names=(name.replace("\\", "/"),), size=size, start=start, folder=folder))
        at = end + 1
    return folders, files, block_reserve


def _blocks(octets: Octets, folder: _Folder, reserve: int) -> Iterator[bytes]:
    """[MS-CAB] 2.4; MSZIP remembers the block in front."""
    at, before = folder.at, b""
    for _ in range(folder.blocks):
        _, packed, _ = struct.unpack_from("<LHH", octets, at)
        at += 8 + reserve
        data = bytes(octets[at : at + packed])
        at += packed
        if folder.method == 1:
            if data[:2] != b"CK":
                raise MalformedError("a block of MSZIP without its mark")
            unpacked = zlib.decompressobj(-15, zdict=before) if before else zlib.decompressobj(-15)
            data = unpacked.decompress(data[2:], _WINDOW + 1)
            before = data[-_WINDOW:]
        yield data
