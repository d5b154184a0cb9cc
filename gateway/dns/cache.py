"""Answers kept for their time to live, and a while longer for bad times: bounded in number and in octets, the least recently used
go first. RFC 1035 3.2.1, RFC 2308, RFC 8767 (stale answers), RFC 9520 (failures).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway.context import DnsAnswer
from gateway.errors import DnsError

MAX_OCTETS = 32 * 1024 * 1024
MAX_FAILURE_TTL = 30.0
"""Seconds that a failure is remembered at most, however often it came back (RFC 9520 3.2 allows 300)."""
STALE_RECHECK = 30.0
"""Seconds that a stale answer stands in before name servers are tried again (RFC 8767 5)."""
_OVERHEAD = 600
"""Octets that an answer takes beside its records, roughly."""

Key = tuple[str, str]


@dataclass(slots=True)
class Entry:
    """What is known of one question."""

    cost: int
    answer: DnsAnswer | None = None
    """The last answer, marked as cached."""
    fresh_until: float = 0.0
    """Times of the cache's clock."""
    usable_until: float = 0.0
    error: DnsError | None = None
    """The failure met since."""
    quiet_until: float = 0.0
    """Nobody is asked again before, after a failure."""
    failures: int = 0
    """In a row."""

    def stale(self, now: float) -> DnsAnswer | None:
        """The answer, marked as stale, when it may still be used."""
        if self.answer is None or self.usable_until <= now:
            return None
        # RFC 8767 7: its signatures may have run out meanwhile
        return replace(self.answer, stale=True, authenticated=False)


def _cost(answer: DnsAnswer) -> int:
    octets = 0
    for record in answer.records:
        octets += 80 + (
            sum(len(part) for part in record) if isinstance(record, tuple) and answer.kind == "TXT" else len(str(record))
        )
    return _OVERHEAD + octets


class AnswerCache:
    """A map of (name, kind) to what is known: the last answer, the last failure."""

    def __init__(
        self,
        size: int,
        *,
        clock: Callable[[], float],
        stale_limit: float = 0.0,
        failure_ttl: float = 1.0,
        max_octets: int = MAX_OCTETS,
    ) -> None:
        self._size = size
        self._max_octets = max_octets
        self._stale_limit = stale_limit
        self._failure_ttl = failure_ttl
        self._clock = clock
        self._octets = 0
        self._items: OrderedDict[Key, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def fresh(self, key: Key) -> DnsAnswer | None:
        """The answer whose time is not over. The one look-up of the hot path."""
        items = self._items
        if key not in items:
            return None
        entry = items[key]
        if entry.fresh_until <= self._clock():
            return None
        items.move_to_end(key)
        return entry.answer

    def entry(self, key: Key) -> Entry | None:
        """What is known, old or new."""
        entry = self._items.get(key)
        if entry is not None:
            self._items.move_to_end(key)
        return entry

    def put(self, key: Key, answer: DnsAnswer, ttl: float) -> None:
        """Keep for `ttl` seconds, and past them for the stale limit; zero or less keeps nothing (RFC 1035 3.2.1)."""
        self._drop(key)
        if ttl <= 0:
            return
        fresh_until = self._clock() + ttl
        kept = replace(answer, cached=True)
        self._keep(key, Entry(_cost(answer), kept, fresh_until, fresh_until + self._stale_limit))

    def put_failure(self, key: Key, error: DnsError) -> None:
        """Remember a failure; an answer known from before stays (RFC 8767 5)."""
        now = self._clock()
        entry = self._items.get(key)
        if entry is None:
            entry = Entry(_OVERHEAD)
            self._keep(key, entry)
        entry.error = error
        entry.failures = min(entry.failures + 1, 10)
        pause = min(self._failure_ttl * 2 ** (entry.failures - 1), max(MAX_FAILURE_TTL, self._failure_ttl))
        entry.quiet_until = now + (pause if entry.stale(now) is None else max(pause, STALE_RECHECK))

    def _keep(self, key: Key, entry: Entry) -> None:
        if self._size == 0 or entry.cost > self._max_octets:
            return
        self._items[key] = entry
        self._octets += entry.cost
        while len(self._items) > self._size or self._octets > self._max_octets:
            self._drop(next(iter(self._items)))

    def _drop(self, key: Key) -> None:
        entry = self._items.pop(key, None)
        if entry is not None:
            self._octets -= entry.cost
