"""BIMI records, read to the letter: draft-brand-indicators-for-message-identification 4.3 to 4.5, 5.1. Nothing is looked up.

"Mail receivers MUST NOT attempt to fix syntactical or capitalization errors": what is not right is wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from gateway.mailauth import TagListError, parse_tags

MAX_RECORD = 4_096
"""Octets of one TXT record; a longer one is no BIMI record."""
MAX_URI = 1_000
"""Octets of the location of an indicator or its evidence."""
MAX_LOCAL_PART = 1_000
"""Characters of a local-part that are looked at."""
_VERSION = re.compile(rb"v[ \t]*=[ \t]*BIMI1[ \t]*(?:;|\Z)")
_URI = re.compile(r"https://[!#$%&'()*+\-./0-9:=?@A-Z_a-z~\[\]]+", re.IGNORECASE)  # RFC 3986 2, without `,` and `;`
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.(?=.*[A-Za-z]){_LABEL}\.?")
_SELECTOR = re.compile(rf"(?=.{{1,190}}\Z){_LABEL}(?:\.{_LABEL})*")
_LOCAL_PART = re.compile(r"[A-Za-z0-9-]{1,63}")
_FORMAT = re.compile(r"\.(?:png|jpe?g|gif|webp|bmp|ico|tiff?|avif|heic|pdf|html?|eps|ps)", re.IGNORECASE)


class RecordError(ValueError):
    """The record is wrong; the text says how, without octets of its owner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """One Assertion Record."""

    location: str
    """Where the indicator is; `` where there is none to show."""
    evidence: str = ""
    """Where the evidence document is, or ``."""
    by_local_part: bool = False
    """`lps=true`: another record may be at a selector made from the local-part."""
    preference: Literal["brand", "personal", ""] = "brand"
    """Of the owner, for the indicator or the personal avatar; `` when it is wrong."""

    @property
    def is_declined(self) -> bool:
        """4.3.1: an explicit refusal to take part."""
        return not self.location and not self.evidence


def is_assertion(record: bytes) -> bool:
    """Whether a TXT record claims to be one: other records of the name do not count (7.2, steps 4 and 7)."""
    return len(record) <= MAX_RECORD and _VERSION.match(record) is not None


def parse_assertion(record: bytes) -> Assertion:
    """Read one. Raises RecordError."""
    try:
        tags = parse_tags(record)
    except TagListError as error:
        raise RecordError(str(error)) from error
    if not record.isascii():
        raise RecordError("it is not ASCII")
    if b"l" not in tags:
        raise RecordError("l= is missing")
    location = _uri(tags[b"l"], "l")
    evidence = _uri(tags.get(b"a", b""), "a")
    if evidence and not location:
        raise RecordError("a= without a location in l=")  # 7.3, step 1
    if _FORMAT.fullmatch(_suffix(location)):
        raise RecordError("l= is no SVG")  # 4.3.2
    preference = tags.get(b"avp", b"brand").decode()
    return Assertion(
        location=location,
        evidence=evidence,
        by_local_part=tags.get(b"lps") == b"true",
        preference="personal" if preference == "personal" else "brand" if preference == "brand" else "",
    )


def _uri(value: bytes, tag: str) -> str:
    text = value.decode("ascii")
    if not text:
        return ""
    if len(text) > MAX_URI:
        raise RecordError(f"{tag}= is longer than {MAX_URI} octets")
    if _URI.fullmatch(text) is None:
        raise RecordError(f"{tag}= is no single https URI")
    try:
        found = urlsplit(text)
        host, port = found.hostname or "", found.port
    except ValueError as error:
        raise RecordError(f"{tag}= is no URI") from error
    if _HOST.fullmatch(host) is None or "@" in found.netloc or port == 0:
        raise RecordError(f"{tag}= does not name a host by its full name")
    return text


def _suffix(location: str) -> str:
    """The ending of the file's name."""
    name = urlsplit(location).path.rpartition("/")[2] if location else ""
    return name[name.rfind(".") :] if "." in name else ""


def selector_of_field(body: bytes) -> str | None:
    """The selector that a BIMI-Selector field names, in lower case; None when the field is wrong and so ignored (5.1, A.5)."""
    if len(body) > MAX_RECORD or _VERSION.match(body.replace(b"\r\n", b"").lstrip(b" \t")) is None:
        return None
    try:
        value = parse_tags(body).get(b"s", b"")
    except TagListError:
        return None
    text = value.decode("ascii", "replace")
    return text.lower() if _SELECTOR.fullmatch(text) else None


def selector_of_local_part(local_part: str) -> str | None:
    """4.5, step 3: what is left of a local-part as a selector, in lower case; None when it cannot be one."""
    if len(local_part) > MAX_LOCAL_PART:
        return None
    text = re.sub(r"[_.]+", "-", local_part.partition("+")[0]).strip("-")
    return text.lower() if _LOCAL_PART.fullmatch(text) else None
