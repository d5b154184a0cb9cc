"""A footer below what a message says, in its text and in its HTML (RFC 2045 6, RFC 2046 5.1.4): edits that leave every other octet.

Only where a part's charset or encoding cannot carry the footer is that part written anew, in UTF-8. What is signed or encrypted is left alone.
"""

from __future__ import annotations

import base64
import quopri
import re
from dataclasses import dataclass

from gateway.edits import Edit, ReplaceHeader, ReplacePart, check_part, has_boundary
from gateway.message import Message
from gateway.mime import Part
from gateway.words import codec_of

MAX_TEXT = 5_000_000
"""Octets of a part that gets a footer."""
MAX_LINE = 900
"""Octets of a line of a footer (RFC 5322 2.1.1)."""
_SEALED = re.compile(r"multipart/(?:signed|encrypted)|application/(?:(?:x-)?pkcs7-mime|pgp-encrypted)")
_SIGNATURES = ("DKIM-Signature", "ARC-Message-Signature")
_BODY_END = re.compile(rb"</body[\s>]", re.IGNORECASE)
_ANY_TAG = re.compile(r"<[^<>]*+>")
_NOT_SAID = re.compile(r"[\s>]+")
_CHARSET = re.compile(r";\s*charset\*?(?:\d*\*?)?\s*=\s*(?:\"[^\"]*\"?|[^;\s]*)", re.IGNORECASE)
_PLAIN = ("", "7bit", "8bit", "binary")


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    r"""What stands below the text of messages. ValueError for one that cannot be.

    Examples:
        >>> footer = Footer(text="Example Ltd, London")
        >>> [edit] = footer.edits(a_message(body="Hello"))
        >>> edit.octets
        b'\r\n\r\nExample Ltd, London'
        >>> footer.edits(a_message(body="Hello\n\n> Example Ltd,\n> London"))
        ()
        >>> footer.edits(a_message(headers=[("DKIM-Signature", "v=1")]))
        Traceback (most recent call last):
        ValueError: the message has DKIM-Signature, which would not verify any more
    """

    text: str
    """Lines of plain text."""
    html: str = ""
    """The same for HTML; ``: made of the text."""

    def __post_init__(self) -> None:
        lines = [*self.lines, *self.in_html.splitlines()]
        if not self.lines or any(len(line.encode("utf-8", "replace")) > MAX_LINE for line in lines):
            raise ValueError(f"a footer has 1 or more lines, each of at most {MAX_LINE} octets")

    @property
    def lines(self) -> tuple[str, ...]:
        """Of plain text, without a line end."""
        return tuple([line.rstrip() for line in self.text.strip().splitlines()])

    @property
    def in_html(self) -> str:
        """HTML that every charset can carry."""
        from html import escape

        made = "<hr>\n<p>" + "<br>\n".join(map(escape, self.lines)) + "</p>"
        return (self.html or made).strip().encode("ascii", "xmlcharrefreplace").decode()

    def edits(self, message: Message, *, breaks_signatures: bool = False) -> tuple[Edit, ...]:
        """What puts it below the text of the message, and into its HTML; nothing, where the message has it already.

        ValueError with the reason where the message must stay as it is: it is signed or encrypted, has no text of its own, or one that cannot
        be read. DKIM and ARC count too, unless `breaks_signatures`.
        """
        _check_seals(message, breaks_signatures=breaks_signatures)
        edits: list[Edit] = []
        for part in _bodies(message):
            is_html = part.content_type == "text/html"
            edits += _Footing(message, part).put(self.in_html if is_html else "\n".join(self.lines), is_html=is_html)
        return tuple(edits)


def _check_seals(message: Message, *, breaks_signatures: bool) -> None:
    for name in () if breaks_signatures else _SIGNATURES:
        if message.field(name):
            raise ValueError(f"the message has {name}, which would not verify any more")
    for part in message.parts:
        for one in (*part.within, part):
            if one.content_type.startswith("message/"):
                break  # what is in there is somebody else's, and stays
            if _SEALED.fullmatch(one.content_type):
                raise ValueError(f"the message has {one.content_type}, which others vouch for as it is")


def _bodies(message: Message) -> list[Part]:
    """The text that readers see first, in each form that there is of it. ValueError where there is none."""
    own = [
        part
        for part in message.parts
        if part.content_type in {"text/plain", "text/html"}
        and not part.is_attachment
        and not any(one.content_type.startswith("message/") for one in part.within)
    ]
    if not own:
        raise ValueError("the message has no text of its own")
    choices = [one for one in own[0].within if one.content_type == "multipart/alternative"]
    if not choices:
        return own[:1]
    same = [part for part in own if any(one is choices[0] for one in part.within)]
    first = {part.content_type: part for part in reversed(same)}
    return sorted(first.values(), key=lambda part: part.start)


class _Footing:
    """One part that gets a footer."""

    def __init__(self, message: Message, part: Part) -> None:
        """ValueError for a part that cannot be changed."""
        if not part.within and message.fields and not message.header.has_blank_line:
            raise ValueError("its header section has no end")
        if part.within:
            check_part(part)
            header = message.octets[part.start : part.body_start]
            if header != b"\r\n" and not header.endswith(b"\r\n\r\n"):
                raise ValueError("its header section has no end")
        if part.end - part.body_start > MAX_TEXT:
            raise ValueError(f"its text has more than {MAX_TEXT} octets")
        if part.encoding not in {*_PLAIN, "quoted-printable", "base64"}:
            raise ValueError(f"its text has the encoding {part.encoding[:40]!r}")
        self._message = message
        self._part = part
        self._raw = bytes(message.octets[part.body_start : part.end])
        self._codec = codec_of(part.charset) if part.charset else "ascii"
        if not self._codec or not _is_like_ascii(self._codec):
            raise ValueError(f"its text has the charset {part.charset[:40]!r}")

    def put(self, footer: str, *, is_html: bool) -> list[Edit]:
        """The edits; none where it is there already."""
        said = self._part.text(MAX_TEXT)
        if "-----BEGIN PGP " in said:
            raise ValueError("its text is signed or encrypted with OpenPGP")
        if _said(footer, is_html=is_html) in _said(said, is_html=is_html):
            return []
        try:
            octets = footer.replace("\n", "\r\n").encode(self._codec or "ascii")
        except UnicodeEncodeError:
            return self._anew(footer)
        if not octets.isascii() and self._part.encoding in {"", "7bit"}:
            return self._anew(footer)
        if self._part.encoding == "base64":
            return [self._edit(self._part.body_start, self._part.end, self._base64(octets, is_html=is_html))]
        if self._part.encoding == "quoted-printable":
            octets = _quoted(octets)
        at = _place(self._raw, is_html=is_html)
        return [self._edit(self._part.body_start + at, self._part.body_start + at, self._joined(octets, at, is_html=is_html))]

    def _joined(self, octets: bytes, at: int, *, is_html: bool) -> bytes:
        """The footer as it stands at this place: on lines of its own."""
        before, after = self._raw[:at], self._raw[at:]
        front = b"" if not before or before.endswith(b"\r\n") else b"\r\n"
        if self._part.encoding == "quoted-printable" and before.endswith((b"=", b"=\r\n")):
            front += b"\r\n"  # RFC 2045 6.7: a soft line break is none
        if not is_html:
            front += b"\r\n"
        return front + octets + (b"\r\n" if after or before.endswith(b"\r\n") else b"")

    def _base64(self, octets: bytes, *, is_html: bool) -> bytes:
        decoded = self._part.content()
        at = _place(decoded, is_html=is_html)
        end = b"\r\n" if decoded[:at].endswith(b"\n") else b"\r\n\r\n"
        new = decoded[:at] + end + octets + b"\r\n" + decoded[at:]
        encoded = base64.encodebytes(new).replace(b"\n", b"\r\n")
        return encoded if self._raw.endswith(b"\r\n") else encoded[:-2]

    def _anew(self, footer: str) -> list[Edit]:
        """The whole text in UTF-8. ValueError where it cannot be read."""
        decoded = self._part.content()
        try:
            text = decoded.decode("utf-8" if not self._part.charset else self._codec or "ascii")
        except UnicodeDecodeError as error:
            raise ValueError(f"its text is not in its charset {self._part.charset[:40]!r}") from error
        joined = text.replace("\r\n", "\n").rstrip("\n") + "\n\n" + footer + "\n"
        body = _quoted(joined.replace("\n", "\r\n").encode())
        if not self._raw.endswith(b"\r\n"):
            body = body[:-2]
        fields = (("Content-Type", self._type_in_utf8()), ("Content-Transfer-Encoding", "quoted-printable"))
        part = self._part
        if not part.within:
            return [
                *(ReplaceHeader(name=name, value=value) for name, value in fields),
                self._edit(part.body_start, part.end, body),
            ]
        octets = self._message.octets
        header = octets[part.start : part.body_start]
        for one in reversed(part.fields):
            if one.name.lower() in {"content-type", "content-transfer-encoding"}:
                header = header[: one.start - part.start] + header[one.end - part.start :]
        new = "".join(f"{name}: {value}\r\n" for name, value in fields).encode()
        return [self._edit(part.start, part.end, new + header + body)]

    def _type_in_utf8(self) -> str:
        """The field body with another charset. ValueError for one that no line can have."""
        found = next((one.unfolded for one in self._part.fields if one.name.lower() == "content-type"), "text/plain")
        value = _CHARSET.sub("", found).strip().rstrip(";") + "; charset=utf-8"
        if len(value) > MAX_LINE or not value.isascii() or not value.isprintable():
            raise ValueError("its Content-Type is one that cannot be written anew")
        return value

    def _edit(self, start: int, end: int, octets: bytes) -> ReplacePart:
        if has_boundary(self._part, octets):
            raise ValueError("the footer has a line that begins as a boundary of the message does")
        if self._part.within and self._part.delimiter == self._part.body_start and not octets.endswith(b"\r\n"):
            octets += b"\r\n"  # an empty part: the line end in front of the delimiter is that of its header section
        return ReplacePart(start=start, end=end, octets=octets, note="footer")


def _place(octets: bytes, *, is_html: bool) -> int:
    """Where a footer goes: the end; in HTML, in front of the last end of the body."""
    if not is_html:
        return len(octets)
    at = len(octets)
    for found in _BODY_END.finditer(octets):
        at = found.start()
    line = octets.rfind(b"\n", 0, at) + 1
    return len(octets) if octets.startswith(b"--", line) else at  # its beginning alone might be a boundary


def _quoted(octets: bytes) -> bytes:
    """RFC 2045 6.7."""
    return quopri.encodestring(octets.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")


def _said(text: str, *, is_html: bool) -> str:
    """The characters alone: however it was wrapped, quoted or written in HTML."""
    if is_html:
        from html import unescape

        text = unescape(_ANY_TAG.sub("", text))
    return _NOT_SAID.sub("", text)


def _is_like_ascii(codec: str) -> bool:
    """True for charsets in which ASCII stands for itself; ISO-2022 begins with it."""
    try:
        return "<a> ~\r\n".encode(codec) == b"<a> ~\r\n"
    except (LookupError, UnicodeError):
        return False
