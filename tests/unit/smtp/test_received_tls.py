"""What the Received field tells of TLS stays in its comments, whatever a certificate says."""

from __future__ import annotations

import pytest

from gateway.session import Tls
from gateway.smtp.received import received
from gateway.testing.builders import a_session, a_transaction


def field(tls: Tls) -> str:
    return received(a_transaction(session=a_session(tls=tls)), server_name="mx.example.org", now=0.0).decode()


def test_a_certificate_is_named_as_postfix_does() -> None:
    tls = Tls(
        version="TLSv1.3", cipher="TLS_AES_128_GCM_SHA256", bits=128, peer_subject="CN=client.example", peer_issuer="CN=CA,O=Us"
    )
    lines = field(tls).splitlines()
    assert lines[1] == "\t(using TLSv1.3 with cipher TLS_AES_128_GCM_SHA256 (128/128 bits))"
    assert lines[2] == '\t(Client "CN=client.example", Issuer "CN=CA,O=Us" (verified OK))'


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a(b", "a)b", "a\r\nBcc: x", "a\0b", "ä" * 300])
def test_a_name_leaves_no_comment(name: str) -> None:
    text = field(Tls(version="TLSv1.3", cipher="X", peer_subject=name, peer_issuer="CN=CA"))
    client = next(line for line in text.split("\r\n") if "Client" in line)
    assert len(client) < 500
    assert client.isascii()
    assert client.count("(") == client.count(")") == 2
    assert client.count('"') == 4
    assert "\\" not in client
    assert text.count("\r\n") == text.count("\n")
    assert "\r\nBcc" not in text
