"""Verify DKIM signatures (RFC 6376, 8301, 8463): one finding for each, no verdicts."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from typing import ClassVar

from pydantic import Field

from gateway import AuthResult, DnsError, Message, Plugin, PluginOptions, hook
from gateway.plugins.dkim.canonical import BodyHash, BodyHashWanted, body_hashes, relaxed_field
from gateway.plugins.dkim.key import Key, read_key
from gateway.plugins.dkim.signature import Refused, Signature, parse_signature, read_tags, shown_properties, without_signature

INLINE = 256 * 1024
"""Octets of a body that are hashed on the spot; larger ones go to the process pool."""


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
        attempts = [_Attempt(field.raw, now=self.context.clock()) for field in checked]
        if message.header.is_cut:
            for attempt in attempts:
                attempt.refuse("permerror", "too many header fields")
        await asyncio.gather(*(self._fetch_key(attempt) for attempt in attempts if attempt.is_open))
        hashes = await self._body_hashes(message, [attempt.wanted for attempt in attempts if attempt.is_open])
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
            attempt.key = read_key(
                records, signature, minimum_bits=options.minimum_key_bits, maximum_bits=options.maximum_key_bits
            )
        except Refused as refused:
            attempt.refuse(refused.result, refused.reason)

    async def _body_hashes(self, message: Message, wanted: Iterable[BodyHashWanted]) -> dict[BodyHashWanted, BodyHash]:
        each = tuple(dict.fromkeys(wanted))
        if not each:
            return {}
        body = message.octets[message.body_offset :]
        if len(body) <= INLINE:
            return body_hashes(body, each)
        return await self.context.run_in_process(body_hashes, body, each)


class _Attempt:
    """One signature on its way to a result."""

    def __init__(self, raw: bytes, *, now: float) -> None:
        self.raw = raw
        self.result = ""
        self.reason = ""
        self.properties: tuple[tuple[str, str], ...] = ()
        self.signature: Signature | None = None
        self.key: Key | None = None
        try:
            tags = read_tags(raw)
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
        elif not key.verifies(signature.signature, header_hash(message, signature, self.raw)):
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


def header_hash(message: Message, signature: Signature, raw: bytes) -> bytes:
    """SHA-256 of the signed fields and of the signature's own field (RFC 6376 3.7)."""
    left = {}
    hasher = hashlib.sha256()
    # One From more than named: an added From breaks the signature, as dkimpy has it.
    for name in (*signature.headers, b"from"):
        key = name.decode("ascii", "replace")
        if key not in left:
            left[key] = list(message.fields_named(key))
        if not left[key]:
            continue
        field = left[key].pop()  # RFC 6376 5.4.2: from the bottom up
        octets = field.octets
        if signature.is_header_relaxed:
            hasher.update(relaxed_field(field.name.encode(), field.raw))
        else:
            hasher.update(octets if octets.endswith(b"\n") else octets + b"\r\n")
    own = without_signature(raw)
    if signature.is_header_relaxed:
        hasher.update(relaxed_field(b"dkim-signature", own).removesuffix(b"\r\n"))
    else:
        name = _own_name(message, raw)
        hasher.update(name + b":" + own)
    return hasher.digest()


def _own_name(message: Message, raw: bytes) -> bytes:
    """The field name as this signature's field spells it: simple canonicalization keeps its case."""
    for field in message.fields_named("dkim-signature"):
        if field.raw == raw:
            return field.octets[: field.colon - field.start]
    return b"DKIM-Signature"
