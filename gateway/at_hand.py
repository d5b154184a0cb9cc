"""DNS answers that are at hand: taken without waiting, so that what is known already costs neither a task nor a timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias

from gateway.context import DnsAnswer, Resolver
from gateway.errors import DnsError

AtHand: TypeAlias = Callable[[str, str], DnsAnswer | None]
"""Name and kind to the answer; None where the resolver has to be awaited."""


def at_hand(resolver: Resolver) -> AtHand:
    """What this resolver can tell at once: that of a worker has a cache to look into, others nothing."""
    known: AtHand = getattr(resolver, "known", _nothing)
    return known


async def answers_to(resolver: Resolver, questions: Sequence[tuple[str, str]]) -> list[DnsAnswer | DnsError]:
    """To each question the answer, or why there is none; those that are not at hand are asked all at once."""
    known = at_hand(resolver)
    if len(questions) == 1:
        ((name, kind),) = questions
        return [known(name, kind) or await _asked(resolver, name, kind)]
    found: list[DnsAnswer | DnsError | None] = [known(name, kind) for name, kind in questions]
    open_ones = [place for place, answer in enumerate(found) if answer is None]
    if len(open_ones) == 1:  # without a task: it is the common case
        (place,) = open_ones
        found[place] = await _asked(resolver, *questions[place])
    elif open_ones:
        later = await asyncio.gather(*(_asked(resolver, *questions[place]) for place in open_ones))
        for place, answer in zip(open_ones, later, strict=True):
            found[place] = answer
    return [answer for answer in found if answer is not None]


async def _asked(resolver: Resolver, name: str, kind: str) -> DnsAnswer | DnsError:
    try:
        return await resolver.query(name, kind)
    except DnsError as error:
        return error


def _nothing(_name: str, _kind: str) -> None:
    """Of a resolver without a cache."""
