"""Pending, held, kept: compare-and-set, leases, sweeps, counted blobs, limits."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway import add_header, tag_subject
from gateway.content import Content
from gateway.errors import StorageError
from gateway.quarantine import Copy, Quarantine, Query, State, SweepReport, Ticket, collect, expire
from gateway.trace import Record

OCTETS = b"Subject: hello\r\nFrom: a@b.example\r\n\r\n\x00\xffbody\r\n"


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def a_copy(octets: bytes = OCTETS, **changes: Any) -> Copy:
    values: dict[str, Any] = {
        "transaction_id": "t1",
        "content": Content(octets),
        "edits": (add_header("X-Spam", "yes"), tag_subject("[x]")),
        "reverse_path": b"<Sender@Client.example>",
        "parameters": (b"SIZE=100", b"BODY=8BITMIME"),
        "recipients": ((b"<alice@inbox.test>", (b"NOTIFY=NEVER",), "default"), (b"<bob@inbox.test>", (), "default")),
        "box": "virus",
        "plugin": "rules",
        "reason": "executable-attachment",
        "evidence": "invoice.exe",
        "facts": {"client": "192.0.2.7", "helo": "client.example", "subject": "Grüße", "message_id": "<1@x>", "time": 5.0},
    }
    return Copy(**values | changes)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def quarantine(tmp_path: Path, clock: Clock) -> AsyncIterator[Quarantine]:
    opened = await Quarantine.open(tmp_path / "q", retention=1000.0, lease=10.0, clock=clock)
    yield opened
    await opened.close()


def files(quarantine: Quarantine) -> list[Path]:
    return [path for path in (quarantine.directory / "blobs").rglob("*") if path.is_file()]


async def state(quarantine: Quarantine, ticket: Ticket) -> State:
    entry = await quarantine.get(ticket.id)
    assert entry is not None
    return entry.state


async def test_everything_comes_back_as_it_was_written(quarantine: Quarantine, clock: Clock) -> None:
    ticket = await quarantine.write_held(a_copy())
    entry = await quarantine.get(ticket.id)
    assert entry is not None
    copy = a_copy()
    for name in {field.name for field in dataclasses.fields(Copy)} - {"content"}:
        assert getattr(entry, name) == getattr(copy, name), name
    assert (entry.state, entry.confirmed, entry.created, entry.size) == (State.HELD, True, clock.now, len(OCTETS))
    content = await quarantine.content(entry)
    assert content.octets[:] == OCTETS
    content.close()


async def test_an_empty_content_can_be_held(quarantine: Quarantine) -> None:
    ticket = await quarantine.write_held(a_copy(b""))
    entry = await quarantine.get(ticket.id)
    assert entry is not None
    assert (await quarantine.content(entry)).size == 0


async def test_the_blob_is_private_and_named_by_its_digest(quarantine: Quarantine) -> None:
    ticket = await quarantine.write_kept(a_copy())
    entry = await quarantine.get(ticket.id)
    assert entry is not None
    (file,) = files(quarantine)
    assert file.name.startswith(entry.digest)
    assert file.parent.name == entry.digest[:2]
    assert file.stat().st_mode & 0o777 == 0o600


async def test_pending_becomes_held_once(quarantine: Quarantine) -> None:
    ticket = await quarantine.write_pending(a_copy())
    assert await state(quarantine, ticket) == State.PENDING
    assert await quarantine.hold(ticket)
    assert await state(quarantine, ticket) == State.HELD
    assert not await quarantine.hold(ticket)


async def test_another_epoch_holds_nothing(quarantine: Quarantine) -> None:
    ticket = await quarantine.write_pending(a_copy())
    assert not await quarantine.hold(Ticket(id=ticket.id, epoch="other"))
    assert await state(quarantine, ticket) == State.PENDING


async def test_several_tickets_are_held_together_or_not_at_all(quarantine: Quarantine) -> None:
    first, second = await quarantine.write_all([a_copy(), a_copy(box="spam")], State.PENDING)
    await quarantine.drop(second)
    assert not await quarantine.hold(first, second)
    assert await state(quarantine, first) == State.PENDING


async def test_a_dropped_copy_leaves_nothing_but_its_row(quarantine: Quarantine) -> None:
    ticket = await quarantine.write_pending(a_copy())
    await quarantine.drop(ticket)
    await quarantine.drop(ticket)
    assert await state(quarantine, ticket) == State.DROPPED
    assert files(quarantine) == []
    assert not await quarantine.hold(ticket)


async def test_drop_does_not_touch_what_is_held(quarantine: Quarantine) -> None:
    ticket = await quarantine.write_pending(a_copy())
    await quarantine.hold(ticket)
    await quarantine.drop(ticket)
    assert await state(quarantine, ticket) == State.HELD
    assert len(files(quarantine)) == 1


async def test_nothing_to_write_is_nothing(quarantine: Quarantine) -> None:
    assert await quarantine.write_all([], State.HELD) == []
    assert await quarantine.search(Query()) == []


async def test_a_shared_blob_goes_with_its_last_reference(quarantine: Quarantine) -> None:
    content = Content(OCTETS)
    first, second = await quarantine.write_all([a_copy(content=content), a_copy(content=content)], State.HELD)
    assert len(files(quarantine)) == 1
    assert await quarantine.delete(first.id)
    assert len(files(quarantine)) == 1
    assert await quarantine.delete(second.id)
    assert files(quarantine) == []
    assert not await quarantine.delete(second.id)


async def test_the_same_octets_written_twice_are_two_files(quarantine: Quarantine) -> None:
    await quarantine.write_held(a_copy())
    await quarantine.write_held(a_copy())
    assert len({file.name[:64] for file in files(quarantine)}) == 1
    assert len(files(quarantine)) == 2


async def test_sweep_keeps_an_orphan_as_unconfirmed(quarantine: Quarantine, clock: Clock) -> None:
    ticket = await quarantine.write_pending(a_copy())
    clock.now += 10.0
    assert await quarantine.sweep() == SweepReport()
    clock.now += 0.1
    assert await quarantine.sweep() == SweepReport(orphans=1)
    entry = await quarantine.get(ticket.id)
    assert entry is not None
    assert (entry.state, entry.confirmed) == (State.KEPT, False)
    assert len(files(quarantine)) == 1
    assert not await quarantine.hold(ticket), "a worker that was only stopped must not hold it now"


async def test_a_renewed_lease_is_left_alone(quarantine: Quarantine, clock: Clock) -> None:
    ticket = await quarantine.write_pending(a_copy())
    for _ in range(3):
        clock.now += 9.0
        await quarantine.renew()
        assert await quarantine.sweep() == SweepReport()
    assert await quarantine.hold(ticket)
    clock.now += 100.0
    assert await quarantine.sweep() == SweepReport()


async def test_a_lease_is_not_renewed_for_ever(quarantine: Quarantine, clock: Clock) -> None:
    await quarantine.write_pending(a_copy())
    clock.now += 3601.0
    await quarantine.renew()
    assert await quarantine.sweep() == SweepReport(orphans=1)


async def test_a_cancelled_writer_leaves_an_orphan_at_most(quarantine: Quarantine, clock: Clock) -> None:
    for _ in range(5):
        task = asyncio.get_running_loop().create_task(quarantine.write_pending(a_copy()))
        await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await quarantine.database.in_thread(lambda: None)
    await quarantine.renew()
    clock.now += 11.0
    await quarantine.sweep()
    assert {entry.state for entry in await quarantine.search(Query())} <= {State.KEPT}


async def test_search(quarantine: Quarantine, clock: Clock) -> None:
    held = await quarantine.write_held(a_copy())
    clock.now += 1
    kept = await quarantine.write_kept(a_copy(box="spam", facts={"subject": "Other"}))
    clock.now += 1
    gone = await quarantine.write_held(a_copy(box="spam"))
    await quarantine.delete(gone.id)

    async def found(**query: Any) -> list[str]:
        return [entry.id for entry in await quarantine.search(Query(**query))]

    assert await found() == [kept.id, held.id]
    assert await found(limit=1) == [kept.id]
    assert await found(limit=0) == []
    assert await found(state="held") == [held.id]
    assert await found(state="deleted") == [gone.id]
    assert await found(box="spam") == [kept.id]
    assert await found(search="GRÜSSE".replace("SS", "ß")) == [held.id]
    assert await found(search="alice@INBOX") == [kept.id, held.id]
    assert await found(search="%") == []
    assert await found(since=clock.now - 1) == [kept.id]


async def test_of_what_is_not_there(quarantine: Quarantine) -> None:
    assert await quarantine.get("nothing") is None
    assert await quarantine.get("\udcff") is None
    assert not await quarantine.delete("nothing")


async def test_hostile_text_is_stored_bounded(quarantine: Quarantine) -> None:
    facts = {"subject": "\udcff" * 5000, **{f"f{n}": "x" for n in range(100)}}
    ticket = await quarantine.write_held(a_copy(facts=facts, evidence="\udcff\x00" * 4000, plugin="\udce4"))
    entry = await quarantine.get(ticket.id)
    assert entry is not None
    assert len(entry.facts) == 64
    assert entry.fact("subject") == "\udcff" * 2000
    assert len(entry.evidence) == 4000


async def test_retention_ends_held_only_after_its_record(quarantine: Quarantine, clock: Clock) -> None:
    held = await quarantine.write_held(a_copy())
    kept = await quarantine.write_kept(a_copy())
    records: list[Record] = []

    async def broken(record: Record) -> None:
        raise StorageError("full", full=True)

    async def commit(record: Record) -> None:
        assert await state(quarantine, held) == State.EXPIRING
        assert len(files(quarantine)) == 2
        records.append(record)

    clock.now += 999.0
    assert (await expire(quarantine, commit)).held == 0
    clock.now += 2.0
    with pytest.raises(StorageError):
        await expire(quarantine, broken)
    assert len(files(quarantine)) == 2
    clock.now += 11.0
    assert await quarantine.sweep() == SweepReport(interrupted=1)
    report = await expire(quarantine, commit)
    assert (report.held, report.kept) == (1, 1)
    assert (await state(quarantine, held), await state(quarantine, kept)) == (State.EXPIRED, State.EXPIRED)
    assert files(quarantine) == []
    (record,) = records
    assert (record["verdict"], record["reason"]) == ("discarded", "quarantine-expired")
    assert [r["fate"] for r in record["recipients"]] == ["discarded", "discarded"]
    clock.now += 1001.0
    await expire(quarantine, commit)
    assert await quarantine.get(held.id) is None


async def test_collect_finishes_a_removal_that_broke_off(quarantine: Quarantine, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = await quarantine.write_held(a_copy())

    def fail(name: str) -> None:
        raise OSError(5, "I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(quarantine.blobs, "remove", fail)
        assert await quarantine.delete(ticket.id)
    assert len(files(quarantine)) == 1
    assert await collect(quarantine) == 1
    assert files(quarantine) == []
    assert await quarantine.database.read(lambda c: c.execute("SELECT * FROM blobs").fetchall()) == []


async def test_collect_takes_only_old_files_without_a_row(quarantine: Quarantine, clock: Clock) -> None:
    clock.now = time.time()
    await quarantine.write_held(a_copy())
    stray = quarantine.blobs.write(Content(b"stray"))
    fresh = quarantine.blobs.write(Content(b"fresh"))
    for file in files(quarantine):
        if file.name != fresh.name[3:]:
            os.utime(file, (clock.now - 90_000, clock.now - 90_000))
    assert await collect(quarantine) == 1
    names = {f"{file.parent.name}/{file.name}" for file in files(quarantine)}
    assert fresh.name in names
    assert stray.name not in names
    assert len(names) == 2


async def test_a_strange_file_name_is_never_removed(quarantine: Quarantine) -> None:
    for name in ("../quarantine.sqlite", "ab/x", "/etc/passwd", "ab/../../quarantine.sqlite"):
        with pytest.raises(OSError, match="not the name"):
            quarantine.blobs.remove(name)


async def test_the_content_of_an_ended_copy_is_an_error(quarantine: Quarantine) -> None:
    ticket = await quarantine.write_held(a_copy())
    await quarantine.delete(ticket.id)
    entry = await quarantine.get(ticket.id)
    assert entry is not None
    with pytest.raises(StorageError, match="gone"):
        await quarantine.content(entry)


async def test_a_closed_content_is_an_error_and_leaves_nothing(quarantine: Quarantine) -> None:
    copy = a_copy()
    copy.content.close()
    with pytest.raises(StorageError, match="0 octets written"):
        await quarantine.write_pending(copy)
    assert files(quarantine) == []


async def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        await Quarantine.open(tmp_path / "file" / "q", retention=1.0, lease=1.0)
    assert not caught.value.full
