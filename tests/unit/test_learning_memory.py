"""What was learnt: counts, the same message again, a changed mind, ageing, bounds, several processes at one file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.errors import StorageError
from gateway.learning import Lesson, Memory, Status, memory
from gateway.testing import Clock


def lesson(*tokens: int, digest: str = "") -> Lesson:
    return Lesson({token: str(token) for token in tokens}, digest or repr(tokens))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def learnt(tmp_path: Path, clock: Clock) -> AsyncIterator[Memory]:
    opened = await Memory.open(tmp_path / "learning.sqlite", clock=clock, max_tokens=1_000, horizon=1_000)
    yield opened
    await opened.close()


async def test_counts(learnt: Memory) -> None:
    assert await learnt.learn(lesson(1, 2), "spam") == "learnt"
    assert await learnt.learn(lesson(2, -3), "ham") == "learnt"
    known = await learnt.known([1, 2, -3, 4])
    assert (known.ham, known.spam) == (1, 1)
    assert known.tokens == {1: (0, 1), 2: (1, 1), -3: (1, 0)}
    assert await learnt.status() == Status(ham=1, spam=1, tokens=3, lessons=2)


async def test_the_same_again_is_known_and_a_changed_mind_is_undone(learnt: Memory) -> None:
    await learnt.learn(lesson(1, 2), "spam")
    assert await learnt.learn(lesson(1, 2), "spam") == "known"
    assert await learnt.learn(lesson(1, 2), "ham") == "changed"
    known = await learnt.known([1, 2])
    assert (known.ham, known.spam, known.tokens) == (1, 0, {1: (1, 0), 2: (1, 0)})


async def test_a_message_without_tokens(learnt: Memory) -> None:
    assert await learnt.learn(lesson(digest="empty"), "ham") == "learnt"
    assert (await learnt.known([])).ham == 1


async def test_many_tokens_at_once(learnt: Memory) -> None:
    await learnt.learn(lesson(*range(1_400)), "ham")
    assert len((await learnt.known(range(1_400))).tokens) == 1_400


async def test_what_was_learnt_counts_half_after_the_horizon(tmp_path: Path, clock: Clock) -> None:
    opened = await Memory.open(tmp_path / "l.sqlite", clock=clock, horizon=10)
    for n in range(10):
        await opened.learn(lesson(1, digest=str(n)), "spam")
    known = await opened.known([1])
    assert (known.spam, known.tokens[1]) == (5, (0, 5))
    await opened.close()


async def test_tokens_are_bounded_and_the_old_ones_go_first(learnt: Memory, clock: Clock) -> None:
    for n in range(40):
        await learnt.learn(lesson(7, *range(n * 100, n * 100 + 20), digest=str(n)), "spam")
        clock.move(86_400)
    for n in range(40, 64):
        await learnt.learn(lesson(7, *range(n * 100, n * 100 + 20), digest=str(n)), "spam")
    status = await learnt.status()
    assert status.tokens <= 1_000
    known = await learnt.known([7, 1, 6_300])
    assert 7 in known.tokens  # often seen
    assert 6_300 in known.tokens
    assert 1 not in known.tokens


async def test_what_nobody_has_seen_for_long_is_forgotten(learnt: Memory, clock: Clock) -> None:
    await learnt.learn(lesson(1), "spam")
    clock.move(86_400 * (memory.FORGET_DAYS + 2))
    for n in range(63):
        await learnt.learn(lesson(2, digest=str(n)), "ham")
    assert set((await learnt.known([1, 2])).tokens) == {2}


async def test_lessons_are_bounded(learnt: Memory, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_LESSONS", 40)
    for n in range(64):
        await learnt.learn(lesson(1, digest=str(n)), "ham")
        clock.move(1)
    assert (await learnt.status()).lessons == 40
    assert await learnt.learn(lesson(1, digest="63"), "ham") == "known"
    assert await learnt.learn(lesson(1, digest="0"), "ham") == "learnt"


async def test_two_at_one_file(tmp_path: Path, learnt: Memory, clock: Clock) -> None:
    other = await Memory.open(tmp_path / "learning.sqlite", clock=clock)
    await asyncio.gather(*((learnt, other)[n % 2].learn(lesson(1, digest=str(n % 10)), "spam") for n in range(40)))
    assert (await other.known([1])).tokens == {1: (0, 10)}
    await other.close()


async def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        await Memory.open(tmp_path / "file" / "learning.sqlite")
