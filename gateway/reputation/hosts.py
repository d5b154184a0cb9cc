"""Hosts of URLs as browsers read them, and addresses in `mailto:`. Hostile input: pure, bounded, never raises.

Browsers forgive a lot (the WHATWG's URL standard, 4.4): backslashes, any number of slashes, user names in front of `@`, escapes in the
host, IPv4 addresses in hexadecimal, in octal or as one number. What a reader's click reaches is what counts.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import unquote

from gateway.reputation.keys import Address, parse_address, plain_domain

MAX_URL = 2_048
_WHITE = re.compile(r"[\t\r\n]")
_SCHEME = re.compile(r"(?:(https?|ftp|wss?):)?", re.IGNORECASE)
_OTHER = re.compile(r"[a-z][a-z0-9+.-]*:(?!\d+(?:/|$))", re.IGNORECASE)
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_MAILTO = re.compile(r"mailto:([^?]{1,1000})", re.IGNORECASE)


def url_host(url: str) -> Address | str:
    """Its address or its `plain_domain`; `` when it has neither."""
    text = _WHITE.sub("", url[:MAX_URL]).strip().replace("\\", "/")
    scheme = _SCHEME.match(text)
    rest = text[scheme.end() :] if scheme is not None else text
    if scheme is None or not scheme[1]:
        if _OTHER.match(text) or (text.startswith(("/", "#", "?", ".")) and not text.startswith("//")):
            return ""
        if not text.startswith("//") and not text.lower().startswith("www."):
            return ""
    authority = re.split(r"[/?#]", rest.lstrip("/"), maxsplit=1)[0].rpartition("@")[2]
    if authority.startswith("["):
        inner, closing, _ = authority[1:].partition("]")
        return (closing and parse_address(inner)) or ""
    host = unquote(authority.partition(":")[0], errors="replace")
    return _ipv4(host.lower().rstrip(".")) or plain_domain(host)


def _ipv4(host: str) -> Address | None:
    """As the WHATWG's IPv4 parser: up to four numbers, the last of which fills what is left."""
    pieces = host.split(".")
    if not 1 <= len(pieces) <= 4 or not all(len(one) <= 20 and _NUMBER.fullmatch(one) for one in pieces):
        return None
    numbers = [_number(one) for one in pieces]
    *front, last = numbers
    if -1 in numbers or any(one > 255 for one in front) or last >= 256 ** (4 - len(front)):
        return None
    value = sum(one << (8 * (3 - place)) for place, one in enumerate(front)) + last
    return ipaddress.IPv4Address(value)


def _number(text: str) -> int:
    """-1 for what is none."""
    try:
        if text.startswith("0x"):
            return int(text[2:] or "0", 16)
        return int(text, 8 if len(text) > 1 and text[0] == "0" else 10)
    except ValueError:
        return -1


def mailto_addresses(url: str) -> list[str]:
    """At most 10 addresses of a `mailto:` (RFC 6068 2)."""
    found = _MAILTO.match(_WHITE.sub("", url[:MAX_URL]).strip())
    if found is None:
        return []
    return [address for one in found[1].split(",")[:10] if "@" in (address := unquote(one, errors="replace").strip())]
