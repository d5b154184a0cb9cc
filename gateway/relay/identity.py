"""Who the client is, as a next hop is told it: XCLIENT and XFORWARD (Postfix), PROXY v2 (haproxy). No I/O.

All that a next hop offers to hear is said each time, `[UNAVAILABLE]` where nothing is known, so that nothing of an earlier
client stays. Values are xtext (RFC 3461 4).
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from gateway.values import value

if TYPE_CHECKING:
    from gateway.session import Forwarded

UNAVAILABLE: Final = "[UNAVAILABLE]"
TEMPORARILY_UNAVAILABLE: Final = "[TEMPUNAVAIL]"
MAX_LINE: Final = 510
"""Octets of a command without CRLF (RFC 5321 4.5.3.1.4); what is longer is said in several."""
MAX_VALUE: Final = 400
"""Octets of one value in xtext; a longer one is not said."""
_XCLIENT: Final = ("HELO", "PROTO", "LOGIN", "DESTADDR", "DESTPORT", "PORT", "NAME", "ADDR")
"""In this order: behind ADDR, Postfix's XCLIENT_README says, a client may lose the right to say more."""
_XFORWARD: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")
_PLAIN: Final = re.compile(r"[!-*,-<>-~]*")
_HELO_NAME: Final = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_UNSPECIFIED: Final = 0x00
_TCP4: Final = 0x11
_TCP6: Final = 0x21


@value(frozen=True, slots=True, kw_only=True)
class ClientFacts:
    """Who the transaction is for: what the next hop may be told of the client."""

    address: str
    port: int = 0
    helo: str = ""
    name: str = ""
    identity: str = ""
    protocol: str = "SMTP"
    session: str = ""
    """The client's session; `` for mail that belongs to none."""
    ident: str = ""
    """The transaction's identifier."""
    forwarded: Forwarded | None = None
    """Where the message came from before the client, as XFORWARD told us."""
    is_stranger: bool = False

    @property
    def introduction(self) -> tuple[object, ...]:
        """What a link's next hop knows after it was told; the same tuple means the same client in the same session."""
        return (self.session, self.address, self.port, self.helo, self.name, self.identity, self.protocol)

    @property
    def helo_name(self) -> str:
        """The client's name where it can stand in an EHLO of ours, else ``."""
        return self.helo if _HELO_NAME.fullmatch(self.helo) else ""


def xclient(client: ClientFacts, offered: Sequence[str]) -> list[bytes]:
    """The XCLIENT commands, without CRLF, for a next hop that offers these attributes."""
    values = {
        "NAME": client.name,
        "ADDR": _address(client.address),
        "PORT": str(client.port or ""),
        "PROTO": "SMTP" if client.protocol == "SMTP" else "ESMTP",  # its values are these two
        "HELO": client.helo,
        "LOGIN": client.identity,
    }
    return _commands(b"XCLIENT", _XCLIENT, offered, values)


def xforward(client: ClientFacts, offered: Sequence[str]) -> list[bytes]:
    """The XFORWARD commands, without CRLF, for a next hop that offers these attributes."""
    before = client.forwarded
    origin = client if before is None else before
    values = {
        "NAME": origin.name,
        "ADDR": _address(origin.address),
        "PORT": str(origin.port or ""),
        "PROTO": origin.protocol,
        "HELO": origin.helo,
        "IDENT": origin.ident,
        "SOURCE": "REMOTE" if before is None else before.source,
    }
    return _commands(b"XFORWARD", _XFORWARD, offered, values)


def _commands(verb: bytes, order: Sequence[str], offered: Sequence[str], values: dict[str, str]) -> list[bytes]:
    named = {attribute.upper() for attribute in offered}
    said = [f"{name}={xtext(values.get(name, ''))}".encode() for name in order if name in named]
    return [b" ".join((verb, *group)) for group in _groups(said, MAX_LINE - len(verb))]


def _groups(words: Sequence[bytes], room: int) -> Iterator[list[bytes]]:
    """Words that fit on one line each."""
    group: list[bytes] = []
    for word in words:
        if group and sum(len(one) + 1 for one in (*group, word)) > room:
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def xtext(value: str) -> str:
    """A value as xtext; [UNAVAILABLE] for none, or for one that is too long."""
    if not _PLAIN.fullmatch(value):
        value = "".join(c if _PLAIN.fullmatch(c) else "".join(f"+{octet:02X}" for octet in c.encode()) for c in value)
    return value if 0 < len(value) <= MAX_VALUE else UNAVAILABLE


def _address(text: str) -> str:
    """An address as XCLIENT and XFORWARD have it; `` for what is none."""
    found = parsed_address(text)
    if found is None:
        return ""
    return f"IPV6:{found}" if found.version == 6 else str(found)


def parsed_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address, IPv4 where it is one in IPv6's clothes; None for what is none."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def proxy_header(client: ClientFacts | None, towards: tuple[str, int]) -> bytes:
    """A PROXY v2 header (haproxy's proxy-protocol.txt 2.2). None is our own probe: LOCAL.

    `towards` is the next hop's address, which the client would have connected to; zeros where it is of another family. A
    client without a known address is announced without one.
    """
    if client is None:
        return _SIGNATURE + struct.pack("!BBH", _LOCAL, _UNSPECIFIED, 0)
    source = parsed_address(client.address)
    if source is None:
        return _SIGNATURE + struct.pack("!BBH", _PROXY, _UNSPECIFIED, 0)
    target = parsed_address(towards[0])
    there = target.packed if target is not None and target.version == source.version else bytes(len(source.packed))
    addresses = source.packed + there + struct.pack("!HH", client.port, towards[1])
    return _SIGNATURE + struct.pack("!BBH", _PROXY, _TCP4 if source.version == 4 else _TCP6, len(addresses)) + addresses
