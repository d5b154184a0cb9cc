"""A worker: one process that serves the listeners. Its composition is here; what surrounds it is in `process`."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog

from gateway.chain import Chain
from gateway.config.checks import state_is_durable
from gateway.config.models import ListenerConfig
from gateway.delivery import Delivery
from gateway.dns import CachingResolver
from gateway.errors import ConfigError, ConfigProblem, StorageError
from gateway.generation import Generation
from gateway.journal import Journal
from gateway.ledger import Ledger
from gateway.plugin_context import PluginContexts
from gateway.quarantine import Quarantine
from gateway.quarantine.retention import collect, expire
from gateway.relay.pool import Relay
from gateway.server.process import Assignment, Runtime, run_worker
from gateway.smtp.arrival import protocols
from gateway.smtp.connections import Connections
from gateway.smtp.site import Door, Site
from gateway.store import SqliteStore

log = structlog.get_logger("mailgateway.worker")

PROBE_EVERY = 5.0
"""Seconds between probes of the next hops."""
RENEWED_EVERY = 2.0
"""Seconds between looks at the files of certificates."""
TIDY_EVERY = 60.0
"""Seconds between sweeps of quarantine and store."""
RENEW_EVERY = 10.0
"""Seconds between renewals of the leases of pending copies."""


def main(assignment: Assignment) -> int:
    """Run a worker to its end; the exit status."""
    return run_worker(assignment, serve)


async def serve(runtime: Runtime) -> None:
    """Open everything, accept until the gateway drains, let transactions end, close everything."""
    async with AsyncExitStack() as stack:
        worker = await Worker.open(runtime, stack)
        await worker.run()


class Worker:
    """The parts of one worker, and its life."""

    def __init__(self, runtime: Runtime, site: Site, quarantine: Quarantine, store: SqliteStore, generation: Generation) -> None:
        self.runtime = runtime
        self.site = site
        self.quarantine = quarantine
        self.store = store
        self.generation = generation
        self.doors: list[Door] = []

    @classmethod
    async def open(cls, runtime: Runtime, stack: AsyncExitStack) -> Worker:
        """Storage, next hops, DNS and the chain; ConfigError when the configuration cannot be carried out."""
        config = runtime.config
        state = runtime.state_directory
        durable, why = state_is_durable(state, config.server.state)
        store = await SqliteStore.open(state / "store.sqlite")
        stack.push_async_callback(store.close)
        quarantine = await Quarantine.open(
            _below(runtime, config.quarantine.path, state / "quarantine"),
            retention=config.quarantine.retention,
            lease=config.quarantine.lease,
        )
        stack.push_async_callback(quarantine.close)
        ledger = await Ledger.open(state / "ledger.sqlite", store)
        stack.push_async_callback(ledger.close)
        journal = await Journal.open(
            _below(runtime, config.journal.path, state / "journal.sqlite"),
            retention=config.journal.retention,
            queue=config.journal.queue,
            reports=config.dmarc_reports,
        )
        stack.push_async_callback(journal.close)
        resolver = CachingResolver(config.dns)
        stack.push_async_callback(resolver.close)
        relay = Relay(
            config.route,
            config.relay,
            server_name=config.server.name,
            inbox_address=runtime.inbox_address,
            resolver=resolver,
            listens=config.listens,
            directory=runtime.loaded.directory,
        )
        stack.push_async_callback(relay.close)
        contexts = PluginContexts(config, directory=runtime.loaded.directory, resolver=resolver, store=store)
        stack.push_async_callback(contexts.close)
        generation = await Generation.load(
            config, locate=runtime.loaded.locate, directory=runtime.loaded.directory, context_factory=contexts
        )
        site = Site(
            config=config,
            generation=generation.id,
            relay=relay,
            delivery=Delivery(quarantine=quarantine, journal=journal, ledger=ledger, max_classes=config.limits.max_classes),
            journal=journal,
            spool=state / "spool",
            directory=runtime.loaded.directory,
            connections=Connections(config.limits, file=runtime.seats, tell=runtime.slot.note_sessions),
            storage_problem="" if durable else why,
        )
        runtime.name_modules(generation.modules)
        await generation.startup()
        stack.push_async_callback(generation.shutdown)
        return cls(runtime, site, quarantine, store, generation)

    async def run(self) -> None:
        """Accept, until the drain; then until the last session has ended."""
        loop = asyncio.get_running_loop()
        servers = []
        for listener in self.runtime.config.listener:
            door = _door(self.site, listener, self.generation.chain(listener.name), self.runtime.loaded.directory)
            self.doors.append(door)
            servers.append(await self._accept(loop, door))
        renew_every = min(RENEW_EVERY, self.site.config.quarantine.lease / 3)
        chores = [
            loop.create_task(again_and_again("probe.failed", self._probe, every=PROBE_EVERY, first=0)),
            loop.create_task(again_and_again("tls.watch_failed", self._renew, every=RENEWED_EVERY, first=RENEWED_EVERY)),
            loop.create_task(again_and_again("tidy.failed", self._tidy, every=TIDY_EVERY, first=TIDY_EVERY)),
            loop.create_task(
                again_and_again("quarantine.renew_failed", self.quarantine.renew, every=renew_every, first=renew_every)
            ),
        ]
        self.runtime.ready()
        try:
            await self.runtime.draining.wait()
            for server in servers:
                server.close()
            for door in self.doors:
                await door.drain()
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)

    async def _accept(self, loop: asyncio.AbstractEventLoop, door: Door) -> asyncio.Server:
        made = protocols(door, loop)
        sock = self.runtime.sockets[door.config.name]
        if sock.family == socket.AF_UNIX:
            # The file is the supervisor's to remove, not the first worker's that ends.
            options: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
            return await loop.create_unix_server(made, sock=sock, backlog=1024, start_serving=True, **options)
        return await loop.create_server(made, sock=sock, backlog=1024, start_serving=True)

    async def _probe(self) -> None:
        """Next hops asked now and then, so that EHLO and readiness are known before a client needs them."""
        slot = self.runtime.slot
        await self.site.relay.probe()
        for route in self.site.config.route:
            relay = self.site.relay
            slot.note_health(route.name, relay.healthy(route.name), relay.resting(route.name))

    async def _renew(self) -> None:
        """Certificates that were renewed serve the connections that come."""
        for door in self.doors:
            if door.tls is None:
                continue
            problem = await asyncio.to_thread(door.tls.refresh)
            if problem:
                log.error("tls.renewal_failed", listener=door.config.name, problem=problem)
            elif problem is not None:
                log.info("tls.renewed", listener=door.config.name)

    async def _tidy(self) -> None:
        await self.quarantine.sweep()
        await expire(self.quarantine, self.site.journal.commit)
        await collect(self.quarantine)
        await self.store.sweep()


async def again_and_again(failed: str, work: Callable[[], Awaitable[object]], *, every: float, first: float) -> None:
    """A chore: `work` after `first` seconds and then with `every` seconds between; a round that fails is logged as `failed`, and not the last."""
    await asyncio.sleep(first)
    while True:
        try:
            await work()
        except StorageError as error:
            log.warning(failed, error=str(error))
        except Exception:
            # protects the worker: without its chores leases lapse and health is unknown, until somebody restarts it
            log.exception(failed)
        await asyncio.sleep(every)


def _below(runtime: Runtime, configured: str, default: Path) -> Path:
    return runtime.loaded.directory / configured if configured else default


def _door(site: Site, listener: ListenerConfig, chain: Chain, directory: Path) -> Door:
    try:
        return Door.open(site, listener, chain, directory=directory)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        problem = ConfigProblem(
            file="",
            line=None,
            key=f"listener.{listener.name}.tls",
            found=str(error),
            allowed="a readable PEM certificate and its key",
        )
        raise ConfigError([problem]) from error
