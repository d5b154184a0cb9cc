"""Message: what hooks see of the content (RFC 5322, RFC 2045). Read lazily, by offsets, bounded; nothing is changed.

Whatever the octets are, nothing here raises: what was too much or malformed is named in `limits_hit`.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

from gateway.content import Content, Octets
from gateway.fields import MAX_VALUE, HeaderField, HeaderSection, scan
from gateway.header_facts import HeaderFacts
from gateway.hypertext import read_html
from gateway.mime import Bounds, Part, Structure, walk

_URL = re.compile(r"(?:https?://|ftp://|www\.)[^\s<>\"'\x00-\x20]{1,2048}", re.IGNORECASE)
_BOUNDS = Bounds()


class NestedMessage(HeaderFacts):
    r"""The header section of a message inside the message (RFC 2046 5.2.1); its parts are among those of the whole.

    Examples:
        >>> inner = b"Subject: inner\r\nFrom: a@client.example\r\n\r\nx"
        >>> [found] = a_message(attach=("forwarded.eml", inner, "message/rfc822")).nested
        >>> (found.subject, found.author_domains)
        ('inner', ('client.example',))
    """

    def __init__(self, part: Part, section: HeaderSection, bounds: Bounds) -> None:
        self.part = part
        """Where it is: of type `message/rfc822`."""
        self.bounds = bounds
        self._section = section

    @property
    def fields(self) -> tuple[HeaderField, ...]:
        """Its header fields, from the top: the first 200."""
        return self._section.fields

    @property
    def depth(self) -> int:
        """How many multiparts and messages it lies in, the message itself counted."""
        return self.part.depth + 1


class Message(HeaderFacts):
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
    def nested(self) -> tuple[NestedMessage, ...]:
        """The messages inside, in order; those in them too."""
        return tuple(NestedMessage(part, section, self.bounds) for part, section in self._structure.messages)

    @cached_property
    def encryption(self) -> tuple[str, ...]:
        """What its parts are encrypted with, each once: `pgp-mime`, `pgp-inline`, `pgp`, `smime`, `pdf`, `rights`."""
        return tuple(dict.fromkeys(part.encryption for part in self._structure.parts if part.encryption))

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
