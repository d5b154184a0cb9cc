"""7z archives, by their headers and the standard library's decompressors: LZMA, LZMA2, BCJ, delta, deflate, bzip2; zstd with the extra.

What is packed otherwise (PPMd, BCJ2) is listed. The headers may be packed themselves, and encrypted, names and all.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.files.found import PIECE, Budget, Found, LimitError, MalformedError, Member, Octets, Sign
from gateway.files.streams import WINDOW, Decompressor, zstd
from gateway.files.zipped import raw_lzma1

_END, _HEADER, _ADDITIONAL, _MAIN, _FILES, _PACK, _UNPACK, _SUB, _SIZE, _CRC, _FOLDER, _CODER_SIZES, _STREAMS = (
    0x00, 0x01, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D
)  # fmt: skip
_EMPTY, _NAMES, _ENCODED = 0x0E, 0x11, 0x17
_MOST_CODERS = 8
_COPY, _LZMA1, _LZMA2, _DELTA, _DEFLATE, _BZIP2, _ZSTD, _AES = (
    b"\0", b"\3\1\1", b"\x21", b"\3", b"\4\1\x08", b"\4\2\2", b"\4\xf7\x11\1", b"\6\xf1\7\1"
)  # fmt: skip
_BRANCHES = {
    b"\3\3\1\3": lzma.FILTER_X86, b"\3\3\2\5": lzma.FILTER_POWERPC, b"\3\3\4\1": lzma.FILTER_IA64,
    b"\3\3\5\1": lzma.FILTER_ARM, b"\3\3\7\1": lzma.FILTER_ARMTHUMB, b"\3\3\x08\5": lzma.FILTER_SPARC,
    b"\4": lzma.FILTER_X86, b"\5": lzma.FILTER_POWERPC, b"\6": lzma.FILTER_IA64, b"\7": lzma.FILTER_ARM,
    b"\x08": lzma.FILTER_ARMTHUMB, b"\x09": lzma.FILTER_SPARC,
}  # fmt: skip


@dataclass(slots=True)
class _Coder:
    method: bytes
    properties: bytes
    size: int = 0
    """Octets that come out of it."""


@dataclass(slots=True)
class _Folder:
    """A stream: its coders from the packed octets on."""

    coders: list[_Coder]
    order: list[int] | None
    """Of the coders, the packed one first; None where they are no chain."""
    packed_streams: int
    start: int = 0
    packed: int = 0
    has_digest: bool = False
    last: int = 0
    """The coder whose output is the folder's."""
    sizes: list[int] = field(default_factory=list)
    """Of the files in it."""

    @property
    def is_encrypted(self) -> bool:
        return any(coder.method == _AES for coder in self.coders)

    @property
    def size(self) -> int:
        return self.coders[self.last].size


class _Reader:
    """The numbers of a header. IndexError, struct.error where it ends: the octets are malformed."""

    def __init__(self, octets: bytes, most: int) -> None:
        self.octets = octets
        self.at = 0
        self.most = most

    def byte(self) -> int:
        self.at += 1
        return self.octets[self.at - 1]

    def take(self, size: int) -> bytes:
        if size > len(self.octets) - self.at:
            raise MalformedError("7z: the header is cut off")
        self.at += size
        return self.octets[self.at - size : self.at]

    def number(self) -> int:
        first = self.byte()
        mask = 0x80
        value = 0
        for n in range(8):
            if not first & mask:
                return value | ((first & (mask - 1)) << (8 * n))
            value |= self.byte() << (8 * n)
            mask >>= 1
        return value

    def count(self) -> int:
        """How many of something: more than there are octets, or than may be, is malformed."""
        value = self.number()
        if value > self.most:
            raise MalformedError(f"7z: {value} of something")
        return value

    def bits(self, count: int) -> list[bool]:
        octets = self.take((count + 7) // 8)
        return [bool(octets[n // 8] & (0x80 >> n % 8)) for n in range(count)]

    def digests(self, count: int) -> list[bool]:
        known = [True] * count if self.byte() else self.bits(count)
        self.take(4 * sum(known))
        return known


def read(octets: Octets, budget: Budget) -> Iterator[Found]:
    """Folder by folder, each unpacked once from its beginning."""
    offset, size = struct.unpack_from("<2Q", octets, 12)
    if size == 0:
        return
    if 32 + offset + size > len(octets):
        raise MalformedError("7z: cut off")
    header = bytes(octets[32 + offset : 32 + offset + size])
    for _ in range(4):
        reader = _Reader(header, 10 * budget.bounds.count + 100_000)
        kind = reader.byte()
        if kind != _ENCODED:
            break
        [folder] = _folders(reader)
        if folder.is_encrypted:
            yield Sign(word="hidden-names", is_encrypted=True)
            return
        header = bytes(budget.collect(_folder(octets, folder, budget), max(1, folder.packed)))
    else:
        raise MalformedError("7z: headers within headers")
    if kind != _HEADER:
        raise MalformedError("7z: no header")
    yield from _members(octets, reader, budget)


def _members(octets: Octets, reader: _Reader, budget: Budget) -> Iterator[Found]:
    folders: list[_Folder] = []
    names: list[str] = []
    empty: list[bool] = []
    while (kind := reader.byte()) != _END:
        if kind == _MAIN:
            folders = _folders(reader)
        elif kind == _FILES:
            names, empty = _files(reader)
        elif kind == _ADDITIONAL:
            _folders(reader)
        else:
            while (size := reader.number()) != _END:  # archive properties
                reader.take(reader.number() if size else 0)
    filled = iter([name for name, is_empty in zip(names, empty, strict=True) if not is_empty])
    for folder in folders:
        yield from _files_of(octets, folder, filled, budget)
    for name, is_empty in zip(names, empty, strict=True):
        if is_empty and not name.endswith("/"):
            yield Member(names=(name,), content=b"")


def _files_of(octets: Octets, folder: _Folder, names: Iterator[str], budget: Budget) -> Iterator[Found]:
    """The files of one folder, whose sizes say where each ends."""
    pieces = _Pieces(_folder(octets, folder, budget))
    problem: LimitError | None = None
    is_told = False
    for size in folder.sizes:
        name = next(names, "")
        if folder.is_encrypted:
            yield Member(names=(name,), size=size, is_encrypted=True)
            continue
        content: bytearray | None = None
        if problem is None:
            try:
                content = budget.collect(pieces.take(size), max(1, folder.packed))
            except LimitError as error:
                if error.is_final:
                    raise
                problem = error
            except (MalformedError, lzma.LZMAError, zlib.error, OSError, EOFError, ValueError) as error:
                problem = LimitError("files-malformed", f"7z: {error}")
        if content is None:
            yield Member(names=(name,), size=size, trouble=None if is_told else problem)
            is_told = True
        else:
            yield Member(names=(name,), content=content)


class _Pieces:
    """A stream that is taken in lengths."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")

    def take(self, size: int) -> Iterator[bytes]:
        """MalformedError when it ends before."""
        while size > 0:
            if not self._left:
                piece = next(self._pieces, None)
                if piece is None:
                    raise MalformedError("a folder ends before its files do")
                self._left = memoryview(piece)
            now = self._left[:size]
            self._left = self._left[len(now) :]
            size -= len(now)
            yield bytes(now)


def _folders(reader: _Reader) -> list[_Folder]:
    """Streams of the archive: where they are packed, by what coders, how many files each holds."""
    folders: list[_Folder] = []
    sizes: list[int] = []
    start = 32
    while (kind := reader.byte()) != _END:
        if kind == _PACK:
            start = 32 + reader.number()
            sizes = _pack_sizes(reader, reader.count())
        elif kind == _UNPACK:
            folders = _unpack_info(reader)
        elif kind == _SUB:
            _sub_streams(reader, folders)
        else:
            raise MalformedError("7z: an unknown kind of streams")
    at = 0
    for folder in folders:
        folder.start = start
        folder.packed = sum(sizes[at : at + folder.packed_streams])
        start += folder.packed
        at += folder.packed_streams
        if not folder.sizes:
            folder.sizes = [folder.size]
    return folders


def _pack_sizes(reader: _Reader, count: int) -> list[int]:
    sizes: list[int] = []
    while (kind := reader.byte()) != _END:
        if kind == _SIZE:
            sizes = [reader.number() for _ in range(count)]
        elif kind == _CRC:
            reader.digests(count)
        else:
            raise MalformedError("7z: packed streams")
    return sizes


def _unpack_info(reader: _Reader) -> list[_Folder]:
    if reader.byte() != _FOLDER:
        raise MalformedError("7z: folders")
    count = reader.count()
    if reader.byte():
        raise MalformedError("7z: folders elsewhere")
    folders = [_one_folder(reader) for _ in range(count)]
    while (kind := reader.byte()) != _END:
        if kind == _CODER_SIZES:
            for folder in folders:
                for coder in folder.coders:
                    coder.size = reader.number()
        elif kind == _CRC:
            for folder, has_digest in zip(folders, reader.digests(count), strict=True):
                folder.has_digest = has_digest
        else:
            raise MalformedError("7z: folders")
    return folders


def _one_folder(reader: _Reader) -> _Folder:
    coders: list[_Coder] = []
    ins = outs = 0
    count = reader.count()
    if not 0 < count <= _MOST_CODERS:
        raise MalformedError("7z: coders")
    is_chain = True
    for _ in range(count):
        flags = reader.byte()
        method = reader.take(flags & 0x0F)
        if flags & 0x10:
            taken, given = reader.count(), reader.count()
            is_chain = is_chain and (taken, given) == (1, 1)
            ins, outs = ins + taken, outs + given
        else:
            ins, outs = ins + 1, outs + 1
        coders.append(_Coder(method, reader.take(reader.count()) if flags & 0x20 else b""))
    bound = {reader.count(): reader.count() for _ in range(max(0, outs - 1))}  # input: output
    packed = ins - len(bound)
    if packed > 1:
        for _ in range(packed):
            reader.count()
    folder = _Folder(coders, _chain(count, bound) if is_chain and packed == 1 else None, packed)
    taken_outputs = set(bound.values())
    folder.last = folder.order[-1] if folder.order else next((n for n in range(count) if n not in taken_outputs), 0)
    return folder


def _chain(count: int, bound: dict[int, int]) -> list[int] | None:
    """The coders in order: the one whose input is packed comes first."""
    follows = {output: taken for taken, output in bound.items()}
    order = [n for n in range(count) if n not in bound]
    while order and order[-1] in follows and len(order) <= count:
        order.append(follows[order[-1]])
    return order if len(order) == count and len(set(order)) == count and max(order) < count else None


def _sub_streams(reader: _Reader, folders: list[_Folder]) -> None:
    counts = [1] * len(folders)
    kind = reader.byte()
    if kind == _STREAMS:
        counts = [reader.count() for _ in folders]
        kind = reader.byte()
    if sum(counts) > reader.most:
        raise MalformedError("7z: more files than can be")
    for folder, count in zip(folders, counts, strict=True):
        given = [reader.number() for _ in range(count - 1)] if kind == _SIZE else []
        folder.sizes = [*given, max(0, folder.size - sum(given))] if count else []
    if kind == _SIZE:
        kind = reader.byte()
    while kind != _END:
        if kind != _CRC:
            raise MalformedError("7z: files of folders")
        # A folder of one file may have the sum of its file already.
        reader.digests(sum(n for n, folder in zip(counts, folders, strict=True) if n != 1 or not folder.has_digest))
        kind = reader.byte()


def _files(reader: _Reader) -> tuple[list[str], list[bool]]:
    """Names, and which have no content."""
    count = reader.count()
    names, empty = [""] * count, [False] * count
    while (kind := reader.number()) != _END:
        data = reader.take(reader.number())
        if kind == _EMPTY:
            empty = _Reader(data, reader.most).bits(count)
        elif kind == _NAMES and data[:1] == b"\0":
            found = data[1:].decode("utf-16-le", "replace").split("\0")
            names = (found + names)[:count]
    return names, empty


def _folder(octets: Octets, folder: _Folder, budget: Budget) -> Iterator[bytes]:
    """What a folder holds, in pieces. LimitError for a coder that is not read."""
    if folder.order is None:
        raise LimitError("files-unsupported", "7z: a method of several streams (BCJ2)")
    view = memoryview(octets)[folder.start : folder.start + folder.packed]
    if len(view) < folder.packed:
        raise MalformedError("7z: cut off")
    pieces: Iterator[bytes] = (bytes(view[at : at + PIECE]) for at in range(0, len(view), PIECE))
    for number in folder.order:
        pieces = _decoded(pieces, folder.coders[number], budget)
    yield from pieces


def _decoded(pieces: Iterator[bytes], coder: _Coder, budget: Budget) -> Iterator[bytes]:
    method = coder.method
    branch = _BRANCHES.get(method)
    if method == _COPY:
        return pieces
    if branch is not None or method == _DELTA:
        chain = {"id": lzma.FILTER_DELTA, "dist": (coder.properties[:1] or b"\0")[0] + 1} if branch is None else {"id": branch}
        stored = [chain, {"id": lzma.FILTER_LZMA2, "dict_size": 65_536}]
        decompressor: Decompressor = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=stored)
        return _fed(decompressor, _as_lzma2(pieces), coder.size, budget)
    if method == _LZMA1 and len(coder.properties) == 5:
        decompressor = raw_lzma1(coder.properties)
    elif method == _LZMA2 and len(coder.properties) == 1 and coder.properties[0] <= 40:
        size = (2 | coder.properties[0] & 1) << (coder.properties[0] // 2 + 11)
        if size > WINDOW:
            raise LimitError("files-memory", f"7z: a dictionary of {size:,} octets")
        decompressor = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": size}])
    elif method == _DEFLATE:
        decompressor = zlib.decompressobj(-15)
    elif method == _BZIP2:
        decompressor = bz2.BZ2Decompressor()
    elif method == _ZSTD:
        decompressor = zstd()
    else:
        raise LimitError("files-unsupported", f"7z: the method {method.hex()}")
    return _fed(decompressor, pieces, coder.size, budget)


def _as_lzma2(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """As chunks of LZMA2 that are stored: so the library's filters run over what another coder unpacked, to the last octet."""
    control = b"\1"
    for piece in pieces:
        for at in range(0, len(piece), 65_536):
            chunk = piece[at : at + 65_536]
            yield control + (len(chunk) - 1).to_bytes(2, "big") + chunk
            control = b"\2"
    yield b"\0"


def _fed(decompressor: Decompressor, pieces: Iterator[bytes], size: int, budget: Budget) -> Iterator[bytes]:
    """So many octets: a raw stream may not say where it ends."""
    left = size
    for piece in pieces:
        budget.look()
        found = decompressor.decompress(piece, min(PIECE, left) if left else 1)
        while True:
            if found:
                yield found[:left]
                left -= len(found)
            if left <= 0 or decompressor.eof:
                return
            pending = getattr(decompressor, "unconsumed_tail", None)
            if (pending is None and getattr(decompressor, "needs_input", True)) or (
                pending is not None and not pending and not found
            ):
                break
            found = decompressor.decompress(pending or b"", min(PIECE, left))
            if not found and not pending:
                break
