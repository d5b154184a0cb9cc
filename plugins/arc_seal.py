"""Seal what passes through, for those who get it next: the Authenticated Received Chain (RFC 8617 5.1). One more set on top."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import field_validator

from gateway import (
    AddHeader,
    AuthResult,
    Context,
    Fact,
    Message,
    OptionError,
    OptionMistake,
    Plugin,
    PluginOptions,
    Transaction,
    add_header,
    hook,
)
from gateway.mailauth import USABLE_KEY_FILE, PrivateKeyError, SigningKey, read_key_file, shared_body_hashes, signing_name
from gateway.mailauth.arc import ArcFinding, ArcSealer, NotSealedError
from gateway.mailauth.results import render_results


class Options(PluginOptions):
    """`[plugin.arc_seal]`."""

    domain: str
    """The sealing domain, `d=`; names with other letters than ASCII become A-labels."""
    selector: str
    """The selector, `s=`: the public key is published at `SELECTOR._domainkey.DOMAIN`."""
    file: str
    """The private key in PEM or DER without a pass phrase, RSA: others rarely know Ed25519. Relative to the configuration file."""
    key_permissions: Literal["strict", "any"] = "strict"
    """`strict`: a key file that is another user's or open to others stops the start. `any`: for secrets mounted by a container's runtime."""

    @field_validator("domain", "selector")
    @classmethod
    def _is_name(cls, value: str) -> str:
        return signing_name(value)


class ArcSeal(Plugin[Options]):
    """The plugin."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """Reads the key. OptionError when it cannot be used."""
        super().__init__(options, name=name, context=context)
        base = Path() if context is None else Path(context.base_directory)
        self._key = _read(self.options, base)

    @hook
    async def sign(self, transaction: Transaction, message: Message) -> list[AddHeader] | Fact:
        """Three fields, ARC-Seal on top; or why there are none."""
        try:
            fields = await self._fields(transaction, message)
        except NotSealedError as refused:
            self.context.metrics.count("unsealed_messages")
            return Fact(name=f"{self.name}.unsealed", value=str(refused))
        self.context.metrics.count("seals")
        return fields

    async def _fields(self, transaction: Transaction, message: Message) -> list[AddHeader]:
        if message.content.is_binary:
            raise NotSealedError("binary content, which does not stay as it is on the way")  # RFC 6376 5.3
        results = transaction.findings.of(AuthResult)
        utf8 = transaction.parameter("SMTPUTF8") is not None  # RFC 8616 5
        sealer = ArcSealer(
            key=self._key,
            state=_state(transaction),
            results=render_results(self.context.authserv_id, results, utf8=utf8),
        )
        bodies = await shared_body_hashes(message, sealer.wanted, self.context)
        return [add_header(name, body) for name, body in sealer.fields(message, bodies, now=int(self.context.clock()))]


def _state(transaction: Transaction) -> str:
    """What became of the chain as it was received."""
    found = transaction.findings.of(ArcFinding)
    if not found:
        raise NotSealedError("nobody verified the chain: the plugin arc is not in the chain of plugins, or it failed")
    if found[-1].is_temporary:
        # RFC 8617 5.2.1 makes this a failure, but to seal it as one would be for ever; without a set of ours others may look again.
        raise NotSealedError("whether the chain is valid could not be told, since DNS failed")
    return found[-1].result


def _read(options: Options, directory: Path) -> SigningKey:
    try:
        key = read_key_file(directory / options.file, is_strict=options.key_permissions == "strict")
    except PrivateKeyError as error:
        raise OptionError(OptionMistake(key=("file",), found=f"{options.file!r}: {error}", allowed=USABLE_KEY_FILE)) from error
    return SigningKey(domain=options.domain, selector=options.selector, key=key, file=options.file)
