"""What is remembered of a triplet (client network, reverse-path, forward-path), in `context.store`. Atomic over all workers.

Two keys a triplet: `w/…` while it waits, written by `put_if_absent` only, so that the first of two workers sets the time; `p/…` once it has
passed, and whoever writes it by `put_if_absent` counts for the network. `a/…` is a network that is let through, `n/…` what it has passed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from gateway import Store

REFRESH = 86_400.0
"""Seconds after which a use of what is known is written down anew."""
HOUR = 3_600.0


class State(StrEnum):
    """What a triplet is, and the label of the metric."""

    NEW = "new"
    EARLY = "early"
    """It came back, and too soon."""
    FLOOD = "flood"
    """New, of a network with too many new ones: not even remembered."""
    PASSED = "passed"
    """It came back in time, now for the first time."""
    KNOWN = "known"
    ALLOWED = "allowed"
    """The network has passed often enough."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The answer about one triplet."""

    state: State
    wait: float = 0.0
    """Seconds until it may come back; 0: it may pass."""
    waited: float = 0.0
    """Seconds since it was first seen, where it passes now for the first time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long what takes and is kept."""

    delay: float
    window: float
    lifetime: float
    allow_after: int
    new_per_hour: int


class Triplets:
    """Asks and writes the store."""

    def __init__(self, store: Store, times: Times) -> None:
        self._store = store
        self._times = times

    async def allows(self, network: str, now: float) -> bool:
        """Whether the network is let through as a whole."""
        if not network or not self._times.allow_after:
            return False
        return await self._is_kept(f"a/{network}", now)

    async def see(self, network: str, sender: str, recipient: str, now: float) -> Seen:
        """One triplet comes along. Whatever the store raises goes through."""
        times, store = self._times, self._store
        digest = hashlib.sha256(f"{network}\x00{sender}\x00{recipient}".encode("utf-8", "replace")).hexdigest()[:40]
        waiting, passed = f"w/{digest}", f"p/{digest}"
        if await self._is_kept(passed, now):
            return Seen(State.KNOWN)
        first = _time(await store.get(waiting), now)
        if first is None:
            if await self._is_kept(passed, now):  # another worker let it pass, and took the first key away, since we looked
                return Seen(State.KNOWN)
            allowed = float(times.new_per_hour)
            if await store.take(f"f/{network}", rate=allowed / HOUR, burst=allowed) < 0:
                return Seen(State.FLOOD, wait=times.delay)
            if await store.put_if_absent(waiting, b"%.3f" % now, ttl=times.window):
                return Seen(State.NEW, wait=times.delay)
            first = _time(await store.get(waiting), now) or now  # another worker was first
        if now - first < times.delay:
            return Seen(State.EARLY, wait=min(times.delay, first + times.delay - now))
        if await store.put_if_absent(passed, b"%.3f" % now, ttl=times.lifetime):
            await self._count(network, now)
            await store.delete(waiting)
        return Seen(State.PASSED, waited=now - first)

    async def _count(self, network: str, now: float) -> None:
        if not network or not self._times.allow_after:
            return
        if await self._store.incr(f"n/{network}", ttl=self._times.lifetime) >= self._times.allow_after:
            await self._store.put(f"a/{network}", b"%.3f" % now, ttl=self._times.lifetime)

    async def _is_kept(self, key: str, now: float) -> bool:
        """Whether it is there; what is used lives on."""
        found = await self._store.get(key)
        if found is None:
            return False
        last = _time(found, now)
        if last is None or now - last >= min(REFRESH, self._times.lifetime / 4):
            await self._store.put(key, b"%.3f" % now, ttl=self._times.lifetime)
        return True


def _time(value: bytes | None, now: float) -> float | None:
    """None for what is no time. One in the future, of a clock that was ahead, is now."""
    try:
        found = float(value or b"")
    except ValueError:
        return None
    return min(found, now) if found == found else None  # noqa: PLR0124 - not a number
