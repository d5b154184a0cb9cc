"""A structured field body, read from left to right: CFWS, words, values (RFC 5322 3.2, RFC 2045 5.1, RFC 8601 2.2).

Tolerant and linear: each octet is looked at once or twice, nothing raises, and what is never closed goes to the end.
"""

from __future__ import annotations

import re
from typing import Final

MAX_TEXT: Final = 16_384
"""Characters of a field body that are read."""
MAX_COMMENTS: Final = 200
"""Comments of a field body; behind them it is not read on."""
MAX_COMMENT: Final = 500
"""Characters of the comments that are kept, for people."""

_FOLD: Final = re.compile(r"\r?\n(?=[ \t])")
_SPACE: Final = re.compile(r"[ \t\r\n]*+")
_KEYWORD: Final = re.compile(r"[A-Za-z0-9_-]++")
_DIGITS: Final = re.compile(r"[0-9]{1,9}(?![0-9])")
_RUN: Final = re.compile(r"[^ \t\r\n;()\"]++")
_ID_RUN: Final = re.compile(r"[^ \t\r\n;()\"=]++")
_TO_AT: Final = re.compile(r"[^ \t\r\n;()=@]{1,998}[ \t\r\n]*@")
_PLAIN: Final = re.compile(r"[^;(\"]++")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*+)(")?', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_COMMENT_PIECE: Final = re.compile(r"[^()\\]++|\\.|[()\\]", re.DOTALL)
# Controls are nobody's text: what is read may end up in a log or on a page.
_CONTROLS: Final = dict.fromkeys([*range(9), 11, 12, *range(14, 32), *range(127, 160), 0x2028, 0x2029], "\ufffd")
# `smtp.mailfrom= smtp.helo=…` of software that has nothing to say: an empty value, not the value `smtp.helo=…`.
_NEXT_PROPERTY: Final = re.compile(r"(?:smtp|header|body|policy|dns|arc|polrec)\.[a-z0-9-]++=", re.IGNORECASE)


def readable(body: bytes | str) -> str:
    """A field body as characters, unfolded (RFC 5322 2.2.3): UTF-8 (RFC 6532), U+FFFD for controls and what is none."""
    text = body[:MAX_TEXT].decode("utf-8", "replace") if isinstance(body, bytes) else body[:MAX_TEXT]
    return _FOLD.sub("", text).translate(_CONTROLS)


def requoted(text: str) -> str:
    """A quoted-string with this content (RFC 5322 3.2.4)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Scanner:
    """A place in a text, moved by what is read."""

    __slots__ = ("_passed", "at", "comments", "text", "unclosed")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._passed = 0
        self.comments: list[str] = []
        """The comments that were passed over since somebody emptied the list."""
        self.unclosed = ""
        """`comment`, `quoted string` or `series of comments` when one has no end."""

    @property
    def next(self) -> str:
        """The next character, `` at the end."""
        return self.text[self.at : self.at + 1]

    def ends_clause(self) -> bool:
        """Whether this is a semicolon, or the end."""
        return self.next in {"", ";"}

    def take(self, character: str) -> bool:
        """Whether this character is next; it is passed."""
        if self.next != character:
            return False
        self.at += 1
        return True

    def cfws(self) -> None:
        """Behind folding white space and comments, which nest (RFC 5322 3.2.2)."""
        while True:
            self._match(_SPACE)
            if self.next != "(":
                return
            self._comment()

    def keyword(self) -> str:
        """An Ldh-str (RFC 5321 4.1.2; underscores are met in the wild) in lower case, `` when there is none."""
        return self._match(_KEYWORD).lower()

    def number(self) -> int | None:
        """1*DIGIT, at most nine of them."""
        digits = self._match(_DIGITS)
        return int(digits) if digits else None

    def authserv_id(self) -> str:
        """The name: a quoted-string, or everything up to space, comment, `;` or `=`."""
        return self.quoted() if self.next == '"' else self._match(_ID_RUN)

    def value(self) -> str:
        """A pvalue: value / [[local-part] "@"] domain-name (RFC 8601 2.2), and what others write without quotes.

        The content of a quoted-string; one that is part of an address keeps its quotes.
        """
        start = self.at
        self.cfws()
        if self.at > start and _NEXT_PROPERTY.match(self.text, self.at):
            return ""
        pieces: list[str] = []
        is_one_quoted = self.next == '"'
        while True:
            content = self.quoted() if self.next == '"' else None
            piece = requoted(content) if content is not None else self._match(_RUN)
            if not piece:
                break
            pieces.append(piece)
            if not self._goes_on(piece):
                break
            is_one_quoted = False
        return content if is_one_quoted and content is not None else "".join(pieces)

    def quoted(self) -> str:
        """The content of the quoted-string that begins here (RFC 5322 3.2.4)."""
        found = _QUOTED.match(self.text, self.at)
        if found is None:
            return ""
        self.at = found.end()
        if found[2] is None:
            self.unclosed, self.at = "quoted string", len(self.text)
        return _ESCAPE.sub(r"\1", found[1])

    def to_end_of_clause(self) -> None:
        """To the next semicolon that is in no comment and no quoted-string."""
        while not self.ends_clause():
            if self.next == '"':
                self.quoted()
            elif self.next == "(":
                self._comment()
            else:
                self._match(_PLAIN)

    def without_comments(self) -> str:
        """What is left of the text, with a space in place of each comment."""
        kept: list[str] = []
        while self.next:
            start = self.at
            if self.next == "(":
                self._comment()
                kept.append(" ")
                continue
            if self.next == '"':
                self.quoted()
            elif not self.take(";"):
                self._match(_PLAIN)
            kept.append(self.text[start : self.at])
        return "".join(kept)

    def _goes_on(self, last: str) -> bool:
        """CFWS may stand around the dots of an obs-local-part, and before `@` (RFC 5322 3.4.1, 4.4)."""
        if self.next not in {" ", "\t", "\r", "\n", "("}:
            return self.next not in {"", ";", ")"}
        before, comments = self.at, len(self.comments)
        self.cfws()
        if self.next in {"@", "."} or (last.endswith(".") and _TO_AT.match(self.text, self.at)):
            return True
        if last.endswith("@") and not self.ends_clause() and not _NEXT_PROPERTY.match(self.text, self.at):
            return True
        self.at = before
        del self.comments[comments:]
        return False

    def _comment(self) -> None:
        self._passed += 1
        if self._passed > MAX_COMMENTS:
            self.unclosed, self.at = "series of comments", len(self.text)
            return
        depth = 0
        start = self.at
        for piece in _COMMENT_PIECE.finditer(self.text, self.at):
            self.at = piece.end()
            depth += {"(": 1, ")": -1}.get(piece[0], 0)
            if depth == 0:
                self.comments.append(_ESCAPE.sub(r"\1", self.text[start + 1 : min(self.at - 1, start + 1 + MAX_COMMENT)]))
                return
        self.unclosed, self.at = "comment", len(self.text)

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found[0]
