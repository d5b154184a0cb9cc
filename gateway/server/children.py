"""The processes of a gateway as values: a forked child, where the gateway is, what the admin pages work with."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.config.models import Config
from gateway.server.listeners import Reserved
from gateway.server.slots import Slot, Slots


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a running gateway is: for the first lines on the terminal."""

    listeners: Sequence[Reserved]
    inbox: tuple[str, int] | None
    admin: str
    state_directory: Path
    state_warning: str
    """Where and why what is written there may not be kept; ``."""
    workers: int


@dataclass(frozen=True, kw_only=True)
class AdminTask:
    """What the process of the admin pages works with."""

    config: Config
    listening: socket.socket
    slots: Slots
    supervisor: int
    state_warning: str
    metrics_directory: Path


Admin = Callable[[AdminTask], int]


@dataclass(kw_only=True)
class Child:
    """A process the supervisor keeps alive."""

    name: str
    work: Callable[[], int]
    slot: Slot | None = None
    pid: int = 0
    started: float = 0.0
    rest: float = 0.0
    due: float | None = 0.0
    """When to start it; None while it runs."""
    beat: float = 0.0
    silence: float = 0.0
    """Seconds the supervisor itself has seen no beat: a machine that slept is no blocked loop."""
