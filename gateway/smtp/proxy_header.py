"""PROXY headers, version 1 and 2, as haproxy's proxy-protocol.txt has them (sections 2.1, 2.2). Octets in, a value out; no I/O.

`missing()` says how many octets must at least follow those that are there. Who reads exactly so many each time takes no octet that
is not the header's: a TLS handshake or SMTP behind it stays in the socket. `parse()` reads a header that is whole.

Own code, because aiosmtpd's `get_proxy` needs a StreamReader, which this server does not have; it checks neither CRC32C nor the
TLVs before it calls a header valid, takes up to 64 KB for it, and cannot be followed by implicit TLS.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAX_V1 = 107  # proxy-protocol.txt 2.1: with CRLF
MAX_LENGTH = 16 * 1024
"""Octets behind the fixed 16 of version 2; the form allows 65,535, a certificate among the TLVs needs about 4,000."""
MAX_TLVS = 64
MAX_UNIQUE_ID = 128  # proxy-protocol.txt 2.2.5
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V1 = b"PROXY "
_SHORTEST = 15
"""`PROXY UNKNOWN` with its line end; every other header is longer."""
_FIXED = 16
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")
_ADDRESSES = {0x11: 12, 0x21: 36, 0x31: 216}
"""Stream over IPv4, IPv6, UNIX: octets of the two addresses."""
_ALPN, _AUTHORITY, _CRC32C, _NOOP, _UNIQUE_ID, _SSL = 0x01, 0x02, 0x03, 0x04, 0x05, 0x20
_SSL_VERSION, _SSL_CN, _SSL_CIPHER = 0x21, 0x22, 0x23
_CLIENT_SSL, _CLIENT_CERTIFICATE = 0x01, 0x02 | 0x04


class ProxyHeaderError(Exception):
    """The octets are no PROXY header; the text says why, for the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyTls:
    """What the proxy tells of the TLS that ended at it (TLV SSL, proxy-protocol.txt 2.2.6)."""

    version: str = ""
    cipher: str = ""
    client_name: str = ""
    """Common name of the client's certificate."""
    has_certificate: bool = False
    is_verified: bool = False
    """The client gave a certificate, and the proxy could verify it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyHeader:
    """A header. Addresses are `` where the client's is not known: LOCAL, UNKNOWN, a UNIX socket."""

    version: int
    is_local: bool = False
    """LOCAL: the proxy speaks for itself, a health probe for example."""
    source: str = ""
    source_port: int = 0
    destination: str = ""
    destination_port: int = 0
    alpn: str = ""
    authority: str = ""
    """The name that the client asked for in its TLS handshake (SNI)."""
    unique_id: str = ""
    tls: ProxyTls | None = None
    others: tuple[tuple[int, bytes], ...] = ()
    """TLVs of other types, as they came."""


def missing(octets: bytes) -> int:
    """Octets that must at least follow; 0: the header is whole. ProxyHeaderError as soon as it can be none."""
    if octets[:1] == b"P" or not octets:
        return _missing_v1(octets)
    signature = octets[: len(SIGNATURE)]
    if not SIGNATURE.startswith(signature):
        raise ProxyHeaderError("neither version 1 nor version 2 begins so")
    if len(octets) < _FIXED:
        return _FIXED - len(octets)
    return _FIXED + _length(octets) - len(octets)


def parse(octets: bytes) -> ProxyHeader:
    """A whole header and nothing else. ProxyHeaderError."""
    if missing(octets) != 0:
        raise ProxyHeaderError("not one whole header")
    return _parse_v1(octets) if octets[:1] == b"P" else _parse_v2(octets)


def _missing_v1(octets: bytes) -> int:
    if not _V1.startswith(octets[: len(_V1)]):
        raise ProxyHeaderError("neither version 1 nor version 2 begins so")
    if b"\n" in octets[:-1] or (octets[-1:] == b"\n" and octets[-2:] != b"\r\n"):
        raise ProxyHeaderError("a line feed that is not the end")
    if octets[-1:] == b"\n":
        return 0
    words = octets.split(b" ")
    if len(octets) < _SHORTEST:
        more = _SHORTEST - len(octets)
    elif octets[-1:] == b"\r":
        more = 1
    elif words[1] == b"UNKNOWN":
        more = 2
    elif words[1] in {b"TCP4", b"TCP6"}:
        more = max(0, 6 - len(words)) * 2 + (not words[-1]) + 2
    else:
        raise ProxyHeaderError("neither TCP4 nor TCP6 nor UNKNOWN")
    if len(octets) + more > MAX_V1:
        raise ProxyHeaderError(f"longer than {MAX_V1} octets")
    return more


def _parse_v1(octets: bytes) -> ProxyHeader:
    words = octets[:-2].split(b" ")
    if words[1] == b"UNKNOWN":  # what follows is ignored, whatever it is
        return ProxyHeader(version=1)
    if len(words) != 6 or words[1] not in {b"TCP4", b"TCP6"}:
        raise ProxyHeaderError("not PROXY TCP4|TCP6, two addresses and two ports")
    ports = [int(word) for word in words[4:] if _PORT.fullmatch(word)]
    if len(ports) != 2 or max(ports) > 0xFFFF:
        raise ProxyHeaderError("a port that is none")
    kind = ipaddress.IPv4Address if words[1] == b"TCP4" else ipaddress.IPv6Address
    try:
        source, destination = (str(kind(word.decode("ascii"))) for word in words[2:4])
    except ValueError:
        raise ProxyHeaderError(f"an address that is none of {words[1].decode()}") from None
    if "%" in source + destination:
        raise ProxyHeaderError("an address with a zone")
    return ProxyHeader(version=1, source=source, source_port=ports[0], destination=destination, destination_port=ports[1])


def _length(octets: bytes) -> int:
    """Octets behind the fixed part, once that is whole and right."""
    command, family, length = struct.unpack_from("!BBH", octets, len(SIGNATURE))
    if command not in {0x20, 0x21}:
        raise ProxyHeaderError(f"version and command {command:#04x}")
    if command == 0x21 and family != 0 and family not in _ADDRESSES:
        raise ProxyHeaderError(f"address family and transport {family:#04x}")
    if command == 0x21 and length < _ADDRESSES.get(family, 0):
        raise ProxyHeaderError("shorter than its addresses")
    if length > MAX_LENGTH:
        raise ProxyHeaderError(f"longer than {MAX_LENGTH} octets")
    return int(length)


def _parse_v2(octets: bytes) -> ProxyHeader:
    command, family = octets[12], octets[13]
    if command == 0x20:  # the block is not ours to read: proxy-protocol.txt 2.2
        return ProxyHeader(version=2, is_local=True)
    if family == 0:
        return ProxyHeader(version=2)
    first = _FIXED + _ADDRESSES[family]
    source = destination = ""
    source_port = destination_port = 0
    if family != 0x31:
        kind = "!4s4sHH" if family == 0x11 else "!16s16sHH"
        from_octets, to_octets, source_port, destination_port = struct.unpack_from(kind, octets, _FIXED)
        source, destination = str(ipaddress.ip_address(from_octets)), str(ipaddress.ip_address(to_octets))
    found: dict[int, bytes] = {}
    others: list[tuple[int, bytes]] = []
    for at, type_, value in _tlvs(octets, first):
        if type_ == _CRC32C:
            _check(octets, at, value)
        elif type_ in {_ALPN, _AUTHORITY, _UNIQUE_ID, _SSL}:
            found.setdefault(type_, value)
        elif type_ != _NOOP:
            others.append((type_, value))
    if len(found.get(_UNIQUE_ID, b"")) > MAX_UNIQUE_ID:
        raise ProxyHeaderError(f"UNIQUE_ID longer than {MAX_UNIQUE_ID} octets")
    return ProxyHeader(
        version=2,
        source=source,
        source_port=source_port,
        destination=destination,
        destination_port=destination_port,
        alpn=_text(found.get(_ALPN)),
        authority=_text(found.get(_AUTHORITY)),
        unique_id=_text(found.get(_UNIQUE_ID)),
        tls=_tls(found[_SSL]) if _SSL in found else None,
        others=tuple(others),
    )


def _tlvs(octets: bytes, at: int) -> Iterator[tuple[int, int, bytes]]:
    """(offset of the value, type, value) of each."""
    count = 0
    while at < len(octets):
        count += 1
        if count > MAX_TLVS:
            raise ProxyHeaderError(f"more than {MAX_TLVS} TLVs")
        if at + 3 > len(octets):
            raise ProxyHeaderError("a TLV that is cut off")
        type_, length = struct.unpack_from("!BH", octets, at)
        at += 3
        if at + length > len(octets):
            raise ProxyHeaderError("a TLV that is longer than the header")
        yield at, type_, octets[at : at + length]
        at += length


def _check(octets: bytes, at: int, value: bytes) -> None:
    """proxy-protocol.txt 2.2.3: the sum over the header with zeros in its own place."""
    if len(value) != 4:
        raise ProxyHeaderError("a CRC32C that has not 4 octets")
    if crc32c(octets[:at] + bytes(4) + octets[at + 4 :]) != int.from_bytes(value, "big"):
        raise ProxyHeaderError("wrong CRC32C")


def _tls(value: bytes) -> ProxyTls | None:
    if len(value) < 5:
        raise ProxyHeaderError("an SSL TLV that is cut off")
    client, verify = struct.unpack_from("!BI", value)
    sub = {type_: text for _, type_, text in _tlvs(value, 5)}
    if not client & _CLIENT_SSL:
        return None
    has_certificate = bool(client & _CLIENT_CERTIFICATE)
    return ProxyTls(
        version=_text(sub.get(_SSL_VERSION)),
        cipher=_text(sub.get(_SSL_CIPHER)),
        client_name=_text(sub.get(_SSL_CN)),
        has_certificate=has_certificate,
        is_verified=has_certificate and verify == 0,
    )


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "backslashreplace")


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)  # noqa: PLW2901 - the register of the sum
        table.append(value)
    return tuple(table)


_CRC_TABLE = _crc_table()


def crc32c(octets: bytes) -> int:
    """CRC-32 with Castagnoli's polynomial (RFC 9260 Appendix B)."""
    value = 0xFFFFFFFF
    for octet in octets:
        value = _CRC_TABLE[(value ^ octet) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF
