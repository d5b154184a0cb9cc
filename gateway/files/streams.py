"""Compressed streams: gzip (RFC 1952), bzip2, xz, lzma, zstd (RFC 8878). In pieces, whatever they say of their size."""

from __future__ import annotations

import bz2
import importlib
import lzma
import zlib
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol

from gateway.files.found import PIECE, Budget, Found, LimitError, MalformedError, Member, Octets, Sign, Trouble

_MOST_STREAMS = 1_000
"""Streams behind one another in a file."""
ZSTD_MODULES = ("compression.zstd", "backports.zstd")
WINDOW = 64 << 20
"""Octets that a decompressor may remember: what `xz -9` and 7-Zip's ultra ask for."""
XZ_MEMORY = WINDOW + (4 << 20)


class Decompressor(Protocol):
    """What zlib, bz2, lzma and zstd have in common."""

    @property
    def eof(self) -> bool: ...  # noqa: D102
    @property
    def unused_data(self) -> bytes: ...  # noqa: D102
    def decompress(self, data: Any, max_length: int = ..., /) -> bytes: ...  # noqa: D102


def zstd() -> Decompressor:
    """Of the standard library, or of the extra `archives`. LimitError where there is none."""
    for name in ZSTD_MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        found: Decompressor = module.ZstdDecompressor(options={module.DecompressionParameter.window_log_max: 26})
        return found
    raise LimitError("files-unsupported", "cannot look into zstd: extra 'archives' is not installed")


def feed(decompressor: Decompressor, view: memoryview) -> Generator[bytes, None, int]:
    """What one stream holds, piece by piece; gives back where it ends. MalformedError when the octets end before it."""
    for at in range(0, len(view), PIECE):
        left = view[at : at + PIECE]
        piece = decompressor.decompress(left, PIECE)
        while True:
            if piece:
                yield piece
            if decompressor.eof:
                return at + len(left) - len(decompressor.unused_data)
            pending = getattr(decompressor, "unconsumed_tail", None)  # zlib gives back what it has not taken
            if pending is None and getattr(decompressor, "needs_input", True):
                break
            if pending is not None and not pending and len(piece) < PIECE:
                break
            piece = decompressor.decompress(pending or b"", PIECE)
    raise MalformedError("cut off")


def gzip(octets: Octets, budget: Budget) -> Iterator[Found]:
    """RFC 1952: the name in its header is one more."""
    name = ""
    if len(octets) > 10 and octets[3] & 0x08 and not octets[3] & 0x04:
        end = octets.find(b"\0", 10, 10 + 1_024)
        name = bytes(octets[10:end]).decode("latin-1") if end > 0 else ""
    yield from _streams(octets, budget, "gzip", lambda: zlib.decompressobj(31), (name,) if name else ())


def bzip2(octets: Octets, budget: Budget) -> Iterator[Found]:
    """One or more streams."""
    yield from _streams(octets, budget, "bzip2", bz2.BZ2Decompressor, ())


def xz(octets: Octets, budget: Budget) -> Iterator[Found]:
    """.xz, and .lzma, which came before it."""
    yield from _streams(octets, budget, "xz", lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY), ())


def zstandard(octets: Octets, budget: Budget) -> Iterator[Found]:
    """RFC 8878."""
    yield from _streams(octets, budget, "zstd", zstd, ())


def _word(error: Exception) -> str:
    """A stream that is too much for us is not broken (lzma has only a text for it)."""
    return "files-memory" if "emory usage limit" in str(error) else "files-malformed"


def _streams(
    octets: Octets, budget: Budget, kind: str, begin: Callable[[], Decompressor], names: tuple[str, ...]
) -> Iterator[Found]:
    """All streams of the file, as one member: so do the programs that unpack them. What follows them is a sign."""
    rest: list[Found] = []

    def pieces() -> Iterator[bytes]:
        at, number = 0, 0
        view = memoryview(octets)
        while at < len(octets):
            try:
                at += yield from feed(begin(), view[at:])
            except (MalformedError, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
                if number == 0:
                    rest.append(Trouble(_word(error), f"{kind}: {error}"))
                else:
                    rest.append(Sign(word="appended-data"))
                return
            number += 1
            if number >= _MOST_STREAMS:
                raise LimitError("files-count", f"{kind}: more than {_MOST_STREAMS} streams")

    try:
        content = budget.collect(pieces(), len(octets))
    except LimitError as error:
        yield Member(names=names, trouble=error)
        if error.is_final:
            raise
        return
    yield from rest
    yield Member(names=names, content=content)
