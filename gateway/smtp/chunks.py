"""Intake of content that comes in chunks (BDAT): into the same spool, by the same bounds. RFC 3030 2, 3.

Content of lines is held to CRLF as after DATA, over the borders of chunks too; only its last line may lack its end. With
BODY=BINARYMIME octets are octets. A line or a message that is too large needs no end of the connection here: the client has
said how many octets are to be dropped.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from gateway.content import Content
from gateway.smtp.dotstream import DotStream
from gateway.smtp.intake import Intake
from gateway.smtp.replies import reply

if TYPE_CHECKING:
    from gateway.config.models import LimitsConfig


class ChunkLines(DotStream):
    """The lines of such content: no mark, no dots; a CR at a border waits for what follows it."""

    __slots__ = ()

    def __init__(self, *, line_limit: int) -> None:
        super().__init__(line_limit=line_limit)
        self._carry = b""
        self._first = False

    @override
    def feed(self, octets: bytes) -> bytes:
        octets = self._carry + octets if self._carry else octets
        self._carry = b"\r" if octets.endswith(b"\r") else b""
        return self._out(octets[:-1] if self._carry else octets, has_dots=False)

    def finish(self) -> bytes:
        """What waited at the end of the last chunk: a CR that stays alone."""
        held, self._carry = self._carry, b""
        if held:
            self.has_bare = True
        return held


class ChunkIntake(Intake):
    """The chunks of one message."""

    __slots__ = ("_lines", "is_binary")

    def __init__(
        self, limits: LimitsConfig, *, directory: Path, lenient: bool, is_binary: bool, verifies: frozenset[str] = frozenset()
    ) -> None:
        self._lines = ChunkLines(line_limit=limits.text_line)
        super().__init__(self._lines, limits, directory=directory, lenient=lenient, verifies=verifies)
        self.is_binary = is_binary

    @property
    @override
    def must_close(self) -> bool:
        return False

    def expect(self, size: int) -> None:
        """So many octets come now. If they are too many, none of them is kept."""
        if self.fault is None and self.size + size > self._limits.message_size:
            self.refuse_size()

    @override
    def take(self, octets: bytes) -> None:
        if not self.is_binary:
            octets = self._lines.feed(octets)
            if self._lines.line_too_long and self.fault is None:
                self._refuse(reply(500, "5.5.2", "Line too long"))
        super().take(octets)

    def finish(self) -> None:
        """The last chunk is whole."""
        held = self._lines.finish()
        if held:
            super().take(held)

    @override
    def content(self) -> Content:
        content = super().content()
        content.is_binary = self.is_binary
        return content


class Dropped:
    """Where the octets of a refused chunk go."""

    must_close = False

    def take(self, octets: bytes) -> None:
        """They are gone."""

    def discard(self) -> None:
        """There is nothing to give back."""
