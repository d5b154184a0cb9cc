"""The content after DATA as a stream: end mark, transparency dots and line ends. RFC 5321 4.1.1.4, 4.5.2.

The end is CRLF.CRLF and nothing else. A client that ended its DATA command with a bare LF (a person with netcat,
taken from lenient networks only) gets every line end of this content read as CRLF before the mark is looked for.
"""

from __future__ import annotations

import io
import re
from typing import Final

_END: Final = b"\r\n.\r\n"
_PREFIXES: Final = (_END[:4], _END[:3], _END[:2], _END[:1])
LINE_DOT: Final = re.compile(rb"\r\n\.")
"""A line that begins with a dot. In text it is found in half the time of `find`, whose skips stop at each dot, M, J and n."""
_WHOLE: Final = (None, "\r\n")
_FEW: Final = 16_384
"""Octets in which line ends are taken out and put back to see that they are all CRLF: as fast as telling them apart where lines have
35 octets, three times as fast where they have 150, and slow where they are empty, so that it is not for more octets."""
_EVEN: Final = 32
"""Octets of a line, with its end, from which on it pays to look for the next ends in the same distance."""


class DotStream:
    """Octets in, octets of the content out; `ended` when the mark was seen, `rest` what came behind it."""

    __slots__ = (
        "_carry",
        "_first",
        "_held",
        "_line",
        "_line_ends",
        "ended",
        "has_bare",
        "line_limit",
        "line_too_long",
        "lines_end_in_lf",
        "rest",
    )

    def __init__(self, lines_end_in_lf: bool = False, line_limit: int = 1_000_000) -> None:
        self._carry = b"\r\n"  # as if a line had just ended: the mark may come first
        self._first = True
        self._held = b""
        self._line = 0
        self._line_ends: io.IncrementalNewlineDecoder | None = None
        self.ended = False
        self.rest = b""
        self.has_bare = False
        """A CR or LF stood alone in the content."""
        self.lines_end_in_lf = lines_end_in_lf
        self.line_limit = line_limit
        self.line_too_long = False

    def feed(self, octets: bytes) -> bytes:
        """Content found in these octets, dots removed. Octets behind the mark wait in `rest`."""
        if self._first and octets.endswith(_END) and (whole := self._whole(octets)) is not None:
            return whole
        arrived = octets
        if self.lines_end_in_lf:
            arrived = self._held + octets
            octets = self._with_crlf(octets)
        buffer = self._carry + octets if self._carry else octets  # compiled, even an empty one in front makes a copy
        # Looking for one octet costs next to nothing, and most of an attachment has no dot at all.
        line_dot = LINE_DOT.search(buffer, 0, buffer.rfind(b".") + 1)
        dot = line_dot.start() if line_dot is not None else -1
        end = buffer.find(_END, dot) if dot != -1 else -1
        if end != -1:
            self.ended = True
            self.rest = _tail(arrived, buffer.count(b"\n", end + 5)) if self.lines_end_in_lf else buffer[end + 5 :]
            self._carry = self._held = b""
            return self._out(buffer[: end + 2], has_dots=dot < end)
        for prefix in _PREFIXES:
            if buffer.endswith(prefix):
                self._carry = prefix
                return self._out(buffer[: -len(prefix)], has_dots=dot != -1)
        self._carry = b""
        return self._out(buffer, has_dots=dot != -1)

    def _whole(self, octets: bytes) -> bytes | None:
        """The usual case: the first octets are the whole content and end in the mark, no line begins with a dot or is too long."""
        length = len(octets)
        if (
            # Up to the last dot there is, as looking for one octet costs next to nothing: base64 has none.
            LINE_DOT.search(octets, 0, octets.rfind(b".", 0, length - 3) + 1) is not None
            or octets[0] == 0x2E
            or length > self.line_limit
            or self.lines_end_in_lf
            or self._carry != b"\r\n"
        ):
            return None
        self.ended = True
        self._carry = b""
        content = octets[:-3]
        if length <= _FEW:
            self.has_bare = content.replace(b"\n", b"").replace(b"\r", b"\r\n") != content
        else:
            line_ends = io.IncrementalNewlineDecoder(None, translate=False)
            line_ends.decode(content.decode("latin-1"), final=True)
            self.has_bare = line_ends.newlines not in _WHOLE
        return content

    def _with_crlf(self, octets: bytes) -> bytes:
        """LF and CRLF made CRLF; a CR at the end waits for what follows it."""
        octets = self._held + octets
        self._held = b"\r" if octets.endswith(b"\r") else b""
        if self._held:
            octets = octets[:-1]
        return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")

    def _out(self, octets: bytes, *, has_dots: bool) -> bytes:
        if not octets:
            return octets
        if not _ends_evenly(octets):
            self._look_for_bare(octets)
        if has_dots:
            octets = octets.replace(b"\r\n.", b"\r\n")
        if self._first:
            octets = octets[2:]
            self._first = False
        self._measure(octets)
        return octets

    def _look_for_bare(self, octets: bytes) -> None:
        if self._line_ends is None:
            # Tells CR, LF and CRLF apart in one pass; counting them takes three, at four times the cost.
            self._line_ends = io.IncrementalNewlineDecoder(None, translate=False)
        self._line_ends.decode(octets.decode("latin-1"), final=True)  # no CRLF is cut: a CR at the end waits in `_carry`
        if self._line_ends.newlines not in _WHOLE:
            self.has_bare = True

    def _measure(self, octets: bytes) -> None:
        """Length of the line under way; only a line longer than what arrives at once needs a look."""
        last = octets.rfind(b"\n")
        if last == -1:
            self._line += len(octets)
        else:
            first = octets.find(b"\n")
            if self._line + first > self.line_limit or (
                len(octets) > self.line_limit and self._longest(octets) > self.line_limit
            ):
                self.line_too_long = True
            self._line = len(octets) - last - 1
        if self._line > self.line_limit:
            self.line_too_long = True

    @staticmethod
    def _longest(octets: bytes) -> int:
        return max(len(line) for line in octets.split(b"\n"))


def _ends_evenly(octets: bytes) -> bool:
    """CRLF at equal distances, and no CR or LF elsewhere, as in an attachment, whose lines are all of a length.

    A fifth of the cost of looking at each octet. False says nothing, but costs next to nothing where lines differ.
    """
    first = octets.find(b"\n")
    step = octets.find(b"\n", first + 1) - first
    if first < 1 or step < _EVEN:
        return False
    ends = octets[first::step]
    count = len(ends)
    if ends != b"\n" * count or octets[first - 1 :: step] != b"\r" * count:
        return False
    others = bytearray(octets)
    others[first::step] = others[first - 1 :: step] = bytes(count)
    return others.find(b"\n") == -1 and others.find(b"\r") == -1


def _tail(octets: bytes, lines: int) -> bytes:
    """So many lines at the end, and what follows them: commands behind the mark are left as they came."""
    at = len(octets)
    for _ in range(lines + 1):
        at = octets.rfind(b"\n", 0, at)
    return octets[at + 1 :]


def normalised(octets: bytes) -> bytes:
    """Every CR, LF and CRLF as CRLF: for clients that are trusted to mean line ends (design: lenient networks)."""
    return octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
