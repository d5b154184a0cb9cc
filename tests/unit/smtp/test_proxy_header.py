"""PROXY headers: what is one, what is none, and that a reader never takes an octet too many."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.smtp.proxy_header import (
    MAX_LENGTH,
    MAX_TLVS,
    SIGNATURE,
    ProxyHeader,
    ProxyHeaderError,
    ProxyTls,
    crc32c,
    missing,
    parse,
)

V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\n"
FOUR = ipaddress.IPv4Address("192.0.2.7").packed + ipaddress.IPv4Address("198.51.100.1").packed + struct.pack("!HH", 56324, 25)
SIX = ipaddress.IPv6Address("2001:db8::7").packed + ipaddress.IPv6Address("2001:db8::1").packed + struct.pack("!HH", 56324, 25)


def v2(block: bytes, *, command: int = 0x21, family: int = 0x11) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(block)) + block


def tlv(type_: int, value: bytes) -> bytes:
    return struct.pack("!BH", type_, len(value)) + value


def with_crc(block: bytes, *, wrong: bool = False) -> bytes:
    whole = v2(block + tlv(0x03, bytes(4)))
    return whole[:-4] + (crc32c(whole) ^ wrong).to_bytes(4, "big")


def read_exactly(stream: bytes) -> tuple[ProxyHeader, bytes]:
    """As the border reads: only what is missing, each time."""
    octets = b""
    while (more := missing(octets)) > 0:
        if len(octets) == len(stream):
            raise EOFError
        octets = stream[: len(octets) + more]
    return parse(octets), stream[len(octets) :]


@pytest.mark.parametrize(
    ("octets", "source", "port", "destination"),
    [
        (V1, "192.0.2.7", 56324, "198.51.100.1"),
        (b"PROXY TCP6 2001:db8::7 2001:DB8::1 1 65535\r\n", "2001:db8::7", 1, "2001:db8::1"),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 0 0\r\n", "1.1.1.1", 0, "1.1.1.1"),
        (b"PROXY UNKNOWN\r\n", "", 0, ""),
        (b"PROXY UNKNOWN ffff::1 whatever it is\r\n", "", 0, ""),
        (v2(FOUR), "192.0.2.7", 56324, "198.51.100.1"),
        (v2(SIX, family=0x21), "2001:db8::7", 56324, "2001:db8::1"),
        (v2(b"/run/x".ljust(216, b"\0"), family=0x31), "", 0, ""),
        (v2(b"", family=0), "", 0, ""),
        (v2(b"ignored, whatever it is", family=0), "", 0, ""),
    ],
)
def test_a_header_is_read_to_its_last_octet(octets: bytes, source: str, port: int, destination: str) -> None:
    header, rest = read_exactly(octets + b"EHLO x\r\n")
    assert rest == b"EHLO x\r\n"
    assert (header.source, header.source_port, header.destination) == (source, port, destination)
    assert not header.is_local


def test_local_is_the_proxy_itself_and_its_block_is_not_read() -> None:
    header, rest = read_exactly(v2(FOUR + b"\xff broken", command=0x20) + b"NOOP")
    assert header == ProxyHeader(version=2, is_local=True)
    assert rest == b"NOOP"
    assert parse(v2(b"", command=0x20, family=0)).is_local


def test_what_stands_in_the_tlvs() -> None:
    sub = tlv(0x21, b"TLSv1.3") + tlv(0x22, "Zoë".encode()) + tlv(0x23, b"TLS_AES_128_GCM_SHA256") + tlv(0x25, b"RSA2048")
    ssl = struct.pack("!BI", 0x07, 0) + sub
    block = FOUR + tlv(0x01, b"smtp") + tlv(0x02, b"mx.example.org") + tlv(0x04, bytes(9)) + tlv(0x05, b"\xffid") + tlv(0x20, ssl)
    header = parse(with_crc(block + tlv(0xE0, b"own")))
    assert (header.alpn, header.authority, header.unique_id) == ("smtp", "mx.example.org", "\\xffid")
    assert header.tls == ProxyTls(
        version="TLSv1.3", cipher="TLS_AES_128_GCM_SHA256", client_name="Zoë", has_certificate=True, is_verified=True
    )
    assert header.others == ((0xE0, b"own"),)


@pytest.mark.parametrize(
    ("client", "verify", "expected"),
    [(0x00, 0, None), (0x01, 0, (False, False)), (0x01, 1, (False, False)), (0x03, 1, (True, False)), (0x05, 0, (True, True))],
)
def test_a_certificate_counts_when_the_proxy_could_verify_it(
    client: int, verify: int, expected: tuple[bool, bool] | None
) -> None:
    tls = parse(v2(FOUR + tlv(0x20, struct.pack("!BI", client, verify)))).tls
    assert (None if tls is None else (tls.has_certificate, tls.is_verified)) == expected


def test_the_sum_is_the_published_one() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert parse(with_crc(FOUR)).source == "192.0.2.7"
    with pytest.raises(ProxyHeaderError, match="CRC32C"):
        parse(with_crc(FOUR, wrong=True))


@pytest.mark.parametrize(
    ("octets", "problem"),
    [
        (b"EHLO client.example\r\n", "neither version 1 nor version 2"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "neither version 1 nor version 2"),
        (b"PROXY\r\n             ", "neither version 1 nor version 2"),
        (b"PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n", "neither TCP4"),
        (b"PROXY  TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "neither TCP4"),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n", "line feed"),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1\r\n", "two addresses and two ports"),
        (b"PROXY TCP4 1.1.1.1  1.1.1.1 1 1\r\n", "two addresses and two ports"),
        (b"PROXY TCP4 ::1 ::1 1 1\r\n       ", "none of TCP4"),
        (b"PROXY TCP6 1.1.1.1 ::1 1 1\r\n", "none of TCP6"),
        (b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n", "zone"),
        (b"PROXY TCP4 1.1.1.01 1.1.1.1 1 1\r\n", "none of TCP4"),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 65536\r\n", "port"),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n", "port"),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n", "port"),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r2\r\n", "port"),
        (b"PROXY UNKNOWN " + b"x" * 120, "longer than 107"),
        (b"PROXY TCP4 " + b"1" * 120, "longer than 107"),
        (SIGNATURE + b"\x11\x11\x00\x0c" + FOUR, "version and command 0x11"),
        (v2(FOUR, command=0x22), "version and command 0x22"),
        (v2(FOUR, family=0x12), "family and transport 0x12"),
        (v2(FOUR[:-1]), "shorter than its addresses"),
        (v2(FOUR, family=0x21), "shorter than its addresses"),
        (SIGNATURE + struct.pack("!BBH", 0x21, 0x11, MAX_LENGTH + 1), "longer than"),
        (v2(FOUR + b"\x01\x00"), "cut off"),
        (v2(FOUR + b"\x01\x00\x05abcd"), "longer than the header"),
        (v2(FOUR + tlv(0x04, b"") * (MAX_TLVS + 1)), "more than"),
        (v2(FOUR + tlv(0x05, bytes(129))), "UNIQUE_ID"),
        (v2(FOUR + tlv(0x03, b"abc")), "4 octets"),
        (v2(FOUR + tlv(0x20, b"\x01\x00")), "SSL TLV"),
        (v2(FOUR + tlv(0x20, b"\x01\0\0\0\0" + b"\x21\x00\x09TLS")), "longer than the header"),
    ],
)
def test_what_is_none_is_refused_with_the_reason(octets: bytes, problem: str) -> None:
    with pytest.raises(ProxyHeaderError, match=problem):
        read_exactly(octets)


def test_what_is_cut_off_or_too_long_is_not_parsed() -> None:
    for octets in (b"", V1[:-1], v2(FOUR)[:-1], v2(FOUR) + b"x"):
        with pytest.raises(ProxyHeaderError):
            parse(octets)


addresses = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)), st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6))
)
ports = st.integers(0, 0xFFFF)
tlvs = st.lists(st.tuples(st.integers(0x40, 0xFF), st.binary(max_size=300)), max_size=8)


@given(ends=addresses, both=st.tuples(ports, ports), behind=st.binary(max_size=40), extra=tlvs, second=st.booleans())
def test_what_was_written_is_read_and_nothing_behind_it(
    ends: tuple[ipaddress.IPv4Address, ipaddress.IPv4Address],
    both: tuple[int, int],
    behind: bytes,
    extra: list[tuple[int, bytes]],
    second: bool,
) -> None:
    (source, destination), (source_port, port) = ends, both
    if second:
        block = source.packed + destination.packed + struct.pack("!HH", source_port, port)
        octets = v2(block + b"".join(tlv(*one) for one in extra), family=0x11 if source.version == 4 else 0x21)
    else:
        octets = f"PROXY TCP{source.version} {source} {destination} {source_port} {port}\r\n".encode()
    header, rest = read_exactly(octets + behind)
    assert rest == behind
    assert (header.source, header.destination) == (str(source), str(destination))
    assert (header.source_port, header.destination_port) == (source_port, port)
    assert header.others == (tuple(extra) if second else ())


@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=200).map(lambda rest: SIGNATURE + b"\x21\x11" + rest),
        st.binary(max_size=200).map(lambda rest: b"PROXY TCP4 " + rest),
    )
)
def test_whatever_comes_it_is_a_header_or_is_refused(octets: bytes) -> None:
    try:
        _, rest = read_exactly(octets)
    except (ProxyHeaderError, EOFError):
        return
    assert len(rest) < len(octets)
