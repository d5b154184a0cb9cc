"""Evaluations to be used again: `check_host()` (RFC 7208 4) says the same of the same client and domain while DNS says the same.

A result depends on the arguments and on what DNS answers. It is used again only after each answer that it was made from has been asked for
again and is the same, which is a look into the resolver's cache for each; so a record that changes counts at once. Results that depend on
more (macros may put the local part, the HELO name or the time into a question) are not kept.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from gateway import DnsError, Resolver
from gateway.at_hand import at_hand

MAX_RESULTS = 1_000
"""Results kept; those used least recently go first."""
MAX_ANSWERS = 12
"""Answers that a kept result may have been made from."""
MAX_OCTETS = 4_096
"""Octets of their texts."""
PATIENCE = 0.02
"""Seconds within which the answers have to be there: who has to wait for DNS evaluates, with the limits of an evaluation."""

R = TypeVar("R")
Question = tuple[str, str]
_Answer: TypeAlias = tuple[str, str, tuple[Any, ...]]
"""Name, kind, records."""


@dataclass(frozen=True, slots=True)
class _Known(Generic[R]):
    result: R
    answers: tuple[_Answer, ...]


class Memory(Generic[R]):
    """Results by client address and domain."""

    def __init__(self, size: int = MAX_RESULTS) -> None:
        self._size = size
        self._known: OrderedDict[tuple[str, str], _Known[R]] = OrderedDict()

    async def recall(self, address: str, domain: str, resolver: Resolver) -> R | None:
        """What came out before, when every answer is the same now; None: evaluate."""
        known = self._known.get((address, domain))
        if known is None:
            return None
        answers = known.answers
        look = at_hand(resolver)
        for place, (name, kind, records) in enumerate(answers):
            answer = look(name, kind)
            if answer is None:
                return await self._recall_later(address, domain, known, answers[place:], resolver)
            if answer.records != records:
                del self._known[address, domain]
                return None
        self._known.move_to_end((address, domain))
        return known.result

    async def _recall_later(
        self, address: str, domain: str, known: _Known[R], answers: Sequence[_Answer], resolver: Resolver
    ) -> R | None:
        """The same where some of the answers have to be waited for."""
        try:
            async with asyncio.timeout(PATIENCE):
                for name, kind, records in answers:
                    if (await resolver.query(name, kind)).records != records:
                        del self._known[address, domain]
                        return None
        except (DnsError, TimeoutError, KeyError):  # KeyError: another message has found out at the same time
            return None
        if (address, domain) in self._known:
            self._known.move_to_end((address, domain))
        return known.result

    def keep(self, address: str, domain: str, answers: Mapping[Question, Sequence[Any]], result: R) -> None:
        """Keep a result that was made from all these answers, should it depend on nothing else."""
        texts = [text for (_, kind), records in answers.items() if kind == "TXT" for strings in records for text in strings]
        has_macros = any(b"%" in text for text in texts)
        if has_macros or len(answers) > MAX_ANSWERS or sum(map(len, texts)) > MAX_OCTETS:
            self._known.pop((address, domain), None)
            return
        made_from = tuple((name, kind, tuple(records)) for (name, kind), records in answers.items())
        self._known[address, domain] = _Known(result, made_from)
        while len(self._known) > self._size:
            self._known.popitem(last=False)
