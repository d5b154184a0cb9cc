"""Private keys and signing: RSA PKCS#1 v1.5 with SHA-256 (RFC 6376 3.3.1) and Ed25519 (RFC 8463 3), by `cryptography`."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key, load_pem_private_key

_PADDING, _PREHASHED = PKCS1v15(), Prehashed(SHA256())


class PrivateKeyError(ValueError):
    """Not a key that can sign; the text says why and shows nothing of the key."""


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A key that signs."""

    algorithm: str
    """`rsa-sha256` or `ed25519-sha256`."""
    bits: int
    private: RSAPrivateKey | Ed25519PrivateKey = field(repr=False)

    def sign(self, digest: bytes) -> bytes:
        """The signature over a SHA-256 digest."""
        if isinstance(self.private, Ed25519PrivateKey):
            return self.private.sign(digest)
        return self.private.sign(digest, _PADDING, _PREHASHED)

    @property
    def record(self) -> str:
        """The key record to publish (RFC 6376 3.6.1, RFC 8463 4)."""
        public = self.private.public_key()
        if self.algorithm == "ed25519-sha256":
            octets = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        else:
            octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return f"v=DKIM1; k={self.algorithm.partition('-')[0]}; p={base64.b64encode(octets).decode('ascii')}"


def sign(digest: bytes, key: PrivateKey) -> bytes:
    """The signature over a SHA-256 digest."""
    return key.sign(digest)


def load_private_key(octets: bytes) -> PrivateKey:
    """PEM, DER, or an Ed25519 seed in base64 as dkimpy keeps it. Without a pass phrase. Raises PrivateKeyError."""
    private: object
    try:
        if b"-----BEGIN" in octets:
            private = load_pem_private_key(octets, password=None)
        else:
            seed = _seed(octets)
            private = Ed25519PrivateKey.from_private_bytes(seed) if seed else load_der_private_key(octets, password=None)
    except TypeError as error:  # what cryptography says to a missing pass phrase
        raise PrivateKeyError(
            "a key with a pass phrase, which nobody is there to give: `openssl pkey` writes it without"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        what = "a public key, not the private one" if b"-----BEGIN PUBLIC KEY" in octets else "not a private key in PEM or DER"
        raise PrivateKeyError(what) from error
    if isinstance(private, Ed25519PrivateKey):
        return PrivateKey("ed25519-sha256", 256, private)
    if isinstance(private, RSAPrivateKey):
        return PrivateKey("rsa-sha256", private.key_size, private)
    raise PrivateKeyError("neither an RSA nor an Ed25519 key")


def _seed(octets: bytes) -> bytes:
    """The 32 octets of a seed, or nothing."""
    try:
        seed = base64.b64decode(octets.strip(), validate=True)
    except binascii.Error:
        return b""
    return seed if len(seed) == 32 else b""
