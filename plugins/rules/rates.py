"""`rate(client.address, "1h")`: how many messages with the same key came in the time before, this one among them, over all workers.

Counted before the rules are asked, in two windows of the store: this one, and the one before by the part of it that the time still
covers. Keys are kept as numbers of 20 bits: whatever is sent, the store holds a bounded number of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from pydantic import TypeAdapter, ValidationError

from gateway import Context, Duration

KEYS = 1 << 20
"""Different keys of one rate."""
MAX_RATES = 50
"""Of one group."""
SHORTEST, LONGEST = 10.0, 7 * 86_400.0
"""Seconds."""
_PERIOD: TypeAdapter[float] = TypeAdapter(Duration)


@dataclass(frozen=True, slots=True)
class Rate:
    """One rate of a group: of what, in which time."""

    key: str
    """The expression."""
    period: float

    @property
    def name(self) -> str:
        """Stable over restarts."""
        return f"{self.key} {self.period:g}"


async def count(rates: Sequence[Rate], keys: Sequence[object], now: float, context: Context) -> list[int]:
    """Count a message for each rate, under its key; how many there are. StorageError."""
    return [await _counted(rate, key, now, context) for rate, key in zip(rates, keys, strict=True)]


async def _counted(rate: Rate, key: object, now: float, context: Context) -> int:
    if key is None or key == "":  # not known: nothing to count
        return 0
    place = int.from_bytes(blake2b(f"{rate.name}\0{key}".encode("utf-8", "replace"), digest_size=8).digest()) % KEYS
    window, passed = divmod(now, rate.period)
    front = f"rate/{blake2b(rate.name.encode(), digest_size=6).hexdigest()}/{place:x}"
    here = await context.store.incr(f"{front}/{int(window)}", ttl=2 * rate.period)
    before = await context.store.get(f"{front}/{int(window) - 1}")
    return here + int((1 - passed / rate.period) * int(before or b"0"))


def period_of(text: str) -> float:
    """The seconds of a rate's time. ValueError."""
    try:
        period = _PERIOD.validate_python(text)
    except ValidationError:
        period = 0.0
    if not SHORTEST <= period <= LONGEST:
        raise ValueError(f'found the time {text!r}; allowed: "10s" to "7d"')
    return period
