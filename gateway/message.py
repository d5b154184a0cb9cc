"""Message: what hooks see of the content (RFC 5322, RFC 2045). Read lazily, by offsets, bounded; nothing is changed.

Whatever the octets are, nothing here raises: what was too much or malformed is named in `limits_hit`.
"""

from __future__ import annotations

from typing import Any

from gateway.content import Content, Octets
from gateway.fields import MAX_VALUE, HeaderField, HeaderSection, scan
from gateway.header_facts import ADDRESSES_CUT, HeaderFacts
from gateway.links import Link, links_of
from gateway.mime import Bounds, Part, Structure, walk
from gateway.once import once
from gateway.reading import Reading, read

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

    _shared: dict[Any, Any] | None = None

    def __init__(self, content: Content, bounds: Bounds | None = None) -> None:
        self.content = content
        self.bounds = _BOUNDS if bounds is None else bounds

    @property
    def octets(self) -> Octets:
        """As received: bytes or a map of the spool file; both slice, `find` and have a length."""
        return self.content.octets

    @property
    def size(self) -> int:
        """Octets of the content."""
        return self.content.size

    @once
    def header(self) -> HeaderSection:
        """The header section by offsets."""
        return scan(self.content, max_fields=self.bounds.fields)

    @property
    def fields(self) -> tuple[HeaderField, ...]:
        """All header fields, from the top."""
        return self.header.fields

    @once
    def subject(self) -> str:
        """Decoded; `` when there is none."""
        return self.header.subject

    @once
    def message_id(self) -> str:
        """With its angle brackets (RFC 5322 3.6.4); what stands there when it has none; `` when there is none."""
        return self.header.message_id

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

    @once
    def _structure(self) -> Structure:
        return walk(self.content, self.fields, self.body_offset, self.bounds)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The leaves of the MIME tree, in order; a message that is no multipart is one part."""
        return tuple(self._structure.parts)

    @once
    def attachments(self) -> tuple[Part, ...]:
        """The parts that have a name, are marked as attachment, or are no text."""
        return tuple(part for part in self._structure.parts if part.is_attachment)

    @once
    def nested(self) -> tuple[NestedMessage, ...]:
        """The messages inside, in order; those in them too."""
        return tuple(NestedMessage(part, section, self.bounds) for part, section in self._structure.messages)

    @once
    def encryption(self) -> tuple[str, ...]:
        """What its parts are encrypted with, each once: `pgp-mime`, `pgp-inline`, `pgp`, `smime`, `pdf`, `rights`."""
        return tuple(dict.fromkeys(part.encryption for part in self._structure.parts if part.encryption))

    @once
    def _reading(self) -> Reading:
        return read(self._structure.parts, self.bounds)

    @property
    def text(self) -> str:
        """The text of the text parts that are no attachments: of HTML without its tags, of format=flowed without its soft line breaks."""
        return self._reading.text

    @property
    def hidden_text(self) -> str:
        """What of `text` HTML hides: by style, by attribute, in the colour of its ground. Newsletters hide a line on top; spam hides more."""
        return self._reading.hidden_text

    @property
    def charsets(self) -> tuple[str, ...]:
        """The charsets that the text parts declare, in lower case, each once."""
        return self._reading.charsets

    @property
    def urls(self) -> tuple[str, ...]:
        """Links of the HTML parts, URLs in the text, and what redirectors wrap, each once."""
        return self._reading.urls

    @once
    def links(self) -> tuple[Link, ...]:
        """Links with what they show and where they lead to: those of HTML first."""
        reading = self._reading
        return links_of(reading.found, reading.anchors, reading.in_html)[: self.bounds.urls]

    @once
    def limits_hit(self) -> tuple[str, ...]:
        """What was too much or malformed, as words: `header-fields`, `mime-depth`, `mime-parts`, `text`, …"""
        _ = self.header, self._structure, self._reading, self.author_addresses, self.sender, self.reply_to, self.to, self.cc
        return self.limits_known

    @property
    def limits_known(self) -> tuple[str, ...]:
        """What of `limits_hit` has shown itself, because somebody looked there; nothing is read for it."""
        read = self.__dict__
        header: HeaderSection | None = read.get("header")
        if header is None:
            return ()
        hit: set[str] = set()
        if header.is_cut:
            hit.add("header-fields")
        if not header.has_blank_line and header.end < self.size:
            hit.add("header-malformed")
        if header.end > MAX_VALUE and any(one.end - one.colon > MAX_VALUE for one in header.fields):
            hit.add("field-size")
        if "author_addresses" in read and (
            len(self.author_addresses) >= self.bounds.addresses or (header.end > MAX_VALUE and self.author_octets > MAX_VALUE)
        ):
            hit.add("author-addresses")
        if ADDRESSES_CUT in read:
            hit.add("addresses")
        if "_structure" in read:
            hit |= self._structure.limits_hit
        if "_reading" in read:
            hit |= self._reading.limits_hit
        return tuple(sorted(hit)) if hit else ()
