"""Generated input of tests that `make fuzz` has no larger run of: as many examples as they say, the same each time."""

from __future__ import annotations

from hypothesis import HealthCheck, settings


def examples(number: int) -> settings:
    """So many; hypothesis looks neither at their time nor at what it makes of them."""
    return settings(max_examples=number, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
