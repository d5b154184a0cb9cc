"""The quarantine: messages that are held (ours) and copies of refused ones that are kept (evidence). Files and SQLite.

The package shares its name with the verdict `gateway.quarantine(…)`. So `gateway/__init__.py` imports it first, and then binds the
name to the function for good; names are looked up here when they are asked for, so that plugins do not load a database.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_HOMES = {
    "copies": ("Addressee", "Copy", "Entry", "State", "Ticket"),
    "hold": ("Quarantine", "SweepReport"),
    "retention": ("ExpiryReport", "collect", "expire"),
    "rows": ("Query",),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"gateway.quarantine.{home}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
