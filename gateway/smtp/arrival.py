"""What comes before the session: the PROXY header of a trusted proxy, and TLS from the first octet (RFC 8314 3.3). Border.

The header is read to its last octet and no further (`proxy_header.missing`), so that a TLS handshake behind it meets OpenSSL
untouched: aiosmtpd cannot do that. Connections that need neither go to `Server` at once.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from gateway.session import Proxy, Tls
from gateway.smtp.certificates import handshake_failed
from gateway.smtp.connections import Full, Seat, network_of
from gateway.smtp.origin import Origin, endpoint
from gateway.smtp.proxy_header import ProxyHeader, ProxyHeaderError, missing, parse
from gateway.smtp.relaying import contains
from gateway.smtp.server import Server, prototype
from gateway.smtp.tls_layer import begin_tls

if TYPE_CHECKING:
    from gateway.smtp.site import Door

log = structlog.get_logger("mailgateway.smtp")


def protocols(door: Door, loop: asyncio.AbstractEventLoop) -> Callable[[], asyncio.BaseProtocol]:
    """What a door makes for each connection."""
    shared = prototype(door, loop)
    if not door.proxies and not door.is_behind_proxy and not door.is_tls:
        return lambda: Server(door, shared)
    return lambda: Arrival(door, lambda origin, arrived: Server(door, shared, origin, arrived), loop)


class Arrival(asyncio.BufferedProtocol):
    """One connection until its session begins."""

    def __init__(
        self, door: Door, begin: Callable[[Origin | None, Callable[[], Seat | None]], Server], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._door = door
        self._begin = begin
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._peer = ("", 0)
        self._header = b""
        self._space = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._seat: Seat | None = None

    # --- the transport's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # what a listening socket makes
        """A header is wanted of a trusted proxy and of nobody else."""
        self._transport = transport
        self._peer = endpoint(transport, "peername")
        door = self._door
        door.enter(self)
        is_proxy = door.is_proxy(self._peer[0])
        if is_proxy or door.is_tls:  # else `Server` takes a seat at once
            exempt = is_proxy or contains(door.trusted + door.lenient, self._peer[0])
            seat = door.site.connections.take(None if exempt else network_of(self._peer[0], door.site.limits))
            if isinstance(seat, Full):  # 421 cannot be said here
                transport.abort()
                return
            self._seat = seat
        if is_proxy:
            self._timer = self._loop.call_later(door.site.limits.proxy_header, self._too_slow)
        else:
            self._go_on(transport, None)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Room for what is missing, not for more."""
        del sizehint
        self._space = bytearray(missing(self._header))
        return self._space

    def buffer_updated(self, nbytes: int) -> None:
        """Some octets of the header."""
        self._header += self._space[:nbytes]
        try:
            if missing(self._header) > 0:
                return
            header = parse(self._header)
        except ProxyHeaderError as error:
            self._refuse(str(error))
            return
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._go_on(self._transport, header)

    def connection_lost(self, error: Exception | None) -> None:
        """It left before its session began: a probe that only connects, and nothing to tell of, unless octets came."""
        del error
        if self._timer is not None:
            self._timer.cancel()
        if self._header and self._transport is not None:
            self._refuse("cut off")
        self._leave()

    def drain(self) -> None:
        """The worker is stopping."""
        if self._transport is not None:
            self._transport.abort()

    # --- on the way to the session

    def _arrived(self) -> Seat | None:
        """The session begins: in this connection's seat, unless it is the proxy's and the client's network needs one."""
        seat, self._seat = self._seat, None
        if seat is not None and self._door.is_proxy(self._peer[0]):
            self._door.site.connections.leave(seat)
            seat = None
        self._leave()
        return seat

    def _leave(self) -> None:
        self._transport = None
        if self._seat is not None:
            self._door.site.connections.leave(self._seat)
            self._seat = None
        self._door.leave(self)

    def _too_slow(self) -> None:
        self._refuse("not within the time limit" if self._header else "none came")

    def _refuse(self, problem: str) -> None:
        transport, self._transport = self._transport, None
        if self._timer is not None:
            self._timer.cancel()
        log.warning("proxy.refused", listener=self._door.config.name, proxy=self._peer[0], problem=f"PROXY header: {problem}")
        if transport is not None:
            transport.abort()

    def _go_on(self, transport: asyncio.Transport, header: ProxyHeader | None) -> None:
        """To the session, at once: between two turns of the loop octets could come that are not this protocol's."""
        server = self._begin(_origin(self._peer, header) if header is not None else None, self._arrived)
        tls = self._door.tls
        if header is not None:
            transport.pause_reading()  # so that the loop asks the new protocol how it wants its octets
        if tls is not None and self._door.is_tls:
            self._shake_hands(transport, server, tls.context)
        else:
            transport.set_protocol(server)
            server.connection_made(transport)
        if header is not None:
            transport.resume_reading()

    def _shake_hands(self, transport: asyncio.Transport, server: Server, context: ssl.SSLContext) -> None:
        """`server` is told when there is TLS."""
        done = begin_tls(self._loop, transport, server, context, limit=self._door.site.limits.tls_handshake)
        done.add_done_callback(lambda done: self._shaken(done, transport, server))

    def _shaken(self, done: asyncio.Future[None], transport: asyncio.Transport, server: Server) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            handshake_failed(self._door.config.name, server.client_address(self._peer[0]), error)
            transport.abort()
        self._leave()


def _origin(proxy: tuple[str, int], header: ProxyHeader) -> Origin:
    tls = None
    if header.tls is not None:
        subject = f"CN={header.tls.client_name}" if header.tls.is_verified else ""
        tls = Tls(
            version=header.tls.version or "TLS",
            cipher=header.tls.cipher or "unknown",
            server_name=header.authority.lower(),
            peer_subject=subject,
        )
    told = Proxy(
        address=proxy[0],
        port=proxy[1],
        is_local=header.is_local,
        authority=header.authority,
        unique_id=header.unique_id,
        tls=tls,
    )
    return Origin(
        address=header.source,
        port=header.source_port,
        server_address=header.destination,
        server_port=header.destination_port,
        proxy=told,
    )
