"""Edits: changes of a message that a plugin asks for, as values. `splice` carries them out by offset."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from gateway.mime import Part
from gateway.words import decode_octets, encode_words

_NAME = re.compile(r"[!-9;-~]{1,76}")  # RFC 5322 3.6.8: ftext
_MAX_LINE = 998  # RFC 5322 2.1.1
_MAX_CHARACTERS = _MAX_LINE // 4
"""So many are no more octets than that, whatever they are."""
_USUAL_FIELD = re.compile(rf"[^\r\n\0]{{0,{_MAX_CHARACTERS}}}+(?:\r\n[ \t][^\s\0][^\r\n\0]{{0,{_MAX_CHARACTERS - 2}}}+)*+")
"""Short lines, of which each further one has one space or tab in front: nothing else is to be looked at."""
_SEALED = ("multipart/signed", "multipart/encrypted")  # RFC 1847 2.1, 2.2


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        msg = f"{name!r} is not a field name (RFC 5322 3.6.8)"
        raise ValueError(msg)


def _check_body(name: str, value: str) -> None:
    """A field body: folded lines may be given with CRLF followed by a space or tab, nothing else."""
    field = f"{name}: {value}"
    if _USUAL_FIELD.fullmatch(field):
        return
    lines = field.split("\r\n")
    for number, line in enumerate(lines):
        if "\r" in line or "\n" in line or "\0" in line:
            msg = f"the body of field {name} has a bare CR, LF or NUL"
            raise ValueError(msg)
        if number and (line[:1] not in {" ", "\t"} or not line.strip()):
            msg = f"a folded line of field {name} must begin with a space or tab and not be blank"
            raise ValueError(msg)
        if len(line) > _MAX_CHARACTERS and len(line.encode()) > _MAX_LINE:
            msg = f"a line of field {name} is longer than {_MAX_LINE} octets"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddHeader:
    """A new header field on top.

    Examples:
        >>> AddHeader(name="X-Seen", value="yes")
        AddHeader(name='X-Seen', value='yes')
        >>> AddHeader(name="X Seen", value="yes")
        Traceback (most recent call last):
        ValueError: 'X Seen' is not a field name (RFC 5322 3.6.8)
    """

    name: str
    value: str

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_body(self.name, self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceHeader:
    """Another body for the field of this name; `occurrence` counts from the top, from 0.

    Examples:
        >>> ReplaceHeader(name="Subject", value="Hello").occurrence
        0
    """

    name: str
    value: str
    occurrence: int = 0

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_body(self.name, self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveHeader:
    """The field goes: one occurrence (from the top, from 0) or, with None, all of this name.

    Examples:
        >>> RemoveHeader(name="X-Internal").occurrence is None
        True
    """

    name: str
    occurrence: int | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class TagSubject:
    """A tag in front of the subject (RFC 2047 decoded and encoded), never twice.

    Examples:
        >>> TagSubject(tag="[EXTERNAL]").tag
        '[EXTERNAL]'
    """

    tag: str

    def __post_init__(self) -> None:
        _check_body("Subject", self.tag)


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertHeader:
    """A new header field below others: behind so many fields of the message as received; more than it has: at the end.

    Examples:
        >>> InsertHeader(name="X-Seen", value="yes", below=3).below
        3
    """

    name: str
    value: str
    below: int

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_body(self.name, self.value)
        if self.below < 1:
            msg = "a field below none is one on top: add_header"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceBody:
    r"""Another body: everything behind the header section. Breaks signatures that others made.

    Examples:
        >>> ReplaceBody(octets=b"Removed by policy.\r\n").octets
        b'Removed by policy.\r\n'
    """

    octets: bytes

    def __post_init__(self) -> None:
        _check_lines(self.octets)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacePart:
    r"""Other octets in the place of one part of a multipart, its header section included. Breaks signatures that others made.

    Made by `replace_part` and `remove_part`: they know where a part may be cut. Offsets are those of the message as received.

    Examples:
        >>> ReplacePart(start=310, end=4_711, octets=b"Content-Type: text/plain\r\n\r\ngone").note
        ''
    """

    start: int
    end: int
    octets: bytes
    note: str = ""
    """For the record: what was there, and where it went."""

    def __post_init__(self) -> None:
        if not 0 < self.start <= self.end:
            raise ValueError(f"a part cannot be from {self.start} to {self.end}")
        _check_lines(self.octets)


def _check_lines(octets: bytes) -> None:
    count = octets.count(b"\r\n")
    if octets.count(b"\r") != count or octets.count(b"\n") != count:
        raise ValueError("the new body has a bare CR or LF")


Edit: TypeAlias = AddHeader | InsertHeader | ReplaceHeader | RemoveHeader | TagSubject | ReplaceBody | ReplacePart
"""What `rewrite` may answer with.

Examples:
    >>> edits: list[Edit] = [tag_subject("[EXTERNAL]"), remove_header("X-Internal")]
"""


def add_header(name: str, value: str) -> AddHeader:
    r"""A new header field on top. ValueError for a name or body that cannot be.

    Examples:
        >>> add_header("X-Seen", "yes")
        AddHeader(name='X-Seen', value='yes')
        >>> add_header("X-Seen", "yes\r\nBcc: eve@example.net")
        Traceback (most recent call last):
        ValueError: a folded line of field X-Seen must begin with a space or tab and not be blank
    """
    return AddHeader(name=name, value=value)


def insert_header(name: str, value: str, below: int) -> InsertHeader:
    """A new header field behind so many fields of the message as received; more than it has: at the end.

    Examples:
        >>> insert_header("X-Seen", "yes", below=1)
        InsertHeader(name='X-Seen', value='yes', below=1)
    """
    return InsertHeader(name=name, value=value, below=below)


def replace_body(octets: bytes) -> ReplaceBody:
    """Another body, in lines that end in CRLF. ValueError for a bare CR or LF.

    Examples:
        >>> replace_body(b"")
        ReplaceBody(octets=b'')
    """
    return ReplaceBody(octets=octets)


def replace_part(part: Part, body: bytes, *, headers: Sequence[tuple[str, str]] = (), note: str = "") -> ReplacePart:
    r"""Another part in the place of this one: `headers` and, as they are, the octets of `body`, in lines that end in CRLF.

    No octet outside of the part is touched; the lines with the boundary stay. ValueError for a part that cannot be replaced: the
    message itself, a message or multipart inside it, whatever lies in one of those messages or in something signed or encrypted;
    and for a body that has a bare CR or LF or would end the part before its end.

    Examples:
        >>> [part] = a_message(attach="invoice.exe").attachments
        >>> replace_part(part, b"Removed.", headers=[("Content-Type", "text/plain")], note="invoice.exe").octets
        b'Content-Type: text/plain\r\n\r\nRemoved.'
        >>> replace_part(a_message().parts[0], b"Removed.")
        Traceback (most recent call last):
        ValueError: the message itself is no part of a multipart
    """
    check_part(part)
    lines = []
    for name, value in headers:
        _check_name(name)
        _check_body(name, value)
        lines.append(f"{name}: {encode_words(value)}\r\n".encode())
    octets = b"".join(lines) + b"\r\n" + body
    if has_boundary(part, octets):
        raise ValueError("the new part has a line that begins as a boundary of the message does")
    start, end = part.start, part.end
    if part.delimiter == part.body_start:  # an empty part: the line end in front of the delimiter is that of its header section
        end = part.delimiter
        octets += b"\r\n"
    elif part.delimiter == part.end and not octets.endswith(b"\r\n"):
        octets += b"\r\n"  # no delimiter follows: lines of a message end in CRLF
    return ReplacePart(start=start, end=end, octets=octets, note=note)


def remove_part(part: Part, *, note: str = "") -> ReplacePart:
    r"""An empty text in the place of this part: its boundary lines stay. ValueError as for `replace_part`.

    Examples:
        >>> [part] = a_message(attach="invoice.exe").attachments
        >>> remove_part(part, note="invoice.exe").octets
        b'Content-Type: text/plain\r\n\r\n'
    """
    return replace_part(part, b"", headers=(("Content-Type", "text/plain"),), note=note)


def has_boundary(part: Part, octets: bytes) -> bool:
    """Whether a line would end this part before its end (RFC 2046 5.1.1)."""
    boundaries = [one.boundary for one in part.within if one.boundary]
    lines = octets.split(b"\r\n") if boundaries and b"--" in octets else []
    return any(line.startswith(b"--") and decode_octets(line)[2:].startswith(tuple(boundaries)) for line in lines)


def check_part(part: Part) -> None:
    """ValueError with why this part cannot be replaced."""
    if not part.within:
        raise ValueError("the message itself is no part of a multipart")
    for one in (*part.within, part):
        if one.content_type in _SEALED:
            raise ValueError(f"the part lies in {one.content_type}, which others vouch for as it is")
        if one.content_type.startswith("message/"):
            raise ValueError(f"the part is, or lies in, a message of its own ({one.content_type})")
    if part.content_type.startswith("multipart/"):
        raise ValueError(f"the part has parts itself ({part.content_type})")
    if not part.body_start <= part.delimiter:
        raise ValueError(
            "where it begins or ends is not known: a boundary or header section without end, or too many lines like boundaries"
        )


def replace_header(name: str, value: str, occurrence: int = 0) -> ReplaceHeader:
    """Another body for one header field.

    Examples:
        >>> replace_header("Reply-To", "desk@example.org")
        ReplaceHeader(name='Reply-To', value='desk@example.org', occurrence=0)
    """
    return ReplaceHeader(name=name, value=value, occurrence=occurrence)


def remove_header(name: str, occurrence: int | None = None) -> RemoveHeader:
    """Cut header fields.

    Examples:
        >>> remove_header("Received", 2)
        RemoveHeader(name='Received', occurrence=2)
    """
    return RemoveHeader(name=name, occurrence=occurrence)


def tag_subject(tag: str) -> TagSubject:
    """Put a tag in front of the subject.

    Examples:
        >>> class External(Plugin):
        ...     @hook
        ...     async def rewrite(self) -> TagSubject:
        ...         return tag_subject("[EXTERNAL]")
        >>> (await run_plugin(External())).edits
        (TagSubject(tag='[EXTERNAL]'),)
    """
    return TagSubject(tag=tag)
