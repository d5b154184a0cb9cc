"""Private keys: what they sign, their public record verifies."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.mailauth import KeyRefusedError, PrivateKeyError, load_private_key, read_key, sign

RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)
ED = ed25519.Ed25519PrivateKey.generate()
EC = ec.generate_private_key(ec.SECP256R1())
PLAIN = serialization.NoEncryption()
DIGEST = hashlib.sha256(b"octets").digest()


def encoded(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey, *, is_pem: bool) -> bytes:
    encoding = serialization.Encoding.PEM if is_pem else serialization.Encoding.DER
    return key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, PLAIN)


SEED = base64.b64encode(
    ED.private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
)


@pytest.mark.parametrize(
    ("octets", "algorithm", "bits"),
    [
        (encoded(RSA, is_pem=True), "rsa-sha256", 1024),
        (
            RSA.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, PLAIN),
            "rsa-sha256",
            1024,
        ),
        (encoded(RSA, is_pem=False), "rsa-sha256", 1024),
        (encoded(ED, is_pem=True), "ed25519-sha256", 256),
        (encoded(ED, is_pem=False), "ed25519-sha256", 256),
        (SEED + b"\n", "ed25519-sha256", 256),
    ],
    ids=["rsa-pkcs8-pem", "rsa-pkcs1-pem", "rsa-der", "ed25519-pem", "ed25519-der", "ed25519-seed"],
)
def test_sign_and_verify(octets: bytes, algorithm: str, bits: int) -> None:
    key = load_private_key(octets)
    assert (key.algorithm, key.bits) == (algorithm, bits)
    record = read_key([key.record.encode()], algorithm=algorithm)
    assert record.bits == bits
    assert record.verifies(sign(DIGEST, key), DIGEST)
    assert not record.verifies(sign(DIGEST, key), DIGEST[::-1])
    assert not record.verifies(b"", DIGEST)
    with pytest.raises(KeyRefusedError, match="another type"):
        read_key([key.record.encode()], algorithm="rsa-sha256" if algorithm == "ed25519-sha256" else "ed25519-sha256")
    assert "private" not in repr(key)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"nonsense",
        base64.b64encode(b"31 octets are not an Ed25519 key"[:31]),
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        RSA.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
        ),
        encoded(EC, is_pem=True),
    ],
    ids=["nothing", "nonsense", "short-seed", "empty-pem", "pass-phrase", "another-kind"],
)
def test_what_cannot_sign(octets: bytes) -> None:
    with pytest.raises(PrivateKeyError) as caught:
        load_private_key(octets)
    assert octets == b"" or octets.decode("latin-1") not in str(caught.value)


def test_the_example_key_of_rfc_8463() -> None:
    """RFC 8463 A.2: the seed, and the record that belongs to it."""
    key = load_private_key(b"nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=\n")
    assert key.record == "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
