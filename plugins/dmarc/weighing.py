"""What the options make of an evaluation: overrides, disposition, and the finding that says so (RFC 9989 5.4, 7.4, 11.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from gateway import AuthResult, Fact, Finding, Message, Transaction
from gateway.mailauth.dmarc import Policy, Record
from gateway.plugins.dmarc.evaluate import Evaluation
from gateway.plugins.dmarc.options import Options
from gateway.plugins.dmarc.overrides import Marks, Override, awaited_sealer, marks_of, override_of

MAX_REPORTED = 40
"""Results of SPF and DKIM that a finding carries for reports."""
_REMEMBERED = 10
"""Results with which a finding is remembered at most."""
_SEVERITY = ("none", "quarantine", "reject")
_NO_MARKS = Marks()


@dataclass(frozen=True, slots=True, kw_only=True)
class DmarcFinding(AuthResult):
    """The result, with what a judge, `explain` and reports need."""

    domain: str = ""
    policy: Policy = "none"
    """What the domain asks for, `t=y` taken into account; counts only when the result is `fail`."""
    policy_domain: str = ""
    """Where the record was found."""
    organizational_domain: str = ""
    # What an aggregate report says beside it (RFC 9990): the journal reads these by name.
    requested: Policy = "none"
    """What p, sp or np says, before t=y makes it milder."""
    published: tuple[tuple[str, str], ...] = ()
    """The record's tags, defaults filled in: (`p`, `reject`), (`adkim`, `r`), …; nothing where there is no record."""
    rua: tuple[str, ...] = ()
    """Where the domain's owner wants aggregate reports: URIs as written."""
    aligned: tuple[str, ...] = ()
    """Of `dkim` and `spf` those with an aligned pass."""
    authenticated: tuple[tuple[str, str, str, str], ...] = ()
    """What was evaluated: (method, domain, selector, result), as SPF and DKIM gave it."""
    override: tuple[str, str] = ("", "")
    """Why a failure does not cost what the domain asks for: (`trusted_forwarder`, `mailing_list` or `local_policy`; a comment)."""
    disposition: Policy = "none"
    """What the options make of a failure."""
    is_let_through: bool = False
    """A trusted forwarder, a mailing list or a trusted sealer of ARC stands for it."""
    awaited: str = ""
    """A trusted sealer whose ARC chain could not be verified for now: DNS failed."""
    is_unreadable: bool = False
    """From hides more authors than can be evaluated."""
    details: tuple[str, ...] = ()
    """Line by line: names asked, policy, each identifier."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """An evaluation, and what the options make of it."""

    evaluation: Evaluation
    marks: Marks
    override: Override | None = None
    disposition: Policy = "none"
    is_let_through: bool = False
    awaited: str = ""

    def findings(self, results: Sequence[AuthResult], *, several: int) -> list[Finding]:
        """The result; beside a failure also facts for rules."""
        evaluation = self.evaluation
        reported = authenticated(results)
        if evaluation.result != "fail" and not several and len(reported) <= _REMEMBERED:
            return [_known_finding(evaluation, reported)]
        finding = self.finding(reported, several)
        if evaluation.result != "fail":
            return [finding]
        facts = [Fact(name="dmarc.policy", value=evaluation.policy)]
        facts += [Fact(name="dmarc.forwarded", value=True)] if self.marks else []
        if self.is_let_through and self.override is not None:
            facts.append(Fact(name="dmarc.override", value=self.override.kind))
        return [finding, *facts]

    def finding(self, reported: tuple[tuple[str, str, str, str], ...], several: int) -> DmarcFinding:
        """The result alone. `reported`: what SPF and DKIM found, as in `authenticated`."""
        evaluation = self.evaluation
        return DmarcFinding(
            method="dmarc",
            result=evaluation.result,
            reason=self._reason(several),
            properties=self._properties(),
            domain=evaluation.domain,
            policy=evaluation.policy,
            policy_domain=evaluation.policy_domain,
            organizational_domain=evaluation.organizational_domain,
            requested=evaluation.published,
            published=_published(evaluation.record),
            rua=evaluation.record.rua if evaluation.record is not None else (),
            aligned=tuple(sorted({one.method for one in evaluation.aligned})),
            authenticated=reported,
            override=("", "") if self.override is None else (self.override.kind, self.override.comment),
            disposition=self.disposition,
            is_let_through=self.is_let_through,
            awaited=self.awaited,
            details=(*evaluation.details, *(f"looks like forwarding: {mark}" for mark in self.marks.of_the_message)),
        )

    def _reason(self, several: int) -> str:
        evaluation = self.evaluation
        reason = evaluation.reason
        if evaluation.tag:
            where = "" if evaluation.policy_domain == evaluation.domain else f" of {evaluation.policy_domain}"
            reason = f"{evaluation.tag}={evaluation.published}{where}: {reason}"
        if several:
            reason = f"the worst of {several} author domains: {reason}"
        return f"let through, {self.override}; {reason}" if self.is_let_through else reason

    def _properties(self) -> tuple[tuple[str, str], ...]:
        evaluation = self.evaluation
        found = [("header.from", evaluation.domain)] if evaluation.domain else []
        found += [("policy.dmarc", evaluation.policy)] if evaluation.tag else []  # RFC 9989 9.1
        if self.is_let_through and self.override is not None:
            found.append(("policy.override", self.override.kind))
        return tuple(found)


@lru_cache(maxsize=300)
def _known_finding(evaluation: Evaluation, reported: tuple[tuple[str, str, str, str], ...]) -> DmarcFinding:
    """Of one that is no failure: the same evaluation, which most mail of a sender comes to, is told in the same words."""
    return Weighed(evaluation, _NO_MARKS).finding(reported, 0)


def weigh(evaluation: Evaluation, options: Options, transaction: Transaction, message: Message, *, with_arc: bool) -> Weighed:
    """What the options make of it, and why that is not what the domain's owner asks for."""
    if evaluation.result != "fail":
        return Weighed(evaluation, _NO_MARKS)
    marks = marks_of(evaluation, transaction, message)
    override = override_of(
        evaluation,
        marks,
        transaction,
        message,
        forwarders=options.trusted_forwarders,
        lists=options.mailing_lists,
        with_arc=with_arc,
    )
    if override is not None:
        return Weighed(evaluation, marks, override, is_let_through=True)
    disposition = _disposition(options.verdict, evaluation.policy, marks)
    if disposition != evaluation.policy:
        why = f"; {marks.of_the_message[0]}" if options.verdict == "careful" and marks else ""
        override = Override("local_policy", f'verdict = "{options.verdict}"{why}')
    awaited = awaited_sealer(transaction.findings.of(AuthResult)) if with_arc else ""
    return Weighed(evaluation, marks, override, disposition, awaited=awaited)


def authenticated(results: Sequence[AuthResult]) -> tuple[tuple[str, str, str, str], ...]:
    """What SPF and DKIM found, for reports, domains as they were written. A signature without a domain cannot be reported."""
    found = []
    for one in results:
        if one.method == "spf" and (mail_from := one.property("smtp.mailfrom")) is not None:
            found.append(("spf", mail_from.rpartition("@")[2].lower(), "", one.result))
        elif one.method == "dkim" and (signer := one.property("header.d")):
            found.append(("dkim", signer.lower(), one.property("header.s") or "", one.result))
    return tuple(found[:MAX_REPORTED])


def _published(record: Record | None) -> tuple[tuple[str, str], ...]:
    """RFC 9990: the policy that was discovered, unspecified tags with their defaults."""
    if record is None:
        return ()
    tags = {"p": record.p, "sp": record.sp, "np": record.np, "adkim": record.adkim, "aspf": record.aspf, "fo": record.fo}
    tags["t"] = "y" if record.is_test else "n"
    return tuple([(name, value) for name, value in tags.items() if value])


def severity(weighed: Weighed) -> tuple[int, int]:
    """Of several authors the strictest policy of those that fail counts (RFC 9989 11.5); nobody is let through for another."""
    order = ("pass", "none", "let through", "permerror", "temperror", "fail")
    evaluation = weighed.evaluation
    result = "let through" if weighed.is_let_through else evaluation.result
    return order.index(result), _SEVERITY.index(evaluation.policy)


def _disposition(verdict: str, policy: Policy, marks: Marks) -> Policy:
    """What the options make of a failure that nobody stands for; p=none changes nothing (RFC 9989 5.4)."""
    if policy == "none" or verdict == "off":
        return "none"
    if verdict == "quarantine":
        return "quarantine"
    if verdict == "careful" and marks:
        return "quarantine"  # RFC 9989 7.4: as if it were p=quarantine
    return "reject" if verdict == "reject" else policy
