"""Content: the octets after DATA, dots removed (RFC 5321 2.3.1), in memory or in a spool file."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum
from threading import Semaphore
from typing import BinaryIO, Protocol, TypeAlias

Octets: TypeAlias = bytes | mmap.mmap
"""Both have `find`, `rfind`, `len` and slices that give bytes."""
Keep: TypeAlias = Callable[[BinaryIO], bool]
"""Takes a spool file whose content has gone, for another content (`gateway.spool`). False: it is to be closed."""

CHUNK = 256 * 1024
LARGE = 4 * 1024 * 1024
"""Octets of a spool file that is closed in a thread: the kernel takes 0.1 ms for each MB to take its pages back."""
MAX_CLOSING = 16
"""Such files at once; one more is closed by its caller, so that no disk fills up behind a slow thread."""
SPARE_SIZE = 8 * 1024 * 1024
"""Octets of a spool file that may be kept for another content at most."""
_CLOSED = "the content was closed while it was read"


class Form(Enum):
    """How content may travel (RFC 3030 2, 3)."""

    LINES = "lines"
    """Lines that all end in CRLF: by DATA."""
    UNENDED = "unended"
    """The last line has no CRLF, which DATA would add."""
    BINARY = "binary"
    """BODY=BINARYMIME: in chunks only."""


class Hashed(Protocol):
    """Hashes of the octets from here to the end, made while they arrived (`gateway.mailauth.arriving`)."""

    body_offset: int


class Content:
    """The octets of one message, exactly as received. Closing it gives the spool file up."""

    __slots__ = ("_file", "_is_lent", "_keep", "arriving", "is_binary", "octets", "size", "was_normalised")

    def __init__(
        self, octets: Octets, *, file: BinaryIO | None = None, was_normalised: bool = False, keep: Keep | None = None
    ) -> None:
        self.octets = octets
        self.size = len(octets)
        self._file = file
        self._keep = keep
        self._is_lent = False
        self.was_normalised = was_normalised
        """True when bare CR or LF of a lenient client were made CRLF."""
        self.arriving: Hashed | None = None
        """Where it is large and signed: its body hashes. They are of these octets and no others."""
        self.is_binary = False
        """BODY=BINARYMIME: its octets are no lines, and it goes on in chunks only (RFC 3030 3)."""

    @classmethod
    def from_file(cls, file: BinaryIO, *, was_normalised: bool = False, keep: Keep | None = None) -> Content:
        """Map a spool file; the file is closed with the content. `keep`: or goes there, where nobody else can have it."""
        file.flush()
        if file.seek(0, 2) == 0:
            file.close()
            return cls(b"", was_normalised=was_normalised)
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return cls(pages, file=file, was_normalised=was_normalised, keep=keep)

    def fileno(self) -> int | None:
        """Descriptor of the spool file; None where the octets are in memory. Others may have the file from here on."""
        if self._file is None:
            return None
        self._is_lent = True
        return self._file.fileno()

    def chunks(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The octets from start to end in pieces of at most CHUNK."""
        stop = self.size if end is None else end
        octets, file = self.octets, self._file
        if start == 0 and stop <= CHUNK and isinstance(octets, bytes):
            yield octets if stop == self.size else octets[:stop]
            return
        while start < stop:
            upto = min(start + CHUNK, stop)
            if file is None:
                piece = octets[start:upto]
            elif file is self._file:
                # Read and not sliced from the map: a third of the time, as no page is mapped for it.
                piece = _read(file.fileno(), start, upto)
            else:
                raise ValueError(_CLOSED)
            if isinstance(octets, mmap.mmap):
                _forget(octets, start, upto)
            yield piece
            start = upto

    def close(self) -> None:
        """Give memory and spool file back. Twice is harmless."""
        octets, self.octets = self.octets, b""
        file, self._file = self._file, None
        if file is None:
            return
        pages = octets if isinstance(octets, mmap.mmap) else None
        if self._keep is not None and not self._is_lent and self.size <= SPARE_SIZE and _unmap(pages):
            if self._keep(file):
                return
            pages = None
        close(file, pages, size=self.size)


def close(file: BinaryIO, pages: mmap.mmap | None = None, *, size: int) -> None:
    """Close a spool file, and its map. A large one soon, without its caller waiting."""
    if size > LARGE and _closing.free.acquire(blocking=False):
        _closing.thread().submit(_closing.close, file, pages)
    else:
        _close(file, pages)


def _unmap(pages: mmap.mmap | None) -> bool:
    """Whether nobody looks at the map any more."""
    if pages is not None:
        try:
            pages.close()
        except BufferError:
            return False
    return True


def _close(file: BinaryIO, pages: mmap.mmap | None) -> None:
    try:
        if pages is not None:
            pages.close()
    finally:  # where somebody looks at the map still, too
        file.close()


class _Closing:
    """The thread that closes large files; made with the first of them, anew in a process that was forked."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Nothing is under way."""
        self.free = Semaphore(MAX_CLOSING)
        self._thread: ThreadPoolExecutor | None = None

    def thread(self) -> ThreadPoolExecutor:
        """One thread."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        return self._thread

    def close(self, file: BinaryIO, pages: mmap.mmap | None) -> None:
        """In the thread."""
        try:
            with suppress(BufferError):  # somebody looks at it still: the map goes with the last look
                _close(file, pages)
        finally:
            self.free.release()


_closing = _Closing()
os.register_at_fork(after_in_child=_closing.begin)


def _read(file: int, start: int, end: int) -> bytes:
    """These octets of a spool file."""
    piece = os.pread(file, end - start, start)
    while len(piece) < end - start:
        more = os.pread(file, end - start - len(piece), start + len(piece))
        if not more:
            raise OSError(errno.EIO, "the spool file has become shorter")
        piece += more
    return piece


def _forget(octets: mmap.mmap, start: int, end: int) -> None:
    """These pages of a spool file are no memory of ours any more; whoever looks at them again gets them from the file."""
    if hasattr(mmap, "MADV_DONTNEED"):
        first = start - start % mmap.PAGESIZE
        octets.madvise(mmap.MADV_DONTNEED, first, end - first)
