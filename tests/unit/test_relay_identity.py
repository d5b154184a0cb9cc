"""What a next hop is told of a client, octet for octet."""

from __future__ import annotations

import pytest

from gateway.relay.identity import MAX_LINE, ClientFacts, proxy_header, xclient, xforward, xtext

ALL = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def test_all_that_is_offered_is_said() -> None:
    client = ClientFacts(address="192.0.2.1", port=1025, helo="a.example", name="b.example", identity="u+x", protocol="ESMTP")
    assert xclient(client, ALL) == [
        b"XCLIENT HELO=a.example PROTO=ESMTP LOGIN=u+2Bx DESTADDR=- DESTPORT=- PORT=1025 NAME=b.example ADDR=192.0.2.1".replace(
            b"-", b"[UNAVAILABLE]"
        )
    ]
    assert xclient(ClientFacts(address=""), ALL) == [
        b"XCLIENT HELO=- PROTO=SMTP LOGIN=- DESTADDR=- DESTPORT=- PORT=- NAME=- ADDR=-".replace(b"-", b"[UNAVAILABLE]")
    ]
    assert xclient(client, ("addr", "OTHER")) == [b"XCLIENT ADDR=192.0.2.1"]
    assert xclient(client, ()) == []


def test_a_transaction_is_forwarded_with_its_identifier() -> None:
    client = ClientFacts(address="2001:db8::1", port=5, helo="[IPv6:::1]", protocol="ESMTP", ident="1M8-1", identity="secret")
    assert xforward(client, ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE", "LOGIN")) == [
        b"XFORWARD NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::1 PORT=5 PROTO=ESMTP HELO=[IPv6:::1] IDENT=1M8-1 SOURCE=REMOTE"
    ]


@pytest.mark.parametrize(
    ("address", "said"),
    [("::ffff:192.0.2.1", b"192.0.2.1"), ("fe80::1%eth0", b"IPV6:fe80::1"), ("nonsense", b"[UNAVAILABLE]")],
)
def test_addresses(address: str, said: bytes) -> None:
    assert xclient(ClientFacts(address=address), ("ADDR",)) == [b"XCLIENT ADDR=" + said]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a.example", "a.example"),
        ("a b", "a+20b"),
        ("a=b", "a+3Db"),
        ("a\r\nRSET", "a+0D+0ARSET"),
        ("ü", "+C3+BC"),
        ("", "[UNAVAILABLE]"),
        ("x" * 400, "x" * 400),
        ("x" * 401, "[UNAVAILABLE]"),
        ("+" * 134, "[UNAVAILABLE]"),
    ],
)
def test_values(value: str, said: str) -> None:
    assert xtext(value) == said


def test_long_values_are_said_in_several_commands_the_address_last() -> None:
    client = ClientFacts(address="192.0.2.1", helo="h" * 255, name="n" * 255, identity="l" * 64)
    lines = xclient(client, ALL)
    assert len(lines) == 2
    assert all(len(line) <= MAX_LINE for line in lines)
    assert lines[-1].endswith(b"ADDR=192.0.2.1")
    assert b" ".join(lines).replace(b"XCLIENT ", b"").count(b"=") == len(ALL)


def test_the_proxy_header() -> None:
    client = ClientFacts(address="192.0.2.1", port=258)
    assert proxy_header(client, ("198.51.100.2", 25)) == SIGNATURE + bytes.fromhex("21 11 000c c0000201 c6336402 0102 0019")
    assert proxy_header(client, ("::1", 25)) == SIGNATURE + bytes.fromhex("21 11 000c c0000201 00000000 0102 0019")
    six = ClientFacts(address="2001:db8::1", port=1)
    want = "21 21 0024 20010db8000000000000000000000001 00000000000000000000000000000000 0001 0019"
    assert proxy_header(six, ("192.0.2.9", 25)) == SIGNATURE + bytes.fromhex(want)
    assert proxy_header(None, ("192.0.2.9", 25)) == SIGNATURE + bytes.fromhex("20 00 0000")
    assert proxy_header(ClientFacts(address=""), ("192.0.2.9", 25)) == SIGNATURE + bytes.fromhex("21 00 0000")


def test_only_a_name_can_stand_in_our_ehlo() -> None:
    assert ClientFacts(address="", helo="[192.0.2.1]").helo_name == "[192.0.2.1]"
    assert ClientFacts(address="", helo="a b").helo_name == ""
    assert ClientFacts(address="", helo="ü.example").helo_name == ""
