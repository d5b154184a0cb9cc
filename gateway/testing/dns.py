"""DNS from a table, with the interface of the gateway's resolver: no packet leaves."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway.context import DnsAnswer
from gateway.errors import DnsError

TEMPFAIL: Final = "TEMPFAIL"
"""As the value of a name or of one of its kinds: a temporary failure.

Examples:
    >>> zones = {"slow.example": TEMPFAIL, "half.example": {"A": ["192.0.2.1"], "MX": TEMPFAIL}}
    >>> (await FakeResolver(zones).query("half.example", "A")).records
    ('192.0.2.1',)
"""
_MAX_ALIASES = 10


class FakeResolver:
    """Answers from `zones`: `{"example.org": {"TXT": ["v=spf1 -all"], "MX": [[10, "mx.example.org"]]}}`.

    Names that are not there do not exist; `TEMPFAIL` instead of the records (or of all kinds) raises DnsError. Addresses
    have PTR records under their own text: `{"192.0.2.1": {"PTR": ["mx.example.org"]}}`. CNAME is followed. `queries`
    lists what was asked.

    Examples:
        >>> resolver = FakeResolver({"192.0.2.1": {"PTR": ["mx.example.org."]}})
        >>> (await resolver.query("1.2.0.192.in-addr.arpa", "PTR")).records
        ('mx.example.org',)
        >>> resolver.queries
        [('1.2.0.192.in-addr.arpa', 'PTR')]
    """

    def __init__(self, zones: Mapping[str, Mapping[str, Any] | str] | None = None, *, authenticated: bool = False) -> None:
        self.zones = {_key(name): records for name, records in (zones or {}).items()}
        self.authenticated = authenticated
        self.queries: list[tuple[str, str]] = []

    async def query(self, name: str, kind: str) -> DnsAnswer:
        """Look up in the table. DnsError for TEMPFAIL and for aliases that go in a circle."""
        self.queries.append((name, kind))
        at = _key(name)
        canonical = ""
        for _ in range(_MAX_ALIASES):
            records = self.zones.get(at)
            if records is None:
                return DnsAnswer(name=name, kind=kind, exists=self._has_names_below(at), authenticated=self.authenticated)
            if isinstance(records, str):
                raise DnsError(name, kind, "temporary failure")
            if kind != "CNAME" and records.get("CNAME"):
                canonical = at = _key(records["CNAME"][0])
                continue
            found = records.get(kind, ())
            if found == TEMPFAIL or TEMPFAIL in found:
                raise DnsError(name, kind, "temporary failure")
            values = tuple(_record(kind, value) for value in found)
            return DnsAnswer(name=name, kind=kind, records=values, authenticated=self.authenticated, canonical=canonical)
        raise DnsError(name, kind, "too many aliases")

    def _has_names_below(self, at: str) -> bool:
        """An empty non-terminal exists (RFC 8020 2)."""
        return any(name.endswith("." + at) for name in self.zones)


def _key(name: str) -> str:
    """Lower case, no trailing dot, an address as its name in the reverse tree."""
    name = name.lower().rstrip(".")
    try:
        return ipaddress.ip_address(name).reverse_pointer
    except ValueError:
        return name


def _record(kind: str, value: Any) -> Any:
    """A record in the form of DnsAnswer.records."""
    if kind == "MX":
        preference, host = value
        return (int(preference), str(host).rstrip(".") or ".")
    if kind == "TXT":
        strings: Iterable[str | bytes] = (value,) if isinstance(value, str | bytes) else value
        return tuple(piece for one in strings for piece in _strings(one))
    return str(value).rstrip(".")


def _strings(text: str | bytes) -> list[bytes]:
    """Strings of at most 255 octets (RFC 1035 3.3)."""
    octets = text.encode() if isinstance(text, str) else text
    return [octets[at : at + 255] for at in range(0, max(len(octets), 1), 255)]
