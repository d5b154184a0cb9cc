"""Edits: changes of a message that a plugin asks for, as values. `splice` carries them out by offset."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

_NAME = re.compile(r"[!-9;-~]{1,76}")  # RFC 5322 3.6.8: ftext
_MAX_LINE = 998  # RFC 5322 2.1.1


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        msg = f"{name!r} is not a field name (RFC 5322 3.6.8)"
        raise ValueError(msg)


def _check_body(name: str, value: str) -> None:
    """A field body: folded lines may be given with CRLF followed by a space or tab, nothing else."""
    lines = f"{name}: {value}".split("\r\n")
    for number, line in enumerate(lines):
        if "\r" in line or "\n" in line or "\0" in line:
            msg = f"the body of field {name} has a bare CR, LF or NUL"
            raise ValueError(msg)
        if number and (line[:1] not in {" ", "\t"} or not line.strip()):
            msg = f"a folded line of field {name} must begin with a space or tab and not be blank"
            raise ValueError(msg)
        if len(line.encode()) > _MAX_LINE:
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
        count = self.octets.count(b"\r\n")
        if self.octets.count(b"\r") != count or self.octets.count(b"\n") != count:
            raise ValueError("the new body has a bare CR or LF")


Edit: TypeAlias = AddHeader | InsertHeader | ReplaceHeader | RemoveHeader | TagSubject | ReplaceBody
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
