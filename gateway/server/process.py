"""What a worker process sets up around its work: loop, log, beat, watchdog, drain. The work itself is `worker.serve`."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from gateway.config.load import Loaded
from gateway.config.models import Config
from gateway.errors import ConfigError
from gateway.server import logs
from gateway.server.forked import CLOSING_LIMIT, EXIT_CONFIG
from gateway.server.lag import LoopLag
from gateway.server.lean import keep_buffers, settle
from gateway.server.listeners import listening_sockets
from gateway.server.reserved import Reserved
from gateway.server.slots import Slot, WorkerState
from gateway.server.stacks import answer_with_stack
from gateway.server.watchdog import Watchdog

BEAT = 0.25
SWITCH = 0.0005
"""Seconds after which a thread that runs Python (the journal's, a plugin's) has to let the loop run: Python's own 5 ms are long for a loop."""


@dataclass(kw_only=True)
class Assignment:
    """What the supervisor hands to a worker."""

    loaded: Loaded
    slot: Slot
    reserved: list[Reserved]
    state_directory: Path
    inbox_address: tuple[str, int] | None = None
    """Where the development next hop listens, when a route has `inbox:`."""
    seats: int | None = None
    """File whose octets are the seats of all workers' connections; None: there are no others."""
    stack_file: Path
    modules_file: Path
    channel: socket.socket | None = None
    """To the supervisor."""
    generation: int = 1
    """Number of the configuration."""


@dataclass(kw_only=True)
class Runtime:
    """What `serve` works with."""

    loaded: Loaded
    config: Config
    slot: Slot
    sockets: Mapping[str, socket.socket]
    """Listening sockets by listener name; `serve` closes them when it drains."""
    state_directory: Path
    inbox_address: tuple[str, int] | None
    seats: int | None
    watchdog: Watchdog
    modules_file: Path
    channel: socket.socket | None = None
    generation: int = 1
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by SIGTERM: stop accepting, let transactions end, return."""

    def ready(self) -> None:
        """The listeners accept, and everything that stays for the worker's life is there."""
        settle()
        keep_buffers()
        if not self.draining.is_set():
            self.slot.state = WorkerState.READY

    def name_modules(self, modules: Mapping[str, str]) -> None:
        """Tell the watchdog which module belongs to which plugin."""
        self.watchdog.name_modules(modules, self.modules_file)


Serve = Callable[[Runtime], Awaitable[None]]


def run_worker(assignment: Assignment, serve: Serve) -> int:
    """A worker's life from fork to end; the exit status. 2: the configuration cannot be used, and the reasons are printed."""
    from gateway import metrics  # late: the supervisor has said by then where the files of the metrics are

    config = assignment.loaded.config
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the supervisor decides
    writer = logs.configure(
        config.server, process=f"worker-{assignment.slot.index}", queued=True, dropped=metrics.LOG_DROPPED.inc
    )
    answer_with_stack(assignment.stack_file)
    log = structlog.get_logger()
    sys.setswitchinterval(SWITCH)
    try:
        with asyncio.Runner(loop_factory=_loop_factory(config)) as runner:
            runner.run(_work(assignment, serve))
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201 - to the person who starts the gateway
        return EXIT_CONFIG
    except Exception:  # the border of the process: the reason is logged, the supervisor starts another
        log.exception("worker.failed")
        return 1
    finally:
        metrics.flush()
        writer.stop()
    return 0


def _loop_factory(config: Config) -> Callable[[], asyncio.AbstractEventLoop]:
    if config.server.uvloop:
        with suppress(ImportError):
            import uvloop

            return uvloop.new_event_loop
    return asyncio.new_event_loop


async def _work(assignment: Assignment, serve: Serve) -> None:
    from gateway import metrics

    loop = asyncio.get_running_loop()
    slot = assignment.slot
    config = assignment.loaded.config
    watchdog = Watchdog(slot)
    runtime = Runtime(
        loaded=assignment.loaded,
        config=config,
        slot=slot,
        sockets=listening_sockets(assignment.reserved),
        state_directory=assignment.state_directory,
        inbox_address=assignment.inbox_address,
        seats=assignment.seats,
        watchdog=watchdog,
        modules_file=assignment.modules_file,
        channel=assignment.channel,
        generation=assignment.generation,
    )

    def drain() -> None:
        slot.state = WorkerState.DRAINING
        runtime.draining.set()

    loop.add_signal_handler(signal.SIGTERM, drain)
    beat = loop.create_task(_beat(slot), name="beat")
    lag = LoopLag(loop, metrics.observe_loop_lag)
    lag.start()
    watchdog.start()
    try:
        await _serve_and_drain(serve, runtime, config.server.drain_limit)
    finally:
        watchdog.stop()
        lag.stop()
        beat.cancel()
        for sock in runtime.sockets.values():
            sock.close()


async def _serve_and_drain(serve: Serve, runtime: Runtime, drain_limit: float) -> None:
    loop = asyncio.get_running_loop()
    work = loop.create_task(_awaited(serve(runtime)), name="serve")
    drain = loop.create_task(_awaited(runtime.draining.wait()), name="drain")
    await asyncio.wait({work, drain}, return_when=asyncio.FIRST_COMPLETED)
    if not work.done():
        await asyncio.wait({work}, timeout=drain_limit)
        if not work.done():
            structlog.get_logger().warning("drain.limit", sessions=runtime.slot.sessions)
            work.cancel()
            await asyncio.wait({work}, timeout=CLOSING_LIMIT)
    drain.cancel()
    if work.done() and not work.cancelled():
        work.result()


async def _awaited(work: Awaitable[object]) -> None:
    await work


async def _beat(slot: Slot) -> None:
    from gateway import metrics

    while True:
        slot.beat()
        metrics.flush()
        await asyncio.sleep(BEAT)
