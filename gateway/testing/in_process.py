"""A gateway inside a test's own loop: listeners on free loopback ports or UNIX sockets, real next hops, real quarantine; the journal is a list.

    async with InProcessGateway(config, directory=tmp_path) as gateway:
        ...                                   # talk to gateway.port(); then gateway.records, gateway.quarantine

`mailgateway talk` and `mailgateway dev` are made of it, with a relay that leads to a scripted next hop (`gateway.testing.rehearsal`).
Workers, supervisor, probes and pages are left out: `mailgateway run` has its own tests.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import structlog

from gateway.config.addresses import socket_path
from gateway.config.models import Config
from gateway.context import Resolver
from gateway.delivery import Copies, Delivery
from gateway.generation import Generation
from gateway.ledger import Ledger
from gateway.plugin_context import PluginContexts
from gateway.plugin_uses import Locate
from gateway.quarantine import Quarantine
from gateway.relay.pool import Relay
from gateway.server.entrances import entrance
from gateway.smtp.connections import Connections
from gateway.smtp.site import Door, Site
from gateway.testing.context import MemoryStore
from gateway.testing.dns import FakeResolver
from gateway.trace import Record

END_LIMIT = 5.0
"""Seconds that sessions get to end when the gateway is closed."""


class MemoryJournal:
    """The journal of a test. `tell` hears of each record as it comes; with `keep` false nothing else happens to it."""

    def __init__(self, tell: Callable[[Record], None] | None = None, *, keep: bool = True) -> None:
        self.records: list[Record] = []
        self.discards: list[Record] = []
        """Records that were waited for before the message was thrown away."""
        self._tell = tell
        self._keep = keep

    def record(self, record: Record) -> None:
        """Keep it."""
        if self._keep:
            self.records.append(record)
        if self._tell is not None:
            self._tell(record)

    async def commit(self, record: Record) -> None:
        """Keep it."""
        if self._keep:
            self.discards.append(record)


class InProcessGateway:
    """One worker's composition without the process. `directory` holds its state; relative paths of the config begin there too, or at `base`.

    `resolver`: asked instead of the tables of the config and of `zones`; the caller closes it. `locate`: file and line of a key, for
    ConfigError. `copies` takes the place of the quarantine, `relay` that of the relay's class, `journal` that of the list of records, and
    `accept` that of the listening sockets: it is called for each listener, and may open none.
    Without `logs_transactions` only warnings are logged.
    """

    def __init__(
        self,
        config: Config,
        *,
        directory: Path,
        zones: dict[str, Any] | None = None,
        resolver: Resolver | None = None,
        base: Path | None = None,
        locate: Locate | None = None,
        copies: Copies | None = None,
        relay: Callable[..., Relay] = Relay,
        journal: MemoryJournal | None = None,
        accept: Callable[[Door], Awaitable[asyncio.Server | None]] | None = None,
        logs_transactions: bool = True,
    ) -> None:
        self.config = config
        self.directory = directory
        self.journal = MemoryJournal() if journal is None else journal
        self._base = directory if base is None else base
        self._locate = locate
        self._copies = copies
        self._make_relay = relay
        self._accept = accept or _accept
        self._logs_transactions = logs_transactions
        self._resolver = resolver or FakeResolver({**config.dns.zones, **(zones or {})})
        self._stack = AsyncExitStack()
        self._doors: dict[str, tuple[Door, asyncio.Server | None]] = {}
        self._quarantine: Quarantine | None = None
        self._generation: Generation | None = None
        self._after: AsyncExitStack | None = None
        self._site: Site | None = None

    @property
    def records(self) -> list[Record]:
        """Decision records of the transactions that ended, in order."""
        if self._site is not None:
            self._site.books.settle()
        return self.journal.records

    @property
    def quarantine(self) -> Quarantine:
        """Held messages and kept copies."""
        assert self._quarantine is not None  # used between enter and exit only
        return self._quarantine

    def port(self, listener: str = "") -> int:
        """Port of a listener, of the first without a name; one with `unix:/path` has none."""
        _, server = self._doors[listener or self.config.listener[0].name]
        assert server is not None  # it listens
        return int(server.sockets[0].getsockname()[1])

    def door(self, listener: str = "") -> Door:
        """A listener, the first without a name, for sessions that come by no socket."""
        return self._doors[listener or self.config.listener[0].name][0]

    def closes_with(self, stack: AsyncExitStack) -> None:
        """When the gateway is closed, this is closed after it."""
        self._after = stack

    @property
    def has_sessions(self) -> bool:
        """A client is connected."""
        return any(door.sessions for door, _ in self._doors.values())

    @property
    def plugin_files(self) -> tuple[str, ...]:
        """Files whose change means other plugins: their source, and what they have read."""
        return self._generation.files if self._generation is not None else ()

    async def quiet(self) -> None:
        """Until no session is open."""
        async with asyncio.timeout(END_LIMIT):
            while self.has_sessions:  # noqa: ASYNC110 - a door tells of its end only when it drains
                await asyncio.sleep(0.005)

    async def __aenter__(self) -> Self:
        try:
            await self._open(self._stack)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _open(self, stack: AsyncExitStack) -> None:
        config, state = self.config, self.directory
        store = MemoryStore(time.time)
        lease, retention = config.quarantine.lease, config.quarantine.retention
        copies = self._copies
        if copies is None:
            copies = self._quarantine = await Quarantine.open(state / "quarantine", retention=retention, lease=lease)
            stack.push_async_callback(self._quarantine.close)
        ledger = await Ledger.open(state / "ledger.sqlite", store)
        stack.push_async_callback(ledger.close)
        resolver = self._resolver
        relay = self._make_relay(
            config.route,
            config.relay,
            server_name=config.server.name,
            resolver=resolver,
            listens=config.listens,
            directory=self._base,
        )
        stack.push_async_callback(relay.close)
        contexts = PluginContexts(config, directory=self._base, resolver=resolver, store=store)
        stack.push_async_callback(contexts.close)
        generation = self._generation = await Generation.load(
            config, locate=self._locate, directory=self._base, context_factory=contexts
        )
        journal = self.journal
        site = self._site = Site(
            config=config,
            generation=generation.id,
            relay=relay,
            delivery=Delivery(quarantine=copies, journal=journal, ledger=ledger, max_classes=config.limits.max_classes),
            journal=cast("Any", journal),
            spool=state / "spool",
            directory=self._base,
            connections=Connections(config.limits),
        )
        if not self._logs_transactions:
            site.log = structlog.get_logger(
                "mailgateway", wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING)
            ).bind()
        stack.callback(site.books.settle)
        stack.callback(generation.forget)
        await generation.startup()
        stack.push_async_callback(generation.shutdown)
        for listener in config.listener:
            door = Door.open(site, listener, generation.chain(listener.name), directory=self._base)
            server = await self._accept(door)
            self._doors[listener.name] = (door, server)
            stack.push_async_callback(_close, door, server)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()
        if self._after is not None:
            await self._after.aclose()


async def _accept(door: Door) -> asyncio.Server:
    """At a free port of loopback, or at the path of a UNIX socket."""
    loop = asyncio.get_running_loop()
    made = entrance(door, loop)
    if path := socket_path(door.config.bind):
        return await loop.create_unix_server(made, path)
    return await loop.create_server(made, "127.0.0.1", 0)


async def _close(door: Door, server: asyncio.Server | None) -> None:
    if server is not None:
        server.close()
    async with asyncio.timeout(END_LIMIT):
        await door.drain()
