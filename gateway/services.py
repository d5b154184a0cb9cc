"""Servers that plugins ask: their address, connections that are kept, how many at once, and a rest after failures.

For `policy` and `milter`, whose servers keep connections open between questions. What is said on a connection is theirs.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from gateway.errors import GatewayError

READ_LIMIT = 64 * 1024
"""Octets of a connection that are read ahead."""
_ALLOWED = '"host:port", "[2001:db8::1]:port" or "unix:/path"'


class ServiceError(GatewayError):
    """A server cannot be asked, or did not answer as it must. The text is for the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAddress:
    """Where a server listens."""

    host: str = ""
    port: int = 0
    path: str = ""
    """Of a UNIX socket; then there is no host."""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_service(text: str) -> ServiceAddress:
    """`host:port`, `[::1]:port`, `unix:/path`; Postfix's `inet:` in front is allowed. ValueError says what is allowed."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path or len(path.encode()) > 107:
            raise ValueError(_ALLOWED)
        return ServiceAddress(path=path)
    host, _, port = text.removeprefix("inet:").rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(_ALLOWED)
    if not host or any(c.isspace() for c in host) or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(_ALLOWED)
    return ServiceAddress(host=host, port=int(port))


def _check(text: str) -> str:
    parse_service(text)
    return text


ServiceName = Annotated[str, AfterValidator(_check)]
"""An option that names a server."""


class Wire:
    """One connection to a server, lent to one question at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.uses = 0
        """How often it was lent before."""
        self.since = 0.0
        """Loop time at which it was put back."""
        self.known: object = None
        """What its user wants to know of it the next time."""

    def close(self) -> None:
        """Now, whatever is under way."""
        with suppress(OSError, RuntimeError):  # the loop may be closed already
            self.writer.transport.abort()


class Service:
    """A server and the connections to it, of one worker."""

    def __init__(
        self,
        address: ServiceAddress,
        *,
        connections: int,
        connect_timeout: float,
        idle: float,
        max_uses: int,
        failures: int,
        rest: float,
    ) -> None:
        """`failures` in a row begin a `rest`, in which nobody asks; 0: never."""
        self.address = address
        self._seats = asyncio.Semaphore(connections)
        self._connections = connections
        self._connect_timeout = connect_timeout
        self._idle_limit = idle
        self._max_uses = max_uses
        self._most_failures = failures
        self._rest = rest
        self._idle: list[Wire] = []
        self._failures = 0
        self._rests_until = 0.0
        self._problem = ""

    @property
    def idle_wires(self) -> int:
        """Connections that are kept and not lent."""
        return len(self._idle)

    async def lend(self) -> Wire:
        """A connection, kept or new. ServiceError when there is none in time. Whoever gets it calls `take_back`."""
        self._check_rest()
        try:
            async with asyncio.timeout(self._connect_timeout):
                await self._seats.acquire()
        except TimeoutError:
            # busy is not broken: it counts as no failure
            raise ServiceError(f"{self.address}: all {self._connections} connections are in use") from None
        try:
            return self._kept() or await self._connect()
        except BaseException:
            self._seats.release()
            raise

    def take_back(self, wire: Wire, *, keep: bool) -> None:
        """A connection that was lent; `keep` when it can be used again."""
        self._seats.release()
        wire.uses += 1
        if not keep or wire.uses >= self._max_uses or wire.writer.is_closing() or wire.reader.at_eof():
            wire.close()
            return
        loop = asyncio.get_running_loop()
        wire.since = loop.time()
        self._idle.append(wire)
        loop.call_later(self._idle_limit, self._close_idle)

    def succeeded(self) -> None:
        """It answered as it must."""
        self._failures = 0
        self._rests_until = 0.0

    def failed(self, problem: str) -> ServiceError:
        """It did not; the error to raise."""
        self._failures += 1
        self._problem = problem
        if self._most_failures and self._failures >= self._most_failures:
            self._rests_until = asyncio.get_running_loop().time() + self._rest
        return ServiceError(f"{self.address}: {problem}")

    async def close(self) -> None:
        """All connections that are kept."""
        kept, self._idle = self._idle, []
        for wire in kept:
            wire.close()
        await asyncio.sleep(0)  # the loop closes their sockets in its next turn

    def _check_rest(self) -> None:
        if not self._rests_until:
            return
        now = asyncio.get_running_loop().time()
        if now < self._rests_until:
            told = f"not asked for {self._rests_until - now:.1f} s after {self._failures} failures, the last: {self._problem}"
            raise ServiceError(f"{self.address}: {told}")
        self._rests_until = now + self._rest  # this one tries; the others wait for what it finds

    def _kept(self) -> Wire | None:
        now = asyncio.get_running_loop().time()
        while self._idle:
            wire = self._idle.pop()
            if not wire.reader.at_eof() and not wire.writer.is_closing() and now - wire.since < self._idle_limit:
                return wire
            wire.close()
        return None

    def _close_idle(self) -> None:
        now = asyncio.get_running_loop().time()
        old = [wire for wire in self._idle if now - wire.since >= self._idle_limit]
        self._idle = [wire for wire in self._idle if wire not in old]
        for wire in old:
            wire.close()

    async def _connect(self) -> Wire:
        address = self.address
        try:
            async with asyncio.timeout(self._connect_timeout):
                if address.path:
                    reader, writer = await asyncio.open_unix_connection(address.path, limit=READ_LIMIT)
                else:
                    reader, writer = await asyncio.open_connection(address.host, address.port, limit=READ_LIMIT)
        except TimeoutError:
            raise self.failed(f"no connection within {self._connect_timeout:g} s") from None
        except OSError as error:
            raise self.failed(f"cannot connect: {error.strerror or error}") from error
        return Wire(reader, writer)
