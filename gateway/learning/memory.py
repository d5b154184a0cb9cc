"""What was learnt, in SQLite: counts by token, lessons by digest, sums. Bounded: it ages, and forgets what nobody has seen for long.

A lesson is one transaction; the same message twice is one lesson, and a changed mind is undone and learnt anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from gateway.learning.classifier import Known
from gateway.learning.tokens import Lesson
from gateway.sqlite import Connection, Database, marks, scalar

Kind = Literal["ham", "spam"]

MAX_TOKENS = 500_000
"""Remembered; some 25 MB."""
MAX_LESSONS = 100_000
"""Digests remembered."""
HORIZON = 20_000
"""Messages after which all that was learnt counts half."""
FORGET_DAYS = 365
"""A token that no lesson had for so long is forgotten."""
_EVERY = 64
"""Lessons between two looks at the bounds."""
_DAY = 86_400
_AT_ONCE = 500

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS tokens (
        id INTEGER NOT NULL,
        ham FLOAT NOT NULL,
        spam FLOAT NOT NULL,
        day INTEGER NOT NULL,
        PRIMARY KEY (id)
    )""",
    "CREATE INDEX IF NOT EXISTS tokens_day ON tokens (day)",
    """CREATE TABLE IF NOT EXISTS lessons (
        digest VARCHAR NOT NULL,
        kind VARCHAR NOT NULL,
        time FLOAT NOT NULL,
        PRIMARY KEY (digest)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS lessons_time ON lessons (time)",
    "CREATE TABLE IF NOT EXISTS sums (kind VARCHAR NOT NULL, messages FLOAT NOT NULL, PRIMARY KEY (kind))",
)
_LEARN = """INSERT INTO lessons (digest, kind, time) VALUES (?, ?, ?)
    ON CONFLICT (digest) DO UPDATE SET kind = excluded.kind, time = excluded.time"""
_COUNT = """INSERT INTO tokens (id, ham, spam, day) VALUES (:token, max(:ham, 0.0), max(:spam, 0.0), :day)
    ON CONFLICT (id) DO UPDATE SET ham = max(ham + :ham, 0.0), spam = max(spam + :spam, 0.0), day = :day"""
_COUNT_MESSAGE = """INSERT INTO sums (kind, messages) VALUES (:kind, max(:weight, 0.0))
    ON CONFLICT (kind) DO UPDATE SET messages = max(messages + :weight, 0.0)"""
_FORGET_RARE = """DELETE FROM tokens WHERE id IN (SELECT id FROM tokens ORDER BY ham + spam > 1.0, day, id LIMIT ?)"""
_FORGET_LESSONS = "DELETE FROM lessons WHERE digest IN (SELECT digest FROM lessons ORDER BY time LIMIT ?)"


@dataclass(frozen=True, slots=True)
class Status:
    """How much was learnt."""

    ham: float
    spam: float
    tokens: int
    lessons: int


class Memory:
    """One file, of all workers and commands of a host. Every method may raise StorageError."""

    def __init__(
        self, file: Path, *, clock: Callable[[], float] = time.time, max_tokens: int = MAX_TOKENS, horizon: int = HORIZON
    ) -> None:
        self._database = Database(file, _SCHEMA, synchronous="NORMAL")
        self._clock = clock
        self._max_tokens = max_tokens
        self._horizon = horizon

    @classmethod
    async def open(
        cls, file: Path, *, clock: Callable[[], float] = time.time, max_tokens: int = MAX_TOKENS, horizon: int = HORIZON
    ) -> Self:
        """Open or make it."""
        memory = cls(file, clock=clock, max_tokens=max_tokens, horizon=horizon)
        await memory._database.open()
        return memory

    async def close(self) -> None:
        """Close the file."""
        await self._database.close()

    async def known(self, tokens: Collection[int]) -> Known:
        """What was learnt of these tokens."""
        wanted = list(tokens)

        def work(connection: Connection) -> Known:
            found: dict[int, tuple[float, float]] = {}
            for at in range(0, len(wanted), _AT_ONCE):
                some = wanted[at : at + _AT_ONCE]
                statement = f"SELECT id, ham, spam FROM tokens WHERE id IN ({marks(len(some))})"  # noqa: S608 - question marks
                found.update((token, (ham, spam)) for token, ham, spam in connection.execute(statement, some))
            sums = _read_sums(connection)
            return Known(sums.get("ham", 0.0), sums.get("spam", 0.0), found)

        return await self._database.read(work)

    async def learn(self, lesson: Lesson, kind: Kind) -> Literal["learnt", "known", "changed"]:
        """One message. `known`: it was learnt so before, and nothing is changed."""
        now = self._clock()

        def work(connection: Connection) -> Literal["learnt", "known", "changed"]:
            before: str | None = scalar(connection, "SELECT kind FROM lessons WHERE digest = ?", (lesson.digest,))
            if before == kind:
                return "known"
            if before is not None:
                _add(connection, lesson, before, -1.0, now)
            _add(connection, lesson, kind, 1.0, now)
            connection.execute(_LEARN, (lesson.digest, kind, now))
            self._keep_bounds(connection, now)
            return "learnt" if before is None else "changed"

        return await self._database.write(work)

    async def status(self) -> Status:
        """Sums, and how many rows there are."""

        def work(connection: Connection) -> Status:
            sums = _read_sums(connection)
            return Status(
                sums.get("ham", 0.0), sums.get("spam", 0.0), _count(connection, "tokens"), _count(connection, "lessons")
            )

        return await self._database.read(work)

    def _keep_bounds(self, connection: Connection, now: float) -> None:
        if sum(_read_sums(connection).values()) >= self._horizon:
            connection.execute("UPDATE tokens SET ham = ham / 2, spam = spam / 2")
            connection.execute("UPDATE sums SET messages = messages / 2")
        lessons = _count(connection, "lessons")
        if lessons % _EVERY:
            return
        connection.execute("DELETE FROM tokens WHERE day < ? OR ham + spam < 0.1", (now // _DAY - FORGET_DAYS,))
        over = _count(connection, "tokens") - self._max_tokens
        if over > 0:  # those seen once, and of them the oldest
            connection.execute(_FORGET_RARE, (over + self._max_tokens // 10,))
        if lessons > MAX_LESSONS:
            connection.execute(_FORGET_LESSONS, (lessons - MAX_LESSONS,))


def _add(connection: Connection, lesson: Lesson, kind: str, weight: float, now: float) -> None:
    """Count the tokens of a message, and the message; never below nothing."""
    ham, spam = (weight, 0.0) if kind == "ham" else (0.0, weight)
    day = int(now // _DAY)
    connection.executemany(_COUNT, [{"token": token, "ham": ham, "spam": spam, "day": day} for token in lesson.words])
    connection.execute(_COUNT_MESSAGE, {"kind": kind, "weight": weight})


def _read_sums(connection: Connection) -> dict[str, float]:
    return dict(connection.execute("SELECT kind, messages FROM sums").fetchall())


def _count(connection: Connection, table: Literal["tokens", "lessons"]) -> int:
    return int(scalar(connection, f"SELECT count(*) FROM {table}"))  # noqa: S608 - one of ours
