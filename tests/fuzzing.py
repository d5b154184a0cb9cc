"""How much generated input the fuzz tests make: `MAILGATEWAY_FUZZ` times as much as the suite, which `make fuzz` sets."""

from __future__ import annotations

import os
import random

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("MAILGATEWAY_FUZZ", "1"))
"""A multiplier of examples, messages, sessions. With 1 every run has the same ones where that is in the test's hand."""
FIRST_SEED = int(os.environ.get("MAILGATEWAY_SEED", "1"))
"""Where tests that count their seeds begin: the seed of a failure, to have it again at once."""


def examples(number: int) -> settings:
    """So many examples, times TIMES; hypothesis looks neither at their time nor at what it makes of them."""
    return settings(
        max_examples=number * TIMES, derandomize=TIMES == 1, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )


def chances(seed: int) -> random.Random:
    """The same in every run of the suite, others in each longer one."""
    return random.Random(seed if TIMES == 1 else None)
