"""Replies: RFC 5321 4.2, enhanced status codes of RFC 3463. Octets kept as the next hop sent them."""

from __future__ import annotations

import re
from dataclasses import field
from typing import Final

from gateway.values import value

_ENHANCED: Final = re.compile(rb"([245]\.\d{1,3}\.\d{1,3})(?: |$)")
_USUAL: Final = re.compile(rb"[245]\.\d{1,3}\.\d{1,3}(?: [ -~]*)?")
_UNPRINTABLE: Final = re.compile(rb"[^ -~\t]+")
_UNPRINTABLE_UTF8: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]+")

MAX_LINE: Final = 512
"""Octets in a reply line with CRLF: RFC 5321 4.5.3.1.5."""
MAX_LINES: Final = 100


@value(frozen=True, slots=True)
class Reply:
    """A reply: code and the text of each line (without code, separator and CRLF).

    Examples:
        >>> reply = Reply(250, (b"2.0.0 Ok: queued as 4XyZ",))
        >>> (reply.code, reply.enhanced, reply.is_positive)
        (250, '2.0.0', True)
    """

    code: int
    lines: tuple[bytes, ...]
    first: int = field(init=False, repr=False, compare=False)
    """First digit: 2 done, 3 go on, 4 not now, 5 never (RFC 5321 4.2.1)."""
    is_positive: bool = field(init=False, repr=False, compare=False)
    """2xx."""
    is_usual: bool = field(init=False, repr=False, compare=False)
    """One line with an enhanced code, printable and not too long: it needs nothing on its way to a client."""
    _octets: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """What is asked of each reply several times: made once, and the usual replies of a next hop are kept."""
        code, lines = self.code, self.lines
        if len(lines) == 1:
            line = lines[0]
            octets = b"%d %s\r\n" % (code, line)
            usual = len(line) <= MAX_LINE - 6 and _USUAL.fullmatch(line) is not None
        else:
            usual = False
            octets = b"%d-%s\r\n%d %s\r\n" % (code, (b"\r\n%d-" % code).join(lines[:-1]), code, lines[-1]) if lines else b""
        first = code // 100
        self.first, self.is_positive, self.is_usual, self._octets = first, first == 2, usual, octets  # type: ignore[misc] # see value

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code at the front of the text, if there is one."""
        found = _ENHANCED.match(self.lines[0]) if self.lines else None
        return found[1].decode() if found else None

    @property
    def text(self) -> str:
        """All lines with their enhanced codes, joined by a space; for logs."""
        return b" ".join(self.lines).decode("utf-8", "replace")

    def render(self) -> bytes:
        """The octets for the wire."""
        return self._octets

    def __str__(self) -> str:
        if len(self.lines) == 1:
            return self._octets[:-2].decode("utf-8", "replace")
        return f"{self.code} {self.text}"


def reply(code: int, enhanced: str | None, *texts: str) -> Reply:
    """A reply of our own; every line bears the enhanced code (RFC 2034 4)."""
    front = f"{enhanced} " if enhanced else ""
    return Reply(code, tuple(clean((front + text).encode("ascii", "replace")) for text in texts))


def clean(text: bytes, *, utf8: bool = False) -> bytes:
    """Text for one reply line: nothing unprintable, bounded in length (RFC 5321 4.2, 4.5.3.1.5)."""
    if text.isascii() and text.decode().isprintable():  # at a twentieth of the price of a search that finds nothing
        return text[: MAX_LINE - 6]
    pattern = _UNPRINTABLE_UTF8 if utf8 else _UNPRINTABLE
    return pattern.sub(b"?", text)[: MAX_LINE - 6]


def passed_on(theirs: Reply, *, utf8: bool = False) -> Reply:
    """A next hop's reply, word for word, as it may be sent to a client: cleaned and bounded."""
    if theirs.is_usual:
        return theirs
    pattern = _UNPRINTABLE_UTF8 if utf8 else _UNPRINTABLE
    if len(theirs.lines) == 1 and len(theirs.lines[0]) <= MAX_LINE - 6 and pattern.search(theirs.lines[0]) is None:
        return theirs
    return Reply(theirs.code, tuple(clean(line, utf8=utf8) for line in theirs.lines[:MAX_LINES]) or (b"",))
