"""Where each key of a TOML text stands. tomllib gives values without lines; this walks the same text for the lines.

It follows TOML 1.0 for text that tomllib has already accepted, and checks nothing itself.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field

Key = tuple[str | int, ...]
"""A path into the configuration: `("route", 0, "servers", 1)`."""

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_INLINE_BLANK = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\r\n#]+")


@dataclass(slots=True)
class LineIndex:
    """Lines (from 1) of tables, keys and array elements of one text."""

    lines: dict[Key, int] = field(default_factory=dict)
    appended: set[Key] = field(default_factory=set)
    """Arrays of tables written `[[name]]`: several files may add to one."""


class _Walk:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.counted_to = 0
        self.line = 1
        self.index = LineIndex()
        self.lengths: dict[Key, int] = {}

    def note(self, key: Key) -> None:
        """Remember the line of the present position."""
        self.line += self.text.count("\n", self.counted_to, self.at)
        self.counted_to = self.at
        self.index.lines.setdefault(key, self.line)

    def skip(self, blank: re.Pattern[str] = _BLANK) -> None:
        found = blank.match(self.text, self.at)
        if found:
            self.at = found.end()

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            self.at += 1  # not valid TOML: go on rather than stand still
            return ""
        self.at = found.end()
        return found[0]

    def dotted(self) -> list[str]:
        """A key: bare, quoted, or several with dots."""
        parts: list[str] = []
        while True:
            self.skip(_INLINE_BLANK)
            if self.peek() in {'"', "'"}:
                parts.append(str(tomllib.loads(f"key = {self.take(_STRING)}")["key"]))
            else:
                parts.append(self.take(_BARE))
            self.skip(_INLINE_BLANK)
            if self.peek() != ".":
                return parts
            self.at += 1

    def resolve(self, parts: list[str]) -> Key:
        """A table's name, with the index of the latest element for each array of tables in it."""
        key: Key = ()
        for part in parts:
            key = (*key, part)
            if key in self.lengths:
                key = (*key, self.lengths[key] - 1)
        return key

    def header(self) -> Key:
        """`[table]` or `[[array of tables]]`."""
        double = self.text.startswith("[[", self.at)
        start = self.at
        self.at += 2 if double else 1
        parts = self.dotted()
        end = self.at
        self.at = start
        if double:
            name = (*self.resolve(parts[:-1]), parts[-1])
            self.note(name)
            self.index.appended.add(name)
            self.lengths[name] = self.lengths.get(name, 0) + 1
            table: Key = (*name, self.lengths[name] - 1)
        else:
            table = self.resolve(parts)
        self.note(table)
        self.at = end + (2 if double else 1)
        return table

    def pair(self, table: Key) -> None:
        """`key = value`."""
        self.skip(_INLINE_BLANK)
        start = self.at
        parts = self.dotted()
        end = self.at
        self.at = start
        for length in range(1, len(parts) + 1):
            self.note((*table, *parts[:length]))
        self.at = end + 1  # past the equals sign
        self.skip(_INLINE_BLANK)
        self.value((*table, *parts))

    def value(self, key: Key) -> None:
        match self.peek():
            case '"' | "'":
                self.take(_STRING)
            case "[":
                self.array(key)
            case "{":
                self.inline_table(key)
            case _:
                self.take(_SCALAR)

    def array(self, key: Key) -> None:
        self.at += 1
        place = 0
        while self.at < len(self.text):
            self.skip()
            if self.peek() == "]":
                self.at += 1
                return
            self.note((*key, place))
            self.value((*key, place))
            self.skip()
            if self.peek() == ",":
                self.at += 1
            place += 1

    def inline_table(self, key: Key) -> None:
        self.at += 1
        while self.at < len(self.text):
            self.skip()
            match self.peek():
                case "}":
                    self.at += 1
                    return
                case ",":
                    self.at += 1
                case _:
                    self.pair(key)

    def document(self) -> LineIndex:
        table: Key = ()
        self.skip()
        while self.at < len(self.text):
            if self.peek() == "[":
                table = self.header()
            else:
                self.pair(table)
            self.skip()
        return self.index


def index_lines(text: str) -> LineIndex:
    """Lines of all keys of a text that tomllib has read without an error."""
    return _Walk(text).document()
