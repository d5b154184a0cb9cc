"""Sessions of real connections on tape: which octets belong to which session, also on the links to the next hop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from typing_extensions import override

from gateway.session import Session
from gateway.smtp.arrival import Arrival
from gateway.smtp.border import prototype
from gateway.smtp.connections import Seat
from gateway.smtp.origin import Origin, endpoint
from gateway.smtp.server import Server
from gateway.smtp.settled import Prototype
from gateway.smtp.site import Door
from gateway.testing.tape import Tape
from gateway.trace import Record

LINGER = 0.3
"""Seconds after a session in which its links may still take leave."""
MOST_LINKS = 1_000
MOST_RECORDS = 1_000
"""Transactions of a session that can be saved."""


@dataclass(slots=True, kw_only=True, eq=False)
class Taped:
    """A session and everything that was said in it."""

    listener: str
    tape: Tape = field(default_factory=Tape)
    session: Session | None = None
    records: list[Record] = field(default_factory=list)
    is_hung_up: bool = False


class Tapes:
    """The tapes of a gateway. `finished` hears of each session once it is over; `began` of its beginning, and whether it is alone."""

    def __init__(
        self,
        *,
        began: Callable[[bool], None],
        finished: Callable[[Taped], None],
        pose: Callable[[int], Origin | None] = lambda _: None,
    ) -> None:
        self.pose = pose
        """Who a client is said to be, by its port; None: itself."""
        self._began = began
        self._finished = finished
        self._running: list[Taped] = []
        self._over: list[Taped] = []
        self._links: dict[int, Taped | None] = {}

    def begin(self, listener: str) -> Taped:
        """A session begins."""
        taped = Taped(listener=listener)
        self._began(not self._running)
        self._running.append(taped)
        if len(self._running) > 1:
            for one in self._running:
                one.tape.problem = "another session went on at the same time"
        return taped

    def end(self, taped: Taped) -> None:
        """Its connection is closed."""
        self._running.remove(taped)
        self._over.append(taped)
        asyncio.get_running_loop().call_later(LINGER, self._finish, taped)

    def finish_all(self) -> None:
        """The gateway ends: nothing more will be said."""
        for taped in list(self._over):
            self._finish(taped)

    def _finish(self, taped: Taped) -> None:
        if taped in self._over:
            self._over.remove(taped)
            self._finished(taped)

    def record(self, record: Record) -> None:
        """A decision was made in one of them."""
        for taped in (*self._running, *self._over):
            if taped.session is None or taped.session.id != record["session"]:
                continue
            if len(taped.records) < MOST_RECORDS:
                taped.records.append(record)
            else:
                taped.tape.problem = f"more than {MOST_RECORDS} transactions"

    def overhear(self, number: int, who: str, octets: bytes) -> None:
        """Octets on a link: of the session that goes on, or of the one that the link served before."""
        if number not in self._links:
            if len(self._links) >= MOST_LINKS:
                self._links.pop(next(iter(self._links)))
            around = self._running or self._over[-1:]
            self._links[number] = around[-1] if around else None
        taped = self._links[number]
        if taped is not None:
            taped.tape.link(number, who, octets)


class TapedServer(Server):
    """A session whose client may be said to be somebody else, and that is kept on tape."""

    __slots__ = ("_taped", "_tapes")

    def __init__(
        self,
        door: Door,
        shared: Prototype,
        origin: Origin | None,
        arrived: Callable[[], Seat | None] | None,
        tapes: Tapes,
    ) -> None:
        super().__init__(door, shared, origin, arrived)
        self._tapes = tapes
        self._taped: Taped | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection, or the same one again after the TLS handshake."""
        if self._original_transport is None:
            self._origin = self._tapes.pose(endpoint(transport, "peername")[1]) or self._origin
            self._taped = self._tapes.begin(self._door.config.name)
        elif self._taped is not None:
            self._taped.tape.problem = "STARTTLS: try `mailgateway dev --tls`"
        super().connection_made(transport)
        if self._talk is not None and self._taped is not None:
            self._taped.session = self._talk.session

    @override
    def data_received(self, data: bytes) -> None:
        """From the client."""
        if self._taped is not None:
            self._taped.tape.client(data)
        super().data_received(data)

    @override
    def eof_received(self) -> bool | None:
        """The client sends no more."""
        if self._taped is not None and not self._closing:
            self._taped.is_hung_up = True
        return super().eof_received()

    @override
    def connection_lost(self, error: Exception | None) -> None:
        """The end."""
        taped, self._taped = self._taped, None
        super().connection_lost(error)
        if taped is not None:
            self._tapes.end(taped)

    @override
    def _say(self, octets: bytes) -> None:
        if self._taped is not None:
            self._taped.tape.server(octets)
        super()._say(octets)


def taped_protocol(door: Door, tapes: Tapes) -> asyncio.BaseProtocol:
    """What a listener makes for a connection, as `gateway.smtp.arrival.protocols`."""
    loop = asyncio.get_running_loop()
    shared = prototype(door, loop)

    def begin(origin: Origin | None, arrived: Callable[[], Seat | None] | None) -> Server:
        return TapedServer(door, shared, origin, arrived, tapes)

    if not door.proxies and not door.is_tls:
        return begin(None, None)
    return Arrival(door, begin, loop)
