"""Key records are bounded before anything is computed with them: size, number, length of the key, exponent."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.mailauth import KeyRefusedError, key, read_key
from tests.dkim_signer import ed25519_key, rsa_key

RSA = rsa_key(1024)
GOOD = RSA.record.encode()


def record(modulus: int, exponent: int = 65537, form: PublicFormat = PublicFormat.SubjectPublicKeyInfo) -> bytes:
    octets = rsa.RSAPublicNumbers(e=exponent, n=modulus).public_key().public_bytes(Encoding.DER, form)
    return b"p=" + base64.b64encode(octets)


def refused(records: list[bytes], **bits: int) -> tuple[str, str]:
    with pytest.raises(KeyRefusedError) as caught:
        read_key(records, algorithm="rsa-sha256", **bits)
    return caught.value.result, caught.value.reason


def test_sizes() -> None:
    """RFC 8301 3.2."""
    assert read_key([record((1 << 1023) + 1)], algorithm="rsa-sha256").bits == 1024
    assert read_key([record((1 << 4095) + 1)], algorithm="rsa-sha256").bits == 4096
    text = "RSA key of {} bits, 1024 to 4096 are accepted"
    assert refused([record((1 << 1022) + 1)]) == ("policy", text.format(1023))
    assert refused([record((1 << 4096) + 1)]) == ("policy", text.format(4097))
    assert refused([record((1 << 16383) + 1)]) == ("policy", text.format(16384))
    assert refused([GOOD], minimum_bits=2048) == ("policy", "RSA key of 1024 bits, 2048 to 4096 are accepted")
    assert refused([record((1 << 32000) + 1)]) == ("permerror", "key record of more than 4096 octets")


@pytest.mark.parametrize("exponent", [(1 << 32) + 1, (1 << 64) - 1, (1 << 1000) + 1])
def test_a_huge_exponent_is_never_used(exponent: int) -> None:
    """One verification with it takes seconds."""
    content = record((1 << 2047) + 1, exponent)
    assert refused([content])[0] in {"policy", "permerror"}


def test_the_form_of_the_rfc_and_the_one_that_everybody_publishes() -> None:
    """RFC 6376 3.6.1 names RSAPublicKey; SubjectPublicKeyInfo is what there is."""
    for form in (PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1):
        assert read_key([record((1 << 2047) + 1, form=form)], algorithm="rsa-sha256").bits == 2048


def test_what_is_no_such_key() -> None:
    curve = ec.generate_private_key(ec.SECP256R1()).public_key()
    octets = base64.b64encode(curve.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    assert refused([b"p=" + octets]) == ("permerror", "key is not an RSA key")
    with pytest.raises(KeyRefusedError, match="not an ed25519 key"):
        read_key([b"k=ed25519; p=AAAA"], algorithm="ed25519-sha256")


def test_the_number_of_records_is_bounded() -> None:
    assert read_key([b"v=spf1"] * (key.MAX_RECORDS - 1) + [GOOD], algorithm="rsa-sha256").bits == 1024
    assert refused([b"v=spf1"] * key.MAX_RECORDS + [GOOD]) == ("permerror", "the record is not DKIM1")


def test_only_an_rsa_signature_tells_what_it_is_over() -> None:
    digest = bytes(32)
    assert read_key([GOOD], algorithm="rsa-sha256").recover(RSA.sign(digest)) == digest
    assert read_key([GOOD], algorithm="rsa-sha256").recover(b"x" * 128) is None
    ed = ed25519_key()
    assert read_key([ed.record.encode()], algorithm="ed25519-sha256").recover(ed.sign(digest)) is None
