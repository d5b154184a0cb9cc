"""Verify the Authenticated Received Chain (RFC 8617): one result, what each set says, and whether trusted sealers say it."""

from __future__ import annotations

import asyncio
from functools import cached_property
from typing import ClassVar

from pydantic import Field, field_validator

from gateway import Finding, Message, Plugin, PluginOptions, Transaction, hook
from gateway.mailauth import carry_out
from gateway.mailauth.arc import (
    MAX_INSTANCE,
    TRUSTED_SEALER,
    UNVERIFIED_SEALER,
    ArcFinding,
    ArcScheme,
    ArcSet,
    ChainResult,
    SetReport,
)
from gateway.mailauth.results import Names, Reading, read_results
from gateway.plugins.arc.trust import Trust, assess, told

__all__ = ["Arc", "ArcFinding", "ArcSet", "Options"]


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


class Arc(Plugin[Options]):
    """The plugin."""

    gives: ClassVar[tuple[str, ...]] = ("auth.arc",)
    verifies: ClassVar[tuple[str, ...]] = ("arc-message-signature",)

    @cached_property
    def _scheme(self) -> ArcScheme:
        options = self.options
        return ArcScheme(max_sets=options.max_sets, minimum_bits=options.minimum_key_bits, maximum_bits=options.maximum_key_bits)

    @cached_property
    def _trusted(self) -> Names:
        return Names(self.options.trusted_sealers)

    @hook
    async def check(self, transaction: Transaction, message: Message) -> list[Finding]:
        """One result, and what each set says."""
        result = await carry_out(self._scheme, message, self.context)
        claims: dict[int, Reading] = {}
        for one in result.sets:
            claims[one.instance] = read_results(one.claims)
            await asyncio.sleep(0)  # a hostile field may take some milliseconds, and there may be fifty
        trust = assess(result, claims, message, self._trusted)
        finding = _finding(result, trust, self._trusted, transaction.session.client_address)
        return [finding, *(_evidence(one, claims[one.instance]) for one in result.sets)]


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
        properties.append((UNVERIFIED_SEALER, sealers[-1]))
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


def _evidence(report: SetReport, claims: Reading) -> ArcSet:
    return ArcSet(
        instance=report.instance,
        sealer=report.sealer,
        signer=report.signer,
        seal=report.seal,
        message_signature=report.message_signature,
        claims=" ".join(f"{method}={result}" for method, result in told(claims)),
    )
