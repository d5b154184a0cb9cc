"""What follows from a step of the thresholds. Pure."""

from __future__ import annotations

from gateway.errors import LookupFailedError
from gateway.reputation.weighing import Listings, Step, Thresholds, decide
from gateway.verdict import Defer, Quarantine, Reject, defer, quarantine, reject


def step_of(whole: Listings, options: Thresholds, *, unanswered: str) -> Step:
    """What the lists come to. LookupFailedError where those that do not answer could change it and `unanswered` says that is a fault."""
    decided = decide(whole, options)
    if decided.fault and unanswered == "fault":
        raise LookupFailedError(f"lists that could change the verdict do not answer: {decided.fault}")
    return decided.step


def verdict_of(step: Step, what: str, *, reason: str, box: str, evidence: str) -> Reject | Quarantine | Defer | None:
    """The verdict that a step is; `what` is fit for a reply."""
    match step:
        case "reject":
            return reject(f"Refused: {what}", code=550, enhanced="5.7.1", reason=reason, evidence=evidence)
        case "quarantine":
            return quarantine(reason, box=box, evidence=evidence)
        case "defer":
            return defer(f"Not now: {what}", code=451, enhanced="4.7.1", reason=reason, evidence=evidence)
        case _:
            return None
