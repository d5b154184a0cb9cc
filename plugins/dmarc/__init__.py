"""DMARC (RFC 9989): may the author's domain be believed, and what does its owner want done if not?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from gateway import (
    AuthResult,
    ClientClass,
    DnsError,
    Finding,
    Message,
    Plugin,
    Transaction,
    Verdict,
    defer,
    hook,
    quarantine,
    reject,
)
from gateway.at_hand import answers_to
from gateway.mailauth.dmarc import Answer, Answers, Policy, Questions, txt_answer
from gateway.plugins.dmarc.authors import a_label, read_authors
from gateway.plugins.dmarc.evaluate import Evaluation, Identifier, evaluate
from gateway.plugins.dmarc.options import Options
from gateway.plugins.dmarc.weighing import DmarcFinding, severity, weigh

__all__ = ["Dmarc", "DmarcFinding", "Options"]

_MAX_NAME = 253
"""Octets of a name that can be asked for (RFC 1035 2.3.4)."""
_MAX_REPLY = 300
"""Characters of a reply's text: with code, id and line end it fits into one line (RFC 5321 4.5.3.1.5)."""


class Dmarc(Plugin[Options]):
    """The plugin."""

    gives: ClassVar[tuple[str, ...]] = ("auth.dmarc",)
    needs: ClassVar[tuple[str, ...]] = ("auth.spf", "auth.dkim", "auth.arc", "auth.iprev")

    @hook
    async def check(self, transaction: Transaction, message: Message) -> Sequence[Finding] | None:
        """One result: of the author domain, or of the worst of several; facts for rules beside a failure."""
        results = transaction.findings.of(AuthResult)
        if not (self.options.all_clients or transaction.session.client_class is ClientClass.STRANGER or _has_spf(results)):
            return None  # its address stands in nobody's record, and its mail is perhaps not signed yet
        authors = read_authors(message, self.options.max_author_domains)
        if authors.problem:  # it would be a way around the policy of the one that is not seen
            disposition: Policy = "quarantine" if self.options.verdict in {"quarantine", "careful"} else "reject"
            return [
                DmarcFinding(
                    method="dmarc",
                    result="permerror",
                    reason=authors.problem,
                    policy="reject",
                    disposition="none" if self.options.verdict == "off" else disposition,
                    is_unreadable=True,
                )
            ]
        if not authors.domains and not authors.malformed:
            literal = "the author's host has no name" if authors.has_literal else "no author domain in From"
            return [DmarcFinding(method="dmarc", result="none", reason=literal)]  # RFC 9989 5.3.1
        identifiers = _identifiers(results)
        if len(authors.domains) == 1:  # without a task: it is the common case
            evaluations = [await self._evaluate(authors.domains[0], identifiers)]
        else:
            evaluations = await asyncio.gather(*(self._evaluate(domain, identifiers) for domain in authors.domains))
        if authors.malformed:
            reason = "an author's domain is not a domain name"
            evaluations.append(Evaluation(result="permerror", domain="", reason=reason, details=authors.malformed[:5]))
        with_arc = self.options.trust_arc and len(evaluations) == 1  # a sealer speaks for one author
        weighed = [weigh(one, self.options, transaction, message, with_arc=with_arc) for one in evaluations]
        worst = weighed[0] if len(weighed) == 1 else max(weighed, key=severity)
        return worst.findings(results, several=len(evaluations) if len(evaluations) > 1 else 0)

    @hook(cheap=True)
    def judge(self, transaction: Transaction) -> Verdict | None:
        """By `verdict`; a domain that asks for nothing gets nothing (RFC 9989 5.4)."""
        for finding in transaction.findings.of(DmarcFinding):
            is_open = finding.result == "temperror" or (finding.awaited != "" and finding.disposition != "none")
            if is_open and self.options.temperror == "defer":
                evidence = f"the ARC chain of {finding.awaited} could not be looked up" if finding.awaited else finding.reason
                return defer(
                    "DMARC policy lookup failed, try again later", enhanced="4.4.3", reason="dmarc-temperror", evidence=evidence
                )
            if finding.result == "none" and not finding.domain:
                return self._without_author(finding)
            if finding.result in {"fail", "permerror"}:
                return self._verdict(finding)
        return None

    def _without_author(self, finding: DmarcFinding) -> Verdict | None:
        match self.options.without_author:
            case "quarantine":
                return quarantine("dmarc-no-author", box=self.options.box, evidence=finding.reason)
            case "reject":
                # RFC 5322 3.6: From is a must; RFC 9989 11.5 leaves it to the receiver
                why = finding.reason
                return reject("From names no author's domain", code=550, enhanced="5.7.1", reason="dmarc-no-author", evidence=why)
            case _:
                return None

    def _verdict(self, finding: DmarcFinding) -> Verdict | None:
        evidence = f"{finding.domain}: {finding.reason}" if finding.domain else finding.reason
        match finding.disposition:
            case "quarantine":
                return quarantine("dmarc-fail", box=self.options.box, evidence=evidence)
            case "reject":
                # RFC 7372 3.4; RFC 9989 7.2 wants the word and the domain in the reply
                return reject(self._reply(finding), code=550, enhanced="5.7.26", reason="dmarc-fail", evidence=evidence)
            case _:
                return None

    def _reply(self, finding: DmarcFinding) -> str:
        """Whose policy it is, and where to learn more; without that where both do not fit."""
        if finding.is_unreadable:
            text, more = "Message rejected: too many authors in From for DMARC", ""
        else:
            text = f"Message rejected per DMARC policy for {finding.domain}"
            more = f", published at _dmarc.{finding.policy_domain}"
        if self.options.learn_more and (finding.domain or "{domain}" not in self.options.learn_more):
            more = f"; see {self.options.learn_more.replace('{domain}', finding.domain)}"
        return text + more if len(text) + len(more) <= _MAX_REPLY else text

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
        ordered = sorted([one for one in questions if len(one[0]) <= _MAX_NAME])
        answers: dict[tuple[str, str], Answer] = {}
        if len(ordered) < len(questions):
            answers.update(dict.fromkeys(questions, Answer(exists=False)))
        for question, answer in zip(ordered, await answers_to(self.context.resolver, ordered), strict=True):
            if isinstance(answer, DnsError):
                answers[question] = Answer(failed=True)
            elif question[1] != "TXT":
                answers[question] = Answer(exists=answer.exists)
            else:
                answers[question] = txt_answer(answer.records, exists=answer.exists)
        return answers


def _has_spf(results: Sequence[AuthResult]) -> bool:
    """SPF was checked all the same: by `upstream`, or because its options say so."""
    return any(one.method == "spf" and one.property("smtp.mailfrom") is not None for one in results)


def _identifiers(results: Sequence[AuthResult]) -> list[Identifier]:
    """What SPF (the MAIL FROM identity only, RFC 9989 4.4.2) and DKIM found."""
    found = []
    for one in results:
        if one.method == "spf" and (mail_from := one.property("smtp.mailfrom")) is not None:
            found.append(Identifier(method="spf", domain=a_label(mail_from.rpartition("@")[2]), result=one.result))
        elif one.method == "dkim" and (signer := one.property("header.d")) is not None:
            selector = one.property("header.s") or ""
            found.append(Identifier(method="dkim", domain=a_label(signer), result=one.result, selector=selector))
    return found[:100]
