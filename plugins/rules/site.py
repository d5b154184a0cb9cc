"""What rules know beside the message: the group's lists, the time, whose domains are ours, which way mail goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gateway import ClientClass, Recipient, Transaction
from gateway.plugins.rules.lists import Lists

Direction: TypeAlias = Literal["inbound", "outbound", "internal"]


@dataclass(frozen=True, slots=True)
class Site:
    """Of one group."""

    lists: Lists = field(default_factory=lambda: Lists({}))
    domains: frozenset[str] = frozenset()
    """Ours, in lower case; those below them are ours too."""
    directions: Mapping[str, Direction] = field(default_factory=dict)
    """Of listeners whose mail goes one way only."""
    time_zone: str = ""

    def is_ours(self, domain: str) -> bool:
        """Whether a domain is one of ours, or below one."""
        name = domain.lower().rstrip(".")
        while name:
            if name in self.domains:
                return True
            name = name.partition(".")[2]
        return False

    def direction(self, transaction: Transaction, recipient: Recipient | None) -> Direction:
        """By the listener where the group says so; else by client and recipients, one among them that is just being named."""
        known = self.directions.get(transaction.session.listener)
        if known is not None:
            return known
        if transaction.session.client_class is ClientClass.STRANGER:
            return "inbound"
        recipients = [*transaction.recipients, *([] if recipient is None else [recipient])]
        return "internal" if recipients and all(self.is_ours(one.domain) for one in recipients) else "outbound"


NOWHERE = Site()


def domains_of(texts: Sequence[str]) -> frozenset[str]:
    """For comparing."""
    return frozenset(text.lower().strip(".") for text in texts)
