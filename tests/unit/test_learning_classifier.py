"""The classifier: known values of chi-square, and what must hold of every answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.learning import Known, judge
from gateway.learning.classifier import MOST, chi_square

COUNTS = st.dictionaries(st.integers(0, 99), st.tuples(st.floats(0, 100), st.floats(0, 100)), max_size=40)


@pytest.mark.parametrize(
    ("value", "freedom", "chance"),
    # percentage points of the distribution, as printed in tables
    [(0.0, 2, 1.0), (5.991, 2, 0.05), (9.488, 4, 0.05), (18.307, 10, 0.05), (2.558, 10, 0.99), (124.342, 100, 0.05)],
)
def test_chi_square(value: float, freedom: int, chance: float) -> None:
    assert chi_square(value, freedom) == pytest.approx(chance, abs=1e-4)


def test_nothing_known_is_one_half() -> None:
    assert judge([1, 2], Known(0, 0, {})).probability == 0.5
    assert judge([1, 2], Known(100, 100, {3: (50, 0)})).probability == 0.5
    assert judge([1], Known(100, 100, {1: (10, 10)})).clues == ()


def test_a_word_that_was_only_in_spam() -> None:
    known = Known(100, 100, {1: (0, 20), 2: (0, 20), 3: (20, 0)})
    assert judge([1, 2], known).probability > 0.95
    assert judge([3], known).probability < 0.1
    assert [clue.token for clue in judge([1, 2, 3], known).clues] == [1, 2, 3]
    assert judge([1], Known(100, 100, {1: (0, 1)})).probability < judge([1], known).probability  # once is little


def test_what_both_say_is_not_sure() -> None:
    known = Known(100, 100, {n: (0, 30) if n % 2 else (30, 0) for n in range(60)})
    assert 0.4 < judge(range(60), known).probability < 0.6


def test_the_sums_count_not_the_numbers() -> None:
    """Ten times as much ham learnt as spam: a word in a tenth of each says nothing."""
    assert judge([1], Known(1_000, 100, {1: (100, 10)})).clues == ()


def test_only_the_most_telling_count() -> None:
    known = Known(100, 100, {n: (0, 1 + n % 50) for n in range(500)})
    assert len(judge(range(500), known).clues) == MOST


@given(COUNTS, st.floats(0, 1_000), st.floats(0, 1_000))
def test_every_answer_is_a_probability_and_turns_with_its_sides(
    tokens: dict[int, tuple[float, float]], ham: float, spam: float
) -> None:
    found = judge(tokens, Known(ham, spam, tokens))
    assert 0.0 <= found.probability <= 1.0
    turned = judge(tokens, Known(spam, ham, {token: (other, one) for token, (one, other) in tokens.items()}))
    assert turned.probability == pytest.approx(1.0 - found.probability, abs=1e-6)
