"""The store: time to live, bounds, atomic over processes, survives a restart."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import Store
from gateway.store import MAX_KEY, MAX_VALUE, SqliteStore


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
async def store(tmp_path: Path, now: list[float]) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "store.sqlite", clock=lambda: now[0])
    yield opened
    await opened.close()


async def test_put_get_delete_expire(store: SqliteStore, now: list[float]) -> None:
    as_store: Store = store
    assert await as_store.get("k") is None
    await as_store.put("k", b"\x00v", ttl=10)
    await as_store.put("k", b"w", ttl=10)
    assert await as_store.get("k") == b"w"
    now[0] += 9.9
    assert await as_store.get("k") == b"w"
    now[0] += 0.1
    assert await as_store.get("k") is None
    await as_store.put("k", b"v", ttl=10)
    await as_store.delete("k")
    await as_store.delete("k")
    assert await as_store.get("k") is None


async def test_put_if_absent(store: SqliteStore, now: list[float]) -> None:
    assert await store.put_if_absent("k", b"1", ttl=10)
    assert not await store.put_if_absent("k", b"2", ttl=100)
    assert await store.get("k") == b"1"
    now[0] += 10
    assert await store.put_if_absent("k", b"3", ttl=10)
    assert await store.get("k") == b"3"


async def test_incr_keeps_the_first_time_to_live(store: SqliteStore, now: list[float]) -> None:
    assert await store.incr("n", ttl=10) == 1
    now[0] += 9
    assert await store.incr("n", 5, ttl=10) == 6
    assert await store.incr("n", -2, ttl=10) == 4
    assert await store.get("n") == b"4"
    now[0] += 1
    assert await store.incr("n", ttl=10) == 1
    await store.put("n", b"text", ttl=10)
    assert await store.incr("n", ttl=10) == 1


async def test_a_bucket_fills_with_time(store: SqliteStore, now: list[float]) -> None:
    assert [await store.take("b", rate=0.5, burst=3) for _ in range(4)] == [2, 1, 0, -1]
    now[0] += 1  # half a token more
    assert await store.take("b", rate=0.5, burst=3) == -0.5
    now[0] += 1
    assert await store.take("b", rate=0.5, burst=3) == 0
    assert await store.take("b", -2, rate=0.5, burst=3) == 2  # given back
    assert await store.take("b", -2, rate=0.5, burst=3) == 3  # never more than full
    now[0] += 1_000
    assert await store.take("b", 3, rate=0.5, burst=3) == 0
    assert await store.take("b", 4, rate=0.5, burst=3) == -4


async def test_a_full_bucket_takes_no_room(store: SqliteStore, now: list[float]) -> None:
    await store.take("b", 3, rate=0.5, burst=3)
    now[0] += 5.9
    assert await store.sweep() == 0
    now[0] += 1.2
    assert await store.sweep() == 1


async def test_a_bucket_whose_clock_was_ahead_is_not_stuck(store: SqliteStore, now: list[float]) -> None:
    now[0] += 1_000_000
    await store.take("b", 2, rate=0.5, burst=3)
    now[0] -= 1_000_000
    assert await store.take("b", rate=0.5, burst=3) == 0
    now[0] += 2
    assert await store.take("b", rate=0.5, burst=3) == 0


async def test_a_value_that_is_no_bucket_is_a_full_one(store: SqliteStore) -> None:
    await store.put("b", b"text", ttl=10)
    assert await store.take("b", rate=1, burst=2) == 1
    await store.put("b", b"\x7f\xf8" + b"\0" * 14, ttl=10)  # not a number
    assert await store.take("b", rate=1, burst=2) == 1


@pytest.mark.parametrize(
    ("amount", "rate", "burst"), [(1, 0, 1), (1, 1, 0), (1, -1, 1), (float("nan"), 1, 1), (1, 1, float("inf"))]
)
async def test_figures_that_no_bucket_has(store: SqliteStore, amount: float, rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="bucket"):
        await store.take("b", amount, rate=rate, burst=burst)


async def test_sweep_removes_what_has_expired(store: SqliteStore, now: list[float]) -> None:
    await store.put("old", b"", ttl=1)
    await store.put("new", b"", ttl=10)
    now[0] += 1
    assert await store.sweep() == 1
    assert await store.sweep() == 0
    assert await store.get("new") == b""


async def test_bounds(store: SqliteStore) -> None:
    await store.put("k" * MAX_KEY, b"v" * MAX_VALUE, ttl=10)
    for key in ("", "k" * (MAX_KEY + 1)):
        with pytest.raises(ValueError, match="key"):
            await store.get(key)
    with pytest.raises(ValueError, match="value"):
        await store.put("k", b"v" * (MAX_VALUE + 1), ttl=10)
    await store.put("\udcff", b"v", ttl=10)
    assert await store.get("\udcff") == b"v"


async def test_it_survives_a_restart(tmp_path: Path) -> None:
    first = await SqliteStore.open(tmp_path / "s.sqlite")
    await first.put("k", b"v", ttl=100)
    await first.close()
    second = await SqliteStore.open(tmp_path / "s.sqlite")
    assert await second.get("k") == b"v"
    await second.close()


CHILD = """
import asyncio, sys
from pathlib import Path
from gateway.store import SqliteStore

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    won = took = 0
    for number in range(60):
        took += await store.take("bucket", rate=1e-6, burst=50) >= 0
        await store.incr("count", ttl=1000)
        won += await store.put_if_absent(f"once-{number}", b"", ttl=1000)
    await store.close()
    print(won, took)

asyncio.run(main())
"""


async def test_atomic_over_processes(tmp_path: Path) -> None:
    file = str(tmp_path / "s.sqlite")
    children = [
        subprocess.Popen([sys.executable, "-c", CHILD, file], stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
        for _ in range(3)
    ]
    outputs = [(await asyncio.to_thread(child.communicate, timeout=50))[0] for child in children]
    assert [sum(column) for column in zip(*(map(int, output.split()) for output in outputs), strict=True)] == [60, 50]
    store = await SqliteStore.open(Path(file))
    assert await store.get("count") == b"180"
    await store.close()
