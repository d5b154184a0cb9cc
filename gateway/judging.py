"""What answers do: verdicts applied to recipients, faults made verdicts, runs written into the trace. No I/O, no waiting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from gateway.dns_account import DnsAccount
from gateway.files.known import known_limits
from gateway.findings import Fact, Finding, Label, Score
from gateway.trace import Trace
from gateway.verdict import (
    Accept,
    AddRecipient,
    Decision,
    Defer,
    Discard,
    Quarantine,
    Redirect,
    Reject,
    Skip,
    UseForwardPath,
    UseReversePath,
    Verdict,
    Would,
)

if TYPE_CHECKING:
    from gateway.message import Message
    from gateway.runner import Run
    from gateway.session import Session
    from gateway.steps import Step
    from gateway.transaction import Recipient, Transaction

LIMITS: Final = "message.limits"
"""Name of the fact that says what was too much or malformed in a message."""
_VERDICTS: Final = (Accept, Reject, Defer, Quarantine, Discard, Redirect)
_SAYING: Final = (*_VERDICTS, Would)
_WITHOUT_VERDICT: Final = frozenset(["check", "rewrite", "sign", "route", "policy_class"])
"""Hooks that may answer with none."""
APPLIED: Final = _WITHOUT_VERDICT - {"route"}
"""Hooks to whose answers, once their types are right, nothing can be objected."""


def dependencies(steps: Sequence[Step]) -> list[frozenset[int]]:
    """For each check, the numbers of the checks that give what it needs. ValueError names a circle."""
    waits_for = [
        frozenset(n for n, other in enumerate(steps) if other.plugin != step.plugin and set(step.needs) & set(other.gives))
        for step in steps
    ]
    done: set[int] = set()
    while len(done) < len(steps):
        ready = {n for n, needed in enumerate(waits_for) if n not in done and needed <= done}
        if not ready:
            names = [steps[n].plugin for n in range(len(steps)) if n not in done]
            raise ValueError(f"checks wait for each other's findings: {', '.join(names)}")
        done |= ready
    return waits_for


def decision_of(step: Step, verdict: Verdict, run: Run) -> Decision:
    """A verdict with its author."""
    return Decision(verdict=verdict, plugin=step.plugin, hook=step.hook, duration=run.duration)


def fault_decision(step: Step, run: Run) -> Decision:
    """What a fault of a plugin with `on_error = "defer"` comes to. The text tells nothing of our insides."""
    reason = "plugin-timeout" if run.fault == "timeout" else "plugin-error"
    verdict = Defer(
        text="Temporary failure, please try again later", code=451, enhanced="4.3.0", reason=reason, evidence=run.evidence
    )
    return Decision(verdict=verdict, plugin=step.plugin, hook=step.hook, duration=run.duration)


def affected(transaction: Transaction, verdict: Verdict) -> list[Recipient]:
    """The undecided recipients a verdict is for."""
    undecided = transaction.undecided
    if verdict.recipients is None:
        return undecided
    return [recipient for recipient in undecided if recipient.mailbox in verdict.recipients]


def apply_decision(transaction: Transaction, decision: Decision) -> None:
    """The first verdict on a recipient decides that recipient (design: judge)."""
    for recipient in affected(transaction, decision.verdict):
        recipient.decision = decision


def apply_answers(transaction: Transaction, step: Step, run: Run, skipped: dict[str, str]) -> None:
    """What a judge answered: verdicts on recipients, scores for those that follow, plugins to pass over (with by whom)."""
    for value in run.values:
        match value:
            case Skip():
                skipped.update((name, f"{step.plugin}: {value.reason or 'no reason given'}") for name in value.plugins)
            case Score() | Label():
                transaction.findings.add(step.plugin, value)
            case Would():
                pass
            case _:
                apply_decision(transaction, decision_of(step, value, run))


def object_to(hook: str, values: tuple[Any, ...], transaction: Transaction | None, routes: frozenset[str] | None) -> str:
    """Why answers that are right in their types cannot be applied; `` when they can."""
    if hook == "route" and routes is not None and values[0] not in routes:
        return f"route {values[0]!r} is not configured"
    if hook in _WITHOUT_VERDICT:
        return ""
    for value in values:
        if isinstance(value, Redirect) and routes is not None and value.next_hop not in routes:
            return f"redirect to route {value.next_hop!r}, which is not configured"
        if hook == "judge" and isinstance(value, Redirect) and sum(isinstance(one, _VERDICTS) for one in values) > 1:
            return "redirect at judge is for all recipients at once; another verdict came with it"
        if hook == "judge" and transaction is not None and isinstance(value, _VERDICTS):
            objection = _object_to_verdict(value, transaction)
            if objection:
                return objection
        if hook == "rcpt" and getattr(value, "recipients", None) is not None:
            return "a verdict at rcpt is for the recipient asked about; it names others"
    return ""


def _object_to_verdict(verdict: Verdict, transaction: Transaction) -> str:
    known = {recipient.mailbox for recipient in transaction.recipients}
    if verdict.recipients is not None and (strangers := verdict.recipients - known):
        return f"verdict for {min(map(repr, strangers))}, which is no recipient of this transaction"
    if isinstance(verdict, Redirect):
        everybody = verdict.recipients is None or verdict.recipients >= known
        if not everybody or len(transaction.undecided) != len(transaction.recipients):
            return "redirect at judge is for all recipients at once"
    return ""


def trace_of(session: Session, transaction: Transaction | None) -> Trace:
    """The trace of the transaction; for stages without one, the session's own."""
    if transaction is None:
        trace = session.state.get("trace")
        if not isinstance(trace, Trace):
            trace = session.state["trace"] = Trace()
        return trace
    if transaction.trace is None:
        transaction.trace = Trace()
    return transaction.trace


def account_of(trace: Trace) -> DnsAccount:
    """What its hooks may spend on DNS."""
    if trace.dns_account is None:
        trace.dns_account = DnsAccount()
    return trace.dns_account


def tell_budget(trace: Trace, account: DnsAccount) -> None:
    """Say once that the transaction has spent what it may on DNS."""
    if not account.told:
        account.told = True
        trace.step(stage="dns", plugin="", outcome="budget", evidence=str(account))


def tell_limits(transaction: Transaction, message: Message) -> None:
    """A finding of what was too much or malformed, as far as somebody has looked: once, and again where more has shown itself."""
    words = message.limits_known + known_limits(message)
    if not words:
        return
    found = Fact(name=LIMITS, value=", ".join(words))
    if found in transaction.findings.of(Fact):
        return
    transaction.findings.add("", found)
    trace = trace_of(transaction.session, transaction)
    trace.step(stage="content", plugin="", outcome="finding", findings=(found,))


def record_run(trace: Trace, step: Step, run: Run, about: str) -> str:
    """Write a run into the trace; the word for its outcome."""
    if run.fault or not run.values:
        outcome = run.fault or "none"
        trace.step(
            stage=step.hook,
            plugin=step.plugin,
            outcome=outcome,
            duration=run.duration,
            mode=step.mode,
            recipient=about,
            evidence=run.evidence,
        )
        return outcome
    if step.hook == "judge" or (step.hook not in _WITHOUT_VERDICT and any(isinstance(value, _SAYING) for value in run.values)):
        return _record_verdicts(trace, step, run, about)
    outcome, evidence = ("finding", "") if step.hook == "check" else _name_values(step, run.values)
    trace.step(
        stage=step.hook,
        plugin=step.plugin,
        outcome=outcome,
        duration=run.duration,
        mode=step.mode,
        recipient=about,
        findings=run.values if not evidence else (),
        evidence=evidence,
    )
    return outcome


def _record_verdicts(trace: Trace, step: Step, run: Run, about: str) -> str:
    """One row for each verdict and what else `judge` may answer; the time in the first."""
    outcomes: list[str] = []
    duration = run.duration
    for value in run.values:
        if isinstance(value, UseForwardPath | AddRecipient):
            trace.step(stage=step.hook, plugin=step.plugin, outcome="path", mode=step.mode, recipient=about, findings=(value,))
            outcomes.append("path")
            continue
        is_monitor = step.is_monitor or isinstance(value, Would)
        verdict = value.verdict if isinstance(value, Would) else value if isinstance(value, _VERDICTS) else None
        if is_monitor:
            outcome = "would"
        elif isinstance(value, Skip):
            outcome = "skip"
        else:
            outcome = "finding" if isinstance(value, Finding) else "verdict"
        evidence: str = value.evidence
        if isinstance(value, Skip):
            evidence = f"skips {', '.join(value.plugins)}: {evidence}"
        trace.step(
            stage=step.hook,
            plugin=step.plugin,
            outcome=outcome,
            duration=duration,
            mode="monitor" if is_monitor else "enforce",
            recipient=about or ", ".join(sorted((verdict and verdict.recipients) or ())),
            verdict=verdict,
            findings=(value,) if isinstance(value, Finding) else (),
            evidence=evidence,
        )
        outcomes.append(outcome)
        duration = 0.0
    return next((word for word in ("verdict", "would") if word in outcomes), outcomes[0])


def _name_values(step: Step, values: tuple[Any, ...]) -> tuple[str, str]:
    """The word for answers that are no verdicts, and their text where they are no values of ours."""
    first = values[0]
    if isinstance(first, Finding):
        return "finding", ""
    if step.is_monitor:
        word = "would"
    elif step.hook in {"rewrite", "sign"}:
        word = "edit"
    elif isinstance(first, UseForwardPath | UseReversePath | AddRecipient):
        word = "path"
    else:
        word = "route" if step.hook == "route" else "class"
    return word, str(first) if step.hook in {"route", "policy_class"} else ""
