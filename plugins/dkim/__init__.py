"""Verify DKIM signatures (RFC 6376, 8301, 8463): one finding for each, no verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar, Literal

from pydantic import Field

from gateway import Duration, Fact, Finding, Message, Plugin, PluginOptions, hook
from gateway.mailauth import carry_out
from gateway.plugins.dkim.coverage import Coverage
from gateway.plugins.dkim.evaluation import DkimFinding, DkimScheme, Limits

__all__ = ["Coverage", "Dkim", "DkimFinding", "DkimScheme", "Limits", "Options"]


class Options(PluginOptions):
    """`[plugin.dkim]`."""

    max_signatures: int = Field(default=8, ge=1, le=50)
    """Signatures of one message that are verified, from the top; the rest is reported as `policy`."""
    minimum_key_bits: int = Field(default=1024, ge=1024)
    """Smaller RSA keys are not accepted (RFC 8301 3.2)."""
    maximum_key_bits: int = Field(default=4096, ge=2048, le=8192)
    """Larger RSA keys are not accepted: they are for burning our CPU."""
    clock_skew: Duration = Field(default=300.0, ge=0, le=86_400)
    """How long after `x=` a signature still counts: clocks differ."""
    unsigned_body: Literal["report", "refuse"] = "report"
    """What a signature is worth whose `l=` leaves a part of the body open: `report` says so and passes, `refuse` makes it `policy`."""
    added_fields: Literal["report", "refuse"] = "report"
    """The same for a field such as Subject that occurs more often than it is signed: a reader may be shown the wrong one."""


class Dkim(Plugin[Options]):
    """The plugin."""

    gives: ClassVar[tuple[str, ...]] = ("auth.dkim",)
    verifies: ClassVar[tuple[str, ...]] = ("dkim-signature",)

    @cached_property
    def _scheme(self) -> DkimScheme:
        options = self.options
        return DkimScheme(
            Limits(
                signatures=options.max_signatures,
                minimum_bits=options.minimum_key_bits,
                maximum_bits=options.maximum_key_bits,
                skew=options.clock_skew,
                takes_unsigned_body=options.unsigned_body == "report",
                takes_added_fields=options.added_fields == "report",
            )
        )

    @hook
    async def check(self, message: Message) -> list[Finding]:
        """One result for each signature, in the order of the fields; facts about what they all leave open."""
        findings = await carry_out(self._scheme, message, self.context)
        return [*findings, *_facts(findings)]


def _facts(findings: Sequence[DkimFinding]) -> list[Fact]:
    """What every valid signature leaves open; nothing without a valid one."""
    passed = [finding for finding in findings if finding.result == "pass" and finding.coverage is not None]
    if not passed:
        return []
    facts = []
    octets = min([finding.unsigned_octets for finding in passed])
    if octets:
        facts.append(Fact(name="dkim.unsigned_octets", value=octets))
    coverages = [finding.coverage for finding in passed if finding.coverage is not None]
    for name, of in (("dkim.unsigned_fields", _unsigned), ("dkim.added_fields", _added)):
        common = of(coverages[0])
        for other in coverages[1:]:
            there = of(other)
            common = tuple([field for field in common if field in there])
        if common:
            facts.append(Fact(name=name, value=",".join(common)))
    if not any(coverage.is_from_sealed for coverage in coverages):
        facts.append(Fact(name="dkim.from_not_sealed", value=True))
    return facts


def _unsigned(coverage: Coverage) -> tuple[str, ...]:
    return coverage.unsigned


def _added(coverage: Coverage) -> tuple[str, ...]:
    return tuple([name for name, _, _ in coverage.added])
