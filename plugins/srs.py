"""Sender Rewriting Scheme: forwarded mail gets a reverse-path of ours, whose bounces find back. Shows another reverse-path, and secrets.

SRS0 and SRS1 as Shevek's paper of 2004 and Mail::SRS have them. Nothing is stored: the address carries what is needed, signed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from pathlib import Path as FilePath
from typing import Literal

from pydantic import Field

from gateway import (
    Context,
    Duration,
    Plugin,
    PluginOptions,
    Recipient,
    Reject,
    Transaction,
    UseForwardPath,
    UseReversePath,
    WatchedFile,
    hook,
    mailbox_key,
    reject,
    use_forward_path,
    use_reverse_path,
)

_SRS = re.compile(r"SRS([01])([=+-])(.*)", re.IGNORECASE | re.DOTALL)
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_DAYS = 1024
"""After which a time stamp of two letters begins anew."""
_DAY = 86_400
_DOT_STRING = re.compile(r"[^\s\x00-\x20\"(),:;<>@\[\\\]\x7f]+")
MAX_FILE = 65_536
MINIMUM_SECRET = 16


class Options(PluginOptions):
    """Whose mail is rewritten, and how."""

    domain: str = Field(min_length=1)
    """The domain of the addresses that are made; its mail must come to this gateway."""
    secrets_file: str
    """One secret of 16 characters or more a line: the first one signs, all of them are believed. Read again when it changes."""
    own_domains: tuple[str, ...] = ()
    """Domains that may send from here as themselves: their reverse-paths stay."""
    clients: tuple[Literal["authenticated", "trusted", "stranger"], ...] = ("authenticated", "trusted")
    """Whose mail is rewritten."""
    max_age: Duration = Field(default=21.0 * _DAY, ge=_DAY, le=500.0 * _DAY)
    """How long bounces may come back."""
    hash_length: int = Field(default=4, ge=4, le=27)
    """Characters of the signature."""


class Srs(Plugin[Options]):
    """Rewrites reverse-paths at MAIL and leads bounces back at RCPT."""

    @hook
    async def startup(self, context: Context) -> None:
        """Read the secrets. OSError or ValueError when they cannot be used."""
        self._secrets = WatchedFile(self.options.secrets_file, read=_read_secrets, context=context)
        await self._secrets.load()

    @hook(cheap=True)
    def mail(self, transaction: Transaction) -> UseReversePath | None:
        """A reverse-path of ours for mail of others that goes out."""
        path = transaction.reverse_path
        key = mailbox_key(path, case_sensitive=True)
        ours = {one.lower() for one in (self.options.domain, *self.options.own_domains)}
        if not key.domain or key.domain in ours or transaction.session.client_class.value not in self.options.clients:
            return None
        return use_reverse_path(_written(self._forwarded(key.local_part, key.domain), self.options.domain))

    @hook(cheap=True)
    def rcpt(self, recipient: Recipient) -> UseForwardPath | Reject | None:
        """Where a bounce belongs; 550 5.1.1 for an address that we did not make, or that is too old."""
        key = mailbox_key(recipient.forward_path, case_sensitive=True)
        found = _SRS.fullmatch(key.local_part)
        if key.domain != self.options.domain.lower() or found is None:
            return None
        kind, separator, rest = found.groups()
        local_part, domain, why = self._sender(rest) if kind == "0" else self._forwarder(rest)
        if why:
            self.context.metrics.count("refused", why=why)
            return reject(
                "No such recipient here", code=550, enhanced="5.1.1", reason="srs-invalid", evidence=f"{why} ({separator})"
            )
        return use_forward_path(_written(local_part, domain))

    def _forwarded(self, local_part: str, domain: str) -> str:
        """The local part that stands for another address."""
        found = _SRS.fullmatch(local_part)
        if found is not None and found[1] == "0":  # of another forwarder: bounces go to it, and it knows the rest
            rest = f"{found[2]}{found[3]}"
            return f"SRS1={self._sign(self._secrets.value[0], domain, rest)}={domain}={rest}"
        if found is not None and found[3].count("=") >= 2:  # two forwarders before us: ours takes the place of the second
            _, first, rest = found[3].split("=", 2)
            return f"SRS1={self._sign(self._secrets.value[0], first, rest)}={first}={rest}"
        stamp = _stamp(int(self.context.clock()) // _DAY)
        return f"SRS0={self._sign(self._secrets.value[0], stamp, domain, local_part)}={stamp}={domain}={local_part}"

    def _sender(self, rest: str) -> tuple[str, str, str]:
        """SRS0: local part and domain of the sender; or why not."""
        parts = rest.split("=", 3)
        if len(parts) != 4 or not all(parts):
            return "", "", "not as SRS0 is written"
        signature, stamp, domain, local_part = parts
        if not self._is_ours(signature, stamp, domain, local_part):
            return "", "", "not our signature"
        age = _age(stamp, int(self.context.clock()) // _DAY)
        if age is None or age > self.options.max_age // _DAY:
            return "", "", "too old"
        return local_part, domain, ""

    def _forwarder(self, rest: str) -> tuple[str, str, str]:
        """SRS1: the first forwarder's own SRS0 address; or why not."""
        parts = rest.split("=", 2)
        if len(parts) != 3 or not all(parts) or parts[2][0] not in "=+-":
            return "", "", "not as SRS1 is written"
        signature, domain, inner = parts
        if not self._is_ours(signature, domain, inner):
            return "", "", "not our signature"
        return f"SRS0{inner}", domain, ""

    def _is_ours(self, signature: str, *parts: str) -> bool:
        """In whatever case it comes back; every secret is tried, so that nothing is told by the time it takes."""
        wanted = signature.lower().encode()
        return any([hmac.compare_digest(self._sign(secret, *parts).lower().encode(), wanted) for secret in self._secrets.value])  # noqa: C419

    def _sign(self, secret: bytes, *parts: str) -> str:
        digest = hmac.new(secret, "".join(parts).lower().encode(), hashlib.sha1).digest()
        return base64.b64encode(digest).decode()[: self.options.hash_length]


def _stamp(day: int) -> str:
    return _BASE32[day // 32 % 32] + _BASE32[day % 32]


def _age(stamp: str, day: int) -> int | None:
    """In days; None for what is no time stamp."""
    places = [_BASE32.find(character) for character in stamp.upper()]
    if len(places) != 2 or min(places) < 0:
        return None
    return (day - places[0] * 32 - places[1]) % _DAYS


def _written(local_part: str, domain: str) -> str:
    """As a mailbox, in quotes where it needs them (RFC 5321 4.1.2)."""
    if _DOT_STRING.fullmatch(local_part) and all(local_part.split(".")):
        return f"{local_part}@{domain}"
    quoted = re.sub(r'(["\\])', r"\\\1", local_part)
    return f'"{quoted}"@{domain}'


def _read_secrets(path: FilePath) -> tuple[bytes, ...]:
    with path.open("rb") as file:
        octets = file.read(MAX_FILE + 1)
    secrets = tuple(line.strip() for line in octets.splitlines() if line.strip())
    if len(octets) > MAX_FILE or not secrets or len(secrets) > 10 or min(map(len, secrets)) < MINIMUM_SECRET:
        raise ValueError(f"{path}: allowed: 1 to 10 lines, each a secret of {MINIMUM_SECRET} characters or more")
    return secrets
