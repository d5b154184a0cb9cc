"""Token bucket: whatever is asked for whenever, what is taken never passes burst + rate × time; who waits as told gets what he wanted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.bucket import taken
from gateway.testing import Clock, FakeContext

RATES = st.floats(0.001, 1_000)
BURSTS = st.floats(0.5, 1_000)
STEPS = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1_500)), max_size=60)


@given(RATES, BURSTS, STEPS)
def test_never_more_than_burst_and_rate_times_time(rate: float, burst: float, steps: list[tuple[float, float]]) -> None:
    now, state, total, start = 1_795_000_000.0, None, 0.0, 1_795_000_000.0
    for wait, amount in steps:
        now += wait
        left, after, ttl = taken(state, now=now, amount=amount, rate=rate, burst=burst)
        assert left <= burst
        assert ttl > 0
        if left >= 0:
            state, total = after, total + amount
        assert total <= (burst + rate * (now - start)) * (1 + 1e-6)


@given(RATES, BURSTS, STEPS)
def test_what_was_refused_is_there_after_the_wait(rate: float, burst: float, steps: list[tuple[float, float]]) -> None:
    now, state = 1_795_000_000.0, None
    for wait, amount in steps:
        now += wait
        wanted = min(amount, burst)
        left, after, _ = taken(state, now=now, amount=wanted, rate=rate, burst=burst)
        if left < 0:
            now += -left / rate + 1e-3
            left, after, _ = taken(state, now=now, amount=wanted, rate=rate, burst=burst)
        assert left >= 0
        state = after


@given(RATES, BURSTS, STEPS)
async def test_a_bucket_that_expired_was_full(rate: float, burst: float, steps: list[tuple[float, float]]) -> None:
    """The store forgets a bucket that nobody touches: nobody gains by it."""
    clock = Clock()
    store = FakeContext(clock=clock).store
    state = None
    for wait, amount in steps:
        clock.move(wait)
        left = await store.take("b", amount, rate=rate, burst=burst)
        kept, after, _ = taken(state, now=clock.now, amount=amount, rate=rate, burst=burst)
        state = after if kept >= 0 else state
        assert abs(left - kept) <= 1e-6 * (burst + amount)
