"""ETRN by a command of the site's: run without a shell, bounded in time and number. RFC 1985 5.3."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from gateway.config.models import EtrnCommand

log = structlog.get_logger("mailgateway.smtp")

NOT_PERMITTED = 77
"""Exit status of sysexits.h: this node may not."""
MAX_AT_ONCE = 4
"""Commands that a worker runs at the same time; a further one is told to come again."""

_under_way: set[str] = set()
"""Domains whose command runs, in this worker."""


class Outcome(Enum):
    """What became of it."""

    STARTED = "started"
    NOT_ALLOWED = "not allowed"
    FAILED = "failed"


async def start_queue(how: EtrnCommand, *, node: str, domain: str) -> Outcome:
    """Run the command for a node. `node` is as the client wrote it, `domain` without `@` or `#`; both are letters, digits, `.-_`."""
    key = domain.lower()
    if key in _under_way or len(_under_way) >= MAX_AT_ONCE:
        return Outcome.FAILED
    _under_way.add(key)
    try:
        status = await _run([part.replace("{domain}", domain).replace("{node}", node) for part in how.command], how.timeout)
    finally:
        _under_way.discard(key)
    if status == 0:
        return Outcome.STARTED
    log.warning("etrn.failed", node=node, status=status)
    return Outcome.NOT_ALLOWED if status == NOT_PERMITTED else Outcome.FAILED


async def _run(command: list[str], limit: float) -> int | str:
    """Exit status, or why there is none."""
    nothing = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=nothing, stdout=nothing, stderr=nothing)
    except OSError as error:
        return f"cannot be run: {error.strerror}"
    try:
        async with asyncio.timeout(limit):
            return await process.wait()
    except TimeoutError:
        return "no end in time"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
