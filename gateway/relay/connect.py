"""Opening a link: name to addresses, connection, TLS, greeting, EHLO or HELO, or LHLO. RFC 5321 3.1, 3.2, 4.1.1.1; RFC 2033 4.1; RFC 3207.

The name is looked up for each link, so that a next hop that comes back on another address is found without a restart.
Every failure, of the look-up too, is a LinkError. Where TLS is wanted and only opportunistic, its failure means a new
connection in the clear, which `Link.note` tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address

import structlog

from gateway.config.models import RelayConfig
from gateway.errors import LinkError
from gateway.relay.identity import ClientFacts, proxy_header, xclient
from gateway.relay.link import Link, TlsError
from gateway.relay.login import Credentials, LoginError, begin, choose, prove
from gateway.relay.protocol import Capabilities
from gateway.relay.routes import Server
from gateway.relay.setup import PLAIN, LinkSetup
from gateway.smtp.replies import Reply

MAX_ADDRESSES = 8
"""Addresses of one name that are tried."""

log = structlog.get_logger("mailgateway.relay")


class NoConnectionError(LinkError):
    """Nobody listens, or nobody answers: that is about the server, whoever the client is."""

    def __init__(self, next_hop: str, what: str) -> None:
        super().__init__(next_hop, what, enhanced="4.4.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How links to one server are opened."""

    server: Server
    name: str
    """Ours, in EHLO."""
    settings: RelayConfig
    """Its time limits."""
    setup: LinkSetup = PLAIN
    context: ssl.SSLContext | None = None
    """TLS; None: none."""
    failing: set[tuple[str, int]] = field(default_factory=set)
    """Addresses that failed when they were tried last; at most MAX_ADDRESSES."""

    @classmethod
    def to(cls, server: Server, *, name: str, settings: RelayConfig, setup: LinkSetup) -> Opening:
        """With the files of the set-up read. ConfigError when one cannot be used."""
        return cls(server=server, name=name, settings=settings, setup=setup, context=setup.context(server))


async def open_link(opening: Opening, *, on_lost: Callable[[Link], None], client: ClientFacts | None = None) -> Link:
    """A link that greeted us and knows our name, set up as the opening says.

    All addresses of the server are tried in turn, those that failed last after the others. LinkError says what the last of them did; `on_lost` is called only for
    a link that was returned. `client`: who a PROXY header tells of, where the set-up wants one.
    """
    error = LinkError(str(opening.server), "the name has no address", enhanced="4.4.3")
    failing = opening.failing
    addresses = await _addresses(opening.server, opening.settings.connect_timeout)
    failing.intersection_update(addresses)  # what DNS has no more is forgotten
    for address in sorted(addresses, key=failing.__contains__):
        try:
            link = await _open_at(opening, address, on_lost, client)
        except LinkError as failed:
            failing.add(address)
            error = failed
        else:
            failing.discard(address)
            return link
    raise error


async def _addresses(server: Server, limit: float) -> list[tuple[str, int]]:
    """Addresses of a host; a UNIX socket is its own."""
    if server.path:
        return [("", 0)]
    with contextlib.suppress(ValueError):
        ip_address(server.host)
        return [(server.host, server.port)]
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(limit):
            found = await loop.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        raise LinkError(str(server), "the name could not be looked up in time", enhanced="4.4.3") from error
    except (OSError, UnicodeError) as error:
        raise LinkError(str(server), f"the name could not be looked up: {error}", enhanced="4.4.3") from error
    addresses = [(str(where[0]), int(where[1])) for *_, where in found]
    return list(dict.fromkeys(addresses))[:MAX_ADDRESSES]


async def _open_at(
    opening: Opening, address: tuple[str, int], on_lost: Callable[[Link], None], client: ClientFacts | None
) -> Link:
    """At one address; without TLS after it failed, where that is allowed."""
    try:
        return await _open_one(opening, address, opening.context, on_lost, client)
    except TlsError as failed:
        if opening.setup.mode(opening.server) != "opportunistic":
            raise
        log.warning("next_hop.in_the_clear", next_hop=str(opening.server), problem=failed.what)
        link = await _open_one(opening, address, None, on_lost, client)
        link.note = f"in the clear: {failed.what}"
        return link


async def _open_one(
    opening: Opening,
    address: tuple[str, int],
    context: ssl.SSLContext | None,
    on_lost: Callable[[Link], None],
    client: ClientFacts | None,
) -> Link:
    greeted = False

    def lost(link: Link) -> None:
        if greeted:
            on_lost(link)

    link = await _connect(opening.server, address, opening.settings.connect_timeout, lost)
    try:
        if opening.setup.client_address == "proxy":
            link.say_first(proxy_header(client, link.peer))
            link.told = client.introduction if client is not None else None
        if context is not None and opening.server.implicit_tls:
            await _encrypt(link, opening, context)
        name = opening.name if client is None else client.helo_name or opening.name
        await _greet(link, name, opening.settings)
        if context is not None and link.tls is None:
            await _start_tls(link, opening, context, name)
        if opening.setup.credentials is not None:
            await _log_in(link, opening, opening.setup.credentials)
        if link.tls is not None:
            link.note = str(link.tls)
    except BaseException:
        link.fail(LinkError(str(opening.server), "not greeted"))
        raise
    greeted = True
    return link


async def _connect(server: Server, address: tuple[str, int], limit: float, lost: Callable[[Link], None]) -> Link:
    loop = asyncio.get_running_loop()

    def make() -> Link:
        return Link(loop, str(server), lost, is_lmtp=server.is_lmtp)

    try:
        async with asyncio.timeout(limit):
            if server.path:
                _, link = await loop.create_unix_connection(make, server.path)
            else:
                _, link = await loop.create_connection(make, *address, local_addr=server.source_of(address[0]))
    except TimeoutError as error:
        raise NoConnectionError(str(server), f"no connection to {_shown(server, address)} in time") from error
    except OSError as error:
        raise NoConnectionError(str(server), f"no connection to {_shown(server, address)}: {error}") from error
    return link


async def _greet(link: Link, name: str, settings: RelayConfig) -> None:
    """Read the greeting and say who we are."""
    greeting = await link.greeting(settings.greeting_timeout)
    if greeting.code != 220:
        raise _refused(link, "greeting", greeting)
    await _hello(link, name, settings.hello_timeout)


async def _hello(link: Link, name: str, limit: float) -> None:
    """EHLO, or HELO to a server that does not know it (RFC 5321 3.2, 4.1.1.1)."""
    octets = name.encode("ascii", "replace")
    hello = "LHLO" if link.is_lmtp else "EHLO"
    reply = await link.ask(f"{hello} ".encode() + octets, limit, last=True)
    if reply.code == 250:
        link.greeted(Capabilities.from_reply(reply))
        return
    if reply.first != 5 or link.is_lmtp:  # RFC 2033 4.1: there is no other greeting
        raise _refused(link, hello, reply)
    reply = await link.ask(b"HELO " + octets, limit, last=True)
    if reply.code != 250:
        raise _refused(link, "HELO", reply)
    link.greeted(Capabilities())


async def _start_tls(link: Link, opening: Opening, context: ssl.SSLContext, name: str) -> None:
    """STARTTLS, the handshake, and EHLO anew: what was said in the clear counts no more (RFC 3207 4.2)."""
    if not link.capabilities.offers("STARTTLS"):
        if opening.setup.mode(opening.server) == "opportunistic":
            link.note = "in the clear: STARTTLS is not offered"
            return
        raise LinkError(link.next_hop, "STARTTLS is not offered", enhanced="4.7.4")
    reply = await link.ask(b"STARTTLS", opening.settings.hello_timeout, last=True)
    if reply.code != 220:
        raise TlsError(link.next_hop, f"STARTTLS answered with {reply}", enhanced="4.7.4")
    await _encrypt(link, opening, context)
    await _hello(link, name, opening.settings.hello_timeout)


async def _encrypt(link: Link, opening: Opening, context: ssl.SSLContext) -> None:
    """TLS. A mail exchanger's name comes from DNS, so that its certificate proves nothing (design §5)."""
    server = opening.server
    limit = opening.settings.connect_timeout
    await link.encrypt(context, opening.setup.name(server), limit, proves=not server.mx_name)


async def introduce(link: Link, client: ClientFacts, limit: float) -> None:
    """XCLIENT with all that is offered, then EHLO in the client's name: the session there begins anew. LinkError.

    After an error the link must not be used again. Refusals are about our link, whatever they say (design §1.4).
    """
    link.told = None
    for line in xclient(client, link.capabilities.parameters("XCLIENT")):
        reply = await link.ask(line, limit, last=True)
        if reply.code != 220:
            raise LinkError(link.next_hop, f"XCLIENT answered with {reply}", enhanced="4.3.5")
    await _hello(link, client.helo_name or "unknown", limit)
    link.told = client.introduction


async def _log_in(link: Link, opening: Opening, credentials: Credentials) -> None:
    """AUTH as ourselves (RFC 4954 4). LinkError, which speaks of our settings and never of the client.

    Nothing of it is said to a server elsewhere in the clear, nor is a client's AUTH ever said on such a link.
    """
    if link.tls is None and not opening.server.is_local:
        raise LinkError(link.next_hop, "no TLS, so the password is not said", enhanced="4.3.5")
    mechanism = choose(credentials, link.capabilities.parameters("AUTH"))
    if mechanism is None:
        raise LinkError(link.next_hop, f"AUTH with none of {', '.join(credentials.mechanisms)} is offered", enhanced="4.3.5")
    exchange = begin(mechanism, credentials)
    limit = opening.settings.hello_timeout
    try:
        reply = await link.ask(b" ".join((b"AUTH", mechanism.encode(), next(exchange))).rstrip(), limit, last=True)
        while reply.code == 334:
            reply = await link.ask(exchange.send(reply.lines[0]), limit, last=True)
        if reply.code == 235:
            prove(mechanism, exchange)
    except (LoginError, StopIteration) as error:
        raise LinkError(link.next_hop, f"AUTH {mechanism}: {str(error) or 'one challenge too many'}", enhanced="4.3.5") from None
    if reply.code != 235:
        raise LinkError(link.next_hop, f"AUTH {mechanism} answered with {reply}", enhanced="4.3.5")
    link.capabilities = link.capabilities.without("AUTH")


def _refused(link: Link, what: str, reply: Reply) -> LinkError:
    """They do not want us: temporary for the client in any case (design 1.4)."""
    return LinkError(link.next_hop, f"{what} answered with {reply}", enhanced="4.3.5" if reply.first == 5 else "4.4.1")


def _shown(server: Server, address: tuple[str, int]) -> str:
    return server.path or str(Server(*address))
