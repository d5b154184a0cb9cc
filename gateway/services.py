"""Servers that plugins ask: their address, connections that are kept, how many at once, a rest after failures, and metrics of all that.

`policy` and `milter`, whose servers keep connections open between questions, lend one (`lend`, `take_back`). Scanners ask one question
within a turn (`turn`), several servers one after the other: `gateway.scanning`. What is said on a connection is theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator

from gateway import metrics
from gateway.breaker import Breaker, Circuit, RestingError
from gateway.errors import GatewayError

__all__ = [
    "BadAnswerError",
    "Service",
    "ServiceAddress",
    "ServiceError",
    "ServiceName",
    "Wire",
    "parse_service",
]

READ_LIMIT = 64 * 1024
"""Octets of a connection that are read ahead."""
Cause = Literal["answer", "closed", "connect", "timeout"]
"""What a failure is: no answer as agreed, a connection that was closed in the middle, none at all, none in time."""
T = TypeVar("T")
_ALLOWED = '"host:port", "[2001:db8::1]:port" or "unix:/path"'


class ServiceError(GatewayError):
    """A server cannot be asked, or did not answer as it must. The text is for the operator."""


class BadAnswerError(Exception):
    """Raised within a turn: the server answered what it must not. The text is for the operator, and has nothing unescaped in it."""


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
        address: ServiceAddress | str,
        *,
        connections: int,
        connect_timeout: float,
        failures: int,
        rest: float,
        idle: float = 0.0,
        max_uses: int = 1,
        plugin: str = "",
    ) -> None:
        """`failures` in a row begin a `rest`, in which nobody asks; 0: never. `plugin`: who asks, in the metrics; ``: none are kept.

        An address that is text is one that the plugin itself knows how to ask: a URL, a program.
        """
        self.address = address
        self.breaker = Breaker(failures=failures, rest=rest)
        self._seats = asyncio.Semaphore(connections)
        self._connections = connections
        self._connect_timeout = connect_timeout
        self._idle_limit = idle
        self._max_uses = max_uses
        self._idle: list[Wire] = []
        self._asking: set[asyncio.Task[Any]] = set()
        self._was_away = False
        """It could not be reached, and has not been since."""
        self._meter = metrics.ServiceMeter(plugin, str(address)) if plugin else None

    @property
    def idle_wires(self) -> int:
        """Connections that are kept and not lent."""
        return len(self._idle)

    @property
    def is_resting(self) -> bool:
        """Nobody asks now."""
        return self.breaker.state is Circuit.OPEN

    @property
    def has_room(self) -> bool:
        """A question need not wait for others."""
        return not self._seats.locked()

    # One question

    async def turn(self, question: Callable[[Service], Coroutine[Any, Any, T]], limit: float) -> T:
        """The answer to one question, which has the limit in seconds, its wait for a free place included. ServiceError.

        Whatever of OSError, EOFError, TimeoutError and BadAnswerError the question raises is the server's failure.
        """
        tries = self._enter()
        loop = asyncio.get_running_loop()
        asked = 0.0
        try:
            async with asyncio.timeout(limit), self._seats:
                asked = loop.time()
                answer = await self._apart(question(self))
        except TimeoutError:
            if not asked:
                raise self._busy(tries=tries) from None
            raise self.failed(f"no answer within {limit:.3g} s", "timeout") from None
        except ServiceError:
            raise
        except (OSError, EOFError) as error:
            raise self.failed(f"the connection was closed before the answer ({_told(error)})", "closed") from error
        except BadAnswerError as error:
            raise self.failed(str(error), "answer") from error
        except asyncio.CancelledError:
            # a hook's own end, or a client that left: only who was asked for long enough has failed
            if asked and loop.time() - asked >= self._connect_timeout:
                self.failed(f"no answer within {loop.time() - asked:.3g} s, which was all the time there was", "timeout")
            else:
                self._gave_up(tries=tries)
            raise
        except BaseException:
            self._gave_up(tries=tries)
            raise
        self.succeeded(loop.time() - asked)
        return answer

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Wire]:
        """Within a turn: a connection of its own, closed afterwards. ServiceError when there is none in time."""
        wire = await self._connect()
        try:
            yield wire
        finally:
            wire.close()

    async def _apart(self, question: Coroutine[Any, Any, T]) -> T:
        """In a task of its own: what a library does when it is cancelled (anyio's scopes in HTTP clients cancel the task that they
        know) must not reach the transaction's task, which goes on.
        """
        task = asyncio.get_running_loop().create_task(question, name=f"ask {self.address}")
        self._asking.add(task)
        task.add_done_callback(self._asked)
        return await task

    def _asked(self, task: asyncio.Task[Any]) -> None:
        self._asking.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may have gone: nobody else looks at it

    # Connections that are lent

    async def lend(self) -> Wire:
        """A connection, kept or new. ServiceError when there is none in time. Whoever gets it calls `take_back`."""
        tries = self._enter()
        try:
            async with asyncio.timeout(self._connect_timeout):
                await self._seats.acquire()
        except TimeoutError:
            raise self._busy(tries=tries) from None
        except BaseException:
            self._gave_up(tries=tries)
            raise
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

    # What came of it

    def succeeded(self, seconds: float | None = None) -> None:
        """It answered as it must, after so long."""
        self.breaker.succeeded()
        self._was_away = False
        if self._meter is not None:
            self._meter.answered(seconds)

    def failed(self, problem: str, cause: Cause = "answer") -> ServiceError:
        """It did not; the error to raise."""
        self.breaker.failed(problem)
        self._was_away = self._was_away or cause == "connect"
        if self._meter is not None:
            self._meter.failed(cause, rests=self.is_resting)
        return ServiceError(f"{self.address}: {problem}")

    async def ping(self, question: Callable[[Service], Coroutine[Any, Any, None]], limit: float) -> bool:
        """Ask whether it is there, outside of the turns of mail. Once one that was away is back, a question tries it at once.

        It does not close the circuit: a server that answers this may fail at everything else.
        """
        try:
            async with asyncio.timeout(limit):
                await question(self)
        except TimeoutError:
            self.failed(f"no answer to a ping within {limit:.3g} s", "timeout")
        except ServiceError:
            pass  # counted where it was found
        except (OSError, EOFError) as error:
            self.failed(f"the connection was closed before the answer to a ping ({_told(error)})", "closed")
        except BadAnswerError as error:
            self.failed(f"to a ping: {error}", "answer")
        else:
            if self._was_away:
                self._was_away = False
                self.breaker.let_one_try()
            if self._meter is not None:
                self._meter.is_there()
            return True
        self._was_away = True
        return False

    async def close(self) -> None:
        """All connections that are kept."""
        kept, self._idle = self._idle, []
        for wire in kept:
            wire.close()
        if self._meter is not None:
            self._meter.close()
        await asyncio.sleep(0)  # the loop closes their sockets in its next turn

    def _enter(self) -> bool:
        """Whether the caller is the one that tries. ServiceError in a rest."""
        try:
            return self.breaker.enter()
        except RestingError as error:
            if self._meter is not None:
                self._meter.count("resting")
            raise ServiceError(f"{self.address}: {error}") from None

    def _gave_up(self, *, tries: bool) -> None:
        """A question ended without a result: where it was the one that tries, another is to try."""
        if tries:
            self.breaker.let_one_try()

    def _busy(self, *, tries: bool) -> ServiceError:
        """Busy is not broken: it counts as no failure."""
        self._gave_up(tries=tries)
        if self._meter is not None:
            self._meter.count("busy")
        return ServiceError(f"{self.address}: all {self._connections} connections are in use")

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
        assert isinstance(address, ServiceAddress), "who gives text as address connects by itself"
        try:
            async with asyncio.timeout(self._connect_timeout):
                if address.path:
                    reader, writer = await asyncio.open_unix_connection(address.path, limit=READ_LIMIT)
                else:
                    reader, writer = await asyncio.open_connection(address.host, address.port, limit=READ_LIMIT)
        except TimeoutError:
            raise self.failed(f"no connection within {self._connect_timeout:g} s", "connect") from None
        except OSError as error:
            raise self.failed(f"cannot connect: {error.strerror or error}", "connect") from error
        return Wire(reader, writer)


def _told(error: BaseException) -> str:
    """An error of the system in words; it has no text of the other side."""
    return getattr(error, "strerror", None) or type(error).__name__
