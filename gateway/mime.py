"""MIME structure by offsets: RFC 2045, 2046. One pass over the octets, however the parts are nested; bounded everywhere.

Deeper than `max_depth` a multipart is one opaque part and `mime-depth` is noted; so ten thousand levels cost what one does.
"""

from __future__ import annotations

import hashlib
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.charsets import read_text
from gateway.content import Content, Octets
from gateway.encryption import encryption_of
from gateway.fields import HeaderField, HeaderSection, scan
from gateway.filenames import every_name, extension, shown, tricks
from gateway.filetype import DEEP, type_of
from gateway.words import base64_pieces, decode_base64, decode_octets, parameter_values, parse_parameters

_DELIMITER = re.compile(rb"--([^\r\n]{1,200})")  # RFC 2046 5.1.1: 70 characters; more are seen
_MAX_BOUNDARY = 200
_MAX_DELIMITERS = 200_000
_MAX_PART_HEADER = 262_144
_WINDOW = 4 << 20
"""Octets that are searched at once: a search holds all threads."""
_HEAD = 4_096
_PIECE = 256 * 1024
_SAYING = frozenset(["content-type", "content-disposition", "content-transfer-encoding"])
_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,100}/[a-z0-9!#$&^_.+-]{1,100}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How far a message is looked into; what lies beyond is noted in `limits_hit`, never an error."""

    fields: int = 10_000
    """Header fields of the message."""
    part_fields: int = 200
    """Header fields of one part."""
    parts: int = 1_000
    depth: int = 20
    """Multiparts and messages inside one another."""
    text: int = 1_000_000
    """Octets of text that are read for `text` and `urls`."""
    urls: int = 1_000
    addresses: int = 100
    """Author addresses."""
    header_addresses: int = 1_000
    """Addresses in one other kind of field."""


class Part:
    """One leaf of the MIME tree (or an attached message), by offsets into the content.

    Examples:
        >>> [part] = a_message(attach=("report.pdf", b"%PDF-1.7 ...", "application/pdf")).attachments
        >>> (part.filename, part.content_type, part.detected_type, part.size, part.content()[:4])
        ('report.pdf', 'application/pdf', 'application/pdf', 12, b'%PDF')
    """

    __slots__ = (
        "_content",
        "_detected",
        "_encryption",
        "_names",
        "_parameters",
        "_sha256",
        "_size",
        "body_start",
        "boundary",
        "charset",
        "content_type",
        "delimiter",
        "depth",
        "disposition",
        "encoding",
        "end",
        "fields",
        "filenames",
        "start",
        "within",
    )

    def __init__(self, content: Content, fields: tuple[HeaderField, ...], start: int, body_start: int, depth: int) -> None:
        self._content = content
        self._detected: str | None = None
        self._size: int | None = None
        self._sha256: str | None = None
        self._encryption: str | None = None
        self.start = start
        self.body_start = body_start
        self.end = body_start
        self.delimiter = -1
        """Offset of the delimiter line behind it (RFC 2046 5.1.1), the content's size where there is none; -1: not known."""
        self.within: tuple[Part, ...] = ()
        """The multiparts and messages that it lies in, the outermost first."""
        self.depth = depth
        self.fields = fields
        values = _values(fields)
        kind, kind_parameters = parse_parameters(values.get("content-type", ""))
        disposition, disposition_parameters = parse_parameters(values.get("content-disposition", ""))
        self.content_type = kind if _TYPE.fullmatch(kind) else "text/plain"  # RFC 2045 5.2
        """As declared, in lower case; `text/plain` where nothing readable is."""
        self.disposition = disposition
        """`attachment`, `inline` or ``."""
        self.encoding = values.get("content-transfer-encoding", "").strip().lower()
        self.charset = next(iter(parameter_values(kind_parameters, "charset")), "")
        self.boundary = _boundary(kind_parameters) if self.content_type.startswith("multipart/") else ""
        """Of a multipart (RFC 2046 5.1.1), else ``."""
        self._parameters = kind_parameters
        self._names = every_name(disposition_parameters, kind_parameters)
        self.filenames = tuple(dict.fromkeys(map(shown, self._names)))
        """Every name some mail client would show, the likeliest first (RFC 2183 2.3, RFC 2231, RFC 2047)."""

    @property
    def filename(self) -> str:
        """The name a mail client most likely shows, or ``."""
        return self.filenames[0] if self.filenames else ""

    @property
    def extensions(self) -> tuple[str, ...]:
        """The endings of all names, in lower case with their dot, as a system takes them: `.exe` for `a.EXE. .`."""
        return tuple(dict.fromkeys(filter(None, map(extension, self._names))))

    @property
    def name_tricks(self) -> tuple[str, ...]:
        """What is done to hide how the name ends: `direction`, `invisible`, `trailing`, `stream`, `path`, `spaces`, `double-extension`, `readings`."""
        return tricks(self._names)

    def parameter(self, name: str) -> str:
        """The likeliest reading of a parameter of Content-Type, or ``."""
        return next(iter(parameter_values(self._parameters, name)), "")

    @property
    def is_flowed(self) -> bool:
        """Text whose lines are to be joined (RFC 3676)."""
        return self.content_type == "text/plain" and self.parameter("format").lower() == "flowed"

    @property
    def is_attachment(self) -> bool:
        """True for what has a name, is marked so, or is no text."""
        if self.disposition == "attachment" or self.filenames:
            return True
        return not self.content_type.startswith(("text/", "message/", "multipart/"))

    @property
    def is_readable_message(self) -> bool:
        """A message inside the message whose octets stand as they are (RFC 2046 5.2.1)."""
        return self.content_type == "message/rfc822" and self.encoding in {"", "7bit", "8bit", "binary"}

    @property
    def detected_type(self) -> str:
        """Type by content, from our table of signatures, then from a library's; `` for what neither knows."""
        if self._detected is None:
            head = self.head(_HEAD)
            self._detected = type_of(head)
            if not self._detected and self.end - self.body_start > DEEP:
                self._detected = type_of(self.head(2 * DEEP))
        return self._detected

    @property
    def encryption(self) -> str:
        """What it is encrypted with: `pgp-mime`, `pgp-inline`, `pgp`, `smime`, `pdf`, `rights`; `` for what is not. Archives are opened elsewhere."""
        if self._encryption is None:
            self._encryption = encryption_of(self)
        return self._encryption

    @property
    def is_encrypted(self) -> bool:
        """True for what nobody can look into."""
        return bool(self.encryption)

    @property
    def size(self) -> int:
        """Octets, decoded."""
        if self._size is None:
            self._size = sum(map(len, self.pieces()))
        return self._size

    @property
    def sha256(self) -> str:
        """Of the decoded octets, in hexadecimal."""
        if self._sha256 is None:
            digest, size = hashlib.sha256(), 0
            for piece in self.pieces():
                digest.update(piece)
                size += len(piece)
            self._sha256, self._size = digest.hexdigest(), size
        return self._sha256

    def head(self, limit: int) -> bytes:
        """The first decoded octets, from at most `limit` encoded ones."""
        return self._decode(self.body_start, min(self.end, self.body_start + limit))

    def content(self, limit: int | None = None) -> bytes:
        """The decoded octets (RFC 2045 6); with `limit` only what that many encoded octets hold. Never raises."""
        end = self.end if limit is None else min(self.end, self.body_start + limit)
        return self._decode(self.body_start, end)

    def pieces(self) -> Iterator[bytes]:
        """The same in pieces: no more of it in memory at once than one of them."""
        slices = self._slices()
        if self.encoding == "base64":
            return base64_pieces(slices)
        return map(quopri.decodestring, slices) if self.encoding == "quoted-printable" else slices

    def _slices(self) -> Iterator[bytes]:
        """The encoded octets. Of quoted-printable whole lines, as their ends mean something; a very long one is cut between two characters."""
        octets, at = self._content.octets, self.body_start
        while at < self.end:
            upto = min(at + _PIECE, self.end)
            if upto < self.end and self.encoding == "quoted-printable":
                line = octets.rfind(b"\n", at, upto) + 1
                sign = octets.rfind(b"=", upto - 2, upto)
                upto = line or (sign if sign > at else upto)
            yield octets[at:upto]
            at = upto

    def text(self, limit: int) -> str:
        """The text, from at most `limit` encoded octets."""
        return read_text(self.content(limit), self.charset, is_html=self.content_type == "text/html")

    def _decode(self, start: int, end: int) -> bytes:
        octets = self._content.octets[start:end]
        if self.encoding == "base64":
            return decode_base64(octets)
        if self.encoding == "quoted-printable":
            return quopri.decodestring(octets)
        return octets


def _delimiters(octets: Octets, start: int) -> Iterator[re.Match[bytes]]:
    """Lines from here on that begin with `--`. By a search for octets: a pattern that is tried at each of them takes a hundred times as long."""
    if start == 0 and (found := _DELIMITER.match(octets)) is not None:
        yield found
    at, size = max(start - 1, 0), len(octets)
    while at < size:
        upto = min(at + _WINDOW, size)
        line = octets.find(b"\n--", at, upto)
        if line < 0:
            at = size if upto == size else upto - 2
            continue
        if (found := _DELIMITER.match(octets, line + 1)) is not None:
            yield found
        at = line + 1


def _values(fields: tuple[HeaderField, ...]) -> dict[str, str]:
    """The unfolded bodies of the first of the fields that say what a part is, each."""
    found: dict[str, str] = {}
    for one in fields:
        name = one.name.lower()
        if name in _SAYING and name not in found:
            found[name] = one.unfolded
    return found


def _boundary(parameters: list[tuple[str, str]]) -> str:
    plain = next((value for key, value in parameters if key == "boundary"), "")
    return (plain or next(iter(parameter_values(parameters, "boundary")), ""))[:_MAX_BOUNDARY].rstrip(" \t")


@dataclass(slots=True)
class _Open:
    """A multipart or attached message whose end is not yet seen."""

    part: Part
    boundary: str = ""
    """`` for a message."""


@dataclass(slots=True)
class Structure:
    """The leaves of one message and what was too much."""

    parts: list[Part] = field(default_factory=list)
    messages: list[tuple[Part, HeaderSection]] = field(default_factory=list)
    """The messages inside, each with its header section."""
    limits_hit: set[str] = field(default_factory=set)


def walk(content: Content, fields: tuple[HeaderField, ...], body_offset: int, bounds: Bounds) -> Structure:
    """All leaves of the message, in order."""
    return _Walk(content, bounds).run(fields, body_offset)


class _Walk:
    """One pass: the stack holds what is open, `current` the leaf being read."""

    def __init__(self, content: Content, bounds: Bounds) -> None:
        self._content = content
        self._bounds = bounds
        self._open: list[_Open] = []
        self._known: set[str] = set()
        self._current: Part | None = None
        self._structure = Structure()

    def run(self, fields: tuple[HeaderField, ...], body_offset: int) -> Structure:
        octets = self._content.octets
        self._enter(fields, 0, body_offset, depth=0)
        is_whole = True
        if self._known:
            for count, line in enumerate(_delimiters(octets, body_offset)):
                if count >= _MAX_DELIMITERS:
                    self._structure.limits_hit.add("mime-lines")
                    is_whole = False
                    break
                self._delimiter(decode_octets(line[1].rstrip(b" \t")), line.start(), line.end())
                if not self._open or "mime-parts" in self._structure.limits_hit:
                    break
        start = self._current.start if self._current is not None else 0
        begins = (
            start == 0 or octets[start - 1 : start] == b"\n"
        )  # else the content ends within the delimiter line in front of it
        self._close(len(octets), 0, len(octets) if is_whole and begins else -1)
        return self._structure

    def _delimiter(self, text: str, start: int, end: int) -> None:
        """A line that begins with `--`: if it names an open multipart, everything inside that one ends here."""
        octets = self._content.octets
        before = start - 2 if octets[max(start - 2, 0) : start] == b"\r\n" else max(start - 1, 0)
        level = self._level(text)
        if level is None:
            level = self._level(text[:-2].rstrip(" \t")) if text.endswith("--") else None
            if level is not None:
                self._close(before, level, start)
            return
        self._close(before, level + 1, start)
        if len(self._structure.parts) >= self._bounds.parts:
            self._structure.limits_hit.add("mime-parts")
            return
        line_end = octets.find(b"\n", end)
        at = len(octets) if line_end < 0 else line_end + 1
        section = self._scan(at)
        self._enter(section.fields, at, section.body_offset, depth=level + 1)

    def _level(self, boundary: str) -> int | None:
        if boundary not in self._known:
            return None
        for level in range(len(self._open) - 1, -1, -1):
            if self._open[level].boundary == boundary:
                return level
        return None

    def _scan(self, at: int) -> HeaderSection:
        stop = min(len(self._content.octets), at + _MAX_PART_HEADER)
        section = scan(self._content, at, stop, max_fields=self._bounds.part_fields)
        if section.is_cut or section.body_offset - at >= _MAX_PART_HEADER:
            self._structure.limits_hit.add("part-fields")
        return section

    def _enter(self, fields: tuple[HeaderField, ...], start: int, body_offset: int, *, depth: int) -> None:
        """A header section was read: open a multipart, look into a message, or begin a leaf."""
        part = Part(self._content, fields, start, body_offset, depth)
        part.within = tuple(one.part for one in self._open)
        while len(self._open) < self._bounds.depth:
            if len(part.boundary) >= _MAX_BOUNDARY:
                self._structure.limits_hit.add("mime-boundary")
            if part.boundary:
                self._open.append(_Open(part, part.boundary))
                self._known.add(part.boundary)
                return
            if not part.is_readable_message:
                break
            self._open.append(_Open(part))
            if part.is_attachment:
                self._structure.parts.append(part)
            section = self._scan(part.body_start)
            self._structure.messages.append((part, section))
            part = Part(self._content, section.fields, part.body_start, section.body_offset, len(self._open))
            part.within = tuple(one.part for one in self._open)
        else:
            if part.boundary or part.is_readable_message:
                self._structure.limits_hit.add("mime-depth")
        self._current = part
        self._structure.parts.append(part)

    def _close(self, end: int, level: int, delimiter: int) -> None:
        """Everything from this level of the stack on ends at `end`, in front of the delimiter line."""
        if self._current is not None:
            self._current.end = max(end, self._current.body_start)
            self._current.delimiter = delimiter
            self._current = None
        for one in self._open[level:]:
            one.part.end = max(end, one.part.body_start)
            one.part.delimiter = delimiter
        del self._open[level:]
