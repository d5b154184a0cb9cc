"""The process that opens files: one message at a time, with a limit on its memory and on the CPU of each.

Run as `python -m gateway.files.child DESCRIPTOR`. It ends when its worker closes the channel, and when it has had nothing to do
for a while. What goes wrong in it is a finding of that one message.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from gateway.files.parts import Wanted, given
from gateway.files.values import FileBounds
from gateway.files.walking import Walk
from gateway.files.wire import GoneError, receive, send

IDLE = 300.0
"""Seconds without a message after which it ends."""
_GRACE = 0.3
"""Seconds of CPU after which what did not look at the time is interrupted."""

_NICE = 5
"""Sessions come first."""


class _OverError(BaseException):
    """The time is over. No Exception: a library that passes over everything does not pass over this."""


def _over(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise _OverError


def _disarm() -> None:
    """After this no alarm comes, not even one that has been on its way."""
    while True:
        try:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, signal.SIG_IGN)
        except _OverError:
            continue
        return


def serve(end: socket.socket) -> None:
    """Jobs until the worker is gone."""
    while True:
        end.settimeout(IDLE)
        try:
            job, file = receive(end)
        except TimeoutError:
            return
        end.settimeout(None)
        if file is None:
            return
        send(end, {"begun": True})
        send(end, {"opened": _open(job, file)})


def _open(job: Any, file: int) -> Any:
    bounds = FileBounds(**job["bounds"])
    parts = [Wanted.from_json(one) for one in job["parts"]]
    size = os.fstat(file).st_size
    octets = mmap.mmap(file, 0, access=mmap.ACCESS_READ) if size else b""
    os.close(file)
    _limit_memory(bounds.memory)
    walk = Walk(bounds)
    signal.signal(signal.SIGPROF, _over)
    try:
        signal.setitimer(signal.ITIMER_PROF, bounds.time + _GRACE, 0.05)  # again and again, should one be caught
        walk.run(given(octets, parts))
        _disarm()
    except _OverError:
        _disarm()
        walk.stop("files-time", f"more than {bounds.time:g} s of CPU")
    except MemoryError:
        _disarm()
        walk.stop("files-memory", "more memory than is allowed")
    finally:
        _disarm()
        if isinstance(octets, mmap.mmap):
            with contextlib.suppress(BufferError):
                octets.close()
    return walk.opened().to_json()


def _limit_memory(memory: int) -> None:
    """So much beside what there is now (setrlimit(2), RLIMIT_AS: memory that may be asked for, which is more than is used)."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        now = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * mmap.PAGESIZE
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (now + memory if hard < 0 else min(now + memory, hard), hard))


def main() -> None:
    """Take the channel by its number."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to everybody; the worker decides
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(_NICE)
    with socket.socket(fileno=int(sys.argv[1])) as end, contextlib.suppress(GoneError):
        serve(end)


if __name__ == "__main__":
    main()
