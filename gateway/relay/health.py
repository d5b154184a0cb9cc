"""Whether a server is tried at once, or rests after a failure. RFC 5321 4.5.4.1. Pure: no clock and no timer.

A server that failed rests until a probe of ours is answered: no message is its probe as long as there is another server. Each failure
that follows before a message went through lets it rest twice as long, up to a bound.
"""

from __future__ import annotations


class Health:
    """What is known of one server's state."""

    __slots__ = ("_bound", "_first", "is_resting", "strikes")

    def __init__(self, first: float, bound: float) -> None:
        self._first = first
        self._bound = max(first, bound)
        self.is_resting = False
        self.strikes = 0
        """Failures since a message went through last."""

    def failed(self) -> float:
        """It failed: seconds until it is to be probed."""
        self.is_resting = True
        self.strikes += 1
        # The exponent is bounded too: a server may be away for years.
        return min(self._first * 2.0 ** min(self.strikes - 1, 30), self._bound)

    def answered(self) -> None:
        """It greeted us: messages may go there again. Its failures are not forgotten yet."""
        self.is_resting = False

    def served(self) -> None:
        """A transaction ended well there."""
        self.strikes = 0
