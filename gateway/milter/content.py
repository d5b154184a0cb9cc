"""The content of a message as an MTA tells it: fields one by one, then the body in pieces; into the same spool, by the same bounds.

A field comes without its line end, its lines parted by LF. What stands in the MTA's queue is lines; so every field ends in CRLF here,
and one blank line parts header and body. Where each field lies is kept, since edits have to name it to the MTA.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from gateway.smtp.chunks import ChunkLines
from gateway.smtp.intake import Intake
from gateway.smtp.replies import reply
from gateway.values import value

if TYPE_CHECKING:
    from gateway.config.models import LimitsConfig

MAX_FIELDS: Final = 10_000
"""Fields whose places are kept; `Message` lists no more either, and a message with more is refused."""


@value(frozen=True, slots=True)
class Place:
    """Where a field that the MTA told lies in the content."""

    name: bytes
    start: int
    end: int


class MilterIntake(Intake):
    """One content under way."""

    __slots__ = ("_lines", "_strict", "body_offset", "places", "with_space")

    def __init__(
        self, limits: LimitsConfig, *, directory: Path, lenient: bool, with_space: bool, verifies: frozenset[str] = frozenset()
    ) -> None:
        self._lines = ChunkLines(line_limit=limits.text_line)
        # Never normalised: the MTA keeps what it has, and who reads the message here should see the same.
        super().__init__(ChunkLines(line_limit=limits.text_line), limits, directory=directory, lenient=False, verifies=verifies)
        self._strict = not lenient
        self.body_offset = 0
        """Where the body begins; 0 within the header."""
        self.with_space = with_space
        """HDR_LEADSPC: bodies of fields come with the space behind the colon."""
        self.places: list[Place] = []

    @property
    @override
    def must_close(self) -> bool:
        return False

    def field(self, name: bytes, body: bytes) -> None:
        """One field."""
        lines = body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        octets = b"%s:%s%s\r\n" % (name, b"" if self.with_space else b" ", lines)
        if len(self.places) <= MAX_FIELDS:
            self.places.append(Place(name, self.size, self.size + len(octets)))
        self.take(octets)

    def end_of_header(self) -> None:
        """The blank line; once, however often it is told."""
        if not self.body_offset:
            self.take(b"\r\n")
            self.body_offset = self.size

    @override
    def take(self, octets: bytes) -> None:
        octets = self._lines.feed(octets)
        if self.fault is None and self._lines.line_too_long:
            self._refuse(reply(500, "5.5.2", "Line too long"))
        self._look_at_line_ends()
        super().take(octets)

    def finish(self) -> None:
        """The body is whole."""
        self.end_of_header()
        held = self._lines.finish()
        self._look_at_line_ends()
        if held:
            super().take(held)

    def _look_at_line_ends(self) -> None:
        if self._strict and self.fault is None and self._lines.has_bare:
            self._refuse(reply(550, "5.6.0", "Bare CR or LF in the content: line ends are CRLF (RFC 5321 2.3.8)"))
