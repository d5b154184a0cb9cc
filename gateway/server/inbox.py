"""The development next hop: a small SMTP server (RFC 5321) on a loopback port of its own that delivers to a Maildir for each mailbox.

It knows postmaster, alice and bob at inbox.test. Content arrives as sent: no field is added, no octet changed. It is for trying the
gateway out, and a next hop that nobody needs to install; it is not part of the mail path of a site.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from gateway.server.mailboxes import DOMAIN, MAILBOXES

IDLE_LIMIT = 300.0
_COMMAND_LIMIT = 8192
_PATH = re.compile(rb"<((?:[^<>\"\\]|\\.|\"(?:[^\"\\]|\\.)*\")*)>(?: (.*))?", re.DOTALL)
_MAIL_PARAMETERS = frozenset({b"SIZE", b"BODY", b"SMTPUTF8", b"RET", b"ENVID"})
_RCPT_PARAMETERS = frozenset({b"NOTIFY", b"ORCPT"})
_END = b"\r\n.\r\n"


def mailbox_of(path: bytes) -> str | None:
    """The mailbox a forward-path leads to, or None: `postmaster` alone is one (RFC 5321 4.1.1.3)."""
    local, at, domain = path.decode("utf-8", "replace").rpartition("@")
    name = (local if at else domain).lower()
    if at and domain.lower() != DOMAIN:
        return None
    return name if name in MAILBOXES and (at or name == "postmaster") else None


class Maildirs:
    """A Maildir for each mailbox: `<directory>/alice/new/…`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._host = socket.gethostname().replace("/", "_").replace(":", "_")
        self._count = 0
        for mailbox in MAILBOXES:
            for part in ("tmp", "new", "cur"):
                (directory / mailbox / part).mkdir(parents=True, exist_ok=True)

    def deliver(self, mailbox: str, content: bytes) -> str:
        """Write one message; its file name. OSError."""
        self._count += 1
        name = f"{time.time():.6f}.P{os.getpid()}Q{self._count}.{self._host}"
        written = self._directory / mailbox / "tmp" / name
        written.write_bytes(content)
        written.rename(self._directory / mailbox / "new" / name)
        return name


class InboxSession(asyncio.Protocol):
    """One connection."""

    def __init__(self, maildirs: Maildirs, *, size_limit: int) -> None:
        self._maildirs = maildirs
        self._size_limit = size_limit
        self._transport: asyncio.Transport
        self._received = bytearray()
        self._searched = 0
        self._in_content = False
        self._too_big = False
        self._idle: asyncio.TimerHandle | None = None
        self._forget()

    def _forget(self) -> None:
        self._mail = False
        self._recipients: dict[str, None] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The greeting."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._say(f"220 {DOMAIN} ESMTP development inbox")
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the name is asyncio's
        """The client is gone."""
        if self._idle is not None:
            self._idle.cancel()

    def _wait(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(IDLE_LIMIT, self._close, f"421 4.4.2 {DOMAIN} idle for too long")

    def _say(self, *lines: str) -> None:
        self._transport.write("".join(line + "\r\n" for line in lines).encode("utf-8", "replace"))

    def _close(self, line: str) -> None:
        self._say(line)
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Commands and content, however they are cut."""
        self._received += data
        while self._received and not self._transport.is_closing():
            if not (self._take_content() if self._in_content else self._take_command()):
                break
        self._wait()

    def _take_command(self) -> bool:
        end = self._received.find(b"\r\n")
        if end < 0:
            if len(self._received) > _COMMAND_LIMIT:
                self._close("500 5.5.6 line too long")
            return False
        line = bytes(self._received[:end])
        del self._received[: end + 2]
        verb, _, rest = line.partition(b" ")
        command = _COMMANDS.get(verb.upper())
        if command is None:
            self._say("500 5.5.2 unknown command")
        else:
            command(self, rest)
        return True

    def _take_content(self) -> bool:
        end = self._received.find(_END, max(0, self._searched - len(_END)))
        if end < 0:
            self._searched = len(self._received)
            if self._searched > self._size_limit:
                self._too_big = True
                del self._received[2 : -len(_END)]
                self._searched = len(self._received)
            return False
        content = bytes(self._received[:end]) + b"\r\n"  # it begins with the CRLF of the DATA line, for an empty message
        del self._received[: end + len(_END)]
        self._in_content = False
        self._deliver(content.replace(b"\r\n.", b"\r\n")[2:])  # RFC 5321 4.5.2
        return True

    def _deliver(self, content: bytes) -> None:
        recipients = list(self._recipients)
        self._forget()
        if self._too_big or len(content) > self._size_limit:
            self._say("552 5.3.4 message too big")
            return
        try:
            names = [self._maildirs.deliver(mailbox, content) for mailbox in recipients]
        except OSError:
            self._say("452 4.3.1 cannot write to the Maildir")
            return
        self._say(f"250 2.0.0 Ok: delivered as {names[0]}")

    def _hello(self, rest: bytes) -> None:
        self._forget()
        self._say(f"250 {DOMAIN}" if rest else "501 5.5.4 a name is missing")

    def _extended_hello(self, rest: bytes) -> None:
        self._forget()
        keywords = ("PIPELINING", f"SIZE {self._size_limit}", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")
        if not rest:
            self._say("501 5.5.4 a name is missing")
        else:
            self._say(f"250-{DOMAIN}", *(f"250-{keyword}" for keyword in keywords[:-1]), f"250 {keywords[-1]}")

    def _path(self, rest: bytes, word: bytes, known: frozenset[bytes]) -> tuple[bytes, dict[bytes, bytes]] | None:
        found = _PATH.fullmatch(rest[len(word) :].strip()) if rest[: len(word)].upper() == word else None
        if found is None:
            self._say(f"501 5.5.4 {word.decode()}<path> expected")
            return None
        parameters = {}
        for item in (found[2] or b"").split():
            keyword, _, value = item.partition(b"=")
            if keyword.upper() not in known:
                self._say("555 5.5.4 unknown parameter")
                return None
            parameters[keyword.upper()] = value
        return found[1], parameters

    def _mail_command(self, rest: bytes) -> None:
        if self._mail:
            self._say("503 5.5.1 nested MAIL")
        elif parsed := self._path(rest, b"FROM:", _MAIL_PARAMETERS):
            size = parsed[1].get(b"SIZE", b"")
            if size.isdigit() and len(size) <= 20 and int(size) > self._size_limit:
                self._say("552 5.3.4 message too big")  # RFC 1870 6.1
                return
            self._mail = True
            self._say("250 2.1.0 Ok")

    def _rcpt_command(self, rest: bytes) -> None:
        if not self._mail:
            self._say("503 5.5.1 MAIL first")
        elif parsed := self._path(rest, b"TO:", _RCPT_PARAMETERS):
            mailbox = mailbox_of(parsed[0])
            if mailbox is None:
                shown = parsed[0].decode("utf-8", "replace")
                self._say(f"550 5.1.1 <{shown}>: no such mailbox at {DOMAIN}")
                return
            self._recipients[mailbox] = None
            self._say("250 2.1.5 Ok")

    def _data(self, _rest: bytes) -> None:
        if not self._recipients:
            self._say("554 5.5.1 no valid recipients" if self._mail else "503 5.5.1 MAIL first")
            return
        self._in_content, self._too_big, self._searched = True, False, 0
        self._received[:0] = b"\r\n"
        self._say("354 end with <CRLF>.<CRLF>")

    def _reset(self, _rest: bytes) -> None:
        self._forget()
        self._say("250 2.0.0 Ok")

    def _verify(self, _rest: bytes) -> None:
        self._say("252 2.0.0 send and see")  # RFC 5321 3.5.3

    def _noop(self, _rest: bytes) -> None:
        self._say("250 2.0.0 Ok")

    def _quit(self, _rest: bytes) -> None:
        self._close("221 2.0.0 Bye")


_COMMANDS: dict[bytes, Callable[[InboxSession, bytes], None]] = {
    b"HELO": InboxSession._hello,  # noqa: SLF001 - the table of this very class
    b"EHLO": InboxSession._extended_hello,  # noqa: SLF001
    b"MAIL": InboxSession._mail_command,  # noqa: SLF001
    b"RCPT": InboxSession._rcpt_command,  # noqa: SLF001
    b"DATA": InboxSession._data,  # noqa: SLF001
    b"RSET": InboxSession._reset,  # noqa: SLF001
    b"VRFY": InboxSession._verify,  # noqa: SLF001
    b"NOOP": InboxSession._noop,  # noqa: SLF001
    b"QUIT": InboxSession._quit,  # noqa: SLF001
}


async def start(listening: socket.socket, directory: Path, *, size_limit: int) -> asyncio.Server:
    """Serve on a listening socket."""
    maildirs = Maildirs(directory)
    return await asyncio.get_running_loop().create_server(lambda: InboxSession(maildirs, size_limit=size_limit), sock=listening)


def serve(listening: socket.socket, directory: Path, *, size_limit: int) -> int:
    """The life of the inbox's process; the supervisor ends it by a signal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    async def forever() -> None:
        server = await start(listening, directory, size_limit=size_limit)
        await server.serve_forever()

    asyncio.run(forever())
    return 0
