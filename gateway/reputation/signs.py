"""Signs: what looks wrong about a message, each with what it costs, a weight or a verdict. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from gateway.findings import Finding, Score
from gateway.reputation.lists import shown
from gateway.reputation.weighing import Step, Thresholds

Cost = Annotated[float, Field(ge=-1_000, le=1_000, allow_inf_nan=False)] | Literal["defer", "quarantine", "reject"]
"""A weight (0: the sign is not looked for), or what happens at once."""
_STRICT: tuple[Step, ...] = ("", "defer", "quarantine", "reject")


@dataclass(frozen=True, slots=True)
class Sign:
    """One that was found."""

    symbol: str
    cost: Cost
    text: str
    """Fit for a reply: tells nothing of our insides."""
    evidence: str
    """For people here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs(Finding):
    """All signs together."""

    total: float
    step: Step = ""
    """The strictest of those that cost a verdict by themselves."""
    text: str = ""
    """Of the weightiest, for a reply."""
    is_unsure: bool = False
    """DNS failed: there may be more."""


def findings_of_signs(signs: Sequence[Sign], *, is_unsure: bool = False) -> list[Finding]:
    """A score for each, 0 where it costs a verdict by itself, and all together."""
    if not signs and not is_unsure:
        return []
    weights = [one.cost if not isinstance(one.cost, str) else 0.0 for one in signs]
    steps: list[Step] = [one.cost if isinstance(one.cost, str) else "" for one in signs]
    worst = max(zip(map(_STRICT.index, steps), weights, signs, strict=True), key=lambda one: one[:2], default=None)
    scores = [
        Score(symbol=one.symbol, weight=weight, evidence=shown(one.evidence)) for one, weight in zip(signs, weights, strict=True)
    ]
    whole = Signs(
        total=sum(weights),
        step=max(steps, key=_STRICT.index, default=""),
        text=worst[2].text if worst is not None else "",
        is_unsure=is_unsure,
    )
    return [*scores, whole]


def decide_signs(whole: Signs, options: Thresholds) -> Step:
    """The stricter of the signs' own verdicts and of what the total reaches."""
    return max(whole.step, options.step(whole.total), key=_STRICT.index)
