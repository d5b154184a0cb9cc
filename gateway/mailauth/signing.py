"""A DKIM-Signature made: RFC 6376 3.5, 3.7 and 5; RFC 8463. Pure: key, message and body hash come in, the field's body goes out.

The whole body is signed always: there is no l= (RFC 6376 8.2 tells what is done with it).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.mailauth.canonical import BodyHash, BodyHashWanted
from gateway.mailauth.fields import header_hash, select_fields
from gateway.mailauth.names import domain_name
from gateway.mailauth.private import PrivateKey
from gateway.mailauth.rendering import render_tags, with_signature
from gateway.message import Message

NAME = "DKIM-Signature"
_PLAIN = frozenset(range(0x21, 0x7F)) - frozenset(b";=")


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A private key with the name under which its public key is published."""

    domain: str
    """d=, as A-labels in lower case."""
    selector: str
    key: PrivateKey
    file: str = ""
    """Where it was read, for messages to the operator."""

    @property
    def record_name(self) -> str:
        """Where the public key is (RFC 6376 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a message is signed."""

    is_header_relaxed: bool = True
    is_body_relaxed: bool = True
    identity: str = ""
    """i=, ready for the field; `` leaves it out."""
    signed_at: int
    """t=, seconds since the epoch."""
    expires_at: int | None = None
    """x=."""

    @property
    def wanted(self) -> BodyHashWanted:
        """The body hash it needs."""
        return BodyHashWanted(self.is_body_relaxed)


def dkim_signature(message: Message, key: SigningKey, names: Sequence[bytes], body: BodyHash, terms: Terms) -> str:
    """The body of the field, folded. `names` are those of h= in lower case, a name once for each of its fields, from among them."""
    methods = ("relaxed" if relaxed else "simple" for relaxed in (terms.is_header_relaxed, terms.is_body_relaxed))
    tags = [("v", "1"), ("a", key.key.algorithm), ("c", "/".join(methods)), ("d", key.domain), ("s", key.selector)]
    if terms.identity:
        tags.append(("i", terms.identity))
    tags.append(("t", str(terms.signed_at)))
    if terms.expires_at is not None:
        tags.append(("x", str(terms.expires_at)))
    tags.append(("h", b":".join(names).decode("ascii")))
    tags.append(("bh", base64.b64encode(body.digest).decode("ascii")))
    unsigned = render_tags(NAME, tags)
    own = f"{NAME}: {unsigned}".encode()
    digest = header_hash(select_fields(message, names), own, is_relaxed=terms.is_header_relaxed)
    return with_signature(NAME, unsigned, key.key.sign(digest))


def signing_name(text: str) -> str:
    """A domain or selector as d= and s= have it: A-labels in lower case. ValueError for what is no name in DNS."""
    try:
        return domain_name(text.strip().removesuffix(".").encode())
    except ValueError as error:
        raise ValueError("a name in DNS, such as example.org") from error


def quoted_identity(mailbox: str) -> str:
    """`local-part@domain` or `@domain` as i= has it: RFC 6376 2.11 and 3.5, the domain as A-labels. ValueError when it cannot be."""
    local_part, at, domain = mailbox.rpartition("@")
    if not at:
        raise ValueError("an identity with an @")
    quoted = "".join(chr(octet) if octet in _PLAIN else f"={octet:02X}" for octet in local_part.encode())
    return f"{quoted}@{signing_name(domain)}"


def is_within(domain: str, parent: str) -> bool:
    """Whether a domain is the other one or below it."""
    return domain == parent or domain.endswith(f".{parent}")
