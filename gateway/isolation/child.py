"""The process of one plugin: loads it, runs its hooks as a worker would, asks the worker for what only it has. It ends with the worker.

`python -m gateway.isolation.child FD`, started by the worker and by nobody else.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import signal
import socket
import sys
import time
from typing import Any, NoReturn

from gateway.answers import ARGUMENTS
from gateway.errors import ConfigError, OptionError
from gateway.isolation import codec
from gateway.isolation.codec import GarbageError, UnknownValueError, pack
from gateway.isolation.facts import unpack_fact
from gateway.isolation.frames import Frames
from gateway.isolation.loading import Described, describe, load_use
from gateway.isolation.remote import CALL, Bridge, RemoteContext
from gateway.isolation.start import MEMORY_EXIT, THREADS_EXIT
from gateway.mime import Bounds
from gateway.plugin import Plugin
from gateway.registration import new_manager, steps_of
from gateway.runner import Runner
from gateway.steps import Step
from gateway.threads import Circuit, Threads

MAX_LOST = 4
"""Hung threads after which a fresh process is better."""
_PR_SET_PDEATHSIG = 1


def confine(memory: int, parent: int) -> None:
    """End with the worker, however it ends; no core dumps with mail in them; no more memory than allowed."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to everybody; the worker decides
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


class Served:
    """The plugin at work."""

    def __init__(self, bridge: Bridge, plugin: Plugin[Any], start: dict[str, Any]) -> None:
        self._bridge = bridge
        self._threads = Threads(start["threads"])
        self._runner = Runner(self._threads)
        circuit = Circuit(start["threads"])
        made = steps_of(new_manager(), plugin, timeout=start["timeout"], circuit=circuit)
        self._steps: dict[str, Step] = {step.hook: step for step in made}
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._plugin = plugin

    def begin(self, message: dict[str, Any], file: int | None) -> None:
        """A call."""
        number = int(message["call"])
        task = asyncio.get_running_loop().create_task(self._run(number, message, file))
        self._calls[number] = task
        task.add_done_callback(lambda _: self._calls.pop(number, None))

    def cancel(self, number: int) -> None:
        """Nobody waits for it any more."""
        task = self._calls.get(number)
        if task is not None:
            task.cancel()
        self._bridge.say({"cancelled": number})

    async def _run(self, number: int, message: dict[str, Any], file: int | None) -> None:
        CALL.set(number)
        now = time.monotonic()
        self._bridge.clock = (message["now"], now)
        hook = message["hook"]
        step = self._steps[hook]
        if hook == "startup":
            facts: dict[str, Any] = {"context": self._plugin.context}
        else:
            bounds = Bounds(**message["bounds"]) if "bounds" in message else Bounds()
            facts = {name: unpack_fact(one, file, bounds) for name, one in message["facts"].items()}
        arguments = tuple(facts.get(name) for name in ARGUMENTS[hook])
        run = await self._runner.run(step, arguments, asyncio.get_running_loop().time() + message["left"])
        answer: dict[str, Any] = {"done": number, "fault": run.fault, "evidence": run.evidence, "lost": self._threads.lost}
        try:
            answer["values"] = [pack(one) for one in run.values]
        except UnknownValueError as error:
            answer |= {"values": [], "fault": "error", "evidence": f"{hook} answered {error}"}
        is_memory = run.evidence.startswith("MemoryError")
        if is_memory:
            answer["fault"] = "memory"
        self._bridge.say(answer)
        if is_memory or self._threads.lost >= MAX_LOST:
            self.leave(MEMORY_EXIT if is_memory else THREADS_EXIT)

    def leave(self, status: int) -> NoReturn:
        """Say what is still to be said, and end."""
        end = self._bridge.frames.end
        end.setblocking(True)
        end.settimeout(1.0)
        try:
            self._bridge.frames.send()
        finally:
            os._exit(status)


async def serve(frames: Frames, start: dict[str, Any]) -> None:
    """The life of the process behind its start."""
    loop = asyncio.get_running_loop()
    bridge = Bridge(frames)
    context = RemoteContext(bridge, start["surroundings"])
    described, plugin = _load(start, context)
    bridge.say({"hello": described.facts()})
    if plugin is None:
        return
    served = Served(bridge, plugin, start)
    over = loop.create_future()

    def read() -> None:
        for message in frames.receive():
            if "call" in message:
                served.begin(message, frames.files.pop(0) if message.get("file") else None)
            elif "cancel" in message:
                served.cancel(int(message["cancel"]))
            elif "answer" in message:
                bridge.answered(message)
        if frames.is_over and not over.done():
            over.set_result(None)

    loop.add_reader(frames.end, read)
    await over


def _load(start: dict[str, Any], context: RemoteContext) -> tuple[Described, Plugin[Any] | None]:
    try:
        use = load_use(start)
        plugin = use.kind(use.options, name=start["name"], context=context)
        plugin.hook_limit = start["timeout"]
        return describe(plugin), plugin
    except ConfigError as error:
        return Described(problems=[dataclass_facts(one) for one in error.problems]), None
    except OptionError as error:
        key = start["key"]
        return Described(
            problems=[
                {
                    "file": json.dumps([*key, *one.key]),
                    "line": None,
                    "key": "",
                    "found": one.found,
                    "allowed": one.allowed,
                    "hint": "",
                }
                for one in error.mistakes
            ]
        ), None
    except Exception as error:  # noqa: BLE001 - a plugin's constructor may do anything
        found = f"options the plugin {start['name']!r} refuses: {type(error).__name__}: {error}"
        problem = {
            "file": json.dumps(start["key"]),
            "line": None,
            "key": "",
            "found": found[:1000],
            "allowed": "options it can begin with",
        }
        return Described(problems=[{**problem, "hint": ""}]), None


def dataclass_facts(problem: Any) -> dict[str, Any]:
    """A problem, for the channel."""
    return {name: getattr(problem, name) for name in ("file", "line", "key", "found", "allowed", "hint")}


def main() -> int:
    """From the first frame to the end."""
    end = socket.socket(fileno=int(sys.argv[1]))
    frames = Frames(end, takes_files=True)
    end.setblocking(True)
    started: list[dict[str, Any]] = []
    while not started and not frames.is_over:
        started = frames.receive()
    end.setblocking(False)
    if not started:
        return 0
    start = started[0]["start"]
    codec.kept = codec.Kept()
    confine(start["memory"], start["parent"])
    try:
        asyncio.run(serve(frames, start))
    except GarbageError as error:
        print(f"plugin {start['name']}: {error}", file=sys.stderr)  # noqa: T201 - the worker is the only one who writes here
        return 1
    os._exit(0)  # threads may hang


if __name__ == "__main__":
    sys.exit(main())
