"""Each call of a delivery fails in turn, once or for good, before or after its effect; and it is cancelled at every await."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from gateway.content import Content, Form
from gateway.delivery import Carrying, Envelope, Parcel
from gateway.errors import LinkError, StorageError
from gateway.faults import POINTS
from gateway.ledger import Attempt
from gateway.outcome import Ability, Fate, History, Plan, Settlement, Wish, plan
from gateway.quarantine.copies import Copy, State, Ticket
from gateway.session import Session
from gateway.smtp.paths import Path
from gateway.smtp.replies import Reply, reply
from gateway.trace import Record
from gateway.transaction import Recipient, Transaction
from gateway.verdict import Decision, Verdict, discard, quarantine, reject

CODES = {250: reply(250, "2.0.0", "queued"), 450: reply(450, "4.2.1", "busy"), 550: reply(550, "5.7.0", "no")}
VERDICTS: dict[str, Verdict | None] = {
    "forward": None,
    "hold": quarantine("odd"),
    "virus": quarantine("virus", box="virus"),
    "discard": discard("noise"),
    "reject": reject("no"),
    "kept": reject("no", keep=True),
}
Breaks = Callable[[str], str]


class Broken:
    """Says of each call, in order, whether it fails: `` no, `before` or `after` it has had its effect."""

    def __init__(self, nth: int, when: str, *, for_good: bool, full: bool = False) -> None:
        self.nth, self.when, self.for_good, self.full = nth, when, for_good, full
        self.calls: list[str] = []

    def how(self, call: str) -> str:
        self.calls.append(call)
        number = len(self.calls)
        return self.when if number == self.nth or (self.for_good and number > self.nth) else ""


@dataclass
class World:
    """Quarantine, journal, ledger and next hop in one, with everything that happened."""

    codes: tuple[int, ...] = ()
    """The next hop's answer to each recipient (LMTP); empty: one 250."""
    broken: Broken | None = None
    state: dict[str, tuple[State, tuple[bytes, ...]]] = field(default_factory=dict)
    delivered: Counter[bytes] = field(default_factory=Counter)
    records: list[Record] = field(default_factory=list)
    entries: dict[bytes, Fate] = field(default_factory=dict)
    hints: dict[str, str] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    next_hop: str = "127.0.0.1:26"
    added_crlf: bool = False
    not_ours: bool = False
    """hold() changes no row: another process has swept it."""

    @contextlib.asynccontextmanager
    async def call(self, name: str, error: type[Exception]) -> Any:
        how = self.broken.how(name) if self.broken else ""
        await asyncio.sleep(0)
        if how == "before":
            raise self._error(name, error)
        yield
        self.events.append(name)
        await asyncio.sleep(0)
        if how == "after":
            raise self._error(name, error)

    def _error(self, name: str, error: type[Exception]) -> Exception:
        if error is LinkError:
            return LinkError(self.next_hop, f"{name} broke", unknown=name == "send")
        return StorageError(f"{name} broke", full=bool(self.broken and self.broken.full))

    async def write_all(self, to_write: Sequence[Copy], state: State) -> list[Ticket]:
        async with self.call(f"write {state.value}", StorageError):
            tickets = [Ticket(id=f"q{len(self.state) + n}", epoch="1") for n in range(len(to_write))]
            for ticket, copy in zip(tickets, to_write, strict=True):
                self.state[ticket.id] = (state, tuple(path for path, _, _ in copy.recipients))
        return tickets

    async def hold(self, ticket: Ticket, *more: Ticket) -> bool:
        async with self.call("hold", StorageError):
            if self.not_ours:
                return False
            for one in (ticket, *more):
                assert self.state[one.id][0] is State.PENDING
                self.state[one.id] = (State.HELD, self.state[one.id][1])
        return True

    async def drop(self, ticket: Ticket) -> None:
        async with self.call("drop", StorageError):
            if self.state[ticket.id][0] is State.PENDING:
                self.state[ticket.id] = (State.DROPPED, self.state[ticket.id][1])

    async def commit(self, record: Record) -> None:
        async with self.call("record", StorageError):
            self.records.append(record)

    def stands(self, mail: Envelope, recipients: Sequence[Envelope]) -> bool:
        return False

    async def prepare(self, mail: Envelope, recipients: Sequence[Envelope]) -> None:
        async with self.call("prepare", LinkError):
            self.envelope = recipients

    async def send(self, chunks: Iterable[bytes], *, size: int, form: Form = Form.LINES) -> list[Reply]:
        codes = [self.codes[int(path[2:3])] if self.codes else 250 for path, _ in self.envelope]
        async with self.call("send", LinkError):
            assert sum(map(len, chunks)) == size
            for (path, _), code in zip(self.envelope, codes, strict=True):
                self.delivered[path] += code == 250
        return [CODES[code] for code in codes] if self.codes else [CODES[250]]

    def has_hints(self, since: float) -> bool:
        return bool(self.hints)

    def is_empty(self, since: float) -> bool:
        return not self.entries

    async def hint(self, reverse_path: bytes, mailbox: str) -> str:
        return self.hints.get(mailbox, "")

    async def history(self, attempt: Attempt, mailboxes: Sequence[str]) -> History:
        return History(past={n: self.entries[path] for n, (path, _) in enumerate(attempt.recipients) if path in self.entries})

    async def write(self, attempt: Attempt, entries: Mapping[int, Fate], transaction_id: str) -> bool:
        async with self.call("ledger write", StorageError):
            self.entries.update({attempt.recipients[index][0]: fate for index, fate in entries.items()})
        return True

    async def consume(self, attempt: Attempt, indexes: Iterable[int]) -> bool:
        async with self.call("ledger consume", StorageError):
            for index in indexes:
                del self.entries[attempt.recipients[index][0]]
        return True

    async def leave(self, reverse_path: bytes, hints: Mapping[str, str]) -> None:
        self.hints.update(hints)

    async def split(self, reverse_path: bytes, hints: Mapping[str, str]) -> None:
        async with self.call("hints", StorageError):
            self.hints.update(hints)

    def paths(self, state: State) -> Counter[bytes]:
        return Counter(path for found, paths in self.state.values() if found is state for path in paths)

    async def one_try(self, names: Sequence[str], ability: Ability) -> tuple[Plan, Settlement]:
        planned, parcel = await self.parcel(names, ability)
        return planned, await Carrying(planned, parcel, self, self, self).run()

    async def parcel(self, names: Sequence[str], ability: Ability) -> tuple[Plan, Parcel]:
        recipients = [Recipient(forward_path=Path(b"<u%d@x.test>" % n, f"u{n}", "x.test"), route="r") for n in range(len(names))]
        transaction = Transaction(id="T1", session=Session(id="S1", client_address="192.0.2.1"), recipients=recipients)
        content = Content(b"Date: now\r\nMessage-ID: <1@x.test>\r\n\r\nbody\r\n")
        wishes = [
            Wish(
                index=n,
                mailbox=f"u{n}@x.test",
                route="r",
                decision=Decision(verdict=verdict, plugin="p", hook="judge") if (verdict := VERDICTS[name]) else None,
            )
            for n, name in enumerate(names)
        ]
        attempt = Attempt(
            client_address="192.0.2.1",
            reverse_path=b"<>",
            parameters=(),
            recipients=tuple((one.forward_path.octets, ()) for one in recipients),
            content=content,
        )
        planned = plan(wishes, ability, await self.history(attempt, []), transaction_id="T1")
        parcel = Parcel(
            transaction=transaction,
            content=content,
            chunks=content.chunks,
            size=content.size,
            handover=self if planned.forward else None,
            recipients=[(recipients[index].forward_path.octets, ()) for index in planned.forward],
            discard_record=lambda indexes: cast("Record", {"id": "T1", "recipients": list(indexes)}),
        )
        return planned, parcel


def wrongs(world: World, names: Sequence[str], done: Settlement) -> Iterator[str]:
    """What the client was told and what really is."""
    for n, name in enumerate(names):
        path = b"<u%d@x.test>" % n
        told = (done.replies[n] if done.replies else done.reply).first
        taken = {
            Fate.DELIVERED: world.delivered[path] > 0,
            Fate.HELD: world.paths(State.HELD)[path] > 0,
            Fate.DISCARDED: any(n in record["recipients"] for record in cast("list[Any]", world.records)),
        }
        if told == 2 and not taken.get(done.fates[n], False):
            yield f"{name} {n} is lost: told 2xx as {done.fates[n]}"
        if told == 5 and (taken[Fate.DELIVERED] or taken[Fate.HELD]):
            yield f"{name} {n} was taken and told 5xx"


MESSAGES = [
    names
    for number in (1, 2, 3)
    for names in itertools.combinations_with_replacement(("forward", "hold", "discard", "virus", "kept"), number)
]


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("ability", [Ability.SMTP, Ability.LMTP])
async def test_every_call_fails_in_turn(ability: Ability, when: str, for_good: bool) -> None:
    wrong: list[str] = []
    seen: set[str] = set()
    for names, answers in itertools.product(MESSAGES, ((), (250, 450, 250), (250, 550, 450))):
        for nth in itertools.count(1):
            world = World(codes=answers, broken=Broken(nth, when, for_good=for_good, full=True))
            assert world.broken is not None
            where = f"{names} {answers} call {nth}"
            _, done = await world.one_try(names, ability)
            calls = world.broken.calls
            if len(calls) < nth:
                break
            where += f" ({calls[nth - 1]} of {calls}) -> {done.reply}"
            seen.add(calls[nth - 1])
            wrong += [f"{where}: {what}" for what in wrongs(world, names, done)]
            is_unknown = when == "after"
            if world.paths(State.PENDING) and not is_unknown and "drop" not in calls[nth - 1 :]:
                wrong.append(f"{where}: a pending copy is left")
            if done.reply.first != 2 and ability is Ability.SMTP:
                if world.paths(State.HELD) and not is_unknown:
                    wrong.append(f"{where}: held and told no")
                for n in range(len(names)):
                    path = b"<u%d@x.test>" % n
                    if world.delivered[path] and path not in world.entries and n not in done.duplicates and not is_unknown:
                        wrong.append(f"{where}: {n} delivered, not in the ledger and not counted")
            if calls[nth - 1] in {"record", "write pending"} and (world.delivered or done.reply.code != 452):
                wrong.append(f"{where}: sent without its promise, or no 452")
            # Healed: the client tries again.
            world.broken = None
            world.codes = ()
            _, again = await world.one_try(names, ability)
            wrong += [f"{where}, again: {what}" for what in wrongs(world, names, again)]
            doubles = [path for path, count in world.delivered.items() if count > 1]
            counted = {b"<u%d@x.test>" % n for n in done.duplicates}
            if ability is Ability.SMTP and (not is_unknown or calls[nth - 1] == "send") and set(doubles) - counted:
                wrong.append(f"{where}, again: delivered twice {doubles}")
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:20])
    expected = {"write pending", "write held", "write kept", "hold", "record", "prepare", "send"}
    assert seen >= expected | ({"drop", "ledger write", "hints"} if ability is Ability.SMTP else set())


@pytest.mark.parametrize("ability", [Ability.SMTP, Ability.LMTP])
async def test_cancelled_at_every_await(ability: Ability) -> None:
    wrong: list[str] = []
    cancelled = 0
    for names, answers in itertools.product(MESSAGES, ((), (250, 450, 250))):
        for nth in itertools.count():
            world = World(codes=answers)
            planned, parcel = await world.parcel(names, ability)
            task = asyncio.get_running_loop().create_task(Carrying(planned, parcel, world, world, world).run())
            for _ in range(nth):
                await asyncio.sleep(0)
            task.cancel()
            where = f"{names} {answers} await {nth} after {world.events}"
            try:
                done = await task
            except asyncio.CancelledError:
                cancelled += 1
                if world.paths(State.PENDING):
                    wrong.append(f"{where}: a pending copy is left")
                if world.paths(State.HELD) and not {"hold", "write held"} & set(world.events):
                    wrong.append(f"{where}: held")
                world.codes = ()
                _, again = await world.one_try(names, ability)
                wrong += [f"{where}, again: {what}" for what in wrongs(world, names, again)]
            else:
                wrong += [f"{where}: {what}" for what in wrongs(world, names, done)]
                break
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:20])
    assert cancelled > 500


async def test_the_order_of_the_promises() -> None:
    world = World()
    _, done = await world.one_try(("forward", "hold", "discard"), Ability.SMTP)
    assert world.events == ["record", "write pending", "prepare", "send", "hold"]
    assert (done.reply, done.held, done.next_hop) == (CODES[250], ("q0",), "127.0.0.1:26")
    world = World()
    await world.one_try(("hold", "virus", "discard"), Ability.SMTP)
    assert world.events == ["record", "write held"]
    world = World(codes=(250, 550, 250))
    _, done = await world.one_try(("forward", "forward", "hold"), Ability.SMTP)
    assert world.events == ["write pending", "prepare", "send", "drop", "ledger write", "hints"]
    assert world.entries == {b"<u0@x.test>": Fate.DELIVERED}
    world.codes = ()
    world.events.clear()
    _, done = await world.one_try(("forward", "forward", "hold"), Ability.SMTP)
    assert world.events == ["write pending", "prepare", "send", "hold", "ledger consume"]
    assert done.reply.code == 250
    assert world.delivered == {b"<u0@x.test>": 1, b"<u1@x.test>": 1}


async def test_a_copy_swept_meanwhile_is_a_4xx() -> None:
    world = World(not_ours=True)
    _, done = await world.one_try(("forward", "hold"), Ability.SMTP)
    assert (done.reply.code, done.fates) == (451, (Fate.DELIVERED, Fate.DEFERRED))
    assert world.entries == {b"<u0@x.test>": Fate.DELIVERED}
    assert not world.paths(State.HELD)


async def test_a_link_that_breaks_leaves_nothing_held() -> None:
    world = World(broken=Broken(3, "after", for_good=False))
    _, done = await world.one_try(("forward", "hold"), Ability.SMTP)
    assert (done.reply.code, done.reply.enhanced, done.fates) == (451, "4.4.2", (Fate.DEFERRED, Fate.DEFERRED))
    assert world.paths(State.DROPPED) == {b"<u1@x.test>": 1}
    assert "broke" not in done.reply.text


async def test_a_consumed_entry_that_cannot_be_consumed_is_no_250() -> None:
    world = World(codes=(250, 550))
    await world.one_try(("forward", "forward"), Ability.SMTP)
    world.codes = ()
    world.broken = Broken(3, "before", for_good=False)
    _, done = await world.one_try(("forward", "forward"), Ability.SMTP)
    assert world.broken.calls[2:] == ["ledger consume", "ledger write"]
    assert done.reply.code == 451
    assert world.entries == {b"<u0@x.test>": Fate.DELIVERED, b"<u1@x.test>": Fate.DELIVERED}
    world.broken = None
    _, done = await world.one_try(("forward", "forward"), Ability.SMTP)
    assert (done.reply.code, world.entries, max(world.delivered.values())) == (250, {}, 1)


async def test_a_parcel_without_a_way_is_a_defect_that_leaves_nothing() -> None:
    world = World()
    planned, parcel = await world.parcel(("forward", "hold"), Ability.SMTP)
    lame = Parcel(
        transaction=parcel.transaction,
        content=parcel.content,
        chunks=parcel.chunks,
        size=parcel.size,
        discard_record=parcel.discard_record,
    )
    with pytest.raises(ValueError, match="handover"):
        await Carrying(planned, lame, world, world, world).run()
    assert not world.paths(State.PENDING)


PROGRAM = """
import os
from gateway.faults import reach
for number in range(5):
    print(number, flush=True)
    reach("delivery.sent")
    reach("delivery.held")
"""


def died(tmp_path: Any, **environment: str) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | environment, capture_output=True, text=True, check=False, timeout=30
    )
    return done.returncode, len(done.stdout.split())


def test_fault_points_end_the_process(tmp_path: Any) -> None:
    assert "delivery.sent" in POINTS
    assert died(tmp_path) == (0, 5)
    assert died(tmp_path, MAILGATEWAY_FAULT="delivery.sent") == (-signal.SIGKILL, 1)
    assert died(tmp_path, MAILGATEWAY_FAULT="delivery.held@3") == (-signal.SIGKILL, 3)
    once = {"MAILGATEWAY_FAULT": "delivery.sent", "MAILGATEWAY_FAULT_ONCE": str(tmp_path / "once")}
    assert died(tmp_path, **once) == (-signal.SIGKILL, 1)
    assert died(tmp_path, **once) == (0, 5)
