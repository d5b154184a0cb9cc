"""What the journal holds for DMARC reports, read; and what became of each report, written so that none is sent twice."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from gateway.journal.dmarc_tables import SCHEMA
from gateway.sqlite import Connection, Database, Row, marks, storable

MAX_REPLY = 1_000
THROUGH = ""
"""In the place of a destination: all of them were tried once."""

_DUE = """SELECT policies.day, policies.policy_domain, policies.policy, policies.left_out, count(*) AS found, sum(rows.count) AS messages
    FROM dmarc_policies AS policies
    JOIN dmarc_rows AS rows ON policies.day = rows.day AND policies.policy_domain = rows.policy_domain
    WHERE {conditions}
    GROUP BY policies.day, policies.policy_domain ORDER BY policies.day, policies.policy_domain"""
_AT_A_DESTINATION = """EXISTS (SELECT * FROM dmarc_destinations AS tried
    WHERE tried.day = policies.day AND tried.policy_domain = policies.policy_domain AND {condition})"""
_CLAIM = """INSERT OR IGNORE INTO dmarc_destinations (day, policy_domain, destination, state, time, reply)
    VALUES (?, ?, ?, 'sending', ?, '')"""
_CLAIM_AGAIN = """UPDATE dmarc_destinations SET state = 'sending', time = ?, reply = ''
    WHERE day = ? AND policy_domain = ? AND destination = ? AND state IN ({again})"""
_SETTLE = """INSERT INTO dmarc_destinations (day, policy_domain, destination, state, time, reply) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (day, policy_domain, destination)
    DO UPDATE SET state = excluded.state, time = excluded.time, reply = excluded.reply"""

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
        self._database = Database(file, SCHEMA, synchronous="FULL")

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
        conditions, values = ["policies.day <= ?"], [until]
        if again is not None:
            is_through = _AT_A_DESTINATION.format(condition="tried.destination = ?")
            is_one = _AT_A_DESTINATION.format(condition=f"tried.state IN ({marks(len(again))})")
            conditions.append(f"(NOT {is_through} OR {is_one})")
            values += [THROUGH, *again]
        if day:
            conditions.append("policies.day = ?")
            values.append(day)
        if domain:
            conditions.append("policies.policy_domain = ?")
            values.append(domain)
        found = await self._all(_DUE.format(conditions=" AND ".join(conditions)), *values)
        return [_due(one) for one in found]

    async def rows(self, due: Due) -> list[tuple[dict[str, Any], int]]:
        """Its rows with their numbers of messages, the largest first. StorageError."""
        statement = "SELECT row, count FROM dmarc_rows WHERE day = ? AND policy_domain = ? ORDER BY count DESC, number"
        found = await self._all(statement, due.day, due.policy_domain)
        return [(json.loads(row), count) for row, count in found]

    async def outcomes(self, due: Due) -> dict[str, Outcome]:
        """By destination. StorageError."""
        statement = "SELECT destination, state, reply, time FROM dmarc_destinations WHERE day = ? AND policy_domain = ?"
        found = await self._all(statement, due.day, due.policy_domain)
        return {destination: Outcome(state, reply, time) for destination, state, reply, time in found}

    async def _all(self, statement: str, *values: object) -> list[Row]:
        return await self._database.read(lambda connection: connection.execute(statement, values).fetchall())

    async def claim(self, due: Due, destination: str, *, again: Collection[State], now: float) -> bool:
        """Mark it as being sent, on the disk before return. False: another process has it, or its outcome is not one of `again`."""
        place = (due.day, due.policy_domain, destination)

        def work(connection: Connection) -> bool:
            if connection.execute(_CLAIM, (*place, now)).rowcount:
                return True
            return bool(connection.execute(_CLAIM_AGAIN.format(again=marks(len(again))), (now, *place, *again)).rowcount)

        return await self._database.write(work)

    async def settle(self, due: Due, destination: str, state: State, reply: str, *, now: float) -> None:
        """Write down what became of it. StorageError."""
        values = (due.day, due.policy_domain, destination, state, now, storable(reply[:MAX_REPLY]))
        await self._database.execute(_SETTLE, values)


def _due(found: Row) -> Due:
    policy = json.loads(found["policy"])
    return Due(
        day=found["day"],
        policy_domain=found["policy_domain"],
        published=dict(policy["published"]),
        rua=tuple(policy["rua"]),
        rows=found["found"],
        messages=found["messages"],
        left_out=found["left_out"],
    )
