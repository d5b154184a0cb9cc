"""The watchdog: a thread in each worker that says which plugin blocks the loop. It cannot stop it; the supervisor does (design §1.5).

A loop blocked in Python code is seen by this thread, which reads the main thread's stack. Where C code keeps the interpreter's lock (a
regular expression without end) no thread runs: then the supervisor asks by a signal (`stacks`).
"""

from __future__ import annotations

import json
import sys
import threading
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from gateway.plugin import Plugin
from gateway.server.slots import Slot

INTERVAL = 0.25
"""Seconds between two looks at a loop that may be blocked."""
BLOCKED_AFTER = 1.0
_MAX_FRAMES = 100
_PLUGIN_MODULES = ("gateway.plugins.", "mailgateway_site.")


def plugin_in(frame: types.FrameType | None, modules: Mapping[str, str]) -> str:
    """Name of the plugin that the innermost frame of a stack belongs to, or ``. `modules`: module name to plugin name."""
    for _ in range(_MAX_FRAMES):
        if frame is None:
            break
        module = str(frame.f_globals.get("__name__", ""))
        owner: Any = frame.f_locals.get("self")
        if owner is not None and issubclass(type(owner), Plugin):  # not isinstance: that may ask the object itself
            return str(owner.name)
        if name := _named(module, modules):
            return name
        frame = frame.f_back
    return ""


def _named(module: str, modules: Mapping[str, str]) -> str:
    candidate = module
    while candidate:
        if candidate in modules:
            return modules[candidate]
        candidate = candidate.rpartition(".")[0]
    for prefix in _PLUGIN_MODULES:
        if module.startswith(prefix):
            return module.removeprefix(prefix).partition(".")[0]
    return ""


def place_of(frame: types.FrameType | None) -> str:
    """`file:line function` of the innermost frame."""
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}"


class Watchdog:
    """Watches the loop of the thread that made it, by the beat in its slot."""

    def __init__(
        self, slot: Slot, *, blocked_after: float = BLOCKED_AFTER, stack: Callable[[], types.FrameType | None] | None = None
    ) -> None:
        self._slot = slot
        self._blocked_after = blocked_after
        self._modules: dict[str, str] = {}
        self._end = threading.Event()
        watched = threading.get_ident()
        self._stack = stack or (lambda: sys._current_frames().get(watched))  # noqa: SLF001 - the documented way to see another thread
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._log = structlog.get_logger()
        self._named = ""
        self._blocked = False

    def name_modules(self, modules: Mapping[str, str], file: Path | None = None) -> None:
        """Tell which module belongs to which plugin; written to `file` for the supervisor too."""
        self._modules = dict(modules)
        if file is not None:
            found = {getattr(sys.modules.get(module), "__file__", None) or "": name for module, name in modules.items()}
            file.write_text(json.dumps(found), encoding="utf-8")

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(2 * INTERVAL)

    def look(self) -> None:
        """One look at the loop."""
        silence = self._slot.silence
        if silence <= self._blocked_after:
            if self._blocked:
                self._blocked = False
                self._slot.note_blocking("")
                self._log.warning("loop.free", plugin=self._named)
            return
        frame = self._stack()
        name = plugin_in(frame, self._modules)
        if not self._blocked or (name and name != self._named):
            self._named = name
            self._slot.note_blocking(name)
            self._log.warning("loop.blocked", plugin=name, seconds=round(silence, 2), place=place_of(frame))
        self._blocked = True

    def _run(self) -> None:
        while not self._end.wait(self.pause):
            self.look()

    @property
    def pause(self) -> float:
        """Seconds until the next look: a beat was seen, so before then nothing can be told of it. Each look takes the interpreter's
        lock, and where cores are scarce the loop waits until this thread has had one.
        """
        return INTERVAL if self._blocked else max(INTERVAL, self._blocked_after - self._slot.silence)
