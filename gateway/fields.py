"""The header section by offsets: RFC 5322 2.2, found in one linear pass over the octets. Nothing is re-serialised.

Hostile input is ordinary: no header section, an mbox line on top, malformed lines, 8-bit octets, bare LF.
The header section ends at the first blank line or, as MTAs have it, before the first line that is no field.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from gateway.content import Content, Octets
from gateway.words import decode_octets, decode_words, unfold

# RFC 5322 2.2, 4.5 for space before the colon, 2.2.3: a line that begins with a space or tab continues the field.
_FIELD: Final = re.compile(rb"([!-9;-~]++)[ \t]*+(:)[^\n]*+(?:\n[ \t][^\n]*+)*+\n?")
_BODY: Final = re.compile(rb"[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+\n?+)")
_COLON: Final = re.compile(rb"[\x00-\x09\x0b-\x20]*+:")
_REST: Final = re.compile(rb"[^\n]*+(?:\n[ \t][^\n]*+)*+\n?")
# MTAs take `From someone …` on the first line for a mailbox's separator, not for a field.
_SECTION: Final = rb"(?:>*+From [^\n]*+\n?+)?+((?:[!-9;-~]++[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*+\n?+){0,%d}+)(?:\r?+\n)?+"
_MAX_NAME: Final = 200
_MESSAGE_ID: Final = re.compile(r"<[^<>\s]{1,998}>")

MAX_BEYOND: Final = 1_000_000
"""Octets behind a malformed line that are searched: `[limits] header_size` as it is by default."""
MAX_VALUE: Final = 65_536
"""Octets of one field body that are decoded; the octets themselves are never cut."""


class HeaderField:
    """One header field, as offsets into the content. `start` to `end` are its octets with the line end.

    Examples:
        >>> field = a_message(subject="Grüße").field("subject")
        >>> (field.name, field.value, field.unfolded)
        ('Subject', 'Grüße', '=?utf-8?B?R3LDvMOfZQ==?=')
    """

    __slots__ = ("_content", "_value", "colon", "end", "name", "start")

    def __init__(self, content: Content, name: str, start: int, colon: int, end: int) -> None:
        self._content = content
        self._value: str | None = None
        self.name = name
        """As written; compare in lower case."""
        self.start = start
        self.colon = colon
        """Offset of the colon."""
        self.end = end

    @property
    def octets(self) -> bytes:
        """The whole field with its line end, as received."""
        return self._content.octets[self.start : self.end]

    @property
    def raw(self) -> bytes:
        """The body: what stands after the colon, folds kept, without the last line end."""
        body = self._content.octets[self.colon + 1 : self.end]
        if body.endswith(b"\r\n"):
            return body[:-2]
        return body[:-1] if body.endswith(b"\n") else body

    @property
    def unfolded(self) -> str:
        """The body on one line, encoded words as they are; at most MAX_VALUE octets of it."""
        start = self.colon + 1
        return _on_one_line(self._content.octets[start : min(self.end, start + MAX_VALUE)])

    @property
    def value(self) -> str:
        """The body on one line with its encoded words decoded (RFC 2047), tolerant of everything."""
        if self._value is None:
            self._value = decode_words(self.unfolded)
        return self._value

    def __repr__(self) -> str:
        return f"HeaderField({self.name!r}, {self.start}, {self.end})"


def _on_one_line(body: bytes) -> str:
    body = body.strip(b" \t\r\n")
    return decode_octets(unfold(body) if 0x0A in body else body)


def subject_of(text: str | None) -> str:
    """What a Subject field says, of its text on one line; `` for None, where there is no such field."""
    return "" if text is None else decode_words(text)


def message_id_of(text: str | None) -> str:
    """What a Message-ID field says (RFC 5322 3.6.4): the first thing in angle brackets, with them, else what stands there."""
    if text is None:
        return ""
    found = _MESSAGE_ID.search(text)
    return text[:998] if found is None else found[0]


class HeaderSection:
    """What the scan found: where things are. The fields are listed when somebody asks for them, as most messages need two."""

    __slots__ = (
        "_content",
        "_fields",
        "_listed",
        "_lowered",
        "_message_id",
        "_subject",
        "body_offset",
        "end",
        "has_blank_line",
        "has_fields",
        "is_cut",
        "top",
    )

    def __init__(self, content: Content, top: int, listed: int, end: int, body_offset: int, *, is_cut: bool = False) -> None:
        self._content = content
        self._listed = listed
        self._fields: tuple[HeaderField, ...] | None = None
        self._lowered: bytes | None = None
        self._message_id: str | None = None
        self._subject: str | None = None
        self.top = top
        """Where a new field goes: 0, or behind an mbox line."""
        self.end = end
        """Offset of the blank line, or of the first line that is no field."""
        self.body_offset = body_offset
        """Offset of the body's first octet."""
        self.has_blank_line = body_offset > end
        self.has_fields = listed > top
        """There is one at least."""
        self.is_cut = is_cut
        """True when there were more fields than the bound; those beyond it are not listed."""

    @property
    def fields(self) -> tuple[HeaderField, ...]:
        """All fields, from the top."""
        if self._fields is None:
            content = self._content
            self._fields = tuple(
                [
                    HeaderField(content, found[1][:_MAX_NAME].decode("ascii"), start, colon, end)
                    for found in _FIELD.finditer(content.octets, self.top, self._listed)
                    for (start, end), _, (colon, _) in (found.regs,)
                ]
            )
        return self._fields

    @property
    def lowered(self) -> bytes:
        """The octets before the body in lower case, behind a line end: each field begins with one."""
        if self._lowered is None:
            self._lowered = b"\n" + self._content.octets[: self.body_offset].lower()
        return self._lowered

    # ---- where the section begins the content

    @property
    def subject(self) -> str:
        """`subject_of` the topmost Subject."""
        if self._subject is None:
            self._subject = subject_of(self.text_of(b"subject"))
        return self._subject

    @property
    def message_id(self) -> str:
        """`message_id_of` the topmost Message-ID."""
        if self._message_id is None:
            self._message_id = message_id_of(self.text_of(b"message-id"))
        return self._message_id

    def text_of(self, name: bytes) -> str | None:
        """`unfolded` of the topmost field of this name in lower case. Nothing is listed for it."""
        if (self._fields is not None and self._lowered is None) or self.end > MAX_BEYOND:  # a long one is not copied for it
            wanted = name.decode("ascii")
            return next((one.unfolded for one in self.fields if one.name.lower() == wanted), None)
        lowered, octets = self._lowered or self.lowered, self._content.octets
        before = b"\n" + name
        at = lowered.find(before, self.top)
        while at >= 0:
            body = _BODY.match(octets, at + len(name), self._listed)
            if body is not None:
                return _on_one_line(body[1][:MAX_VALUE])
            at = lowered.find(before, at + 1)
        return None


def scan(content: Content, start: int = 0, stop: int | None = None, *, max_fields: int = 10_000) -> HeaderSection:
    """Index the header section that begins at `start`, looking no further than `stop`."""
    octets = content.octets
    size = len(octets) if stop is None else stop
    found = _whole(max_fields).match(octets, start, size)
    assert found is not None  # each part of it may be missing
    (_, end), (top, listed) = found.regs
    if end > listed or listed >= size or _FIELD.match(octets, listed, size) is None:
        return HeaderSection(content, top, listed, listed, end)
    # More fields than the bound; where they end is looked for only once a message: for each part it would be quadratic.
    at = _blank_line(octets, listed, size) if start == 0 else listed
    return HeaderSection(content, top, listed, at, at + _blank_length(octets, at, size), is_cut=True)


@lru_cache(maxsize=16)
def _whole(max_fields: int) -> re.Pattern[bytes]:
    """A whole header section in one match: an mbox line, so many fields at most, the blank line. Each of them may be missing."""
    return re.compile(_SECTION % max_fields)


def beyond(content: Content, section: HeaderSection, name: str) -> list[HeaderField]:
    """The fields of this name that the section does not list, and some reader finds all the same.

    Those behind the bound of a cut section; and, where the section ends at a line that is no field, those behind that line:
    MTAs take them for the body, others read on up to the blank line.
    """
    if not section.has_fields or not (section.is_cut or (not section.has_blank_line and section.end < content.size)):
        return []
    octets = content.octets
    start, stop = section.fields[-1].end, section.end
    if not section.has_blank_line:
        stop = _blank_line(octets, start, min(content.size, start + MAX_BEYOND))
    region = octets[start - 1 : stop].lower()  # from the line end before it: a search for a word is faster than a pattern
    wanted = b"\n" + name.lower().encode("ascii")
    found: list[HeaderField] = []
    at = region.find(wanted)
    while at >= 0:
        colon = _COLON.match(region, at + len(wanted))
        if colon is not None:
            end = _REST.match(octets, start - 1 + colon.end(), stop)
            assert end is not None
            found.append(HeaderField(content, name, start + at, start - 2 + colon.end(), end.end()))
        at = region.find(wanted, at + 1)
    return found


def _blank_line(octets: Octets, at: int, size: int) -> int:
    """Offset of the next blank line, or the end."""
    crlf = octets.find(b"\n\r\n", at, size)
    upto = size if crlf < 0 else crlf
    lf = octets.find(b"\n\n", at, upto)
    if lf >= 0:
        return lf + 1
    return size if crlf < 0 else crlf + 1


def _blank_length(octets: Octets, at: int, size: int) -> int:
    if octets[at : min(at + 2, size)] == b"\r\n":
        return 2
    return 1 if octets[at : min(at + 1, size)] == b"\n" else 0
