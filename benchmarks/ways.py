"""Ways from smtp-source to smtp-sink: their processes are started, loaded in interleaved rounds, and what they cost is counted."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
QUEUES = ("incoming", "active", "deferred")

GATEWAY = """
plugins = {plugins}
[server]
name = "bench.example"
state_directory = "{state}"
workers = {workers}
log_level = "warning"
[[listener]]
name = "mx"
bind = "{host}:{port}"
[[route]]
name = "default"
domains = ["sink.test"]
servers = ["127.0.0.1:{sink}"]
{more}
[limits]
unknown_recipients = 100000
[admin]
bind = ""
[dns]
{dns}
"""


@dataclass(frozen=True)
class Load:
    """What smtp-source sends."""

    name: str
    sessions: int
    size: int
    count: int
    kept: bool
    octets: bool = False
    """Report MB/s instead of messages/s."""


@dataclass
class Way:
    """One way to the sink."""

    name: str
    port: int
    process: subprocess.Popen[bytes] | None = None
    daemons: tuple[subprocess.Popen[bytes], ...] = ()
    """What else belongs to it: filters that it asks."""
    host: str = "127.0.0.1"
    queue: Path | None = None
    """Of a mail server that answers before the message has left: directories with files as long as it has not."""
    small_port: int = 0
    """Where small messages go in while large ones arrive, when that is another port."""
    promises: tuple[str, ...] = ()
    """What it writes into a message whose sender it has checked."""
    results: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of all its processes so far."""
        return sum(tree_cpu(one.pid) for one in (self.process, *self.daemons) if one is not None)

    def drain(self) -> None:
        """Wait until nothing is queued."""
        queue = self.queue
        while queue is not None and any(any(files) for one in QUEUES for _, _, files in os.walk(queue / one)):
            time.sleep(0.01)


def program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    if found is None:
        sys.exit(f"{name} is not installed: tests/install-servers installs it (root on Debian)")
    return found


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(port: int, *, host: str = "127.0.0.1", greets: bool = True) -> None:
    deadline = time.monotonic() + 90  # rspamd compiles its patterns first
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((host, port), 1) as sock:
            if not greets or sock.recv(200).startswith(b"220"):
                return
        time.sleep(0.1)
    sys.exit(f"nothing answers on port {port}")


def tree_cpu(pid: int) -> float:
    """CPU seconds of a process and its descendants, those that have ended too."""
    total = 0.0
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
    return total


@contextlib.contextmanager
def running(command: list[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def send(way: Way, load: Load, message: Path | None = None) -> float:
    """Seconds for the load through a way."""
    command = [
        program("smtp-source"),
        "-s",
        str(load.sessions),
        "-m",
        str(load.count),
        "-f",
        "a@source.example",
        "-t",
        "b@sink.test",
        "-M",
        "mail.source.example",
    ]
    command += ["-F", str(message)] if message is not None else ["-l", str(load.size)]
    if load.kept:
        command.append("-d")
    began = time.perf_counter()
    done = subprocess.run([*command, f"{way.host}:{way.port}"], capture_output=True, timeout=300, check=False)
    if done.returncode:
        sys.exit(f"{way.name}: {done.stderr.decode()}")
    way.drain()
    return time.perf_counter() - began


def exchange(stream: BinaryIO, octets: bytes) -> bytes:
    """The last line of the reply to these octets, which has to be a good one."""
    stream.write(octets)
    stream.flush()
    line = stream.readline()
    while line[3:4] == b"-":
        line = stream.readline()
    if line[:1] not in {b"2", b"3"}:
        sys.exit(f"{octets[:40]!r} is answered {line!r}")
    return line


def shares(latencies: list[float]) -> tuple[float, float]:
    """The median and the 99th percentile."""
    ordered = sorted(latencies)
    middle, late = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.99))
    return middle, late


def measure(ways: list[Way], loads: list[Load], rounds: int, message: Path | None = None) -> None:
    for way in ways:  # links are open and EHLO is known before anything is measured
        send(way, Load("", 20, 4096, 200, kept=True))
    for _ in range(rounds):
        for load in loads:
            for way in ways:
                before = way.cpu_seconds
                seconds = send(way, load, message)
                used = way.cpu_seconds - before
                rate = load.count * load.size / 1e6 / seconds if load.octets else load.count / seconds
                way.results.setdefault(load.name, []).append(rate)
                way.cpu.setdefault(load.name, []).append(1000 * used / load.count)


def gateway(
    stack: contextlib.ExitStack,
    folder: Path,
    sink: int,
    *,
    name: str,
    workers: int,
    plugins: str = "[]",
    dns: str = "zones = {}",
    more: str = "",
    host: str = "127.0.0.1",
) -> Way:
    place = folder / name.replace(" ", "-").replace(",", "")
    place.mkdir()
    port = free_port()
    config = place / "config.toml"
    config.write_text(
        GATEWAY.format(
            plugins=plugins, state=place / "var", workers=workers, port=port, sink=sink, dns=dns, more=more, host=host
        ),
        encoding="utf-8",
    )
    command = [str(Path(sys.executable).parent / "mailgateway"), "run", "--config", str(config)]
    process = stack.enter_context(running(command, cwd=place))
    wait_for(port, host=host)
    time.sleep(1)
    return Way(name, port, process, host=host)
