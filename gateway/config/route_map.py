"""Route maps: which addresses and domains go to which route or server. One entry a line; nothing is looked up.

    # address or domain     route or server
    user@example.org        archive
    example.org             192.0.2.10:25
    .example.org            mx:example.net

Local parts are compared without regard to the case of ASCII letters: RFC 5321 2.4 leaves them to the receiving host, hardly any host
tells them apart, and a map only says where they go.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gateway.config.addresses import domain_key, parse_mx, parse_server

MAX_FILE = 64 * 1024 * 1024
"""Octets of a map."""
MAX_ENTRIES = 1_000_000
MAX_LINE = 1_000
_KEYS = '"user@example.org", "example.org" or ".example.org", then a route or a server'


class MapError(Exception):
    """The file cannot be used: `file:line: what is wrong`."""


@dataclass(slots=True)
class RouteMap:
    """A map, read."""

    addresses: dict[str, str] = field(default_factory=dict)
    domains: dict[str, str] = field(default_factory=dict)
    below: dict[str, str] = field(default_factory=dict)
    """By the domain above."""

    def __len__(self) -> int:
        return len(self.addresses) + len(self.domains) + len(self.below)

    def target(self, local_part: str, domain: str) -> str | None:
        """The route or server: by the address, the domain, then the domains above, the nearest first. None: not in the map.

        The domain in lower case, A-labels.
        """
        if self.addresses:
            found = self.addresses.get(f"{folded(local_part)}@{domain}")
            if found is not None:
                return found
        found = self.domains.get(domain)
        if found is not None or not self.below:
            return found
        rest = domain
        while "." in rest:
            rest = rest.partition(".")[2]
            if rest in self.below:
                return self.below[rest]
        return None


def folded(local_part: str) -> str:
    """For comparing: ASCII letters in lower case, without quotes that are not needed."""
    if local_part[:1] == '"' and local_part[-1:] == '"' and len(local_part) > 1 and "\\" not in local_part:
        local_part = local_part[1:-1]
    return local_part.lower() if local_part.isascii() else "".join(c.lower() if c.isascii() else c for c in local_part)


def read_map(path: Path, routes: Collection[str]) -> RouteMap:
    """Read a file. `routes`: names that may be targets. MapError."""
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        raise MapError(f"{path}: cannot be read: {what}") from error
    if len(octets) > MAX_FILE:
        raise MapError(f"{path}: more than {MAX_FILE} octets")
    try:
        lines = octets.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise MapError(f"{path}:{octets[: error.start].count(10) + 1}: not UTF-8") from error
    return parse_map(lines, str(path), routes)


def parse_map(lines: Iterable[str], name: str, routes: Collection[str]) -> RouteMap:
    """Entries of a map. MapError names the line."""
    result = RouteMap()
    known: set[str] = set(routes)
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue

        def wrong(found: str, allowed: str, number: int = number) -> MapError:
            return MapError(f"{name}:{number}: found {found[:80]!r}; allowed: {allowed}")

        if len(line) > MAX_LINE or len(words) != 2:
            raise wrong(line.strip(), _KEYS)
        _check_target(words[1], known, routes, wrong)
        table, key = _key(words[0], result)
        if key is None:
            raise wrong(words[0], _KEYS)
        if table.setdefault(key, words[1]) != words[1]:
            raise wrong(words[0], "each address and domain once")
        if len(result) > MAX_ENTRIES:
            raise MapError(f"{name}:{number}: more than {MAX_ENTRIES} entries")
    return result


def _key(written: str, tables: RouteMap) -> tuple[dict[str, str], str | None]:
    """The table an entry belongs to, and its key there; None when it is none."""
    local_part, at, domain = written.rpartition("@")
    if at:
        key = domain_key(domain)
        return tables.addresses, f"{folded(local_part)}@{key}" if key and local_part else None
    if written.startswith("."):
        return tables.below, domain_key(written[1:])
    return tables.domains, domain_key(written)


def _check_target(target: str, known: set[str], routes: Collection[str], wrong: Callable[[str, str], MapError]) -> None:
    """A route, or a server as in `servers`; each is looked at once."""
    if target in known:
        return
    try:
        exchangers = parse_mx(target)
        if exchangers is None:
            parse_server(target)
    except ValueError as error:
        raise wrong(target, f"a route ({', '.join(sorted(routes))}) or a server: {error}") from error
    if exchangers is not None and not exchangers[0]:
        raise wrong(target, 'a route with "mx:", or "mx:" and a domain')
    if target == "inbox:":
        raise wrong(target, 'a route with "inbox:", or a server')
    known.add(target)
