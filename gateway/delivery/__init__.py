"""The order of the promises (docs/promises.md), kept here and nowhere else: one owner of the message at every moment.

(a) a plan; (b) copies pending and discards recorded, durably; (c) the next hop answers; (d) pending becomes held; (e) the
reply. What fails before (c) has sent nothing; what fails after it is told to the client as 4xx, and the ledger spares it the
duplicate. Whoever calls shields this from the client's hanging up; a cancellation at any await leaves the client without a
reply and every pending copy dropped.
"""

from __future__ import annotations

import math
from contextlib import suppress

from gateway import metrics
from gateway.delivery.behind_mta import HintsOnly
from gateway.delivery.carrying import carry_out
from gateway.delivery.parcel import Copies, Envelope, Handover, Memory, Parcel, Records, attempt_of
from gateway.errors import StorageError
from gateway.message import Message
from gateway.outcome import NOTHING, Ability, Admission, Arrival, History, Plan, Settlement, failed
from gateway.smtp.replies import Reply
from gateway.transaction import Recipient, Transaction

__all__ = ["Copies", "Delivery", "Envelope", "Handover", "Memory", "Parcel", "Records", "ability_of", "attempt_of", "carry_out"]

_ADMISSION = "delivery.admission"


def ability_of(transaction: Transaction, *, trusted: bool) -> Ability:
    """How the client of a transaction can be answered after the content."""
    if transaction.session.protocol == "lmtp":
        return Ability.LMTP
    if transaction.parameters and transaction.parameter("PRDR") is not None:
        return Ability.PRDR
    return Ability.SUBMISSION if trusted else Ability.SMTP


class Delivery:
    """What a session needs of this module: who may join a transaction, what is known of a message, its carrying out."""

    def __init__(self, *, quarantine: Copies, journal: Records, ledger: Memory, max_classes: int = 4) -> None:
        self._quarantine = quarantine
        self._journal = journal
        self._ledger = ledger
        self._max_classes = max_classes

    def has_hints(self, since: float = math.inf) -> bool:
        """A transaction that ended before `since`, the loop time of MAIL, may have left a hint: `admit` must be asked, where else
        `admit_first` will do.
        """
        return self._ledger.has_hints(since)

    def behind_mta(self) -> Delivery:
        """The same for a milter: the message stays the MTA's until we answer it, so that nothing is ever delivered by us."""
        return Delivery(
            quarantine=self._quarantine, journal=self._journal, ledger=HintsOnly(self._ledger), max_classes=self._max_classes
        )

    def admit_first(self, transaction: Transaction, recipient: Recipient, *, trusted: bool) -> Reply | None:
        """The same as `admit`, at once, while there are no hints."""
        admission = self._admission(transaction, trusted=trusted)
        return admission.admit(Arrival(mailbox=recipient.mailbox, route=recipient.route, policy_class=recipient.policy_class))

    async def admit(self, transaction: Transaction, recipient: Recipient, *, trusted: bool) -> Reply | None:
        """At RCPT: None, or the 452 by which the client sends this recipient in another transaction."""
        admission = self._admission(transaction, trusted=trusted)
        hint = await self._hint(transaction.reverse_path.octets, recipient.mailbox)
        arrival = Arrival(mailbox=recipient.mailbox, route=recipient.route, policy_class=recipient.policy_class, hint=hint)
        if arrival.waits:
            await self._write(transaction, {arrival.mailbox: arrival.next_hint})
        return admission.admit(arrival)

    async def withdraw(self, transaction: Transaction, recipient: Recipient) -> None:
        """The next hop or a plugin refused an admitted recipient: its class is no longer the transaction's."""
        admission = self._known_admission(transaction)
        if admission is not None:
            await self._write(transaction, admission.postponed({recipient.mailbox}))
            admission.withdraw(recipient.mailbox)

    async def history(self, transaction: Transaction, message: Message, *, since: float = math.inf) -> History:
        """What ledger and hints know of this very message; `since`: the loop time of its MAIL."""
        if len(transaction.recipients) == 1 and self._ledger.is_empty(since):
            return NOTHING
        mailboxes = [recipient.mailbox for recipient in transaction.recipients if not recipient.added]
        return await self._ledger.history(attempt_of(transaction, message.content), mailboxes)

    async def carry_out(self, plan: Plan, parcel: Parcel) -> Settlement:
        """Do what the plan says, in the order of the promises; the settlement's reply is the client's."""
        settlement = await carry_out(plan, parcel, quarantine=self._quarantine, journal=self._journal, ledger=self._ledger)
        if settlement.duplicates:
            metrics.DUPLICATES.inc(len(settlement.duplicates))
        admission = self._known_admission(parcel.transaction)
        if admission is not None and not settlement.hints and settlement.deferred(plan):
            await self._write(parcel.transaction, admission.postponed(settlement.deferred(plan)))
        return settlement

    def failed(self, plan: Plan, answer: Reply, problem: str) -> Settlement:
        """Nothing was carried out: this 4xx of ours for every recipient."""
        return failed(plan, answer, problem)

    def _admission(self, transaction: Transaction, *, trusted: bool) -> Admission:
        admission = self._known_admission(transaction)
        if admission is None:
            admission = Admission(ability_of(transaction, trusted=trusted), max_classes=self._max_classes)
            transaction.session.state[_ADMISSION] = (transaction.id, admission)
        return admission

    @staticmethod
    def _known_admission(transaction: Transaction) -> Admission | None:
        kept = transaction.session.state.get(_ADMISSION)
        return kept[1] if isinstance(kept, tuple) and kept[0] == transaction.id else None

    async def _write(self, transaction: Transaction, hints: dict[str, str]) -> None:
        """A hint that cannot be written costs a retry, not a message."""
        if hints:
            with suppress(StorageError):
                await self._ledger.leave(transaction.reverse_path.octets, hints)

    async def _hint(self, reverse_path: bytes, mailbox: str) -> str:
        """A hint that cannot be read is none: it costs a retry, not a message."""
        try:
            return await self._ledger.hint(reverse_path, mailbox)
        except StorageError:
            return ""
