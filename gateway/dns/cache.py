"""Answers kept for their time to live: bounded in number and in octets, the least recently used go first (RFC 2308, 9520)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from gateway.context import DnsAnswer
from gateway.errors import DnsError

MAX_OCTETS = 32 * 1024 * 1024
_OVERHEAD = 400
"""Octets that an answer takes beside its records, roughly."""

Key = tuple[str, str]


def _cost(answer: DnsAnswer | DnsError) -> int:
    if isinstance(answer, DnsError):
        return _OVERHEAD
    octets = 0
    for record in answer.records:
        octets += 80 + (
            sum(len(part) for part in record) if isinstance(record, tuple) and answer.kind == "TXT" else len(str(record))
        )
    return _OVERHEAD + octets


class AnswerCache:
    """A map of (name, kind) to an answer, or to the failure that was met lately."""

    def __init__(self, size: int, *, clock: Callable[[], float], max_octets: int = MAX_OCTETS) -> None:
        self._size = size
        self._max_octets = max_octets
        self._clock = clock
        self._octets = 0
        self._items: OrderedDict[Key, tuple[float, int, DnsAnswer | DnsError]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: Key) -> DnsAnswer | DnsError | None:
        """What is known, or None when nothing is or its time is over."""
        item = self._items.get(key)
        if item is None:
            return None
        expires, _, answer = item
        if expires <= self._clock():
            self._drop(key)
            return None
        self._items.move_to_end(key)
        return answer

    def put(self, key: Key, answer: DnsAnswer | DnsError, ttl: float) -> None:
        """Keep for `ttl` seconds; zero or less keeps nothing (RFC 1035 3.2.1)."""
        if key in self._items:
            self._drop(key)
        cost = _cost(answer)
        if ttl <= 0 or self._size == 0 or cost > self._max_octets:
            return
        self._items[key] = (self._clock() + ttl, cost, answer)
        self._octets += cost
        while len(self._items) > self._size or self._octets > self._max_octets:
            self._drop(next(iter(self._items)))

    def _drop(self, key: Key) -> None:
        _, cost, _ = self._items.pop(key)
        self._octets -= cost
