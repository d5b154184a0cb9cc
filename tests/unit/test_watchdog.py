"""The watchdog names the plugin that blocks the loop: gateway.server.watchdog."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway import Plugin
from gateway.server.slots import Slots
from gateway.server.stacks import plugin_in_stack
from gateway.server.watchdog import INTERVAL, Watchdog, place_of, plugin_in


class Blocking(Plugin):
    def judge(self, done: Callable[[], types.FrameType | None]) -> types.FrameType | None:
        return _library(done)


def _library(done: Callable[[], types.FrameType | None]) -> types.FrameType | None:
    return done()


def _here() -> types.FrameType | None:
    return sys._getframe()


def _in_module(name: str) -> types.FrameType:
    scope: dict[str, Any] = {"__name__": name, "call": _here}
    exec("def hook():\n    frame = call()\n    return frame\n", scope)
    return scope["hook"]()  # type: ignore[no-any-return]


def test_the_plugin_is_the_self_of_the_innermost_plugin_frame() -> None:
    frame = Blocking(name="tickets_strict").judge(_here)
    assert plugin_in(frame, {}) == "tickets_strict"
    assert "_here" in place_of(frame)


@pytest.mark.parametrize(
    ("module", "modules", "name"),
    [
        ("gateway.plugins.dkim.guard", {}, "dkim"),
        ("mailgateway_site.tickets", {}, "tickets"),
        ("acme.mail.inner", {"acme.mail": "acme_tickets"}, "acme_tickets"),
        ("acme.mailing", {"acme.mail": "acme_tickets"}, ""),
        ("gateway.relay.pool", {}, ""),
    ],
)
def test_the_module_tells_the_plugin(module: str, modules: dict[str, str], name: str) -> None:
    assert plugin_in(_in_module(module), modules) == name


def test_no_stack_no_name() -> None:
    assert plugin_in(None, {}) == ""
    assert place_of(None) == ""


class Clock:
    now = 10.0

    def __call__(self) -> float:
        return self.now


def test_one_line_when_blocked_one_when_free() -> None:
    clock = Clock()
    slots = Slots(1, clock=clock)
    slots[0].take(pid=1)
    with capture_logs() as lines:
        dog = Watchdog(slots[0], stack=lambda: _in_module("mailgateway_site.tickets"))
        dog.look()
        assert lines == []
        clock.now += 1.5
        dog.look()
        dog.look()
        assert slots[0].blocking == "tickets"
        slots[0].beat()
        dog.look()
        dog.look()
    assert slots[0].blocking == ""
    assert [(line["event"], line["plugin"]) for line in lines] == [("loop.blocked", "tickets"), ("loop.free", "tickets")]
    assert lines[0]["seconds"] == 1.5


def test_the_next_look_is_when_something_may_be_seen() -> None:
    clock = Clock()
    slots = Slots(1, clock=clock)
    slots[0].take(pid=1)
    dog = Watchdog(slots[0], blocked_after=1.0, stack=lambda: None)
    slots[0].beat()
    assert dog.pause == pytest.approx(1.0)
    clock.now += 0.2
    assert dog.pause == pytest.approx(0.8)
    clock.now += 0.79
    assert dog.pause == INTERVAL
    clock.now += 5
    with capture_logs():
        dog.look()
        slots[0].beat()
        assert dog.pause == INTERVAL, "whether it is free"
        dog.look()
    assert dog.pause == pytest.approx(1.0)


def test_the_thread_sees_a_blocked_loop(tmp_path: Path) -> None:
    slots = Slots(1)
    slots[0].take()
    with capture_logs():
        dog = Watchdog(slots[0], blocked_after=0.05)
        dog.name_modules({__name__: "sleeper"}, tmp_path / "modules.json")
        dog.start()
        deadline = time.monotonic() + 5
        while not slots[0].blocking and time.monotonic() < deadline:
            time.sleep(0.05)
        dog.stop()
    assert slots[0].blocking == "sleeper"
    assert not any(thread.name == "watchdog" for thread in threading.enumerate())
    assert json.loads((tmp_path / "modules.json").read_text())[__file__] == "sleeper"


def test_a_loop_in_c_code_is_named_by_the_stack_file(tmp_path: Path) -> None:
    """A regular expression without end keeps the interpreter's lock: only the signal gets a stack."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "endless.py").write_text("import re\ndef judge():\n    re.match('(a+)+$', 'a' * 60 + 'b')\n")
    stack = tmp_path / "stack"
    code = (
        "import sys, pathlib; from gateway.server.stacks import answer_with_stack;"
        f"answer_with_stack(pathlib.Path({str(stack)!r})); sys.path.insert(0, {str(plugins)!r}); import endless;"
        "print('go', flush=True); endless.judge()"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"go\n"
        time.sleep(0.3)
        os.kill(child.pid, signal.SIGUSR2)
        deadline = time.monotonic() + 5
        while not stack.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.05)
        plugin, place = plugin_in_stack(stack, tmp_path / "none.json")
        assert plugin == "endless"
        assert re.search(r"re\S*py:\d+ match", place)
        named = tmp_path / "modules.json"
        named.write_text(json.dumps({str(plugins / "endless.py"): "endless_strict"}))
        assert plugin_in_stack(stack, named)[0] == "endless_strict"
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def test_a_stack_that_is_not_there(tmp_path: Path) -> None:
    assert plugin_in_stack(tmp_path / "none", tmp_path / "none.json") == ("", "")
    (tmp_path / "empty").write_text("")
    (tmp_path / "bad.json").write_text("{")
    assert plugin_in_stack(tmp_path / "empty", tmp_path / "bad.json") == ("", "")
