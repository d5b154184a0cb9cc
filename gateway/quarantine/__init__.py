"""The quarantine: messages that are held (ours) and copies of refused ones that are kept (evidence). Files and SQLite."""

from gateway.quarantine.copies import Addressee, Copy, Entry, State, Ticket
from gateway.quarantine.hold import Quarantine, SweepReport
from gateway.quarantine.retention import ExpiryReport, collect, expire
from gateway.quarantine.rows import Query

__all__ = [
    "Addressee",
    "Copy",
    "Entry",
    "ExpiryReport",
    "Quarantine",
    "Query",
    "State",
    "SweepReport",
    "Ticket",
    "collect",
    "expire",
]
