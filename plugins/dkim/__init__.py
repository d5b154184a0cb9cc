"""Verify DKIM signatures (RFC 6376, 8301, 8463): one finding for each, no verdicts."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from pydantic import Field

from gateway import AuthResult, DnsError, HeaderField, Message, Plugin, PluginOptions, hook
from gateway.mailauth import (
    BodyHash,
    BodyHashWanted,
    KeyRecord,
    KeyRefusedError,
    header_hash,
    read_key,
    select_fields,
    shared_body_hashes,
)
from gateway.plugins.dkim.signature import Refused, Signature, parse_signature, read_tags, shown_properties


class Options(PluginOptions):
    """`[plugin.dkim]`."""

    max_signatures: int = Field(default=8, ge=1, le=50)
    """Signatures of one message that are verified, from the top; the rest is reported as `policy`."""
    minimum_key_bits: int = Field(default=1024, ge=1024)
    """Smaller RSA keys are not accepted (RFC 8301 3.2)."""
    maximum_key_bits: int = Field(default=4096, ge=2048, le=8192)
    """Larger RSA keys are not accepted: they are for burning our CPU."""


class Dkim(Plugin[Options]):
    """The plugin."""

    gives: ClassVar[tuple[str, ...]] = ("auth.dkim",)

    @hook
    async def check(self, message: Message) -> list[AuthResult]:
        """One result for each signature, in the order of the fields."""
        fields = message.fields_named("dkim-signature")
        if not fields:
            return [AuthResult(method="dkim", result="none", reason="no signature")]
        checked = fields[: self.options.max_signatures]
        attempts = [_Attempt(field, now=self.context.clock()) for field in checked]
        if message.header.is_cut:
            for attempt in attempts:
                attempt.refuse("permerror", "too many header fields")
        await asyncio.gather(*(self._fetch_key(attempt) for attempt in attempts if attempt.is_open))
        wanted = {attempt.wanted for attempt in attempts if attempt.is_open}
        hashes = await shared_body_hashes(message, wanted, self.context)
        for attempt in attempts:
            if attempt.is_open:
                attempt.verify(message, hashes[attempt.wanted])
        results = [attempt.finding() for attempt in attempts]
        if len(fields) > len(checked):
            more = f"{len(fields) - len(checked)} more signatures are not verified, the limit is {len(checked)}"
            results.append(AuthResult(method="dkim", result="policy", reason=more))
        return results

    async def _fetch_key(self, attempt: _Attempt) -> None:
        """Before any computation, so that a failure of DNS is a temperror and no fail."""
        signature = attempt.signature
        assert signature is not None
        try:
            answer = await self.context.resolver.query(signature.key_name, "TXT")
        except DnsError:
            attempt.refuse("temperror", "the key could not be looked up")
            return
        records = [b"".join(strings) for strings in answer.records]
        options = self.options
        try:
            attempt.key = key = read_key(
                records,
                algorithm=signature.algorithm,
                minimum_bits=options.minimum_key_bits,
                maximum_bits=options.maximum_key_bits,
            )
        except KeyRefusedError as refused:
            attempt.refuse(refused.result, refused.reason)
            return
        if key.is_strict and signature.identity.rpartition("@")[2].lower() != signature.domain:
            attempt.refuse("permerror", "key does not allow a subdomain in i=")


class _Attempt:
    """One signature on its way to a result."""

    def __init__(self, field: HeaderField, *, now: float) -> None:
        self.field = field
        self.result = ""
        self.reason = ""
        self.properties: tuple[tuple[str, str], ...] = ()
        self.signature: Signature | None = None
        self.key: KeyRecord | None = None
        try:
            tags = read_tags(field.raw)
            self.properties = shown_properties(tags)
            self.signature = parse_signature(tags, now=now)
        except Refused as refused:
            self.refuse(refused.result, refused.reason)

    @property
    def is_open(self) -> bool:
        """Nothing speaks against it so far."""
        return not self.result

    @property
    def wanted(self) -> BodyHashWanted:
        """The body hash it is compared with."""
        assert self.signature is not None
        return BodyHashWanted(self.signature.is_body_relaxed, self.signature.length)

    def refuse(self, result: str, reason: str) -> None:
        """It cannot pass any more."""
        self.result, self.reason = result, reason

    def verify(self, message: Message, body: BodyHash) -> None:
        """RFC 6376 6.1.3."""
        signature, key = self.signature, self.key
        assert signature is not None
        assert key is not None
        if signature.length is not None and signature.length > body.size:
            self.refuse("permerror", "l= is larger than the body")  # RFC 6376 3.5
        elif body.digest != signature.body_hash:
            self.refuse("fail", "body hash does not match")
        elif not key.verifies(signature.signature, self._header_hash(message, signature)):
            self.refuse("fail", "signature does not match")
        else:
            notes = [f"{key.bits}-bit key"]
            if signature.length is not None:
                notes.append(f"l={signature.length} of {body.size} octets are signed")
            if key.is_testing:
                notes.append("signer is testing")
            self.refuse("pass", ", ".join(notes))

    def finding(self) -> AuthResult:
        """The result for Authentication-Results, dmarc and rules."""
        return AuthResult(method="dkim", result=self.result, reason=self.reason, properties=self.properties)

    def _header_hash(self, message: Message, signature: Signature) -> bytes:
        # One From more than named: an added From breaks the signature, as dkimpy has it.
        fields = select_fields(message, (*signature.headers, b"from"))
        return header_hash(fields, self.field.octets, is_relaxed=signature.is_header_relaxed)
