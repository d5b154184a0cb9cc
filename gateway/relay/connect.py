"""Opening a link: name to addresses, connection, greeting, EHLO or HELO, or LHLO. RFC 5321 3.1, 3.2, 4.1.1.1; RFC 2033 4.1.

The name is looked up for each link, so that a next hop that comes back on another address is found without a restart.
Every failure, of the look-up too, is a LinkError.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from ipaddress import ip_address

from gateway.config.models import RelayConfig
from gateway.errors import LinkError
from gateway.relay.link import Link
from gateway.relay.protocol import Capabilities
from gateway.relay.routes import Server
from gateway.smtp.replies import Reply

MAX_ADDRESSES = 8
"""Addresses of one name that are tried."""


async def open_link(server: Server, *, name: str, settings: RelayConfig, on_lost: Callable[[Link], None]) -> Link:
    """A link that greeted us and knows our `name`. Look-up, connection, greeting and EHLO have a time limit each.

    All addresses of the server are tried in turn. LinkError says what the last of them did; `on_lost` is called only for
    a link that was returned.
    """
    error = LinkError(str(server), "the name has no address", enhanced="4.4.3")
    for address in await _addresses(server, settings.connect_timeout):
        try:
            return await _open_one(server, address, name, settings, on_lost)
        except LinkError as failed:
            error = failed
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


async def _open_one(
    server: Server, address: tuple[str, int], name: str, settings: RelayConfig, on_lost: Callable[[Link], None]
) -> Link:
    loop = asyncio.get_running_loop()
    greeted = False

    def lost(link: Link) -> None:
        if greeted:
            on_lost(link)

    def make() -> Link:
        return Link(loop, str(server), lost, is_lmtp=server.is_lmtp)

    try:
        async with asyncio.timeout(settings.connect_timeout):
            if server.path:
                _, link = await loop.create_unix_connection(make, server.path)
            else:
                _, link = await loop.create_connection(make, *address, local_addr=server.source_of(address[0]))
    except TimeoutError as error:
        raise LinkError(str(server), f"no connection to {_shown(server, address)} in time", enhanced="4.4.1") from error
    except OSError as error:
        raise LinkError(str(server), f"no connection to {_shown(server, address)}: {error}", enhanced="4.4.1") from error
    try:
        await _greet(link, name, settings)
    except BaseException:
        link.fail(LinkError(str(server), "not greeted"))
        raise
    greeted = True
    return link


async def _greet(link: Link, name: str, settings: RelayConfig) -> None:
    """Read the greeting, say EHLO, or HELO to a server that does not know it (RFC 5321 3.2, 4.1.1.1)."""
    greeting = await link.greeting(settings.greeting_timeout)
    if greeting.code != 220:
        raise _refused(link, "greeting", greeting)
    octets = name.encode("ascii", "replace")
    limit = settings.hello_timeout
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


def _refused(link: Link, what: str, reply: Reply) -> LinkError:
    """They do not want us: temporary for the client in any case (design 1.4)."""
    return LinkError(link.next_hop, f"{what} answered with {reply}", enhanced="4.3.5" if reply.first == 5 else "4.4.1")


def _shown(server: Server, address: tuple[str, int]) -> str:
    return server.path or str(Server(*address))
