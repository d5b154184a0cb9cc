"""A network in memory: a gateway's listeners and links without sockets, so that a message costs the same instructions each time.

`MemoryLoop` is an event loop that opens no connection: what listens is called by a `Client`, what connects reaches a `NextHop` that
accepts everything. Between them lie turns of the loop, as there would be reads.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import uvloop

READ = 256_000
"""Octets of one read: uvloop's buffer."""

_FINAL = re.compile(rb"(?:^|\n)([0-9])[0-9]{2} ")
_END = b"\r\n.\r\n"
_EHLO = b"250-sink\r\n250-PIPELINING\r\n250-SIZE 500000000\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 DSN\r\n"
_OK = b"250 2.1.0 Ok\r\n"


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a client sends at once, and how many replies it waits for before it goes on."""

    octets: bytes
    replies: int = 1


class MemoryTransport(asyncio.Transport):
    """One end of a connection: what its protocol writes goes to `written`, what the other end says comes one read in a turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol, written: Callable[[bytes], None]) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._written = written
        self._reads: deque[bytes] = deque()
        self._is_paused = False
        self._is_due = False
        self._is_closed = False

    def say(self, octets: bytes) -> None:
        """From the other end."""
        if len(octets) <= READ:
            self._reads.append(octets)
        else:
            self._reads.extend(octets[at : at + READ] for at in range(0, len(octets), READ))
        self._go_on()

    def _go_on(self) -> None:
        if self._reads and not (self._is_paused or self._is_due or self._is_closed):
            self._is_due = True
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        self._is_due = False
        if self._is_paused or self._is_closed:
            return
        self._protocol.data_received(self._reads.popleft())
        self._go_on()

    # --- what the protocol calls

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever kept."""

    def write(self, data: Any) -> None:
        """At once."""
        if not self._is_closed:
            self._written(data)

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """One after the other."""
        for data in list_of_data:
            self.write(data)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """A client or next hop on this host."""
        return ("127.0.0.1", 4242) if name == "peername" else default

    def pause_reading(self) -> None:
        """Nothing comes."""
        self._is_paused = True

    def resume_reading(self) -> None:
        """What waited comes."""
        self._is_paused = False
        self._go_on()

    def is_closing(self) -> bool:
        """No more octets either way."""
        return self._is_closed

    def close(self) -> None:
        """The protocol is told in the next turn."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        """The same."""
        self.close()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Who is told from now on."""
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol


class NextHop:
    """Accepts everything. RFC 5321 and PIPELINING, as smtp-sink does."""

    def __init__(self) -> None:
        self._transport: MemoryTransport | None = None
        self._is_in_content = False
        self._tail = b""

    def begin(self, transport: MemoryTransport) -> None:
        """The greeting."""
        self._transport = transport
        transport.say(b"220 sink\r\n")

    def written(self, octets: bytes) -> None:
        """Commands or content."""
        assert self._transport is not None
        if self._is_in_content:
            self._tail = (self._tail + bytes(octets[-5:]))[-5:]
            if self._tail == _END:
                self._is_in_content = False
                self._transport.say(b"250 2.0.0 Ok: queued as 4XyZ0123\r\n")
        elif octets.startswith(b"EHLO"):
            self._transport.say(_EHLO)
        elif octets.startswith(b"QUIT"):
            self._transport.say(b"221 2.0.0 Bye\r\n")
        elif octets.endswith(b"DATA\r\n"):
            self._is_in_content = True
            self._tail = b"\r\n"
            self._transport.say(_OK * (octets.count(b"\n") - 1) + b"354 go\r\n")
        else:
            self._transport.say(_OK * octets.count(b"\n"))


class Client:
    """One session: EHLO, the exchanges some times over, QUIT. Any reply but 2xx and 3xx ends it with an error."""

    def __init__(self, loop: asyncio.AbstractEventLoop, exchanges: Sequence[Exchange], times: int) -> None:
        self.done: asyncio.Future[None] = loop.create_future()
        self._transport: MemoryTransport | None = None
        self._rest = chain(
            [Exchange(b"EHLO client.test\r\n")], chain.from_iterable(repeat(exchanges, times)), [Exchange(b"QUIT\r\n")]
        )
        self._due = 1
        """The greeting."""

    def begin(self, transport: MemoryTransport) -> None:
        """It waits for the greeting."""
        self._transport = transport

    def written(self, octets: bytes) -> None:
        """Replies."""
        codes = _FINAL.findall(octets)
        if self.done.done():
            return
        if not {b"2", b"3"}.issuperset(codes):
            self.done.set_exception(RuntimeError(f"refused: {bytes(octets)!r}"))
            return
        self._due -= len(codes)
        if self._due:
            return
        exchange = next(self._rest, None)
        if exchange is None:
            self.done.set_result(None)
            return
        self._due = exchange.replies
        assert self._transport is not None
        self._transport.say(exchange.octets)


class _Listening:
    """In the place of asyncio.Server."""

    def close(self) -> None:
        """Nothing to close."""


class MemoryLoop(uvloop.Loop):
    """An event loop that opens no connection."""

    def __init__(self) -> None:
        super().__init__()
        self._makers: list[Callable[[], asyncio.BaseProtocol]] = []

    async def create_server(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        """Who listens last is called by `talk`."""
        del args, options
        self._makers.append(protocol_factory)
        return _Listening()

    async def create_connection(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        """To a next hop of its own."""
        del args, options
        return self._connected(protocol_factory(), NextHop())

    async def talk(self, exchanges: Sequence[Exchange], times: int) -> None:
        """One session with the listener, to its end."""
        client = Client(self, exchanges, times)
        self._connected(self._makers[-1](), client)
        await client.done

    def _connected(self, protocol: Any, other: Client | NextHop) -> tuple[MemoryTransport, asyncio.Protocol]:
        transport = MemoryTransport(self, protocol, other.written)
        other.begin(transport)
        protocol.connection_made(transport)
        return transport, protocol
