"""What the supervisor and a worker say to each other: lines of JSON over a pair of sockets, a configuration as an open file beside one.

The supervisor says `prepare` (build the new generation and start its plugins), `commit` (new sessions get it) or `abort`; the worker
answers each with the number of the generation. Configurations are pickled: both ends are one program, and the file has no name.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, cast

if TYPE_CHECKING:
    from gateway.config.load import Loaded

MAX_LINE = 100_000
_READ = 65_536
_MOST_FILES = 4


class Channel:
    """One end. Nothing here waits: what is not there yet comes with a later call."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        end.setblocking(False)
        self._read = bytearray()
        self._files: list[int] = []
        self.is_over = False
        """The other end is closed."""

    def say(self, what: str, *, file: BinaryIO | None = None, **facts: object) -> None:
        """A line; lost when the other end is gone, or has read nothing for a very long time."""
        line = json.dumps({"what": what, **facts}).encode() + b"\n"
        with suppress(OSError):
            if file is None:
                self.end.send(line)
            else:
                socket.send_fds(self.end, [line], [file.fileno()])

    def heard(self) -> list[dict[str, Any]]:
        """The lines since the last call."""
        try:
            octets, files, _, _ = socket.recv_fds(self.end, _READ, _MOST_FILES)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            octets, files = b"", []
        self._files += files
        self.is_over = not octets
        self._read += octets
        *lines, rest = bytes(self._read).split(b"\n")
        self._read = bytearray(rest[:MAX_LINE])
        return [json.loads(line) for line in lines if line]

    def take_file(self) -> BinaryIO | None:
        """The file that came with a line; the first that was not taken yet."""
        return cast("BinaryIO", os.fdopen(self._files.pop(0), "rb")) if self._files else None

    def close(self) -> None:
        """This end, and files that nobody took."""
        while self._files:
            os.close(self._files.pop())
        self.end.close()


def nameless_file() -> BinaryIO:
    """A file that no other process can open: what goes into it may be secret."""
    if sys.platform == "linux":
        with suppress(OSError):  # an old kernel
            return os.fdopen(os.memfd_create("mailgateway"), "w+b")
    import tempfile

    return cast("BinaryIO", tempfile.TemporaryFile())


def write_configuration(loaded: Loaded) -> BinaryIO:
    """A nameless file with a configuration."""
    import pickle

    file = nameless_file()
    pickle.dump(loaded, file)
    file.flush()
    return file


def read_configuration(file: BinaryIO) -> Loaded:
    """What `write_configuration` wrote. The place in the file is shared by all who have it: it is not moved."""
    import pickle

    from gateway.config.load import Loaded

    loaded = pickle.loads(read_whole(file))  # noqa: S301 - from a process of this gateway
    assert isinstance(loaded, Loaded)
    return loaded


def read_whole(file: BinaryIO) -> bytes:
    """All of a file, from its beginning."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)
