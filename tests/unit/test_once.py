"""`once`: a fact is computed when somebody asks first, and then stays."""

from __future__ import annotations

from functools import cached_property

from gateway.once import once


class Sum:
    """Counts how often it is computed."""

    times = 0

    @once
    def total(self) -> int:
        """Of nothing."""
        self.times += 1
        return 42


def test_it_is_computed_for_who_asks_first_and_then_is_an_attribute() -> None:
    one = Sum()
    assert "total" not in vars(one)
    assert (one.total, one.total, one.times) == (42, 42, 1)
    assert vars(one)["total"] == 42


def test_the_class_shows_what_computes_it() -> None:
    assert isinstance(vars(Sum)["total"], cached_property)
    assert Sum.total.func(Sum()) == 42
