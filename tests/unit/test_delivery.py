"""Delivery on real storage: a stranger's queue, a next hop that answers for each recipient, and gateways that come and go."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.content import Content, Form
from gateway.delivery import Delivery, Envelope, Parcel
from gateway.edits import AddHeader
from gateway.errors import LinkError, StorageError
from gateway.ledger import Ledger
from gateway.message import Message
from gateway.metrics import DUPLICATES
from gateway.outcome import Ability, Settlement, Wish, plan
from gateway.quarantine import Quarantine
from gateway.quarantine.rows import Query
from gateway.relay.each import PartlyAnsweredError
from gateway.session import Session
from gateway.smtp import paths
from gateway.smtp.replies import Reply, reply
from gateway.store import SqliteStore
from gateway.trace import Record
from gateway.transaction import Recipient, Transaction
from gateway.verdict import Decision, Verdict, discard, quarantine, reject

OCTETS = b"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@client.test>\r\n\r\nbody\r\n"
CODES = {250: reply(250, "2.0.0", "taken"), 450: reply(450, "4.2.2", "over quota"), 550: reply(550, "5.7.0", "no")}
CODES[421] = reply(421, "4.3.2", "shutting down")


@dataclass
class NextHop:
    """LMTP: an answer for each recipient."""

    answers: dict[str, int] = field(default_factory=dict)
    delivered: Counter[str] = field(default_factory=Counter)
    next_hop: str = "unix:/lmtp"
    added_crlf: bool = False
    envelope: list[str] = field(default_factory=list)
    lost_after: int | None = None
    """Once: so many answers, then the link is gone; whoever is behind has the message all the same."""

    def stands(self, mail: Envelope, recipients: Sequence[Envelope]) -> bool:
        return False

    async def prepare(self, mail: Envelope, recipients: Sequence[Envelope]) -> None:
        self.envelope = [path.decode().strip("<>") for path, _ in recipients]

    async def send(self, chunks: Iterable[bytes], *, size: int, form: Form = Form.LINES) -> list[Reply]:
        codes = [self.answers.get(name, 250) for name in self.envelope]
        self.delivered.update(name for name, code in zip(self.envelope, codes, strict=True) if code == 250)
        answers = [CODES[code] for code in codes]
        if self.lost_after is not None:
            answers, self.lost_after = answers[: self.lost_after], None
            raise PartlyAnsweredError(LinkError("unix:/lmtp", "closed"), answers, unknown=True)
        return answers


class Records:
    """The journal's part; `gateway.journal` has its own tests."""

    def __init__(self) -> None:
        self.committed: list[Any] = []
        self.broken = False

    async def commit(self, record: Record) -> None:
        if self.broken:
            raise StorageError("journal is gone")
        self.committed.append(record)


class Gateway:
    """A worker's share: made anew for each try, as if it had been restarted."""

    def __init__(self, directory: Path, next_hop: NextHop, verdicts: dict[str, Verdict]) -> None:
        self.directory, self.next_hop, self.verdicts = directory, next_hop, verdicts
        self.records = Records()
        self.class_of: dict[str, str] = {}
        self.number = 0

    async def attempt(self, waiting: Sequence[str], *, trusted: bool = False) -> dict[str, Reply]:
        """One transaction: MAIL, RCPT of each, the content. The reply of each recipient."""
        self.number += 1
        async with AsyncExitStack() as stack:
            self.quarantine = await Quarantine.open(self.directory / "q", retention=3600, lease=60)
            stack.push_async_callback(self.quarantine.close)
            store = await SqliteStore.open(self.directory / "store.sqlite")
            stack.push_async_callback(store.close)
            ledger = await Ledger.open(self.directory / "ledger.sqlite", store)
            stack.push_async_callback(ledger.close)
            delivery = Delivery(quarantine=self.quarantine, journal=self.records, ledger=ledger)
            told = await self.transaction(delivery, waiting, trusted=trusted)
            self.copies = await self.quarantine.search(Query())
            return told

    async def transaction(self, delivery: Delivery, waiting: Sequence[str], *, trusted: bool) -> dict[str, Reply]:
        session = Session(id="S", client_address="192.0.2.1")
        transaction = Transaction(
            id=f"T{self.number}", session=session, reverse_path=paths.Path(b"<c@client.test>", "c", "client.test")
        )
        told = {}
        for name in waiting:
            local, _, domain = name.partition("@")
            recipient = Recipient(forward_path=paths.Path(f"<{name}>".encode(), local, domain), route="r")
            recipient.policy_class = (self.class_of.get(name, ""),)
            refused = await delivery.admit(transaction, recipient, trusted=trusted)
            if refused is None:
                transaction.recipients.append(recipient)
            else:
                told[name] = refused
        for recipient in tuple(transaction.recipients):  # pipelined: the next hop answers when all have been named
            code = self.next_hop.answers.get(f"RCPT {recipient.mailbox}")
            if code is not None:
                await delivery.withdraw(transaction, recipient)
                transaction.recipients.remove(recipient)
                told[recipient.mailbox] = CODES[code]
        if not transaction.recipients:
            return told
        done = await self.content(delivery, transaction, trusted=trusted)
        return told | {one.mailbox: done.reply for one in transaction.recipients}

    async def content(self, delivery: Delivery, transaction: Transaction, *, trusted: bool) -> Settlement:
        message = Message(Content(OCTETS))
        wishes = [
            Wish(
                index=index,
                mailbox=one.mailbox,
                route="r",
                decision=Decision(verdict=self.verdicts[one.mailbox], plugin="p", hook="judge")
                if one.mailbox in self.verdicts
                else None,
            )
            for index, one in enumerate(transaction.recipients)
        ]
        history = await delivery.history(transaction, message)
        planned = plan(wishes, Ability.SUBMISSION if trusted else Ability.SMTP, history, transaction_id=transaction.id)
        parcel = Parcel(
            transaction=transaction,
            content=message.content,
            chunks=message.content.chunks,
            size=message.size,
            handover=self.next_hop if planned.forward else None,
            recipients=[(transaction.recipients[index].forward_path.octets, ()) for index in planned.forward],
            discard_record=lambda indexes: cast("Record", {"indexes": indexes}),
            edits=(AddHeader(name="X-Seen", value="yes"),),
            facts={"client": "192.0.2.1"},
        )
        return await delivery.carry_out(planned, parcel)

    async def queue(self, names: Sequence[str], *, tries: int = 8) -> dict[str, list[int]]:
        """A queue that retries whoever was deferred, in the same order. All codes of each recipient."""
        told: dict[str, list[int]] = {name: [] for name in names}
        for _ in range(tries):
            waiting = [name for name in names if not told[name] or told[name][-1] // 100 == 4]
            if not waiting:
                break
            for name, answer in (await self.attempt(waiting)).items():
                told[name].append(answer.code)
        return told

    def found(self) -> list[tuple[str, list[str]]]:
        """State and recipients of what is in the quarantine and not ended."""
        return sorted(
            (copy.state.value, [path.decode().strip("<>") for path, _, _ in copy.recipients]) for copy in self.copies if copy.blob
        )


@pytest.fixture
def next_hop() -> NextHop:
    return NextHop()


async def test_each_gets_its_own_answer_once(tmp_path: Path, next_hop: NextHop) -> None:
    gateway = Gateway(
        tmp_path, next_hop, {"held@x.test": quarantine("odd"), "no@x.test": reject("no"), "void@x.test": discard("noise")}
    )
    next_hop.answers = {"full@x.test": 450, "bad@x.test": 550}
    names = ["full@x.test", "ok@x.test", "bad@x.test", "held@x.test", "no@x.test", "void@x.test"]
    told = await gateway.queue(names, tries=14)
    assert {name: codes[-1] // 100 for name, codes in told.items()} == {
        "full@x.test": 4,
        "ok@x.test": 2,
        "bad@x.test": 5,
        "held@x.test": 2,
        "no@x.test": 5,
        "void@x.test": 2,
    }, told
    assert next_hop.delivered == {"ok@x.test": 1}
    assert gateway.found() == [("held", ["held@x.test"])]
    assert next(copy for copy in gateway.copies if copy.blob).edits == (AddHeader(name="X-Seen", value="yes"),)
    next_hop.answers = {}
    assert (await gateway.attempt(["full@x.test"]))["full@x.test"] == CODES[250]


async def test_a_link_lost_between_the_answers(tmp_path: Path, next_hop: NextHop) -> None:
    """Who was answered for is known and gets it once; of the others nobody knows: a duplicate, counted, and never a loss."""
    gateway = Gateway(tmp_path, next_hop, {})
    next_hop.lost_after = 2
    next_hop.answers = {"full@x.test": 450}
    names = ["ok@x.test", "full@x.test", "unknown@x.test"]
    before = DUPLICATES._value.get()
    first = await gateway.attempt(names)
    assert {answer.code for answer in first.values()} == {451}
    assert DUPLICATES._value.get() == before + 1
    next_hop.answers = {}
    told = await gateway.queue(names)
    assert {name: codes[-1] for name, codes in told.items()} == dict.fromkeys(names, 250)
    assert next_hop.delivered == {"ok@x.test": 1, "full@x.test": 1, "unknown@x.test": 2}


async def test_a_421_among_the_answers_is_not_passed_on(tmp_path: Path, next_hop: NextHop) -> None:
    gateway = Gateway(tmp_path, next_hop, {})
    next_hop.answers = {"last@x.test": 421}
    assert {str(answer)[:9] for answer in (await gateway.attempt(["ok@x.test", "last@x.test"])).values()} == {"451 4.5.3"}
    next_hop.answers = {}
    await gateway.queue(["ok@x.test", "last@x.test"])
    assert next_hop.delivered == {"ok@x.test": 1, "last@x.test": 1}
    next_hop.answers = dict.fromkeys(("a@x.test", "b@x.test"), 421)
    assert {str(answer)[:9] for answer in (await gateway.attempt(["a@x.test", "b@x.test"])).values()} == {"451 4.4.2"}


async def test_a_refused_recipient_at_the_front_does_not_stop_other_classes(tmp_path: Path, next_hop: NextHop) -> None:
    gateway = Gateway(tmp_path, next_hop, {})
    gateway.class_of = {"busy@x.test": "strict"}
    next_hop.answers = {"RCPT busy@x.test": 450}
    told = await gateway.queue(["busy@x.test", "ok@x.test"], tries=3)
    assert told["ok@x.test"][-1] == 250


async def test_policy_classes_part_for_strangers_only(tmp_path: Path, next_hop: NextHop) -> None:
    gateway = Gateway(tmp_path, next_hop, {})
    gateway.class_of = {"a@x.test": "strict"}
    told = await gateway.attempt(["a@x.test", "b@x.test"])
    assert {name: answer.code for name, answer in told.items()} == {"a@x.test": 250, "b@x.test": 452}
    told = await gateway.attempt(["a@x.test", "b@x.test"], trusted=True)
    assert {answer.code for answer in told.values()} == {250}


async def test_a_journal_that_is_gone_stops_a_discard_and_what_goes_with_it(tmp_path: Path, next_hop: NextHop) -> None:
    gateway = Gateway(tmp_path, next_hop, {"void@x.test": discard("noise")})
    gateway.records.broken = True
    told = await gateway.attempt(["void@x.test", "ok@x.test"])
    assert {answer.code for answer in told.values()} == {451}
    assert not next_hop.delivered


async def test_evidence_of_a_refusal_is_kept_and_not_held(tmp_path: Path, next_hop: NextHop) -> None:
    gateway = Gateway(tmp_path, next_hop, {"a@x.test": reject("virus", keep=True)})
    assert (await gateway.attempt(["a@x.test"]))["a@x.test"] == reply(550, "5.7.1", "virus (T1)")
    assert gateway.found() == [("kept", ["a@x.test"])]


async def test_hints_that_cannot_be_read_or_left_stop_nothing(
    tmp_path: Path, next_hop: NextHop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise StorageError("store is gone")

    gateway = Gateway(tmp_path, next_hop, {"no@x.test": reject("no")})
    await gateway.attempt(["ok@x.test", "no@x.test"])
    monkeypatch.setattr(SqliteStore, "get", broken)
    monkeypatch.setattr(SqliteStore, "put", broken)
    told = await gateway.attempt(["ok@x.test", "no@x.test"])
    assert {answer.code for answer in told.values()} == {451}
    assert not next_hop.delivered


async def test_what_was_not_carried_out_is_deferred(next_hop: NextHop) -> None:
    planned = plan([Wish(index=0, mailbox="a@x.test")], Ability.SMTP)
    delivery = Delivery(quarantine=cast("Any", None), journal=cast("Any", None), ledger=cast("Any", None))
    assert delivery.failed(planned, CODES[450], "why").problems == ("why",)


@asynccontextmanager
async def desk(directory: Path) -> AsyncIterator[Delivery]:
    """One with a ledger of its own."""
    async with AsyncExitStack() as stack:
        store = await SqliteStore.open(directory / "store.sqlite")
        stack.push_async_callback(store.close)
        ledger = await Ledger.open(directory / "ledger.sqlite", store)
        stack.push_async_callback(ledger.close)
        yield Delivery(quarantine=cast("Quarantine", None), journal=Records(), ledger=ledger)


@pytest.mark.parametrize("is_at_once", [True, False])
async def test_admission_at_once_is_that_of_admission_with_hints(tmp_path: Path, *, is_at_once: bool) -> None:
    async with desk(tmp_path) as delivery:
        transaction = Transaction(id="T1", session=Session(id="S"))
        bob, carol = (
            Recipient(forward_path=paths.Path(f"<{name}@x.test>".encode(), name, "x.test"), route=route)
            for name, route in (("bob", "r"), ("carol", "other"))
        )

        async def admitted(recipient: Recipient) -> int:
            if is_at_once:
                refused = delivery.admit_next(transaction, recipient, trusted=False)
            else:
                refused = await delivery.admit(transaction, recipient, trusted=False)
            return 250 if refused is None else refused.code

        assert delivery.admit_first(transaction, bob, since=math.inf)
        assert not delivery.admit_first(transaction, carol, since=math.inf), "somebody came before"
        assert [await admitted(one) for one in (carol, bob)] == [452, 250]
        for _ in range(2):
            await delivery.withdraw(transaction, bob)
        assert await admitted(carol) == 250
        other = Transaction(id="T2", session=transaction.session)
        assert not delivery.admit_first(other, bob, since=math.inf), "withdrawn while another was turned away: there is a hint"


async def test_who_joined_a_transaction_is_not_in_the_next_one_of_its_session(tmp_path: Path) -> None:
    async with desk(tmp_path) as delivery:
        session = Session(id="S")
        bob, carol = (
            Recipient(forward_path=paths.Path(f"<{name}@x.test>".encode(), name, "x.test"), route=route)
            for name, route in (("bob", "r"), ("carol", "other"))
        )
        assert delivery.admit_first(Transaction(id="T1", session=session), bob, math.inf)
        second = Transaction(id="T2", session=session)
        assert delivery.admit_next(second, carol, trusted=False) is None, "bob was the first one's"
        assert delivery.admit_first(Transaction(id="T3", session=session), bob, math.inf)
        third = Transaction(id="T4", session=session)
        assert delivery.admit_first(third, carol, math.inf)
        refused = delivery.admit_next(third, bob, trusted=False)
        assert refused is not None
        assert refused.code == 452, "of another class than carol"
