"""What real servers of the tests' own have in common: a port of loopback, a directory, and a start that waits for the greeting."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.free_ports import free_port

START_LIMIT = 10.0
STOP_LIMIT = 10.0


class RealServer(ABC):
    """`with RealX() as server: … server.port …`. It may be stopped and started again at the same address."""

    host = "127.0.0.1"
    start_limit = START_LIMIT
    greeting = b"220 "
    """What it says first when it is there."""

    def __init__(self, name: str, port: int = 0) -> None:
        self.name = name
        self.port = port or free_port()
        self._directory = Path(tempfile.mkdtemp(prefix=f"mailgateway-{name.lower()}-"))
        self._directory.chmod(0o755)  # servers give up root, and their own users look for files in it
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def log(self) -> str:
        """What it logs."""

    @abstractmethod
    def launch(self) -> subprocess.Popen[bytes]:
        """Its first process, in the foreground."""

    def in_own_group(self, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        """A process whose id and group are ours to signal."""
        with (self._directory / "stderr").open("ab") as stderr:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True
            )

    def start(self) -> None:
        """Start it, and return when it greets. TimeoutError with its log when it does not."""
        self._process = self.launch()
        deadline = time.monotonic() + self.start_limit
        while not self._greets():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise TimeoutError(f"{self.name} does not answer\n{self.log()}\n{self._said()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it with all its processes; its mailboxes stay."""
        process, self._process = self._process, None
        if process is not None:
            self.end(process)

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """End the first process, then what is left of its group."""
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_LIMIT)
        self.send_signal(process, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        """Stop it and remove everything."""
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def send_signal(process: subprocess.Popen[bytes], what: signal.Signals) -> None:
        """To the group of a process `in_own_group`."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, what)

    def _greets(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as sock:
            sock.settimeout(5)
            if sock.recv(500).startswith(self.greeting):
                sock.sendall(b"QUIT\r\n")
                return True
        return False

    def _said(self) -> str:
        file = self._directory / "stderr"
        return file.read_text("utf-8", "replace") if file.exists() else ""
