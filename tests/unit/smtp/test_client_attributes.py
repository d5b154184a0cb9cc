"""Attributes of XCLIENT and XFORWARD: what is taken, what is refused, and that nothing unprintable gets in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.smtp.client_attributes import MAX_VALUE, XCLIENT, XFORWARD, attributes
from gateway.smtp.grammar import SyntaxFault


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (b"ADDR=192.0.2.7", {"ADDR": "192.0.2.7"}),
        (b"addr=IPV6:2001:DB8::7  Port=0", {"ADDR": "2001:db8::7", "PORT": "0"}),
        (b"ADDR=2001:db8::7 PORT=65535", {"ADDR": "2001:db8::7", "PORT": "65535"}),
        (b"NAME=[UNAVAILABLE] ADDR=[unavailable] HELO=[TEMPUNAVAIL]", {"NAME": "", "ADDR": "", "HELO": ""}),
        (b"HELO=helo+20string LOGIN=zo+C3+AB@example.test", {"HELO": "helo string", "LOGIN": "zoë@example.test"}),
        (b"LOGIN=a+2Bb+3Dc", {"LOGIN": "a+b=c"}),
        (b"PROTO=esmtp REVERSE_NAME=a_b.example.", {"PROTO": "ESMTP", "REVERSE_NAME": "a_b.example."}),
        (b"DESTADDR=198.51.100.1 DESTPORT=25", {"DESTADDR": "198.51.100.1", "DESTPORT": "25"}),
        (b"LOGIN=" + b"x" * MAX_VALUE, {"LOGIN": "x" * MAX_VALUE}),
    ],
)
def test_what_is_taken(argument: bytes, expected: dict[str, str]) -> None:
    assert attributes("XCLIENT", argument, XCLIENT) == expected


@pytest.mark.parametrize(
    "argument",
    [
        b"",
        b"ADDR",
        b"ADDR=",
        b"=x",
        b"IDENT=x",
        b"ADDR=1.2.3.4 ADDR=1.2.3.4",
        b"ADDR=1.2.3",
        b"ADDR=IPV6:1.2.3.4.5",
        b"ADDR=fe80::1%eth0",
        b"ADDR=[192.0.2.7]",
        b"PORT=-1",
        b"PORT=65536",
        b"PORT=+30x",
        b"NAME=a+20b",
        b"NAME=-a",
        b"PROTO=HTTP",
        b"HELO=+0D",
        b"HELO=+00",
        b"HELO=+20",
        b"HELO=a+C2+85b",
        b"HELO=+4",
        b"HELO=+GG",
        b"LOGIN=+FF",
        b"LOGIN=" + b"x" * (MAX_VALUE + 1),
        b"HELO=\xc3\xab",
    ],
)
def test_what_is_refused(argument: bytes) -> None:
    with pytest.raises(SyntaxFault) as told:
        attributes("XCLIENT", argument, XCLIENT)
    assert (told.value.code, told.value.enhanced) == (501, "5.5.4")
    assert told.value.text.isascii()


def test_xforward_has_attributes_of_its_own() -> None:
    assert attributes("XFORWARD", b"IDENT=4A+2BB SOURCE=local", XFORWARD) == {"IDENT": "4A+B", "SOURCE": "LOCAL"}
    for argument in (b"LOGIN=x", b"SOURCE=elsewhere"):
        with pytest.raises(SyntaxFault):
            attributes("XFORWARD", argument, XFORWARD)


@given(st.text(min_size=1, max_size=80))
def test_a_login_in_xtext_comes_out_as_it_went_in_or_is_refused(text: str) -> None:
    xtext = b"".join(
        b"%c" % octet if 0x21 <= octet <= 0x7E and octet not in b"+=" else b"+%02X" % octet for octet in text.encode()
    )
    try:
        found = attributes("XCLIENT", b"LOGIN=" + xtext, XCLIENT)
    except SyntaxFault:
        assert not text.isprintable() or text.strip() != text or len(text.encode()) > MAX_VALUE
    else:
        assert found["LOGIN"] == text or text.upper() in {"[UNAVAILABLE]", "[TEMPUNAVAIL]"}


@given(st.binary(max_size=200))
def test_whatever_comes_nothing_unprintable_gets_in(argument: bytes) -> None:
    try:
        found = attributes("XCLIENT", b"HELO=" + argument, XCLIENT)
    except SyntaxFault:
        return
    assert all(value.isprintable() for value in found.values())
