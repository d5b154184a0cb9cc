"""The signed messages of the measurements of sender authentication, and what DNS says so that they pass SPF, DKIM and DMARC."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

DOMAIN = "source.example"
SPF = "v=spf1 ip4:127.0.0.0/8 ip4:203.0.113.0/24 -all"
_NAMES = [b"from", b"to", b"subject", b"date"]
_HEADER = (
    b"From: <a@source.example>\r\nTo: <b@sink.test>\r\nSubject: bench\r\nDate: Tue, 24 Nov 2026 00:00:00 +0000\r\n"
    b"Message-ID: <bench@source.example>\r\n\r\n"
)
_LINE = b"line %05d of the message that is measured, not very long\r\n"

Records = dict[tuple[str, str], str]
"""(name, kind) to the record."""


class Signer:
    """A domain with a key of 2,048 bits."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)

    @property
    def records(self) -> Records:
        """Everything that DNS has of the domain."""
        der, info = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        public = base64.b64encode(self._key.public_key().public_bytes(der, info)).decode()
        return {
            (DOMAIN, "TXT"): SPF,
            (DOMAIN, "A"): "127.0.0.1",
            (DOMAIN, "MX"): f"10 mail.{DOMAIN}.",
            (f"mail.{DOMAIN}", "TXT"): SPF,
            (f"mail.{DOMAIN}", "A"): "127.0.0.1",
            (f"s._domainkey.{DOMAIN}", "TXT"): f"v=DKIM1; k=rsa; p={public}",
            (f"_dmarc.{DOMAIN}", "TXT"): "v=DMARC1; p=reject",
        }

    def write(self, file: Path, body: bytes, *, canonicalization: tuple[bytes, bytes] = (b"relaxed", b"simple")) -> Path:
        """A message with this body, signed, as smtp-source takes it: lines end in LF."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        octets = _HEADER + body
        signature = dkim.sign(octets, b"s", DOMAIN.encode(), pem, include_headers=_NAMES, canonicalize=canonicalization)
        file.write_bytes((signature + octets).replace(b"\r\n", b"\n"))
        return file


def text(octets: int) -> bytes:
    """A body of lines of text, about this long."""
    return b"".join(_LINE % number for number in range(octets // len(_LINE % 0)))


def in_base64(octets: int) -> bytes:
    """The same as an attachment has it."""
    return base64.encodebytes(bytes(range(256)) * (octets * 3 // 4 // 256)).replace(b"\n", b"\r\n")


def signed_message(folder: Path) -> tuple[Path, Records]:
    """A signed message of 5 KB, and the records for it."""
    signer = Signer()
    return signer.write(folder / "signed.eml", text(4_400)), signer.records


def as_zones(records: Records) -> str:
    """For `[dns] zones` of the gateway; the last name of the walk of DMARC is there too, so that no name server is asked."""
    tables: dict[str, list[str]] = {"_dmarc.example": []}
    for (name, kind), record in records.items():
        if kind != "MX":
            tables.setdefault(name, []).append(f"{kind} = [{json.dumps(record)}]")
    return "{ " + ", ".join(f'"{name}" = {{ {", ".join(kinds)} }}' for name, kinds in tables.items()) + " }"


def as_local_data(records: Records) -> str:
    """For unbound: each record a line, long texts in several strings."""
    lines = []
    for (name, kind), record in records.items():
        pieces = [record[at : at + 255] for at in range(0, len(record), 255)]
        data = " ".join(f'"{piece}"' for piece in pieces) if kind == "TXT" else record
        lines.append(f"  local-data: '{name}. 3600 {kind} {data}'\n")
    return "".join(lines)
