"""Peers of a gateway under test: a blocking client that says what it is told, and the scripted next hop in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from typing import Self

from gateway.testing.next_hop import ScriptedNextHop


class Client:
    """One connection, greeted. Replies are returned whole, as octets."""

    def __init__(self, port: int, *, limit: float = 20, sock: socket.socket | None = None) -> None:
        self.sock: socket.socket = sock or socket.create_connection(("127.0.0.1", port), limit)
        self.stream = self.sock.makefile("rb")
        try:
            self.greeting = self.read()
        except BaseException:
            self.close()
            raise

    def read(self) -> bytes:
        """A reply with all its lines; `b""` at the end of the connection."""
        lines = []
        while True:
            line = self.stream.readline()
            lines.append(line)
            if line[3:4] != b"-":
                return b"".join(lines)

    def say(self, octets: bytes) -> bytes:
        """Send, and read one reply."""
        self.sock.sendall(octets)
        return self.read()

    def begin(self, recipient: str = "alice@inbox.test", *, hello: str = "client.test") -> bytes:
        """EHLO, MAIL, RCPT, DATA; the reply to DATA."""
        commands = (f"EHLO {hello}", "MAIL FROM:<a@client.test>", f"RCPT TO:<{recipient}>")
        for command in commands:
            reply = self.say(command.encode() + b"\r\n")
            assert reply.startswith(b"250"), (command, reply)
        return self.say(b"DATA\r\n")

    def start_tls(self) -> None:
        """The handshake; any certificate is taken."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.stream.close()
        self.sock = context.wrap_socket(self.sock, server_hostname="localhost")
        self.stream = self.sock.makefile("rb")

    def close(self) -> None:
        """Close, at once."""
        self.stream.close()
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class NextHopInThread:
    """`with NextHopInThread() as hop: hop.scripted.script("CONTENT", …); hop.scripted.address`."""

    def __init__(self, *, lmtp: bool = False) -> None:
        self.scripted = ScriptedNextHop(lmtp=lmtp)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.scripted.start(), self._loop).result(5)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.scripted.stop(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()
