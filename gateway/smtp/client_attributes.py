"""Attributes of XCLIENT and XFORWARD, as Postfix's XCLIENT_README and XFORWARD_README have them. Octets in, text out; no I/O."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence

from gateway.smtp.grammar import SyntaxFault

XCLIENT = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT", "REVERSE_NAME")
XFORWARD = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")
MAX_VALUE = 255
"""Octets of a value, decoded."""
_UNKNOWN = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})
_ATTRIBUTE = re.compile(rb"([A-Za-z_]{1,20})=([!-~]+)")
_XTEXT = re.compile(rb"(?:[!-*,-<>-~=]|\+[0-9A-Fa-f]{2})+")  # RFC 3461 4; `=` bare, as Postfix takes it
_HEX = re.compile(rb"\+([0-9A-Fa-f]{2})")
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_PORT = re.compile(r"[0-9]{1,5}")


def attributes(verb: str, argument: bytes, known: Sequence[str]) -> dict[str, str]:
    """By name; `` for what the client says is not known. SyntaxFault."""
    found: dict[str, str] = {}
    for word in argument.split():
        match = _ATTRIBUTE.fullmatch(word)
        name = match[1].decode().upper() if match is not None else ""
        if match is None or name not in known or name in found or not _XTEXT.fullmatch(match[2]):
            raise SyntaxFault(f"Bad attribute in {verb}")
        found[name] = _value(verb, name, match[2])
    if not found:
        raise SyntaxFault(f"Syntax: {verb} attribute=value, one or more")
    return found


def _value(verb: str, name: str, xtext: bytes) -> str:
    octets = _HEX.sub(lambda found: bytes([int(found[1], 16)]), xtext)
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if text.upper() in _UNKNOWN:
        return ""
    good = len(octets) <= MAX_VALUE and text.isprintable() and text.strip() == text
    checked = _FORMS.get(name, str)(text) if good else None
    if checked is None:
        raise SyntaxFault(f"Bad value of {name} in {verb}")
    return checked


def _address(text: str) -> str | None:
    """IPv4, or IPv6 behind `IPV6:`; in the form that trust is judged on."""
    bare = text[5:] if text[:5].upper() == "IPV6:" else text
    try:
        found = ipaddress.ip_address(bare)
    except ValueError:
        return None
    return None if "%" in bare else str(found)


def _port(text: str) -> str | None:
    return text if _PORT.fullmatch(text) and int(text) <= 0xFFFF else None


def _host(text: str) -> str | None:
    return text if _NAME.fullmatch(text) else None


def _one_of(*words: str) -> Callable[[str], str | None]:
    return lambda text: text.upper() if text.upper() in words else None


_FORMS: dict[str, Callable[[str], str | None]] = {
    "ADDR": _address,
    "DESTADDR": _address,
    "PORT": _port,
    "DESTPORT": _port,
    "NAME": _host,
    "REVERSE_NAME": _host,
    "PROTO": _one_of("SMTP", "ESMTP", "LMTP"),
    "SOURCE": _one_of("LOCAL", "REMOTE"),
}
