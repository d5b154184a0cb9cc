"""A circuit breaker: gateway.breaker."""

from __future__ import annotations

import pytest

from gateway.breaker import Breaker, Circuit, RestingError
from gateway.testing import Clock


def failing(times: int, *, failures: int = 3) -> tuple[Breaker, Clock]:
    clock = Clock()
    breaker = Breaker(failures=failures, rest=10.0, clock=clock)
    for n in range(times):
        assert not breaker.enter()
        breaker.failed(f"problem {n}")
    return breaker, clock


def test_opens_after_so_many_failures_in_a_row() -> None:
    breaker, _ = failing(2)
    breaker.succeeded()
    assert breaker.failures == 0
    for _ in range(2):
        breaker.failed("again")
        assert breaker.state == "closed"
    breaker.failed("and again")
    assert str(breaker.state) == "open"
    with pytest.raises(RestingError, match=r"^not asked for 10\.0 s after 3 failures, the last: and again$"):
        breaker.enter()


def test_never_opens_without_a_limit() -> None:
    breaker, _ = failing(100, failures=0)
    assert breaker.state is Circuit.CLOSED


def test_after_the_rest_one_tries_and_the_others_wait_for_it() -> None:
    breaker, clock = failing(3)
    clock.move(9.9)
    assert str(breaker.state) == "open"
    clock.move(0.1)
    assert str(breaker.state) == "half-open"
    assert breaker.enter()
    with pytest.raises(RestingError):
        breaker.enter()
    breaker.succeeded()
    assert (breaker.state, breaker.enter()) == (Circuit.CLOSED, False)


def test_who_tries_and_fails_begins_another_rest() -> None:
    breaker, clock = failing(3)
    clock.move(10)
    assert breaker.enter()
    clock.move(5)
    breaker.failed("still")
    clock.move(9.9)
    with pytest.raises(RestingError, match="after 4 failures, the last: still"):
        breaker.enter()
    clock.move(0.1)
    assert breaker.enter()


def test_who_tried_and_gave_up_leaves_it_to_the_next() -> None:
    breaker, clock = failing(3)
    clock.move(10)
    assert breaker.enter()
    breaker.let_one_try()
    assert breaker.enter()
    with pytest.raises(RestingError):
        breaker.enter()


def test_a_sign_of_life_means_nothing_to_a_closed_circuit() -> None:
    breaker, _ = failing(2)
    breaker.let_one_try()
    assert (breaker.state, breaker.failures) == (Circuit.CLOSED, 2)
