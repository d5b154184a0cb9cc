"""`context.open_files`: computed once a message, whoever asks. Small files that hold nothing are looked at on the spot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from gateway.content import Content
from gateway.files.known import Shared
from gateway.files.parts import Wanted, given, wanted
from gateway.files.readers import holds_nothing
from gateway.files.values import FileBounds, Opened
from gateway.files.walking import open_all
from gateway.message import Message

INLINE = 64 * 1024
"""Encoded octets of all attachments that are decoded and hashed on the spot, where none of them holds others."""
NOTHING = Opened()
Elsewhere: TypeAlias = Callable[[list[Wanted]], Awaitable[Opened]]


async def open_files(message: Message, bounds: FileBounds, elsewhere: Elsewhere) -> Opened:
    """The files of a message. What `elsewhere` raises is raised, and who asks later begins anew."""
    shared: Shared | None = message.shared.get(Shared)
    if shared is None:
        shared = message.shared[Shared] = Shared()
    if shared.opened is not None:
        return shared.opened
    if shared.task is None:
        parts = wanted(message)
        if not parts:
            shared.opened = NOTHING
            return NOTHING
        if _is_plain(message, parts):
            shared.opened = open_here(message.content, parts, bounds)
            return shared.opened
        # A task of its own: the one who asked first may be cancelled while others wait for it too.
        shared.task = asyncio.get_running_loop().create_task(_compute(shared, parts, elsewhere))
        shared.task.add_done_callback(_seen)
    return await asyncio.shield(shared.task)


def open_here(content: Content, parts: Sequence[Wanted], bounds: FileBounds) -> Opened:
    """In this process: without a limit on what a library allocates."""
    return open_all(given(content.octets, parts), bounds)


def _is_plain(message: Message, parts: Sequence[Wanted]) -> bool:
    if sum(one.end - one.start for one in parts) > INLINE:
        return False
    return all(holds_nothing(one.names, one.content) for one in given(message.octets, parts) if one.is_open)


async def _compute(shared: Shared, parts: list[Wanted], elsewhere: Elsewhere) -> Opened:
    try:
        shared.opened = await elsewhere(parts)
        return shared.opened
    finally:
        shared.task = None


def _seen(task: asyncio.Task[Opened]) -> None:
    """An error is told to those who wait; when nobody waits any more it is nobody's."""
    if not task.cancelled():
        task.exception()
