"""Rows of DMARC aggregate reports in the journal's file: counted into, bounded for each domain and each day, ended by retention.

Messages that fit no more are counted, so that a report can say that it is not whole. Everything here runs within a transaction of
the caller's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Column, Connection, Float, Index, Integer, LargeBinary, String, Table, Text, delete, select, update
from sqlalchemy.dialects.sqlite import insert

from gateway.config.models import DmarcReportsConfig
from gateway.journal.dmarc_rows import ReportRow, rows_of
from gateway.journal.records import metadata
from gateway.trace import Record

CLEANED = 5_000
"""Rows removed in one go."""
_COUNT = "UPDATE dmarc_rows SET count = count + ? WHERE day = ? AND policy_domain = ? AND key = ?"
_INSERT = "INSERT INTO dmarc_rows (day, policy_domain, key, row, count) VALUES (?, ?, ?, ?, ?)"

days = Table(
    "dmarc_days",
    metadata,
    Column("day", String, primary_key=True),
    Column("domains", Integer, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("left_out", Integer, nullable=False),  # messages of domains that are not among `domains`
)
policies = Table(
    "dmarc_policies",
    metadata,
    Column("day", String, primary_key=True),
    Column("policy_domain", String, primary_key=True),
    Column("policy", Text, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("left_out", Integer, nullable=False),  # messages that are in none of `rows`
)
rows = Table(
    "dmarc_rows",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("day", String, nullable=False),
    Column("policy_domain", String, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("row", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Index("dmarc_rows_key", "day", "policy_domain", "key", unique=True),
)
destinations = Table(
    "dmarc_destinations",
    metadata,
    Column("day", String, primary_key=True),
    Column("policy_domain", String, primary_key=True),
    Column("destination", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("time", Float, nullable=False),
    Column("reply", Text, nullable=False),
)


@dataclass(slots=True)
class Tally:
    """Rows of a batch of records, each with its number of messages."""

    counts: Counter[ReportRow] = field(default_factory=Counter)
    policies: dict[tuple[str, str], str] = field(default_factory=dict)
    """The policy seen last, by day and domain."""
    failed: int = 0
    """Records whose finding could not be read."""


class Collector:
    """Takes the rows of records into the tables, within the limits."""

    def __init__(self, settings: DmarcReportsConfig) -> None:
        self._settings = settings

    def tally(self, records: Iterable[Record]) -> Tally:
        """The rows of these records. Never raises: a plugin may have put anything into a finding."""
        tally = Tally()
        for record in records:
            try:
                found = list(rows_of(record, recipient_domains=self._settings.recipient_domains))
            except Exception:  # noqa: BLE001 - protects the journal from findings that are not what they should be
                tally.failed += 1
                continue
            tally.counts.update(found)
            tally.policies.update(((row.day, row.policy_domain), row.policy) for row in found)
        return tally

    def add(self, connection: Connection, tally: Tally) -> int:
        """Count them in; how many messages had to be left out."""
        by_place: dict[tuple[str, str], list[ReportRow]] = {}
        for row in tally.counts:
            by_place.setdefault((row.day, row.policy_domain), []).append(row)
        left_out = tally.failed
        for (day, domain), found in by_place.items():
            if self._has_policy(connection, day, domain, tally.policies[day, domain]):
                left_out += self._count(connection, day, domain, {row: tally.counts[row] for row in found})
            else:
                messages = sum(tally.counts[row] for row in found)
                connection.execute(update(days).where(days.c.day == day).values(left_out=days.c.left_out + messages))
                left_out += messages
        return left_out

    def _has_policy(self, connection: Connection, day: str, domain: str, policy: str) -> bool:
        """The domain is in this day's table; a new one is put there while there is room."""
        where = (policies.c.day == day, policies.c.policy_domain == domain)
        if connection.execute(update(policies).where(*where).values(policy=policy)).rowcount:
            return True
        connection.execute(insert(days).values(day=day, domains=0, rows=0, left_out=0).on_conflict_do_nothing())
        room = (days.c.day == day, days.c.domains < self._settings.max_domains)
        if not connection.execute(update(days).where(*room).values(domains=days.c.domains + 1)).rowcount:
            return False
        connection.execute(insert(policies).values(day=day, policy_domain=domain, policy=policy, rows=0, left_out=0))
        return True

    def _count(self, connection: Connection, day: str, domain: str, counts: Mapping[ReportRow, int]) -> int:
        """Rows of one domain; new ones while domain and day have room for them. How many messages found none."""
        where = (policies.c.day == day, policies.c.policy_domain == domain)
        of_domain = connection.execute(select(policies.c.rows).where(*where)).scalar_one()
        of_day = connection.execute(select(days.c.rows).where(days.c.day == day)).scalar_one()
        room = min(self._settings.max_rows - of_domain, self._settings.max_rows_a_day - of_day)
        new = left_out = 0
        for row, count in counts.items():
            key = row.key
            if connection.exec_driver_sql(_COUNT, (count, day, domain, key)).rowcount:
                continue
            if new < room:
                connection.exec_driver_sql(_INSERT, (day, domain, key, row.row, count))
                new += 1
            else:
                left_out += count
        if new or left_out:
            more = {"rows": policies.c.rows + new, "left_out": policies.c.left_out + left_out}
            connection.execute(update(policies).where(*where).values(more))
            connection.execute(update(days).where(days.c.day == day).values(rows=days.c.rows + new))
        return left_out

    def clean(self, connection: Connection, now: float) -> bool:
        """The retention, a part at a time; False while there is more."""
        oldest = datetime.fromtimestamp(now - self._settings.retention, UTC).strftime("%Y-%m-%d")
        old = select(rows.c.number).where(rows.c.day < oldest).limit(CLEANED)
        if connection.execute(delete(rows).where(rows.c.number.in_(old))).rowcount >= CLEANED:
            return False
        for table in (policies, destinations, days):
            connection.execute(delete(table).where(table.c.day < oldest))
        return True
