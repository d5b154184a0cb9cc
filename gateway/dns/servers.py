"""The name servers to ask: those of the configuration, or the system's from resolv.conf, read again when it changes."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from pathlib import Path

RESOLV_CONF = Path("/etc/resolv.conf")
MAX_SERVERS = 8
_LOOK_AGAIN = 10.0
"""Seconds between two looks at resolv.conf."""
_MAX_OCTETS = 64 * 1024

Server = tuple[str, int]


def parse_server(text: str) -> Server:
    """`192.0.2.53`, `192.0.2.53:53`, `[2001:db8::53]:53`, `unbound:53` as host and port; port 53 unless named."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, int(rest.removeprefix(":") or 53)
    host, _, port = text.partition(":")
    return host, int(port or 53)


def shown(server: Server) -> str:
    """As the configuration has it: `192.0.2.53:53`, `[::1]:53`."""
    host, port = server
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(server: Server) -> bool:
    """Nobody on the way can have changed its answers. A name is none: what it leads to is not known here."""
    try:
        return ipaddress.ip_address(server[0]).is_loopback
    except ValueError:
        return False


def read_resolv_conf(text: str) -> list[Server]:
    """The `nameserver` lines with an address; search lists and options are not for mail and are left out."""
    servers = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                ipaddress.ip_address(words[1])
            except ValueError:
                continue
            servers.append((words[1], 53))
    return servers[:MAX_SERVERS]


class Servers:
    """The name servers in the order to ask them: one that failed goes to the end."""

    def __init__(self, configured: Sequence[str], *, clock: Callable[[], float], resolv_conf: Path = RESOLV_CONF) -> None:
        self._order = [parse_server(text) for text in configured][:MAX_SERVERS]
        self._from_system = not self._order
        self._clock = clock
        self._path = resolv_conf
        self._stamp: tuple[int, int] | None = None
        self._looked: float | None = None

    def in_order(self) -> list[Server]:
        """All of them, the one that worked last first; empty when the system names none."""
        if self._from_system:
            self._look()
        return list(self._order)

    def failed(self, server: Server) -> None:
        """Ask this one last from now on."""
        if server in self._order:
            self._order.remove(server)
            self._order.append(server)

    def _look(self) -> None:
        now = self._clock()
        if self._looked is not None and now - self._looked < _LOOK_AGAIN:
            return
        self._looked = now
        try:
            facts = self._path.stat()
            stamp = (facts.st_mtime_ns, facts.st_ino)
            if stamp == self._stamp:
                return
            with self._path.open("rb") as file:
                text = file.read(_MAX_OCTETS).decode("utf-8", "replace")
        except OSError:
            self._order, self._stamp = [], None
            return
        self._order, self._stamp = read_resolv_conf(text), stamp
