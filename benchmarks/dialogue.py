"""A client that sends one message after the other on one session and looks at the clock, each command answered before the next."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import BinaryIO, NamedTuple, Self, cast

from benchmarks.results import share
from benchmarks.ways import Failed, Way

SMALL = b"Subject: small\r\n\r\n" + b"x" * 60 + b"\r\n.\r\n"


class Times(NamedTuple):
    """Milliseconds of one message."""

    message: float
    """From MAIL to the reply for the content."""
    dot: float
    """From the content, written at once, to that reply."""


class Dialogue:
    """`with Dialogue(host, port) as session: session.message(content)`."""

    def __init__(self, host: str, port: int) -> None:
        self._sock = socket.create_connection((host, port), 30)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = cast("BinaryIO", self._sock.makefile("rwb"))
        self._say(b"")
        self._say(b"EHLO mail.source.example\r\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._sock.close()

    def _say(self, octets: bytes) -> None:
        self._stream.write(octets)
        self._stream.flush()
        line = self._stream.readline()
        while line[3:4] == b"-":
            line = self._stream.readline()
        if line[:1] not in {b"2", b"3"}:
            raise Failed(f"{octets[:40]!r} is answered {line!r}")

    def message(self, content: bytes, *, recipient: bytes = b"b@sink.test") -> Times:
        """Content ends with its mark."""
        began = time.perf_counter()
        self._say(b"MAIL FROM:<a@source.example>\r\n")
        self._say(b"RCPT TO:<" + recipient + b">\r\n")
        self._say(b"DATA\r\n")
        at_content = time.perf_counter()
        self._say(content)
        ended = time.perf_counter()
        return Times(1000 * (ended - began), 1000 * (ended - at_content))


def latency(way: Way, content: bytes, count: int) -> dict[str, float]:
    """Of so many messages."""
    with Dialogue(way.host, way.port) as session:
        found = [session.message(content) for _ in range(count)]
    way.drain()
    messages, dots = [one.message for one in found], [one.dot for one in found]
    return {
        "p50": share(messages, 0.5),
        "p99": share(messages, 0.99),
        "dot_p50": share(dots, 0.5),
        "dot_p99": share(dots, 0.99),
    }


def small_while(way: Way, busy: Callable[[], bool]) -> dict[str, float]:
    """Of small messages, one after the other as long as something else is going on. They have a sink of their own, so that what is
    measured is the way, and not how long smtp-sink makes them wait.
    """
    found = []
    with Dialogue(way.host, way.small_port or way.port) as session:
        while busy():
            found.append(session.message(SMALL, recipient=b"b@small.test").message)
            time.sleep(0.002)
    if not found:
        raise Failed("the large messages were through before the first small one")
    return {"messages": len(found), "p50": share(found, 0.5), "p99": share(found, 0.99), "most": max(found)}
