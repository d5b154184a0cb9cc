"""Both ends of a played dialogue: a client's connection and a next hop that does what it is told, line by line. RFC 5321 2.3.8."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self, cast

END_OF_LINE = b"\r\n"
CHUNK = 1 << 16


class Party:
    """One connection, read by lines or octets. Lines end in CRLF and are returned without it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()
        self._arrival = asyncio.Event()
        self.ended = False
        """The other side has closed."""
        self._reading: asyncio.Task[None] | None = None
        self._start()

    def _start(self) -> None:
        self._reading = asyncio.get_running_loop().create_task(self._read(), name="dialogue")

    async def _read(self) -> None:
        with contextlib.suppress(OSError):
            while octets := await self._reader.read(CHUNK):
                self._buffer += octets
                self._arrival.set()
        self.ended = True
        self._arrival.set()

    async def _more(self) -> None:
        self._arrival.clear()
        await self._arrival.wait()

    async def line(self) -> str | None:
        """The next line; None when the connection has ended, a last line without its end included."""
        while (end := self._buffer.find(END_OF_LINE)) == -1:
            if self.ended:
                return None
            await self._more()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line.decode("utf-8", "backslashreplace")

    @property
    def has_line(self) -> bool:
        """A whole line has come."""
        return END_OF_LINE in self._buffer

    async def octets(self, count: int) -> bytes:
        """So many octets, fewer when the connection has ended."""
        while len(self._buffer) < count and not self.ended:
            await self._more()
        octets = bytes(self._buffer[:count])
        del self._buffer[:count]
        return octets

    def unread(self) -> bytes:
        """What arrived and was not read; it is gone afterwards."""
        octets = bytes(self._buffer)
        self._buffer.clear()
        return octets

    def say(self, octets: bytes) -> None:
        """Write, at once."""
        self._writer.write(octets)

    async def drain(self) -> None:
        """Until the transport takes more, and a turn of the loop, so that what was written goes out by itself."""
        await self._writer.drain()
        await asyncio.sleep(0)

    async def start_tls(self, context: ssl.SSLContext, *, after: bytes = b"") -> None:
        """The handshake, on the side that this party is on. `after`: what is said before, with nothing read in between.

        A handshake that fails is the end of the connection.
        """
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        cast("asyncio.Transport", self._writer.transport).pause_reading()
        self._writer.write(after)
        self.ended = False
        try:
            await self._writer.start_tls(context, server_hostname="localhost")
        except OSError:
            self.ended = True
            self._arrival.set()
        else:
            self._start()

    def close(self) -> None:
        """Close; what was written still goes out."""
        self._writer.close()


async def connect(place: int | str) -> Party:
    """A client's connection to a port of 127.0.0.1, or to the path of a UNIX socket."""
    if isinstance(place, str):
        return Party(*await asyncio.open_unix_connection(place))
    return Party(*await asyncio.open_connection("127.0.0.1", place))


class PlayedNextHop:
    """Listens on a free port. With keywords it greets and answers EHLO by itself; everything after that is the dialogue's."""

    def __init__(self, keywords: tuple[str, ...] | None, tls: ssl.SSLContext | None = None) -> None:
        self.keywords = keywords
        self.tls = tls
        """TLS from the first octet."""
        self.connections = 0
        """Accepted so far."""
        self._port = 0
        self._server: asyncio.Server | None = None
        self._links: list[Party] = []
        self._waiting: deque[Party] = deque()
        self._current: Party | None = None
        self._arrived = asyncio.Event()
        self._greetings: set[asyncio.Task[None]] = set()
        self.is_patient = True
        """The dialogue is about one connection until it ends; else about whichever says something."""
        self._greeted: list[Party] = []

    @property
    def address(self) -> str:
        """As a route's `servers` has it."""
        return f"127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def listen(self) -> None:
        """Accept connections, always on the same port."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self._port, ssl=self.tls)
            self._port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Close every connection, accept no more."""
        self.hang_up()
        if self._server is not None:
            self._server.close()
            self._server = None

    def hang_up(self) -> None:
        """Close every connection."""
        for link in self._links:
            link.close()
        self._current = None
        self._waiting.clear()

    async def link(self) -> Party:
        """The connection the dialogue is about: the first one, after its end the next one."""
        while self._current is None:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            self._current = self._waiting.popleft()
        return self._current

    async def line(self) -> str:
        """The next line of the gateway, on the next connection where this one has ended. QUIT is answered by itself."""
        while not self.is_patient:
            for link in self._greeted:
                if link.has_line:
                    self._current = link
                    line = await link.line()
                    if line is not None and line != "QUIT":
                        return line
                    link.say(b"221 2.0.0 Bye\r\n")
                    link.close()
            await asyncio.sleep(0.002)
        while True:
            link = await self.link()
            line = await link.line()
            if line is None or line == "QUIT":
                link.say(b"221 2.0.0 Bye\r\n")
                self.leave()
            else:
                return line

    def leave(self) -> None:
        """Close the connection the dialogue is about; the next one is meant from now on."""
        if self._current is not None:
            self._current.close()
            self._current = None

    def unread(self) -> bytes:
        """What no line of the dialogue has read."""
        return b"".join(link.unread() for link in self._links)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        link = Party(reader, writer)
        self._links.append(link)
        if self.keywords is not None:
            link.say(b"220 next-hop.test ESMTP\r\n")
            await link.line()
            lines = ["next-hop.test", *self.keywords]
            last = len(lines) - 1
            link.say("".join(f"250{' ' if n == last else '-'}{line}\r\n" for n, line in enumerate(lines)).encode())
        self._waiting.append(link)
        self._greeted.append(link)
        self._arrived.set()


def client_tls() -> ssl.SSLContext:
    """A client that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def server_tls(directory: Path) -> ssl.SSLContext:
    """A server with the certificate of `server_certificate`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*server_certificate(directory))
    return context


def server_certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key, as PEM files; made once."""
    if (directory / "key.pem").exists():
        return directory / "certificate.pem", directory / "key.pem"
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form, encryption = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (directory / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))
    return directory / "certificate.pem", directory / "key.pem"
