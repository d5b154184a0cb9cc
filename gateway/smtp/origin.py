"""Where a session comes from: the ends of its connection, or what a trusted proxy said instead of them."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.native import mypyc_attr
from gateway.session import Proxy, Session, Tls
from gateway.smtp.identifiers import session_id

if TYPE_CHECKING:
    from gateway.smtp.site import Door
    from gateway.transaction import Transaction


@mypyc_attr(allow_interpreted_subclasses=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who is at the other end. Trust is judged on `address`; `` is nobody's, so its session is a stranger's."""

    address: str = ""
    port: int = 0
    server_address: str = ""
    server_port: int = 0
    proxy: Proxy | None = None

    def session(self, door: Door, tls: Tls | None = None, *, identity: str = "") -> Session:
        """A session that begins now."""
        return _session(door, (self.address, self.port), (self.server_address, self.server_port), self.proxy, tls, identity)


def session_of(transport: asyncio.BaseTransport, door: Door, tls: Tls | None = None) -> Session:
    """A session of the connection's own ends, that begins now."""
    return _session(door, endpoint(transport, "peername"), endpoint(transport, "sockname"), None, tls, "")


def _session(  # noqa: PLR0917 - by name they cost what the call does
    door: Door, client: tuple[str, int], server: tuple[str, int], proxy: Proxy | None, tls: Tls | None, identity: str
) -> Session:
    """Each field is set here (tests/unit/smtp/test_origin.py): the constructor looks the defaults up, and costs four times as much."""
    session = Session.__new__(Session)
    session.id = session_id()
    session.listener = door.name
    session.protocol = door.protocol
    session.client_address, session.client_port = client
    session.is_local = door.is_socket and proxy is None
    session.server_address, session.server_port = server
    session.proxy = proxy
    session.client_name = ""
    session.client_reverse_name = ""
    session.helo = ""
    session.esmtp = False
    session.tls = tls
    session.identity = identity
    session.started = door.site.clock()
    session.transactions = 0
    session.unknown_recipients = 0
    session.findings = ()
    session.state = {}
    session.client_class = door.client_class(session)
    session.may_introduce = door.believes and door.may_introduce(session)
    return session


def endpoint(transport: asyncio.BaseTransport, name: str) -> tuple[str, int]:
    """`peername` or `sockname` as address and port; `("", 0)` for a UNIX socket."""
    found: Any = transport.get_extra_info(name)
    length = len(found) if isinstance(found, tuple) else 0
    if length == 2:  # IPv4
        return found  # type: ignore[no-any-return]
    if not length:
        return "", 0
    host: str = found[0]
    return host.partition("%")[0] if "%" in host else host, found[1]


def note_origin(transaction: Transaction) -> None:
    """Into the decision record: who said that the client is who it is, and where the message was before."""
    proxy = transaction.session.proxy
    if transaction.trace is None:
        return
    if transaction.forwarded is not None:
        values = dataclasses.asdict(transaction.forwarded)
        told = ", ".join(f"{name} {value}" for name, value in values.items() if value)
        transaction.trace.step(stage="session", plugin="", outcome="forwarded", evidence=told)
    if proxy is None:
        return
    evidence = f"through {proxy.address or 'a UNIX socket'}"
    for name, value in (("TLS name", proxy.authority), ("unique id", proxy.unique_id)):
        if value:
            evidence += f", {name} {value[:255]}"
    if proxy.tls is not None:
        evidence += f", {proxy.tls.version} {proxy.tls.cipher} {proxy.tls.peer_subject}".rstrip()
    transaction.trace.step(stage="session", plugin="", outcome="proxy", evidence=evidence)
