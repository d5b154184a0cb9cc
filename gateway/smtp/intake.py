"""Intake: content as it arrives goes to memory, past a limit to a spool file. Its bounds are kept while it arrives.

What is signed is hashed while it arrives too, once it is so large that hashing it afterwards would take time that the client waits.
"""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from gateway.content import Content, Octets, close
from gateway.smtp.dotstream import DotStream, normalised
from gateway.smtp.replies import Reply, reply
from gateway.spool import end_here, spare

if TYPE_CHECKING:
    from gateway.config.models import LimitsConfig
    from gateway.mailauth.arriving import Arriving

MAX_CHUNKS: Final = 4096
"""Pieces in memory before they are joined: a client that sends single octets costs no more than others."""
SMALL: Final = 64 * 1024
"""Octets up to which content is not hashed while it arrives: what comes in one piece is hashed as fast when it is there."""
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Intake:
    """One content under way. `fault` is the reply it has earned already; the octets are read on and dropped."""

    __slots__ = (
        "_arriving",
        "_chunks",
        "_directory",
        "_file",
        "_lenient",
        "_limits",
        "_stream",
        "_verifies",
        "fault",
        "has_nul",
        "size",
        "was_normalised",
    )

    def __init__(
        self, stream: DotStream, limits: LimitsConfig, directory: Path, lenient: bool, verifies: frozenset[str] = frozenset()
    ) -> None:
        """`verifies`: fields whose signatures are going to be verified; their body hashes are made meanwhile."""
        self._stream = stream
        self._limits = limits
        self._directory = directory
        self._lenient = lenient
        self._chunks: list[bytes] = []
        self._file: BinaryIO | None = None
        self._verifies = verifies
        self._arriving: Arriving | None = None
        self.size = 0
        self.fault: Reply | None = None
        self.has_nul = False
        """There is a NUL in the content: `has_hidden_end` must be asked."""
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
        if not self.has_nul and 0 in octets:
            self.has_nul = True
        if self.size > self._limits.message_size:
            self.refuse_size()
            return
        if self._file is not None:
            if self._arriving is not None:
                self._arriving.take(octets)
            self._write(octets)
            return
        self._chunks.append(octets)
        if len(self._chunks) > MAX_CHUNKS:
            self._chunks = [b"".join(self._chunks)]
        if self.size > SMALL or self.size > self._limits.spool_memory:
            self._take_large(octets)

    def _take_large(self, octets: bytes) -> None:
        """It is no small content any more. These octets are the last of those in memory."""
        if self._arriving is not None:
            self._arriving.take(octets)
        elif self._verifies:
            from gateway.mailauth.arriving import arriving  # with it come libraries that only those need who verify

            self._arriving = arriving(self._chunks, self._verifies)
            self._verifies = frozenset()
        if self.size > self._limits.spool_memory:
            self._to_file()

    def refuse_size(self) -> None:
        """It is too large: nothing of it is kept."""
        self._refuse(reply(552, "5.3.4", f"Message is larger than {self._limits.message_size} octets"))

    def _refuse(self, fault: Reply) -> None:
        self.fault = fault
        self.discard()

    def _to_file(self) -> None:
        try:
            self._file = spare.take(self._directory)
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
                written = os.write(self._file.fileno(), view)  # outside of the slice: mypyc evaluates its bounds twice
                view = view[written:]
        except OSError as error:
            self._refuse(_storage_reply(error))

    def content(self) -> Content:
        """The whole content. Raises OSError when the spool file cannot be mapped."""
        if self._file is not None:
            end_here(self._file)
            content = Content.from_file(self._file, was_normalised=self.was_normalised, keep=partial(spare.keep, self._directory))
            content.arriving = self._arriving
            self._file = None
            return content
        chunks, self._chunks = self._chunks, []
        content = Content(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        content.was_normalised = self.was_normalised
        content.arriving = self._arriving
        return content

    def discard(self) -> None:
        """Give memory and spool file back."""
        self._chunks = []
        self._arriving = None
        if self._file is not None:
            close(self._file, size=self.size)
            self._file = None


def has_hidden_end(octets: Octets) -> bool:
    """A line of NUL and one dot. A next hop that drops NUL takes it for the end of data, and what follows for commands.

    Only where NUL precedes the dot: a dot that begins the line is doubled on its way (RFC 5321 4.5.2).
    """
    at = octets.find(b"\0.")
    while at != -1:
        begin = octets.rfind(b"\n", 0, at) + 1
        end = octets.find(b"\n", at)
        line = octets[begin : len(octets) if end == -1 else end]
        if line.replace(b"\0", b"").rstrip(b"\r") == b"." and line[:1] == b"\0":
            return True
        if end == -1:
            return False
        at = octets.find(b"\0.", end)
    return False


def _storage_reply(error: OSError) -> Reply:
    if error.errno in _FULL:
        return reply(452, "4.3.1", "Insufficient system storage")
    return reply(451, "4.3.0", "Spool failed; try again later")
