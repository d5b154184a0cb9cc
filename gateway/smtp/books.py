"""The records of transactions that have ended: to the journal, the log and the counters.

The record of a content that was answered is owed, and nobody waits for it. Where records are far between it is made in the loop's next
turn. Where they come close on each other, some milliseconds later with those of other sessions: all but the first find the code that makes
them warm, which is a tenth of a message's CPU. What is recorded at once comes after what is owed, so order is kept.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import structlog

from gateway import metrics
from gateway.smtp.record import Ending, Said, build, results, said

if TYPE_CHECKING:
    import asyncio

    from gateway.smtp.conversation import Refused
    from gateway.smtp.site import Site
    from gateway.trace import Record
    from gateway.transaction import Transaction

log: Final = structlog.get_logger("mailgateway")

DELAY: Final = 0.004
"""Seconds that a record is owed at most."""
CLOSE: Final = 0.0005
"""Seconds between two records within which it pays to wait for more. One session alone, whose client waits for the next reply, is slower."""
MOST: Final = 32
"""Records that are owed at most: making them, 0.03 to 0.1 ms each, holds the loop."""
SMALL: Final = 65_536
"""Octets of a content that is kept until its record is made: those of a larger one are given up at once."""
FEW: Final = 10
"""Recipients of a transaction whose record is made with others: more take their time each."""


class Books:
    """What a site's sessions have to be recorded for."""

    __slots__ = ("_is_due", "_last", "_owed")

    def __init__(self) -> None:
        self._owed: list[tuple[Site, Transaction, Ending, list[Refused], Said, float]] = []
        self._is_due = False
        """There is a timer."""
        self._last = 0.0
        """When a record was owed last, seconds since the epoch."""

    def owe(
        self, site: Site, transaction: Transaction, ending: Ending, refused: list[Refused], loop: asyncio.AbstractEventLoop
    ) -> None:
        """The record of a transaction that ends now. The content of its message is closed behind it."""
        owed, now = self._owed, site.clock()
        # `refused` is copied: the session's next transaction goes on with the same list.
        owed.append((site, transaction, ending, refused[:], said(transaction.session), now))
        if len(owed) >= MOST:
            self.settle()
        elif not self._is_due:
            self._is_due = True
            if now - self._last < CLOSE:
                loop.call_later(DELAY, self._settle_in_time)
            else:
                loop.call_soon(self._settle_in_time)
        self._last = now

    def write(self, site: Site, record: Record) -> None:
        """A record at once, behind those owed. Never blocks, never fails."""
        if self._owed:
            self.settle()
        _write(site, record)

    def settle(self) -> None:
        """Make and write every record that is owed. One that cannot be made is counted and told in the log: the message is where it is."""
        owed, self._owed = self._owed, []
        for site, transaction, ending, refused, by, now in owed:
            try:
                _write(site, build(transaction, ending, refused, generation=site.generation, now=now, by=by))
            except Exception:
                metrics.JOURNAL_DROPPED.inc()
                log.exception("record.failed", id=transaction.id)
            if ending.message is not None:
                ending.message.content.close()

    def _settle_in_time(self) -> None:
        self._is_due = False
        self.settle()


def _write(site: Site, record: Record) -> None:
    """To the journal and as one log line."""
    site.journal.record(record)
    metrics.count_transaction(record["verdict"])
    line = site.log
    if not line.is_enabled_for(logging.INFO):
        return
    rows = record["recipients"]
    line.info(
        "transaction",
        id=record["id"],
        client=record["client"],
        helo=record["helo"],
        **{"from": record["reverse_path"]},
        to=rows[0]["forward_path"] if len(rows) == 1 else ",".join([row["forward_path"] for row in rows[:20]]),
        message_id=record["message_id"],
        size=record["size"],
        results=results(record) if record["steps"] else "",
        verdict=record["verdict"],
        plugin=record["plugin"],
        reason=record["reason"],
        reply=record["reply"],
        next_hop=record["next_hop"],
        queue_id=record["queue_id"],
        ms=record["duration_ms"],
    )
