"""Disk and database fail at the n-th call, the process dies at the n-th call, processes race, the disk is full."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.content import Content
from gateway.errors import StorageError
from gateway.journal import Journal, writer
from gateway.quarantine import Copy, Quarantine, Query, State
from gateway.quarantine.release import release

SCENARIO = Path(__file__).with_name("quarantine_scenario.py")


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("quarantine_scenario", SCENARIO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


faults = _load()


@pytest.fixture
def memory_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory where fsync is quick: hundreds of runs, and no power is cut here."""
    if not Path("/dev/shm").is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as made:
        yield Path(made)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
async def test_the_nth_call_fails(memory_disk: Path, for_good: bool) -> None:
    n = 0
    while True:
        n += 1
        directory = memory_disk / str(n)
        notes: list[str] = []
        at: list[str] = []

        def strike(what: str, at: list[str] = at) -> None:
            at.append(what)
            faults.fail_disk(what)

        counter = faults.Counter(n, strike, for_good=for_good)
        with pytest.MonkeyPatch.context() as patch:
            quarantine = await Quarantine.open(directory, retention=1e9, lease=faults.LEASE, clock=faults.Clock())
            faults.inject(quarantine, counter, patch.setattr)
            await faults.scenario(quarantine, notes.append)
            await quarantine.close()
        try:
            await faults.check(directory, notes, certain="database after commit" not in at)
        except AssertionError as error:
            raise AssertionError(f"call {n} ({at[:1]}): {notes}") from error
        if not counter.struck:
            break
    assert n > 60, "the scenario makes many calls"
    assert {"held to-hold", "held at-once", "held pair-1", "held pair-2", "delivered to-release", "reported True"} == set(notes)


async def test_the_order_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File synced, directory synced, row committed; and backwards: tombstone committed, file removed, row gone."""
    quarantine = await Quarantine.open(tmp_path, retention=1e9, lease=60.0)
    counter = faults.Counter(0, faults.fail_disk)
    faults.inject(quarantine, counter, monkeypatch.setattr)

    def calls() -> list[str]:
        log = [what for what in counter.log if not what.startswith("after") and what != "database execute"]
        counter.log.clear()
        return log

    commit = ["database commit", "database after commit"]
    ticket = await quarantine.write_pending(faults.a_copy("m"))
    assert calls() == ["open", "write", "fsync", "open", "fsync", *commit]
    await quarantine.hold(ticket)
    assert calls() == commit
    await quarantine.delete(ticket.id)
    assert calls() == [*commit, "unlink", *commit]
    await quarantine.close()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_kill_9_at_the_nth_call(memory_disk: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(SCENARIO), str(memory_disk)], capture_output=True, text=True, timeout=170, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 60


RACE = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {here!r})
import quarantine_scenario as faults
from gateway.quarantine import Quarantine
from gateway.quarantine.release import release

async def main():
    quarantine = await Quarantine.open(Path(sys.argv[1]), retention=1e9, lease=60.0)
    print("ready", flush=True)
    sys.stdin.readline()
    for id_ in sys.argv[2:]:
        way = faults.NextHop(lambda name: print("delivered", name, flush=True))
        await release(quarantine, id_, lambda route, entry: way, server_name="mx.test")
    await quarantine.close()

asyncio.run(main())
"""


async def test_processes_that_race_for_a_release_deliver_once(tmp_path: Path) -> None:
    quarantine = await Quarantine.open(tmp_path, retention=1e9, lease=60.0)
    ids = [(await quarantine.write_held(faults.a_copy(f"m{n}"))).id for n in range(12)]
    code = RACE.format(here=str(SCENARIO.parent))
    children = [
        subprocess.Popen(  # noqa: ASYNC220 - three processes at once
            [sys.executable, "-c", code, str(tmp_path), *ids], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdout is not None
        assert await asyncio.to_thread(child.stdout.readline) == "ready\n"
    outputs = await asyncio.gather(*(asyncio.to_thread(child.communicate, "go\n", 50) for child in children))
    delivered = "".join(output for output, _ in outputs).split("\n")
    assert sorted(line for line in delivered if line) == sorted(f"delivered m{n}" for n in range(12))
    assert {entry.id for entry in await quarantine.search(Query(state="released"))} == set(ids)
    await quarantine.close()


async def test_hold_and_sweep_race_and_one_wins(tmp_path: Path) -> None:
    """The worker's lease has lapsed at the moment it wants to hold: either it holds, or the sweep keeps; never both."""
    owner = await Quarantine.open(tmp_path, retention=1e9, lease=0.0)
    other = await Quarantine.open(tmp_path, retention=1e9, lease=0.0)
    outcomes = set()
    for n in range(40):
        ticket = await owner.write_pending(faults.a_copy(f"m{n}"))
        work = [owner.hold(ticket), other.sweep()]
        results: list[Any] = await asyncio.gather(*(work if n % 2 else reversed(work)))
        (held,) = [result for result in results if isinstance(result, bool)]
        entry = await owner.get(ticket.id)
        assert entry is not None
        assert (entry.state, entry.confirmed) == ((State.HELD, True) if held else (State.KEPT, False))
        outcomes.add(held)
    assert True in outcomes or False in outcomes
    await owner.close()
    await other.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    where = tmp_path / "small"
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(where)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mount: {mounted.stderr.strip()}")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


def a_big_copy(name: str, size: int) -> Copy:
    return Copy(transaction_id=name, content=Content(os.urandom(size)), recipients=((b"<a@inbox.test>", (), "r"),))


@pytest.mark.parametrize("size", [300_000, 2_000])
async def test_a_full_disk_refuses_and_keeps_what_it_has(small_disk: Path, size: int) -> None:
    quarantine = await Quarantine.open(small_disk / "q", retention=1e9, lease=60.0)
    held: list[str] = []

    async def fill() -> None:
        while len(held) < 3_000:
            held.append((await quarantine.write_held(a_big_copy(f"m{len(held)}", size))).id)

    with pytest.raises(StorageError) as caught:
        await fill()
    assert caught.value.full
    assert held
    for _ in range(3):  # and it stays so
        with pytest.raises(StorageError) as again:
            await quarantine.write_pending(a_big_copy("more", 400_000))
        assert again.value.full
    await quarantine.close()

    quarantine = await Quarantine.open(small_disk / "q", retention=1e9, lease=60.0)
    entries = await quarantine.search(Query(limit=1000))
    assert {entry.id for entry in entries} <= set(held)
    for entry in entries:
        content = await quarantine.content(entry)
        assert content.size == size
        content.close()
    files = [path for path in (small_disk / "q" / "blobs").rglob("*") if path.is_file()]
    assert len(files) == len(held)
    await quarantine.close()


async def test_a_full_disk_stops_no_journal_record(small_disk: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "RETRY", 0.05)
        journal = await Journal.open(small_disk / "journal.sqlite", retention=1e9, queue=20)
        with pytest.raises(OSError, match="No space"), (small_disk / "filler").open("wb", buffering=0) as filler:
            filler.writelines(bytes(4096) for _ in range(10_000))
        record = _record("x")
        with pytest.raises(StorageError) as caught:
            await journal.commit(record)
        assert caught.value.full
        for n in range(100):
            journal.record(_record(f"r{n}"))
        await asyncio.sleep(0.6)
        assert journal.dropped == 80
        (small_disk / "filler").unlink()
        async with asyncio.timeout(10):
            while await journal.get("r19") is None:  # noqa: ASYNC110 - the file is the only sign
                await asyncio.sleep(0.05)
        await journal.commit(record)
        await journal.close()
        assert journal.dropped == 80


def _record(id_: str) -> Any:
    text = dict.fromkeys(
        (
            "session",
            "listener",
            "client",
            "helo",
            "reverse_path",
            "message_id",
            "subject",
            "verdict",
            "plugin",
            "reason",
            "reply",
        ),
        "",
    )
    return {"id": id_, "time": time.time(), "recipients": [], **text, "evidence": os.urandom(2_000).hex()}


async def test_a_release_whose_mark_cannot_be_written_is_not_called_released(tmp_path: Path) -> None:
    quarantine = await Quarantine.open(tmp_path, retention=1e9, lease=60.0)
    ticket = await quarantine.write_held(a_big_copy("m", 100))
    delivered: list[str] = []

    def way(_route: str, _entry: object) -> Any:
        counter = faults.Counter(1, faults.fail_disk, for_good=True)
        faults.inject(quarantine, counter, patch.setattr)
        return faults.NextHop(delivered.append)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(StorageError):
        await release(quarantine, ticket.id, way, server_name="mx.test")
    assert delivered
    entry = await quarantine.get(ticket.id)
    assert entry is not None
    assert entry.state is State.RELEASING, "the sweep makes it held again, and says that the next hop may have it"
    await quarantine.close()
