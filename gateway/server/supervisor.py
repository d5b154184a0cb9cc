"""The supervisor: forks workers, replaces those that end or block, drains. It has no loop and no threads: it forks.

Nothing here reads a configuration or needs a library: `starting` makes what is supervised, and a supervisor is small (`handing_over`). It also starts the processes beside the workers (the admin pages, the development next hop) and starts them again when they end. When
the supervisor itself is killed the kernel ends all of them.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from gateway import core, light
from gateway.server.channel import Channel
from gateway.server.children import Admin, Child, Place, Resources
from gateway.server.forked import CLOSING_LIMIT, EXIT_CONFIG, end_with_parent
from gateway.server.lean import settle
from gateway.server.reload import Reloading
from gateway.server.signals import ENDING, Signals, Terminal, forget_signals
from gateway.server.slots import Counted, Slot, WorkerState
from gateway.server.stacks import ASK_FOR_STACK, plugin_in_stack

TICK = 0.1
START_LIMIT = 60.0
"""A worker that starts may keep its loop busy for this long."""
FIRST_WORKER_LIMIT = 10.0
"""The others wait for the first one, so that a plugin that cannot be loaded is told once."""
_SHORT_LIFE = 5.0
_FIRST_REST = 0.1
_STACK_WAIT = 0.2


class Supervisor:
    """The processes of one gateway and their life."""

    def __init__(self, resources: Resources, *, admin: Admin | None, announce: Callable[[Place], None]) -> None:
        self._resources = resources
        self._slots = resources.slots
        self._announce = announce
        self._log = resources.log
        self._pid = os.getpid()
        self._ending: float | None = None
        """When the drain ends by force."""
        self._announced = False
        self._status = 0
        self._workers = resources.workers()
        self._beside = resources.beside(admin)
        self._children = [*self._workers, *self._beside]
        self._terminal = Terminal()
        self._reloading = Reloading(resources, self._workers, fork=self._fork_off, routes_changed=self._renew_pages)
        self._first_worker_due = time.monotonic() + FIRST_WORKER_LIMIT

    def run(self) -> int:
        """Start everything and stay until all has ended."""
        if core.STATUS.startswith("unused"):
            self._log.warning("core.unused", why=core.STATUS)
        if self._resources.state_warning:
            self._log.warning("state.ephemeral", why=self._resources.state_warning)
        if self._resources.inbox_address is not None:
            self._resources.run.note_inbox(self._resources.inbox_address)
        settle()
        with selectors.DefaultSelector() as selector, Signals(selector) as signals:
            self._reloading.open(selector)
            self._log.tell_uncaught()
            last = time.monotonic()
            while True:
                selector.select(TICK)
                for number in signals.taken():
                    self._signalled(number)
                now = time.monotonic()
                self._reap(now)
                self._watch(now, min(now - last, 5 * TICK))
                last = now
                self._reloading.turn(now)
                if self._ending is not None and self._drained(now):
                    break
                self._start_due(now)
        self._log.info("gateway.stopped", status=self._status)
        return self._status

    # -- starting ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The first worker, and what is beside the workers: `run` does it too, where it was not done before."""
        self._start_due(time.monotonic())

    def running(self) -> list[tuple[Child, socket.socket | None]]:
        """The children there are, each with our end of its channel."""
        return [(child, self._reloading.end_of(child)) for child in self._children if child.pid]

    def adopt(self, name: str, *, pid: int, started: float, channel: socket.socket | None) -> None:
        """A child that this process has from before."""
        for child in self._children:
            if child.name == name:
                child.pid, child.started, child.due = pid, started, None
                if channel is not None:
                    self._reloading.attach(child, Channel(channel))

    def _start_due(self, now: float) -> None:
        if self._ending is not None:
            return
        first_is_up = self._announced or now > self._first_worker_due
        for child in [*self._beside, self._workers[0], *(self._workers[1:] if first_is_up else [])]:
            if child.due is not None and child.due <= now:
                self._fork(child, now)
        if not self._announced and any(slot.state == WorkerState.READY for slot in self._slots):
            self._announced = True
            self._announce(self._resources.place())
            for place in self._resources.reserved:
                self._log.info("gateway.listening", listener=place.name, address=str(place))

    def _fork(self, child: Child, now: float) -> None:
        slot, ours = child.slot, None
        if slot is not None:
            slot.take(pid=0)
            ours, child.channel = socket.socketpair()

        def work() -> int:
            if slot is not None and ours is not None:
                ours.close()
                slot.take()
            return child.work()

        pid = self._fork_off(work, child.name)
        if ours is not None and child.channel is not None:
            child.channel.close()
            child.channel = None
            self._reloading.attach(child, Channel(ours))
        child.pid, child.started, child.due, child.silence = pid, now, None, 0.0
        self._log.debug("process.started", child=child.name, pid=pid)

    def _fork_off(self, work: Callable[[], int], name: str = "trial") -> int:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                end_with_parent(self._pid)
                forget_signals()
                self._reloading.close_here()
                light.load_all()
                status = work()
                for stream in (sys.stdout, sys.stderr):
                    stream.flush()
            except BaseException as error:  # noqa: BLE001 - the border of the process: nothing of the parent may run in the child
                self._log.exception("process.failed", error, child=name)
            finally:
                os._exit(status)
        return pid

    def _renew_pages(self) -> None:
        """The pages know the routes by name: a process that knows the new ones takes the place of this one."""
        for child in self._beside:
            if child.name == "admin" and child.pid:
                child.is_replaced = True
                with suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGTERM)

    # -- watching ----------------------------------------------------------------------------------------------------

    def _reap(self, now: float) -> None:
        for child in self._children:
            if child.pid:
                with suppress(ChildProcessError):
                    pid, status = os.waitpid(child.pid, os.WNOHANG)
                    if pid:
                        self._child_ended(child, os.waitstatus_to_exitcode(status), now)

    def _child_ended(self, child: Child, code: int, now: float) -> None:
        pid, child.pid = child.pid, 0
        self._reloading.detach(child)
        if child.slot is not None:
            blocking = child.slot.blocking
            child.slot.empty()
            self._resources.run.forget_gauges(pid)
            if code == EXIT_CONFIG and not self._announced:
                self._status = EXIT_CONFIG
                self._end(now, limit=1.0)
        else:
            blocking = ""
        if self._ending is not None:
            return
        if child.is_replaced:
            child.is_replaced, child.due = False, now
            return
        short_life = now - child.started < _SHORT_LIFE
        child.rest = min(max(_FIRST_REST, child.rest * 2), self._resources.facts.restart_rest) if short_life else 0.0
        child.due = now + child.rest
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
        self._log.error("process.ended", child=child.name, pid=pid, how=how, plugin=blocking, again_in=child.rest)
        if child.slot is not None:
            was_blocked = code == -signal.SIGKILL and blocking
            self._slots.count(Counted.BLOCKED if was_blocked else Counted.KILLED if code < 0 else Counted.EXITED)

    def _watch(self, now: float, elapsed: float) -> None:
        limit = self._resources.facts.loop_limit
        for child in self._workers:
            if not child.pid or child.slot is None:
                continue
            beat = child.slot.last_beat
            child.silence = child.silence + elapsed if beat == child.beat else 0.0
            child.beat = beat
            starting = child.slot.state in (WorkerState.STARTING, WorkerState.EMPTY)
            if child.silence > (max(limit, START_LIMIT) if starting else limit):
                self._end_blocked(child, child.slot, now)

    def _end_blocked(self, child: Child, slot: Slot, now: float) -> None:
        plugin, place = slot.blocking, ""
        if not plugin:
            run = self._resources.run
            with suppress(ProcessLookupError):
                os.kill(child.pid, ASK_FOR_STACK)
                time.sleep(_STACK_WAIT)
            plugin, place = plugin_in_stack(run.stack_file(slot.index), run.modules_file(slot.index))
            slot.note_blocking(plugin)
        self._log.error(
            "worker.blocked", child=child.name, pid=child.pid, plugin=plugin, place=place, seconds=round(child.silence, 1)
        )
        child.silence = 0.0
        child.started = min(child.started, now - _SHORT_LIFE)  # replaced at once: its port waits
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)

    # -- ending ------------------------------------------------------------------------------------------------------

    def _signalled(self, number: int) -> None:
        if number not in ENDING:
            return
        now = time.monotonic()
        if number == signal.SIGHUP and self._ending is None and not self._terminal.is_lost:
            self._reloading.ask("SIGHUP")
        elif self._ending is not None and number != signal.SIGHUP:
            self._ending = now  # asked twice: at once
        elif self._ending is None:
            self._log.info("gateway.draining", signal=signal.Signals(number).name, limit=self._resources.facts.drain_limit)
            self._end(now, limit=self._resources.facts.drain_limit + CLOSING_LIMIT + 1.0)

    def _end(self, now: float, *, limit: float) -> None:
        self._slots.drain()  # not ready first, then the listeners close
        self._reloading.end()
        self._ending = now + limit
        for place in self._resources.reserved:
            place.close()
        for child in self._workers:
            if child.pid:
                with suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGTERM)

    def _drained(self, now: float) -> bool:
        assert self._ending is not None
        alive = [child for child in self._workers if child.pid]
        if alive and now < self._ending:
            return False
        for child in [*alive, *self._beside]:
            if child.pid:
                with suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)
        if alive:
            self._log.warning("drain.killed", workers=len(alive))
        return True
