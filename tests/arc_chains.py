"""Chains for tests: sealed by dkimpy, hop by hop, with keys of our own."""

from __future__ import annotations

import base64
import re
from functools import cache
from typing import Any

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

BODY = b"Hello Bob,\r\n\r\nhow are you?\r\n"
PLAIN = (
    b"From: Alice <alice@author.example>\r\nTo: list@lists.example\r\nSubject: news of\r\n the day\r\n"
    b"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@author.example>\r\n\r\n" + BODY
)
SIGNED = [b"from", b"to", b"subject", b"date", b"message-id"]


@cache
def key(bits: int = 1024) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def pem(bits: int = 1024) -> bytes:
    return key(bits).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def record(bits: int = 1024) -> str:
    public = key(bits).public_key()
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; k=rsa; p={base64.b64encode(der).decode()}"


def zones(*domains: str, bits: int = 1024) -> dict[str, Any]:
    return {f"sel._domainkey.{domain}": {"TXT": [record(bits)]} for domain in domains}


def sealed(content: bytes, domain: str, results: str = "spf=pass smtp.mailfrom=author.example", *, chain: str = "pass") -> bytes:
    """One hop of dkimpy's: the results it found are written, then sealed. `chain`: what it says of the chain so far."""
    name = f"mx.{domain}"
    arc = f"; arc={chain}" if b"ARC-Seal:" in content else ""
    with_results = f"Authentication-Results: {name}; {results}{arc}\r\n".encode() + content
    lines = dkim.arc_sign(
        with_results, b"sel", domain.encode(), pem(), name.encode(), include_headers=SIGNED, timestamp=1795000000
    )
    assert len(lines) == 3, lines
    fields = [re.sub(rb"\r?\n(?=.)", b"\r\n", line) for line in lines]
    return b"".join(fields) + with_results


def chain(*domains: str, results: str = "spf=pass smtp.mailfrom=author.example", content: bytes = PLAIN) -> bytes:
    for domain in domains:
        content = sealed(content, domain, results)
    return content
