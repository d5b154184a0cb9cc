"""The supervisor's side of a reload: tried out in a process of its own, prepared by every worker, then swapped by all, or by none.

A worker that comes while a reload is under way, or that cannot follow one that was decided, gets the configuration in force: told to swap,
or replaced. Nothing here waits: `turn` is called by the supervisor's loop.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, BinaryIO

from gateway.server.channel import Channel
from gateway.server.children import Child, Resources
from gateway.server.control import Client, Control
from gateway.server.slots import Counted
from gateway.server.trying import Checked, Trial
from gateway.server.watch import Watch, watched_files

TRIAL_LIMIT = 60.0
PREPARE_LIMIT = 90.0
"""Longer than a plugin may take to start."""
SWAP_LIMIT = 10.0
MAX_NAMED = 10
"""Files that a log line names."""

Fork = Callable[[Callable[[], int]], int]


class Reloading:
    """The reloads of a gateway, one after the other."""

    def __init__(self, resources: Resources, workers: list[Child], *, fork: Fork, routes_changed: Callable[[], None]) -> None:
        self._resources = resources
        self._workers = workers
        self._fork = fork
        self._routes_changed = routes_changed
        self._log = resources.log
        self._channels: dict[str, Channel] = {}
        self._serving: dict[str, dict[str, Any]] = {}
        """What each worker said last of what it serves."""
        self._selector: selectors.BaseSelector | None = None
        self._control: Control | None = None
        self._watch = Watch(resources.facts.watch_files)
        self._plugin_files: list[str] = []
        self._asked: list[Client] = []
        """Who waits for the reload under way."""
        self._next: tuple[str, list[Client]] | None = None
        """Asked for while one is under way."""
        self._why = ""
        self._began = 0.0
        self._trial: Trial | None = None
        self._checked = Checked()
        self._file: BinaryIO | None = None
        """The configuration that is wanted."""
        self._due: float | None = None
        self._awaited: set[str] = set()
        self._ready: set[str] = set()
        self._is_swapping = False
        self._problems: list[str] = []
        self._number = 1
        """Of the last generation that was tried; one that was refused leaves a gap."""
        resources.slots.generation = 1

    # -- the surroundings --------------------------------------------------------------------------------------------

    def open(self, selector: selectors.BaseSelector) -> None:
        """Listen for commands, look at files for the first time. OSError."""
        self._selector = selector
        self._control = Control(self._resources.run.control)
        selector.register(self._control.listening, selectors.EVENT_READ)
        for channel in self._channels.values():
            selector.register(channel.end, selectors.EVENT_READ)
        self._watch.settle(self._files())

    def end_of(self, child: Child) -> socket.socket | None:
        """Our end of the channel to a worker."""
        channel = self._channels.get(child.name)
        return None if channel is None else channel.end

    def attach(self, child: Child, channel: Channel) -> None:
        """A worker was forked."""
        self.detach(child)
        self._channels[child.name] = channel
        if self._selector is not None:
            self._selector.register(channel.end, selectors.EVENT_READ)

    def detach(self, child: Child) -> None:
        """It ended. Where the new generation may be why, nobody gets it."""
        if child.name in self._awaited and not self._is_swapping:
            self._problems.append(f"{child.name} ended while it prepared the new generation: the log says more")
        channel = self._channels.pop(child.name, None)
        self._serving.pop(child.name, None)
        self._awaited.discard(child.name)
        self._ready.discard(child.name)
        if channel is not None:
            self._unregister(channel)
            channel.close()

    def _unregister(self, channel: Channel) -> None:
        if self._selector is not None:
            with suppress(KeyError):  # done already, when it was found to be over
                self._selector.unregister(channel.end)

    def close_here(self) -> None:
        """In a forked process: what is the supervisor's own."""
        for channel in self._channels.values():
            channel.end.close()
        if self._control is not None:
            self._control.close()

    def end(self) -> None:
        """The gateway is about to end."""
        self._next = None
        if self._is_under_way:
            self._refuse(["the gateway ends"])
        if self._trial is not None:
            self._kill_trial()
        if self._control is not None and self._selector is not None:
            self._selector.unregister(self._control.listening)
            self._control.close()
            self._control = None

    # -- one turn ----------------------------------------------------------------------------------------------------

    def ask(self, why: str, clients: Iterable[Client] = ()) -> None:
        """Reload now, or once more after the one that is under way."""
        if self._is_under_way:
            waiting = self._next[1] if self._next is not None else []
            self._next = (why, [*waiting, *clients])
            return
        self._asked, self._why, self._began = list(clients), why, time.monotonic()
        self._problems = []
        self._watch.settle(self._files())
        trial = self._trial = Trial()
        resources = self._resources
        trial.pid = self._fork(lambda: trial.work(resources.configuration, resources.slots.room, resources.facts))
        self._due = self._began + TRIAL_LIMIT

    def turn(self, now: float) -> None:
        """Whatever has happened since the last one."""
        if self._control is None:
            return
        for command, client in self._control.commands():
            if command == "reload":
                self.ask("command", [client])
            else:
                client.answer({"ok": False, "problems": [f"unknown command {command[:50]!r}"]})
        for child in self._workers:
            channel = self._channels.get(child.name)
            if channel is not None:
                for line in channel.heard():
                    self._heard(child, channel, line)
                if channel.is_over:
                    self._unregister(channel)
        if self._trial is not None:
            self._look_at_trial(self._trial, now)
        elif self._is_under_way:
            self._go_on(now)
        elif self._watch.is_due(now) and (names := self._watch.changed(self._files())):
            self._log.info("reload.files_changed", files=names[:MAX_NAMED], more=max(0, len(names) - MAX_NAMED))
            self.ask("changed files")

    @property
    def _is_under_way(self) -> bool:
        return self._due is not None

    def _files(self) -> list[str]:
        return watched_files(self._resources.facts, self._plugin_files)

    def _look_at_trial(self, trial: Trial, now: float) -> None:
        if self._due is not None and now > self._due:
            self._kill_trial()
            self._refuse([f"trying it out took longer than {TRIAL_LIMIT:g} s"])
            return
        pid, status = os.waitpid(trial.pid, os.WNOHANG)
        if not pid:
            return
        code = os.waitstatus_to_exitcode(status)
        self._trial = None
        self._checked = trial.result(f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}")
        trial.close()
        if self._checked.facts is None:
            trial.configuration.close()
            self._refuse(list(self._checked.problems))
            return
        self._number += 1
        self._file = trial.configuration
        self._due = now + PREPARE_LIMIT
        self._ready = set()
        self._awaited = set()
        self._prepare(list(self._serving)[:1])  # should the new generation end a process, it is one

    def _prepare(self, names: list[str]) -> None:
        for name in names:
            self._awaited.add(name)
            self._channels[name].say("prepare", file=self._file, number=self._number)

    def _kill_trial(self) -> None:
        trial, self._trial = self._trial, None
        if trial is not None:
            with suppress(ProcessLookupError):
                os.kill(trial.pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(trial.pid, 0)
            trial.close()
            trial.configuration.close()

    def _heard(self, child: Child, channel: Channel, line: dict[str, Any]) -> None:
        name, number = child.name, int(line["number"])
        is_wanted = self._is_under_way and self._trial is None and number == self._number
        match line["what"]:
            case "prepared" if is_wanted and not self._is_swapping:
                self._awaited.discard(name)
                self._ready.add(name)
            case "prepared" if number == self._resources.slots.generation:  # it came later than the others
                channel.say("commit", number=number, routes=self._resources.slots.table)
            case "prepared":
                channel.say("abort", number=number)
            case "failed" if is_wanted and not self._is_swapping:
                self._problems += [text for text in line["problems"] if text not in self._problems]
                self._awaited.discard(name)
            case "failed" if number == self._resources.slots.generation:
                self._replace(child, line["problems"])
            case "serves":
                self._serves(child, channel, number, line)
            case _:
                return

    def _serves(self, child: Child, channel: Channel, number: int, line: dict[str, Any]) -> None:
        self._serving[child.name] = {"number": number, "generation": line["generation"]}
        self._awaited.discard(child.name)
        if number == self._resources.slots.generation:
            self._plugin_files = list(line["files"])
            self._watch.add(self._files())
        elif not self._is_under_way or self._is_swapping:  # it was forked before the swap
            channel.say("prepare", file=self._resources.configuration, number=self._resources.slots.generation)

    def _replace(self, child: Child, problems: list[str]) -> None:
        """A worker that cannot follow is replaced by a fresh one."""
        self._log.error("reload.worker_replaced", child=child.name, problems=problems)
        if child.pid:
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGTERM)

    def _go_on(self, now: float) -> None:
        is_late = self._due is not None and now > self._due
        if self._is_swapping:
            if not self._awaited or is_late:
                self._finish()
        elif self._problems:
            self._refuse(self._problems)
        elif is_late:
            limit = f"has not answered within {PREPARE_LIMIT:g} s"
            self._refuse([f"{name} {limit}" for name in sorted(self._awaited)])
        elif not self._awaited:
            if others := [name for name in self._serving if name not in self._ready]:
                self._prepare(others)
            else:
                self._swap(now)

    def _swap(self, now: float) -> None:
        """Decided: workers that are forked from here on begin with it."""
        facts, file = self._checked.facts, self._file
        assert facts is not None
        assert file is not None
        resources = self._resources
        before = resources.slots.routes
        resources.configuration.close()
        resources.facts, resources.configuration, self._file = facts, file, None
        resources.slots.generation = self._number
        resources.slots.follow(facts.routes)
        self._watch.interval = facts.watch_files
        self._plugin_files = list(self._checked.files)
        self._watch.add(self._files())
        if resources.slots.routes != before:
            self._routes_changed()
        self._is_swapping, self._due = True, now + SWAP_LIMIT
        self._awaited = set(self._channels)
        for name, channel in self._channels.items():
            if name in self._ready:
                channel.say("commit", number=self._number, routes=resources.slots.table)
            elif name in self._serving:
                channel.say("prepare", file=resources.configuration, number=self._number)

    def _finish(self) -> None:
        checked, slots = self._checked, self._resources.slots
        slots.count(Counted.RELOAD_DONE)
        slots.refusal = ""
        generations = sorted({one["generation"] for one in self._serving.values() if one["number"] == self._number})
        self._log.info(
            "reload.done",
            why=self._why,
            number=self._number,
            generation=", ".join(generations),
            workers=len(self._serving),
            needs_restart=checked.restart,
            seconds=round(time.monotonic() - self._began, 3),
        )
        for warning in checked.warnings:
            self._log.warning("config.warning", warning=warning)
        self._answer({"ok": True, "number": self._number, "restart": checked.restart, "warnings": checked.warnings})

    def _refuse(self, problems: list[str]) -> None:
        self._resources.slots.count(Counted.RELOAD_REFUSED)
        self._resources.slots.refusal = "; ".join(problems)
        self._log.error("reload.refused", why=self._why, problems=problems, generation_number=self._resources.slots.generation)
        if self._trial is None:
            for channel in self._channels.values():
                channel.say("abort", number=self._number)
        self._answer({"ok": False, "number": self._resources.slots.generation, "problems": problems})

    def _answer(self, result: dict[str, Any]) -> None:
        """To everybody who asked; then it is over."""
        workers = {name: self._serving.get(name) for name in (child.name for child in self._workers)}
        for client in self._asked:
            client.answer({**result, "workers": workers, "seconds": round(time.monotonic() - self._began, 3)})
        self._asked, self._due, self._is_swapping = [], None, False
        self._awaited = set()
        if self._file is not None:
            self._file.close()
            self._file = None
        following, self._next = self._next, None
        if following is not None:
            self.ask(*following)
