"""SPF: may this client use this reverse-path and this HELO name? RFC 7208, reported as in RFC 8601 2.7.2.

Two findings of the method `spf`: one with `smtp.mailfrom`, one with `smtp.helo`. Nothing is refused unless the options say so.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from gateway import (
    AuthResult,
    ClientClass,
    Duration,
    Plugin,
    PluginOptions,
    Session,
    Transaction,
    Verdict,
    defer,
    hook,
    quarantine,
    reject,
)
from gateway.plugins.spf.domains import a_labels
from gateway.plugins.spf.evaluation import SpfResult, evaluate, plain_address

Answer = Literal["accept", "reject", "defer", "quarantine"]
"""`accept` leaves the decision to others."""


class Options(PluginOptions):
    """What each result of the MAIL FROM identity costs, and the limits of an evaluation."""

    fail: Answer = "accept"
    """The domain says that this client must not use it."""
    softfail: Answer = "accept"
    """The domain says that this client probably must not."""
    neutral: Answer = "accept"
    """The domain says nothing about this client."""
    none: Answer = "accept"
    """The domain has no SPF record."""
    permerror: Answer = "accept"
    """The domain's record is wrong."""
    temperror: Answer = "accept"
    """DNS failed."""
    helo_fail: Answer = "accept"
    """The HELO name says that this client must not use it."""
    box: str = Field(default="default", pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    """Quarantine box for what `quarantine` holds."""
    all_clients: bool = False
    """Also check authenticated clients and trusted networks; their addresses are in nobody's record."""
    void_limit: int = Field(default=2, ge=0, le=20)
    """Look-ups without an answer before the record counts as wrong (RFC 7208 4.6.4)."""
    time_limit: Duration = Field(default=8.0, gt=0)
    """For all look-ups of one identity together; less than the plugin's `timeout`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpfFinding(AuthResult):
    """The result for one identity."""

    explanation: str = ""
    """The domain owner's words for a failure, cleaned; a stranger's text."""


class Spf(Plugin[Options]):
    """Gives `auth.spf`."""

    gives: ClassVar[tuple[str, ...]] = ("auth.spf",)

    @hook
    async def check(self, transaction: Transaction) -> tuple[SpfFinding, ...] | None:
        """Both identities. No finding for a client without an address, or one that is not a stranger."""
        session = transaction.session
        address = plain_address(session.client_address)
        if address is None or (session.client_class is not ClientClass.STRANGER and not self.options.all_clients):
            return None
        path = transaction.reverse_path
        if path.is_null:  # RFC 7208 2.4: the identity is then postmaster at the HELO name
            helo = await self._evaluate(session, address, "postmaster", session.helo)
            return _finding(helo, address, "smtp.mailfrom", f"postmaster@{session.helo}"), _finding(
                helo, address, "smtp.helo", session.helo
            )
        async with asyncio.TaskGroup() as both:
            of_helo = both.create_task(self._evaluate(session, address, "postmaster", session.helo))
            sender = await self._evaluate(session, address, path.local_part, path.domain)
        helo = of_helo.result()
        mailbox = f"{path.local_part}@{sender.domain or path.domain}"
        return _finding(sender, address, "smtp.mailfrom", mailbox), _finding(helo, address, "smtp.helo", session.helo)

    @hook
    async def judge(self, transaction: Transaction) -> Verdict | None:
        """By the options; the MAIL FROM identity first."""
        for plugin, finding in transaction.findings.attributed():
            if plugin != self.name or not isinstance(finding, SpfFinding):
                continue
            if finding.property("smtp.mailfrom") is not None:
                answer: Answer = getattr(self.options, finding.result, "accept")
            elif finding.result == "fail":
                answer = self.options.helo_fail
            else:
                continue
            verdict = self._verdict(answer, finding)
            if verdict is not None:
                return verdict
        return None

    async def _evaluate(self, session: Session, address: str, local_part: str, domain: str) -> SpfResult:
        return await evaluate(
            self.context.resolver,
            address=address,
            local_part=local_part,
            domain=domain,
            helo=session.helo,
            receiver=self.context.server_name,
            void_limit=self.options.void_limit,
            time_limit=self.options.time_limit,
        )

    def _verdict(self, answer: Answer, finding: SpfFinding) -> Verdict | None:
        reason = f"spf-{finding.result}"
        match answer:
            case "accept":
                return None
            case "quarantine":
                return quarantine(reason, box=self.options.box, evidence=finding.reason)
            case "defer":
                return defer(_text(finding), code=451, enhanced="4.7.24", reason=reason, evidence=finding.reason)
            case "reject":
                # RFC 7372 3.2: 5.7.23 for a failure, 5.7.24 for an error of the record or of DNS
                enhanced = "5.7.24" if finding.result in {"permerror", "temperror"} else "5.7.23"
                return reject(_text(finding), code=550, enhanced=enhanced, reason=reason, evidence=finding.reason)


def _finding(result: SpfResult, address: str, name: str, value: str) -> SpfFinding:
    what = result.problem or (f"{result.mechanism} matches {address}" if result.mechanism else "")
    properties = ((name, value),)
    return SpfFinding(method="spf", result=result.result, reason=what, properties=properties, explanation=result.explanation)


def _text(finding: SpfFinding) -> str:
    """For the peer: which identity, which result, and the explanation of the domain's owner (RFC 7208 6.2, 8.4)."""
    identity = "MAIL FROM" if finding.property("smtp.mailfrom") is not None else "HELO"
    text = f"SPF {identity} check: {finding.result}"
    domain = finding.properties[0][1].rpartition("@")[2]
    shown = a_labels(domain)
    if shown is not None and shown.isascii() and shown.isprintable():
        text += f" for {shown[:100]}"
    return f"{text}; it explains: {finding.explanation}" if finding.explanation else text
