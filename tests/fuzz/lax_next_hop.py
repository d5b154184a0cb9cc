"""A next hop that is lax on purpose: whatever somebody once took for a line's end or an end of data, it takes too. RFC 5321 2.3.8."""

from __future__ import annotations

import asyncio
import contextlib
import re
from types import TracebackType
from typing import Self

_LINE = re.compile(rb"\r\n|\n|\r(?=[^\n])")


class LaxNextHop:
    """Takes every CR, LF and CRLF as a line's end, drops NUL, and keeps the envelope of each message."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bytes]] = []
        """MAIL command and content of each message, as it understood them."""
        self.commands: list[bytes] = []
        """Every line that it took for a command."""
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """As a route's `servers` has it."""
        assert self._server is not None
        return "{}:{}".format(*self._server.sockets[0].getsockname())

    @property
    def smuggled(self) -> list[bytes]:
        """MAIL commands that no client said."""
        return [mail for mail, _ in self.messages if b"smuggled" in mail]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await self._talk(reader, writer)
        writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 lax.test\r\n")
        rest, mail, content, in_content = b"", b"", b"", False
        while octets := await reader.read(1 << 16):
            rest += octets.replace(b"\0", b"")
            while (found := _LINE.search(rest)) is not None:
                line, rest = rest[: found.start()], rest[found.end() :]
                if in_content and line == b".":
                    in_content = False
                    self.messages.append((mail, content))
                    writer.write(b"250 Ok\r\n")
                elif in_content:
                    content += line + b"\r\n"
                else:
                    self.commands.append(line)
                    in_content, content = line.upper().startswith(b"DATA"), b""
                    mail = line if line.upper().startswith(b"MAIL") else mail
                    writer.write(self._answer(line))

    @staticmethod
    def _answer(line: bytes) -> bytes:
        match line.upper().partition(b" ")[0]:
            case b"DATA":
                return b"354 Go on\r\n"
            case b"EHLO":
                return b"250-lax.test\r\n250-SMTPUTF8\r\n250-8BITMIME\r\n250-DSN\r\n250 PIPELINING\r\n"
            case _:
                return b"250 Ok\r\n"
