"""Message: what hooks see of the content (RFC 5322, RFC 2045). Read lazily, by offsets, bounded; nothing is changed.

Whatever the octets are, nothing here raises: what was too much or malformed is named in `limits_hit`.
"""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any

from gateway.authors import addresses, domain_of
from gateway.content import Content, Octets
from gateway.fields import MAX_VALUE, HeaderField, HeaderSection, scan
from gateway.hypertext import read_html
from gateway.mime import Bounds, Part, Structure, walk

_URL = re.compile(r"(?:https?://|ftp://|www\.)[^\s<>\"'\x00-\x20]{1,2048}", re.IGNORECASE)
_MESSAGE_ID = re.compile(r"<[^<>\s]{1,998}>")


_BOUNDS = Bounds()


class Message:
    """The content of one transaction, for reading.

    Examples:
        >>> message = a_message(subject="Invoice", body="see https://www.example.org/17", attach="invoice.pdf")
        >>> (message.subject, message.author_domains, message.urls)
        ('Invoice', ('client.example',), ('https://www.example.org/17',))
        >>> [part.filename for part in message.attachments]
        ['invoice.pdf']
    """

    def __init__(self, content: Content, bounds: Bounds | None = None) -> None:
        self.content = content
        self.bounds = _BOUNDS if bounds is None else bounds
        self._header: HeaderSection | None = None
        self._shared: dict[Any, Any] | None = None

    @property
    def octets(self) -> Octets:
        """As received: bytes or a map of the spool file; both slice, `find` and have a length."""
        return self.content.octets

    @property
    def size(self) -> int:
        """Octets of the content."""
        return self.content.size

    @property
    def header(self) -> HeaderSection:
        """The header section by offsets."""
        if self._header is None:  # no cached_property: its lock, in Python 3.11, costs as much as a small header section
            self._header = scan(self.content, max_fields=self.bounds.fields)
        return self._header

    @property
    def fields(self) -> tuple[HeaderField, ...]:
        """All header fields, from the top."""
        return self.header.fields

    @property
    def body_offset(self) -> int:
        """Offset of the first octet behind the blank line."""
        return self.header.body_offset

    @property
    def shared(self) -> dict[Any, Any]:
        """What was computed from these octets and others may ask for too, under a key of whoever computed it."""
        if self._shared is None:
            self._shared = {}
        return self._shared

    @cached_property
    def _by_name(self) -> dict[str, list[HeaderField]]:
        result: dict[str, list[HeaderField]] = {}
        for one in self.fields:
            result.setdefault(one.name.lower(), []).append(one)
        return result

    def field(self, name: str) -> HeaderField | None:
        """The topmost field of this name, or None."""
        found = self._by_name.get(name.lower())
        return found[0] if found else None

    def fields_named(self, name: str) -> tuple[HeaderField, ...]:
        """All fields of this name, from the top."""
        return tuple(self._by_name.get(name.lower(), ()))

    @property
    def subject(self) -> str:
        """Decoded; `` when there is none."""
        found = self.field("subject")
        return found.value if found else ""

    @cached_property
    def message_id(self) -> str:
        """With its angle brackets (RFC 5322 3.6.4); what stands there when it has none; `` when there is none."""
        found = self.field("message-id")
        if found is None:
            return ""
        text = found.unfolded
        match = _MESSAGE_ID.search(text)
        return match[0] if match else text[:998]

    @cached_property
    def date(self) -> datetime | None:
        """Of the Date field; None when absent or unreadable."""
        found = self.field("date")
        if found is None:
            return None
        try:
            return parsedate_to_datetime(found.unfolded[:200])
        except (ValueError, TypeError, IndexError, OverflowError):  # email.utils on hostile input
            return None

    @cached_property
    def author_addresses(self) -> tuple[str, ...]:
        """Each address of each From field (RFC 5322 3.6.2), as written, in order."""
        result: dict[str, None] = {}
        size = 0
        for one in self.fields_named("from"):
            result.update(dict.fromkeys(addresses(one.unfolded, limit=self.bounds.addresses - len(result))))
            size += one.end - one.colon
            if size > MAX_VALUE:  # of all fields together: otherwise many of them take as long as they like
                break
        return tuple(result)

    @property
    def author_octets(self) -> int:
        """Octets of the bodies of all From fields; `author_addresses` looks no further than the field that exceeds 64 KiB."""
        return sum(one.end - one.colon for one in self.fields_named("from"))

    @cached_property
    def author_domains(self) -> tuple[str, ...]:
        """The domains of `author_addresses` in lower case, each once."""
        return tuple(dict.fromkeys(filter(None, map(domain_of, self.author_addresses))))

    @cached_property
    def _structure(self) -> Structure:
        return walk(self.content, self.fields, self.body_offset, self.bounds)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The leaves of the MIME tree, in order; a message that is no multipart is one part."""
        return tuple(self._structure.parts)

    @cached_property
    def attachments(self) -> tuple[Part, ...]:
        """The parts that have a name, are marked as attachment, or are no text."""
        return tuple(part for part in self._structure.parts if part.is_attachment)

    @cached_property
    def _reading(self) -> tuple[str, tuple[str, ...], frozenset[str]]:
        left = self.bounds.text
        texts: list[str] = []
        links: list[str] = []
        hit: set[str] = set()
        for part in self._structure.parts:
            if part.is_attachment or not part.content_type.startswith("text/"):
                continue
            if part.end - part.body_start > left:
                hit.add("text")
            text = part.text(left)
            left -= min(left, part.end - part.body_start)
            if part.content_type == "text/html":
                text, found = read_html(text, max_links=self.bounds.urls)
                links.extend(found)
            texts.append(text)
        text = "\n".join(texts)
        links.extend(match[0].rstrip(".,;:!?)]}") for match in _URL.finditer(text))
        urls = tuple(dict.fromkeys(links))
        if len(urls) > self.bounds.urls:
            hit.add("urls")
        return text, urls[: self.bounds.urls], frozenset(hit)

    @property
    def text(self) -> str:
        """What a reader sees of the text parts that are no attachments; of HTML without its tags."""
        return self._reading[0]

    @property
    def urls(self) -> tuple[str, ...]:
        """Links of the HTML parts and URLs in the text, each once."""
        return self._reading[1]

    @cached_property
    def limits_hit(self) -> tuple[str, ...]:
        """What was too much or malformed, as words: `header-fields`, `mime-depth`, `mime-parts`, `text`, …"""
        hit = set(self._structure.limits_hit) | self._reading[2]
        if self.header.is_cut:
            hit.add("header-fields")
        if not self.header.has_blank_line and self.header.end < self.size:
            hit.add("header-malformed")
        if any(one.end - one.colon > MAX_VALUE for one in self.fields):
            hit.add("field-size")
        if len(self.author_addresses) >= self.bounds.addresses or self.author_octets > MAX_VALUE:
            hit.add("author-addresses")
        return tuple(sorted(hit))
