"""Ways from smtp-source to smtp-sink: their processes are started and loaded, and what they cost is counted."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.results import WITH_CORE

PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
QUEUES = ("incoming", "active", "deferred")
LONGEST = 180.0
"""Seconds after which a load has failed."""

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
{listener}
[[route]]
name = "default"
domains = ["sink.test"]
servers = ["{scheme}127.0.0.1:{sink}"]
{more}
[limits]
unknown_recipients = 100000
{limits}
[admin]
bind = ""
[dns]
{dns}
"""


class Failed(Exception):  # noqa: N818 - reads as what it is: a way failed
    """A way did not do its work: what was seen."""


@dataclass(frozen=True, slots=True)
class Load:
    """What smtp-source sends."""

    sessions: int
    size: int
    count: int
    kept: bool


@dataclass(slots=True)
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
    pace: float = 1.0
    """Share of a load's messages that it gets: a slow way would take minutes for all of them."""
    state: Path | None = None
    """State directory of a gateway."""

    @property
    def pids(self) -> list[int]:
        """The first process of each of its trees."""
        return [one.pid for one in (self.process, *self.daemons) if one is not None]

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of all its processes so far."""
        return sum(tree_cpu(pid) for pid in self.pids)

    def drain(self) -> None:
        """Wait until nothing is queued."""
        queue, until = self.queue, time.monotonic() + LONGEST
        while queue is not None and any(any(files) for one in QUEUES for _, _, files in os.walk(queue / one)):
            if time.monotonic() > until:
                raise Failed(f"mail is still queued after {LONGEST:g} s")
            time.sleep(0.01)


@dataclass(frozen=True, slots=True)
class Used:
    """What a load took."""

    count: int
    seconds: float
    cpu: float
    """Seconds, of all processes of the way."""
    busiest: float
    """Share of it that its busiest process had."""


def program(name: str) -> str:
    """Where it is; Failed where it is not installed."""
    found = shutil.which(name, path=PATH)
    if found is None:
        raise Failed(f"{name} is not installed (benchmarks/install-peers, tests/install-servers: root on Debian)")
    return found


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(port: int, *, host: str = "127.0.0.1", greets: bool = True) -> None:
    """Until somebody answers there."""
    deadline = time.monotonic() + 90  # rspamd compiles its patterns first
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((host, port), 1) as sock:
            if not greets or sock.recv(200).startswith(b"220"):
                return
        time.sleep(0.05)
    raise Failed(f"nothing answers on port {port}")


def _cpu(pid: int) -> tuple[float, float]:
    """Seconds of a process itself, and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    return sum(map(int, fields[11:13])) / tick, sum(map(int, fields[13:15])) / tick


def children(pid: int) -> list[int]:
    """The processes that this one has started."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def processes(pid: int) -> list[int]:
    """A process and its descendants."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += children(one)
    return found


def tree_cpu(pid: int) -> float:
    """CPU seconds of a process and its descendants, those that have ended too."""
    total = 0.0
    for one in processes(pid):
        with contextlib.suppress(OSError):
            total += sum(_cpu(one))
    return total


def _cpu_of_each(way: Way) -> dict[int, float]:
    found = {}
    for pid in way.pids:
        for one in processes(pid):
            with contextlib.suppress(OSError):
                found[one] = _cpu(one)[0]
    return found


@contextlib.contextmanager
def running(
    command: list[str], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with the block; `environment` is added to ours."""
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(
        command, stdin=nothing, stdout=nothing, stderr=nothing, cwd=cwd, env={**os.environ, **(environment or {})}
    )
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
    """Seconds for the load through a way. Failed where a message is refused, or all of it takes too long."""
    command = [program("smtp-source"), "-s", str(load.sessions), "-m", str(load.count)]
    command += ["-f", "a@source.example", "-t", "b@sink.test", "-M", "mail.source.example"]
    command += ["-F", str(message)] if message is not None else ["-l", str(load.size)]
    if load.kept:
        command.append("-d")
    began = time.perf_counter()
    try:
        done = subprocess.run([*command, f"{way.host}:{way.port}"], capture_output=True, timeout=LONGEST, check=False)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{load.count} messages took more than {LONGEST:g} s") from error
    if done.returncode:
        raise Failed(done.stderr.decode("utf-8", "replace").strip().replace("\n", "; ")[:300] or "smtp-source failed")
    way.drain()
    return time.perf_counter() - began


def use(way: Way, load: Load, message: Path | None = None) -> Used:
    """A load at the way's own pace, and what it took."""
    load = replace(load, count=max(load.sessions, round(load.count * way.pace)))
    cpu, each = way.cpu_seconds, _cpu_of_each(way)
    seconds = send(way, load, message)
    used = way.cpu_seconds - cpu
    most = max((spent - each.get(pid, 0.0) for pid, spent in _cpu_of_each(way).items()), default=0.0)
    return Used(load.count, seconds, used, most / used if used else 0.0)


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
    listener: str = "",
    limits: str = "",
    scheme: str = "",
    host: str = "127.0.0.1",
) -> Way:
    """A gateway of its own."""
    port = free_port()
    place = folder / f"gateway-{port}"
    place.mkdir()
    config = place / "config.toml"
    settings = {"plugins": plugins, "workers": workers, "dns": dns, "more": more, "listener": listener, "limits": limits}
    config.write_text(
        GATEWAY.format(state=place / "var", port=port, sink=sink, host=host, scheme=scheme, **settings), encoding="utf-8"
    )
    command = [str(Path(sys.executable).parent / "mailgateway"), "run", "--config", str(config)]
    core = {"MAILGATEWAY_CORE": "1" if name.endswith(WITH_CORE) else "0"}
    process = stack.enter_context(running(command, cwd=place, environment=core))
    wait_for(port, host=host, greets="implicit" not in listener)
    return Way(name, port, process, host=host, state=place / "var")
