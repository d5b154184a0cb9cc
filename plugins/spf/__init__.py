"""SPF: may this client use this reverse-path and this HELO name? RFC 7208, reported as in RFC 8601 2.7.2.

Two findings of the method `spf`: one with `smtp.mailfrom`, one with `smtp.helo`. Nothing is refused unless the options say so.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

from pydantic import Field

from gateway import (
    AddHeader,
    AuthResult,
    ClientClass,
    Duration,
    Path,
    Plugin,
    PluginOptions,
    Session,
    Transaction,
    Verdict,
    add_header,
    defer,
    hook,
    quarantine,
    reject,
)
from gateway.plugins.spf.domains import multi_label
from gateway.plugins.spf.evaluation import MAX_LOCAL_PART, RESULTS, SpfResult, evaluate, plain_address
from gateway.plugins.spf.memory import Memory
from gateway.plugins.spf.received import NAME, render

Answer = Literal["accept", "reject", "defer", "quarantine"]
"""`accept` leaves the decision to others."""
NoReject = Literal["accept", "defer", "quarantine"]
"""A failure of DNS refuses nothing for good (RFC 7208 8.6)."""


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
    temperror: NoReject = "accept"
    """DNS failed."""
    helo_fail: Answer = "accept"
    """The HELO name says that this client must not use it."""
    helo_softfail: Answer = "accept"
    """The HELO name says that this client probably must not."""
    helo_permerror: Answer = "accept"
    """The HELO name's record is wrong."""
    helo_temperror: NoReject = "accept"
    """DNS failed for the HELO name."""
    helo: Literal["always", "null"] = "always"
    """`null`: look at the HELO name only for the null reverse-path, where it is all there is (RFC 7208 2.4)."""
    received_spf: bool = False
    """Add a Received-SPF field for each identity (RFC 7208 9.1)."""
    box: str = Field(default="default", pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    """Quarantine box for what `quarantine` holds."""
    all_clients: bool = False
    """Also check authenticated clients and trusted networks; their addresses are in nobody's record."""
    void_limit: int = Field(default=2, ge=0, le=20)
    """Terms whose look-ups have no answer before the record counts as wrong (RFC 7208 4.6.4)."""
    time_limit: Duration = Field(default=8.0, gt=0)
    """For all look-ups of one identity together; never more than nine tenths of the plugin's `timeout`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpfFinding(AuthResult):
    """The result for one identity."""

    explanation: str = ""
    """The domain owner's words for a failure, cleaned; a stranger's text."""
    found: SpfResult = field(default=SpfResult(result="none"), repr=False, compare=False)
    """The whole result."""


class Spf(Plugin[Options]):
    """Gives `auth.spf`."""

    gives: ClassVar[tuple[str, ...]] = ("auth.spf",)

    @cached_property
    def _memory(self) -> Memory[SpfResult]:
        return Memory()

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
        sender, of_helo = await self._both(session, address, path)
        mailbox = f"{path.local_part}@{sender.domain or path.domain}"
        first = _finding(sender, address, "smtp.mailfrom", mailbox)
        if of_helo is None:
            return (first,)
        return first, _finding(of_helo, address, "smtp.helo", session.helo)

    @hook
    async def judge(self, transaction: Transaction) -> Verdict | None:
        """By the options; the MAIL FROM identity first."""
        if not self._decides:
            return None
        for finding in self._own(transaction):
            front = "" if finding.property("smtp.mailfrom") is not None else "helo_"
            answer = self._answers.get(f"{front}{finding.result}", "accept")
            verdict = None if answer == "accept" else self._verdict(answer, finding)
            if verdict is not None:
                return verdict
        return None

    @hook(cheap=True)
    def rewrite(self, transaction: Transaction) -> list[AddHeader] | None:
        """Received-SPF, where it is asked for: that of MAIL FROM ends above that of HELO."""
        if not self.options.received_spf:
            return None
        session = transaction.session
        client = plain_address(session.client_address) or ""
        fields = []
        for one in reversed(self._own(transaction)):
            ((name, who),) = one.properties
            identity = name.removeprefix("smtp.")
            body = render(
                one.found,
                identity=identity,
                who=who,
                client=client,
                helo=session.helo,
                receiver=self.context.server_name,
                is_null=transaction.reverse_path.is_null,
            )
            fields.append(add_header(NAME, body))
        return fields

    @cached_property
    def _answers(self) -> dict[str, Answer]:
        """What the options say to each result, by their names."""
        results = [f"{front}{result}" for front in ("", "helo_") for result in RESULTS]
        return {name: getattr(self.options, name) for name in results if name in type(self.options).model_fields}

    @cached_property
    def _decides(self) -> bool:
        """Some result is answered with more than leaving it to others."""
        return any(answer != "accept" for answer in self._answers.values())

    def _own(self, transaction: Transaction) -> list[SpfFinding]:
        """The findings that this use of the plugin gave: another may stand in the chain with other options."""
        return transaction.findings.by(self.name, SpfFinding)

    async def _both(self, session: Session, address: str, path: Path) -> tuple[SpfResult, SpfResult | None]:
        """MAIL FROM, and HELO where it is to be looked at: at once, each with its own time, unless both are known already."""
        wants_helo = self.options.helo == "always"
        if len(path.local_part) <= MAX_LOCAL_PART:
            sender = await self._recall(address, path.domain)
            of_helo = await self._recall(address, session.helo) if wants_helo and sender is not None else None
            if sender is not None and (of_helo is not None or not wants_helo):
                return sender, of_helo
        if not wants_helo:
            return await self._evaluate(session, address, path.local_part, path.domain), None
        async with asyncio.TaskGroup() as both:
            task = both.create_task(self._evaluate(session, address, "postmaster", session.helo))
            sender = await self._evaluate(session, address, path.local_part, path.domain)
        return sender, task.result()

    async def _recall(self, address: str, domain: str) -> SpfResult | None:
        name = multi_label(domain)
        return None if name is None else await self._memory.recall(address, name, self.context.resolver)

    async def _evaluate(self, session: Session, address: str, local_part: str, domain: str) -> SpfResult:
        return await evaluate(
            self.context.resolver,
            address=address,
            local_part=local_part,
            domain=domain,
            helo=session.helo,
            receiver=self.context.server_name,
            void_limit=self.options.void_limit,
            time_limit=min(self.options.time_limit, 0.9 * self.hook_limit),
            memory=self._memory,
        )

    def _verdict(self, answer: Answer, finding: SpfFinding) -> Verdict | None:
        reason = f"spf-{finding.result}"
        match answer:
            case "accept":
                return None
            case "quarantine":
                return quarantine(reason, box=self.options.box, evidence=finding.reason)
            case "defer":
                return defer(_text(finding), code=451, enhanced=f"4.{_detail(finding)}", reason=reason, evidence=finding.reason)
            case "reject":
                return reject(_text(finding), code=550, enhanced=f"5.{_detail(finding)}", reason=reason, evidence=finding.reason)


def _detail(finding: SpfFinding) -> str:
    """Subject and detail of the enhanced code (RFC 7372 3.2, RFC 7208 8.6)."""
    return {"permerror": "7.24", "temperror": "4.3"}.get(finding.result, "7.23")


def _finding(result: SpfResult, address: str, name: str, value: str) -> SpfFinding:
    return SpfFinding(
        method="spf",
        result=result.result,
        reason=result.evidence(address),
        properties=((name, value),),
        explanation=result.explanation,
        found=result,
    )


def _text(finding: SpfFinding) -> str:
    """For the peer: which identity, which result, and, as the words of another, what the domain's owner says (RFC 7208 6.2, 8.4)."""
    identity = "MAIL FROM" if finding.property("smtp.mailfrom") is not None else "HELO"
    text = f"SPF {identity} check: {finding.result}"
    domain = finding.properties[0][1].rpartition("@")[2]
    shown = multi_label(domain)
    if shown is not None and shown.isascii() and shown.isprintable():
        text += f" for {shown[:100]}"
    return f"{text}; the domain explains: {finding.explanation}" if finding.explanation else text
