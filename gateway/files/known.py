"""What is known already of a message's files, where somebody has asked for them. Nothing is opened here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gateway.files.values import Opened
from gateway.message import Message

_MOST_TOLD = 20
_PATH = 200


@dataclass(slots=True)
class Shared:
    """Of one message, in `message.shared`: the answer, or the task that computes it."""

    opened: Opened | None = None
    task: asyncio.Task[Opened] | None = None


def known_files(message: Message) -> Opened | None:
    """What was found, or None."""
    shared: Shared | None = message.shared.get(Shared)
    return None if shared is None else shared.opened


def known_limits(message: Message) -> tuple[str, ...]:
    """What was too much, each with its path: `files-ratio (invoice.zip/a.exe)`."""
    opened = known_files(message)
    if opened is None:
        return ()
    told = dict.fromkeys((f"{one.word} ({one.path[:_PATH]})" if one.path else one.word) for one in opened.unopened)
    return tuple(told)[:_MOST_TOLD]
