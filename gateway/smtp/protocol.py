"""The engine of the server side: octets in, events out; no I/O. RFC 5321 2.3.8, 4.1.1, RFC 2920, RFC 3030 2.

`feed()` takes whole buffers as they come from the transport, `next_event()` gives one event at a time, or None when more
octets are needed. `usual_command()` and `feed_content()` are both in one step, for what nearly every buffer is: a command that
comes alone, or content. After a command that switches what follows (DATA) the owner says so with `begin_content()` before
it asks for the next event, so nothing is read early. BDAT says itself what follows, so a chunk is never read as commands,
whatever the owner thinks of it. Memory is bounded: a command line that is too long is dropped while it arrives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from gateway.smtp.dotstream import DotStream
from gateway.smtp.grammar import MAX_DOMAIN, SyntaxFault, parse_bdat, parse_command, parse_usual
from gateway.smtp.paths import Command

__all__ = ["Chunk", "Command", "Content", "EndOfContent", "Engine", "Event", "LineTooLong", "Response"]


class Chunk(NamedTuple):
    """A BDAT command; its octets come as Content, then EndOfContent (RFC 3030 2)."""

    command: Command
    size: int | None
    """None: it does not say how many octets there are, so that nothing behind it can be told from commands."""
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class LineTooLong:
    """A command line over the limit; its octets are gone."""


class Response(NamedTuple):
    """A line that answers a challenge of AUTH (RFC 4954 4), without CRLF; a bare LF at its end is left."""

    octets: bytes


class Content(NamedTuple):
    """Octets of the content, dots removed; of a chunk as they are."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class EndOfContent:
    """CRLF.CRLF was seen, or the chunk is whole."""


Event = Command | Chunk | LineTooLong | Response | Content | EndOfContent
_TOO_LONG: Final = LineTooLong()
_END: Final = EndOfContent()


class _Counted:
    """A chunk under way."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size


class Engine:
    """One session's octets."""

    __slots__ = (
        "_at",
        "_auth_limit",
        "_buffer",
        "_dropping",
        "_limit",
        "_response_due",
        "_returned",
        "_usual_length",
        "dropped",
        "has_input",
        "stream",
    )

    def __init__(self, command_line: int = 4096, auth_line: int = 0) -> None:
        """`auth_line`: another limit for AUTH and its responses, where it is larger."""
        self._buffer = b""
        self._at = 0
        self._limit = command_line
        self._usual_length = command_line if command_line < MAX_DOMAIN else MAX_DOMAIN  # noqa: FURB136 - min() is a call
        """Octets of a line that may be read in one step: so few that no bound is near."""
        self._auth_limit = auth_line
        self._response_due = False
        self._dropping = False
        self.dropped = 0
        """Octets of the line under way that are gone because it is too long."""
        self.stream: DotStream | _Counted | None = None
        """The content or chunk whose end is still to come."""
        self._returned: Event | None = None
        self.has_input = False
        """Octets wait that were not made events yet."""

    @property
    def pending(self) -> int:
        """Octets that wait."""
        return len(self._buffer) - self._at

    def feed(self, octets: bytes) -> int:
        """Take what the transport gave; how many octets wait now."""
        self._buffer = octets if self._at >= len(self._buffer) else self._buffer[self._at :] + octets
        self._at = 0
        pending = len(self._buffer)
        self.has_input = pending > 0 or self._returned is not None
        return pending

    def usual_command(self, octets: bytes) -> Command | None:
        """As `feed` and `next_event`, where the octets are one of the usual commands and nothing else waits.

        None: nothing was taken, so they are to be fed.
        """
        if self.has_input or self.stream is not None or self._response_due or self._dropping:
            return None
        return parse_usual(octets, self._usual_length)

    def feed_content(self, octets: bytes) -> bytes | None:
        """As `feed` and `next_event`, within content after DATA: what of the content is in these octets.

        `stream` is None when its end was among them. None: nothing was taken, so they are to be fed.
        """
        stream = self.stream
        if self.has_input or not isinstance(stream, DotStream):
            return None
        content = stream.feed(octets)
        if stream.ended:
            if stream.rest:
                self._end_stream(stream)
            else:
                self.stream = None
        return content

    def forget(self) -> int:
        """Drop all input (STARTTLS: RFC 3207 4.2); how many octets there were."""
        self._returned = None
        lost = len(self._buffer) - self._at
        self._buffer = b""
        self._at = 0
        self.has_input = False
        return lost

    def begin_content(self, lines_end_in_lf: bool, line_limit: int) -> DotStream:
        """What follows is content until its end mark."""
        self.stream = DotStream(lines_end_in_lf, line_limit)
        return self.stream

    def put_back(self, event: Event) -> None:
        """Whoever took this event leaves it to another: it comes first again."""
        self._returned = event
        self.has_input = True

    def expect_response(self) -> None:
        """The next line is no command: it answers a challenge (RFC 4954 4)."""
        self._response_due = True

    def next_event(self) -> Event | None:
        """The next event, or None: feed more."""
        if self._returned is not None:
            event, self._returned = self._returned, None
            self.has_input = self._at < len(self._buffer)
            return event
        if self.stream is not None:
            return self._content_event(self.stream)
        return self._next_line() if self.has_input else None

    def _next_line(self) -> Event | None:
        buffer, at = self._buffer, self._at
        end = buffer.find(b"\n", at)
        if end == -1:
            if len(buffer) - at > self._limit and not self._may_be_long(len(buffer) - at):
                self._dropping = True
                self.dropped += len(buffer) - at
                self._buffer = b""
                self._at = 0
                self.has_input = False
            return None
        self._at = end + 1
        self.has_input = end + 1 < len(buffer)
        if end - at < self._usual_length and not self._response_due and not self._dropping:
            usual = parse_usual(buffer[at : end + 1], self._usual_length)
            if usual is not None:
                return usual
        line = buffer[at:end]
        if self._dropping or (len(line) >= self._limit and not self._may_be_long(len(line), at=end - len(line))):
            self._dropping = self._response_due = False
            self.dropped = 0
            return _TOO_LONG
        bare = not line.endswith(b"\r")
        if self._response_due:
            self._response_due = False
            return Response(line + b"\n" if bare else line[:-1])
        verb, argument = parse_command(line if bare else line[:-1])
        if verb == "BDAT":
            return self._begin_chunk(Command(verb, argument, bare))
        return Command(verb, argument, bare)

    def _may_be_long(self, length: int, *, at: int | None = None) -> bool:
        """A line of this length is AUTH or a response to a challenge, and no longer than those may be."""
        if length > self._auth_limit:
            return False
        start = self._at if at is None else at
        return self._response_due or self._buffer[start : start + 5].upper() == b"AUTH "

    def _begin_chunk(self, command: Command) -> Chunk:
        try:
            size, is_last = parse_bdat(command.argument)
        except SyntaxFault:
            return Chunk(command, None)
        self.stream = _Counted(size)
        return Chunk(command, size, is_last)

    def _chunk_event(self, chunk: _Counted) -> Event | None:
        if not chunk.left:
            self.stream = None
            return _END
        if not self.has_input:
            return None
        octets = self._buffer[self._at : self._at + chunk.left]
        self._at += len(octets)
        self.has_input = self._at < len(self._buffer)
        chunk.left -= len(octets)
        return Content(octets)

    def _content_event(self, stream: DotStream | _Counted) -> Event | None:
        if isinstance(stream, _Counted):
            return self._chunk_event(stream)
        if stream.ended:
            self._end_stream(stream)
            return _END
        if not self.has_input:
            return None
        octets = self._buffer[self._at :] if self._at else self._buffer
        self._buffer = b""
        self._at = 0
        content = stream.feed(octets)
        self.has_input = stream.ended  # what is behind the mark
        return Content(content)

    def _end_stream(self, stream: DotStream) -> None:
        """What came behind the mark is commands again."""
        self._buffer = stream.rest
        self._at = 0
        self.has_input = bool(stream.rest)
        self.stream = None
