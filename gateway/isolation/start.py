"""How a plugin's process begins: what it is told once, the environment it gets, the limits it sets itself."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

from gateway.discovery import Origin

MEMORY_EXIT = 77
"""The memory limit was met: whatever is left is not to be trusted."""
THREADS_EXIT = 78
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
"""Nothing else: the gateway's own variables may hold secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One use of a plugin, as its process needs to know it."""

    name: str
    origin: Origin
    key: tuple[str | int, ...]
    """Where its settings stand, for messages about them."""
    options: dict[str, Any]
    """As written."""
    memory: int
    """Octets of address space."""
    timeout: float
    """Seconds that each hook has."""
    threads: int = 16
    source: bytes | None = None
    """Of a single file: all processes of a generation run the same."""
    surroundings: dict[str, Any] = field(default_factory=dict)
    """server_name, authserv_id, limits, base_directory, state_directory."""

    def facts(self) -> dict[str, Any]:
        """For the channel."""
        origin = self.origin
        return {
            "name": self.name,
            "origin": {name: getattr(origin, name) for name in ("name", "target", "distribution", "version", "is_file")},
            "key": list(self.key),
            "options": self.options,
            "memory": self.memory,
            "timeout": self.timeout,
            "threads": self.threads,
            "source": None if self.source is None else self.source.decode("latin-1"),
            "surroundings": self.surroundings,
            "parent": os.getpid(),
        }


def environment() -> dict[str, str]:
    """What a process of ours that reads hostile octets is given of the gateway's environment."""
    found = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    found.update({name: value for name, value in os.environ.items() if name.startswith("LC_")})
    return found


def launch(directory: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """A fresh process with one open channel beside its error output: no listening socket, no file of the worker. OSError."""
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", "gateway.isolation.child", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=directory,
            env=environment(),
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, ours
