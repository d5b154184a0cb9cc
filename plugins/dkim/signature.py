"""The DKIM-Signature field: RFC 6376 3.5 and 6.1.1, RFC 8301, RFC 8463, RFC 8616. One fault spoils one signature, never another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NoReturn

from gateway.mailauth import (
    ALGORITHMS,
    DomainNameError,
    TagListError,
    decode_base64,
    domain_name,
    parse_tags,
    parts,
    without_white,
)

MAX_FIELD = 8192
"""Octets of one DKIM-Signature field body; more is not looked at."""
_REQUIRED = (b"v", b"a", b"b", b"bh", b"d", b"h", b"s")
_FIELD_NAME = re.compile(rb"[!-9;-~]+")
_ENCODED = re.compile(rb"=([0-9A-Fa-f]{2})?")
_DIGITS = re.compile(rb"[0-9]{1,76}")
_FUTURE = 36_000.0
"""Seconds a signer's clock may be ahead: what is signed tomorrow is no attack, but a clock that is wrong."""
_METHODS = (b"simple", b"relaxed")
_SHOWN, _MOST_SHOWN = 8, 64
_PROPERTIES = (("header.d", b"d"), ("header.s", b"s"), ("header.i", b"i"), ("header.a", b"a"))
_SAME = 1_024
"""Octets of the tags that a signer's messages have in common up to which they are remembered."""


class Refused(Exception):  # noqa: N818 - it is a result of RFC 8601 2.7.1 on its way out, not an error
    """A signature that cannot count: the result and the reason for people."""

    def __init__(self, result: str, reason: str) -> None:
        super().__init__(reason)
        self.result = result
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature, ready for its key."""

    algorithm: str
    """`rsa-sha256` or `ed25519-sha256`."""
    domain: str
    selector: str
    identity_domain: str
    """What stands behind the `@` of i=; without i= the domain."""
    is_header_relaxed: bool
    is_body_relaxed: bool
    headers: tuple[bytes, ...]
    """h= in lower case."""
    body_hash: bytes
    signature: bytes
    length: int | None
    key_name: str
    """Where the key is (RFC 6376 3.6.2.1)."""
    copied: bytes = b""
    """z= as it stands."""


def read_tags(raw: bytes) -> dict[bytes, bytes]:
    """The tags of a field body. Refused when it is too large or malformed."""
    if len(raw) > MAX_FIELD:
        raise Refused("permerror", f"signature field of more than {MAX_FIELD} octets")
    try:
        return parse_tags(raw)
    except TagListError as error:
        raise Refused("permerror", f"malformed signature: {error}") from error


def beginnings(values: Sequence[bytes]) -> list[str]:
    """Of each b= at least eight characters, and so many that no other one begins with them (RFC 6008 3); equal ones stay equal."""
    if len(values) == 1:
        return [values[0][:_SHOWN].decode("ascii", "replace")]
    each = sorted(set(values))
    needed = dict.fromkeys(each, _SHOWN)
    for one, other in pairwise(each):
        octets = next(
            (place + 1 for place in range(_MOST_SHOWN) if one[place : place + 1] != other[place : place + 1]), _MOST_SHOWN
        )
        needed[one] = max(needed[one], octets)
        needed[other] = max(needed[other], octets)
    return [value[: needed[value]].decode("ascii", "replace") for value in values]


def shown_properties(tags: dict[bytes, bytes]) -> tuple[tuple[str, str], ...]:
    """header.d, header.s, header.i and header.a, as far as they are there (RFC 8601 2.7.1)."""
    found = [(name, tags[tag].decode("utf-8", "replace")[:255]) for name, tag in _PROPERTIES if tags.get(tag)]
    if b"i" not in tags and tags.get(b"d"):
        found.insert(min(2, len(found)), ("header.i", f"@{found[0][1]}"[:255]))
    return tuple(found)


def parse_signature(tags: dict[bytes, bytes], *, now: float, skew: float = 0.0) -> Signature:
    """Check the tags against RFC 6376 6.1.1. `now` in seconds since the epoch, `skew` by how many clocks may differ. Raises Refused."""
    for tag in _REQUIRED:
        if tag not in tags:
            _permerror(f"no {tag.decode()}= tag")
    same = (
        tags[b"v"],
        tags[b"a"],
        tags.get(b"c", b"simple/simple"),
        tags[b"d"],
        tags[b"s"],
        tags.get(b"q", b"dns/txt"),
        tags[b"h"],
    )
    terms = _known_terms(*same) if len(b"".join(same)) <= _SAME else _terms(*same)
    domain = terms.domain
    signature = Signature(
        algorithm=terms.algorithm,
        domain=domain,
        selector=terms.selector,
        identity_domain=_identity_domain(tags[b"i"], domain) if b"i" in tags else domain,
        is_header_relaxed=terms.is_header_relaxed,
        is_body_relaxed=terms.is_body_relaxed,
        headers=terms.headers,
        body_hash=_base64(tags, b"bh"),
        signature=_base64(tags, b"b"),
        length=_number(tags, b"l") if b"l" in tags else None,
        key_name=terms.key_name,
        copied=tags.get(b"z", b""),
    )
    if len(terms.key_name) > 253:
        _permerror("s= and d= are too long for a DNS name")
    _check_times(tags, now, skew)
    if terms.algorithm == "rsa-sha1":
        raise Refused("fail", "rsa-sha1 is no longer valid")  # RFC 8301 3.1
    return signature


@dataclass(frozen=True, slots=True)
class _Terms:
    """What all signatures of one signer have in common."""

    algorithm: str
    is_header_relaxed: bool
    is_body_relaxed: bool
    domain: str
    selector: str
    headers: tuple[bytes, ...]
    key_name: str


def _terms(v: bytes, a: bytes, c: bytes, d: bytes, s: bytes, q: bytes, h: bytes) -> _Terms:  # noqa: PLR0917 - by the names of the tags
    if v != b"1":
        _permerror("v= is not 1")
    algorithm = a.decode("ascii", "replace").lower()
    if algorithm not in ALGORITHMS and algorithm != "rsa-sha1":
        _permerror("unknown algorithm")
    header_method, body_method = _canonicalization(c)
    domain, selector = _name(d, "d="), _name(s, "s=")
    if "." not in domain:  # RFC 6376 3.5: sub-domain 1*("." sub-domain)
        _permerror("d= is a single label, no domain")
    if b"dns/txt" not in [method.lower() for method in parts(q)]:
        _permerror("q= has no known way to the key")
    headers = tuple(name.lower() for name in parts(h))
    if not all(map(_FIELD_NAME.fullmatch, headers)):
        _permerror("h= is not a list of field names")
    if b"from" not in headers:
        _permerror("From is not signed")  # RFC 6376 6.1.1
    return _Terms(
        algorithm=algorithm,
        is_header_relaxed=header_method == b"relaxed",
        is_body_relaxed=body_method == b"relaxed",
        domain=domain,
        selector=selector,
        headers=headers,
        key_name=f"{selector}._domainkey.{domain}",  # RFC 6376 3.6.2.1
    )


_known_terms = lru_cache(maxsize=1_000)(_terms)
"""The same few signers sign most mail."""


def decode_quoted(value: bytes) -> bytes | None:
    """DKIM-Quoted-Printable: RFC 6376 2.11, white space ignored; None when it is none."""
    bare = without_white(value)
    if any(not found[1] for found in _ENCODED.finditer(bare)):
        return None
    return _ENCODED.sub(lambda found: bytes([int(found[1], 16)]), bare)


def _canonicalization(value: bytes) -> tuple[bytes, bytes]:
    header_method, slash, body_method = value.lower().partition(b"/")
    if not slash:
        body_method = b"simple"  # RFC 6376 3.5, c=
    if header_method not in _METHODS or body_method not in _METHODS:
        _permerror("unknown canonicalization")
    return header_method, body_method


def _identity_domain(value: bytes, domain: str) -> str:
    if value == b"@" + domain.encode():  # as most signers have it
        return domain
    identity = decode_quoted(value)
    if identity is None:
        _permerror("i= is not quoted-printable")
    _, at, name = identity.rpartition(b"@")
    if not at:
        _permerror("i= has no @")
    found = _name(name, "i=")
    if found != domain and not found.endswith(f".{domain}"):
        _permerror("i= is not in the domain of d=")
    return found


def _number(tags: dict[bytes, bytes], tag: bytes) -> int:
    if _DIGITS.fullmatch(tags[tag]) is None:
        _permerror(f"{tag.decode()}= is not a number")
    return int(tags[tag])


def _check_times(tags: dict[bytes, bytes], now: float, skew: float) -> None:
    """RFC 6376 3.5: t= and x=."""
    signed = _number(tags, b"t") if b"t" in tags else None
    expires = _number(tags, b"x") if b"x" in tags else None
    if expires is not None and signed is not None and expires <= signed:
        _permerror("x= is not after t=")
    if signed is not None and signed > now + _FUTURE:
        raise Refused("fail", f"signed in the future, {_ago(signed - now)} ahead of our clock")
    if expires is not None and expires + skew < now:
        raise Refused("fail", f"signature expired {_ago(now - expires)} ago")


def _ago(seconds: float) -> str:
    """In a person's words."""
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        count = int(seconds) // size if seconds < 1e12 else 10**7
        if count or size == 1:
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return ""


def _name(value: bytes, tag: str) -> str:
    """A domain or selector as a DNS name; U-labels become A-labels (RFC 8616 4)."""
    try:
        return domain_name(value)
    except DomainNameError:
        _permerror(f"{tag} is not a domain name")


def _base64(tags: dict[bytes, bytes], tag: bytes) -> bytes:
    try:
        octets = decode_base64(tags[tag])
    except TagListError:
        _permerror(f"{tag.decode()}= is not base64")
    if not octets:
        _permerror(f"{tag.decode()}= is empty")
    return octets


def _permerror(reason: str) -> NoReturn:
    raise Refused("permerror", reason)
