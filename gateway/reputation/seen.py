"""Who has written to whom before: pairs that are remembered for a time, in the store that all workers share."""

from __future__ import annotations

import hashlib

from gateway.context import Context
from gateway.errors import StorageError

FRESH = 86_400.0
"""Seconds for which a pair is not written again: mail is more often than days."""


class Seen:
    """Pairs of a scope (a mailbox or domain here) and an author, with what vouched for the author.

    The store is no more than a memory: where it fails, nothing is known, and mail goes on.
    """

    def __init__(self, context: Context, remember: float) -> None:
        self._context = context
        self._remember = remember

    async def has(self, scope: str, author: str, mark: str) -> bool | None:
        """None: the store failed."""
        try:
            return await self._context.store.get(_key(scope, author, mark)) is not None
        except StorageError:
            return None

    async def note(self, scope: str, author: str, mark: str) -> None:
        """From now on for `remember` seconds; written at most once a day."""
        key, now = _key(scope, author, mark), self._context.clock()
        try:
            known = await self._context.store.get(key)
            if known is None or not now - _seconds(known) < FRESH:
                await self._context.store.put(key, b"%d" % now, ttl=self._remember)
        except StorageError as error:
            self._context.log.warning("plugin.store_failed", error=str(error)[:300])


def _key(scope: str, author: str, mark: str) -> str:
    text = f"{scope}\0{author}\0{mark}"
    return "seen/" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:40]


def _seconds(octets: bytes) -> float:
    try:
        return float(octets)
    except ValueError:
        return 0.0
