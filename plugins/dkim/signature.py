"""The DKIM-Signature field: RFC 6376 3.5 and 6.1.1. Parsed by dkimpy, bounded before and checked after by us."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import NoReturn

import dkim

from gateway.mailauth import TagListError, parse_tags, without_white

MAX_FIELD = 8192
"""Octets of one DKIM-Signature field body; more is not looked at."""
_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
)
_NUMBER = re.compile(rb"[0-9]{1,20}")
_WHITE = b" \t\r\n"
_FUTURE = 36_000.0
"""Seconds a signer's clock may be ahead."""
_METHODS = (b"simple", b"relaxed")


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
    identity: str
    """i=, or `@` and the domain."""
    is_header_relaxed: bool
    is_body_relaxed: bool
    headers: tuple[bytes, ...]
    """h= in lower case."""
    body_hash: bytes
    signature: bytes
    length: int | None

    @property
    def key_name(self) -> str:
        """Where the key is (RFC 6376 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"


def read_tags(raw: bytes) -> dict[bytes, bytes]:
    """The tags of a field body. Refused when it is too large or malformed."""
    if len(raw) > MAX_FIELD:
        raise Refused("permerror", f"signature field of more than {MAX_FIELD} octets")
    try:
        return parse_tags(raw)
    except TagListError as error:
        raise Refused("permerror", f"malformed signature: {error}") from error


def shown_properties(tags: dict[bytes, bytes]) -> tuple[tuple[str, str], ...]:
    """header.d, header.s, header.i, header.a and the beginning of header.b, as far as they are there (RFC 8601 2.7.1)."""

    def text(tag: bytes) -> str:
        return tags[tag].decode("ascii", "replace")[:255]

    found = [(f"header.{tag.decode()}", text(tag)) for tag in (b"d", b"s", b"i", b"a") if tags.get(tag)]
    if b"i" not in tags and b"d" in tags:
        found.insert(min(2, len(found)), ("header.i", f"@{text(b'd')}"))
    if tags.get(b"b"):
        found.append(("header.b", bytes(without_white(tags[b"b"])[:8]).decode("ascii", "replace")))  # RFC 6008 3
    return tuple(found)


def parse_signature(tags: dict[bytes, bytes], *, now: float) -> Signature:
    """Check the tags against RFC 6376 6.1.1. `now` in seconds since the epoch. Raises Refused."""
    # dkimpy's patterns for b= and bh= are quadratic in white space, and its numbers unbounded: those are ours.
    rest = {tag: value for tag, value in tags.items() if tag not in (b"t", b"x", b"l")}
    for tag in (b"b", b"bh"):
        if tag in rest:
            rest[tag] = without_white(rest[tag])
    try:
        dkim.validate_signature_fields(rest)
    except dkim.ValidationError as error:
        raise Refused("permerror", _reason(error)) from error
    except Exception as error:  # dkimpy leaks untyped exceptions: i= without "@" is an IndexError
        raise Refused("permerror", f"malformed signature ({type(error).__name__})") from error
    algorithm = rest[b"a"].decode("ascii", "replace").lower()
    if algorithm == "rsa-sha1":
        raise Refused("fail", "rsa-sha1 is no longer valid")  # RFC 8301 3.1
    if algorithm not in {"rsa-sha256", "ed25519-sha256"}:
        raise Refused("permerror", "unknown algorithm")
    domain, selector = _name(rest[b"d"], "d="), _name(rest[b"s"], "s=")
    header_method, _, body_method = rest.get(b"c", b"simple/simple").lower().partition(b"/")
    body_method = body_method or b"simple"
    if header_method not in _METHODS or body_method not in _METHODS:
        raise Refused("permerror", "unknown canonicalization")
    headers = tuple(name.strip(_WHITE).lower() for name in rest[b"h"].split(b":"))
    if b"from" not in headers:
        raise Refused("permerror", "From is not signed")  # RFC 6376 6.1.1
    signature = Signature(
        algorithm=algorithm,
        domain=domain,
        selector=selector,
        identity=rest[b"i"].decode("utf-8", "replace") if b"i" in rest else f"@{domain}",
        is_header_relaxed=header_method == b"relaxed",
        is_body_relaxed=body_method == b"relaxed",
        headers=headers,
        body_hash=_base64(rest[b"bh"], "bh="),
        signature=_base64(rest[b"b"], "b="),
        length=_number(tags, b"l"),
    )
    _check_times(tags, now)
    return signature


def _reason(error: Exception) -> str:
    """The words of dkimpy without the value it quotes, which is the sender's."""
    return str(error).partition(" (")[0].partition(": b'")[0].replace("b'", "").replace("'", "")[:100]


def _number(tags: dict[bytes, bytes], tag: bytes) -> int | None:
    if tag not in tags:
        return None
    if _NUMBER.fullmatch(tags[tag]) is None:
        _permerror(f"{tag.decode()}= is not a number")
    return int(tags[tag])


def _check_times(tags: dict[bytes, bytes], now: float) -> None:
    """RFC 6376 3.5: t= and x=."""
    signed, expires = _number(tags, b"t"), _number(tags, b"x")
    if signed is not None and signed > now + _FUTURE:
        raise Refused("fail", "signed in the future")
    if expires is not None and signed is not None and expires <= signed:
        _permerror("x= is not after t=")
    if expires is not None and expires < now:
        raise Refused("fail", "signature expired")


def _name(value: bytes, tag: str) -> str:
    """A domain or selector as a DNS name; U-labels become A-labels (RFC 8616 4)."""
    if len(value) > 255:
        _permerror(f"{tag} is not a domain name")
    try:
        text = value.decode("utf-8")
        name = text if text.isascii() else text.encode("idna").decode("ascii")
    except UnicodeError:
        _permerror(f"{tag} is not a domain name")
    if _NAME.fullmatch(name) is None:
        _permerror(f"{tag} is not a domain name")
    return name.lower()


def _base64(value: bytes, tag: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        _permerror(f"{tag} is not base64")


def _permerror(reason: str) -> NoReturn:
    raise Refused("permerror", reason)
