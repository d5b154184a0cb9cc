"""Between a worker and the process that opens files: four octets of length, then JSON; beside a job goes the file of the content.

JSON and no pickle: what comes back was made from hostile octets.
"""

from __future__ import annotations

import json
import socket
from typing import Any

MAX_FRAME = 32_000_000
_HEAD = 4


class GoneError(Exception):
    """The other end is gone, or says nothing that can be read."""


def send(end: socket.socket, value: Any, file: int | None = None) -> None:
    """One frame. GoneError."""
    octets = json.dumps(value, ensure_ascii=True).encode()
    try:
        if file is None:
            end.sendall(len(octets).to_bytes(_HEAD, "big") + octets)
        else:
            socket.send_fds(end, [len(octets).to_bytes(_HEAD, "big")], [file])
            end.sendall(octets)
    except TimeoutError as error:
        raise GoneError("it does not listen") from error
    except OSError as error:
        raise GoneError(str(error)) from error


def receive(end: socket.socket) -> tuple[Any, int | None]:
    """One frame, and the file that came with it. GoneError; TimeoutError where the socket has a limit."""
    try:
        head, files, _, _ = socket.recv_fds(end, _HEAD, 1)
        file = files[0] if files else None
        while 0 < len(head) < _HEAD:
            more = end.recv(_HEAD - len(head))
            head = head + more if more else b""
        size = int.from_bytes(head, "big")
        if len(head) < _HEAD or size > MAX_FRAME:
            raise GoneError("it ended" if not head else f"a frame of {size} octets")
        octets = bytearray()
        while len(octets) < size:
            more = end.recv(min(size - len(octets), 1 << 20))
            if not more:
                raise GoneError("it ended")
            octets += more
        return json.loads(octets), file
    except TimeoutError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise GoneError(str(error)) from error
