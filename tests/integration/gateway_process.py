"""The real command as a process of the tests' own; the fixture `start` makes it."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-c", "from gateway.cli import main; main()"]
CONFIG = """
{chain}
[server]
state_directory = "{state}"
workers = {workers}
drain_limit = "5s"
loop_limit = "2s"
{server}
[[listener]]
name = "mx"
bind = "127.0.0.1:{smtp}"
{listener}
[[route]]
domains = {domains}
servers = {servers}
[admin]
bind = "127.0.0.1:{admin}"
{more}
"""


@dataclass
class Gateway:
    process: subprocess.Popen[str]
    config: Path
    smtp: int
    admin: int
    log: Path
    out: Path
    state: Path
    ended: list[int] = field(default_factory=list)

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def is_ready(self) -> bool:
        try:
            return self.get("/ready")[0] == 200
        except OSError:
            return False

    def workers_up(self) -> int:
        """Workers that accept and whose loops turn; one that only listens already is not among them."""
        try:
            return int(json.loads(self.get("/ready")[1])["workers_up"])
        except OSError:
            return 0

    def until(self, what: Callable[[], Any], limit: float = 30) -> Any:
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            if found := what():
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"not within {limit} s\n{self.log.read_text()}\n{self.out.read_text()}")

    def events(self, name: str, *, at_least: int = 0) -> list[dict[str, Any]]:
        """What the log says under this name; waits until it is said so often: lines are written a moment after the replies."""
        if at_least:
            self.until(lambda: len(self.events(name)) >= at_least)
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def children(self) -> list[int]:
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def worker_pids(self) -> list[int]:
        """Processes that listen on the SMTP port, by their sockets."""
        wanted = {f"socket:[{inode}]" for inode in listening_inodes(self.smtp)}
        return [pid for pid in self.children() if wanted & open_files(pid)]

    def greeting(self) -> bytes:
        with socket.create_connection(("127.0.0.1", self.smtp), timeout=5) as client:
            return client.recv(200)


def open_files(pid: int) -> set[str]:
    """What a process has open; a file that it closes meanwhile is left out, not the process."""
    found = set()
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.add(str(entry.readlink()))
    return found


def listening_inodes(port: int) -> set[str]:
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].partition(":")[2], 16) == port:
            found.add(fields[9])
    return found


@contextmanager
def running(
    folder: Path,
    *,
    smtp: int,
    admin: int,
    workers: int = 2,
    domains: Sequence[str] = ("inbox.test",),
    servers: Sequence[str] = ("inbox:",),
    chain: str = "plugins = []",
    server: str = "",
    listener: str = "",
    more: str = "",
    environment: Mapping[str, str] | None = None,
    state: Path | None = None,
    ready: bool = True,
) -> Iterator[Gateway]:
    """`mailgateway run` with one listener and one route.

    `chain`: the lines above all tables, `server` and `listener`: lines of these tables, `more`: the tables behind.
    """
    folder.mkdir()
    config = folder / "config.toml"
    state = state or folder / "var"
    lists = {"domains": json.dumps(list(domains)), "servers": json.dumps(list(servers))}
    config.write_text(
        CONFIG.format(
            state=state,
            workers=workers,
            smtp=smtp,
            admin=admin,
            chain=chain,
            server=server,
            listener=listener,
            more=more,
            **lists,
        )
    )
    log, out = folder / "log", folder / "out"
    with log.open("w") as stderr, out.open("w") as stdout:
        process = subprocess.Popen(
            [*COMMAND, "run", "--config", str(config)],
            stdout=stdout,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **(environment or {})},
        )
    gateway = Gateway(process, config, smtp, admin, log, out, state)
    try:
        if ready:
            gateway.until(gateway.is_ready)
        yield gateway
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
