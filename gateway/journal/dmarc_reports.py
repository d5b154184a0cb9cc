"""What the journal holds for DMARC reports, read; and what became of each report, written so that none is sent twice."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, exists, func, not_, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from gateway.journal.dmarc_tables import destinations, policies, rows
from gateway.journal.records import metadata
from gateway.sqlite import Database, storable

MAX_REPLY = 1_000
THROUGH = ""
"""In the place of a destination: all of them were tried once."""

State: TypeAlias = Literal["sending", "sent", "deferred", "refused", "unknown", "unauthorized", "unsupported"]
"""`sending` that stays was interrupted, and like `unknown` may have arrived: neither is sent again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The report of one domain and one day."""

    day: str
    policy_domain: str
    published: Mapping[str, str]
    rua: tuple[str, ...]
    rows: int
    messages: int
    left_out: int
    """Messages that found no room in the rows."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it at one destination."""

    state: State
    reply: str
    time: float


class ReportStore:
    """The journal's file, for the command that reports."""

    def __init__(self, file: Path) -> None:
        self._database = Database(file, metadata, synchronous="FULL")

    async def open(self) -> None:
        """StorageError."""
        await self._database.open()

    async def close(self) -> None:
        """In every case."""
        await self._database.close()

    async def due(self, *, until: str, day: str = "", domain: str = "", again: Collection[State] | None = None) -> list[Due]:
        """The reports of days up to `until`, oldest first; of one day or domain only, where named. StorageError.

        `again`: only those not tried at every destination yet, and those with one of these outcomes.
        """
        place = (policies.c.day == rows.c.day, policies.c.policy_domain == rows.c.policy_domain)
        statement = (
            select(policies, func.count().label("found"), func.sum(rows.c.count).label("messages"))
            .join(rows, place[0] & place[1])
            .where(policies.c.day <= until)
            .group_by(policies.c.day, policies.c.policy_domain)
            .order_by(policies.c.day, policies.c.policy_domain)
        )
        if again is not None:
            same = (destinations.c.day == policies.c.day, destinations.c.policy_domain == policies.c.policy_domain)
            is_through = exists().where(*same, destinations.c.destination == THROUGH)
            statement = statement.where(or_(not_(is_through), exists().where(*same, destinations.c.state.in_(again))))
        if day:
            statement = statement.where(policies.c.day == day)
        if domain:
            statement = statement.where(policies.c.policy_domain == domain)
        found = await self._database.read(lambda connection: connection.execute(statement).all())
        return [_due(one) for one in found]

    async def rows(self, due: Due) -> list[tuple[dict[str, Any], int]]:
        """Its rows with their numbers of messages, the largest first. StorageError."""
        statement = (
            select(rows.c.row, rows.c.count)
            .where(rows.c.day == due.day, rows.c.policy_domain == due.policy_domain)
            .order_by(rows.c.count.desc(), rows.c.number)
        )
        found = await self._database.read(lambda connection: connection.execute(statement).all())
        return [(json.loads(row), count) for row, count in found]

    async def outcomes(self, due: Due) -> dict[str, Outcome]:
        """By destination. StorageError."""
        statement = select(destinations).where(destinations.c.day == due.day, destinations.c.policy_domain == due.policy_domain)
        found = await self._database.read(lambda connection: connection.execute(statement).all())
        return {one.destination: Outcome(one.state, one.reply, one.time) for one in found}

    async def claim(self, due: Due, destination: str, *, again: Collection[State], now: float) -> bool:
        """Mark it as being sent, on the disk before return. False: another process has it, or its outcome is not one of `again`."""
        place = {"day": due.day, "policy_domain": due.policy_domain, "destination": destination}
        values = {"state": "sending", "time": now, "reply": ""}
        where = (*(destinations.c[name] == value for name, value in place.items()), destinations.c.state.in_(again))

        def work(connection: Connection) -> bool:
            if connection.execute(insert(destinations).values(**place, **values).on_conflict_do_nothing()).rowcount:
                return True
            return bool(connection.execute(update(destinations).where(*where).values(**values)).rowcount)

        return await self._database.write(work)

    async def settle(self, due: Due, destination: str, state: State, reply: str, *, now: float) -> None:
        """Write down what became of it. StorageError."""
        place = {"day": due.day, "policy_domain": due.policy_domain, "destination": destination}
        values = {"state": state, "time": now, "reply": storable(reply[:MAX_REPLY])}
        statement = insert(destinations).values(**place, **values)
        await self._database.execute(statement.on_conflict_do_update(index_elements=list(place), set_=values))


def _due(found: Any) -> Due:
    policy = json.loads(found.policy)
    return Due(
        day=found.day,
        policy_domain=found.policy_domain,
        published=dict(policy["published"]),
        rua=tuple(policy["rua"]),
        rows=found.found,
        messages=found.messages,
        left_out=found.left_out,
    )
