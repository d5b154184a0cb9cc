"""The public key record: RFC 6376 3.6.1, RFC 8463 4. Bounded before the cryptography sees it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from dkim.util import parse_tag_value

from gateway.plugins.dkim.signature import Refused, Signature

MAX_RECORD = 4096
"""Octets of one TXT record."""
MAX_EXPONENT = 1 << 32
"""A larger RSA exponent makes one verification take seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key that may be used for its signature."""

    public: RSAPublicKey | Ed25519PublicKey
    bits: int
    is_testing: bool
    """t=y: the signer is still trying DKIM out."""

    def verifies(self, signature: bytes, digest: bytes) -> bool:
        """Whether the signature over the SHA-256 `digest` is this key's."""
        try:
            if isinstance(self.public, Ed25519PublicKey):
                self.public.verify(signature, digest)  # RFC 8463 3: over the hash
            else:
                self.public.verify(signature, digest, PKCS1v15(), Prehashed(SHA256()))
        except (InvalidSignature, ValueError):
            return False
        return True


def read_key(records: Sequence[bytes], signature: Signature, *, minimum_bits: int, maximum_bits: int) -> Key:
    """The key of a signature out of the TXT records at its name. Raises Refused."""
    if not records:
        raise Refused("permerror", "no key for signature")
    if any(len(record) > MAX_RECORD for record in records):
        raise Refused("permerror", f"key record of more than {MAX_RECORD} octets")
    tags = _tags(records)
    kind = tags.get(b"k", b"rsa").lower()
    if not signature.algorithm.encode().startswith(kind + b"-"):
        raise Refused("permerror", "key of another type than the signature")
    hashes = [name.strip().lower() for name in tags.get(b"h", b"sha256").split(b":")]
    if b"sha256" not in hashes:
        raise Refused("permerror", "key does not allow sha256")
    services = [name.strip().lower() for name in tags.get(b"s", b"*").split(b":")]
    if not {b"*", b"email"} & set(services):
        raise Refused("permerror", "key is not for email")
    flags = [flag.strip().lower() for flag in tags.get(b"t", b"").split(b":")]
    if b"s" in flags and signature.identity.rpartition("@")[2].lower() != signature.domain:
        raise Refused("permerror", "key does not allow a subdomain in i=")
    octets = _octets(tags)
    public = _ed25519(octets) if kind == b"ed25519" else _rsa(octets)
    bits = 256
    if isinstance(public, RSAPublicKey):
        bits = public.key_size
        if not minimum_bits <= bits <= maximum_bits:
            raise Refused("policy", f"RSA key of {bits} bits, {minimum_bits} to {maximum_bits} are accepted")  # RFC 8301 3.2
        if public.public_numbers().e > MAX_EXPONENT:
            raise Refused("policy", "RSA key with a huge exponent")
    return Key(public=public, bits=bits, is_testing=b"y" in flags)


def _tags(records: Sequence[bytes]) -> dict[bytes, bytes]:
    """The first record that is a key (RFC 6376 3.6.2.2: more than one is the signer's mistake)."""
    for record in records[:10]:
        try:
            tags = parse_tag_value(record)
        except Exception:  # noqa: BLE001, S112 - dkimpy leaks untyped exceptions; another TXT record may be the key
            continue
        version = tags.get(b"v", b"DKIM1")
        if b"p" in tags and version == b"DKIM1":
            return tags
    raise Refused("permerror", "no usable key record")


def _octets(tags: dict[bytes, bytes]) -> bytes:
    text = tags[b"p"].translate(None, b" \t\r\n")
    if not text:
        raise Refused("permerror", "key was revoked")  # RFC 6376 3.6.1, p=
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise Refused("permerror", "key is not base64") from error


def _ed25519(octets: bytes) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(octets)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Refused("permerror", "key is not an ed25519 key") from error


def _rsa(octets: bytes) -> RSAPublicKey:
    try:
        public = load_der_public_key(octets)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Refused("permerror", "key is not an RSA key") from error
    if not isinstance(public, RSAPublicKey):
        raise Refused("permerror", "key is not an RSA key")
    return public
