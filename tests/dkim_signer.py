"""Sign test messages with any DKIM-Signature field: what no signer would write is what a verifier must be tried with."""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway import Message
from gateway.content import Content
from gateway.mailauth import (
    BodyHashWanted,
    PrivateKey,
    body_hashes,
    header_hash,
    load_private_key,
    parse_tags,
    parts,
    select_fields,
)


def rsa_key(bits: int) -> PrivateKey:
    """A new RSA key."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return load_private_key(private.private_bytes(encoding, form, serialization.NoEncryption()))


def ed25519_key(seed: bytes = b"32 octets that nobody could guess") -> PrivateKey:
    """Always the same for the same seed."""
    return load_private_key(base64.b64encode(seed[:32].ljust(32)))


def sign(content: bytes, key: PrivateKey, template: bytes, *, own: bytes = b"DKIM-Signature:", end: bytes = b"\r\n") -> bytes:
    """The content with a signature field on top: `template` is the field body, `{bh}` and `{b}` in it are filled in."""
    message = Message(Content(content))
    try:
        tags = parse_tags(template)
    except ValueError:
        tags = parse_tags(b"h=from")  # a list that is wrong all the same: any signature will do
    header, _, body = tags.get(b"c", b"simple").lower().partition(b"/")
    length = int(tags[b"l"]) if tags.get(b"l", b"").isdigit() and len(tags[b"l"]) < 20 else None
    wanted = BodyHashWanted(is_relaxed=body == b"relaxed", length=length)
    digest = body_hashes(content[message.body_offset :], [wanted])[wanted].digest
    field = own + template.replace(b"{bh}", base64.b64encode(digest))
    names = [name.lower() for name in parts(tags.get(b"h", b"from"))]
    signed = header_hash(select_fields(message, names), field.replace(b"{b}", b"") + end, is_relaxed=header == b"relaxed")
    return field.replace(b"{b}", base64.b64encode(key.sign(signed))) + end + content
