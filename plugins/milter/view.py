"""A message as the milters of a chain see it, one after the other: what came, with the edits of those before. Pure.

What each of them changed is kept with its name, and becomes edits of the chain at `rewrite`: an added field keeps its place among
those that came, whatever a later milter did to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Self

from gateway import (
    Edit,
    HeaderField,
    Message,
    add_header,
    insert_header,
    remove_header,
    replace_body,
    replace_header,
)

_LINE_END = re.compile(rb"\r\n|\r|\n")


class UnsupportedEditError(Exception):
    """An edit that cannot be carried out here, in words for the operator."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the header section as it is now."""

    name: str
    value: bytes
    """Behind the colon, lines parted by LF, without the last line end."""
    origin: int | None = None
    """Its number among those that came; None: a milter added it."""
    by: str = ""
    """Who added it, or changed it last."""


@dataclass(slots=True)
class View:
    """The message now."""

    message: Message
    fields: list[Field] = field(default_factory=list)
    removed: dict[int, str] = field(default_factory=dict)
    """By whom, by number."""
    body: bytes | None = None
    """Another body than came."""
    body_by: str = ""

    @classmethod
    def of(cls, message: Message) -> Self:
        """As it came."""
        found = [Field(one.name, _lines(one), number) for number, one in enumerate(message.fields)]
        return cls(message, found)

    def copy(self) -> View:
        """To try edits on."""
        return replace(self, fields=list(self.fields), removed=dict(self.removed))

    def chunks(self, size: int) -> Iterator[bytes]:
        """The body, in pieces of at most so many octets."""
        octets = self.message.octets if self.body is None else self.body
        start = self.message.body_offset if self.body is None else 0
        for at in range(start, len(octets), size):
            yield octets[at : at + size]

    def add(self, name: bytes, value: bytes, by: str) -> None:
        """A field behind the others."""
        self.fields.append(Field(_name(name), value, by=by))

    def insert(self, index: int, name: bytes, value: bytes, by: str) -> None:
        """A field at a place, from 1; 0 is the top too, since our own Received is not theirs to see."""
        self.fields.insert(max(0, index - 1), Field(_name(name), value, by=by))

    def change(self, index: int, name: bytes, value: bytes, by: str) -> None:
        """The index-th field of this name, from 1: another body, or gone without one. Where there is none, it is added."""
        wanted, seen = _name(name).lower(), 0
        for at, one in enumerate(self.fields):
            if one.name.lower() != wanted:
                continue
            seen += 1
            if seen < max(1, index):
                continue
            if value:
                self.fields[at] = replace(one, value=value, by=by if one.origin is not None else one.by)
            else:
                del self.fields[at]
                if one.origin is not None:
                    self.removed[one.origin] = by
            return
        if value:
            self.add(name, value, by)

    def edits(self, by: str) -> list[Edit]:
        """What this milter did, as edits of the message as received. UnsupportedEditError for what cannot be written."""
        try:
            return [*self._of_fields(by), *([replace_body(self.body)] if self.body is not None and self.body_by == by else [])]
        except ValueError as error:
            raise UnsupportedEditError(str(error)) from error

    def _of_fields(self, by: str) -> list[Edit]:
        on_top: list[Edit] = []
        found: list[Edit] = []
        behind = 0
        last = max((one.origin for one in self.fields if one.origin is not None), default=-1)
        for one in self.fields:
            if one.origin is not None:
                behind = one.origin + 1
                if one.by == by:
                    found.append(replace_header(self._received(one.origin).name, _body(one.value), self._occurrence(one.origin)))
            elif one.by == by and not behind and last >= 0:
                on_top.append(add_header(one.name, _body(one.value)))
            elif one.by == by:
                # behind the last of those that came: at the end, also of those that were removed
                below = behind if behind <= last else len(self.message.fields) + 1
                found.append(insert_header(one.name, _body(one.value), below))
        gone = [remove_header(self._received(at).name, self._occurrence(at)) for at, who in self.removed.items() if who == by]
        return [*gone, *found, *reversed(on_top)]

    def _received(self, origin: int) -> HeaderField:
        return self.message.fields[origin]

    def _occurrence(self, origin: int) -> int:
        """Its number among the fields of its name as received."""
        name = self._received(origin).name.lower()
        return sum(1 for one in self.message.fields[:origin] if one.name.lower() == name)


def lines_of(octets: bytes) -> bytes:
    """A body that a milter gave, in lines that end in CRLF."""
    count = octets.count(b"\r\n")
    if octets.count(b"\n") == count and octets.count(b"\r") == count:
        return octets
    return _LINE_END.sub(b"\r\n", octets)


def _lines(one: HeaderField) -> bytes:
    return one.raw.replace(b"\r\n", b"\n").replace(b"\0", b"")


def _name(octets: bytes) -> str:
    return octets.decode("latin-1")


def _body(value: bytes) -> str:
    """For an edit: one space behind the colon is the edit's own, lines that are none are folded."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    text = text.removeprefix(" ").rstrip("\r\n").replace("\r\n", "\n").replace("\r", "\n")
    first, *others = text.split("\n")
    folded = [line if line[:1] in {" ", "\t"} else f"\t{line}" for line in others if line.strip()]
    return "\r\n".join([first, *folded])
