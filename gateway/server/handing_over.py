"""From the process that has started a gateway to one that supervises it: the same process, with the program begun anew (execve(2)).

To read a configuration takes 25 MB of libraries that supervising does not need, and that a process cannot give back. Sockets, shared
memory and the children outlive the program that had them; the rest goes as JSON in a nameless file whose descriptor is in the environment.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from gateway.light import VARIABLE
from gateway.server.channel import nameless_file, read_whole
from gateway.server.children import Admin, Child, Place, Resources
from gateway.server.directory import RunDirectory
from gateway.server.facts import Facts
from gateway.server.reserved import Reserved
from gateway.server.slots import Slots
from gateway.server.supervisor import Supervisor


def hand_over(resources: Resources, children: Iterable[tuple[Child, socket.socket | None]]) -> None:
    """Begin anew. Comes back where that is not to be had: then this process goes on."""
    if resources.slots.file < 0 or not sys.executable:
        return
    descriptors: list[int] = []

    def kept(thing: BinaryIO | socket.socket | int | None) -> int | None:
        if thing is None:
            return None
        descriptors.append(thing if isinstance(thing, int) else thing.fileno())
        return descriptors[-1]

    with nameless_file() as file:
        said = {
            "facts": resources.facts._asdict(),
            "configuration": kept(resources.configuration),
            "slots": [len(resources.slots), kept(resources.slots.file), resources.slots.room],
            "state": str(resources.state),
            "state_warning": resources.state_warning,
            "lock": kept(resources.run.lock),
            "reserved": [
                {"name": one.name, "held": kept(one.held), "address": one.address, "path": one.path, "file": one.file}
                for one in resources.reserved
            ],
            "admin": kept(resources.admin),
            "inbox": kept(resources.inbox),
            "seats": kept(resources.seats),
            "children": [
                {"name": child.name, "pid": child.pid, "started": child.started, "channel": kept(channel)}
                for child, channel in children
            ],
        }
        file.write(json.dumps(said).encode())
        file.flush()
        descriptors.append(file.fileno())
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for one in descriptors:
            os.set_inheritable(one, True)
        with suppress(OSError):  # the interpreter is another one by now, or no file that can be run
            again = [sys.executable, *sys.orig_argv[1:]]
            os.execve(again[0], again, {**os.environ, VARIABLE: str(file.fileno())})  # noqa: S606 - ourselves
        for one in descriptors:
            os.set_inheritable(one, False)


def go_on(descriptor: int, *, admin: Admin | None, announce: Callable[[Place], None]) -> int:
    """The process after it: supervise until the gateway ends; the exit status."""
    with cast("BinaryIO", os.fdopen(descriptor, "rb")) as file:
        said: dict[str, Any] = json.loads(read_whole(file))
    resources = _resources(said)
    try:
        supervisor = Supervisor(resources, admin=None if resources.admin is None else admin, announce=announce)
        for child in said["children"]:
            channel = child["channel"]
            supervisor.adopt(
                child["name"], pid=child["pid"], started=child["started"], channel=None if channel is None else _socket(channel)
            )
        return supervisor.run()
    finally:
        resources.close()


def _own(descriptor: int) -> int:
    """A descriptor as Python has them: programs that are run here do not get it."""
    os.set_inheritable(descriptor, False)
    return descriptor


def _socket(descriptor: int) -> socket.socket:
    return socket.socket(fileno=_own(descriptor))


def _resources(said: dict[str, Any]) -> Resources:
    facts = Facts(**said["facts"])
    workers, file, room = said["slots"]
    state = Path(said["state"])
    resources = Resources(
        facts=facts,
        configuration=cast("BinaryIO", os.fdopen(_own(said["configuration"]), "r+b")),
        slots=Slots(workers, facts.routes, file=_own(file), room=room),
        state=state,
        state_warning=said["state_warning"],
        run=RunDirectory(state, lock=_own(said["lock"])),
    )
    for one in said["reserved"]:
        held = _socket(one["held"])
        address, identity = tuple(one["address"]), tuple(one["file"])
        resources.reserved.append(
            Reserved(name=one["name"], family=held.family, address=address, held=held, path=one["path"], file=identity)
        )
    resources.admin = None if said["admin"] is None else _socket(said["admin"])
    resources.inbox = None if said["inbox"] is None else _socket(said["inbox"])
    resources.seats = None if said["seats"] is None else _own(said["seats"])
    return resources
