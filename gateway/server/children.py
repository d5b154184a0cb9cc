"""The processes of a gateway: what they are, what each works with and does. Forking them is the supervisor's."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.config.load import Loaded
from gateway.config.models import Config
from gateway.server import logs
from gateway.server.directory import RunDirectory
from gateway.server.listeners import Reserved, show_address
from gateway.server.preload import preload
from gateway.server.process import Assignment
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
    channel: socket.socket | None = None
    """Its end, while it is forked."""
    is_replaced: bool = False
    """It was told to end, so that another one begins."""
    silence: float = 0.0
    """Seconds the supervisor itself has seen no beat: a machine that slept is no blocked loop."""


@dataclass(kw_only=True)
class Resources:
    """What a gateway holds while it runs: sockets, shared memory, directories."""

    loaded: Loaded
    slots: Slots
    state: Path
    state_warning: str
    run: RunDirectory
    reserved: list[Reserved] = field(default_factory=list)
    admin: socket.socket | None = None
    inbox: socket.socket | None = None
    seats: int | None = None
    """File whose octets are the seats of all workers' connections."""

    @property
    def inbox_address(self) -> tuple[str, int] | None:
        """Where the development next hop listens, when a route leads there."""
        return None if self.inbox is None else self.inbox.getsockname()[:2]

    def place(self) -> Place:
        """Where all this is."""
        return Place(
            listeners=self.reserved,
            inbox=self.inbox_address,
            admin="" if self.admin is None else show_address(*self.admin.getsockname()[:2]),
            state_directory=self.state,
            state_warning=self.state_warning,
            workers=len(self.slots),
        )

    def workers(self) -> list[Child]:
        """A child for each slot."""
        return [self._worker(slot) for slot in self.slots]

    def beside(self, admin: Admin | None) -> list[Child]:
        """The development next hop and the admin pages, where they are wanted."""
        found = []
        if self.inbox is not None:
            found.append(self._inbox(self.inbox))
        if admin is not None and self.admin is not None:
            found.append(self._admin(self.admin, admin))
        return found

    def _worker(self, slot: Slot) -> Child:
        def work() -> int:
            preload(self.loaded.config)  # nothing is left of it to do where several workers have it in common
            from gateway.server import worker

            assignment = Assignment(  # as things are at the fork
                loaded=self.loaded,
                slot=slot,
                reserved=self.reserved,
                state_directory=self.state,
                inbox_address=self.inbox_address,
                seats=self.seats,
                stack_file=self.run.stack_file(slot.index),
                modules_file=self.run.modules_file(slot.index),
                channel=child.channel,
                generation=self.slots.generation,
            )

            for sock in (self.admin, self.inbox):
                if sock is not None:
                    sock.close()
            return worker.main(assignment)

        child = Child(name=f"worker-{slot.index}", work=work, slot=slot)
        return child

    def _close_listeners(self) -> None:
        """In a process beside the workers: an inherited UNIX socket would go on listening there."""
        for place in self.reserved:
            place.held.close()

    def _inbox(self, listening: socket.socket) -> Child:
        room = 1_000_000  # for the fields the gateway adds

        def work() -> int:
            from gateway.server.inbox import serve

            self._close_listeners()
            return serve(listening, self.state / "inbox", size_limit=self.loaded.config.limits.message_size + room)

        return Child(name="inbox", work=work)

    def _admin(self, listening: socket.socket, admin: Admin) -> Child:
        task = AdminTask(
            config=self.loaded.config,
            listening=listening,
            slots=self.slots,
            supervisor=os.getpid(),
            state_warning=self.state_warning,
            metrics_directory=self.run.metrics,
        )

        def work() -> int:
            self._close_listeners()
            logs.configure(task.config.server, process="admin", queued=False)
            return admin(task)

        return Child(name="admin", work=work)
