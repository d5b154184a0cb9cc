"""What was learnt, in SQLite: counts by token, lessons by digest, sums. Bounded: it ages, and forgets what nobody has seen for long.

A lesson is one transaction; the same message twice is one lesson, and a changed mind is undone and learnt anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from sqlalchemy import (
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from gateway.learning.classifier import Known
from gateway.learning.tokens import Lesson
from gateway.sqlite import Database

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

_metadata = MetaData()
_tokens = Table(
    "tokens",
    _metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("ham", Float, nullable=False),
    Column("spam", Float, nullable=False),
    Column("day", Integer, nullable=False),
    Index("tokens_day", "day"),
)
_lessons = Table(
    "lessons",
    _metadata,
    Column("digest", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("time", Float, nullable=False),
    Index("lessons_time", "time"),
    sqlite_with_rowid=False,
)
_sums = Table("sums", _metadata, Column("kind", String, primary_key=True), Column("messages", Float, nullable=False))


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
        self._database = Database(file, _metadata, synchronous="NORMAL")
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
                some = select(_tokens.c.id, _tokens.c.ham, _tokens.c.spam).where(_tokens.c.id.in_(wanted[at : at + _AT_ONCE]))
                found.update((row.id, (row.ham, row.spam)) for row in connection.execute(some))
            sums = _read_sums(connection)
            return Known(sums.get("ham", 0.0), sums.get("spam", 0.0), found)

        return await self._database.read(work)

    async def learn(self, lesson: Lesson, kind: Kind) -> Literal["learnt", "known", "changed"]:
        """One message. `known`: it was learnt so before, and nothing is changed."""
        now = self._clock()

        def work(connection: Connection) -> Literal["learnt", "known", "changed"]:
            before = connection.execute(select(_lessons.c.kind).where(_lessons.c.digest == lesson.digest)).scalar()
            if before == kind:
                return "known"
            if before is not None:
                _add(connection, lesson, before, -1.0, now)
            _add(connection, lesson, kind, 1.0, now)
            values = {"digest": lesson.digest, "kind": kind, "time": now}
            connection.execute(
                insert(_lessons).values(values).on_conflict_do_update(index_elements=["digest"], set_={"kind": kind, "time": now})
            )
            self._keep_bounds(connection, now)
            return "learnt" if before is None else "changed"

        return await self._database.write(work)

    async def status(self) -> Status:
        """Sums, and how many rows there are."""

        def work(connection: Connection) -> Status:
            sums = _read_sums(connection)
            return Status(sums.get("ham", 0.0), sums.get("spam", 0.0), _count(connection, _tokens), _count(connection, _lessons))

        return await self._database.read(work)

    def _keep_bounds(self, connection: Connection, now: float) -> None:
        if sum(_read_sums(connection).values()) >= self._horizon:
            connection.execute(update(_tokens).values(ham=_tokens.c.ham / 2, spam=_tokens.c.spam / 2))
            connection.execute(update(_sums).values(messages=_sums.c.messages / 2))
        lessons = _count(connection, _lessons)
        if lessons % _EVERY:
            return
        connection.execute(
            delete(_tokens).where((_tokens.c.day < now // _DAY - FORGET_DAYS) | (_tokens.c.ham + _tokens.c.spam < 0.1))
        )
        over = _count(connection, _tokens) - self._max_tokens
        if over > 0:  # those seen once, and of them the oldest
            order = (_tokens.c.ham + _tokens.c.spam > 1.0, _tokens.c.day, _tokens.c.id)
            rest = select(_tokens.c.id).order_by(*order).limit(over + self._max_tokens // 10)
            connection.execute(delete(_tokens).where(_tokens.c.id.in_(rest)))
        if lessons > MAX_LESSONS:
            oldest = select(_lessons.c.digest).order_by(_lessons.c.time).limit(lessons - MAX_LESSONS)
            connection.execute(delete(_lessons).where(_lessons.c.digest.in_(oldest)))


def _add(connection: Connection, lesson: Lesson, kind: str, weight: float, now: float) -> None:
    """Count the tokens of a message, and the message; never below nothing."""
    ham, spam = (weight, 0.0) if kind == "ham" else (0.0, weight)
    statement = insert(_tokens).values(id=bindparam("token"), ham=max(ham, 0.0), spam=max(spam, 0.0), day=int(now // _DAY))
    statement = statement.on_conflict_do_update(
        index_elements=["id"],
        set_={
            "ham": func.max(_tokens.c.ham + ham, 0.0),
            "spam": func.max(_tokens.c.spam + spam, 0.0),
            "day": int(now // _DAY),
        },
    )
    if lesson.words:
        connection.execute(statement, [{"token": token} for token in lesson.words])
    sums = insert(_sums).values(kind=kind, messages=max(weight, 0.0))
    connection.execute(
        sums.on_conflict_do_update(index_elements=["kind"], set_={"messages": func.max(_sums.c.messages + weight, 0.0)})
    )


def _read_sums(connection: Connection) -> dict[str, float]:
    return {row.kind: row.messages for row in connection.execute(select(_sums))}


def _count(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar() or 0)
