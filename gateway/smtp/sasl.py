"""What of SASL a proxy must know: which mechanisms can pass, what a response looks like, who a client says it is. RFC 4954 4. No I/O.

Nothing here judges a password: challenges and responses pass between client and next hop.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

MAX_LINE = 12_288
"""Octets of a challenge, a response or the AUTH command (RFC 4954 4)."""
MAX_ROUNDS = 10
"""Challenges in one exchange; SCRAM has three."""
MAX_IDENTITY = 255

_PASSES = re.compile(r"PLAIN|LOGIN|CRAM-MD5|SCRAM-[A-Z0-9-]{1,20}|XOAUTH2|OAUTHBEARER")
"""Not -PLUS, EXTERNAL or a security layer: they are bound to a connection that ends here (design §5)."""
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
_UNPRINTABLE = re.compile(r"[^!-~\xa1-\U0010ffff]")


def passing(mechanisms: Iterable[str]) -> tuple[str, ...]:
    """Those of a next hop's mechanisms that can be passed through, each once, in its order."""
    upper = dict.fromkeys(name.upper() for name in mechanisms)
    return tuple(name for name in upper if _PASSES.fullmatch(name) and not name.endswith("-PLUS"))


def is_response(octets: bytes) -> bool:
    """BASE64, or `*` that cancels: nothing else goes on to the next hop (RFC 4954 4)."""
    return octets == b"*" or (len(octets) % 4 == 0 and _BASE64.fullmatch(octets) is not None)


def identity(mechanism: str, responses: Iterable[bytes]) -> str:
    """Who the client said it is, read from its first response; the mechanism's name where that cannot be read."""
    first = next(iter(responses), b"")
    try:
        said = base64.b64decode(first, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        said = ""
    name = _UNPRINTABLE.sub("?", _named(mechanism, said))[:MAX_IDENTITY]
    return name or mechanism.lower()


def _named(mechanism: str, said: str) -> str:
    match mechanism:
        case "PLAIN":  # RFC 4616 2: authzid NUL authcid NUL passwd
            parts = said.split("\0")
            return parts[1] if len(parts) == 3 else ""
        case "LOGIN":
            return said
        case "CRAM-MD5":  # RFC 2195 2: user name, space, digest
            return said.rpartition(" ")[0]
        case "XOAUTH2":
            return next((field[5:] for field in said.split("\1") if field.startswith("user=")), "")
        case "OAUTHBEARER":  # RFC 7628 3.1: a GS2 header with the user
            return _unescaped(next((part[2:] for part in said.partition("\1")[0].split(",") if part.startswith("a=")), ""))
        case _:  # SCRAM: RFC 5802 7
            return _unescaped(next((part[2:] for part in said.split(",")[2:] if part.startswith("n=")), ""))


def _unescaped(name: str) -> str:
    """RFC 5802 5.1: `,` and `=` inside a name."""
    return name.replace("=2C", ",").replace("=3D", "=")
