"""One run of a program: no shell, a process group of its own, bounded output; whatever is left of it when its time is over is killed.

In a thread, by subprocess, which forks without copying the tables of a large worker (vfork); the loops' own ways to start a process hold
the loop up for that long. Its end is seen without being taken (waitid with WNOWAIT), so that until it is, its group has its number.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

LINGER = 0.2
"""Seconds that what a program started may hold its output open after its own end."""
_LOOK = 0.05
"""Seconds between two looks whether it has ended, where the system has no descriptor for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What came of a run."""

    code: int
    """Exit code; negative: the number of the signal that ended it."""
    output: bytes
    errors: bytes
    """The begin of its standard error."""


class Run:
    """Called in a thread, it starts the program and waits for its end; `kill` may come from another one at any time."""

    def __init__(self, command: Sequence[str], *, stdin: int, environment: Mapping[str, str], directory: str, keep: int) -> None:
        """`stdin` is closed here. `keep`: octets of its output, and of its errors, that are kept."""
        self._command = command
        self._stdin = stdin
        self._environment = environment
        self._directory = directory
        self._keep = keep
        self._lock = threading.Lock()
        self._group = 0
        """While its end was not taken."""
        self._has_begun = False
        self._is_killed = False

    def __call__(self) -> Ended:
        """OSError when it cannot be started."""
        with self._lock:
            if self._is_killed:
                raise ProcessLookupError("killed before it began")
            self._has_begun = True
        try:
            process = subprocess.Popen(  # noqa: S603 - what the site wants run
                self._command,
                stdin=self._stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(self._environment),
                cwd=self._directory,
                start_new_session=True,  # its process group has its number
                bufsize=0,
            )
        finally:
            os.close(self._stdin)
        with process:
            with self._lock:
                self._group = process.pid
            self._signal(only_if_killed=True)
            kept = self._read(process)
            with self._lock:
                self._group = 0
            code = process.wait()
        return Ended(code=code, output=bytes(kept[0]), errors=bytes(kept[1]))

    def kill(self) -> None:
        """With all its group. Twice, or too late, is harmless."""
        with self._lock:
            if not self._is_killed and not self._has_begun:
                os.close(self._stdin)
            self._is_killed = True
        self._signal()

    def _signal(self, *, only_if_killed: bool = False) -> None:
        with self._lock, suppress(ProcessLookupError, PermissionError):
            if self._group and (self._is_killed or not only_if_killed):
                os.killpg(self._group, signal.SIGKILL)

    def _read(self, process: subprocess.Popen[bytes]) -> tuple[bytearray, bytearray]:
        """The begin of what it writes, until its end; what is more is dropped, so that it never waits for us."""
        kept = (bytearray(), bytearray())
        ends_at: float | None = None
        with selectors.DefaultSelector() as selector, _watching(process.pid) as end:
            for number, pipe in enumerate((process.stdout, process.stderr)):
                if pipe is not None:
                    selector.register(pipe, selectors.EVENT_READ, number)
            if end is not None:
                selector.register(end, selectors.EVENT_READ)
            left = 2
            while ends_at is None or left:
                for key, _ in selector.select(_LOOK if end is None or ends_at is not None else None):
                    if key.data is None:
                        selector.unregister(key.fileobj)
                        continue
                    octets = os.read(key.fd, 65_536)
                    kept[key.data].extend(octets[: max(0, self._keep - len(kept[key.data]))])
                    if not octets:
                        selector.unregister(key.fileobj)
                        left -= 1
                if ends_at is None:
                    ends_at = time.monotonic() + LINGER if _has_ended(process.pid) else None
                elif time.monotonic() >= ends_at:
                    break
        if left:
            self._signal()
        return kept


class _watching:  # noqa: N801 - a context manager
    """A descriptor that can be read when a process has ended; None where there is no such thing."""

    def __init__(self, process: int) -> None:
        self._file: int | None = None
        with suppress(AttributeError, OSError):
            self._file = os.pidfd_open(process)

    def __enter__(self) -> int | None:
        return self._file

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.close(self._file)


def _has_ended(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
