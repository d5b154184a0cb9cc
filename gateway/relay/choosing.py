"""In which order the servers of a route are tried. RFC 5321 5.1, RFC 2782. Pure: no clock, no sockets, randomness comes in.

Servers that answer and have room come first, then those where one would have to wait, then those that rest. Among these the smaller
priority goes first, and of equal ones each comes first as often as its weight says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

S = TypeVar("S")


class Standing(IntEnum):
    """How a server stands now; the smaller is tried first."""

    READY = 0
    FULL = 1
    """All its links are in use."""
    RESTING = 2
    """It failed and has not answered a probe since."""


@dataclass(frozen=True, slots=True)
class Candidate(Generic[S]):
    """A server that a message may go to."""

    server: S
    priority: int = 0
    """The smaller is tried first: the preference of an MX record is one."""
    weight: float = 1.0
    """Its share among those of the same priority; more than 0."""


def in_order(candidates: Sequence[Candidate[S]], standing: Callable[[S], Standing], draw: Callable[[], float]) -> list[S]:
    """The servers in the order to try them. `draw` gives numbers from 0 up to and without 1.

    Among equals this is drawing without putting back, by weight: an exponential variate for each, its rate the weight, sorted.
    """
    if len(candidates) == 1:
        return [candidates[0].server]
    drawn = [
        (standing(one.server), one.priority, -math.log(1.0 - draw()) / one.weight, place) for place, one in enumerate(candidates)
    ]
    return [candidates[place].server for *_, place in sorted(drawn)]
