"""The ledger where an MTA owns the message until we answer: hints for the retry, and no entries, as nothing is delivered by us."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gateway.delivery.parcel import Memory
from gateway.ledger import Attempt
from gateway.outcome import Fate, History


class HintsOnly:
    """A ledger without its entries. An entry says that a next hop has a message although its client was told 451; an MTA that
    is told 451 by a milter has thrown everything away.
    """

    def __init__(self, ledger: Memory) -> None:
        self._ledger = ledger

    def has_hints(self, since: float) -> bool:
        """As the ledger."""
        return self._ledger.has_hints(since)

    def is_empty(self, since: float) -> bool:
        """As the ledger."""
        return self._ledger.is_empty(since)

    async def hint(self, reverse_path: bytes, mailbox: str) -> str:
        """As the ledger."""
        return await self._ledger.hint(reverse_path, mailbox)

    async def history(self, attempt: Attempt, mailboxes: Sequence[str]) -> History:
        """How often it was split, nothing else."""
        return History(rounds=(await self._ledger.history(attempt, mailboxes)).rounds)

    async def write(self, attempt: Attempt, entries: Mapping[int, Fate], transaction_id: str) -> bool:
        """There is nothing to remember."""
        del attempt, entries, transaction_id
        return True

    async def consume(self, attempt: Attempt, indexes: Iterable[int]) -> bool:
        """There is nothing to forget."""
        del attempt, indexes
        return True

    async def leave(self, reverse_path: bytes, hints: Mapping[str, str]) -> None:
        """As the ledger."""
        await self._ledger.leave(reverse_path, hints)

    async def split(self, reverse_path: bytes, hints: Mapping[str, str]) -> None:
        """As the ledger."""
        await self._ledger.split(reverse_path, hints)
