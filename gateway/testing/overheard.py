"""A session with a client that is no socket, watched from outside: what was said, and what the chain did in between. RFC 5321 4.1.1.

The server is the gateway's own; only its transport is in memory. `OverheardLink` makes lines of what goes over a link to the next hop.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from typing_extensions import override

from gateway.smtp.border import prototype
from gateway.smtp.chunks import ChunkIntake, Dropped
from gateway.smtp.origin import Origin
from gateway.smtp.server import Server
from gateway.smtp.site import Door
from gateway.trace import Record, StepRecord, Trace
from gateway.transaction import Transaction

TURN = 0.002
"""Seconds between two looks at a server that is busy."""
LONGEST_LINE = 2_000
"""Octets of a line that are passed on."""
SHOWN = re.compile(rb"(MAIL|RCPT|DATA|BDAT|RSET|AUTH|VRFY|EXPN|ETRN|XCLIENT|XFORWARD)\b", re.IGNORECASE)
"""Commands on a link that are about the client; the others only set it up."""


class MemoryTransport(asyncio.Transport):
    """What a server writes goes to a function; there is no other side."""

    def __init__(self, server: Server, said: Callable[[bytes], None]) -> None:
        super().__init__()
        self._server = server
        self._said = said
        self._closing = False

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        """To the client."""
        if not self._closing:
            self._said(bytes(data))

    @override
    def close(self) -> None:
        """The end of the connection, a turn of the loop later."""
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._server.connection_lost, None)

    @override
    def abort(self) -> None:
        """The same: nothing waits to be written."""
        self.close()

    @override
    def is_closing(self) -> bool:
        """It has ended."""
        return self._closing

    @override
    def pause_reading(self) -> None:
        """`WatchedServer.rests` tells when there is room."""

    @override
    def resume_reading(self) -> None:
        """See above."""

    @override
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever kept."""


class WatchedServer(Server):
    """A session of the gateway whose state can be seen."""

    __slots__ = ("_seen", "_traces")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._traces: dict[str, tuple[Trace, int]] = {}
        self._seen: Transaction | None = None

    @property
    def rests(self) -> bool:
        """Everything that was said to it is answered, or it has ended."""
        is_free = self._parked and not self._owed and not self._going and self._later is None and self._fault is None
        return self._lost or (is_free and not self._engine.has_input and not self._out)

    @property
    def takes_content(self) -> bool:
        """What comes next is content."""
        return self._receiving is not None and not self._content_ended

    @property
    def takes_chunk(self) -> bool:
        """It is the octets of a chunk, which end by their number (RFC 3030 2)."""
        return self.takes_content and isinstance(self._receiving, Dropped | ChunkIntake)

    @property
    def has_ended(self) -> bool:
        """The connection is closed."""
        return self._lost

    def new_steps(self) -> list[StepRecord]:
        """Steps of the traces of session and transaction since the last call."""
        talk = self._talk
        if talk is None:
            return []
        own = talk.session.state.get("trace")
        if isinstance(own, Trace):
            self._traces.setdefault("", (own, 0))
            if self._traces[""][0] is not own:  # XCLIENT began another session
                self._traces[""] = (own, 0)
        if talk.transaction is not None and talk.transaction.trace is not None and talk.transaction is not self._seen:
            self._seen = talk.transaction
            self._traces = {name: kept for name, kept in self._traces.items() if not name}
            self._traces[talk.transaction.id] = (talk.transaction.trace, 0)
        found: list[StepRecord] = []
        for name, (trace, seen) in self._traces.items():
            if len(trace.steps) > seen:
                found += trace.step_records()[seen:]
                self._traces[name] = (trace, len(trace.steps))
        return found

    def unseen(self, record: Record) -> list[StepRecord]:
        """Steps of a transaction that began and ended between two looks."""
        if self._seen is not None and record["id"] == self._seen.id:
            return []
        return record["steps"]


class Visitor:
    """A client of a listener, without a connection. `said` hears the server's octets."""

    def __init__(self, door: Door, origin: Origin, said: Callable[[bytes], None]) -> None:
        self.server = WatchedServer(door, prototype(door, asyncio.get_running_loop()), origin)
        self._transport = MemoryTransport(self.server, said)
        self.server.connection_made(self._transport)

    def say(self, octets: bytes) -> None:
        """To the server."""
        if not self.server.has_ended:
            self.server.data_received(octets)

    async def rest(self) -> None:
        """Until everything is answered, however long the next hop or a plugin takes."""
        await asyncio.sleep(0)
        while not self.server.rests:  # noqa: ASYNC110 - there is no event for nothing more to do
            await asyncio.sleep(TURN)

    async def leave(self) -> None:
        """Close the connection, and wait for what follows from that."""
        self._transport.close()
        while not self.server.has_ended:  # noqa: ASYNC110 - see above
            await asyncio.sleep(TURN)
        await asyncio.sleep(0)


class OverheardLink:
    """The lines of one connection to a next hop, without greeting, EHLO and QUIT; of content only what comes to an end.

    `tell(who, text)`: `G` and `N` as in a dialogue; `.` and the size of a content at its end.
    """

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        self._tell = tell
        self._halves = {"G": b"", "N": b""}
        self._pending: list[bool] = []
        """For each command without a reply: is it told?"""
        self._in_content = False
        self._is_challenged = False
        self._ended_content = False
        self._chunk = 0
        self._size = 0

    def hear(self, who: str, octets: bytes) -> None:
        """Some octets of either side."""
        data = self._halves[who] + octets
        while data:
            if who == "G" and self._chunk:
                taken = data[: self._chunk]
                data = data[len(taken) :]
                self._chunk -= len(taken)
                self._content(taken)
                continue
            end = data.find(b"\r\n")
            if end < 0:
                break
            line, data = data[:end], data[end + 2 :]
            if who == "G":
                self._line(line)
            else:
                self._reply(line)
        if self._in_content and len(data) > LONGEST_LINE:  # a line of content that never ends
            self._content(data[:-1])
            data = data[-1:]
        self._halves[who] = data

    def _content(self, octets: bytes) -> None:
        self._size += len(octets)

    def _line(self, line: bytes) -> None:
        if self._in_content:
            if line == b".":
                self._in_content, self._ended_content = False, True
                self._tell("G", f". ({self._size} octets)")
                self._pending.append(True)
                return
            self._content(line + b"\r\n")
            return
        if self._is_challenged:  # a response to a challenge of AUTH
            self._is_challenged = False
            return
        self._ended_content = False
        is_told = SHOWN.match(line) is not None
        self._pending.append(is_told)
        if is_told:
            self._tell("G", shown(line))
        if line[:5].upper() == b"BDAT ":
            size = line.split()[1]
            self._chunk = int(size) if size.isdigit() else 0

    def _reply(self, line: bytes) -> None:
        is_last = line[3:4] != b"-"
        is_told = self._pending[0] if self._pending else self._ended_content  # LMTP: one for each recipient (RFC 2033 4.2)
        if is_told:
            self._tell("N", shown(line))
        self._is_challenged = line[:3] == b"334"
        if is_last and self._pending and not self._is_challenged:
            self._pending.pop(0)
            if line[:3] == b"354":
                self._in_content, self._size = True, 0


def shown(line: bytes) -> str:
    """A line for people; of AUTH no more than the mechanism."""
    if line[:5].upper() == b"AUTH ":
        return " ".join(line.decode("ascii", "replace").split()[:2]) + (" …" if line.count(b" ") > 1 else "")
    return line[:LONGEST_LINE].decode("utf-8", "backslashreplace")
