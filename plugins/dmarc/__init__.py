"""DMARC (RFC 9989): may the author's domain be believed, and what does its owner want done if not?"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from gateway import AuthResult, DnsError, Message, Plugin, PluginOptions, Transaction, Verdict, defer, hook, quarantine, reject
from gateway.plugins.dmarc.evaluate import Answer, Answers, Evaluation, Identifier, Questions, evaluate
from gateway.plugins.dmarc.record import Record

_DOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_][a-z0-9_-]{0,62})*")
MAX_REPORTED = 40
"""Results of SPF and DKIM that a finding carries for reports."""
_SEVERITY = ("none", "quarantine", "reject")


class Options(PluginOptions):
    """`[plugin.dmarc]`."""

    verdict: Literal["off", "quarantine", "reject", "policy"] = "off"
    """What a failure costs where the domain's policy is not `none`: `off` nothing, `quarantine` held, `reject` refused,
    `policy` what the domain asks for."""
    temporary_error: Literal["ignore", "defer"] = "ignore"
    """`defer`: when DNS fails, the client is asked to try again (451 4.4.3)."""
    box: str = Field(default="default", pattern=r"[a-z0-9][a-z0-9_-]{0,31}")
    """Box of the quarantine."""
    max_author_domains: int = Field(default=4, ge=1, le=20)
    """Different domains in From that are evaluated, the worst counts; a message with more fails as `permerror`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DmarcFinding(AuthResult):
    """The result, with what a judge and `explain` need."""

    domain: str = ""
    policy: Literal["none", "quarantine", "reject"] = "none"
    """What the domain asks for, `t=y` taken into account; counts only when the result is `fail`."""
    policy_domain: str = ""
    organizational_domain: str = ""
    # What an aggregate report says beside it (RFC 9990): the journal reads these by name.
    requested: Literal["none", "quarantine", "reject"] = "none"
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
    """Why a failure costs nothing here: (`trusted_forwarder`, `mailing_list`, `local_policy` or `other`; a comment)."""


class Dmarc(Plugin[Options]):
    """The plugin."""

    gives: ClassVar[tuple[str, ...]] = ("auth.dmarc",)
    needs: ClassVar[tuple[str, ...]] = ("auth.spf", "auth.dkim")

    @hook
    async def check(self, transaction: Transaction, message: Message) -> DmarcFinding:
        """One result: of the author domain, or of the worst of several."""
        domains = list(dict.fromkeys(map(_a_label, message.author_domains)))
        if not domains:
            return DmarcFinding(method="dmarc", result="none", reason="no author domain in From")  # RFC 9989 5.3.1
        if len(domains) > self.options.max_author_domains:
            # Nobody writes so; it would be a way around the policy of the last of them.
            reason = f"{len(domains)} different author domains, at most {self.options.max_author_domains} are evaluated"
            return DmarcFinding(method="dmarc", result="permerror", reason=reason, policy="reject")
        results = transaction.findings.of(AuthResult)
        identifiers = _identifiers(results)
        evaluations = await asyncio.gather(*(self._evaluate(domain, identifiers) for domain in domains if domain))
        if "" in domains:
            evaluations.append(Evaluation(result="permerror", domain="", reason="an author's domain is not a domain name"))
        worst = max(evaluations, key=_severity)
        return _finding(worst, several=len(domains) if len(domains) > 1 else 0, authenticated=_authenticated(results))

    @hook(cheap=True)
    def judge(self, transaction: Transaction) -> Verdict | None:
        """By `verdict`; a domain that asks for nothing gets nothing (RFC 9989 5.4)."""
        for finding in transaction.findings.of(DmarcFinding):
            if finding.result == "temperror" and self.options.temporary_error == "defer":
                return defer("DMARC policy lookup failed, try again later", enhanced="4.4.3", reason="dmarc-temperror")
            if finding.result in {"fail", "permerror"} and finding.policy != "none":
                return self._verdict(finding)
        return None

    def _verdict(self, finding: DmarcFinding) -> Verdict | None:
        wanted = finding.policy if self.options.verdict == "policy" else self.options.verdict
        evidence = f"{finding.domain}: {finding.reason}" if finding.domain else finding.reason
        match wanted:
            case "quarantine":
                return quarantine("dmarc-fail", box=self.options.box, evidence=evidence)
            case "reject":
                # RFC 7372 3.4; RFC 9989 7.2 wants the word and the domain in the reply
                text = f"Message rejected per DMARC policy for {finding.domain}"
                if not finding.domain:
                    text = "Message rejected: too many author domains for DMARC"
                return reject(text, code=550, enhanced="5.7.26", reason="dmarc-fail", evidence=evidence)
            case _:
                return None

    async def _evaluate(self, domain: str, identifiers: Sequence[Identifier]) -> Evaluation:
        work = evaluate(domain, identifiers)
        questions = next(work)
        while True:
            try:
                questions = work.send(await self._ask(questions))
            except StopIteration as done:
                evaluation: Evaluation = done.value
                return evaluation

    async def _ask(self, questions: Questions) -> Answers:
        """All at once: the look-ups of a walk do not depend on each other."""
        ordered = sorted(questions)
        found = await asyncio.gather(*(self._ask_one(name, kind) for name, kind in ordered))
        return dict(zip(ordered, found, strict=True))

    async def _ask_one(self, name: str, kind: str) -> Answer:
        if len(name) > 253:
            return Answer(exists=False)
        try:
            answer = await self.context.resolver.query(name, kind)
        except DnsError:
            return Answer(failed=True)
        if kind != "TXT":
            return Answer(exists=answer.exists)
        texts = tuple(b"".join(strings).decode("ascii", "replace") for strings in answer.records[:20])
        return Answer(texts, exists=answer.exists)


def _a_label(domain: str) -> str:
    """Lower case, A-labels (RFC 9989 5.3.1); `` when it is no domain name."""
    if len(domain) > 254:
        return ""
    try:
        name = domain if domain.isascii() else domain.encode("idna").decode("ascii")
    except UnicodeError:
        return ""
    name = name.lower().rstrip(".")
    return name if _DOMAIN.fullmatch(name) else ""


def _identifiers(results: Sequence[AuthResult]) -> list[Identifier]:
    """What SPF (the MAIL FROM identity only, RFC 9989 4.4.2) and DKIM found."""
    found = []
    for one in results:
        mail_from, signer = one.property("smtp.mailfrom"), one.property("header.d")
        if one.method == "spf" and mail_from is not None:
            found.append(Identifier(method="spf", domain=_a_label(mail_from.rpartition("@")[2]), result=one.result))
        elif one.method == "dkim" and signer is not None:
            found.append(Identifier(method="dkim", domain=_a_label(signer), result=one.result))
    return found


def _authenticated(results: Sequence[AuthResult]) -> tuple[tuple[str, str, str, str], ...]:
    """The same for reports, domains as they were written. A signature without a domain cannot be reported."""
    found = []
    for one in results:
        mail_from, signer = one.property("smtp.mailfrom"), one.property("header.d")
        if one.method == "spf" and mail_from is not None:
            found.append(("spf", mail_from.rpartition("@")[2].lower(), "", one.result))
        elif one.method == "dkim" and signer:
            found.append(("dkim", signer.lower(), one.property("header.s") or "", one.result))
    return tuple(found[:MAX_REPORTED])


def _published(record: Record | None) -> tuple[tuple[str, str], ...]:
    """RFC 9990: the policy that was discovered, unspecified tags with their defaults."""
    if record is None:
        return ()
    tags = {"p": record.p, "sp": record.sp, "np": record.np, "adkim": record.adkim, "aspf": record.aspf, "fo": record.fo}
    return (*((name, value) for name, value in tags.items() if value), ("t", "y" if record.is_test else "n"))


def _severity(evaluation: Evaluation) -> tuple[int, int]:
    order = ("pass", "none", "permerror", "temperror", "fail")
    return order.index(evaluation.result), _SEVERITY.index(evaluation.policy)


def _finding(evaluation: Evaluation, *, several: int, authenticated: tuple[tuple[str, str, str, str], ...]) -> DmarcFinding:
    properties = [("header.from", evaluation.domain)] if evaluation.domain else []
    if evaluation.record is not None:  # RFC 9989 9.1
        properties.append(("polrec.p", evaluation.record.p))
        if evaluation.policy_domain != evaluation.domain:
            properties.append(("polrec.domain", evaluation.policy_domain))
    reason = evaluation.reason
    if evaluation.tag:
        where = "" if evaluation.policy_domain == evaluation.domain else f" of {evaluation.policy_domain}"
        reason = f"{evaluation.tag}={evaluation.published}{where}: {reason}"
    if several:
        reason = f"the worst of {several} author domains: {reason}"
    return DmarcFinding(
        method="dmarc",
        result=evaluation.result,
        reason=reason,
        properties=tuple(properties),
        domain=evaluation.domain,
        policy=evaluation.policy,
        policy_domain=evaluation.policy_domain,
        organizational_domain=evaluation.organizational_domain,
        requested=evaluation.published,
        published=_published(evaluation.record),
        rua=evaluation.record.rua if evaluation.record is not None else (),
        aligned=tuple(sorted({one.method for one in evaluation.aligned})),
        authenticated=authenticated,
    )
