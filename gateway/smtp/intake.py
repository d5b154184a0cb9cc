"""Intake: content as it arrives goes to memory, past a limit to a spool file. Its bounds are kept while it arrives."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from gateway.content import Content
from gateway.smtp.dotstream import DotStream, normalised
from gateway.smtp.replies import Reply, reply

if TYPE_CHECKING:
    from gateway.config.models import LimitsConfig

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Intake:
    """One content under way. `fault` is the reply it has earned already; the octets are read on and dropped."""

    __slots__ = ("_chunks", "_directory", "_file", "_lenient", "_limits", "_stream", "fault", "size", "was_normalised")

    def __init__(self, stream: DotStream, limits: LimitsConfig, *, directory: Path, lenient: bool) -> None:
        self._stream = stream
        self._limits = limits
        self._directory = directory
        self._lenient = lenient
        self._chunks: list[bytes] = []
        self._file: BinaryIO | None = None
        self.size = 0
        self.fault: Reply | None = None
        self.was_normalised = stream.lines_end_in_lf

    @property
    def must_close(self) -> bool:
        """The client sends a line without end: the connection ends here."""
        return self._stream.line_too_long

    def take(self, octets: bytes) -> None:
        """Octets of the content, dots removed."""
        if self._stream.has_bare and self.fault is None:
            if self._lenient:
                self.was_normalised = True
            else:
                self._refuse(reply(550, "5.6.0", "Bare CR or LF in the content: line ends are CRLF (RFC 5321 2.3.8)"))
        if self.was_normalised:
            octets = normalised(octets)
        self.size += len(octets)
        if self.fault is not None:
            return
        if self.size > self._limits.message_size:
            self._refuse(reply(552, "5.3.4", f"Message is larger than {self._limits.message_size} octets"))
            return
        if self._file is not None:
            self._write(octets)
            return
        self._chunks.append(octets)
        if self.size > self._limits.spool_memory:
            self._to_file()

    def _refuse(self, fault: Reply) -> None:
        self.fault = fault
        self.discard()

    def _to_file(self) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._file = cast("BinaryIO", tempfile.TemporaryFile(dir=self._directory, buffering=0))  # noqa: SIM115 - closed with the content
        except OSError as error:
            self._refuse(_storage_reply(error))
            return
        chunks, self._chunks = self._chunks, []
        for chunk in chunks:
            self._write(chunk)

    def _write(self, octets: bytes) -> None:
        if self._file is None:
            return
        view = memoryview(octets)
        try:
            while view:
                view = view[os.write(self._file.fileno(), view) :]
        except OSError as error:
            self._refuse(_storage_reply(error))

    def content(self) -> Content:
        """The whole content. Raises OSError when the spool file cannot be mapped."""
        if self._file is not None:
            file, self._file = self._file, None
            return Content.from_file(file, was_normalised=self.was_normalised)
        chunks, self._chunks = self._chunks, []
        return Content(chunks[0] if len(chunks) == 1 else b"".join(chunks), was_normalised=self.was_normalised)

    def discard(self) -> None:
        """Give memory and spool file back."""
        self._chunks = []
        if self._file is not None:
            self._file.close()
            self._file = None


def _storage_reply(error: OSError) -> Reply:
    if error.errno in _FULL:
        return reply(452, "4.3.1", "Insufficient system storage")
    return reply(451, "4.3.0", "Spool failed; try again later")
