"""What follows from what a scanner found: told in its findings by `check`, carried out by `judge`. Shared by scanners of several kinds.

A fact `NAME.then` stands between the two, so that the decision is in the record, and holds where a plugin runs in a process of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias, TypeVar

from pydantic import Field

from gateway.findings import Fact, Finding
from gateway.scanning import Scanner, ScannerOptions
from gateway.transaction import Transaction
from gateway.verdict import Defer, Discard, Quarantine, Reject, defer, discard, quarantine, reject

__all__ = [
    "ConsequenceOptions",
    "Then",
    "consequence",
    "told",
]

Then: TypeAlias = Literal["reject", "quarantine", "discard", "defer", "pass"]
"""An option that says what follows; `pass`: nothing but the findings."""
C = TypeVar("C", bound="ConsequenceOptions")
MAX_EVIDENCE = 2_000


class ConsequenceOptions(ScannerOptions):
    """Options of a scanner whose findings have consequences."""

    text: str = Field(default="Message content is not accepted here", pattern=r"^[ -~]{1,200}$")
    """Of the reply that refuses."""


def told(plugin: str, then: Then, why: str) -> list[Finding]:
    """The finding that a consequence is; none for `pass`."""
    return [] if then == "pass" else [Fact(name=f"{plugin}.then", value=f"{then} {why}"[:MAX_EVIDENCE])]


def consequence(scanner: Scanner[C], transaction: Transaction, *, reason: str) -> Reject | Quarantine | Discard | Defer | None:
    """The verdict that `told` promised, or what `oversize` says of a message too large."""
    facts: Iterable[Fact] = transaction.findings.by(scanner.name, Fact)
    options = scanner.options
    for fact in facts:
        if fact.name != f"{scanner.name}.then":
            continue
        then, _, evidence = str(fact.value).partition(" ")
        match then:
            case "reject":
                return reject(options.text, reason=reason, evidence=evidence)
            case "discard":
                return discard(reason, evidence=evidence)
            case "defer":
                return defer("Temporary failure, please try again later", enhanced="4.7.1", reason=reason, evidence=evidence)
            case _:
                return quarantine(reason, box=options.box, evidence=evidence)
    return scanner.judge_size(transaction)
