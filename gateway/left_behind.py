"""Whether an earlier transaction may have left something for this one, in whatever process: asked with every message.

Both are looks at the disk, a hint's mark and the ledger's file. One look serves all transactions that began before it.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from gateway.native import mypyc_attr

Stamp = tuple[int, ...]


@mypyc_attr(allow_interpreted_subclasses=True)
class LeftBehind:
    """What is known of hints and entries without reading any. `gateway.ledger` reads them."""

    def __init__(self, file: Path, *, hint_lifetime: float, clock: Callable[[], float]) -> None:
        self._hint_lifetime = hint_lifetime
        self._clock = clock
        self._origins: frozenset[bytes] = frozenset()
        """Of the entries, when they were looked up last."""
        self._seen: Stamp | None = None
        """The file's stamp at that time."""
        # Text, not Path: both are asked for with every message.
        self._hints_mark = str(file.with_name(f"{file.stem}.hints"))
        self._files = (f"{file}-wal", str(file))
        self._now: Callable[[], float] | None = None
        """The loop's clock."""
        self._hints_looked = -math.inf
        self._entries_looked = -math.inf
        """Loop times of the last looks."""
        self._found_hints = True
        self._found_empty = False

    def has_hints(self, since: float) -> bool:
        """Whether any process of this host has left a hint within their lifetime: spares each RCPT a look into the store.

        Only what was left before `since`, the loop time of MAIL, matters: a retry begins after the reply that it is a retry
        for, and what it needs was written before that reply. So one look serves all transactions that began before it. It
        must be later, not as late: the clock of a turn of the loop is older than what happens in it.
        """
        if self._hints_looked <= since:
            self._hints_looked = (self._now or self._clock_of_loop())()
            self._found_hints = self.may_have_hints()
        return self._found_hints

    def may_have_hints(self) -> bool:
        """A look at the mark: whether it was made anew within twice their lifetime; in doubt it was."""
        try:
            marked = os.stat(self._hints_mark).st_mtime  # noqa: PTH116 - with every RCPT; a Path costs as much again
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return abs(self._clock() - marked) < 2 * self._hint_lifetime

    def is_empty(self, since: float) -> bool:
        """Nothing was written up to `since`, the loop time of MAIL, after it was last found without an entry (see `has_hints`)."""
        if self._entries_looked <= since:
            self._entries_looked = (self._now or self._clock_of_loop())()
            self._found_empty = self._seen is not None and not self._origins and stamp(self._files) == self._seen
        return self._found_empty

    def _clock_of_loop(self) -> Callable[[], float]:
        self._now = now = asyncio.get_running_loop().time
        return now


def stamp(files: Iterable[str]) -> Stamp:
    """Changes whenever any process has written the database: a commit goes to its log, or, where it has none, to the file."""
    for file in files:
        try:
            seen = os.stat(file)  # noqa: PTH116 - with every message; a Path costs as much again
        except OSError:
            continue
        return (seen.st_ino, seen.st_mtime_ns, seen.st_size)
    return ()
