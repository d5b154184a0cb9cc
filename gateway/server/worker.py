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

from gateway.config.load import Loaded
from gateway.config.models import ListenerConfig
from gateway.errors import StorageError
from gateway.journal import Journal
from gateway.ledger import Ledger
from gateway.quarantine import Quarantine
from gateway.quarantine.retention import collect, expire
from gateway.server.entrances import entrance
from gateway.server.preload import preload
from gateway.server.process import Assignment, Runtime, run_worker
from gateway.server.reloads import Reloads
from gateway.server.served import Lasting, Served
from gateway.smtp.connections import Connections
from gateway.store import SqliteStore

log = structlog.get_logger("mailgateway.worker")

PROBE_EVERY = 5.0
"""Seconds between probes of the next hops."""
RENEWED_EVERY = 2.0
"""Seconds between looks at the files of certificates."""
TIDY_EVERY = 60.0
"""Seconds between sweeps of quarantine and store."""
MAX_OLDER = 16
"""Generations that sessions may be left on; past them, those of the oldest end after their transaction."""
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

    def __init__(self, runtime: Runtime, lasting: Lasting, served: Served) -> None:
        self.runtime = runtime
        self.lasting = lasting
        self.served = served
        """What new sessions get."""
        self.older: list[Served] = []
        """What sessions under way began with, the oldest first."""
        self._entrances: dict[str, Callable[[], asyncio.BaseProtocol]] = {}
        self._ends: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, runtime: Runtime, stack: AsyncExitStack) -> Worker:
        """Storage, next hops, DNS and the chain; ConfigError when the configuration cannot be carried out."""
        config = runtime.config
        state = runtime.state_directory
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
        connections = Connections(config.limits, file=runtime.seats, tell=runtime.slot.note_sessions)
        lasting = Lasting(store=store, quarantine=quarantine, ledger=ledger, journal=journal, connections=connections)
        served = await Served.open(runtime, lasting, runtime.loaded, runtime.generation, None)
        worker = cls(runtime, lasting, served)
        stack.push_async_callback(worker.close)
        return worker

    async def close(self) -> None:
        """All generations; their sessions have ended, or are cut."""
        for task in self._ends:
            task.cancel()
        await asyncio.gather(*self._ends, return_exceptions=True)
        for one in [*self.older, self.served]:
            await one.close()

    async def run(self) -> None:
        """Accept, until the drain; then until the last session has ended."""
        loop = asyncio.get_running_loop()
        self._enter_by(self.served)
        servers = [await self._accept(loop, listener) for listener in self.runtime.config.listener]
        renew_every = min(RENEW_EVERY, self.runtime.config.quarantine.lease / 3)
        renew = self.lasting.quarantine.renew
        chores = [
            loop.create_task(again_and_again("probe.failed", self._probe, every=PROBE_EVERY, first=0)),
            loop.create_task(again_and_again("tls.watch_failed", self._renew, every=RENEWED_EVERY, first=RENEWED_EVERY)),
            loop.create_task(again_and_again("tidy.failed", self._tidy, every=TIDY_EVERY, first=TIDY_EVERY)),
            loop.create_task(again_and_again("quarantine.renew_failed", renew, every=renew_every, first=renew_every)),
            loop.create_task(Reloads(self.runtime, self).follow(), name="reloads"),
        ]
        self.runtime.ready()
        try:
            await self.runtime.draining.wait()
            for server in servers:
                server.close()
            await asyncio.gather(*(one.drain() for one in [self.served, *self.older]))
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)

    # -- generations -------------------------------------------------------------------------------------------------

    async def prepare(self, loaded: Loaded, number: int) -> Served:
        """The next generation, ready beside this one. ConfigError, PluginError."""
        await asyncio.to_thread(preload, loaded.config)  # it may be the first with plugins
        return await Served.open(self.runtime, self.lasting, loaded, number, self.served)

    def swap(self, served: Served) -> None:
        """Connections that come from here on are this generation's; those under way stay with theirs."""
        before, self.served = self.served, served
        self._enter_by(served)
        self.lasting.connections.follow(served.loaded.config.limits)
        self.runtime.slot.generation = served.number
        self.older.append(before)
        task = asyncio.get_running_loop().create_task(self._end(before), name=f"generation {before.number}")
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)
        for one in self.older[:-MAX_OLDER]:
            for door in one.doors:
                door.turn_out()

    async def _end(self, served: Served) -> None:
        """Stop a generation's plugins when its last session has ended."""
        await served.vacated()
        self.older.remove(served)
        await served.close()
        log.info("generation.ended", number=served.number, generation=served.generation.id)

    def _enter_by(self, served: Served) -> None:
        loop = asyncio.get_running_loop()
        self._entrances = {door.config.name: entrance(door, loop) for door in served.doors}

    async def _accept(self, loop: asyncio.AbstractEventLoop, listener: ListenerConfig) -> asyncio.Server:
        name = listener.name

        def made() -> asyncio.BaseProtocol:
            return self._entrances[name]()

        sock = self.runtime.sockets[name]
        if sock.family == socket.AF_UNIX:
            # The file is the supervisor's to remove, not the first worker's that ends.
            options: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
            return await loop.create_unix_server(made, sock=sock, backlog=1024, start_serving=True, **options)
        return await loop.create_server(made, sock=sock, backlog=1024, start_serving=True)

    async def _probe(self) -> None:
        """Next hops asked now and then, so that EHLO and readiness are known before a client needs them."""
        slot, relay = self.runtime.slot, self.served.site.relay
        await relay.probe()
        for route in self.served.loaded.config.route:
            if relay is not self.served.site.relay:
                return  # another generation came meanwhile
            slot.note_health(route.name, relay.healthy(route.name), relay.resting(route.name))

    async def _renew(self) -> None:
        """Certificates that were renewed serve the connections that come."""
        for door in [door for one in (self.served, *self.older) for door in one.doors]:
            if door.tls is None:
                continue
            problem = await asyncio.to_thread(door.tls.refresh)
            if problem:
                log.error("tls.renewal_failed", listener=door.config.name, problem=problem)
            elif problem is not None:
                log.info("tls.renewed", listener=door.config.name)

    async def _tidy(self) -> None:
        lasting = self.lasting
        await lasting.quarantine.sweep()
        await expire(lasting.quarantine, lasting.journal.commit)
        await collect(lasting.quarantine)
        await lasting.store.sweep()


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
