"""What one transaction spends on DNS, and which transaction a look-up belongs to. The limits are the resolver's; this is the account.

The chain sets the account around each hook, as a context variable: tasks and threads that a hook starts inherit it, so they spend
from the same account. Look-ups that no hook began (routes, start of a plugin) belong to none.
"""

from __future__ import annotations

from contextvars import ContextVar


class DnsAccount:
    """Look-ups of one transaction that needed a name server, and the time during which at least one of them was waited for."""

    __slots__ = ("_seconds", "_since", "_waiting", "look_ups", "refused", "told")

    def __init__(self) -> None:
        self.look_ups = 0
        self.refused = 0
        """Look-ups that found the account empty, or emptied it."""
        self.told = False
        """The trace says that it is empty."""
        self._seconds = 0.0
        self._since = 0.0
        self._waiting = 0

    def begin(self, now: float) -> None:
        """A look-up is waited for from now on (loop time)."""
        self.look_ups += 1
        if not self._waiting:
            self._since = now
        self._waiting += 1

    def end(self, now: float) -> None:
        """It is not waited for any more."""
        self._waiting -= 1
        if not self._waiting:
            self._seconds += now - self._since

    def seconds(self, now: float) -> float:
        """Time spent so far. Look-ups at the same time count once: it is what the client waited."""
        return self._seconds + (now - self._since if self._waiting else 0.0)

    def __str__(self) -> str:
        """For the trace, when nothing is waited for any more."""
        return f"spent: {self.look_ups} look-ups at name servers, {self._seconds:.3f} s waited for them"


ACCOUNT: ContextVar[DnsAccount | None] = ContextVar("dns account", default=None)
"""Whose look-up it is; None: nobody's."""
