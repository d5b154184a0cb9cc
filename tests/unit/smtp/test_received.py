"""The Received field: the word behind `with`, and who the client was. RFC 5321 4.4, RFC 3848 2, RFC 6531 4.3."""

from __future__ import annotations

import pytest

from gateway.smtp.received import protocol, received
from gateway.testing import a_session, a_transaction


@pytest.mark.parametrize(
    ("word", "spoken", "has"),
    [
        ("SMTP", "smtp", ""),
        ("ESMTP", "smtp", "esmtp"),
        ("ESMTPS", "smtp", "esmtp tls"),
        ("ESMTPA", "smtp", "esmtp auth"),
        ("ESMTPSA", "smtp", "esmtp tls auth"),
        ("UTF8SMTP", "smtp", "esmtp utf8"),
        ("UTF8SMTPSA", "smtp", "esmtp tls auth utf8"),
        ("LMTP", "lmtp", "esmtp"),
        ("LMTPS", "lmtp", "esmtp tls"),
        ("LMTPA", "lmtp", "esmtp auth"),
        ("LMTPSA", "lmtp", "esmtp tls auth"),
        ("UTF8LMTP", "lmtp", "esmtp utf8"),
        ("UTF8LMTPSA", "lmtp", "esmtp tls auth utf8"),
    ],
)
def test_the_word_behind_with(word: str, spoken: str, has: str) -> None:
    """As IANA's registry of mail transmission types has them."""
    session = a_session(protocol=spoken, esmtp="esmtp" in has, tls="tls" in has, identity="me" if "auth" in has else "")
    assert protocol(session, utf8="utf8" in has) == word
    transaction = a_transaction(session=session, parameters=["SMTPUTF8"] if "utf8" in has else [])
    assert f" with {word} id ".encode() in received(transaction, server_name="mx.test", now=0)


def test_what_changes_in_a_session_changes_its_fields() -> None:
    """STARTTLS, AUTH and a second EHLO come between two transactions of one session."""
    session = a_session(helo="one.test", esmtp=True)
    changes: list[dict[str, object]] = [
        {},
        {"helo": "two.test"},
        {"identity": "me"},
        {"client_address": "192.0.2.77"},
        {"esmtp": False},
    ]
    fields = []
    for change in changes:
        for name, value in change.items():
            setattr(session, name, value)
        fields.append(received(a_transaction(session=session), server_name="mx.test", now=0))
    fields.append(received(a_transaction(session=session, parameters=["SMTPUTF8"]), server_name="mx.test", now=0))
    shown = [b"from one.test", b"from two.test", b"with ESMTPA", b"192.0.2.77", b"with SMTP ", b"with SMTP "]
    assert all(what in field for what, field in zip(shown, fields, strict=True)), fields
    alone = a_session(helo="two.test", identity="me", client_address="192.0.2.77", esmtp=False)
    assert (
        fields[4].partition(b" id ")[0]
        == received(a_transaction(session=alone), server_name="mx.test", now=0).partition(b" id ")[0]
    )


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({"client_address": "192.0.2.1"}, "([192.0.2.1])"),
        ({"client_address": "2001:db8::1"}, "([IPv6:2001:db8::1])"),
        ({"client_address": ""}, "([unknown])"),
        ({"client_address": "", "is_local": True}, "(UNIX socket)"),
    ],
)
def test_who_the_client_was(facts: dict[str, object], shown: str) -> None:
    transaction = a_transaction(session=a_session(**facts))  # type: ignore[arg-type] # facts of several types
    field = received(transaction, server_name="mx.test", now=1_800_000_000)
    assert field.startswith(f"Received: from client.example {shown}\r\n\tby mx.test (mailgateway) with ESMTP id ".encode()), field
