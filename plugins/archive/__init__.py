"""A copy of each message that goes on, in dated folders or an object store. Shows the order of the promises: `sign`, then `done`.

The copy is written before the message is sent, under a name that says so, and gets its own name when the next hop has taken it. A
message that nobody took leaves none. Whatever dies in between leaves a copy too many, never one too few. `delivering` sends copies to a mailbox.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import time
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field, model_validator

from gateway import (
    Context,
    Duration,
    Fact,
    Label,
    Message,
    Outcome,
    Plugin,
    PluginOptions,
    Size,
    Transaction,
    hook,
)
from gateway.places import object_store, sync_directory
from gateway.plugins.archive.delivering import Delivery

PENDING = ".pending"
Copy = list[tuple[str, bytes]]
"""Names below the archive, with what is in them."""


class Options(PluginOptions):
    """Where copies go, and whether mail waits for them."""

    directory: str = ""
    """A directory: copies are in `YYYY/MM/DD/`, written durably. Relative names start at the directory of the configuration."""
    url: str = ""
    """An object store instead: `s3://bucket/prefix`. Credentials come from the environment, as for every program that talks to it."""
    endpoint: str = ""
    """Address of a server that speaks S3 and is not Amazon's: `https://objects.example.org`."""
    when: Literal["required", "best_effort"] = "required"
    """`required`: a message is not sent before its copy is there, and a copy that cannot be written is a fault, for `on_error` to
    decide (451). `best_effort`: nothing waits; copies that fail are counted and logged."""
    memory: Size = 100_000_000
    """Octets of copies under way at once, in each worker; with `required` more is a fault, with `best_effort` a copy that is missing."""
    copies: int = Field(default=1_000, ge=1)
    """The same as a number."""
    labels: tuple[str, ...] = ()
    """Only messages with one of these labels, which rules put; empty: all."""
    deliver_to: str = ""
    """A mailbox that the copies in `directory` are sent to, each from its own file; there they go when they were taken."""
    server: str = ""
    """The server for that mailbox, `host:port`."""
    tls: Literal["opportunistic", "required", "never"] = "opportunistic"
    """`required`: STARTTLS with a certificate that verifies."""
    every: Duration = Field(default=60.0, ge=1)
    """Seconds between two runs."""

    @model_validator(mode="after")
    def _is_one_place(self) -> Options:
        if bool(self.directory) == bool(self.url):
            raise ValueError("found no place, or two; allowed: directory or url")
        if bool(self.deliver_to) != bool(self.server) or (self.deliver_to and not self.directory):
            raise ValueError(
                "found only a part of deliver_to, server and directory; allowed: all three, or no deliver_to and server"
            )
        if self.deliver_to and not re.fullmatch(r"[!-;=?-~]{1,64}@[!-;=?-~]{1,255}", self.deliver_to):
            raise ValueError(f"found deliver_to {self.deliver_to!r}; allowed: a mailbox in ASCII")
        if self.server and not re.fullmatch(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", self.server):
            raise ValueError(f"found server {self.server!r}; allowed: host:port")
        return self


class Place(Protocol):
    """Where copies are."""

    async def write(self, copy: Copy) -> None:
        """All of it, or an error."""

    async def keep(self, copy: Copy) -> None:
        """The message was taken."""

    async def remove(self, copy: Copy) -> None:
        """Nobody took it."""


class Archive(Plugin[Options]):
    """Copies what goes on, as it goes on."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """OptionError for an object store that cannot be."""
        super().__init__(options, name=name, context=context)
        self._store = object_store(self.options.url, self.options.endpoint) if self.options.url else None
        self._under_way: dict[str, tuple[asyncio.Task[None], Copy]] = {}
        self._octets = 0

    @hook
    async def startup(self, context: Context) -> None:
        """Make the directory. OSError when it cannot be written to."""
        self._place: Place
        if self._store is not None:
            self._place = _Objects(self._store)
        else:
            directory = Path(context.base_directory, self.options.directory)
            await asyncio.to_thread(_probe, directory)
            self._place = _Directory(directory)
            if self.options.deliver_to:
                options = self.options
                delivery = Delivery(directory, to=options.deliver_to, server=options.server, tls=options.tls, context=context)
                context.spawn(delivery.run_always(options.every), name="deliver copies")

    @hook
    async def sign(self, transaction: Transaction, message: Message) -> Fact | None:
        """Write the copy; wait for it where it is required. Its name goes into the record."""
        if self.options.labels and not self._is_wanted(transaction):
            return None
        if len(self._under_way) >= self.options.copies or self._octets + message.size > self.options.memory:
            if self.options.when == "required":
                raise BlockingIOError(f"{len(self._under_way)} copies with {self._octets} octets are under way")
            self._failed(transaction.id, "too many copies are under way")
            return Fact(name="archive.missing", value="too many copies are under way")
        copy = self._copy(transaction, message)
        task = asyncio.get_running_loop().create_task(self._place.write(copy), name="archive")
        self._under_way[transaction.id] = (task, copy)
        self._octets += message.size
        if self.options.when == "required":
            await asyncio.shield(task)
        return Fact(name="archive.copy", value=copy[0][0])

    @hook
    async def done(self, transaction: Transaction, outcome: Outcome) -> None:
        """Keep the copy of a message that was taken; remove that of one that was not."""
        task, copy = self._under_way.pop(transaction.id, (None, []))
        if task is None:
            return
        self._octets -= len(copy[0][1])
        try:
            await task
            taken = any(fate in {"delivered", "held", "vanished"} for _, fate in outcome.fates)  # vanished: perhaps taken
            await (self._place.keep(copy) if taken else self._place.remove(copy))
        except Exception as error:  # noqa: BLE001 - whatever a disk or library raises: the mail has its reply already
            self._failed(transaction.id, f"{type(error).__name__}: {str(error)[:300]}")
        else:
            self.context.metrics.count("copies", outcome="kept" if taken else "removed")

    @hook
    async def shutdown(self) -> None:
        """Wait for what is being written: the names of copies whose `done` did not come stay pending."""
        await asyncio.gather(*(task for task, _ in self._under_way.values()), return_exceptions=True)

    def _is_wanted(self, transaction: Transaction) -> bool:
        return any(one.name in self.options.labels for one in transaction.findings.of(Label))

    def _copy(self, transaction: Transaction, message: Message) -> Copy:
        """The octets, and who they were from and for. The name has nothing in it that a client chose."""
        now = time.gmtime(self.context.clock())
        name = f"{time.strftime('%Y/%m/%d/%H%M%S', now)}-{secrets.token_hex(8)}"
        envelope = {
            "id": transaction.id,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", now),
            "client": transaction.session.client_address,
            "reverse_path": str(transaction.reverse_path),
            "recipients": [str(one.forward_path) for one in transaction.recipients],
        }
        return [(f"{name}.eml", bytes(message.octets)), (f"{name}.json", json.dumps(envelope).encode())]

    def _failed(self, transaction: str, why: str) -> None:
        self.context.metrics.count("copies", outcome="failed")
        self.context.log.warning("archive.failed", id=transaction, error=why)


class _Directory:
    """Files: written under a pending name, in full and to the disk, before they get their own. None is ever overwritten."""

    def __init__(self, top: Path) -> None:
        self._top = top

    async def write(self, copy: Copy) -> None:
        await asyncio.to_thread(self._write, copy)

    async def keep(self, copy: Copy) -> None:
        await asyncio.to_thread(self._keep, copy)

    async def remove(self, copy: Copy) -> None:
        await asyncio.to_thread(self._remove, copy)

    def _write(self, copy: Copy) -> None:
        folder = (self._top / copy[0][0]).parent
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for one in (folder, *folder.parents[:3]):
                sync_directory(one)
        for name, octets in copy:
            descriptor = os.open(self._top / f"{name}{PENDING}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(octets)
                file.flush()
                os.fsync(file.fileno())
        sync_directory(folder)

    def _keep(self, copy: Copy) -> None:
        for name, _ in copy:
            pending = self._top / f"{name}{PENDING}"
            os.link(pending, self._top / name)  # fails where there is one
            pending.unlink()
        sync_directory((self._top / copy[0][0]).parent)

    def _remove(self, copy: Copy) -> None:
        for name, _ in copy:
            (self._top / f"{name}{PENDING}").unlink()


class _Objects:
    """Objects have their own names at once, since no store renames; what nobody took is deleted.

    In threads, although the library has coroutines: those leave something behind that aborts a process which ends right after them.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    async def write(self, copy: Copy) -> None:
        for name, octets in copy:
            await asyncio.to_thread(self._store.put, name, octets, mode="create")

    async def keep(self, copy: Copy) -> None:
        """They are where they belong."""

    async def remove(self, copy: Copy) -> None:
        await asyncio.to_thread(self._store.delete, [name for name, _ in copy])


def _probe(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(f"{directory}: cannot be written to")
