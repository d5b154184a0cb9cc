"""A token bucket as a value: it fills by so much a second up to its burst, and what is taken must be in it. No I/O, no clock.

At any time, all that was ever taken is at most burst + rate × the time since the first. A bucket that nobody has touched for as
long as it takes to fill is full, so that its row may expire then.
"""

from __future__ import annotations

import math
import struct

_FORM = struct.Struct(">dd")
MAX_TOKENS = 1e15
"""Of a burst and of what is taken at once: beyond, a float counts no single token any more."""
MINIMUM_RATE = 1e-9
ROUNDING = 1e-9
"""Of a burst, that may be missing."""


def check(amount: float, rate: float, burst: float) -> None:
    """ValueError for figures that no bucket has."""
    if not (MINIMUM_RATE <= rate <= MAX_TOKENS and 0 < burst <= MAX_TOKENS and abs(amount) <= MAX_TOKENS):
        msg = f"a bucket has a rate and a burst above 0 and an amount that is a number, not {rate!r}, {burst!r}, {amount!r}"
        raise ValueError(msg)


def taken(before: bytes | None, *, now: float, amount: float, rate: float, burst: float) -> tuple[float, bytes, float]:
    """What is left, the bucket afterwards, and for how many seconds that is worth keeping.

    Left is below 0 where there was not enough; then nothing was taken, and it is what was missing. A negative amount gives back.
    """
    level, at = burst, now
    if before is not None and len(before) == _FORM.size:
        level, at = _FORM.unpack(before)
        if not (math.isfinite(level) and math.isfinite(at)):
            level, at = burst, now
    fills_in = burst / rate
    if at > now + fills_in:  # a clock that was far ahead; it must not stop the bucket for as long
        at = now
    level = max(0.0, min(burst, level + max(now - at, 0.0) * rate))
    at = max(at, now)
    left = level - amount
    if (
        -ROUNDING * burst < left < 0
    ):  # sums of times and rates are not exact: who waits as long as he was told must not come too early
        left = 0.0
    if left >= 0:
        level = min(burst, left)
    return float(min(left, burst)), _FORM.pack(level, at), (burst - level) / rate + (at - now) + 1.0
