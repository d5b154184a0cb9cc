"""What surrounds a worker's work: gateway.server.process under the real supervisor, with a work of the test's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CONFIG = """
plugins = []
[server]
state_directory = "var"
workers = 1
drain_limit = "0.5s"
loop_limit = "2s"
uvloop = {uvloop}
[[listener]]
bind = "127.0.0.1:0"
[[route]]
domains = ["inbox.test"]
servers = ["127.0.0.1:1"]
"""
PROGRAM = """
import asyncio, os, re, sys, time, types
from pathlib import Path
from gateway import ConfigError, ConfigProblem, Plugin
from gateway.config.load import load
from gateway.server import process, starting

class Tickets(Plugin):
    def judge(self):
        {judge}

async def stubborn():
    while True:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            pass

async def serve(runtime):
    plugin = Tickets(name="tickets")
    {begin}
    runtime.name_modules({{"__main__": "tickets"}})
    runtime.ready()
    first = Path("blocked")
    if not first.exists():
        first.touch()
        await asyncio.sleep(0.3)
        plugin.judge()
    await runtime.draining.wait()
    {drain}

worker = types.ModuleType("gateway.server.worker")
worker.main = lambda assignment: process.run_worker(assignment, serve)
sys.modules["gateway.server.worker"] = worker
sys.executable = "/nowhere"  # so this process stays the supervisor: handing over fails, and costs nothing
sys.exit(starting.run(load(Path("config.toml"), environ={{}}), announce=lambda place: print(place.listeners[0], flush=True), hands_over=True))
"""


class Run:
    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self.log = log

    def event(self, name: str, limit: float = 12) -> dict[str, Any]:
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            for line in self.log.read_text().splitlines():
                if line.startswith("{") and (event := json.loads(line))["event"] == name:
                    return dict(event)
            time.sleep(0.05)
        raise AssertionError(f"no {name} within {limit} s\n{self.log.read_text()}")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    @contextmanager
    def running(*, judge: str = "pass", begin: str = "pass", drain: str = "pass", uvloop: bool = True) -> Iterator[Run]:
        (tmp_path / "config.toml").write_text(CONFIG.format(uvloop=str(uvloop).lower()))
        program, log = tmp_path / "program.py", tmp_path / "log"
        program.write_text(PROGRAM.format(judge=judge, begin=begin, drain=drain))
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, str(program)], cwd=tmp_path, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        try:
            yield Run(process, log)
        finally:
            process.kill()
            process.communicate()

    return running


Running = Callable[..., Any]


@pytest.mark.parametrize("uvloop", [True, False])
def test_a_plugin_that_blocks_the_loop_is_named_and_its_worker_replaced(run: Running, uvloop: bool) -> None:
    with run(judge="time.sleep(60)", uvloop=uvloop) as running:
        seen = running.event("loop.blocked")
        assert seen["plugin"] == "tickets"
        assert seen["seconds"] < 2
        assert "judge" in seen["place"]
        ended = running.event("worker.blocked")
        assert ended["plugin"] == "tickets"
        assert running.event("process.ended")["again_in"] == 0
        running.process.terminate()
        assert running.process.wait(10) == 0


def test_a_plugin_that_keeps_the_interpreters_lock_is_named_too(run: Running) -> None:
    with run(judge="re.match('(a+)+$', 'a' * 60 + 'b')") as running:
        ended = running.event("worker.blocked")
        assert ended["plugin"] == "tickets"
        assert "match" in ended["place"]
        running.event("process.ended")


def test_a_worker_that_cannot_use_the_configuration_ends_the_gateway(run: Running) -> None:
    problem = "ConfigProblem(file='c.toml', line=7, key='plugins', found='nonsense', allowed='sense')"
    with run(begin=f"raise ConfigError([{problem}])") as running:
        assert running.process.wait(10) == 2
        assert running.log.read_text().count("c.toml:7: plugins: found nonsense") == 1


def test_a_worker_that_fails_is_started_again_later_and_later(run: Running) -> None:
    with run(begin="raise RuntimeError('no luck')") as running:
        assert "no luck" in running.event("worker.failed")["exception"]
        deadline = time.monotonic() + 10
        while running.log.read_text().count("process.ended") < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        lines = [json.loads(line) for line in running.log.read_text().splitlines()]
        rests = [line["again_in"] for line in lines if line["event"] == "process.ended"]
        assert rests[:4] == [0.1, 0.2, 0.4, 0.8]
        running.process.terminate()
        assert running.process.wait(10) == 0


@pytest.mark.parametrize("uvloop", [True, False])
def test_work_that_does_not_end_is_cancelled_at_the_drain_limit(run: Running, uvloop: bool) -> None:
    drain = "await asyncio.sleep(60)"
    with run(drain=drain, uvloop=uvloop) as running:
        assert running.process.stdout.readline().startswith("127.0.0.1:")
        begin = time.monotonic()
        running.process.terminate()
        assert running.process.wait(10) == 0
        assert 0.4 < time.monotonic() - begin < 8
        running.event("drain.limit")


def test_work_that_cannot_be_cancelled_is_killed(run: Running) -> None:
    with run(drain="await stubborn()") as running:
        running.process.stdout.readline()
        time.sleep(0.5)
        running.process.terminate()
        assert running.process.wait(10) == 0
        running.event("drain.killed")


def test_ctrl_c_reaches_the_whole_group_and_still_drains(run: Running) -> None:
    with run() as running:
        running.process.stdout.readline()
        children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
        for pid in [*map(int, children), running.process.pid]:
            os.kill(pid, signal.SIGINT)
        assert running.process.wait(10) == 0
        assert "process.ended" not in running.log.read_text()
