"""Servers of a route as written in the configuration, and which route a domain takes. Nothing is looked up."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address
from typing import Final

from gateway.config.addresses import is_loopback_host
from gateway.config.models import RouteConfig
from gateway.idn import a_labels

DEFAULT_PORT: Final = 25
SMTPS_PORT: Final = 465
"""RFC 8314 3.3."""
ALLOWED: Final = (
    '"host:port", "[IPv6 address]:port", "smtps://host:port", "unix:/path", "lmtp://host:port", "lmtp+unix:/path" or "inbox:"'
)
LMTP: Final = ("lmtp://", "lmtp+")
_HOST: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")


@dataclass(frozen=True, slots=True)
class Server:
    """One server of a route: a host and port, or a UNIX socket. SMTP on both, or LMTP."""

    host: str = ""
    port: int = 0
    path: str = ""
    """Of a UNIX socket; then there is no host."""
    is_inbox: bool = False
    """The development next hop, whose address the worker is told at its start."""
    is_lmtp: bool = False
    """It is greeted with LHLO and answers for each recipient (RFC 2033)."""
    mx_name: str = field(default="", compare=False)
    """The mail exchanger whose address `host` is. DNS said so, which proves nothing: never verified TLS (design §5)."""
    implicit_tls: bool = False
    """TLS from the first octet (RFC 8314 3.3)."""
    source: tuple[str, ...] = ()
    """Addresses of ours, at most one of each family, that connections to it come from."""

    @property
    def is_local(self) -> bool:
        """On this host: loopback or a UNIX socket."""
        return not self.host or is_loopback_host(self.host)

    def source_of(self, address: str) -> tuple[str, int] | None:
        """Where a connection to this address comes from; None: as the system likes."""
        return next(((one, 0) for one in self.source if (":" in one) == (":" in address)), None)

    def __str__(self) -> str:
        if self.is_inbox:
            return "inbox:"
        if self.path:
            return f"{'lmtp+' if self.is_lmtp else ''}unix:{self.path}"
        if self.mx_name:
            return f"{self.mx_name}[{self.host}]:{self.port}"
        host = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        front = "smtps://" if self.implicit_tls else "lmtp://" if self.is_lmtp else ""
        return front + host


def parse_server(text: str) -> Server:
    """A server as in `servers = [...]`; port 25 unless given, LMTP has none by itself. ValueError says what is allowed."""
    text = text.strip()
    if text.startswith(LMTP):
        return _lmtp(text)
    if text == "inbox:":
        return Server(is_inbox=True)
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if path.startswith("/") and "\0" not in path and len(path.encode()) <= 107:
            return Server(path=path)
        msg = f"{text!r}: a UNIX socket is unix: and an absolute path of at most 107 octets"
        raise ValueError(msg)
    if text.startswith("smtps://"):
        return _network_server(text, text.removeprefix("smtps://"), SMTPS_PORT, implicit_tls=True)
    return _network_server(text, text, DEFAULT_PORT)


def _network_server(written: str, text: str, default_port: int, *, implicit_tls: bool = False) -> Server:
    """A host, and perhaps a port. `written` is for messages."""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise ValueError(f"{written!r}; allowed: {ALLOWED}")
        try:
            IPv6Address(host)
        except ValueError as error:
            raise ValueError(f"{written!r}: {host!r} is no IPv6 address; allowed: {ALLOWED}") from error
        return Server(host, _port(written, port[1:]) if port else default_port, implicit_tls=implicit_tls)
    host, colon, port = text.partition(":")
    if ":" in port:
        raise ValueError(f"{written!r}: an IPv6 address needs brackets; allowed: {ALLOWED}")
    if not _HOST.fullmatch(host) or len(host) > 254 or ".." in host:
        raise ValueError(f"{written!r}: {host!r} is no host name; allowed: {ALLOWED}")
    return Server(host, _port(written, port) if colon else default_port, implicit_tls=implicit_tls)


def _lmtp(text: str) -> Server:
    """`lmtp://host:port` or `lmtp+unix:/path`."""
    rest = text.removeprefix("lmtp://").removeprefix("lmtp+")
    found = Server(is_inbox=True) if rest.startswith(LMTP) else parse_server(rest)
    if found.is_inbox or found.implicit_tls or bool(found.path) == text.startswith("lmtp://"):
        raise ValueError(f"{text!r}; allowed: {ALLOWED}")
    if found.port == DEFAULT_PORT:  # RFC 2033 5
        raise ValueError(f"{text!r}: LMTP needs a port, and not 25, which is SMTP's; allowed: {ALLOWED}")
    return replace(found, is_lmtp=True)


def _port(text: str, port: str) -> int:
    if port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535 and len(port) <= 5:
        return int(port)
    raise ValueError(f"{text!r}: {port!r} is no port from 1 to 65535; allowed: {ALLOWED}")


def has_lmtp(routes: Iterable[RouteConfig]) -> bool:
    """Some next hop may answer differently for the recipients of one message."""
    return any(entry.address.startswith(LMTP) for route in routes for entry in route.entries)


class RouteTable:
    """Finds the route of a recipient's domain: the exact name, the longest `*.suffix`, then `*`."""

    def __init__(self, routes: Iterable[RouteConfig]) -> None:
        self._exact: dict[str, RouteConfig] = {}
        self._below: dict[str, RouteConfig] = {}
        self._all: RouteConfig | None = None
        for route in routes:
            for written in route.domains:
                domain = written.lower().rstrip(".")
                if domain == "*":
                    self._all = self._all or route
                elif domain.startswith("*."):
                    self._below.setdefault(domain[2:], route)
                else:
                    self._exact.setdefault(domain, route)

    def route_for(self, domain: str) -> RouteConfig | None:
        """The route, or None. `*.example.org` takes every name below example.org and not example.org itself."""
        # Routes have A-labels. Nothing is mapped: the path goes on as it came, and what only looks like a domain of ours
        # (another full stop, a soft hyphen) may be another's to the server behind.
        name = (a_labels(domain, strict=True) or domain.lower()).rstrip(".")
        found = self._exact.get(name)
        if found is not None or not self._below:
            return found or self._all
        rest = name
        while "." in rest:
            rest = rest.partition(".")[2]
            if rest in self._below:
                return self._below[rest]
        return self._all
