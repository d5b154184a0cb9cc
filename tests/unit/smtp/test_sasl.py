"""Mechanisms that pass, responses that are some, and names read from them."""

from __future__ import annotations

import base64

import pytest

from gateway.smtp.sasl import identity, is_response, passing


def test_what_is_bound_to_a_connection_does_not_pass() -> None:
    offered = (
        "plain",
        "LOGIN",
        "EXTERNAL",
        "SCRAM-SHA-1",
        "SCRAM-SHA-256-PLUS",
        "GSSAPI",
        "XOAUTH2",
        "OAUTHBEARER",
        "PLAIN",
        "NTLM",
    )
    assert passing(offered) == ("PLAIN", "LOGIN", "SCRAM-SHA-1", "XOAUTH2", "OAUTHBEARER")


@pytest.mark.parametrize(("octets", "is_one"), [
    (b"", True), (b"*", True), (b"am9l", True), (b"am8=", True), (b"ag==", True),
    (b"=", False), (b"am9", False), (b"a===", False), (b"am9l\n", False), (b"RSET", True), (b"am9 ", False), (b"**", False),
])  # fmt: skip
def test_responses(octets: bytes, is_one: bool) -> None:
    """RFC 4954 4: BASE64, or the asterisk."""
    assert is_response(octets) is is_one


@pytest.mark.parametrize(
    ("mechanism", "said", "name"),
    [
        ("PLAIN", "\0joe\0secret", "joe"),
        ("PLAIN", "admin\0joe\0secret", "joe"),
        ("PLAIN", "joe\0secret", "plain"),
        ("LOGIN", "joe@example.org", "joe@example.org"),
        ("LOGIN", "j\r\noe", "j??oe"),
        ("LOGIN", "j" * 300, "j" * 255),
        ("CRAM-MD5", "joe user e9a1", "joe?user"),
        ("SCRAM-SHA-256", "n,,n=j=2Coe,r=abc", "j,oe"),
        ("SCRAM-SHA-256", "n,a=boss,n=joe,r=abc", "joe"),
        ("XOAUTH2", "user=joe@example.org\1auth=Bearer token\1\1", "joe@example.org"),
        ("OAUTHBEARER", "n,a=joe@example.org,\1host=x\1auth=Bearer token\1\1", "joe@example.org"),
        ("OAUTHBEARER", "n,,\1auth=Bearer token\1\1", "oauthbearer"),
    ],
)
def test_who_it_is(mechanism: str, said: str, name: str) -> None:
    assert identity(mechanism, [base64.b64encode(said.encode())]) == name


@pytest.mark.parametrize("responses", [[], [b""], [b"am9"], [b"/////w=="]])
def test_a_response_that_cannot_be_read(responses: list[bytes]) -> None:
    assert identity("PLAIN", responses) == "plain"
