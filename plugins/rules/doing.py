"""What follows where rules hold: answers for the chain, edits for `rewrite`, and who is left for the rules below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

from gateway import (
    Accept,
    AddRecipient,
    Defer,
    Discard,
    Edit,
    Label,
    Note,
    Recipient,
    Redirect,
    Reject,
    Score,
    UseForwardPath,
    Verdict,
    Would,
    defer,
    discard,
    skip,
    would,
)
from gateway.plugins.rules.facts import Subject
from gateway.plugins.rules.rule import Rule

Answer: TypeAlias = Verdict | Note | Score | Label
AtRcpt: TypeAlias = Accept | Reject | Defer | Discard | Redirect | UseForwardPath | AddRecipient | Would


class Doing:
    """The rules of a group that held for one message, so far."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.left = subject.transaction.undecided
        """Recipients that no rule has decided yet."""
        self.answers: list[Answer] = []
        self.edits: list[Edit] = []
        self.is_junk = False
        self._everybody = len(self.left)

    def carry_out(self, rule: Rule, matched: Sequence[Recipient]) -> None:
        """What a rule says that holds for these recipients."""
        verdict = self._verdict(rule, matched)
        gone = rule.removed(matched)
        if rule.mode == "monitor":
            wishes: list[Verdict] = [discard(rule.reason, evidence=rule.evidence).only(*gone)] if gone else []
            if verdict is not None or not wishes:
                self.answers.append(would(verdict, reason=rule.reason, evidence=rule.evidence))
            self.answers += [would(wish, reason=rule.reason, evidence=rule.evidence) for wish in wishes]
            return
        self.answers += [Score(symbol=symbol, weight=weight, evidence=rule.evidence) for symbol, weight in rule.scores]
        self.subject.score += sum(weight for _, weight in rule.scores)
        labels = [Label(name=name, evidence=rule.evidence) for name in rule.labels]
        for action in rule.changing:
            edits, why_not = action.change(self.subject)
            self.edits += edits
            labels += why_not
        self.answers += labels
        self.subject.labels += tuple(label.name for label in labels)
        if rule.skips:
            self.answers.append(skip(*rule.skips, reason=rule.reason, evidence=rule.evidence))
        self.edits += rule.edits(self.subject.message)
        self.is_junk = self.is_junk or rule.is_junk
        if gone:
            self._decide(discard(rule.reason, evidence=rule.evidence).only(*gone), gone)
            matched = [one for one in matched if one.mailbox not in gone]
            verdict = self._verdict(rule, matched)
        if verdict is not None and matched:
            self._decide(verdict, [one.mailbox for one in matched])

    def _verdict(self, rule: Rule, matched: Sequence[Recipient]) -> Verdict | None:
        verdict = rule.verdict
        if isinstance(verdict, Redirect) and len(matched) < len(self.subject.transaction.recipients):
            # Design 2: one transaction is one delivery. Deferred, the recipients come apart: then each is all there are.
            evidence = f"{rule.evidence}: redirect to {verdict.next_hop!r} is for all recipients at once, and others are decided"
            verdict = defer(
                "This recipient goes another way, send again", enhanced="4.5.3", reason=rule.reason, evidence=evidence
            )
        if verdict is not None and len(matched) < self._everybody:
            verdict = verdict.only(*(one.mailbox for one in matched))
        return verdict

    def _decide(self, verdict: Verdict, mailboxes: Sequence[str]) -> None:
        self.answers.append(verdict)
        decided = set(mailboxes)
        self.left = [one for one in self.left if one.mailbox not in decided]


def asked_at_rcpt(rules: Sequence[Rule], subject: Subject, recipient: Recipient, held: list[str] | None = None) -> list[AtRcpt]:
    """What rules about the envelope say of one recipient; `held` gets the names of those that hold. ValueError as `Expression.holds`."""
    transaction = subject.transaction
    answers: list[AtRcpt] = []
    for rule in rules:
        try:
            holds = rule.expression.holds(subject)
        except ValueError as error:
            raise ValueError(f"rule {rule.name!r}: {error}") from error
        if not holds:
            continue
        if held is not None:
            held.append(rule.name)
        if rule.mode == "monitor":
            answers.append(would(rule.verdict, reason=rule.reason, evidence=rule.evidence))
            continue
        answers += rule.paths(transaction, recipient)
        if rule.verdict is not None:
            answers.append(cast("AtRcpt", rule.verdict))
            break
    return answers
