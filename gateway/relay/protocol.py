"""The engine towards a next hop: commands out, replies in, dot-stuffing. RFC 5321 4.1, 4.2, 4.5.2; RFC 2920. No I/O.

It mirrors `gateway.smtp.protocol`: octets received go in, pairs of (token, reply) come out; a token is whatever the
caller gave with the command. It keeps the order of replies, holds commands back that may not go out yet, and says when
the next hop talks nonsense. It opens nothing, waits for nothing and knows no time.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Generic, TypeVar

from gateway.relay.keyword_values import combined
from gateway.smtp.dotstream import LINE_DOT
from gateway.smtp.replies import Reply

T = TypeVar("T")

MAX_REPLY_LINE: Final = 4096
"""Octets in a line of a reply: eight times what RFC 5321 4.5.3.1.5 allows; more breaks the link."""
MAX_CHALLENGE_LINE: Final = 12_288 + 6
"""The same for a link that AUTH is said on (RFC 4954 4)."""
MAX_REPLY_LINES: Final = 200
"""Lines in a reply."""
_KEYWORD: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9-]*")
_NOT_ONE_LINE: Final = "a command with CR, LF or NUL in it"
_CODES: Final = {b"%d " % code: code for code in range(200, 600)}
_MARKS: Final = (b" ", b"-", b"")
USUAL: Final = 128
"""Octets of a reply that is looked up first: next hops say the same few again and again."""


@lru_cache(maxsize=256)
def usual_reply(octets: bytes) -> Reply | None:
    """The reply that these octets are, if they are one of one line and nothing else. What is odd in it is left to `_line`."""
    code = _CODES.get(octets[:4])
    if code is None or octets[-2:] != b"\r\n" or octets.find(b"\n") != len(octets) - 1:
        return None
    return Reply(code, (octets[4:-2],))


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a next hop offered in its reply to EHLO (RFC 5321 4.1.1.1)."""

    keywords: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Keyword in upper case, and its parameters as sent."""

    def offers(self, keyword: str) -> bool:
        """Whether the keyword, in any case, was among them."""
        return keyword.upper() in self.keywords

    def parameters(self, keyword: str) -> tuple[str, ...]:
        """The keyword's parameters; empty also when it was not offered."""
        return self.keywords.get(keyword.upper(), ())

    @property
    def size(self) -> int | None:
        """The limit of SIZE in octets; 0 when there is none; None when SIZE is not offered (RFC 1870 4)."""
        if "SIZE" not in self.keywords:
            return None
        given = self.keywords["SIZE"]
        return int(given[0]) if given and given[0].isascii() and given[0].isdigit() and len(given[0]) <= 20 else 0

    def without(self, *keywords: str) -> Capabilities:
        """The same without these."""
        if self.keywords.keys().isdisjoint(keywords):
            return self
        return Capabilities({name: given for name, given in self.keywords.items() if name not in keywords})

    def common(self, other: Capabilities) -> Capabilities:
        """What both offer, with values that keep to both. LIMITS of one holds for both: it takes away and gives nothing."""
        keywords: dict[str, tuple[str, ...]] = {}
        for keyword, mine in self.keywords.items():
            if keyword in other.keywords:
                both = combined(keyword, mine, other.keywords[keyword])
                if both is not None:
                    keywords[keyword] = both
            elif keyword == "LIMITS":
                keywords[keyword] = mine
        if "LIMITS" in other.keywords:
            keywords.setdefault("LIMITS", other.keywords["LIMITS"])
        return Capabilities(keywords)

    @classmethod
    def from_reply(cls, reply: Reply) -> Capabilities:
        """From a positive reply to EHLO; lines that are no keyword are passed over."""
        keywords: dict[str, tuple[str, ...]] = {}
        for line in reply.lines[1:]:  # RFC 5321 4.1.1.1: the first line is the greeting
            words = line.split()
            if words and _KEYWORD.fullmatch(words[0]):
                keywords[words[0].decode("ascii").upper()] = tuple(word.decode("utf-8", "replace") for word in words[1:])
        return cls(keywords)


def in_one_piece(content: bytes) -> bytes:
    """All of a content as it goes out after DATA: dots that begin a line doubled, and the end of data. RFC 5321 4.5.2.

    The same octets as a `DotStuffer` makes of it in pieces.
    """
    # Looking for one octet from behind costs next to nothing: an attachment has no dot, so that its header is all that is looked through.
    last = content.rfind(b".")
    if last >= 0:
        if LINE_DOT.search(content, 0, last + 1) is not None:
            content = content.replace(b"\r\n.", b"\r\n..")
        if content[0] == 0x2E:
            content = b"." + content
    if not content or content.endswith(b"\r\n"):
        return content + b".\r\n"
    return content + b"\r\n.\r\n"


class DotStuffer:
    """Transparency of RFC 5321 4.5.2 over chunks cut anywhere: one pass, nothing else is changed.

    `feed` each chunk, then `finish` once, which ends the content with CRLF.CRLF (and a CRLF before it if there is none).
    """

    __slots__ = ("_after_cr", "_line_start")

    def __init__(self) -> None:
        self._line_start = True
        """The octets so far end a line, or there are none."""
        self._after_cr = False

    def feed(self, chunk: bytes) -> bytes:
        """The chunk with each dot that begins a line doubled."""
        if not chunk:
            return chunk
        out = chunk
        if LINE_DOT.search(chunk, 0, chunk.rfind(b".") + 1) is not None:
            out = chunk.replace(b"\r\n.", b"\r\n..")
        if self._line_start:
            if chunk[0] == 0x2E:
                out = b"." + out
        elif self._after_cr and chunk[:2] == b"\n.":
            out = b"\n." + out[1:]
        self._line_start = chunk.endswith(b"\r\n") or (self._after_cr and chunk == b"\n")
        self._after_cr = chunk.endswith(b"\r")
        return out

    def finish(self) -> bytes:
        """The end of the content."""
        return b".\r\n" if self._line_start else b"\r\n.\r\n"


@dataclass(frozen=True, slots=True)
class Broken:
    """Why nothing more can be expected of the link."""

    what: str
    reply: Reply | None = None
    """The reply that nobody asked for, if it was one."""


class NextHopProtocol(Generic[T]):
    """The dialogue with one next hop: which command may go out, and whose reply came in."""

    def __init__(self) -> None:
        self.pipelining = False
        """The next hop offers PIPELINING: groups of commands go out together (RFC 2920 3.1)."""
        self.reply_line_limit = MAX_REPLY_LINE
        self.broken: Broken | None = None
        self.expected: deque[T] = deque()
        """Tokens of the commands that are out, the oldest first."""
        self.queued: deque[tuple[bytes, T, bool]] = deque()
        """Commands that wait to go out, each with its token and whether it ends a group."""
        self.is_group_over = False
        """Nothing goes out before the reply to the last command that is out."""
        self.is_in_content = False
        """Content goes out; its final dot has not."""
        self.is_ahead = False
        """The next hop said something that belongs to no reply so far, or nonsense."""
        self._rest = b""
        self._lines: list[bytes] = []
        self._code = b""

    @property
    def is_quiet(self) -> bool:
        """Nothing is out, waits to go out, or has been half received."""
        return not (self.expected or self.queued or self.is_ahead)

    def expect(self, token: T) -> None:
        """A reply will come that no command asks for: the greeting."""
        self.expected.append(token)

    def command(self, line: bytes, token: T, *, last: bool = False) -> None:
        """Queue a command without its CRLF. `last`: nothing may follow it before its reply (RFC 2920 3.1: EHLO, DATA, QUIT, NOOP)."""
        if 13 in line or 10 in line or 0 in line:  # for an octet as a number at a third of the price of a pattern
            raise ValueError(_NOT_ONE_LINE)
        self.queued.append((line + b"\r\n", token, last))

    def octets_to_send(self) -> bytes:
        """All the commands that may go out now, as one piece."""
        queued, expected = self.queued, self.expected
        if not queued or self.is_group_over or self.is_in_content or (expected and not self.pipelining):
            return b""
        line, token, last = queued.popleft()
        expected.append(token)
        if not self.pipelining:
            return line
        if last or not queued:  # most groups have one command
            self.is_group_over = last
            return line
        lines = [line]
        while queued and not last:
            line, token, last = queued.popleft()
            lines.append(line)
            expected.append(token)
        self.is_group_over = last
        return b"".join(lines)

    def at_once(self, line: bytes, token: T, last: bool) -> bytes:
        """As `command`, and then `octets_to_send`."""
        if self.queued or self.is_in_content or self.is_group_over or (self.expected and not self.pipelining):
            self.command(line, token, last=last)
            return self.octets_to_send()
        if 13 in line or 10 in line or 0 in line:
            raise ValueError(_NOT_ONE_LINE)
        self.expected.append(token)
        self.is_group_over = last and self.pipelining
        return line + b"\r\n"

    def begin_content(self, token: T, *more: T) -> None:
        """354 was read: content goes out now, and `token` is for the reply to its end; `more` for LMTP's further ones (RFC 2033 4.2)."""
        self.expected.append(token)
        self.expected.extend(more)
        self.is_in_content = True

    def end_content(self) -> None:
        """The final dot went out."""
        self.is_in_content = False

    def abandon(self) -> list[T]:
        """The link is over: the tokens of all commands that will not be answered."""
        tokens = [*self.expected, *(token for _, token, _ in self.queued)]
        self.expected.clear()
        self.queued.clear()
        return tokens

    def receive(self, octets: bytes) -> list[tuple[T, Reply]]:
        """Octets from the next hop; the replies that they complete, each with its command's token.

        After nonsense (garbage, a line or reply without end, a reply nobody asked for) `broken` is set, and what is
        returned came before it.
        """
        answered: list[tuple[T, Reply]] = []
        if self._rest:
            octets = self._rest + octets
        # A lone LF is taken as a line's end in replies: what is at stake is our own link only.
        *lines, self._rest = octets.split(b"\n")
        for line in lines:
            if len(line) > self.reply_line_limit:
                self.broken = Broken("a reply line without end")
            if self.broken is not None:
                break
            reply = usual_reply(line + b"\n") if len(line) < USUAL and not self._lines else None
            if reply is None:
                reply = self._line(line[:-1] if line.endswith(b"\r") else line)
            if reply is not None:
                self._pair(reply, answered)
        if self.broken is None and len(self._rest) > self.reply_line_limit:
            self.broken = Broken("a reply line without end")
        self.is_ahead = self.broken is not None or bool(self._rest or self._lines)
        return answered

    def _line(self, line: bytes) -> Reply | None:
        """Take one line of a reply; the reply when it was the last one. RFC 5321 4.2."""
        code, mark = line[:3], line[3:4]
        if not (len(code) == 3 and code.isdigit() and b"2" <= code[:1] <= b"5" and mark in _MARKS) or (
            self._lines and code != self._code
        ):
            self.broken = Broken(f"a line that is no reply: {line[:80]!r}")
            return None
        if mark != b"-":
            lines = (*self._lines, line[4:]) if self._lines else (line[4:],)
            self._lines = []
            return Reply(int(code), lines)
        self._lines.append(line[4:])
        self._code = code
        if len(self._lines) >= MAX_REPLY_LINES:
            self.broken = Broken("a reply of too many lines")
        return None

    def _pair(self, reply: Reply, answered: list[tuple[T, Reply]]) -> None:
        """Give a reply to the oldest command that is out."""
        if not self.expected:
            self.broken = Broken(f"a reply nobody asked for: {reply}", reply)
            return
        if self.is_in_content:
            # Before the final dot only a refusal makes sense; what it stops is not resumed on this link.
            self.broken = Broken(f"a reply before the end of the content: {reply}", reply)
            if reply.first not in (4, 5):
                return
        answered.append((self.expected.popleft(), reply))
        if not self.expected:
            self.is_group_over = False
