"""DNS whose answers are noted, so that a session can be played again without it."""

from __future__ import annotations

from typing import Any

from gateway.context import DnsAnswer, Resolver
from gateway.errors import DnsError

MOST = 5_000
"""Answers that are kept; of more, the first go."""


class NotedResolver:
    """Asks another resolver, and keeps what it said as `[dns.zones]` has it."""

    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver
        self._noted: dict[tuple[str, str], DnsAnswer | None] = {}

    async def query(self, name: str, kind: str) -> DnsAnswer:
        """Look up. DnsError as the other one says."""
        key = name.lower().rstrip("."), kind.upper()
        try:
            answer = await self.resolver.query(name, kind)
        except DnsError:
            self._note(key, None)
            raise
        self._note(key, answer)
        return answer

    def _note(self, key: tuple[str, str], answer: DnsAnswer | None) -> None:
        if key not in self._noted and len(self._noted) >= MOST:
            self._noted.pop(next(iter(self._noted)))
        self._noted[key] = answer

    def forget(self) -> None:
        """Of everything before."""
        self._noted.clear()

    async def close(self) -> None:
        """Of the other one, if it has something to close."""
        close = getattr(self.resolver, "close", None)
        if close is not None:
            await close()

    def zones(self) -> dict[str, dict[str, list[Any]]]:
        """Everything that was answered; names that do not exist are left out."""
        found: dict[str, dict[str, list[Any]]] = {}
        for (name, kind), answer in self._noted.items():
            if answer is None:
                found.setdefault(name, {})[kind] = ["TEMPFAIL"]
                continue
            if not answer.exists:
                continue
            at = name
            if answer.canonical and answer.canonical != name and kind != "CNAME":
                found.setdefault(name, {})["CNAME"] = [answer.canonical]
                at = answer.canonical
            kinds = found.setdefault(at, {})
            if answer.records:
                kinds[kind] = [_written(kind, one) for one in answer.records]
        return found


def _written(kind: str, record: Any) -> Any:
    if kind == "TXT":
        return [one.decode("utf-8", "backslashreplace") for one in record]
    return list(record) if isinstance(record, tuple) else record
