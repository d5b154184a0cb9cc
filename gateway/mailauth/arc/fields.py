"""The three fields of an ARC set, read one by one: RFC 8617 4.1. Bounded; nothing is looked up and nothing computed.

ARC-Seal and ARC-Message-Signature are tag lists (RFC 6376 3.2), ARC-Authentication-Results is an instance and what
Authentication-Results has (RFC 8601 2.2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.fields import HeaderField
from gateway.mailauth.canonical import BodyHashWanted
from gateway.mailauth.key import ALGORITHMS
from gateway.mailauth.names import DomainNameError, domain_name
from gateway.mailauth.results.scanner import Scanner, readable
from gateway.mailauth.tags import TagListError, decode_base64, parse_tags, parts

RESULTS, SIGNATURE, SEAL = "ARC-Authentication-Results", "ARC-Message-Signature", "ARC-Seal"
"""In the order in which a set is hashed (RFC 8617 5.1.1)."""
MAX_FIELD = 8192
"""Octets of a seal or signature; more is not looked at."""
MAX_HEAD = 500
"""Characters of ARC-Authentication-Results within which the instance must be told: comments may stand before it."""
MAX_INSTANCE = 50
"""RFC 8617 4.2.1."""
MAX_KEY_NAME = 253
"""RFC 1035 2.3.4, in letters and dots."""
CHAIN_STATES = frozenset({b"none", b"fail", b"pass"})
_INSTANCE = re.compile(rb"[0-9]{1,2}")
_NUMBER = re.compile(rb"[0-9]{1,20}")
_METHODS = frozenset({b"simple", b"relaxed"})

Tags = dict[bytes, bytes]


class UnusableError(Exception):
    """A field that cannot count, and why, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """ARC-Seal, ready for its key."""

    field: HeaderField
    algorithm: str
    domain: str
    selector: str
    cv: str
    signature: bytes

    @property
    def key_name(self) -> str:
        """Where the key is (RFC 6376 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"


@dataclass(frozen=True, slots=True)
class Way:
    """How header fields and body are made canonical."""

    is_header_relaxed: bool
    body: BodyHashWanted


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSignature:
    """ARC-Message-Signature, ready for its key and its body hash."""

    field: HeaderField
    algorithm: str
    domain: str
    selector: str
    ways: tuple[Way, ...]
    """Canonicalizations it may have been made with: one, or two where c= is missing."""
    headers: tuple[bytes, ...]
    """h= in lower case."""
    body_hash: bytes
    signature: bytes

    @property
    def key_name(self) -> str:
        """Where the key is (RFC 6376 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"


def read_tags(field: HeaderField) -> Tags:
    """The tags of a seal or signature. UnusableError when it is too large or malformed."""
    raw = field.raw
    if len(raw) > MAX_FIELD:
        raise UnusableError(f"more than {MAX_FIELD} octets")
    try:
        return parse_tags(raw)
    except TagListError as error:
        raise UnusableError(f"malformed: {error}") from error


def instance_of(tags: Tags) -> int:
    """i= (RFC 8617 4.2.1). UnusableError when there is none."""
    if b"i" not in tags:
        raise UnusableError("no instance (i=)")
    return _as_instance(tags[b"i"])


def read_claims(field: HeaderField) -> tuple[int, str]:
    """Instance and the results of ARC-Authentication-Results (RFC 8617 4.1.1). UnusableError without an instance in front."""
    text = readable(field.raw)
    scanner = Scanner(text[:MAX_HEAD])
    scanner.cfws()
    if not scanner.take("i"):
        raise UnusableError("no instance (i=) in front")
    scanner.cfws()
    if not scanner.take("="):
        raise UnusableError("no instance (i=) in front")
    scanner.cfws()
    start = scanner.at
    scanner.number()
    instance = _as_instance(scanner.text[start : scanner.at].encode())
    scanner.cfws()
    if not scanner.take(";"):
        raise UnusableError("no semicolon behind the instance")
    return instance, text[scanner.at :]


def read_cv(tags: Tags) -> str:
    """cv= (RFC 8617 4.1.3). UnusableError when it is none of the three."""
    value = tags.get(b"cv", b"").lower()
    if value not in CHAIN_STATES:
        raise UnusableError("cv= is neither none, pass nor fail")
    return value.decode()


def read_seal(field: HeaderField, tags: Tags) -> Seal:
    """RFC 8617 4.1.3. UnusableError."""
    if b"h" in tags:
        raise UnusableError("h= is not allowed in a seal")
    _check_required(tags, (b"a", b"b", b"cv", b"d", b"s"))
    _number(tags, b"t")
    algorithm, domain, selector = _algorithm(tags), _name(tags, b"d"), _name(tags, b"s")
    _check_key_name(domain, selector)
    return Seal(
        field=field,
        algorithm=algorithm,
        domain=domain,
        selector=selector,
        cv=read_cv(tags),
        signature=_base64(tags, b"b"),
    )


def read_signature(field: HeaderField, tags: Tags, *, now: float) -> MessageSignature:
    """RFC 8617 4.1.2: as RFC 6376 3.5 has it, without v= and with another i=. UnusableError."""
    _check_required(tags, (b"a", b"b", b"bh", b"d", b"h", b"s"))
    headers = tuple(name.lower() for name in parts(tags[b"h"]) if name)
    if b"arc-seal" in headers:
        raise UnusableError("h= names ARC-Seal")
    if headers and b"from" not in headers:
        # RFC 6376 6.1.1, which RFC 8617 4.1.2 keeps. An empty h= is valid in the ARC validation suite; nobody is believed for it.
        raise UnusableError("From is not signed")
    if b"q" in tags and b"dns/txt" not in [one.lower() for one in parts(tags[b"q"])]:
        raise UnusableError("no known way to its key (q=)")
    _check_times(tags, now)
    algorithm, domain, selector = _algorithm(tags), _name(tags, b"d"), _name(tags, b"s")
    _check_key_name(domain, selector)
    return MessageSignature(
        field=field,
        algorithm=algorithm,
        domain=domain,
        selector=selector,
        ways=_ways(tags),
        headers=headers,
        body_hash=_base64(tags, b"bh"),
        signature=_base64(tags, b"b"),
    )


def _as_instance(value: bytes) -> int:
    """1 to 50 in one or two digits."""
    if _INSTANCE.fullmatch(value) is None or not 1 <= int(value) <= MAX_INSTANCE:
        raise UnusableError(f"the instance (i=) is not a number from 1 to {MAX_INSTANCE}")
    return int(value)


def _check_required(tags: Tags, names: tuple[bytes, ...]) -> None:
    for name in names:
        if name not in tags:
            raise UnusableError(f"{name.decode()}= is missing")


def _algorithm(tags: Tags) -> str:
    name = tags[b"a"].decode("latin-1").lower()
    if name == "rsa-sha1":
        raise UnusableError("rsa-sha1 is no longer valid")  # RFC 8301 3.1
    if name not in ALGORITHMS:
        raise UnusableError("unknown algorithm (a=)")
    return name


def _name(tags: Tags, tag: bytes) -> str:
    try:
        name = domain_name(tags[tag])
    except DomainNameError:
        raise UnusableError(f"{tag.decode()}= is not a domain name") from None
    if tag == b"d" and "." not in name:  # RFC 6376 3.5: sub-domain 1*("." sub-domain)
        raise UnusableError("d= is a single label, no domain")
    return name


def _check_key_name(domain: str, selector: str) -> None:
    if len(f"{selector}._domainkey.{domain}") > MAX_KEY_NAME:
        raise UnusableError("the name of its key is too long for DNS")


def _ways(tags: Tags) -> tuple[Way, ...]:
    """c= and l=.

    Without c= it is simple/simple by RFC 6376 3.5, which RFC 8617 4.1.2 does not change. The ARC validation suite and those
    who sign by it have relaxed/relaxed there, as the seal has; what is valid either way was signed by this key either way.
    """
    length = _number(tags, b"l")
    if b"c" not in tags:
        return (Way(False, BodyHashWanted(False, length)), Way(True, BodyHashWanted(True, length)))
    header, slash, body = tags[b"c"].lower().partition(b"/")
    if not slash:
        body = b"simple"
    if header not in _METHODS or body not in _METHODS:
        raise UnusableError("unknown canonicalization (c=)")
    return (Way(header == b"relaxed", BodyHashWanted(body == b"relaxed", length)),)


def _base64(tags: Tags, tag: bytes) -> bytes:
    try:
        octets = decode_base64(tags[tag])
    except TagListError:
        octets = b""
    if not octets:
        raise UnusableError(f"{tag.decode()}= is not base64")
    return octets


def _number(tags: Tags, tag: bytes) -> int | None:
    """A number of seconds or octets, None when it is not there."""
    if tag not in tags:
        return None
    if _NUMBER.fullmatch(tags[tag]) is None:
        raise UnusableError(f"{tag.decode()}= is not a number")
    return int(tags[tag])


def _check_times(tags: Tags, now: float) -> None:
    """RFC 6376 3.5, t= and x=."""
    signed, expires = _number(tags, b"t"), _number(tags, b"x")
    if expires is None:
        return
    if signed is not None and expires <= signed:
        raise UnusableError("x= is not after t=")
    if expires < now:
        raise UnusableError("it has expired (x=)")
