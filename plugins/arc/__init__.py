"""Verify the Authenticated Received Chain (RFC 8617): one result, what each set says, and whether trusted sealers say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field, field_validator

from gateway import AuthResult, Finding, Message, Plugin, PluginOptions, Transaction, hook
from gateway.mailauth import carry_out
from gateway.mailauth.results import Names
from gateway.plugins.arc.fields import MAX_INSTANCE
from gateway.plugins.arc.trust import Trust, assess, claims_of
from gateway.plugins.arc.verify import ArcScheme, ChainResult, SetReport

TRUSTED_SEALER = "policy.trusted-sealer"
"""Property of the result: the trusted sealer who says that DMARC passed for the author's domain. `dmarc` may let that count."""
UNREAD_SEALER = "policy.unverified-sealer"
"""Property of a failure: this trusted sealer's chain could not be verified because DNS failed for now."""


class Options(PluginOptions):
    """`[plugin.arc]`."""

    max_sets: int = Field(default=MAX_INSTANCE, ge=1, le=MAX_INSTANCE)
    """A chain of more sets fails (RFC 8617 4.2.1: at most 50)."""
    minimum_key_bits: int = Field(default=1024, ge=1024)
    """Smaller RSA keys are not accepted (RFC 8301 3.2)."""
    maximum_key_bits: int = Field(default=4096, ge=2048, le=8192)
    """Larger RSA keys are not accepted: they are for burning our CPU."""
    trusted_sealers: tuple[str, ...] = ()
    """Domains (`d=` of ARC-Seal) whose word is taken for what they found. `*.example.org` is every name below example.org."""

    @field_validator("trusted_sealers")
    @classmethod
    def _no_empty_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not name.removeprefix("*.").strip(". "):
                msg = f"{name!r} is no domain"
                raise ValueError(msg)
        return names


@dataclass(frozen=True, slots=True, kw_only=True)
class ArcFinding(AuthResult):
    """The result of the chain.

    It has the property `policy.trusted-sealer` when the chain is valid, `trusted_sealers` vouch for it, and one of them says
    that DMARC passed for the author's domain: the domain of that sealer. `policy.unverified-sealer` when a chain that bears
    a trusted sealer's name could not be verified because DNS failed for now.
    """

    sealers: tuple[str, ...] = ()
    """Domains of the seals, the oldest first; they are proved only when the result is `pass`."""
    is_trusted: bool = False
    """The newest sets are sealed by trusted sealers, and their signature covers From and the whole body."""
    trusted_from: int = 0
    """The oldest set that may be believed; 0: none."""
    claimed: tuple[tuple[str, str], ...] = ()
    """What that set says of the message as it arrived there: (`spf`, `pass`), (`dmarc`, `pass`), …"""
    is_temporary: bool = False
    """It fails only because DNS could not tell keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArcSet(Finding):
    """One set of the chain, as evidence."""

    instance: int
    sealer: str
    """d= of the seal."""
    signer: str
    """d= of the message signature."""
    seal: str
    """`valid`, `not checked`, or why it is not valid."""
    message_signature: str
    """The same of the message signature; only the newest must be valid."""
    claims: str
    """What the sealer says it found: `spf=pass dkim=pass`."""


class Arc(Plugin[Options]):
    """The plugin."""

    gives: ClassVar[tuple[str, ...]] = ("auth.arc",)

    @hook
    async def check(self, transaction: Transaction, message: Message) -> list[Finding]:
        """One result, and what each set says."""
        options = self.options
        scheme = ArcScheme(
            max_sets=options.max_sets, minimum_bits=options.minimum_key_bits, maximum_bits=options.maximum_key_bits
        )
        result = await carry_out(scheme, message, self.context)
        trusted = Names(options.trusted_sealers)
        trust = assess(result, message, trusted)
        finding = _finding(result, trust, trusted, transaction.session.client_address)
        return [finding, *map(_evidence, result.sets)]


def _finding(result: ChainResult, trust: Trust, trusted: Names, address: str) -> ArcFinding:
    properties: list[tuple[str, str]] = []
    if result.status == "pass":
        properties.append(("header.oldest-pass", str(result.oldest_pass)))  # RFC 8617 10.2
    if address:
        properties.append(("smtp.remote-ip", address))
    sealers = tuple(one.sealer for one in result.sets)
    if trust.sealer:
        properties.append((TRUSTED_SEALER, trust.sealer))
    if result.is_temporary and sealers and sealers[-1] in trusted:
        properties.append((UNREAD_SEALER, sealers[-1]))
    return ArcFinding(
        method="arc",
        result=result.status,
        reason=f"{result.reason}; {trust.doubt}" if trust.doubt else result.reason,
        properties=tuple(properties),
        sealers=sealers,
        is_trusted=trust.oldest > 0,
        trusted_from=trust.oldest,
        claimed=trust.claims,
        is_temporary=result.is_temporary,
    )


def _evidence(report: SetReport) -> ArcSet:
    return ArcSet(
        instance=report.instance,
        sealer=report.sealer,
        signer=report.signer,
        seal=report.seal,
        message_signature=report.message_signature,
        claims=" ".join(f"{method}={result}" for method, result in claims_of(report)),
    )
