"""Rows of DMARC aggregate reports in the journal's file: counted into, bounded for each domain and each day, ended by retention.

Messages that fit no more are counted, so that a report can say that it is not whole. Everything here runs within a transaction of
the caller's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gateway.config.models import DmarcReportsConfig
from gateway.journal.dmarc_rows import ReportRow, rows_of
from gateway.journal.records import RECORDS
from gateway.sqlite import Connection, scalar
from gateway.trace import Record

CLEANED = 5_000
"""Rows removed in one go."""
_COUNT = "UPDATE dmarc_rows SET count = count + ? WHERE day = ? AND policy_domain = ? AND key = ?"
_INSERT = "INSERT INTO dmarc_rows (day, policy_domain, key, row, count) VALUES (?, ?, ?, ?, ?)"

SCHEMA = (
    *RECORDS,
    """CREATE TABLE IF NOT EXISTS dmarc_days (
        day VARCHAR NOT NULL,
        domains INTEGER NOT NULL,
        rows INTEGER NOT NULL,
        left_out INTEGER NOT NULL, -- messages of domains that are not among `domains`
        PRIMARY KEY (day)
    )""",
    """CREATE TABLE IF NOT EXISTS dmarc_policies (
        day VARCHAR NOT NULL,
        policy_domain VARCHAR NOT NULL,
        policy TEXT NOT NULL,
        rows INTEGER NOT NULL,
        left_out INTEGER NOT NULL, -- messages that are in none of `rows`
        PRIMARY KEY (day, policy_domain)
    )""",
    """CREATE TABLE IF NOT EXISTS dmarc_rows (
        number INTEGER NOT NULL,
        day VARCHAR NOT NULL,
        policy_domain VARCHAR NOT NULL,
        key BLOB NOT NULL,
        row TEXT NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (number)
    )""",
    "CREATE UNIQUE INDEX IF NOT EXISTS dmarc_rows_key ON dmarc_rows (day, policy_domain, key)",
    """CREATE TABLE IF NOT EXISTS dmarc_destinations (
        day VARCHAR NOT NULL,
        policy_domain VARCHAR NOT NULL,
        destination VARCHAR NOT NULL,
        state VARCHAR NOT NULL,
        time FLOAT NOT NULL,
        reply TEXT NOT NULL,
        PRIMARY KEY (day, policy_domain, destination)
    )""",
)
"""All tables of the journal's file."""


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
                connection.execute("UPDATE dmarc_days SET left_out = left_out + ? WHERE day = ?", (messages, day))
                left_out += messages
        return left_out

    def _has_policy(self, connection: Connection, day: str, domain: str, policy: str) -> bool:
        """The domain is in this day's table; a new one is put there while there is room."""
        again = "UPDATE dmarc_policies SET policy = ? WHERE day = ? AND policy_domain = ?"
        if connection.execute(again, (policy, day, domain)).rowcount:
            return True
        connection.execute("INSERT OR IGNORE INTO dmarc_days (day, domains, rows, left_out) VALUES (?, 0, 0, 0)", (day,))
        take = "UPDATE dmarc_days SET domains = domains + 1 WHERE day = ? AND domains < ?"
        if not connection.execute(take, (day, self._settings.max_domains)).rowcount:
            return False
        new = "INSERT INTO dmarc_policies (day, policy_domain, policy, rows, left_out) VALUES (?, ?, ?, 0, 0)"
        connection.execute(new, (day, domain, policy))
        return True

    def _count(self, connection: Connection, day: str, domain: str, counts: Mapping[ReportRow, int]) -> int:
        """Rows of one domain; new ones while domain and day have room for them. How many messages found none."""
        of_domain = scalar(connection, "SELECT rows FROM dmarc_policies WHERE day = ? AND policy_domain = ?", (day, domain))
        of_day = scalar(connection, "SELECT rows FROM dmarc_days WHERE day = ?", (day,))
        room = min(self._settings.max_rows - of_domain, self._settings.max_rows_a_day - of_day)
        new = left_out = 0
        for row, count in counts.items():
            key = row.key
            if connection.execute(_COUNT, (count, day, domain, key)).rowcount:
                continue
            if new < room:
                connection.execute(_INSERT, (day, domain, key, row.row, count))
                new += 1
            else:
                left_out += count
        if new or left_out:
            more = "UPDATE dmarc_policies SET rows = rows + ?, left_out = left_out + ? WHERE day = ? AND policy_domain = ?"
            connection.execute(more, (new, left_out, day, domain))
            connection.execute("UPDATE dmarc_days SET rows = rows + ? WHERE day = ?", (new, day))
        return left_out

    def clean(self, connection: Connection, now: float) -> bool:
        """The retention, a part at a time; False while there is more."""
        oldest = datetime.fromtimestamp(now - self._settings.retention, UTC).strftime("%Y-%m-%d")
        old = "DELETE FROM dmarc_rows WHERE number IN (SELECT number FROM dmarc_rows WHERE day < ? LIMIT ?)"
        if connection.execute(old, (oldest, CLEANED)).rowcount >= CLEANED:
            return False
        for table in ("dmarc_policies", "dmarc_destinations", "dmarc_days"):
            connection.execute(f"DELETE FROM {table} WHERE day < ?", (oldest,))  # noqa: S608 - names of ours
        return True
