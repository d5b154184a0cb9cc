"""The body of a request, in pieces, so that a large message is never there twice; its signature is that of all of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gateway import Message
from gateway.plugins.webhook.contract import Request

PIECE = 57 * 1024
"""Octets of a message that become one piece in base64: a multiple of three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What is sent: as often as it is asked for, the same."""

    front: bytes
    message: Message | None
    """None: no content."""
    is_encoded: bool
    back: bytes
    kind: str
    """Content-Type."""

    @property
    def size(self) -> int:
        """Octets."""
        inside = self.message.size if self.message is not None else 0
        return len(self.front) + (4 * -(-inside // 3) if self.is_encoded else inside) + len(self.back)

    def pieces(self) -> Iterator[bytes]:
        """In order."""
        yield self.front
        if self.message is not None:
            yield from _encoded(self.message) if self.is_encoded else self.message.content.chunks()
        yield self.back


def make_body(told: Request, message: Message, content: Literal["none", "base64", "raw"]) -> Body:
    """JSON; with `raw` the first of two parts of a form (RFC 7578), the second has the message as it came."""
    text = told.model_dump_json(exclude={"content"}).encode()
    match content:
        case "none":
            return Body(front=text, message=None, is_encoded=False, back=b"", kind="application/json")
        case "base64":
            front = text[:-1] + b',"content":"'
            return Body(front=front, message=message, is_encoded=True, back=b'"}', kind="application/json")
        case "raw":
            boundary = f"mailgateway-{secrets.token_hex(16)}"
            front = (
                f'--{boundary}\r\nContent-Disposition: form-data; name="request"\r\nContent-Type: application/json\r\n\r\n'.encode()
                + text
                + f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="message.eml"\r\n'.encode()
                + b"Content-Type: message/rfc822\r\n\r\n"
            )
            back = f"\r\n--{boundary}--\r\n".encode()
            return Body(
                front=front, message=message, is_encoded=False, back=back, kind=f"multipart/form-data; boundary={boundary}"
            )


def sign(body: Body, secret: bytes, timestamp: int, nonce: str) -> str:
    """HMAC-SHA256 over `timestamp.nonce.` and the body, in hexadecimal."""
    seal = hmac.new(secret, f"{timestamp}.{nonce}.".encode(), hashlib.sha256)
    for piece in body.pieces():
        seal.update(piece)
    return seal.hexdigest()


def _encoded(message: Message) -> Iterator[bytes]:
    octets = message.octets
    for start in range(0, message.size, PIECE):
        yield base64.b64encode(octets[start : start + PIECE])
