"""Loops and automatic replies (RFC 3834, RFC 5321 6.3): out-of-office notes do not answer each other for ever. Shows counting in the store."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from gateway import (
    Duration,
    Fact,
    Message,
    Plugin,
    PluginOptions,
    Recipient,
    Transaction,
    Verdict,
    discard,
    hook,
    mailbox_key,
    quarantine,
    reject,
)

MAX_FIELDS = 100
"""Delivered-To and X-Loop fields that are looked at."""
_KEYWORD = re.compile(r"\s*([A-Za-z0-9-]{1,64})")
_BULK = {"bulk": "bulk", "junk": "bulk", "list": "list", "auto_reply": "auto-replied"}
COUNTED = frozenset(["auto-replied", "null-sender"])
"""Kinds that are counted: replies that nobody reads before they are sent."""


class Options(PluginOptions):
    """What is a loop, and how many automatic replies are too many."""

    delivered_to: tuple[str, ...] = ("Delivered-To", "X-Loop")
    """Fields that servers and lists leave: one that names the recipient means that the message was there before."""
    replies: int = Field(default=5, ge=1)
    """Automatic replies from one sender to one recipient …"""
    window: Duration = Field(default=3600.0, gt=0)
    """… in so long; what comes beyond is refused."""
    then: Literal["reject", "discard", "quarantine"] = "reject"
    """What becomes of those. Their reverse-path is null as a rule, so that nobody gets a bounce."""


class Loops(Plugin[Options]):
    """Says what is automatic, and stops what goes round."""

    @hook(cheap=True)
    def check(self, transaction: Transaction, message: Message) -> list[Fact]:
        """What kind of automatic mail it is, if any."""
        kind = automatic(transaction, message)
        return [Fact(name="loops.automatic", value=kind)] if kind else []

    @hook
    async def judge(self, transaction: Transaction, message: Message) -> list[Verdict]:
        """554 5.4.6 for recipients that had the message before, and the limit on automatic replies."""
        verdicts: list[Verdict] = []
        seen = set(self._delivered_to(message))
        kind = automatic(transaction, message)
        for recipient in transaction.undecided:
            address = mailbox_key(recipient.forward_path).address
            if address in seen:
                looped = reject(
                    "Too many hops: this message is in a loop",
                    code=554,
                    enhanced="5.4.6",
                    reason="mail-loop",
                    evidence=f"a Delivered-To or X-Loop field names {address}",
                )
                verdicts.append(looped.only(recipient.mailbox))
            elif kind in COUNTED and (count := await self._count(transaction, message, address)) > self.options.replies:
                verdicts.append(self._too_many(recipient, f"{kind}, number {count} within {self.options.window:g} s"))
        return verdicts

    def _delivered_to(self, message: Message) -> Iterator[str]:
        for name in self.options.delivered_to:
            for field in message.fields_named(name)[:MAX_FIELDS]:
                yield field.value.strip().strip("<>").casefold()

    async def _count(self, transaction: Transaction, message: Message, address: str) -> int:
        """How many there were, with this one. A key that a sender makes is hashed: it has the length it has."""
        sender = mailbox_key(transaction.reverse_path).address or ",".join(message.author_addresses).casefold()
        key = hashlib.sha256(f"{sender}\0{address}".encode("utf-8", "replace")).hexdigest()
        return await self.context.store.incr(key, ttl=self.options.window)

    def _too_many(self, recipient: Recipient, evidence: str) -> Verdict:
        match self.options.then:
            case "discard":
                return discard("automatic-replies", evidence=evidence).only(recipient.mailbox)
            case "quarantine":
                return quarantine("automatic-replies", evidence=evidence).only(recipient.mailbox)
            case "reject":
                return reject(
                    "Too many automatic replies to this recipient",
                    code=550,
                    enhanced="5.7.1",
                    reason="automatic-replies",
                    evidence=evidence,
                ).only(recipient.mailbox)


def automatic(transaction: Transaction, message: Message) -> str:
    """`auto-replied`, `auto-generated` and so on as Auto-Submitted says (RFC 3834 5), `report`, `list`, `bulk`, `null-sender` or ``."""
    declared = message.field("auto-submitted")
    if declared is not None and (found := _KEYWORD.match(declared.value)) and found[1].lower() != "no":
        return found[1].lower()
    precedence = message.field("precedence")
    kind = _BULK.get(precedence.value.strip().lower(), "") if precedence is not None else ""
    if kind:
        return kind
    if message.field("x-autoreply") is not None or message.field("x-autorespond") is not None:
        return "auto-replied"
    if message.field("list-id") is not None:
        return "list"
    content_type = message.field("content-type")
    if content_type is not None and content_type.value.strip().lower().startswith("multipart/report"):  # RFC 6522
        return "report"
    return "null-sender" if transaction.reverse_path.is_null else ""
