r"""A scripted next hop for tests: a small SMTP server (RFC 5321) that records what it is given and misbehaves on demand.

    async with ScriptedNextHop() as hop:
        hop.script("RCPT TO:<bob@", "550 5.1.1 No such user")
        ...                                   # talk to hop.address
        assert hop.transactions[0].content == b"Subject: hi\r\n\r\nhi\r\n"

Unscripted, it accepts everything. It is no server for mail: what it is given stays in memory, unless `remember` is false. With
`lmtp=True` it speaks LMTP (RFC 2033): `hop.script("CONTENT <bob@", "452 4.2.2 Mailbox full")` is its answer for one recipient. With
`auth` it takes any password (RFC 4954).
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, cast

KEYWORDS = ("PIPELINING", "SIZE 50000000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")
_USUAL = {
    "GREETING": "220 next-hop.test ESMTP",
    "HELO": "250 next-hop.test",
    "MAIL": "250 2.1.0 Ok",
    "RCPT": "250 2.1.5 Ok",
    "DATA": "354 End data with <CR><LF>.<CR><LF>",
    "BDAT": "250 2.0.0 Ok",
    "CONTENT": "250 2.0.0 Ok: queued as SCRIPTED",
    "AUTH": "235 2.7.0 Authentication succeeded",
    "RSET": "250 2.0.0 Ok",
    "NOOP": "250 2.0.0 Ok",
    "XCLIENT": "220 next-hop.test ESMTP",
    "XFORWARD": "250 2.0.0 Ok",
    "STARTTLS": "220 2.0.0 Ready to start TLS",
    "QUIT": "221 2.0.0 Bye",
}


_PATH = re.compile(rb'<(?:"(?:[^"\\]|\\.)*"|[^">])*>')


@dataclass(frozen=True, slots=True)
class Answer:
    """What to do at some point, where a plain reply is not enough."""

    reply: str = ""
    """The reply, lines separated by `\\n`, each with its code; nothing is sent when it is empty."""
    delay: float = 0.0
    """Seconds before it."""
    drop: bool = False
    """Close the connection afterwards."""
    raw: bytes = b""
    """Octets to send in place of a reply."""


DROP = Answer(drop=True)
"""Close the connection without an answer."""
LONGEST_DELAY = 3600.0
SILENCE = Answer(delay=LONGEST_DELAY)
"""Never answer."""


@dataclass(slots=True)
class Taken:
    """A transaction that reached its final dot."""

    reverse_path: bytes
    parameters: tuple[bytes, ...]
    recipients: list[tuple[bytes, tuple[bytes, ...]]] = field(default_factory=list)
    """Path and parameters of each recipient that was accepted."""
    content: bytes = b""
    """Without the dots of RFC 5321 4.5.2; empty where the next hop remembers nothing."""
    size: int = 0
    """Octets of the content, dots of RFC 5321 4.5.2 among them."""
    chunks: list[int] = field(default_factory=list)
    """Octets of each chunk, where it came by BDAT (RFC 3030 2)."""
    code: int = 0
    """Of the reply to the content, by LMTP of the last one; 0 when there was none."""
    codes: list[int] = field(default_factory=list)
    """By LMTP, one for each recipient."""
    connection: int = 0
    """Number of the connection, from 1."""
    helo: str = ""
    """The name that the connection's last EHLO gave."""
    told: dict[str, str] = field(default_factory=dict)
    """What was known of the client at MAIL: `PROXY` (address and port), XCLIENT's attributes, XFORWARD's as `XFORWARD-ADDR`."""

    @property
    def paths(self) -> list[bytes]:
        """The recipients' paths."""
        return [path for path, _ in self.recipients]

    @property
    def delivered(self) -> list[bytes]:
        """Paths of the recipients that have the message."""
        codes = self.codes or [self.code] * len(self.recipients)
        return [path for path, code in zip(self.paths, codes, strict=False) if code // 100 == 2]


class ScriptedNextHop:
    r"""Listens on a free port of 127.0.0.1 (or on a UNIX socket) between `async with` and its end.

    Examples:
        >>> import asyncio
        >>> async with ScriptedNextHop() as hop:
        ...     hop.script("RCPT TO:<bob@", "550 5.1.1 No such user")
        ...     reader, writer = await asyncio.open_connection(hop.host, hop.port)
        ...     writer.write(b"HELO me\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.org>\r\n")
        ...     print([(await reader.readline()).decode().strip() for _ in range(4)][3])
        ...     writer.close()
        550 5.1.1 No such user
    """

    def __init__(
        self,
        *,
        keywords: tuple[str, ...] = KEYWORDS,
        esmtp: bool = True,
        unix_path: str = "",
        tls: ssl.SSLContext | None = None,
        lmtp: bool = False,
        auth: tuple[str, ...] = (),
        remember: bool = True,
        overhear: Callable[[int, str, bytes], None] | None = None,
    ) -> None:
        self.auth = auth
        """Mechanisms of AUTH: `PLAIN` and `LOGIN` are known; whoever asks is who he says (script `AUTH` for another answer)."""
        self.remember = remember
        """False: only the transactions under way are known, and of no content more than its size. For servers that run long."""
        self.overhear = overhear
        """Is told what is said on a connection, as it comes: its number, `G` (the gateway) or `N` (this), octets; none: it is closed."""
        self.keywords = keywords
        """EHLO keywords; leave PIPELINING out to have commands one at a time."""
        self.tls = tls
        """STARTTLS is offered with this."""
        self.offers_tls = False
        """To the connection that is answered just now."""
        self.peer_certificates: list[bytes] = []
        """Certificates that clients showed, one for each TLS session, in DER; empty for none."""
        self.esmtp = esmtp
        """False: EHLO is not known (502)."""
        self.lmtp = lmtp
        """LHLO is known and EHLO is not; the content is answered once for each recipient."""
        self.unix_path = unix_path
        self.host = "127.0.0.1"
        self.port = 0
        self.connections = 0
        """Connections accepted so far."""
        self.transactions: list[Taken] = []
        self.begun: list[Taken] = []
        """Every transaction from MAIL on, also those that were given up."""
        self.commands: list[bytes] = []
        """Every command line, without CRLF, over all connections."""
        self.reads: list[bytes] = []
        """Octets as each read brought them: shows what went out in one write."""
        self.expects_proxy = False
        """A connection begins with a PROXY v2 header, or is closed."""
        self.error_limit = 0
        """Refusals on one connection, after which it says 421 to everything and closes, as Postfix does; 0: none."""
        self.drop_in_content_after: int | None = None
        """Close the connection when so many octets of content were received."""
        self.reading = asyncio.Event()
        """Cleared: nothing is read (a next hop that hangs)."""
        self.reading.set()
        self._script: dict[str, tuple[list[str | Answer], bool]] = {}
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def address(self) -> str:
        """As a route's `servers` has it."""
        if self.unix_path:
            return f"{'lmtp+' if self.lmtp else ''}unix:{self.unix_path}"
        return f"{'lmtp://' if self.lmtp else ''}{self.host}:{self.port}"

    @property
    def open_connections(self) -> int:
        """Connections open now."""
        return len(self._open)

    def script(self, when: str, *answers: str | Answer, stay: bool = True) -> None:
        """What to answer at `when`, one after the other; the last one stays unless `stay` is false, then it is usual again.

        `when` is GREETING, CONTENT (the final dot) or the beginning of a command line in any case; the longest match counts:
        `RCPT`, `RCPT TO:<bob@`. Clients see the script at once.
        """
        self._script[when.upper()] = (list(answers), stay)

    async def drop_all(self) -> None:
        """Close every open connection now."""
        writers = list(self._open.values())
        for writer in writers:
            writer.close()
        await asyncio.sleep(0.02)

    async def say_all(self, octets: bytes) -> None:
        """Send octets nobody asked for on every connection."""
        for writer in self._open.values():
            writer.write(octets)
        await asyncio.sleep(0.02)

    async def start(self) -> None:
        """Listen; on the same port again after `stop`."""
        if self.unix_path:
            self._server = await asyncio.start_unix_server(self._accepted, self.unix_path)
        else:
            self._server = await asyncio.start_server(self._accepted, self.host, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    def tell(self, connection: int, who: str, octets: bytes) -> None:
        """To whoever overhears."""
        if self.overhear is not None:
            self.overhear(connection, who, octets)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        dialogue = _Dialogue(self, reader, writer, self.connections)
        task = asyncio.get_running_loop().create_task(dialogue.run())
        self._open[task] = writer
        task.add_done_callback(self._open.pop)

    def next_answer(self, when: str) -> Answer:
        """The answer for a command line, GREETING or CONTENT; taken from the script."""
        line = when.upper()
        for key in sorted(self._script, key=len, reverse=True):
            answers, stay = self._script[key]
            if line.startswith(key) and answers:
                answer = answers[0] if stay and len(answers) == 1 else answers.pop(0)
                return Answer(answer) if isinstance(answer, str) else answer
        verb = line.partition(" ")[0]
        if self.lmtp and verb in {"EHLO", "HELO"}:
            return Answer("500 5.5.1 LMTP is spoken here")
        if verb == ("LHLO" if self.lmtp else "EHLO"):
            lines = ["next-hop.test", *self.keywords, *(("STARTTLS",) if self.offers_tls else ())]
            lines += ["AUTH " + " ".join(self.auth)] if self.auth else []
            shown = "\n".join(f"250{' ' if n == len(lines) - 1 else '-'}{text}" for n, text in enumerate(lines))
            return Answer(shown if self.esmtp else "502 5.5.1 Not known")
        if verb == "AUTH" and not self.auth:
            return Answer("502 5.5.2 Not known")
        return Answer(_USUAL.get(verb, "502 5.5.2 Not known"))


class _Left(Exception):  # noqa: N818 - no error: the other side is gone, or we drop it
    """The connection is over."""


class _Dialogue:
    """One connection."""

    def __init__(self, hop: ScriptedNextHop, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self._hop = hop
        self._reader = reader
        self._writer = writer
        self._number = number
        self._buffer = bytearray()
        self._taken: Taken | None = None
        self._is_encrypted = False
        self._helo = ""
        self._told: dict[str, str] = {}
        self._forwarded: dict[str, str] = {}
        self._refused = 0

    async def run(self) -> None:
        try:
            if self._hop.expects_proxy:
                await self._proxy_header()
            await self._answer("GREETING")
            while True:
                await self._command(await self._line())
        except (_Left, OSError):
            pass
        finally:
            self._hop.tell(self._number, "N", b"")
            self._writer.close()

    async def _more(self) -> None:
        await self._hop.reading.wait()
        octets = await self._reader.read(1 << 18)
        if not octets:
            raise _Left
        self._hop.tell(self._number, "G", octets)
        if self._hop.remember:
            self._hop.reads.append(octets)
        self._buffer += octets

    async def _proxy_header(self) -> None:
        """Haproxy's proxy-protocol.txt 2.2."""
        while len(self._buffer) < 16 or len(self._buffer) < 16 + int.from_bytes(self._buffer[14:16]):
            await self._more()
        header = bytes(self._buffer[: 16 + int.from_bytes(self._buffer[14:16])])
        del self._buffer[: len(header)]
        if not header.startswith(b"\r\n\r\n\0\r\nQUIT\n"):
            raise _Left
        if header[12] == 0x21 and header[13] == 0x11:
            self._told["PROXY"] = f"{'.'.join(map(str, header[16:20]))}:{int.from_bytes(header[24:26])}"
        else:
            self._told["PROXY"] = "LOCAL" if header[12] == 0x20 else header.hex()

    async def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            await self._more()
        end = self._buffer.index(b"\r\n")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    async def _answer(self, when: str) -> int:
        """Do as the script says; the code sent, 0 for none."""
        self._hop.offers_tls = self._hop.tls is not None and not self._is_encrypted
        answer = self._out_of_order(when.upper()) or self._hop.next_answer(when)
        if answer.delay:
            await asyncio.sleep(answer.delay)
        octets = answer.raw or b"".join(line.encode() + b"\r\n" for line in answer.reply.split("\n") if line)
        await self._say(octets)
        if answer.drop:
            raise _Left
        last = answer.reply.rpartition("\n")[2]
        self._refused += last[:1] in ("4", "5")
        return int(last[:3]) if last[:3].isdigit() else 0

    async def _say(self, octets: bytes) -> None:
        if octets:
            self._hop.tell(self._number, "N", octets)
            self._writer.write(octets)
            await self._writer.drain()

    def _out_of_order(self, when: str) -> Answer | None:
        """RFC 5321 4.1.4: commands that make no sense now are refused, whatever the script says."""
        if self._hop.error_limit and self._refused >= self._hop.error_limit:
            return Answer("421 4.7.0 Too many errors", drop=True)
        if when.startswith("MAIL") and self._taken is not None:
            return Answer("503 5.5.1 Nested MAIL")
        if when.startswith(("RCPT", "DATA")) and self._taken is None:
            return Answer("503 5.5.1 Need MAIL")
        if when.startswith("BDAT") and self._taken is None:
            return Answer("503 5.5.1 Need MAIL")
        if when.startswith(("DATA", "BDAT")) and self._taken is not None and not self._taken.recipients:
            return Answer("503 5.5.1 No valid recipients" if self._hop.lmtp else "554 5.5.1 No valid recipients")
        return None

    async def _command(self, line: bytes) -> None:
        if self._hop.remember:
            self._hop.commands.append(line)
        if line[:5].upper() == b"BDAT ":
            await self._chunk(line)
            return
        verb = line.partition(b" ")[0].upper()
        if verb == b"AUTH" and self._hop.auth and not await self._challenges(line):
            return
        if verb == b"STARTTLS":
            cast("asyncio.Transport", self._writer.transport).pause_reading()  # the handshake is not for our buffer
        code = await self._answer(line.decode("utf-8", "surrogateescape"))
        is_taken = 200 <= code < 400
        if verb == b"QUIT":
            raise _Left
        if verb == b"STARTTLS" and code == 220 and self._hop.tls is not None:
            await self._start_tls(self._hop.tls)
        if not is_taken:
            return
        self._note(verb, line)
        if verb == b"DATA" and code == 354:
            await self._content()

    def _note(self, verb: bytes, line: bytes) -> None:
        """What an accepted command changes."""
        if verb == b"MAIL":
            path, parameters = _path(line)
            told = self._told | {f"XFORWARD-{name}": value for name, value in self._forwarded.items()}
            self._taken = Taken(path, parameters, connection=self._number, helo=self._helo, told=told)
            if self._hop.remember:
                self._hop.begun.append(self._taken)
        elif verb in (b"RSET", b"EHLO", b"HELO", b"LHLO"):
            self._taken = None
            self._forwarded = {}
            if verb != b"RSET":
                self._helo = line.partition(b" ")[2].decode()
        elif verb == b"XCLIENT":  # what it does not name stays as it was, as in Postfix
            self._told |= _attributes(line)
        elif verb == b"XFORWARD":
            self._forwarded |= _attributes(line)
        elif verb == b"RCPT" and self._taken is not None:
            self._taken.recipients.append(_path(line))

    async def _challenges(self, line: bytes) -> bool:
        """RFC 4954 4: what the mechanism asks for. False: the exchange is over, and answered."""
        _, mechanism, *initial = line.upper().split(b" ")
        if mechanism.decode() not in self._hop.auth:
            await self._say(b"504 5.5.4 Mechanism is not offered\r\n")
            return False
        asked = {b"LOGIN": (b"VXNlcm5hbWU6", b"UGFzc3dvcmQ6")}.get(mechanism, (b"",))
        for challenge in asked[len(initial) :]:
            await self._say(b"334 " + challenge + b"\r\n")
            if await self._line() == b"*":
                await self._say(b"501 5.7.0 Cancelled\r\n")
                return False
        return True

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        await self._writer.start_tls(context)
        self._is_encrypted = True
        self._hop.peer_certificates.append(self._writer.get_extra_info("ssl_object").getpeercert(binary_form=True) or b"")

    async def _content(self) -> None:
        """Read to CRLF.CRLF (RFC 5321 4.1.1.4) and take the dots out."""
        limit = self._hop.drop_in_content_after
        searched, gone = 0, 0
        self._buffer[:0] = b"\r\n"  # so that a dot at the very beginning is found like any other
        while (end := self._buffer.find(b"\r\n.\r\n", searched)) < 0:
            if limit is not None and gone + len(self._buffer) - 2 >= limit:
                raise _Left
            if not self._hop.remember and len(self._buffer) > 4:
                gone += len(self._buffer) - 4
                del self._buffer[:-4]
            searched = max(0, len(self._buffer) - 4)
            await self._more()
        content = bytes(self._buffer[: end + 2])
        del self._buffer[: end + 5]
        taken = self._taken
        assert taken is not None  # DATA was answered with 503 otherwise
        taken.size = gone + len(content) - 2
        if self._hop.remember:
            taken.content = content.replace(b"\r\n.", b"\r\n")[2:]
        await self._end(taken)

    async def _end(self, taken: Taken) -> None:
        self._taken = None
        self._forwarded = {}
        if self._hop.remember:
            self._hop.transactions.append(taken)
        await self._conclude(taken)

    async def _conclude(self, taken: Taken) -> None:
        """The reply to the content, or the replies."""
        if not self._hop.lmtp:
            taken.code = await self._answer("CONTENT")
            return
        for path in taken.paths:  # RFC 2033 4.2
            taken.code = await self._answer(f"CONTENT {path.decode('utf-8', 'surrogateescape')}")
            taken.codes.append(taken.code)

    async def _chunk(self, line: bytes) -> None:
        """Read so many octets (RFC 3030 2); CONTENT in the script is the reply to the last chunk."""
        _, size, *last = line.split()
        missing = int(size)
        octets = bytearray()
        while missing > 0:
            if (limit := self._hop.drop_in_content_after) is not None and len(self._buffer) >= limit:
                raise _Left
            if self._hop.remember and len(self._buffer) < missing:
                await self._more()
                continue
            if not self._buffer:
                await self._more()
            piece = self._buffer[:missing]
            del self._buffer[: len(piece)]
            missing -= len(piece)
            if self._hop.remember:
                octets += piece
        taken = self._taken
        if taken is None or not taken.recipients:
            await self._answer("BDAT")
            return
        taken.content += octets
        taken.size += int(size)
        taken.chunks.append(int(size))
        if not last:
            await self._answer("BDAT")
            return
        await self._end(taken)


def _attributes(line: bytes) -> dict[str, str]:
    """Of XCLIENT or XFORWARD."""
    pairs = (word.decode().partition("=") for word in line.split()[1:])
    return {name.upper(): value for name, _, value in pairs}


def _path(line: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """The path of MAIL or RCPT, with its brackets, and the parameters (RFC 5321 4.1.2)."""
    found = _PATH.search(line)
    if found is None:
        return line.partition(b":")[2], ()
    return found[0], tuple(line[found.end() :].split())
