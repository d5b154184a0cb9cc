"""Zones as the whole of DNS: what they do not list does not exist, and nothing is asked anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.context import DnsAnswer
from gateway.errors import DnsError

if TYPE_CHECKING:
    from gateway.dns.zones import Zones

_MAX_ALIASES = 10


class ZoneResolver:
    """A resolver that answers from zones, aliases followed."""

    def __init__(self, zones: Zones) -> None:
        self._zones = zones

    async def query(self, name: str, kind: str) -> DnsAnswer:
        """Look up. DnsError where a zone says that the look-up fails, and for aliases that go in a circle."""
        from gateway.dns.names import canonical

        kind = kind.upper()
        at = known = canonical(name)
        if known is None or at is None:
            return DnsAnswer(name=name, kind=kind, exists=False)
        for number in range(_MAX_ALIASES):
            answer = self._zones.answer(at, kind)
            if answer is None:
                return DnsAnswer(name=known, kind=kind, exists=False)
            if not answer.canonical:
                alias = at if number else ""
                return DnsAnswer(name=known, kind=kind, records=answer.records, exists=answer.exists, canonical=alias)
            at = canonical(answer.canonical) or answer.canonical
        raise DnsError(known, kind, "too many aliases")
