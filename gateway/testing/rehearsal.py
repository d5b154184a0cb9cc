"""A gateway as configured that delivers nothing: every link leads to a scripted next hop, whatever the routes, maps and plugins say.

What `mailgateway talk`, `mailgateway dev` and recorded sessions have in common. The chain, the routes with their rules on relaying and
the look-ups of `mx:` are the configuration's own; only the connection at the end is not. Plugins that talk to others by themselves
(a scanner, a webhook) still do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from typing_extensions import override

from gateway.config.addresses import UNIX, socket_path
from gateway.config.models import Config, RouteConfig
from gateway.quarantine.copies import Copy, State, Ticket
from gateway.relay.pool import Relay
from gateway.relay.routes import Server, parse_server
from gateway.relay.server_pool import ServerPool
from gateway.relay.setup import PLAIN, LinkSetup
from gateway.session import Session, Tls
from gateway.smtp.arrival import protocols
from gateway.smtp.border import prototype
from gateway.smtp.origin import Origin, endpoint
from gateway.smtp.server import Server as SessionServer
from gateway.smtp.settled import Prototype
from gateway.smtp.site import Door
from gateway.testing.next_hop import KEYWORDS, ScriptedNextHop
from gateway.testing.script import Script

ASSUMED_TLS = Tls(version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384", bits=256)
"""What a session has that counts as TLS without a handshake."""
AUTH = ("PLAIN", "LOGIN")

Overhear = Callable[[int, str, bytes], None]


class NextHops:
    """Scripted next hops for every kind of link that a configuration may want: SMTP and LMTP, each with and without a PROXY header."""

    def __init__(self, config: Config, script: Script, *, overhear: Overhear | None = None) -> None:
        ways = {route.client_address for route in config.route}
        more = ("XCLIENT NAME ADDR PORT PROTO HELO LOGIN",) * ("xclient" in ways) + (
            "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE",
        ) * ("xforward" in ways)
        auth = AUTH if any(listener.auth_route for listener in config.listener) else ()
        self.keywords = (*KEYWORDS, *more) if script.keywords is None else script.keywords
        """What they offer, beside AUTH."""
        self._hops: dict[tuple[bool, bool], ScriptedNextHop] = {}
        for is_lmtp in (False, True):
            for is_proxied in {False, "proxy" in ways}:
                heard = None if overhear is None else self._numbered(overhear, len(self._hops))
                hop = ScriptedNextHop(keywords=(*KEYWORDS, *more), lmtp=is_lmtp, auth=auth, remember=False, overhear=heard)
                hop.expects_proxy = is_proxied
                script.apply(hop)
                self._hops[is_lmtp, is_proxied] = hop
        if auth:
            self.keywords = (*self.keywords, f"AUTH {' '.join(auth)}")
        self._stack = AsyncExitStack()

    @staticmethod
    def _numbered(overhear: Overhear, place: int) -> Overhear:
        """A connection's number is one of all hops."""
        return lambda number, who, octets: overhear(number * 4 + place, who, octets)

    def server(self, *, is_lmtp: bool, is_proxied: bool) -> Server:
        """Where a link leads."""
        return parse_server(self._hops[is_lmtp, is_proxied].address)

    async def __aenter__(self) -> Self:
        for hop in self._hops.values():
            await self._stack.enter_async_context(hop)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    def relay(self, routes: Sequence[RouteConfig], *arguments: Any, **settings: Any) -> Relay:
        """For `InProcessGateway(relay=…)`."""
        return RehearsedRelay(self, routes, *arguments, **settings)


class OneNextHop:
    """One server for every kind of link."""

    def __init__(self, address: str) -> None:
        self._address = address

    def server(self, *, is_lmtp: bool, is_proxied: bool) -> Server:
        """Where a link leads."""
        del is_proxied
        return parse_server(f"lmtp://{self._address}" if is_lmtp else self._address)

    def relay(self, routes: Sequence[RouteConfig], *arguments: Any, **settings: Any) -> Relay:
        """For `InProcessGateway(relay=…)`."""
        return RehearsedRelay(self, routes, *arguments, **settings)


class RehearsedRelay(Relay):
    """Routes as configured, and not one of their servers."""

    def __init__(self, hops: NextHops | OneNextHop, routes: Sequence[RouteConfig], *arguments: Any, **settings: Any) -> None:
        self._hops = hops
        plain = [route.model_copy(update=_NOT_OURS) for route in routes]
        super().__init__(plain, *arguments, **settings)

    @override
    def _pool(self, server: Server, terms: Any) -> ServerPool:
        is_proxied = terms.setup.client_address == "proxy"
        reached = self._hops.server(is_lmtp=server.is_lmtp, is_proxied=is_proxied)
        setup: LinkSetup = replace(PLAIN, tls="off", client_address=terms.setup.client_address)
        return super()._pool(reached, replace(terms, setup=setup, source=()))


_NOT_OURS = {"tls": "off", "tls_ca": "", "tls_certificate": "", "tls_key": "", "auth": None, "source": ()}
"""Settings of a route that are for its real servers: their TLS, our password there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PosedOrigin(Origin):
    """A client that is not there: any address, and TLS without a handshake."""

    tls: Tls | None = None

    @override
    def session(self, door: Door, tls: Tls | None = None, *, identity: str = "") -> Session:
        """A session of this client."""
        return Origin.session(self, door, self.tls or tls, identity=identity)


class PosedServer(SessionServer):
    """A session of a real connection whose client is somebody else: `pose` says who, by the client's port; None: nobody else."""

    __slots__ = ("_pose",)

    def __init__(self, door: Door, shared: Prototype, pose: Callable[[int], Origin | None]) -> None:
        super().__init__(door, shared)
        self._pose = pose

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection, or the same one again after the TLS handshake."""
        if self._original_transport is None:
            self._origin = self._pose(endpoint(transport, "peername")[1])
        super().connection_made(transport)


def posed_listening(pose: Callable[[int], Origin | None] | None) -> Callable[[Door], Awaitable[asyncio.Server]]:
    """For `InProcessGateway(accept=…)`: at a free port of loopback, with clients that are who `pose` says."""

    async def accept(door: Door) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        if pose is None:
            return await loop.create_server(protocols(door, loop), "127.0.0.1", 0)
        shared = prototype(door, loop)
        return await loop.create_server(lambda: PosedServer(door, shared, pose), "127.0.0.1", 0)

    return accept


def without_sockets(config: Config) -> Config:
    """Listeners at UNIX sockets as such at loopback, so that nothing is made where the real ones are."""
    listeners = tuple(
        one.model_copy(
            update={"bind": "127.0.0.1:0", "trusted_proxies": tuple(name for name in one.trusted_proxies if name != UNIX)}
        )
        if socket_path(one.bind)
        else one
        for one in config.listener
    )
    return config.model_copy(update={"listener": listeners})


class SaidCopies:
    """A quarantine that says what it would have stored, and stores nothing."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._number = 0

    async def write_all(self, to_write: Sequence[Copy], state: State) -> list[Ticket]:
        """Say it."""
        return [self._write(copy, state) for copy in to_write]

    async def hold(self, ticket: Ticket, *more: Ticket) -> bool:
        """They are held."""
        del ticket, more
        return True

    async def drop(self, ticket: Ticket) -> None:
        """It is none any more."""
        self._say(f"quarantine (not written): {ticket.id} is dropped again, as the client is told that it is not held")

    def _write(self, copy: Copy, state: State) -> Ticket:
        self._number += 1
        ticket = Ticket(id=f"q{self._number:014x}", epoch="rehearsal")
        paths = b" ".join(path for path, *_ in copy.recipients).decode("utf-8", "replace")
        word = {State.KEPT: "kept copy"}.get(state, "held")
        reason = f": {copy.reason}" if copy.reason else ""
        self._say(f"quarantine (not written): {word} in the box {copy.box} for {paths} by {copy.plugin or 'gateway'}{reason}")
        return ticket
