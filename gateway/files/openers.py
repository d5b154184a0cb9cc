"""The processes of a worker that open files: started when first needed, one message at a time each, replaced when they end.

A message that ends its process, or keeps it too long, has that as a finding; no other message notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from gateway.content import Content
from gateway.errors import PluginError
from gateway.files.parts import Wanted
from gateway.files.values import FileBounds, Opened, Unopened
from gateway.files.wire import GoneError, receive, send
from gateway.isolation.facts import share
from gateway.isolation.start import environment

PROCESSES = 2
"""Of a worker."""
MAX_QUEUED = 100
"""Messages waiting for one."""
_START_LIMIT = 30.0
_PATIENCE = 10.0
"""Seconds beside the CPU limit that a process gets, times ten, before it is ended: the host may be busy."""
_ATTEMPTS = 2
_NO_PATH = "/nonexistent"
"""No library finds a program to run there."""


class _Process:
    """One process and its channel."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-P", "-m", "gateway.files.child", str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={**environment(), "PATH": _NO_PATH},
            )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._end = ours
        self.is_new = True

    def begin(self, job: dict[str, Any], file: int) -> None:
        """Hand the job over. GoneError: it has not been begun; TimeoutError."""
        self._end.settimeout(_START_LIMIT)
        send(self._end, job, file)
        if receive(self._end)[0] != {"begun": True}:
            raise GoneError("it says something else")
        self.is_new = False

    def result(self, limit: float) -> Opened:
        """GoneError, TimeoutError."""
        self._end.settimeout(limit)
        value, _ = receive(self._end)
        try:
            return Opened.from_json(value["opened"])
        except (TypeError, ValueError, KeyError) as error:
            raise GoneError(f"it says something else: {error!r}") from error

    def close(self) -> None:
        """End it."""
        self._end.close()
        with contextlib.suppress(OSError):
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)


class Openers:
    """All of a worker."""

    def __init__(self) -> None:
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(PROCESSES, thread_name_prefix="files")
        self._lock = threading.Lock()
        self._all: set[_Process] = set()
        self._queued = 0
        self._is_closed = False

    async def open(self, plugin: str, content: Content, bounds: FileBounds, parts: list[Wanted]) -> Opened:
        """The files. PluginError when too many wait, or no process can be started: that is no matter of the message."""
        if self._queued >= MAX_QUEUED:
            raise PluginError(plugin, f"{MAX_QUEUED} messages wait for the processes that open files")
        self._queued += 1
        try:
            file = await asyncio.to_thread(share, content) if content.fileno() is None else share(content)
            job = asyncio.get_running_loop().run_in_executor(self._threads, self._run, file, parts, bounds)
            return await job
        except OSError as error:
            raise PluginError(plugin, f"files cannot be opened: {error}") from error
        finally:
            self._queued -= 1

    def _run(self, file: int, parts: list[Wanted], bounds: FileBounds) -> Opened:
        """In a thread. OSError when there is no process to be had."""
        job = {"bounds": asdict(bounds), "parts": [one.to_json() for one in parts]}
        try:
            for _ in range(PROCESSES + _ATTEMPTS):
                process = self._take()
                try:
                    process.begin(job, file)
                except (GoneError, TimeoutError):  # it had ended since, or does not begin
                    self._drop(process)
                    continue
                try:
                    opened = process.result(10 * bounds.time + _PATIENCE)
                except GoneError:
                    self._drop(process)
                    return _lost("files-process", "the process that opened its files ended")
                except TimeoutError:
                    self._drop(process)
                    return _lost("files-time", "the process that opened its files did not end")
                self._idle.put(process)
                return opened
            raise OSError("no process begins")
        finally:
            os.close(file)

    def _take(self) -> _Process:
        with contextlib.suppress(queue.Empty):
            return self._idle.get_nowait()
        process = _Process()
        with self._lock:
            self._all.add(process)
            if self._is_closed:
                process.close()
        return process

    def _drop(self, process: _Process) -> None:
        process.close()
        with self._lock:
            self._all.discard(process)

    def close(self) -> None:
        """End them all; waits for none that is at work."""
        with self._lock:
            self._is_closed = True
            for process in self._all:
                process.close()
            self._all.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _lost(word: str, reason: str) -> Opened:
    return Opened(limits_hit=(word,), unopened=(Unopened(word=word, path="", reason=reason),))
