"""Tag lists: RFC 6376 3.2, as DKIM and ARC fields and key records have them. Linear, bounded; case of names counts."""

from __future__ import annotations

import binascii
import re
from functools import lru_cache
from typing import Final

WHITE: Final = b" \t\r\n"
"""What folding white space is made of (RFC 6376 2.8)."""
_TAG_NAME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9_]*")
_SPEC: Final = re.compile(
    rb"(?:\A|;)[ \t\r\n]*+([A-Za-z][A-Za-z0-9_]*+)[ \t\r\n]*+="
    rb"[ \t\r\n]*+((?:[^; \t\r\n]++(?:[ \t\r\n]++(?![; \t\r\n]|\Z))?+)*+)"
)
"""A tag and its value, without the white space around either."""
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]*+={0,2}")
_NO_VALUE: Final = bytes([*range(9), 11, 12, *range(14, 32), 127])
"""Control characters: no VALCHAR. Octets above 127 are UTF-8 of RFC 6532, which header fields may have."""


class TagListError(ValueError):
    """Not a tag list; the text says what is wrong, without octets of the sender."""


def parse_tags(octets: bytes) -> dict[bytes, bytes]:
    """Names and values, white space around both removed. Raises TagListError: one fault spoils the whole list (RFC 6376 3.2)."""
    if octets.translate(None, _NO_VALUE) != octets:
        raise TagListError("control characters in it")
    tags = dict(_SPEC.findall(octets))
    is_ended = not octets.rpartition(b";")[2].strip(WHITE)  # the list may end in a semicolon
    return tags if len(tags) == octets.count(b";") + (not is_ended) else _parse_each(octets)


def _parse_each(octets: bytes) -> dict[bytes, bytes]:
    """One spec after the other, for what is wrong with the first that is no tag."""
    specs = octets.split(b";")
    if not specs[-1].strip(WHITE):
        specs.pop()  # the list may end in a semicolon
    tags: dict[bytes, bytes] = {}
    for spec in specs:
        name, equals, value = spec.partition(b"=")
        name = name.strip(WHITE)
        if not equals or _TAG_NAME.fullmatch(name) is None:
            raise TagListError("something in it is no tag")
        if name in tags:
            raise TagListError(f"{name[:20].decode('ascii')}= is there twice")
        tags[name] = value.strip(WHITE)
    return tags


def parts(value: bytes) -> list[bytes]:
    """The items of a colon-separated value, white space around them removed; case is kept."""
    return [item.strip(WHITE) for item in value.split(b":")]


def without_white(value: bytes) -> bytes:
    """The value without any white space, as it may stand anywhere in base64 and in names."""
    return value.translate(None, WHITE)


def decode_base64(value: bytes) -> bytes:
    """RFC 6376 2.10: white space anywhere, the padding may be missing. Raises TagListError."""
    text = value.translate(None, WHITE)
    if len(text) % 4 == 0 and _BASE64.fullmatch(text):
        return binascii.a2b_base64(text)
    bare = text.rstrip(b"=")
    missing = -len(bare) % 4
    if missing == 3 or len(text) - len(bare) not in {0, missing}:
        raise TagListError("not base64")
    try:
        return binascii.a2b_base64(bare + b"=" * missing, strict_mode=True)
    except binascii.Error as error:
        raise TagListError("not base64") from error


def without_value(octets: bytes, name: bytes = b"b") -> bytes:
    """The list with the value of one tag deleted, white space around the value too (RFC 6376 3.7, the b= of a signature)."""
    first, further = _tag(name)
    found = first.match(octets) or further.search(octets)
    if found is None:
        return octets
    begins = found.end()
    ends = octets.find(b";", begins)
    return octets[:begins] + octets[ends:] if ends >= 0 else octets[:begins]


@lru_cache(maxsize=100)
def _tag(name: bytes) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """A tag of this name up to its value, as the first of a list and as a further one, which begins with what can be searched for fast."""
    tag = rb"[ \t\r\n]*+" + re.escape(name) + rb"[ \t\r\n]*+="
    return re.compile(tag), re.compile(rb";" + tag)
