"""Who may share a transaction: asked at RCPT, before the next hop is. RFC 5321 4.5.3.1.10 (452). Pure.

Only one route in a transaction, whoever the client is: one transaction is one delivery to one next hop. A queue tries its
recipients in the same order each time; so one that was deferred while others were turned away lets each of them go first.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable
from typing import Final

from gateway.outcome.values import ALONE, Ability
from gateway.outcome.wording import separate
from gateway.smtp.replies import Reply
from gateway.values import value

_LATER: Final = re.compile(r"later (\d{1,4}) ?")
"""In front of a hint: so often it is not the first of a transaction."""

_MOST_WAITS: Final = 20


@value(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A recipient that the client just named."""

    mailbox: str
    route: str
    policy_class: tuple[Hashable, ...] = ()
    hint: str = ""
    """What an earlier transaction left for (reverse-path, recipient); `` when nothing."""

    @property
    def waits(self) -> int:
        """So often others go first: it was first itself, was deferred, and they were turned away."""
        if not self.hint:
            return 0
        found = _LATER.match(self.hint)
        return int(found[1]) if found else 0

    @property
    def group(self) -> str:
        """The class that the hint names."""
        if not self.hint:
            return ""
        return _LATER.sub("", self.hint, count=1)

    @property
    def next_hint(self) -> str:
        """The hint for the try after this one."""
        return _later(self.waits - 1, self.group) if self.waits > 1 else self.group


def _later(waits: int, group: str) -> str:
    return f"later {waits} {group}"


class Admission:
    """The classes of one transaction's recipients."""

    __slots__ = ("_ability", "_admitted", "_max_classes", "_turned_away")

    def __init__(self, ability: Ability, *, max_classes: int = 4) -> None:
        self._ability = ability
        self._max_classes = max_classes
        self._admitted: list[Arrival] = []
        self._turned_away: list[tuple[Hashable, ...]] = []

    def admit(self, arrival: Arrival) -> Reply | None:
        """None: it may join. Else the 452 that makes the client send it separately."""
        waits = not self._admitted and arrival.waits
        if waits or (self._admitted and not self._may_join(self._admitted[0], arrival)):
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

    def postponed(self, mailboxes: Collection[str]) -> dict[str, str]:
        """Hints for these deferred recipients, by which those turned away go first at the next try; none if nobody was."""
        if not self._turned_away:
            return {}
        waits = min(len(self._turned_away), _MOST_WAITS)
        return {one.mailbox: _later(waits, one.group) for one in self._admitted if one.mailbox in mailboxes}

    def _may_join(self, first: Arrival, arrival: Arrival) -> bool:
        if arrival.route != first.route:
            return False
        if not self._ability.has_single_reply:
            return True
        key = self._class_of(arrival)
        if key == self._class_of(first):
            return True
        if ALONE in {arrival.group, first.group}:
            return False
        if arrival.group != first.group and self._ability is not Ability.SMTP:
            return False
        # A queue retries late, so that only so many classes are told apart; the rest joins the first.
        return key not in self._turned_away and 1 + len(self._turned_away) >= self._max_classes

    def _class_of(self, arrival: Arrival) -> tuple[Hashable, ...]:
        policy = arrival.policy_class if self._ability is Ability.SMTP else ()
        alone = arrival.mailbox if arrival.group == ALONE else ""
        return (arrival.route, policy, arrival.group, alone)
