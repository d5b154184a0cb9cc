"""What a session needs of delivery: who may join its transaction, what is known of the message, its carrying out."""

from __future__ import annotations

import math
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

from gateway.delivery.behind_mta import HintsOnly
from gateway.delivery.carrying import Carrying
from gateway.delivery.parcel import Copies, Memory, Parcel, Records, attempt_of
from gateway.errors import StorageError
from gateway.message import Message
from gateway.outcome import NOTHING, Ability, Admission, Arrival, History, Plan, Settlement, failed
from gateway.session import ClientClass
from gateway.smtp.replies import Reply
from gateway.transaction import Recipient, Transaction

_ADMISSION: Final = "delivery.admission"
_STRANGER: Final = ClientClass.STRANGER


def ability_of(transaction: Transaction, *, trusted: bool) -> Ability:
    """How the client of a transaction can be answered after the content."""
    if transaction.session.protocol == "lmtp":
        return Ability.LMTP
    if transaction.parameters and transaction.parameter("PRDR") is not None:
        return Ability.PRDR
    return Ability.SUBMISSION if trusted else Ability.SMTP


def _arrival(recipient: Recipient, hint: str = "") -> Arrival:
    return Arrival(mailbox=recipient.mailbox, route=recipient.route, policy_class=recipient.policy_class, hint=hint)


class _Joining:
    """Who joins the transaction under way of a session. Mostly it is one recipient, and nobody's class has to be told from its.

    One for each session, that of its last transaction: `begin` makes it the next one's.
    """

    __slots__ = ("_first", "_max_classes", "_trusted", "admission", "transaction_id")

    def __init__(self, max_classes: int) -> None:
        self._max_classes = max_classes
        self.begin("", None, False)

    def begin(self, transaction_id: str, first: Recipient | None, trusted: bool) -> None:
        """Another transaction, in which nobody is but perhaps this one."""
        self.transaction_id = transaction_id
        self._first = first
        self._trusted = trusted
        self.admission: Admission | None = None
        """None: nobody came after the first."""

    def made(self, transaction: Transaction) -> Admission:
        """The admission, with the first recipient in it."""
        if self.admission is None:
            self.admission = Admission(ability_of(transaction, trusted=self._trusted), max_classes=self._max_classes)
            if self._first is not None:
                self.admission.admit(_arrival(self._first))
        return self.admission


class Delivery:
    """What a session needs of this module: who may join a transaction, what is known of a message, its carrying out."""

    def __init__(self, *, quarantine: Copies, journal: Records, ledger: Memory, max_classes: int = 4) -> None:
        self._quarantine = quarantine
        self._journal = journal
        self._ledger = ledger
        self._max_classes = max_classes

    def has_hints(self, since: float = math.inf) -> bool:
        """A transaction that ended before `since`, the loop time of MAIL, may have left a hint: `admit` must be asked, where else
        `admit_first` and `admit_next` will do.
        """
        return self._ledger.has_hints(since)

    def behind_mta(self) -> Delivery:
        """The same for a milter: the message stays the MTA's until we answer it, so that nothing is ever delivered by us."""
        return Delivery(
            quarantine=self._quarantine, journal=self._journal, ledger=HintsOnly(self._ledger), max_classes=self._max_classes
        )

    def admit_first(self, transaction: Transaction, recipient: Recipient, since: float) -> bool:
        """True: nobody came before it, and there are no hints (`since` as for `has_hints`), so that it may always join."""
        if self._ledger.has_hints(since):
            return False
        session = transaction.session
        joining = session.state.get(_ADMISSION)
        if not isinstance(joining, _Joining):
            joining = session.state[_ADMISSION] = _Joining(self._max_classes)
        elif joining.transaction_id == transaction.id:
            return False
        joining.begin(transaction.id, recipient, session.client_class is not _STRANGER)
        return True

    def admit_next(self, transaction: Transaction, recipient: Recipient, *, trusted: bool) -> Reply | None:
        """The same as `admit`, at once, while there are no hints."""
        return self._admission(transaction, trusted=trusted).admit(_arrival(recipient))

    async def admit(self, transaction: Transaction, recipient: Recipient, *, trusted: bool) -> Reply | None:
        """At RCPT: None, or the 452 by which the client sends this recipient in another transaction."""
        admission = self._admission(transaction, trusted=trusted)
        hint = await self._hint(transaction.reverse_path.octets, recipient.mailbox)
        arrival = _arrival(recipient, hint)
        if arrival.waits:
            await self._write(transaction, {arrival.mailbox: arrival.next_hint})
        return admission.admit(arrival)

    async def withdraw(self, transaction: Transaction, recipient: Recipient) -> None:
        """The next hop or a plugin refused an admitted recipient: its class is no longer the transaction's."""
        admission = self._known_admission(transaction)
        if admission is not None:
            await self._write(transaction, admission.postponed({recipient.mailbox}))
            admission.withdraw(recipient.mailbox)

    def is_new(self, transaction: Transaction, since: float) -> bool:
        """Nothing can be known of its message: `history` need not be asked. `since` as there."""
        return len(transaction.recipients) == 1 and self._ledger.is_empty(since)

    async def history(self, transaction: Transaction, message: Message, *, since: float = math.inf) -> History:
        """What ledger and hints know of this very message; `since`: the loop time of its MAIL."""
        if self.is_new(transaction, since):
            return NOTHING
        mailboxes = [recipient.mailbox for recipient in transaction.recipients if not recipient.added]
        return await self._ledger.history(attempt_of(transaction, message.content), mailboxes)

    def carry_out(self, plan: Plan, parcel: Parcel) -> Coroutine[Any, Any, Settlement]:
        """Do what the plan says, in the order of the promises; the settlement's reply is the client's."""
        carried = Carrying(plan, parcel, self._quarantine, self._journal, self._ledger).run()
        joining = parcel.transaction.session.state.get(_ADMISSION)
        if not isinstance(joining, _Joining) or joining.admission is None:
            return carried
        return self._and_postpone(plan, parcel, carried)

    async def _and_postpone(self, plan: Plan, parcel: Parcel, carried: Coroutine[Any, Any, Settlement]) -> Settlement:
        """Where others were turned away, they go first at the next try of what is deferred now."""
        settlement = await carried
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
            joining = transaction.session.state[_ADMISSION] = _Joining(self._max_classes)
            joining.begin(transaction.id, None, trusted)
            admission = joining.made(transaction)
        return admission

    @staticmethod
    def _known_admission(transaction: Transaction) -> Admission | None:
        joining = transaction.session.state.get(_ADMISSION)
        return joining.made(transaction) if isinstance(joining, _Joining) and joining.transaction_id == transaction.id else None

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
