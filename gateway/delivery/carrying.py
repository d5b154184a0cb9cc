"""(a) to (e), in this order: see the package. RFC 5321 4.2.5, 6.1: a 2xx is said only when somebody else is responsible."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from gateway import metrics
from gateway.begun import in_task
from gateway.content import Form
from gateway.delivery.parcel import Copies, Handover, Memory, Parcel, Records, octets_of
from gateway.errors import LinkError, StorageError
from gateway.faults import WATCHED, reach
from gateway.outcome import Fate, Plan, Settlement, failed, settle, take_back
from gateway.outcome.wording import ours
from gateway.quarantine.copies import Copy, State, Ticket
from gateway.relay.each import PartlyAnsweredError
from gateway.smtp.replies import Reply

T = TypeVar("T")

_LINES: Final = Form.LINES

ADDED_CRLF: Final = "CRLF added at the end of the content: the next hop has no CHUNKING"


class Carrying:
    """One message between the plan and the reply: what the plan says is done, in the order of the promises."""

    def __init__(self, plan: Plan, parcel: Parcel, quarantine: Copies, journal: Records, ledger: Memory) -> None:
        if plan.forward and (parcel.handover is None or len(parcel.recipients) != len(plan.forward)):
            raise ValueError("a parcel to forward has a handover and an envelope for each recipient")
        if WATCHED:
            reach("delivery.planned")
        self.plan = plan
        self.parcel = parcel
        self.quarantine = quarantine
        self.journal = journal
        self.ledger = ledger
        self.tickets: list[Ticket] = []
        self.next_hop = ""
        self.maybe_taken: tuple[int, ...] = ()
        self.problems: list[str] = []

    async def run(self) -> Settlement:  # noqa: PLR0912 - one frame for all of it
        """(b) to (d); (e) is the caller's, with the settlement's reply. Raises nothing but what a defect raises, and CancelledError.

        One frame from here to the next hop: each is resumed whenever that answers.
        """
        plan, parcel = self.plan, self.parcel
        try:
            if plan.keeps or plan.verdict is not None or plan.discards or plan.holds:
                ended = await self._before()
                if ended is not None:
                    return ended
            if WATCHED:
                reach("delivery.pending")
            answers: list[Reply] = []
            is_ours, next_hop = False, ""
            handover = parcel.handover
            if plan.forward and handover is not None:
                try:
                    if not handover.stands(parcel.mail, parcel.recipients):
                        await handover.prepare(parcel.mail, parcel.recipients)
                    answers = await handover.send(parcel.chunks(), size=parcel.size, form=parcel.form)
                except LinkError as error:
                    answers, is_ours = self._no_answer(error)
                else:
                    if len(answers) != 1 or parcel.form is not _LINES:
                        answers, is_ours = self._answered(answers, handover)
                self.next_hop = next_hop = handover.next_hop
            if WATCHED:
                reach("delivery.sent")
            settlement = settle(plan, answers, is_ours=is_ours, next_hop=next_hop)
            if plan.holds:
                settlement = await self._hold(settlement, answers, is_ours=is_ours)
            if WATCHED:
                reach("delivery.held")
            if settlement.consume or settlement.entries or settlement.hints or self.problems or settlement.next_hop != next_hop:
                settlement = await self._end(settlement)
            return settlement  # noqa: TRY300 - a branch less
        except BaseException as error:  # noqa: BLE001 - raised again: nothing may be awaited within `except` where this is compiled
            fault = error
        # Cancelled or a defect: the client hears no 2xx, so nothing pending may become held.
        await self.drop_all()
        raise fault

    async def _before(self) -> Settlement | None:
        """(b), and how the message has ended where nothing is sent."""
        plan = self.plan
        await in_task()
        if plan.keeps:
            await self._keep_evidence()
        if plan.verdict is not None:
            return await self._end(plan.verdict)
        try:
            await self._promise()
        except StorageError as error:
            return failed(plan, _storage_reply(error, plan), str(error))
        return None

    async def _keep_evidence(self) -> None:
        """Copies of what is refused: evidence only, so that a refusal never waits for the disk to have room."""
        copies = [
            self._copy(keep.recipients, box="default", plugin=keep.plugin, reason=keep.reason, evidence=keep.evidence)
            for keep in self.plan.keeps
        ]
        try:
            await _whole(self.quarantine.write_all(copies, State.KEPT))
        except StorageError as error:
            self.problems.append(f"no copy kept: {error}")

    async def _promise(self) -> None:
        """(b): discards recorded, copies pending, or, with nothing to forward, held at once. All or nothing is sent."""
        plan = self.plan
        if plan.discards:
            await _whole(self.journal.commit(self.parcel.discard_record(plan.discards)))
        copies = [
            self._copy(hold.recipients, box=hold.box, plugin=hold.plugin, reason=hold.reason, evidence=hold.evidence)
            for hold in plan.holds
        ]
        if copies and plan.forward:
            await _whole(self.quarantine.write_all(copies, State.PENDING), self.tickets.extend)

    def _no_answer(self, error: LinkError) -> tuple[list[Reply], bool]:
        """(c) when a link failed: what the next hop answered before, and our reply for the rest. Whether it took the message may
        be unknown, which is told as 451: the client still has the message, a duplicate may come of it, a loss cannot.
        """
        plan = self.plan
        self.problems.append(str(error))
        lost = ours(451, error.enhanced, "The next hop does not answer, try again later", plan.transaction_id)
        if isinstance(error, PartlyAnsweredError):
            answered = len(error.replies)
            if error.unknown:
                self.maybe_taken = plan.forward[answered:]
            return self._usable([*error.replies, *(lost for _ in plan.forward[answered:])]), False
        if error.unknown:
            self.maybe_taken = plan.forward
        return [lost], True

    def _answered(self, answers: list[Reply], handover: Handover) -> tuple[list[Reply], bool]:
        """(c) when the next hop has answered, once or for each recipient, or when DATA may have changed the content's end."""
        plan, parcel = self.plan, self.parcel
        if parcel.form is Form.UNENDED and handover.added_crlf and parcel.transaction.trace is not None:
            parcel.transaction.trace.step(stage="delivery", plugin="", outcome="changed", evidence=ADDED_CRLF)
        if len(answers) not in {1, len(plan.forward)}:
            self.problems.append(f"{len(answers)} replies for {len(plan.forward)} recipients")
            return [ours(451, "4.3.5", "The next hop gave no usable answer", plan.transaction_id)], True
        return self._usable(answers) if len(answers) > 1 else answers, False

    def _usable(self, answers: Sequence[Reply]) -> list[Reply]:
        """Answers for each recipient as they may be told: 421 is about the link, and this recipient has not got it (RFC 5321 3.8)."""
        self.problems += [f"content answered with {one}" for one in answers if one.code == 421]
        lost = ours(451, "4.4.2", "The next hop does not answer, try again later", self.plan.transaction_id)
        return [lost if one.code == 421 else one for one in answers]

    async def _hold(self, settlement: Settlement, answers: Sequence[Reply], *, is_ours: bool) -> Settlement:
        """(d): what the reply will promise becomes held; what it will not is dropped."""
        plan = self.plan
        await in_task()
        to_hold = {index for hold in plan.holds for index in hold.recipients}
        if not any(settlement.fates[place] is Fate.HELD for place, wish in enumerate(plan.wishes) if wish.index in to_hold):
            await self.drop_all()
            return settlement
        try:
            identifiers = await self._make_held()
        except StorageError as error:
            self.problems.append(str(error))
            answer = _storage_reply(error, plan)
        else:
            if identifiers:
                return replace(settlement, held=identifiers)
            self.problems.append("a pending copy is no longer ours")
            answer = ours(451, "4.3.0", "Try again later", plan.transaction_id)
        await self.drop_all()
        return settle(plan, answers, is_ours=is_ours, lost=dict.fromkeys(to_hold, answer))

    async def _make_held(self) -> tuple[str, ...]:
        """Identifiers of what is held now; none when a compare-and-set changed nothing."""
        if self.plan.forward:
            done: list[bool] = []
            await _whole(self.quarantine.hold(*self.tickets), done.append)
            identifiers = tuple(ticket.id for ticket in self.tickets)
            if not done[0]:
                return ()
            self.tickets.clear()
            return identifiers
        copies = [
            self._copy(hold.recipients, box=hold.box, plugin=hold.plugin, reason=hold.reason, evidence=hold.evidence)
            for hold in self.plan.holds
        ]
        written: list[Ticket] = []
        await _whole(self.quarantine.write_all(copies, State.HELD), written.extend)
        return tuple(ticket.id for ticket in written)

    async def _end(self, settlement: Settlement) -> Settlement:
        """What the ledger must know before the reply is said."""
        await in_task()
        if settlement.consume:
            settlement = await self._consume(settlement)
        duplicates = self.maybe_taken
        if settlement.entries:
            duplicates = (*settlement.entries, *self.maybe_taken)
            try:
                written: list[bool] = []
                attempt = self.parcel.attempt
                await _whole(self.ledger.write(attempt, settlement.entries, self.plan.transaction_id), written.append)
                if written[0]:
                    duplicates = self.maybe_taken
            except StorageError as error:
                self.problems.append(str(error))
        if settlement.hints:
            await self._leave_hints(settlement)
        if duplicates:
            metrics.DUPLICATES.inc(len(duplicates))
        return replace(settlement, duplicates=duplicates, next_hop=self.next_hop, problems=(*settlement.problems, *self.problems))

    async def _consume(self, settlement: Settlement) -> Settlement:
        try:
            consumed: list[bool] = []
            await _whole(self.ledger.consume(self.parcel.attempt, settlement.consume), consumed.append)
            if consumed[0]:
                return settlement
            problem, answer = "a ledger entry is gone", ours(451, "4.3.0", "Try again later", self.plan.transaction_id)
        except StorageError as error:
            problem, answer = str(error), _storage_reply(error, self.plan)
        return take_back(self.plan, settlement, answer, problem)

    async def _leave_hints(self, settlement: Settlement) -> None:
        """Without them the retry differs again, which costs time only."""
        names = {wish.index: wish.mailbox for wish in self.plan.wishes}
        hints = {names[index]: group for index, group in settlement.hints.items()}
        try:
            await self.ledger.split(self.parcel.transaction.reverse_path.octets, hints)
        except StorageError as error:
            self.problems.append(f"no hints: {error}")

    async def drop_all(self) -> None:
        """Pending copies go; one that cannot becomes a kept copy when its lease lapses."""
        while self.tickets:
            ticket = self.tickets[-1]
            try:
                await _whole(self.quarantine.drop(ticket))
            except StorageError as error:
                self.problems.append(str(error))
            self.tickets.pop()

    def _copy(self, recipients: Sequence[int], *, box: str, plugin: str, reason: str, evidence: str) -> Copy:
        transaction = self.parcel.transaction
        named = [transaction.recipients[index] for index in recipients]
        return Copy(
            transaction_id=transaction.id,
            content=self.parcel.content,
            edits=self.parcel.edits,
            reverse_path=_sent(transaction.sent_reverse_path, transaction.reverse_path.octets),
            parameters=tuple(octets_of(transaction.parameters)),
            recipients=tuple(
                (_sent(one.sent_path, one.forward_path.octets), tuple(octets_of(one.parameters)), one.route) for one in named
            ),
            box=box,
            plugin=plugin,
            reason=reason,
            evidence=evidence,
            facts=self.parcel.facts,
        )


async def _whole(work: Coroutine[Any, Any, T], then: Callable[[T], object] | None = None) -> T:
    """Await a write that a cancellation must not leave half known: it ends, `then` hears of it, only then we are cancelled."""
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError as error:
        cancelled = error
    if cancelled is not None:
        await asyncio.wait({task})
        if not task.cancelled() and task.exception() is None and then is not None:
            then(task.result())
        raise cancelled
    result = task.result()
    if then is not None:
        then(result)
    return result


def _storage_reply(error: StorageError, plan: Plan) -> Reply:
    """RFC 5321 4.5.3.1.10: 452 when there is no room, else 451."""
    if error.full:
        return ours(452, "4.3.1", "Insufficient storage, try again later", plan.transaction_id)
    return ours(451, "4.3.0", "Try again later", plan.transaction_id)


def _sent(onward: bytes, received: bytes) -> bytes:
    """The path for the next hop, the client's own unless a plugin rewrote it."""
    return onward or received
