"""A signature's own field: how it is folded, what its names may be."""

from __future__ import annotations

import re

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st

from gateway.mailauth import (
    BodyHashWanted,
    PrivateKey,
    SigningKey,
    Terms,
    body_hashes,
    dkim_signature,
    is_within,
    own_field,
    parse_tags,
    parts,
    quoted_identity,
    render_tags,
    signing_name,
    with_signature,
)
from gateway.testing import a_message

KEY = PrivateKey("ed25519-sha256", 256, ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
names = st.lists(st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=30), min_size=1, max_size=60)
words = st.text("abcdefghijklmnopqrstuvwxyz0123456789.", min_size=1, max_size=60)


@given(words, names, st.binary(max_size=600))
def test_folded_and_read_again(domain: str, listed: list[str], signature: bytes) -> None:
    body = render_tags("DKIM-Signature", [("v", "1"), ("d", domain), ("h", ":".join(listed))])
    whole = with_signature("DKIM-Signature", body, signature)
    lines = f"DKIM-Signature: {whole}".split("\r\n")
    assert all(len(line) <= 78 for line in lines)
    assert all(line.startswith("\t") and line.strip() for line in lines[1:])
    tags = parse_tags(whole.encode())
    assert tags[b"d"].decode() == domain
    assert parts(tags[b"h"]) == [one.encode() for one in listed]
    # The signature is made before it is written in: that must change nothing of what is hashed.
    for is_relaxed in (False, True):
        before, after = (own_field(b"DKIM-Signature: " + text.encode(), is_relaxed=is_relaxed) for text in (body, whole))
        assert before == after


def test_a_long_name_is_not_broken() -> None:
    domain = ".".join(["a" * 60] * 4)
    body = render_tags("DKIM-Signature", [("v", "1"), ("d", domain), ("s", "x")])
    assert f"\r\n\td={domain};" in body
    assert parse_tags(body.encode())[b"d"].decode() == domain


def test_every_tag() -> None:
    message = a_message()
    body = body_hashes(message.octets[message.body_offset :], [BodyHashWanted(False)])[BodyHashWanted(False)]
    key = SigningKey(domain="example.org", selector="2026", key=KEY)
    terms = Terms(is_header_relaxed=False, is_body_relaxed=False, identity="@a.example.org", signed_at=1, expires_at=2)
    made = dkim_signature(message, key, [b"from", b"from", b"to"], body, terms)
    assert made == dkim_signature(message, key, [b"from", b"from", b"to"], body, terms)
    tags = {name.decode(): value.decode() for name, value in parse_tags(made.encode()).items()}
    assert list(tags) == ["v", "a", "c", "d", "s", "i", "t", "x", "h", "bh", "b"]
    assert [tags[one] for one in "vacdsitxh"] == [
        "1", "ed25519-sha256", "simple/simple", "example.org", "2026", "@a.example.org", "1", "2", "from:from:to",
    ]  # fmt: skip
    assert key.record_name == "2026._domainkey.example.org"
    assert not re.search(r"\bl=", made)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Example.ORG.", "example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("a_b", "a_b"),
        ("2026a.mail", "2026a.mail"),
    ],
)
def test_names(text: str, name: str) -> None:
    assert signing_name(text) == name


@pytest.mark.parametrize(
    "text", ["", ".", "a..b", "-a.example", "a b.example", "a" * 64, "é" * 70, "a\r\nb", "a;b", ".".join(["a" * 50] * 6)]
)
def test_no_names(text: str) -> None:
    with pytest.raises(ValueError):
        signing_name(text)


@pytest.mark.parametrize(
    ("mailbox", "identity"),
    [
        ("alice@Example.org", "alice@example.org"),
        ("@example.org", "@example.org"),
        ('"a;b = c"@example.org', '"a=3Bb=20=3D=20c"@example.org'),
        ("zoë@bücher.example", "zo=C3=AB@xn--bcher-kva.example"),
    ],
)
def test_identities(mailbox: str, identity: str) -> None:
    assert quoted_identity(mailbox) == identity


def test_no_identities() -> None:
    for mailbox in ("example.org", "a@", "a@b c"):
        with pytest.raises(ValueError):
            quoted_identity(mailbox)


def test_domains_within_another() -> None:
    assert is_within("example.org", "example.org")
    assert is_within("a.example.org", "example.org")
    assert not is_within("badexample.org", "example.org")
    assert not is_within("org", "example.org")
