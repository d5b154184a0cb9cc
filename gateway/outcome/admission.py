"""Who may share a transaction: asked at RCPT, before the next hop is. RFC 5321 4.5.3.1.10 (452). Pure.

Only one route in a transaction, whoever the client is: one transaction is one delivery to one next hop.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

from gateway.outcome.values import ALONE, Ability
from gateway.outcome.wording import separate
from gateway.smtp.replies import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A recipient that the client just named."""

    mailbox: str
    route: str
    policy_class: tuple[Hashable, ...] = ()
    hint: str | None = None
    """What an earlier transaction left for (reverse-path, recipient); `` when nothing, None when nobody has looked."""


class Admission:
    """The classes of one transaction's recipients."""

    __slots__ = ("_ability", "_admitted", "_max_classes", "_turned_away")

    def __init__(self, ability: Ability, *, max_classes: int = 4) -> None:
        self._ability = ability
        self._max_classes = max_classes
        self._admitted: list[Arrival] = []
        self._turned_away: list[tuple[Hashable, ...]] = []

    @property
    def admitted(self) -> int:
        """How many have joined so far."""
        return len(self._admitted)

    @property
    def unread(self) -> tuple[Arrival, ...]:
        """Those that joined before anybody looked for their hints."""
        return tuple(arrival for arrival in self._admitted if arrival.hint is None)

    def learn(self, arrival: Arrival, hint: str) -> None:
        """The hint of one that has joined already."""
        self._admitted[self._admitted.index(arrival)] = replace(arrival, hint=hint)

    def admit(self, arrival: Arrival) -> Reply | None:
        """None: it may join. Else the 452 that makes the client send it separately."""
        if self._admitted:
            first = self._admitted[0]
            if not self._may_join(first, arrival):
                key = self._class_of(arrival)
                if key not in self._turned_away:
                    self._turned_away.append(key)
                return separate()
        self._admitted.append(arrival)
        return None

    def withdraw(self, mailbox: str) -> None:
        """The next hop or a plugin refused it after all: it no longer counts."""
        for place in range(len(self._admitted) - 1, -1, -1):
            if self._admitted[place].mailbox == mailbox:
                del self._admitted[place]
                return

    def _may_join(self, first: Arrival, arrival: Arrival) -> bool:
        if arrival.route != first.route:
            return False
        if not self._ability.has_single_reply:
            return True
        if arrival.mailbox == first.mailbox and self._class_of(arrival) == self._class_of(first):
            return True  # named twice: never another class than itself
        if ALONE in {arrival.hint, first.hint}:
            return False
        key = self._class_of(arrival)
        if key == self._class_of(first):
            return True
        if (arrival.hint or "") != (first.hint or "") and self._ability is not Ability.SMTP:
            return False
        # A queue retries late, so that only so many classes are told apart; the rest joins the first.
        return key not in self._turned_away and 1 + len(self._turned_away) >= self._max_classes

    def _class_of(self, arrival: Arrival) -> tuple[Hashable, ...]:
        policy = arrival.policy_class if self._ability is Ability.SMTP else ()
        alone = arrival.mailbox if arrival.hint == ALONE else ""
        return (arrival.route, policy, arrival.hint or "", alone)
