"""The ledger: keys, lifetimes, consumption, two processes on one file; hints in the shared store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import ledger as module
from gateway.content import Content
from gateway.errors import StorageError
from gateway.ledger import LOCAL, Attempt, Ledger, client_network, has_identity
from gateway.outcome import Fate, History
from gateway.store import SqliteStore

HEADER = b"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@client.test>\r\n"
NAMES = ["a@x.test", "b@x.test"]


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "store.sqlite", clock=clock)
    yield store
    await store.close()


@pytest.fixture
async def ledger(tmp_path: Path, store: SqliteStore, clock: Clock) -> AsyncIterator[Ledger]:
    ledger = await Ledger.open(tmp_path / "ledger.sqlite", store, clock=clock)
    yield ledger
    await ledger.close()


@pytest.fixture
async def other(tmp_path: Path, store: SqliteStore, clock: Clock, ledger: Ledger) -> AsyncIterator[Ledger]:
    """Another worker's."""
    other = await Ledger.open(tmp_path / "ledger.sqlite", store, clock=clock)
    yield other
    await other.close()


def attempt(
    body: bytes = b"body\r\n",
    *,
    header: bytes = HEADER,
    client: str = "192.0.2.17",
    reverse_path: bytes = b"<c@client.test>",
    parameters: tuple[bytes, ...] = (b"SIZE=100",),
    recipients: tuple[tuple[bytes, tuple[bytes, ...]], ...] = ((b"<a@x.test>", ()), (b"<b@x.test>", (b"NOTIFY=NEVER",))),
) -> Attempt:
    return Attempt(
        client_address=client,
        reverse_path=reverse_path,
        parameters=parameters,
        recipients=recipients,
        content=Content(header + b"\r\n" + body),
    )


async def test_an_entry_is_found_by_the_same_octets_only(ledger: Ledger, other: Ledger) -> None:
    assert await ledger.history(attempt(), NAMES) == History()
    assert await ledger.write(attempt(), {0: Fate.DELIVERED}, "T1")
    for each in (ledger, other):
        assert dict((await each.history(attempt(), NAMES)).past) == {0: Fate.DELIVERED}
        assert dict((await each.history(attempt(client="192.0.2.99"), NAMES)).past) == {0: Fate.DELIVERED}
    swapped = attempt(recipients=((b"<b@x.test>", ()), (b"<a@x.test>", ())))
    assert dict((await other.history(swapped, NAMES)).past) == {1: Fate.DELIVERED}
    different = [
        attempt(b"body \r\n"),
        attempt(header=HEADER.replace(b"10:00:00", b"10:00:01")),
        attempt(client="192.0.3.17"),
        attempt(client=""),
        attempt(reverse_path=b"<C@client.test>"),
        attempt(parameters=()),
        attempt(recipients=((b"<A@x.test>", ()),)),
        attempt(recipients=((b"<a@x.test>", (b"NOTIFY=NEVER",)),)),
    ]
    for one in different:
        assert not (await other.history(one, NAMES)).past, one


async def test_an_entry_is_consumed_once(ledger: Ledger, other: Ledger) -> None:
    await ledger.write(attempt(), {0: Fate.DELIVERED, 1: Fate.HELD}, "T1")
    assert dict((await other.history(attempt(), NAMES)).past) == {0: Fate.DELIVERED, 1: Fate.HELD}
    assert await other.consume(attempt(), (0,))
    assert not await ledger.consume(attempt(), (0,))
    assert not await ledger.consume(attempt(), (0, 1)), "all or none"
    assert dict((await ledger.history(attempt(), NAMES)).past) == {1: Fate.HELD}
    assert await ledger.consume(attempt(), (1,))
    assert not (await other.history(attempt(), NAMES)).past


async def test_a_recipient_named_twice_has_one_entry(ledger: Ledger) -> None:
    twice = attempt(recipients=((b"<a@x.test>", ()), (b"<a@x.test>", ())))
    await ledger.write(twice, {0: Fate.DELIVERED, 1: Fate.DELIVERED}, "T1")
    assert dict((await ledger.history(twice, NAMES)).past) == {0: Fate.DELIVERED, 1: Fate.DELIVERED}
    assert await ledger.consume(twice, (0, 1))


@pytest.mark.parametrize(
    "header", [b"", HEADER.split(b"\r\n")[0] + b"\r\n", b"Message-ID: <1@x>\r\n", b"Subject: Date: Message-ID:\r\n"]
)
async def test_content_without_date_and_message_id_gets_none(ledger: Ledger, header: bytes) -> None:
    assert not await ledger.write(attempt(header=header), {0: Fate.DELIVERED}, "T1")
    assert not (await ledger.history(attempt(header=header), NAMES)).past


def test_identity_is_of_the_header_section() -> None:
    assert has_identity(Content(b"DATE : x\r\nmessage-id: <1@x>\r\n\r\n"))
    assert not has_identity(Content(b"Date: x\r\n\r\nMessage-ID: <1@x>\r\n"))
    assert not has_identity(Content(b"Subject: x\r\n" + b"A: b\r\n" * 200_000 + HEADER + b"\r\n"))


def test_networks() -> None:
    assert client_network("192.0.2.1") == client_network("::ffff:192.0.2.200") == b"\xc0\x00\x02"
    assert client_network("2001:db8::1") == client_network("2001:db8::ffff") != client_network("2001:db8:0:1::1")
    assert client_network("") is client_network("client.example") is None
    assert client_network(f"{LOCAL}mx") == b"unix:mx", "a UNIX socket is one origin"


async def test_entries_end(ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    await ledger.write(attempt(), {0: Fate.DELIVERED}, "T1")
    clock.now += module.LIFETIME + 1
    assert not (await ledger.history(attempt(), NAMES)).past
    monkeypatch.setattr(module, "MAX_ENTRIES", 3)
    for number in range(5):
        clock.now += 1
        await ledger.write(attempt(b"%d\r\n" % number), {0: Fate.DELIVERED}, "T1")
    known = [bool((await ledger.history(attempt(b"%d\r\n" % number), NAMES)).past) for number in range(5)]
    assert known == [False, False, True, True, True]


async def test_many_recipients_and_origins(ledger: Ledger, other: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    many = attempt(recipients=tuple((b"<u%d@x.test>" % n, ()) for n in range(1200)))
    await ledger.write(many, dict.fromkeys(range(1200), Fate.DELIVERED), "T1")
    assert len((await other.history(many, NAMES)).past) == 1200
    assert await other.consume(many, range(1200))
    monkeypatch.setattr(module, "_MAX_ORIGINS", 2)
    for number in range(4):
        await ledger.write(attempt(reverse_path=b"<%d@c.test>" % number), {0: Fate.DELIVERED}, "T1")
    for number in range(4):
        assert (await other.history(attempt(reverse_path=b"<%d@c.test>" % number), NAMES)).past


async def test_a_message_from_elsewhere_is_not_hashed(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content of every message would else be read once more."""
    await ledger.write(attempt(), {0: Fate.DELIVERED}, "T1")
    monkeypatch.setattr(Attempt, "keys", lambda self: pytest.fail("hashed"))
    assert not (await ledger.history(attempt(reverse_path=b"<d@client.test>"), NAMES)).past


async def test_hints_are_shared_counted_and_end(ledger: Ledger, other: Ledger, clock: Clock, tmp_path: Path) -> None:
    reverse_path = b"<c@client.test>"
    assert await ledger.hint(reverse_path, "a@x.test") == ""
    for rounds in (1, 2):
        await ledger.split(reverse_path, {"a@x.test": "accepted", "b@x.test": "rejected"})
        os.utime(tmp_path / "ledger.hints", (clock.now, clock.now))
        assert (await other.history(attempt(), list(reversed(NAMES)))).rounds == rounds
    assert await other.hint(reverse_path, "b@x.test") == "rejected"
    assert await other.hint(b"<d@client.test>", "b@x.test") == ""
    assert (await other.history(attempt(), [*NAMES, "c@x.test"])).rounds == 0
    await other.leave(reverse_path, {"a@x.test": "later 1 x", "b@x.test": ""})
    os.utime(tmp_path / "ledger.hints", (clock.now, clock.now))
    assert [await ledger.hint(reverse_path, name) for name in NAMES] == ["later 1 x", ""]
    clock.now += module.HINT_LIFETIME + 1
    assert await ledger.hint(reverse_path, "a@x.test") == ""


async def test_one_look_serves_whatever_began_before_it(ledger: Ledger, other: Ledger, clock: Clock, tmp_path: Path) -> None:
    """A retry begins after what it needs was written, so only a look that is later than its beginning can miss nothing."""
    now = asyncio.get_running_loop().time
    assert not (await ledger.history(attempt(), NAMES)).past, "found without an entry, once"
    early = now()
    await asyncio.sleep(0.002)
    assert not ledger.has_hints(early)
    assert ledger.is_empty(early)
    await other.write(attempt(), {0: Fate.DELIVERED}, "T1")
    await other.leave(b"<c@client.test>", {"a@x.test": "accepted"})
    os.utime(tmp_path / "ledger.hints", (clock.now, clock.now))
    assert not ledger.has_hints(early), "it began before the look, and cannot be a retry for what came after it"
    assert ledger.is_empty(early)
    for late in (now(), float("inf")):
        assert ledger.has_hints(late)
        assert not ledger.is_empty(late)


async def test_a_look_at_the_turn_in_which_a_transaction_began_is_none(ledger: Ledger, other: Ledger) -> None:
    """The clock of a turn of the loop stands still while things happen in it."""
    await ledger.history(attempt(), NAMES)
    ledger._now = lambda: 7.0
    assert ledger.is_empty(6.0)
    await other.write(attempt(), {0: Fate.DELIVERED}, "T1")
    assert not ledger.is_empty(7.0)


async def test_a_ledger_that_cannot_be_read_knows_nothing(tmp_path: Path, ledger: Ledger, store: SqliteStore) -> None:
    await ledger.write(attempt(), {0: Fate.DELIVERED}, "T1")
    (tmp_path / "ledger.sqlite-wal").unlink()
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database, and long enough to be seen as none" * 100)
    fresh = Ledger(tmp_path / "ledger.sqlite", store, lifetime=1, hint_lifetime=1)
    assert await fresh.history(attempt(), NAMES) == History()
    with pytest.raises(StorageError):
        await fresh.write(attempt(), {0: Fate.DELIVERED}, "T1")
    await fresh.close()
    with pytest.raises(StorageError):
        await Ledger.open(tmp_path / "ledger.sqlite", store)
