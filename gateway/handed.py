"""A message on its way to a process of the pool: its octets, or where its spool file can be opened; there it is a message again.

The spool file is opened once more for it, so that nothing is copied, and what the worker does with its own meanwhile is all the same.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.content import Content
from gateway.isolation.facts import share
from gateway.message import Message
from gateway.mime import Bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """What travels."""

    octets: bytes = b""
    path: str = ""
    """Of a file with the octets, while `hand_over` lasts; then there are none here."""
    bounds: Bounds


@contextmanager
def hand_over(message: Message) -> Iterator[Handed]:
    """What another process on this machine, of the same user, makes the message of; as long as this lasts. OSError."""
    content = message.content
    if content.fileno() is None or sys.platform != "linux":
        yield Handed(octets=bytes(content.octets), bounds=message.bounds)
        return
    file = share(content)
    try:
        yield Handed(path=f"/proc/{os.getpid()}/fd/{file}", bounds=message.bounds)
    finally:
        os.close(file)


@contextmanager
def taken(handed: Handed) -> Iterator[Message]:
    """There: the message, as long as this lasts. OSError when its file is gone."""
    octets: bytes | mmap.mmap = handed.octets
    if handed.path:
        with Path(handed.path).open("rb") as file:
            octets = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    content = Content(octets)
    try:
        yield Message(content, handed.bounds)
    finally:
        content.close()
