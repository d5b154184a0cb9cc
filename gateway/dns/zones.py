"""Static answers of the configuration, `[dns.zones]`: for tests, demonstrations and names that no name server knows.

A listed name is answered; a name below a listed one does not exist, unless `*.` before an ancestor is listed (RFC 4592). Where a name under `test` or `invalid` is listed, nothing else
under that top-level domain exists either (RFC 6761 6.2, 6.4), so that nothing about such names leaves the host.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.context import DnsAnswer
from gateway.dns.names import canonical
from gateway.errors import ConfigError, ConfigProblem, DnsError

KINDS = ("A", "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "TXT")
FAILS = "TEMPFAIL"
_RESERVED = frozenset({"test", "invalid"})

_ALLOWED = {
    "TXT": "a text, or a list of texts of at most 255 octets each",
    "MX": '[preference, "host"]',
}


def _record(kind: str, value: Any) -> Any:
    """One record in the form of `DnsAnswer.records`; ValueError says what is allowed."""
    match kind, value:
        case "TXT", str():
            octets = value.encode()
            return tuple(octets[i : i + 255] for i in range(0, len(octets), 255)) or (b"",)
        case "TXT", [*parts] if all(isinstance(part, str) for part in parts):
            return tuple(part.encode() for part in parts)
        case "MX", [int(preference), str(host)]:
            return preference, host if host == "." else host.removesuffix(".")
        case (("TXT" | "MX"), _):
            raise ValueError(_ALLOWED[kind])
        case _, str():
            return value.removesuffix(".")
        case _:
            raise ValueError("a text")


class Zones:
    """The static answers. ConfigError with every mistake in them."""

    def __init__(self, zones: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
        self._answers: dict[str, dict[str, tuple[Any, ...] | None]] = {}
        problems: list[ConfigProblem] = []
        for name, kinds in zones.items():
            known = canonical(name)
            if known is None:
                problems.append(_problem(name, repr(name), "a domain name"))
                continue
            entry = self._answers.setdefault(known, {})
            for kind, values in kinds.items():
                key = kind.upper()
                if key not in KINDS:
                    problems.append(_problem(name, kind, ", ".join(KINDS)))
                    continue
                if values == FAILS or FAILS in values:
                    entry[key] = None
                    continue
                try:
                    entry[key] = tuple(_record(key, value) for value in values)
                except ValueError as error:
                    problems.append(_problem(f"{name}.{key}", repr(values)[:200], str(error)))
        if problems:
            raise ConfigError(problems)
        self._above = frozenset(ancestor for name in self._answers for ancestor in _ancestors(name))
        self._own_tops = {top for name in self._answers if (top := name.rpartition(".")[2]) in _RESERVED}

    @property
    def is_empty(self) -> bool:
        """Nothing is listed."""
        return not self._answers

    def answer(self, name: str, kind: str) -> DnsAnswer | None:
        """The answer for a canonical name, not following CNAME; None when name servers are to be asked.

        Raises DnsError where the configuration says so (`"TEMPFAIL"`).
        """
        entry = self._answers.get(name)
        if entry is None:
            entry = self._by_wildcard(name)
        if entry is None:
            # RFC 8020 2: a name with names below it exists, if only so
            return DnsAnswer(name=name, kind=kind, exists=name in self._above) if self._is_below(name) else None
        if kind in entry:
            records = entry[kind]
            if records is None:
                raise DnsError(name, kind, "the configuration says that this look-up fails", cause="static")
            return DnsAnswer(name=name, kind=kind, records=records)
        aliases = entry.get("CNAME")
        return DnsAnswer(name=name, kind=kind, canonical=aliases[0] if aliases else "")

    def _by_wildcard(self, name: str) -> dict[str, tuple[Any, ...] | None] | None:
        """RFC 4592 3.3.1: what is listed for `*` below the closest ancestor that exists."""
        if name in self._above:
            return None
        for ancestor in _ancestors(name):
            if ancestor in self._answers or ancestor in self._above:
                return self._answers.get(f"*.{ancestor}")
        return None

    def _is_below(self, name: str) -> bool:
        if name.rpartition(".")[2] in self._own_tops:
            return True
        return any(ancestor in self._answers or f"*.{ancestor}" in self._answers for ancestor in _ancestors(name))


def _ancestors(name: str) -> Iterator[str]:
    """`b.c` and `c` for `a.b.c`."""
    _, dot, parent = name.partition(".")
    while dot:
        yield parent
        _, dot, parent = parent.partition(".")


def _problem(key: str, found: str, allowed: str) -> ConfigProblem:
    return ConfigProblem(file="configuration", line=None, key=f"dns.zones.{key}", found=found, allowed=allowed)
