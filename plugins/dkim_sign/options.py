"""`[plugin.dkim_sign]`: what is signed for whom, and how."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from gateway import ClientClass, Duration, PluginOptions
from gateway.mailauth import is_within, quoted_identity, signing_name
from gateway.plugins.dkim_sign.fields import SEALED, SEALED_IF_PRESENT, SIGNED, check_names

SHORTEST = 3600.0
"""Seconds a signature must be valid at least: mail waits in queues."""


def _pattern(text: str) -> str:
    """`example.org`, `*.example.org` or `*`, with A-labels."""
    if text == "*":
        return text
    return f"*.{signing_name(text[2:])}" if text.startswith("*.") else signing_name(text)


class KeyOptions(PluginOptions):
    """`[[plugin.dkim_sign.key]]`: one key, and whose messages it signs."""

    domain: str
    """The signing domain, `d=`; names with other letters than ASCII become A-labels."""
    selector: str
    """The selector, `s=`: the public key is published at `SELECTOR._domainkey.DOMAIN`."""
    file: str
    """The private key, RSA or Ed25519, in PEM or DER without a pass phrase. Relative to the configuration file."""
    authors: tuple[str, ...] = Field(default=(), max_length=1_000)
    """Domains of authors that it signs for: `example.org`, `*.example.org` (all below it), `*` (whoever). Default: its own domain."""
    by: Literal["author", "reverse-path"] = "author"
    """Where the domain is looked for: in From, or in the reverse-path (in From too, where that is null)."""
    identity: str = ""
    """`i=`: a mailbox or `@domain` in the signing domain or below it; `author`: the author's mailbox. Default: none, which is `@domain`."""

    @field_validator("domain", "selector")
    @classmethod
    def _is_name(cls, value: str) -> str:
        return signing_name(value)

    @field_validator("authors")
    @classmethod
    def _are_domains(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_pattern(one) for one in value)

    @model_validator(mode="after")
    def _identity_is_within(self) -> KeyOptions:
        if self.identity not in {"", "author"}:
            domain = quoted_identity(self.identity).rpartition("@")[2]
            if not is_within(domain, self.domain):  # RFC 6376 3.5, i=
                raise ValueError(f"an identity in {self.domain} or below it; {self.identity!r} is not")
        return self

    @property
    def patterns(self) -> tuple[str, ...]:
        """`authors` with its default."""
        return self.authors or (self.domain,)


class Options(PluginOptions):
    """`[plugin.dkim_sign]`."""

    key: tuple[KeyOptions, ...] = Field(default=(), max_length=10_000)
    """The keys. A message gets a signature of each key that is for its author."""
    clients: tuple[ClientClass, ...] = (ClientClass.AUTHENTICATED, ClientClass.TRUSTED)
    """Classes of clients whose messages are signed. `stranger` only together with `listeners`: what strangers send in your name must not get your signature."""
    listeners: tuple[str, ...] = ()
    """Names of listeners whose messages are signed. Default: all."""
    match_identity: bool = False
    """Sign for authenticated clients only where every author's domain is that of their identity (`alice@example.org`). For hosts with several tenants."""
    canonicalization: Literal["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"] = "relaxed/relaxed"
    """`c=`, header and body."""
    fields: tuple[str, ...] = Field(default=SIGNED, max_length=200)
    """Header fields that are signed where they are there. From always is."""
    oversign: tuple[str, ...] = Field(default=SEALED, max_length=200)
    """Header fields of which none can be added without breaking the signature, whether there is one or not. From always is one of them."""
    oversign_present: tuple[str, ...] = Field(default=SEALED_IF_PRESENT, max_length=200)
    """The same, where the message has such a field."""
    expires_after: Duration = 0.0
    """`x=`: how long a signature is valid, `1h` at least. `0s`: without end. A message that is held gets none."""
    key_permissions: Literal["strict", "any"] = "strict"
    """`strict`: a key file that is another user's or open to others stops the start. `any`: for secrets mounted by a container's runtime."""

    @field_validator("fields", "oversign", "oversign_present")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_names(value)
        return value

    @field_validator("expires_after")
    @classmethod
    def _is_long_enough(cls, value: float) -> float:
        if 0 < value < SHORTEST:
            raise ValueError("0s (no end) or at least 1h: mail waits in queues")
        return value

    @model_validator(mode="after")
    def _strangers_by_listener(self) -> Options:
        if ClientClass.STRANGER in self.clients and not self.listeners:
            raise ValueError("clients with `stranger` only together with listeners: else everybody's mail in your name is signed")
        return self
