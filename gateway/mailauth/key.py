"""The public key record: RFC 6376 3.6.1, RFC 8301 3.2, RFC 8463 4. Bounded before the cryptography sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from gateway.mailauth.tags import TagListError, decode_base64, parse_tags, parts

MAX_RECORD = 4096
"""Octets of one TXT record."""
MAX_RECORDS = 10
"""TXT records at one name that are looked at."""
MAX_EXPONENT = 1 << 32
"""A larger RSA exponent makes one verification take seconds."""
ALGORITHMS = {"rsa-sha256": "rsa", "ed25519-sha256": "ed25519"}
"""Signing algorithms that count, each with its key type (RFC 8301 3.1, RFC 8463 3)."""
_NO_KEY_RECORD = "the record is not DKIM1"
_PADDING, _HASH, _PREHASHED = PKCS1v15(), SHA256(), Prehashed(SHA256())


class KeyRefusedError(Exception):
    """A key that cannot be used: the result of RFC 8601 2.7.1, and the reason for people."""

    def __init__(self, result: str, reason: str) -> None:
        super().__init__(reason)
        self.result = result
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A public key as it is published."""

    kind: str
    """k=: `rsa` or `ed25519`."""
    public: RSAPublicKey | Ed25519PublicKey
    bits: int
    is_testing: bool
    """t=y: the signer is still trying it out."""
    is_strict: bool
    """t=s: the domain of i= must be d= itself."""

    def verifies(self, signature: bytes, digest: bytes) -> bool:
        """Whether the signature over the SHA-256 `digest` is this key's."""
        try:
            if self.kind == "rsa":
                cast("RSAPublicKey", self.public).verify(signature, digest, _PADDING, _PREHASHED)
            else:
                cast("Ed25519PublicKey", self.public).verify(signature, digest)  # RFC 8463 3: over the hash
        except (InvalidSignature, ValueError):
            return False
        return True

    def recover(self, signature: bytes) -> bytes | None:
        """The digest that an RSA signature is over; None when it was not made with this key, and for Ed25519."""
        if isinstance(self.public, Ed25519PublicKey):
            return None
        try:
            return self.public.recover_data_from_signature(signature, _PADDING, _HASH)
        except (InvalidSignature, ValueError):
            return None


def read_key(records: Sequence[bytes], *, algorithm: str, minimum_bits: int = 1024, maximum_bits: int = 4096) -> KeyRecord:
    """The key for a signature of `algorithm` out of the TXT records at its name, the strings of each joined. KeyRefusedError.

    Several records are undefined (RFC 6376 3.6.2.2): the first that can be used counts, else the first says why not.
    """
    refusals: list[KeyRefusedError] = []
    for record in records[:MAX_RECORDS]:
        try:
            return _read(record, algorithm, minimum_bits, maximum_bits)
        except KeyRefusedError as refused:
            refusals.append(refused)
    if not refusals:
        raise KeyRefusedError("permerror", "no key for signature")
    raise next((refused for refused in refusals if refused.reason != _NO_KEY_RECORD), refusals[0])


@lru_cache(maxsize=1_000)
def _read(record: bytes, algorithm: str, minimum_bits: int, maximum_bits: int) -> KeyRecord:
    """Remembered: the same few signers sign most mail, and a key that was used already verifies faster."""
    tags = _tags(record)
    kind = tags.get(b"k", b"rsa").lower().decode("ascii", "replace")
    if kind != ALGORITHMS[algorithm]:
        raise KeyRefusedError("permerror", "key of another type than the signature")
    if b"sha256" not in _words(tags, b"h", b"sha256"):
        raise KeyRefusedError("permerror", "key does not allow sha256")
    if not {b"*", b"email"} & _words(tags, b"s", b"*"):
        raise KeyRefusedError("permerror", "key is not for email")
    flags = _words(tags, b"t", b"")
    octets = _octets(tags)
    public = _ed25519(octets) if kind == "ed25519" else _rsa(octets)
    bits = 256
    if isinstance(public, RSAPublicKey):
        bits = public.key_size
        if not minimum_bits <= bits <= maximum_bits:  # RFC 8301 3.2
            raise KeyRefusedError("policy", f"RSA key of {bits} bits, {minimum_bits} to {maximum_bits} are accepted")
        if public.public_numbers().e > MAX_EXPONENT:
            raise KeyRefusedError("policy", "RSA key with a huge exponent")
    return KeyRecord(kind=kind, public=public, bits=bits, is_testing=b"y" in flags, is_strict=b"s" in flags)


def _tags(record: bytes) -> dict[bytes, bytes]:
    if len(record) > MAX_RECORD:
        raise KeyRefusedError("permerror", f"key record of more than {MAX_RECORD} octets")
    try:
        tags = parse_tags(record)
    except TagListError as error:
        raise KeyRefusedError("permerror", f"malformed key record: {error}") from error
    if b"v" in tags and (tags[b"v"] != b"DKIM1" or next(iter(tags)) != b"v"):  # RFC 6376 3.6.1: first, if it is there
        raise KeyRefusedError("permerror", _NO_KEY_RECORD)
    if b"p" not in tags:
        raise KeyRefusedError("permerror", "the record has no key (p=)")
    return tags


def _words(tags: dict[bytes, bytes], tag: bytes, default: bytes) -> set[bytes]:
    return {word.lower() for word in parts(tags.get(tag, default))}


def _octets(tags: dict[bytes, bytes]) -> bytes:
    if not tags[b"p"]:
        raise KeyRefusedError("permerror", "key was revoked")  # RFC 6376 3.6.1, p=
    try:
        return decode_base64(tags[b"p"])
    except TagListError as error:
        raise KeyRefusedError("permerror", "key is not base64") from error


def _ed25519(octets: bytes) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(octets)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyRefusedError("permerror", "key is not an ed25519 key") from error


def _rsa(octets: bytes) -> RSAPublicKey:
    """SubjectPublicKeyInfo as everybody publishes it, or the RSAPublicKey of the RFC's own words (RFC 6376 3.6.1, erratum 3017)."""
    try:
        public = load_der_public_key(octets)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyRefusedError("permerror", "key is not an RSA key") from error
    if not isinstance(public, RSAPublicKey):
        raise KeyRefusedError("permerror", "key is not an RSA key")
    return public
