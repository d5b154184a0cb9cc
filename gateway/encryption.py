"""What is encrypted in mail: OpenPGP (RFC 3156, RFC 9580), S/MIME (RFC 8551), PDF (ISO 32000 7.6), Microsoft's rights management.

By what the octets say, not only by the declared type: a signed S/MIME message is not encrypted, whatever it is called. Linear.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.mime import Part

TEXT = 1_000_000
"""Octets of a text that are searched for armor."""
_BEGIN = b"-----BEGIN PGP MESSAGE"
_ARMOR = re.compile(rb"-----BEGIN PGP MESSAGE(?:, PART [0-9/]{1,9})?-----")
_INDENT = b" \t>"
_ESCAPED = re.compile(rb"#(?:45|6[eE]|63|72|79|70|74)")
_LONGEST = 256
"""Octets that `_PDF` may need."""
_PDF = re.compile(
    rb"/(?:E|#45)(?:n|#6[eE])(?:c|#63)(?:r|#72)(?:y|#79)(?:p|#70)(?:t|#74)[\0\t\n\f\r ]{0,100}+(?:[0-9]{1,10}+[\0\t\n\f\r ]{1,20}+[0-9]|<<)"
)
_ENCRYPTED_DATA = (
    bytes.fromhex("06092a864886f70d010703"),  # RFC 5652 6.1: enveloped-data
    bytes.fromhex("06092a864886f70d010706"),  # RFC 5652 8: encrypted-data
    bytes.fromhex("060b2a864886f70d0109100117"),  # RFC 5083 2.1: authenticated-enveloped-data
)
_OTHER_DATA = (bytes.fromhex("06092a864886f70d010702"), bytes.fromhex("060b2a864886f70d0109100109"))
"""Signed, and compressed."""
_PKCS7 = re.compile(r"application/(?:x-)?pkcs7-mime")
_RIGHTS = b"\x76\xe8\x04\x60\xc4\x11\xe3\x86"
_PGP_NAMES = (".pgp", ".gpg", ".asc")
_PGP_PACKETS = frozenset((0x84, 0x85, 0x86, 0x8C, 0x8D, 0xC1, 0xC3, 0xD2, 0xD4))
"""RFC 9580 4.2, 5: first octets of a message that begins with a session key or with encrypted data."""


def encryption_of(part: Part) -> str:
    """`pgp-mime`, `pgp-inline`, `pgp`, `smime`, `pdf`, `rights`, or `` for what is not encrypted."""
    kind = part.content_type
    if kind == "application/pgp-encrypted" or any(one.content_type == "multipart/encrypted" for one in part.within):
        return "pgp-mime"
    if kind.startswith("multipart/"):
        return ""
    head = part.head(1_024)
    if _PKCS7.fullmatch(kind) or any(one in {".p7m", ".p7e"} for one in part.extensions):
        return _smime(part, head)
    if head.startswith(_RIGHTS) or kind == "application/x-microsoft-rpmsg-message":
        return "rights"
    if b"%PDF-" in head:
        return "pdf" if _is_sealed_pdf(part) else ""
    is_text = kind.startswith("text/") or kind == "application/octet-stream"
    if any(one in _PGP_NAMES for one in part.extensions):
        is_text = True
        if head[:1] and head[0] in _PGP_PACKETS:
            return "pgp"
    if is_text and _has_armor(part.head(TEXT)):
        return "pgp" if part.is_attachment else "pgp-inline"
    return ""


def is_encrypted_pdf(octets: bytes) -> bool:
    """A trailer names an encryption dictionary (ISO 32000 7.6.1)."""
    return (b"/Encrypt" in octets or _ESCAPED.search(octets) is not None) and _PDF.search(octets) is not None


def _is_sealed_pdf(part: Part) -> bool:
    """By pieces, so that no search holds other threads for long."""
    tail = b""
    for piece in part.pieces():
        octets = tail + piece
        if is_encrypted_pdf(octets):
            return True
        tail = octets[-_LONGEST:]
    return False


def _has_armor(octets: bytes) -> bool:
    """RFC 9580 6.2: at the beginning of a line, which an answer may have quoted."""
    at = octets.find(_BEGIN)
    while at >= 0:
        front = octets[max(at - 20, 0) : at].rstrip(_INDENT)
        is_start = front[-1:] in {b"\n", b"\r"} or (not front and at <= 20)
        if is_start and _ARMOR.match(octets, at):
            return True
        at = octets.find(_BEGIN, at + 1)
    return False


def _smime(part: Part, head: bytes) -> str:
    """RFC 8551 3.3: by the content type of the CMS object; by what is declared where that cannot be read."""
    if any(one in head[:64] for one in _ENCRYPTED_DATA):
        return "smime"
    if any(one in head[:64] for one in _OTHER_DATA):
        return ""
    declared = part.parameter("smime-type").lower()
    return "smime" if declared in {"enveloped-data", "authenveloped-data", "encrypted-data"} else ""
