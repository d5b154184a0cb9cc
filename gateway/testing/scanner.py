"""A scanner for tests of plugins that ask one: a real server at a loopback port that answers, hangs, answers rubbish, or drops the connection."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, Self

MOST = 100_000_000
"""Octets of one request, then the connection is closed."""
HANG = 3600.0
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d+)", re.IGNORECASE | re.MULTILINE)

Speaks = Literal["clamd", "http", "line"]


class FakeScanner:
    r"""A server that speaks as scanners do: `clamd` (INSTREAM), `http` (rspamd and others), `line` (a line, an answer).

    What it does with a request is said before; several answers are given one after the other, and the last one stays. `requests` has the
    octets that came: the message alone where it is clamd's, else the whole request.

    Examples:
        >>> import asyncio
        >>> async with FakeScanner("line") as scanner:
        ...     scanner.answers("OK", "FOUND Eicar")
        ...     reader, writer = await asyncio.open_connection(scanner.host, scanner.port)
        ...     writer.write(b"SCAN a\nSCAN b\n")
        ...     print(await reader.readline(), await reader.readline(), scanner.requests)
        ...     writer.close()
        b'OK\n' b'FOUND Eicar\n' [b'SCAN a\n', b'SCAN b\n']
    """

    def __init__(self, speaks: Speaks = "clamd") -> None:
        self.speaks = speaks
        self.host = "127.0.0.1"
        self.port = 0
        self.requests: list[bytes] = []
        self.connections = 0
        """Accepted so far."""
        self._script: list[Callable[[asyncio.StreamWriter], Any]] = []
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.answers({"clamd": "stream: OK", "http": "{}", "line": "OK"}[speaks])

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    def answers(self, *answers: str | bytes | dict[str, Any], status: int = 200) -> None:
        """Say this: text with the end that belongs to the protocol, octets as they are; by HTTP a dictionary is JSON, with this status."""
        self._script = [self._say(one, status) for one in answers]

    def hangs(self) -> None:
        """Take the request and say nothing."""
        self._script = [lambda _: asyncio.sleep(HANG)]

    def talks_rubbish(self, octets: bytes = b"\xff\x00 }{ not what you asked for\r\n\r\n") -> None:
        """Say what no scanner says."""
        self._script = [lambda writer: writer.write(octets)]

    def drops(self, after: bytes = b"") -> None:
        """Close the connection, perhaps in the middle of an answer that begins so."""

        def close(writer: asyncio.StreamWriter) -> None:
            writer.write(after)
            writer.close()

        self._script = [close]

    async def refuses(self) -> None:
        """Listen no more: connections are refused. Those that are open are closed."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task, writer in list(self._open.items()):
            task.cancel()
            writer.close()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _say(self, answer: str | bytes | dict[str, Any], status: int) -> Callable[[asyncio.StreamWriter], None]:
        if isinstance(answer, dict):
            answer = json.dumps(answer)
        if isinstance(answer, str):
            answer = self._framed(answer.encode(), status)
        octets = answer
        return lambda writer: writer.write(octets)

    def _framed(self, octets: bytes, status: int) -> bytes:
        match self.speaks:
            case "clamd":
                return octets + b"\0"
            case "line":
                return octets + b"\n"
            case "http":
                head = f"HTTP/1.1 {status} As scripted\r\nContent-Type: application/json\r\nContent-Length: {len(octets)}\r\n\r\n"
                return head.encode() + octets

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, self.host, 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.refuses()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="scanner")
        self._open[task] = writer
        task.add_done_callback(self._open.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await self._request(reader)) is not None:
                self.requests.append(request)
                act = self._script[0] if len(self._script) == 1 else self._script.pop(0)
                waits = act(writer)
                if asyncio.iscoroutine(waits):
                    await waits
                if writer.is_closing():
                    return
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the other side is gone, or talks without end
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> bytes | None:
        """One request; None at the end of the connection."""
        match self.speaks:
            case "line":
                return await reader.readline() or None
            case "http":
                return await _http(reader)
            case "clamd":
                return await _instream(reader)


async def _http(reader: asyncio.StreamReader) -> bytes | None:
    """RFC 9112 2.1, a body by its Content-Length."""
    head = await reader.readuntil(b"\r\n\r\n")
    found = _LENGTH.search(head)
    size = int(found[1]) if found is not None else 0
    return None if size > MOST else head + await reader.readexactly(size)


async def _instream(reader: asyncio.StreamReader) -> bytes | None:
    r"""`zINSTREAM\0` or `nINSTREAM\n`, then chunks with their sizes in four octets, then a size of 0 (clamd(8)). Other commands as they are."""
    begin = await reader.read(1)
    if not begin:
        return None
    command = await reader.readuntil(b"\0" if begin == b"z" else b"\n")
    if command[:-1] != b"INSTREAM":
        return begin + command
    octets = bytearray()
    while size := int.from_bytes(await reader.readexactly(4)):
        if len(octets) + size > MOST:
            return None
        octets += await reader.readexactly(size)
    return bytes(octets)
