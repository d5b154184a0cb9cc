"""What a part's octets say: hashes, sizes, types by a library, encryption."""

import base64
import hashlib

import pytest

from gateway import Message, Part
from gateway.content import Content
from gateway.mime import _PIECE


def part(header: str, body: bytes) -> Part:
    (found,) = Message(Content(header.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)).parts
    return found


LARGE = bytes(range(256)) * 4_000


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "8bit"])
@pytest.mark.parametrize("size", [0, 1, 1_000, len(LARGE)])
def test_hash_and_size_are_those_of_the_decoded_octets(encoding: str, size: int) -> None:
    octets = LARGE[:size]
    body = octets
    if encoding == "base64":
        body = base64.encodebytes(octets)
    elif encoding == "quoted-printable":
        body = b"".join(b"=%02X" % octet for octet in octets)  # one line: cut between two characters
    found = part(f"Content-Type: x/y\nContent-Transfer-Encoding: {encoding}", body)
    assert found.sha256 == hashlib.sha256(octets).hexdigest()
    assert found.size == size
    assert part(f"Content-Type: x/y\nContent-Transfer-Encoding: {encoding}", body).size == size


def test_pieces_of_quoted_printable_are_cut_where_nothing_is_lost() -> None:
    for body in (
        b"=41" * _PIECE,
        (b"=41" * 20 + b"=\r\n") * (_PIECE // 20),
        b"=" * (_PIECE + 5),
        b"a" * (_PIECE - 1) + b"=42",
        b"a" * (_PIECE - 2) + b"=42",
        b"\r\n" * _PIECE,
    ):
        found = part("Content-Type: x/y\nContent-Transfer-Encoding: quoted-printable", body)
        assert b"".join(found.pieces()) == found.content()
        assert all(len(piece) <= _PIECE for piece in found.pieces())


@pytest.mark.parametrize(
    ("octets", "kind"),
    [
        (b"\0\0\0\x18ftypisom" + b"\0" * 40, "video/mp4"),
        (b"RIFF\0\0\0\0WEBPVP8 " + b"\0" * 40, "image/webp"),
        (b"OggS\0\2" + b"\0" * 40, "application/ogg"),
        (b"\0" * 32_769 + b"CD001\1", "application/x-iso9660-image"),
        (b"BM", ""),  # two octets are no proof
        (b"\0" * 4_000, ""),
        (b"plain text, and more of it", ""),
    ],
)
def test_types_by_content(octets: bytes, kind: str) -> None:
    header = "Content-Type: application/octet-stream\nContent-Transfer-Encoding: base64"
    assert part(header, base64.encodebytes(octets)).detected_type == kind


def der(oid: str) -> bytes:
    return base64.b64encode(bytes.fromhex("30820100" + oid + "a0820100") + b"\0" * 50)


ENVELOPED, SIGNED = "06092a864886f70d010703", "06092a864886f70d010702"
SMIME = "Content-Type: application/pkcs7-mime; smime-type={}; name=smime.p7m\nContent-Transfer-Encoding: base64"
ENCRYPTED = [
    ("Content-Type: text/plain", b"hello", ""),
    ("Content-Type: text/plain", b"hello\r\n-----BEGIN PGP MESSAGE-----\r\n\r\nx", "pgp-inline"),
    ("Content-Type: text/plain", b"> -----BEGIN PGP MESSAGE-----\r\n", "pgp-inline"),
    ("Content-Type: text/plain", b"they say -----BEGIN PGP MESSAGE----- then", ""),
    ("Content-Type: text/plain", b"-----BEGIN PGP SIGNED MESSAGE-----\r\n", ""),
    ("Content-Type: application/octet-stream; name=a.pdf.pgp", b"-----BEGIN PGP MESSAGE-----", "pgp"),
    ("Content-Type: application/octet-stream; name=a.gpg", b"\x85\x02\x0c\x03", "pgp"),
    ("Content-Type: application/octet-stream; name=a.asc", b"-----BEGIN PGP PUBLIC KEY BLOCK-----", ""),
    ("Content-Type: application/octet-stream; name=a.bin", b"\x85\x02\x0c\x03", ""),
    (SMIME.format("enveloped-data"), der(ENVELOPED), "smime"),
    (SMIME.format("authEnveloped-data"), der("060b2a864886f70d0109100117"), "smime"),
    (SMIME.format("signed-data"), der(SIGNED), ""),
    (SMIME.format("enveloped-data"), der(SIGNED), ""),  # the octets count
    (SMIME.format("signed-data"), der(ENVELOPED), "smime"),
    (SMIME.format("Enveloped-Data"), b"AAAA", "smime"),  # unreadable: what is declared
    ("Content-Type: application/octet-stream; name=smime.p7m\nContent-Transfer-Encoding: base64", der(ENVELOPED), "smime"),
    ("Content-Type: application/pdf", b"%PDF-1.7\n1 0 obj << >>\ntrailer << /Encrypt 12 0 R >>", "pdf"),
    ("Content-Type: application/pdf", b"%PDF-1.7\ntrailer << /Encrypt<< /Filter /Standard >> >>", "pdf"),
    ("Content-Type: application/pdf", b"%PDF-1.7\ntrailer << /#45ncr#79pt 12 0 R >>", "pdf"),
    ("Content-Type: application/pdf", b"%PDF-1.7\n(how to /Encrypt a file) /EncryptMetadata true", ""),
    ("Content-Type: application/pdf", b"no PDF /Encrypt 12 0 R", ""),
    ("Content-Type: application/x-microsoft-rpmsg-message", b"x", "rights"),
    ("Content-Type: application/octet-stream", b"\x76\xe8\x04\x60\xc4\x11\xe3\x86abc", "rights"),
]


@pytest.mark.parametrize(("header", "body", "kind"), ENCRYPTED)
def test_encryption(header: str, body: bytes, kind: str) -> None:
    found = part(header, body)
    assert (found.encryption, found.is_encrypted) == (kind, bool(kind))


def test_pgp_mime_and_what_the_message_has() -> None:
    octets = (
        b"Content-Type: multipart/encrypted; boundary=b\r\n\r\n--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
        b"--b\r\nContent-Type: application/octet-stream\r\n\r\nx\r\n--b--\r\n"
    )
    message = Message(Content(octets))
    assert [part.encryption for part in message.parts] == ["pgp-mime", "pgp-mime"]
    assert message.encryption == ("pgp-mime",)
    assert Message(Content(b"\r\nx")).encryption == ()
    assert Message(Content(b"Content-Type: multipart/mixed\r\n\r\nx")).encryption == ()
