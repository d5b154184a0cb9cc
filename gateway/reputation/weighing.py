"""Totals and thresholds: what becomes of a message by the weight of what speaks against it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from gateway.findings import Fact, Finding, Findings, Score
from gateway.plugin import PluginOptions
from gateway.reputation.lists import Answer

Step = Literal["", "defer", "quarantine", "reject"]
_ORDER: tuple[Step, ...] = ("reject", "quarantine", "defer")
_MAX_TEXT = 300
_MAX_FACT = 1_000


class Thresholds(PluginOptions):
    """Options of what weighs: from which total on what happens. Without any: scores only."""

    reject_at: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """From this total on the message is refused."""
    quarantine_at: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """From this total on it is held."""
    defer_at: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """From this total on the client is asked to try again."""
    box: str = Field(default="default", pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    """Quarantine box for what is held."""

    def step(self, total: float) -> Step:
        """What the highest threshold that the total reaches says; of equal ones, the stricter."""
        reached = [(at, -place, step) for place, step in enumerate(_ORDER) if (at := getattr(self, f"{step}_at")) is not None]
        return max((one for one in reached if total >= one[0]), default=(0.0, 0, ""))[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listings(Finding):
    """What all lists together say."""

    total: float
    """0 where an answer allowed the message."""
    listed: tuple[str, ...] = ()
    """`192.0.2.1 is listed by list.example`, of those that weigh something; fit for a reply."""
    allowed_by: str = ""
    unanswered: tuple[str, ...] = ()
    """`list.example: no answer within 5 s`."""
    possible: float = 0.0
    """The most that those could have added."""
    may_allow: bool = False
    """One of those could have let the message through."""

    @property
    def what(self) -> str:
        """For a reply."""
        text = "; ".join(self.listed)
        return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."

    @property
    def why_unanswered(self) -> str:
        """For people."""
        return "; ".join(self.unanswered)[:_MAX_FACT]


def weigh(answers: Sequence[Answer]) -> Listings:
    """Add up."""
    allowing = next((one for one in answers if one.is_allowed), None)
    against = [one for one in answers if one.weight > 0] if allowing is None else []
    failed = [one for one in answers if one.fault]
    return Listings(
        total=0.0 if allowing is not None else sum(one.weight for one in answers),
        listed=tuple(dict.fromkeys(f"{_ascii(one.value)} is listed by {one.zone}" for one in against)),
        allowed_by=allowing.zone if allowing is not None else "",
        unanswered=tuple(dict.fromkeys(one.evidence for one in failed)),
        possible=sum(one.possible for one in failed),
        may_allow=any(one.may_allow for one in failed),
    )


def findings_of(answers: Sequence[Answer], prefix: str) -> list[Finding]:
    """A score for each listing, facts about what was odd, and all together. Where a list allows, others weigh nothing."""
    whole = weigh(answers)
    found: list[Finding] = []
    for one in answers:
        if not one.codes:
            continue
        if whole.allowed_by and not one.is_allowed:
            evidence = f"{one.evidence}; not counted, {whole.allowed_by} allows"
            found.append(Score(symbol=one.symbol, weight=0.0, evidence=evidence))
        else:
            found.append(Score(symbol=one.symbol, weight=one.weight, evidence=one.evidence))
    if whole.allowed_by:
        found.append(Fact(name=f"{prefix}.allowed", value=whole.allowed_by))
    if whole.unanswered:
        found.append(Fact(name=f"{prefix}.unanswered", value=whole.why_unanswered))
    if found:
        found.append(whole)
    return found


def evidence_of(findings: Findings, plugin: str) -> str:
    """What the scores of one plugin say, for its verdict."""
    return "; ".join(found.evidence for found in findings.by(plugin, Score))[:_MAX_FACT]


@dataclass(frozen=True, slots=True)
class Decided:
    """What is to happen, and why not something else."""

    step: Step
    fault: str = ""
    """Lists without an answer could have changed it."""


def decide(whole: Listings, options: Thresholds) -> Decided:
    """By the thresholds. Lists that do not answer never cost a refusal for good that they might have spared."""
    step = options.step(whole.total)
    if not whole.unanswered:
        return Decided(step)
    matters = (step != "" and whole.may_allow) or options.step(whole.total + whole.possible) != step
    fault = whole.why_unanswered if matters else ""
    return Decided("defer" if step == "reject" and whole.may_allow else step, fault)


def _ascii(text: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in text)
