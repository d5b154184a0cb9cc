"""SQLite below everything that is stored: errors mapped, a hung loop holds no lock, several processes open at once."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.errors import StorageError
from gateway.sqlite import Connection, Database, is_full, mapped, scalar, storable

SCHEMA = ("CREATE TABLE IF NOT EXISTS numbers (number INTEGER NOT NULL PRIMARY KEY)",)
INSERT = "INSERT INTO numbers (number) VALUES (?)"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(tmp_path / "d" / "x.sqlite", SCHEMA)
    await opened.open()
    yield opened
    await opened.close()


async def count(database: Database) -> int:
    found: int = await database.read(lambda connection: scalar(connection, "SELECT count(*) FROM numbers"))
    return found


async def test_a_write_is_whole_or_nothing(database: Database) -> None:
    def half(connection: Connection) -> None:
        connection.execute(INSERT, (1,))
        raise KeyError

    with pytest.raises(KeyError):
        await database.write(half)
    assert await count(database) == 0
    assert await database.execute(INSERT, (1,)) == 1
    assert await count(database) == 1


async def test_the_file_is_in_wal_mode_and_synced(database: Database) -> None:
    def pragma(name: str) -> object:
        return database.write_now(lambda connection: scalar(connection, f"PRAGMA {name}"))

    assert await database.in_thread(lambda: pragma("journal_mode")) == "wal"
    assert await database.in_thread(lambda: pragma("synchronous")) == 2  # FULL


async def test_errors_are_mapped_and_the_next_write_works(database: Database) -> None:
    await database.execute(INSERT, (1,))
    with pytest.raises(StorageError) as caught:
        await database.execute(INSERT, (1,))
    assert not caught.value.full
    with pytest.raises(StorageError):
        await database.read(lambda connection: connection.execute("SELECT * FROM nothing"))
    assert await database.execute(INSERT, (2,)) == 1


async def test_a_hung_loop_holds_no_lock(database: Database) -> None:
    """Another process writes while this one's loop is blocked in the middle of its writes."""
    other = Database(database.file, SCHEMA)
    await other.open()
    done = threading.Event()

    def elsewhere() -> None:
        other.write_now(lambda connection: connection.execute(INSERT, (100,)))
        done.set()

    writes = [asyncio.get_running_loop().create_task(database.execute(INSERT, (n,))) for n in range(5)]
    await asyncio.sleep(0)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    assert done.wait(5), "the loop is blocked here, and the other writer must not wait for it"
    thread.join()
    await asyncio.gather(*writes)
    assert await count(database) == 6
    await other.close()


async def test_a_cancelled_caller_leaves_the_file_usable(database: Database) -> None:
    task = asyncio.get_running_loop().create_task(database.write(lambda _: time.sleep(0.1)))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await database.execute(INSERT, (1,)) == 1


def test_what_a_full_disk_looks_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_full(OSError(errno.ENOSPC, ""), tmp_path)
    assert is_full(OSError(errno.EDQUOT, ""), tmp_path)
    assert not is_full(OSError(errno.EIO, ""), tmp_path)
    assert is_full(sqlite3.OperationalError("database or disk is full"), tmp_path)
    assert not is_full(sqlite3.OperationalError("disk I/O error"), tmp_path)
    assert not is_full(sqlite3.OperationalError("disk I/O error"), tmp_path / "nowhere")

    class Full:
        f_bavail = 0

    monkeypatch.setattr("os.statvfs", lambda _: Full)
    assert is_full(sqlite3.OperationalError("disk I/O error"), tmp_path)
    assert not is_full(sqlite3.IntegrityError("UNIQUE"), tmp_path)
    with pytest.raises(StorageError, match="No space") as caught, mapped("what", tmp_path):
        raise OSError(errno.ENOSPC, "No space")
    assert caught.value.full


def test_storable() -> None:
    assert storable("grün\udcff\x00") == "grün?\x00"


CHILD = """
import asyncio, sys
from pathlib import Path
from gateway.sqlite import Database
SCHEMA = ["CREATE TABLE IF NOT EXISTS numbers (number INTEGER NOT NULL PRIMARY KEY)"]
async def main():
    database = Database(Path(sys.argv[1]), SCHEMA)
    print("ready", flush=True)
    sys.stdin.readline()
    await database.open()
    await database.close()
asyncio.run(main())
"""


async def test_workers_open_a_new_file_at_the_same_moment(tmp_path: Path) -> None:
    children = [
        subprocess.Popen(  # noqa: ASYNC220 - they must start together
            [sys.executable, "-c", CHILD, str(tmp_path / "new.sqlite")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for child in children:
        assert child.stdout is not None
        assert await asyncio.to_thread(child.stdout.readline) == "ready\n"
    await asyncio.gather(*(asyncio.to_thread(child.communicate, "go\n", 50) for child in children))
    assert [child.returncode for child in children] == [0, 0, 0, 0]
