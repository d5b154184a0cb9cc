"""The journal: batches off the mail path, bounded, counted losses, recovery, durable discards, searching, several processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.errors import StorageError
from gateway.journal import Journal, writer
from gateway.journal.records import PLAIN, WINDOW, record_of, row_of
from gateway.trace import RecipientRecord, Record


def a_record(id_: str = "t1", **changes: Any) -> Record:
    recipient = RecipientRecord(
        forward_path="<Alice@inbox.test>",
        sent_path="",
        route="r",
        fate="delivered",
        verdict="",
        plugin="",
        reason="",
        evidence="",
        reply="",
    )
    record: dict[str, Any] = {
        "id": id_,
        "session": "s1",
        "time": time.time(),
        "duration_ms": 1.5,
        "listener": "default",
        "client": "192.0.2.7",
        "helo": "client.example",
        "identity": "",
        "tls": "",
        "reverse_path": "<Sender@client.example>",
        "parameters": ["SIZE=10"],
        "recipients": [recipient],
        "message_id": "<1@client.example>",
        "subject": "Grüße",
        "size": 10,
        "verdict": "delivered",
        "plugin": "",
        "reason": "",
        "reply": "250 2.0.0 Ok",
        "next_hop": "127.0.0.1:2526",
        "next_hop_reply": "250 2.0.0 Ok",
        "queue_id": "4711",
        "generation": "g",
        "steps": [],
        "steps_dropped": 0,
    }
    return record | changes  # type: ignore[return-value]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
async def journal(file: Path) -> AsyncIterator[Journal]:
    opened = await Journal.open(file, retention=1000.0, queue=2000)
    yield opened
    await opened.close()


async def reopened(file: Path) -> Journal:
    return await Journal.open(file, retention=1000.0, queue=10)


@pytest.mark.parametrize("subject", ["short", "x" * (2 * PLAIN), "Zeile " * WINDOW, "\udcff\x00"])
def test_a_record_comes_back_as_it_was(subject: str) -> None:
    record = a_record(subject=subject)
    assert record_of(row_of(record)[-1]) == record


async def test_close_writes_what_is_queued(file: Path, journal: Journal) -> None:
    other = await Journal.open(file, retention=1000.0, queue=2000)
    for number in range(1200):
        other.record(a_record(f"t{number}"))
    await other.close()
    assert other.dropped == 0
    assert len(await journal.search(limit=1000)) == 1000
    assert (await journal.get("t1199")) is not None
    other.record(a_record("late"))
    assert other.dropped == 1


async def test_a_record_is_written_without_being_asked(journal: Journal) -> None:
    journal.record(a_record("one"))
    async with asyncio.timeout(3):
        while await journal.get("one") is None:  # noqa: ASYNC110 - the file is the only sign
            await asyncio.sleep(0.02)


async def test_a_full_batch_does_not_wait(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "DELAY", 30.0)
    for number in range(writer.BATCH):
        journal.record(a_record(f"t{number}"))
    async with asyncio.timeout(5):
        while await journal.get("t499") is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_record_may_be_made_later_off_the_loop(journal: Journal) -> None:
    threads = []

    def make() -> Record:
        threads.append(threading.current_thread())
        return a_record("made")

    journal.record(make)
    assert not threads
    async with asyncio.timeout(3):
        while await journal.get("made") is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert threads[0] is not threading.main_thread()


async def test_a_record_is_what_it_was_when_it_was_handed_over(file: Path, journal: Journal) -> None:
    other = await Journal.open(file, retention=1000.0, queue=2000)
    records = [a_record("short"), a_record("long", reason="x" * (2 * PLAIN))]
    for record in records:
        other.record(record)
        record["subject"] = "changed"
    other.record({"id": "wrong"})  # type: ignore[arg-type]
    assert other.dropped == 1
    await other.close()
    found = [await journal.get("short"), await journal.get("long")]
    assert found == [record | {"subject": "Grüße"} for record in records]


async def test_one_that_cannot_be_made_costs_only_itself(journal: Journal) -> None:
    def broken() -> Record:
        raise RuntimeError

    journal.record(a_record("good"))
    journal.record(broken)
    journal.record({"id": "wrong"})  # type: ignore[arg-type]
    async with asyncio.timeout(3):
        while await journal.get("good") is None or journal.dropped < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert journal.dropped == 2


async def test_a_full_queue_drops_and_counts_and_reports_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "DELAY", 60.0)
    journal = await Journal.open(file, retention=1000.0, queue=10)
    with capture_logs() as logs:
        for number in range(25):
            journal.record(a_record(f"t{number}"))
    assert journal.dropped == 15
    assert [line["event"] for line in logs] == ["journal.failed"]
    await journal.close()
    journal = await reopened(file)
    assert {record["id"] for record in await journal.search()} == {f"t{n}" for n in range(10)}
    await journal.close()


async def test_a_broken_file_costs_nothing_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RETRY", 0.05)
    (tmp_path / "dir").write_text("in the way")
    with capture_logs() as logs:
        journal = await Journal.open(tmp_path / "dir" / "journal.sqlite", retention=1000.0, queue=5)
        for number in range(8):
            journal.record(a_record(f"t{number}"))
        with pytest.raises(StorageError):
            await journal.commit(a_record("discard"))
        await asyncio.sleep(0.5)
        assert journal.dropped == 3
        (tmp_path / "dir").unlink()
        async with asyncio.timeout(5):
            while True:
                try:
                    if await journal.get("t4") is not None:
                        break
                except StorageError:
                    pass
                await asyncio.sleep(0.05)
        await journal.commit(a_record("discard"))
    assert journal.dropped == 3
    assert len(await journal.search()) == 6
    assert len([line for line in logs if line["event"] == "journal.failed"]) == 1
    await journal.close()


@pytest.mark.parametrize("how", ["unlink", "garbage"])
async def test_a_file_taken_away_is_begun_anew(file: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RETRY", 0.05)
    journal = await Journal.open(file, retention=1000.0, queue=100)
    journal.record(a_record("before"))
    async with asyncio.timeout(5):
        while await journal.get("before") is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    if how == "garbage":
        other = file.with_name("garbage")
        other.write_bytes(b"this is no database" * 1000)
        other.replace(file)
        journal.record(a_record("lost for now"))
        await asyncio.sleep(0.3)
    for left in file.parent.glob("journal.sqlite*"):
        left.unlink()
    journal.record(a_record("after"))
    await asyncio.sleep(0.8)
    await journal.close()
    again = await reopened(file)
    assert await again.get("after") is not None
    assert await again.get("before") is None
    await again.close()


async def test_commit_is_there_when_it_returns_and_the_final_record_replaces_it(file: Path, journal: Journal) -> None:
    await journal.commit(a_record("d", verdict="discarded"))
    other = await reopened(file)
    assert await other.get("d") is not None
    await other.close()
    record = await journal.get("d")
    assert record is not None
    assert record["verdict"] == "discarded"
    journal.record(a_record("d", verdict="mixed"))
    async with asyncio.timeout(3):
        while not await journal.search(verdict="mixed"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert len(await journal.search()) == 1


async def test_commit_of_what_is_no_record_is_an_error(journal: Journal) -> None:
    with pytest.raises(StorageError, match="not a record"):
        await journal.commit({"id": "x"})  # type: ignore[typeddict-item]


async def test_search(journal: Journal) -> None:
    now = time.time()
    await journal.commit(a_record("a", time=now - 100, client="198.51.100.1", verdict="rejected"))
    await journal.commit(a_record("b", time=now - 50, reverse_path="<>"))
    await journal.commit(a_record("c", time=now))

    async def found(**query: Any) -> str:
        return "".join(record["id"] for record in await journal.search(**query))

    assert await found() == "cba"
    assert await found(limit=2) == "cb"
    assert await found(since=now - 60) == "cb"
    assert await found(verdict="rejected") == "a"
    assert await found(from_="SENDER@") == "ca"
    assert await found(from_="<>") == "b"
    assert await found(to="alice@INBOX") == "cba"
    assert await found(to="bob") == ""
    assert await found(from_="%") == ""
    assert await found(client="198.51.100.") == "a"
    assert await found(client="51.100") == ""
    assert await journal.get("nothing") is None


async def test_retention_ends_old_records(file: Path) -> None:
    first = await reopened(file)
    await first.commit(a_record("old", time=time.time() - 2000))
    await first.commit(a_record("young", time=time.time() - 500))
    first.record(a_record("now"))
    await first.close()
    second = await reopened(file)
    assert {record["id"] for record in await second.search()} == {"young", "now"}
    await second.close()


CHILD = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_journal import a_record
from gateway.journal import Journal

async def main():
    journal = await Journal.open(Path(sys.argv[1]), retention=1000.0, queue=10000)
    for number in range(300):
        journal.record(a_record(f"{{sys.argv[2]}}-{{number}}"))
        if number % 50 == 0:
            await journal.commit(a_record(f"{{sys.argv[2]}}-discard-{{number}}"))
    await journal.close()
    sys.exit(journal.dropped)

asyncio.run(main())
"""


async def test_several_processes_write_the_same_file(file: Path) -> None:
    code = CHILD.format(tests=str(Path(__file__).parent))
    children = [subprocess.Popen([sys.executable, "-c", code, str(file), name], env=os.environ) for name in "abc"]  # noqa: ASYNC220
    assert [await asyncio.to_thread(child.wait, 50) for child in children] == [0, 0, 0]
    journal = await reopened(file)
    assert len(await journal.search(limit=1000)) == 3 * 306
    await journal.close()
