"""The journal: what was decided about every transaction, and why, in SQLite."""

from gateway.journal.writer import Journal

__all__ = ["Journal"]
