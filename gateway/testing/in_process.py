"""A gateway inside a test's own loop: listeners on free loopback ports or UNIX sockets, real next hops, real quarantine; the journal is a list.

    async with InProcessGateway(config, directory=tmp_path) as gateway:
        ...                                   # talk to gateway.port(); then gateway.records, gateway.quarantine

Workers, supervisor, probes and pages are left out: `mailgateway run` has its own tests.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from gateway.config.addresses import socket_path
from gateway.config.models import Config
from gateway.context import Resolver
from gateway.delivery import Delivery
from gateway.generation import Generation
from gateway.ledger import Ledger
from gateway.plugin_context import PluginContexts
from gateway.quarantine import Quarantine
from gateway.relay.pool import Relay
from gateway.smtp.arrival import protocols
from gateway.smtp.connections import Connections
from gateway.smtp.site import Door, Site
from gateway.testing.context import MemoryStore
from gateway.testing.dns import FakeResolver
from gateway.trace import Record

END_LIMIT = 5.0
"""Seconds that sessions get to end when the gateway is closed."""


class MemoryJournal:
    """The journal of a test."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.discards: list[Record] = []
        """Records that were waited for before the message was thrown away."""

    def record(self, record: Record) -> None:
        """Keep it."""
        self.records.append(record)

    async def commit(self, record: Record) -> None:
        """Keep it."""
        self.discards.append(record)


class InProcessGateway:
    """One worker's composition without the process. `directory` holds its state; relative paths of the config begin there.

    `resolver`: asked instead of the tables of the config and of `zones`; the caller closes it.
    """

    def __init__(
        self, config: Config, *, directory: Path, zones: dict[str, Any] | None = None, resolver: Resolver | None = None
    ) -> None:
        self.config = config
        self.directory = directory
        self.journal = MemoryJournal()
        self._resolver = resolver or FakeResolver({**config.dns.zones, **(zones or {})})
        self._stack = AsyncExitStack()
        self._doors: dict[str, tuple[Door, asyncio.Server]] = {}
        self._quarantine: Quarantine | None = None

    @property
    def records(self) -> list[Record]:
        """Decision records of the transactions that ended, in order."""
        return self.journal.records

    @property
    def quarantine(self) -> Quarantine:
        """Held messages and kept copies."""
        assert self._quarantine is not None  # used between enter and exit only
        return self._quarantine

    def port(self, listener: str = "") -> int:
        """Port of a listener, of the first without a name; one with `unix:/path` has none."""
        _, server = self._doors[listener or self.config.listener[0].name]
        return int(server.sockets[0].getsockname()[1])

    async def quiet(self) -> None:
        """Until no session is open."""
        async with asyncio.timeout(END_LIMIT):
            while any(door.sessions for door, _ in self._doors.values()):  # noqa: ASYNC110 - a door tells of its end only when it drains
                await asyncio.sleep(0.005)

    async def __aenter__(self) -> Self:
        stack = self._stack
        config, state = self.config, self.directory
        store = MemoryStore(time.time)
        lease, retention = config.quarantine.lease, config.quarantine.retention
        quarantine = self._quarantine = await Quarantine.open(state / "quarantine", retention=retention, lease=lease)
        stack.push_async_callback(quarantine.close)
        ledger = await Ledger.open(state / "ledger.sqlite", store)
        stack.push_async_callback(ledger.close)
        resolver = self._resolver
        relay = Relay(
            config.route,
            config.relay,
            server_name=config.server.name,
            resolver=resolver,
            listens=config.listens,
            directory=state,
        )
        stack.push_async_callback(relay.close)
        contexts = PluginContexts(config, directory=state, resolver=resolver, store=store)
        stack.push_async_callback(contexts.close)
        generation = await Generation.load(config, directory=state, context_factory=contexts)
        journal = self.journal
        site = Site(
            config=config,
            generation=generation.id,
            relay=relay,
            delivery=Delivery(quarantine=quarantine, journal=journal, ledger=ledger, max_classes=config.limits.max_classes),
            journal=cast("Any", journal),
            spool=state / "spool",
            directory=state,
            connections=Connections(config.limits),
        )
        await generation.startup()
        stack.push_async_callback(generation.shutdown)
        for listener in config.listener:
            await self._listen(Door.open(site, listener, generation.chain(listener.name), directory=state))
        return self

    async def _listen(self, door: Door) -> None:
        loop = asyncio.get_running_loop()
        made = protocols(door, loop)
        if path := socket_path(door.config.bind):
            server = await loop.create_unix_server(made, path)
        else:
            server = await loop.create_server(made, "127.0.0.1", 0)
        self._doors[door.config.name] = (door, server)
        self._stack.push_async_callback(_close, door, server)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()


async def _close(door: Door, server: asyncio.Server) -> None:
    server.close()
    async with asyncio.timeout(END_LIMIT):
        await door.drain()
