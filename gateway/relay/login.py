"""Our own login at a next hop: SASL exchanges as AUTH carries them (RFC 4954 4). No I/O.

SCRAM-SHA-256 (RFC 5802 3, RFC 7677 3) shows the server no password and proves that it knows it; CRAM-MD5 shows none; PLAIN and
LOGIN do. None of them goes over a link that others can read (`gateway.relay.connect`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from aiosmtplib.auth import auth_crammd5_verify, auth_login_encode, auth_plain_encode

MAX_ITERATIONS = 100_000
"""Of SCRAM's key derivation; each new link computes it, and everything else waits meanwhile."""
_GS2 = "n,,"
"""No channel binding: it would need the server's certificate, and many have none to bind to."""


class LoginError(Exception):
    """The exchange cannot go on: a challenge that makes no sense, or a server that did not prove itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who we are at the next hop."""

    user: str
    password: str = field(repr=False)
    mechanisms: tuple[str, ...] = ("SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN")
    """Those we use, the best first."""


Exchange = Generator[bytes, bytes, None]
"""Gives what goes out, base64, and is sent each challenge, base64 too. It ends when the server has proved what it must."""


def choose(credentials: Credentials, offered: tuple[str, ...]) -> str | None:
    """The first of our mechanisms that the server offers."""
    known = {one.upper() for one in offered}
    return next((one for one in credentials.mechanisms if one in known), None)


def begin(mechanism: str, credentials: Credentials, *, nonce: Callable[[], str] = lambda: secrets.token_urlsafe(18)) -> Exchange:
    """The exchange of a mechanism. Its first value goes with AUTH itself; `` when the server speaks first."""
    match mechanism:
        case "SCRAM-SHA-256":
            return _scram(credentials, nonce())
        case "CRAM-MD5":
            return _cram_md5(credentials)
        case "PLAIN":
            return _plain(credentials)
        case _:
            return _login(credentials)


def prove(mechanism: str, exchange: Exchange) -> None:
    """The server took us in. LoginError when it owes a proof that it knows the password."""
    if mechanism == "SCRAM-SHA-256":
        next(exchange, None)  # past its last step when the proof was good


def _plain(credentials: Credentials) -> Exchange:
    yield auth_plain_encode(credentials.user, credentials.password)


def _login(credentials: Credentials) -> Exchange:
    user, password = auth_login_encode(credentials.user, credentials.password)
    yield b""
    yield user
    yield password


def _cram_md5(credentials: Credentials) -> Exchange:
    challenge = yield b""
    yield auth_crammd5_verify(credentials.user, credentials.password, base64.b64encode(_decoded(challenge)))


def _scram(credentials: Credentials, nonce: str) -> Exchange:
    user = _prepared(credentials.user).replace("=", "=3D").replace(",", "=2C")
    first = f"n={user},r={nonce}"
    challenge = _decoded((yield _encoded(_GS2 + first))).decode("utf-8", "replace")
    values = _values(challenge)
    rounds = values.get("i", "")
    if not values.get("r", "").startswith(nonce) or not rounds.isdecimal() or not 1 <= int(rounds[:9]) <= MAX_ITERATIONS:
        raise LoginError("a challenge that makes no sense")
    salted = hashlib.pbkdf2_hmac(
        "sha256", _prepared(credentials.password).encode(), _decoded(values.get("s", "").encode()), int(rounds)
    )
    final = f"c={base64.b64encode(_GS2.encode()).decode()},r={values['r']}"
    message = f"{first},{challenge},{final}".encode()
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
    proof = bytes(mine ^ theirs for mine, theirs in zip(client_key, signature, strict=True))
    answer = _decoded((yield _encoded(f"{final},p={base64.b64encode(proof).decode()}")) or b"").decode("utf-8", "replace")
    wanted = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
    if not hmac.compare_digest(_decoded(_values(answer).get("v", "").encode()), wanted):
        raise LoginError("the server does not know the password")
    yield b""


def _values(text: str) -> dict[str, str]:
    return {name: value for name, _, value in (part.partition("=") for part in text.split(","))}


def _prepared(text: str) -> str:
    """RFC 4013 2.2, as far as it is Unicode's normal form."""
    return unicodedata.normalize("NFKC", text)


def _encoded(text: str) -> bytes:
    return base64.b64encode(text.encode())


def _decoded(octets: bytes) -> bytes:
    try:
        return base64.b64decode(octets, validate=True)
    except binascii.Error as error:
        raise LoginError("a challenge that is no base64") from error
