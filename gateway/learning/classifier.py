"""How likely a message is spam, by the tokens that were in spam and ham before: Robinson's estimate, joined by Fisher's method. Pure.

Each token has a probability, drawn towards one half while little is known of it; the most telling of them are joined by two tests of
chi-square, one for spam and one for ham. Where both speak, or neither, the answer is near one half: not sure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

UNKNOWN = 0.5
"""What is believed of a token that nobody has seen."""
STRENGTH = 0.45
"""How much that belief weighs, in messages."""
TELLING = 0.1
"""How far from one half a token must be to count."""
MOST = 150
"""Tokens that count in one message."""
_LEAST = 1e-9


@dataclass(frozen=True, slots=True)
class Known:
    """What was learnt, of some tokens: in how many messages of ham and spam each was."""

    ham: float
    """Messages."""
    spam: float
    tokens: Mapping[int, tuple[float, float]]
    """Number of the token to (ham, spam)."""


@dataclass(frozen=True, slots=True)
class Clue:
    """A token that counted, and how likely it makes spam."""

    token: int
    probability: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """How likely a message is spam, and why."""

    probability: float
    clues: tuple[Clue, ...]
    """The most telling first."""


def judge(tokens: Collection[int], known: Known) -> Judgement:
    """Join what is known of these tokens."""
    clues = []
    for token in tokens:
        found = known.tokens.get(token)
        if found is not None:
            probability = _probability(*found, known)
            if abs(probability - UNKNOWN) >= TELLING:
                clues.append(Clue(token, probability))
    clues.sort(key=lambda clue: (-abs(clue.probability - UNKNOWN), clue.token))
    clues = clues[:MOST]
    if not clues:
        return Judgement(UNKNOWN, ())
    spam = 1.0 - chi_square(-2.0 * sum(math.log(1.0 - clue.probability) for clue in clues), 2 * len(clues))
    ham = 1.0 - chi_square(-2.0 * sum(math.log(clue.probability) for clue in clues), 2 * len(clues))
    return Judgement((spam - ham + 1.0) / 2.0, tuple(clues))


def _probability(ham: float, spam: float, known: Known) -> float:
    of_ham = min(1.0, ham / known.ham) if known.ham > 0 else 0.0
    of_spam = min(1.0, spam / known.spam) if known.spam > 0 else 0.0
    if of_ham + of_spam <= 0:
        return UNKNOWN
    seen = max(ham, 0.0) + max(spam, 0.0)
    estimate = (STRENGTH * UNKNOWN + seen * of_spam / (of_ham + of_spam)) / (STRENGTH + seen)
    return min(max(estimate, _LEAST), 1.0 - _LEAST)


def chi_square(value: float, freedom: int) -> float:
    """The chance of a chi-square of so many degrees of freedom, an even number, being at least this."""
    half = value / 2.0
    term = total = math.exp(-half)
    for n in range(1, freedom // 2):
        term *= half / n
        total += term
    return min(total, 1.0)
