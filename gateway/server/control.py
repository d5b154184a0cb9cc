"""Commands for a running supervisor over a UNIX socket in its own directory: one line in, one line of JSON back.

Who may enter `<state_directory>/run/<pid>` may command it: nobody but its own user, by the directory's and the socket's permissions.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gateway.gateway_error import GatewayError
from gateway.server.directory import CONTROL

MAX_CLIENTS = 16
_MAX_LINE = 200
_MAX_ANSWER = 1_000_000
_LONGEST = 100
"""Octets of a path that fits into a socket's address everywhere."""


class ControlError(GatewayError):
    """No gateway answers: which one was looked for."""


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """The address of a socket; one whose path is too long is reached through its directory."""
    if len(os.fsencode(path)) <= _LONGEST or sys.platform != "linux":
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


class Client:
    """Somebody who asked."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._read = b""
        connection.setblocking(False)

    def line(self) -> str | None:
        """The command once it is whole; `` when there will be none."""
        try:
            octets = self.connection.recv(_MAX_LINE)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return ""
        self._read += octets
        if b"\n" in self._read:
            return self._read.partition(b"\n")[0].decode("ascii", "replace")
        return None if octets and len(self._read) < _MAX_LINE else ""

    def answer(self, result: dict[str, Any]) -> None:
        """Say it and hang up."""
        with suppress(OSError):
            self.connection.settimeout(1.0)
            self.connection.sendall(json.dumps(result).encode() + b"\n")
        self.connection.close()


class Control:
    """The supervisor's end. Nothing here waits longer than a second, for a client that does not read."""

    def __init__(self, path: Path) -> None:
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            with _address(path) as address:
                self.listening.bind(address)
        finally:
            os.umask(before)
        self.listening.listen(MAX_CLIENTS)
        self.listening.setblocking(False)
        self._clients: list[Client] = []

    def commands(self) -> list[tuple[str, Client]]:
        """What was asked since the last call; whoever asked waits for an answer."""
        while len(self._clients) < MAX_CLIENTS:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                break
            self._clients.append(Client(connection))
        found = []
        for client in tuple(self._clients):
            line = client.line()
            if line is not None:
                self._clients.remove(client)
                found.append((line, client))
        return found

    def close(self) -> None:
        """In a forked process, and at the end."""
        for client in self._clients:
            client.connection.close()
        self.listening.close()


def running(state: Path) -> list[tuple[int, Path]]:
    """Process and socket of each supervisor that uses this state directory."""
    try:
        entries = sorted((state / "run").iterdir())
    except OSError:
        return []
    return [
        (int(entry.name), entry / CONTROL)
        for entry in entries
        if entry.name.isdigit() and (entry / CONTROL).is_socket() and Path(f"/proc/{entry.name}").exists()
    ]


def command(path: Path, line: str, *, limit: float) -> dict[str, Any]:
    """Ask and wait for the answer. ControlError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, _address(path) as address:
            connection.settimeout(limit)
            connection.connect(address)
            connection.sendall(f"{line}\n".encode())
            answer = b""
            while not answer.endswith(b"\n") and len(answer) <= _MAX_ANSWER:
                octets = connection.recv(65_536)
                if not octets:
                    break
                answer += octets
        result = json.loads(answer)
    except TimeoutError as error:
        raise ControlError(f"the gateway has not answered within {limit:g} s") from error
    except (OSError, ValueError) as error:
        raise ControlError(f"the gateway does not answer at {path}: {error}") from error
    if not isinstance(result, dict):
        raise ControlError(f"the gateway's answer at {path} cannot be read")
    return result
