"""What is published for a key, and everything that can be wrong with it."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.mailauth import PrivateKey, SigningKey
from gateway.mailauth.published import Weight, remarks, strings, zone_entry

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=1024)
ED = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = SigningKey(domain="example.org", selector="s", key=PrivateKey("rsa-sha256", 2048, RSA))
SMALL = SigningKey(domain="example.org", selector="s", key=PrivateKey("rsa-sha256", 1024, OTHER))
EDWARDS = SigningKey(domain="example.org", selector="e", key=PrivateKey("ed25519-sha256", 256, ED))
RECORD = KEY.key.record
P = RECORD.partition("p=")[2]


def test_strings_and_zone_file() -> None:
    long = SigningKey(
        domain="example.org", selector="s", key=PrivateKey("rsa-sha256", 4096, rsa.generate_private_key(65537, 4096))
    ).key.record
    for text in (RECORD, long, EDWARDS.key.record, "x" * 255, "x" * 256):
        assert "".join(strings(text)) == text
        assert all(0 < len(one) <= 255 for one in strings(text))
        entry = zone_entry("s._domainkey.example.org", text)
        assert "".join(entry.split('"')[1::2]) == text
        assert entry.startswith("s._domainkey.example.org. IN TXT ")
        assert ("(" in entry) == (len(text) > 255)


@pytest.mark.parametrize(
    ("key", "records", "expected"),
    [
        (KEY, [RECORD], []),
        (EDWARDS, [EDWARDS.key.record], []),
        (KEY, [f"v=DKIM1 ; k = RSA ; h=sha1:sha256; s=*; t=; n=note; p={P[:50]} {P[50:]};"], []),
        (KEY, [f"p={P}"], ["warning: it has no v=DKIM1"]),
        (KEY, [], ["error: there is no TXT record"]),
        (KEY, [f"v=dkim1; p={P}"], ["error: v= is not DKIM1, or not the first tag"]),
        (KEY, [f"k=rsa; v=DKIM1; p={P}"], ["error: v= is not DKIM1, or not the first tag"]),
        (KEY, [f"v=DKIM1; h=sha1; p={P}"], ["error: h= does not allow sha256"]),
        (KEY, [f"v=DKIM1; s=tlsrpt; p={P}"], ["error: s= does not allow email"]),
        (KEY, [f"v=DKIM1; t=y; p={P}"], ["warning: t=y says that you are testing"]),
        (KEY, [f"v=DKIM1; t=s; p={P}"], ["note: t=s: i= may only be in example.org itself"]),
        (KEY, [f"v=DKIM1; g=; p={P}"], ["warning: g= is from an older standard"]),
        (KEY, [f"v=DKIM1; q=x; p={P}"], ["warning: tags that DKIM does not know: q"]),
        (KEY, ["v=DKIM1; k=rsa"], ["error: it has no p="]),
        (KEY, ["v=DKIM1; p="], ["error: p= is empty: the key is revoked"]),
        (KEY, [f"v=DKIM1; p={P}!"], ["error: p= is not base64"]),
        (KEY, [f"v=DKIM1; p={P[:-4]}"], ["error: p= is this key, cut short or with something behind it"]),
        (KEY, [f"v=DKIM1; p={base64.b64encode(base64.b64decode(P) + b'xyz').decode()}"], ["error: p= is this key, cut short"]),
        (KEY, [f"v=DKIM1; p={P} and more"], ["error: p= is this key, cut short or with something behind it"]),
        (KEY, [f"v=DKIM1; p={P}; more"], ["error: it is no list of tags: something in it is no tag"]),
        (KEY, [f'"v=DKIM1; p={P[:100]}" "{P[100:]}"'], ["error: quotation marks are in the value"]),
        (KEY, [f"v=DKIM1\\; p={P}"], ["error: backslashes are in the value"]),
        (KEY, [SMALL.key.record], ["error: p= is another key (1024 bits)"]),
        (KEY, [EDWARDS.key.record], ["error: k= is not rsa, which the private key is"]),
        (
            EDWARDS,
            [EDWARDS.key.record.replace("k=ed25519; ", "")],
            ["error: k= is not ed25519, which the private key is; without k="],
        ),
        (EDWARDS, ["v=DKIM1; k=ed25519; p=AAAA"], ["error: p= is of no use: key is not an ed25519 key"]),
        (SMALL, [SMALL.key.record], ["warning: the key has 1024 bits; 2048 are recommended"]),
        (KEY, [RECORD, "v=spf1 -all"], ["error: there are 2 TXT records", "error: record 2: "]),
        (KEY, ["x" * 5000], ["error: it has more than 4096 octets"]),
        (KEY, ["\u00e9=\u00e9"], ["error: it is no list of tags"]),
    ],
)
def test_remarks(key: SigningKey, records: list[str], expected: list[str]) -> None:
    found = [f"{one.weight.value}: {one.text}" for one in remarks([one.encode() for one in records], key)]
    for start in expected:
        assert any(one.startswith(start) for one in found), found
    assert len(found) >= len(expected)
    if not expected:
        assert found == []


def test_the_same_key_written_as_pkcs1_is_the_same() -> None:
    octets = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    found = remarks([f"v=DKIM1; p={base64.b64encode(octets).decode()}".encode()], KEY)
    assert [one for one in found if one.weight is Weight.ERROR] == []
