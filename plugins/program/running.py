"""One run of a program: no shell, a process group of its own, bounded output; whatever is left of it when its time is over is killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

LINGER = 0.2
"""Seconds that what a program started may hold its output open after its own end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What came of a run."""

    code: int
    """Exit code; negative: the number of the signal that ended it."""
    output: bytes
    errors: bytes
    """The begin of its standard error."""


@dataclass(slots=True)
class _Watch(asyncio.SubprocessProtocol):
    """Keeps the begin of what it writes; what is more is read and dropped, so that it never waits for us."""

    keep: int
    exited: asyncio.Future[None]
    closed: asyncio.Future[None]
    has_exited: bool = False
    """And was waited for; of the future a wait that is cancelled makes an end too."""
    left: asyncio.SubprocessTransport | None = None
    """It was killed, and nobody waits for it any more."""
    kept: dict[int, bytearray] = field(default_factory=lambda: {1: bytearray(), 2: bytearray()})
    open: set[int] = field(default_factory=lambda: {1, 2})

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Output."""
        kept = self.kept[fd]
        kept += data[: max(0, self.keep - len(kept))]

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002 - the interface
        """Nobody has this end of it any more."""
        self.open.discard(fd)
        if not self.open and not self.closed.done():
            self.closed.set_result(None)

    def process_exited(self) -> None:
        """Ended, and waited for."""
        self.has_exited = True
        if self.left is not None:
            self.left.close()
        if not self.exited.done():
            self.exited.set_result(None)


async def run(command: Sequence[str], *, stdin: int, environment: Mapping[str, str], directory: str, keep: int) -> Ended:
    """Start it, and wait for its end. OSError when it cannot be started. Cancelled, it is killed with all its group."""
    loop = asyncio.get_running_loop()
    watch = _Watch(keep, loop.create_future(), loop.create_future())
    transport, _ = await loop.subprocess_exec(
        lambda: watch,
        *command,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(environment),
        cwd=directory,
        start_new_session=True,  # its process group has its number
    )
    group = transport.get_pid()
    try:
        await watch.exited
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                await watch.closed
    finally:
        # while one of its processes is there, or it was not waited for, no other group has this number
        if not watch.has_exited or watch.open:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        if watch.has_exited:
            transport.close()
        else:  # closing it now would take the end of the process from the loop, which waits for it
            watch.left = transport
            for pipe in (1, 2):
                if (reading := transport.get_pipe_transport(pipe)) is not None:
                    reading.close()
    code = transport.get_returncode()
    return Ended(code=0 if code is None else code, output=bytes(watch.kept[1]), errors=bytes(watch.kept[2]))
