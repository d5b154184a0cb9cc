"""A line between two hosts that is slow, cuts octets into small pieces, or breaks: a relay of the suite's own, on loopback."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Self


class BadLine:
    """`with BadLine(port) as line: … line.port …` leads to `port`.

    `piece` octets at a time with `pause` seconds behind each; the connections named by `breaks` (0 is the first) are cut, without a
    word, when so many octets went towards `port`.
    """

    def __init__(self, port: int, *, piece: int = 700, pause: float = 0.002, breaks: dict[int, int] | None = None) -> None:
        self._to = port
        self._piece = piece
        self._pause = pause
        self._breaks = breaks or {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.connections = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for sock in [self._listener, *self._sockets]:
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to), 5)
                self._sockets += [near, far]
                limit = self._breaks.get(self.connections)
                self.connections += 1
                threading.Thread(target=self._carry, args=(near, far, limit), daemon=True).start()
                threading.Thread(target=self._carry, args=(far, near, None), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, limit: int | None) -> None:
        carried = 0
        with contextlib.suppress(OSError):
            while octets := source.recv(self._piece):
                carried += len(octets)
                if limit is not None and carried >= limit:
                    break
                target.sendall(octets)
                time.sleep(self._pause)
        for sock in (source, target):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
