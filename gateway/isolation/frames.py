"""Frames on the channel: four octets of length, then JSON; files beside them. Bounded both ways."""

from __future__ import annotations

import os
import socket
from typing import Any

from gateway.isolation.codec import GarbageError, dumps, loads

MAX_FRAME = 8_000_000
_HEAD = 4
_READ = 262_144
_MOST_FILES = 16


class Frames:
    """One end of a channel, that does not wait. Give `received` what `receive` reads; `unsent` is what the socket has not taken yet."""

    def __init__(self, end: socket.socket, *, takes_files: bool = False) -> None:
        self.end = end
        end.setblocking(False)
        self._takes_files = takes_files
        self._in = bytearray()
        self.files: list[int] = []
        """Files that came, in order, and were not taken."""
        self._out: list[tuple[memoryview, int | None]] = []
        self.is_over = False

    def receive(self) -> list[dict[str, Any]]:
        """The frames that are there. GarbageError; the end of the channel sets `is_over`."""
        try:
            octets, files, _, _ = socket.recv_fds(self.end, _READ, _MOST_FILES)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            octets, files = b"", []
        self.files += files
        if files and not self._takes_files:
            raise GarbageError("files, of which there are none to give")
        if not octets:
            self.is_over = True
        self._in += octets
        found = []
        while len(self._in) >= _HEAD:
            size = int.from_bytes(self._in[:_HEAD], "big")
            if size > MAX_FRAME:
                raise GarbageError(f"a frame of {size} octets, more than {MAX_FRAME}")
            if len(self._in) < _HEAD + size:
                break
            found.append(loads(bytes(self._in[_HEAD : _HEAD + size])))
            del self._in[: _HEAD + size]
        return found

    def queue(self, message: dict[str, Any], file: int | None = None) -> None:
        """To be sent; the file is closed when it is. GarbageError for a frame that is too large."""
        octets = dumps(message)
        if len(octets) > MAX_FRAME:
            if file is not None:
                os.close(file)
            raise GarbageError(f"facts of {len(octets)} octets, more than {MAX_FRAME}")
        self._out.append((memoryview(len(octets).to_bytes(_HEAD, "big") + octets), file))

    @property
    def waits(self) -> bool:
        """Something was not sent yet."""
        return bool(self._out)

    @property
    def waiting(self) -> int:
        """Frames that were not sent yet."""
        return len(self._out)

    def send(self) -> None:
        """What the socket takes now. OSError when the other end is gone."""
        while self._out:
            view, file = self._out[0]
            try:
                if file is not None:
                    taken = socket.send_fds(self.end, [view], [file])
                    os.close(file)
                else:
                    taken = self.end.send(view)
            except (BlockingIOError, InterruptedError):
                return
            if taken == len(view):
                self._out.pop(0)
            else:
                self._out[0] = (view[taken:], None)

    def close(self) -> None:
        """This end, and files on their way."""
        for _, file in self._out:
            if file is not None:
                os.close(file)
        for file in self.files:
            os.close(file)
        self._out, self.files = [], []
        self.end.close()
