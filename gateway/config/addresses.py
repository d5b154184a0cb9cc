"""Addresses as the configuration writes them: binds, next hops, networks, domains. Nothing is looked up."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from gateway.idn import a_labels

_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?")
_HOST_PORT = re.compile(r"(?:\[(?P<ip6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\[\]:/]+))(?::(?P<port>\d{1,5}))?")
_MAILBOX = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_BIND_ALLOWED = '"127.0.0.1:25", "0.0.0.0:25", "[::1]:25" or "localhost:25"'
_SOCKET_ALLOWED = '"unix:" and an absolute path of at most 107 octets'
UNIX = "unix"
"""Among networks: clients at a UNIX socket of ours, which have no address."""
MAX_SOCKET_PATH = 107
"""Octets in the path of a UNIX socket: unix(7)."""
_SERVER_ALLOWED = '"host", "host:port", "[2001:db8::1]:port", "smtps://host:port", "unix:/path", "lmtp://host:port", "lmtp+unix:/path" or "inbox:"'
_MX_ALLOWED = '"mx:" (the recipient\'s domain), "mx:example.net", "mx:example.net:port" or "mx::port"'
_NAME_SERVER_ALLOWED = '"192.0.2.53", "192.0.2.53:53" or "[2001:db8::53]:53"'
_DOMAIN_ALLOWED = '"example.org", "*.example.org" or "*"'


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """One next hop of a route: a host and port, the path of a UNIX socket, or the development inbox."""

    host: str = ""
    port: int = 25
    """Port 25 unless configured."""
    path: str = ""
    inbox: bool = False
    lmtp: bool = False
    implicit_tls: bool = False
    """TLS from the first octet (RFC 8314 3.3)."""

    @property
    def is_local(self) -> bool:
        """On this host: loopback or a UNIX socket."""
        return self.inbox or not self.host or is_loopback_host(self.host)


def _split(text: str, allowed: str) -> tuple[str, int | None]:
    found = _HOST_PORT.fullmatch(text)
    if found is None:
        raise ValueError(allowed)
    port = int(found["port"]) if found["port"] is not None else None
    if port is not None and port > 65535:
        raise ValueError("a port from 0 to 65535")
    if found["ip6"] is not None:
        try:
            return str(ipaddress.IPv6Address(found["ip6"])), port
        except ValueError as error:
            raise ValueError(allowed) from error
    host = found["host"]
    if _HOST.fullmatch(host) is None:
        raise ValueError(allowed)
    if re.fullmatch(r"[\d.]+", host):
        try:
            ipaddress.IPv4Address(host)
        except ValueError as error:
            raise ValueError(allowed) from error
    return host, port


def parse_bind(text: str) -> tuple[str, int]:
    """Host and port of `bind`. ValueError says what is allowed; names other than localhost are not."""
    host, port = _split(text, _BIND_ALLOWED)
    if port is None:
        raise ValueError(_BIND_ALLOWED)
    if host != "localhost":
        try:
            ipaddress.ip_address(host)
        except ValueError as error:
            raise ValueError(_BIND_ALLOWED) from error
    return host, port


def socket_path(bind: str) -> str:
    """Path of the UNIX socket that a `bind` of a listener names; `` for a host and port. ValueError says what is allowed."""
    if not bind.startswith("unix:"):
        return ""
    path = bind.removeprefix("unix:")
    if not path.startswith("/") or path.endswith("/") or "\0" in path or len(path.encode()) > MAX_SOCKET_PATH:
        raise ValueError(_SOCKET_ALLOWED)
    return path


def is_loopback_host(host: str) -> bool:
    """Whether a host is this one; another name than localhost is not looked up, and counts as elsewhere."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def is_loopback(bind: str) -> bool:
    """Whether a valid `bind` is reachable from this host only."""
    if socket_path(bind):
        return True
    host, _ = parse_bind(bind)
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


def parse_server(text: str) -> ServerAddress:
    """One entry of `servers`. ValueError says what is allowed."""
    if text == "inbox:":
        return ServerAddress(inbox=True)
    if text.startswith(("unix:", "lmtp+unix:")):
        path = text.removeprefix("lmtp+").removeprefix("unix:")
        if not path.startswith("/") or "\0" in path:
            raise ValueError(_SERVER_ALLOWED)
        return ServerAddress(path=path, lmtp=text.startswith("lmtp+"))
    lmtp, implicit_tls = text.startswith("lmtp://"), text.startswith("smtps://")
    host, port = _split(text[8:] if implicit_tls else text.removeprefix("lmtp://"), _SERVER_ALLOWED)
    if port == 0:
        raise ValueError("a port from 1 to 65535")
    if lmtp and port in {None, 25}:
        raise ValueError("LMTP with a port of its own, such as lmtp://127.0.0.1:24; 25 is SMTP's (RFC 2033 5)")
    default = 465 if implicit_tls else 25
    return ServerAddress(host=host, port=default if port is None else port, lmtp=lmtp, implicit_tls=implicit_tls)


def parse_mx(text: str) -> tuple[str, int] | None:
    """Domain and port of `mx:` (no domain: the recipient's), `mx:example.net`, `mx:example.net:2525`, `mx::2525`; None for another server.

    ValueError says what is allowed.
    """
    if not text.startswith("mx:"):
        return None
    domain, colon, port = text.removeprefix("mx:").partition(":")
    if (domain and _HOST.fullmatch(domain) is None) or re.fullmatch(r"[\d.]+", domain):
        raise ValueError(_MX_ALLOWED)
    if not colon:
        return domain.lower().rstrip("."), 25
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise ValueError(_MX_ALLOWED)
    return domain.lower().rstrip("."), int(port)


def _bind(text: str) -> str:
    if not socket_path(text):
        parse_bind(text)
    return text


def _optional_bind(text: str) -> str:
    if text:
        parse_bind(text)
    return text


def _socket_mode(text: str) -> str:
    if re.fullmatch(r"0?[0-7]{3}", text) is None:
        raise ValueError('an octal mode such as "0660"')
    return text


def _socket_owner(text: str) -> str:
    if re.fullmatch(r"([^:/\s]*)(:[^:/\s]+)?", text) is None:
        raise ValueError('"user", "user:group" or ":group"')
    return text


def _server(text: str) -> str:
    if parse_mx(text) is None:
        parse_server(text)
    return text


def _ip_address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise ValueError('an address such as "192.0.2.10" or "2001:db8::10"') from error


def _network(text: str) -> str:
    if text == UNIX:
        return text
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        allowed = 'a network such as "192.0.2.0/24", "2001:db8::/32", one address, or "unix"'
        if "host bits" in str(error):
            allowed += f" ({error})"
        raise ValueError(allowed) from error


def domain_key(text: str) -> str | None:
    """A domain for comparing: lower case, A-labels, no last dot; None when it is none."""
    ascii_form = a_labels(text) or ""
    return ascii_form.rstrip(".") if _HOST.fullmatch(ascii_form) is not None else None


def _domain(text: str) -> str:
    if text == "*":
        return text
    rest = text.removeprefix("*.")
    key = domain_key(rest)
    if key is None:
        raise ValueError(_DOMAIN_ALLOWED)
    return ("*." if rest != text else "") + key


def _keyword(text: str) -> str:
    if _KEYWORD.fullmatch(text) is None:
        raise ValueError("a word of letters, digits and hyphens, such as X-SITE")
    return text.upper()


def _mailbox(text: str) -> str:
    if text and (_MAILBOX.fullmatch(text) is None or len(text) > 254):
        raise ValueError("a plain address, such as dmarc-reports@example.org")
    return text


def _name_server(text: str) -> str:
    _, port = _split(text, _NAME_SERVER_ALLOWED)
    if port == 0:
        raise ValueError("a port from 1 to 65535")
    return text


Bind = Annotated[str, AfterValidator(_bind)]
SocketMode = Annotated[str, AfterValidator(_socket_mode)]
SocketOwner = Annotated[str, AfterValidator(_socket_owner)]
OptionalBind = Annotated[str, AfterValidator(_optional_bind)]
Server = Annotated[str, AfterValidator(_server)]
IpAddress = Annotated[str, AfterValidator(_ip_address)]
Network = Annotated[str, AfterValidator(_network)]
Keyword = Annotated[str, AfterValidator(_keyword)]
"""Of an ESMTP extension or parameter (RFC 5321 4.1.1.1, 4.1.2); in upper case."""
Domain = Annotated[str, AfterValidator(_domain)]
Mailbox = Annotated[str, AfterValidator(_mailbox)]
"""`local-part@domain` in plain ASCII, or nothing (RFC 5321 4.1.2 Dot-string)."""
NameServer = Annotated[str, AfterValidator(_name_server)]
