"""The processes of a gateway: what they are, what each works with and does. Forking them is the supervisor's."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from gateway.server.channel import read_configuration
from gateway.server.directory import RunDirectory
from gateway.server.facts import Facts
from gateway.server.lines import PlainLog
from gateway.server.reserved import Reserved, show_address
from gateway.server.slots import Slot, Slots


class Place(NamedTuple):
    """Where a running gateway is: for the first lines on the terminal."""

    listeners: Sequence[Reserved]
    inbox: tuple[str, int] | None
    admin: str
    state_directory: Path
    state_warning: str
    """Where and why what is written there may not be kept; ``."""
    workers: int


class AdminTask(NamedTuple):
    """What the process of the admin pages works with."""

    listening: socket.socket
    slots: Slots
    supervisor: int
    state_warning: str
    metrics_directory: Path


Admin = Callable[[AdminTask], int]


class Child:
    """A process the supervisor keeps alive."""

    def __init__(self, name: str, work: Callable[[], int], slot: Slot | None = None) -> None:
        self.name = name
        self.work = work
        self.slot = slot
        self.pid = 0
        self.started = 0.0
        self.rest = 0.0
        self.due: float | None = 0.0
        """When to start it; None while it runs."""
        self.beat = 0.0
        self.channel: socket.socket | None = None
        """Its end, while it is forked."""
        self.is_replaced = False
        """It was told to end, so that another one begins."""
        self.silence = 0.0
        """Seconds the supervisor itself has seen no beat: a machine that slept is no blocked loop."""


class Resources:
    """What a gateway holds while it runs: sockets, shared memory, directories."""

    def __init__(
        self, *, facts: Facts, configuration: BinaryIO, slots: Slots, state: Path, state_warning: str, run: RunDirectory
    ) -> None:
        self.facts = facts
        self.configuration = configuration
        """The whole configuration, for those who serve it."""
        self.log = PlainLog(facts, process="supervisor")
        self.slots = slots
        self.state = state
        self.state_warning = state_warning
        self.run = run
        self.reserved: list[Reserved] = []
        self.admin: socket.socket | None = None
        self.inbox: socket.socket | None = None
        self.seats: int | None = None
        """File whose octets are the seats of all workers' connections; None: there is one worker only, which counts them alone."""

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

    def close(self) -> None:
        """All of it: the gateway has ended."""
        for sock in (self.inbox, self.admin):
            if sock is not None:
                sock.close()
        for place in self.reserved:
            place.close()
        if self.seats is not None:
            os.close(self.seats)
        self.configuration.close()
        self.run.remove()

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
            from gateway.server.preload import preload

            loaded = read_configuration(self.configuration)
            preload(loaded.config)  # nothing is left of it to do where several workers have it in common
            from gateway.server import worker
            from gateway.server.process import Assignment

            assignment = Assignment(  # as things are at the fork
                loaded=loaded,
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
            limit = read_configuration(self.configuration).config.limits.message_size
            return serve(listening, self.state / "inbox", size_limit=limit + room)

        return Child(name="inbox", work=work)

    def _admin(self, listening: socket.socket, admin: Admin) -> Child:
        task = AdminTask(
            listening=listening,
            slots=self.slots,
            supervisor=os.getpid(),
            state_warning=self.state_warning,
            metrics_directory=self.run.metrics,
        )

        def work() -> int:
            from gateway.server import logs

            self._close_listeners()
            logs.configure(self.facts, process="admin", queued=False)
            return admin(task)

        return Child(name="admin", work=work)
