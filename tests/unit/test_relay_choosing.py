"""The order of a route's servers: standing, priority, weight; and how long a server rests."""

import random
from collections import Counter

import pytest

from gateway.relay.choosing import Candidate, Standing, in_order
from gateway.relay.health import Health


def order(servers: dict[str, tuple[int, float]], draw: random.Random | None = None, **standings: Standing) -> list[str]:
    candidates = [Candidate(name, priority, weight) for name, (priority, weight) in servers.items()]
    return in_order(candidates, lambda name: standings.get(name, Standing.READY), (draw or random.Random(1)).random)


@pytest.mark.parametrize(
    ("standings", "expected"),
    [
        ({}, "abc"),
        ({"a": Standing.RESTING}, "bca"),
        ({"a": Standing.FULL}, "bca"),
        ({"a": Standing.FULL, "b": Standing.RESTING}, "cab"),
        ({"a": Standing.RESTING, "b": Standing.RESTING, "c": Standing.RESTING}, "abc"),
    ],
)
def test_standing_comes_before_priority(standings: dict[str, Standing], expected: str) -> None:
    for seed in range(20):
        found = order({"b": (1, 1), "c": (2, 5), "a": (0, 1)}, random.Random(seed), **standings)
        assert "".join(found) == expected


def test_one_server_needs_no_draw() -> None:
    def never() -> float:
        raise AssertionError

    assert in_order([Candidate("a")], lambda _: Standing.READY, never) == ["a"]
    assert in_order([], lambda _: Standing.READY, never) == []


def test_weights_are_shares() -> None:
    """Also of the second place: of what is left when the first was drawn."""
    draw = random.Random(7)
    orders = ["".join(order({"a": (0, 3), "b": (0, 1), "c": (0, 1), "d": (1, 1000)}, draw)) for _ in range(20_000)]
    first = Counter(found[0] for found in orders)
    assert first["a"] / 20_000 == pytest.approx(0.6, abs=0.02)
    assert first["b"] / 20_000 == pytest.approx(0.2, abs=0.02)
    second = Counter(found[1] for found in orders if found[0] == "b")
    assert second["a"] / sum(second.values()) == pytest.approx(0.75, abs=0.03)
    assert {found[3] for found in orders} == {"d"}


@pytest.mark.parametrize("drawn", [0.0, 1.0 - 2**-53])
def test_draws_at_the_ends(drawn: float) -> None:
    assert in_order([Candidate("a"), Candidate("b")], lambda _: Standing.READY, lambda: drawn) == ["a", "b"]


def test_rests_grow_up_to_a_bound_until_a_message_went_through() -> None:
    health = Health(5.0, 60.0)
    assert [health.failed() for _ in range(6)] == [5, 10, 20, 40, 60, 60]
    health.answered()
    states = [health.is_resting]
    assert health.failed() == 60, "it greets, and fails the first message again"
    assert [*states, health.is_resting] == [False, True]
    health.answered()
    health.served()
    assert health.failed() == 5
    for _ in range(5000):
        assert health.failed() <= 60
    assert Health(5.0, 1.0).failed() == 5, "a bound below the first rest is the first rest"
