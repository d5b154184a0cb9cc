"""Which parts of a message are files: by offsets, for a process that maps the same octets, and decoded there in every way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from gateway.content import Octets
from gateway.files.found import Given
from gateway.files.transfer import has_uuencoded, readings, uuencoded
from gateway.message import Message
from gateway.mime import Part

_MOST_UUENCODED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One part of the message."""

    part: int
    start: int
    end: int
    encoding: str
    names: tuple[str, ...]
    declared_type: str
    within: tuple[str, ...]
    kind: str = "file"
    """`file`; `listed`: what is in it are parts of their own; `text`: only what is uuencoded in it."""

    def to_json(self) -> list[Any]:
        """Plain values."""
        return [getattr(self, one.name) for one in fields(self)]

    @classmethod
    def from_json(cls, value: Sequence[Any]) -> Wanted:
        """What `to_json` gave, after JSON."""
        part, start, end, encoding, names, declared_type, within, kind = value
        return cls(
            part=part, start=start, end=end, encoding=encoding, names=tuple(names), declared_type=declared_type,
            within=tuple(within), kind=kind,
        )  # fmt: skip


_TEXT = ("", "text/html", "text/xml", "image/svg+xml", "text/x-script")


def wanted(message: Message) -> list[Wanted]:
    """The attachments, other parts whose content is no text, whatever they declare, and text that holds uuencoded files."""
    found = []
    parts = message.parts
    for number, part in enumerate(parts):
        kind = "file"
        if not part.is_attachment and (part.start == part.end or part.detected_type in _TEXT):
            if not has_uuencoded(message.octets, part.body_start, part.end):
                continue
            kind = "text"
        elif part.is_readable_message and any(part in one.within for one in parts[number + 1 : number + 2]):
            kind = "listed"
        found.append(_wanted(number, part, kind))
    return found


def _wanted(number: int, part: Part, kind: str) -> Wanted:
    messages = [one for one in part.within if one.is_readable_message]
    return Wanted(
        part=number, start=part.body_start, end=part.end, encoding=part.encoding[:100], names=part.filenames[:8],
        declared_type=part.content_type, within=tuple(one.filename for one in messages), kind=kind,
    )  # fmt: skip


def given(octets: Octets, parts: Sequence[Wanted]) -> Iterator[Given]:
    """Each decoded, when it is asked for: one at a time is held."""
    for one in parts:
        raw = octets[one.start : one.end]
        base = Given(names=one.names, content=b"", declared_type=one.declared_type, part=one.part, within=one.within)
        if one.kind == "text":
            for name, content in uuencoded(readings(raw, one.encoding)[0], _MOST_UUENCODED):
                yield replace(base, names=(name,), content=content, declared_type="")
            continue
        if one.kind == "listed":
            yield replace(base, content=raw, is_open=False)
            continue
        first, *others = readings(raw, one.encoding)
        del raw
        yield replace(base, content=first)
        for content in others:
            yield replace(base, content=content, signs=("broken-encoding",))
