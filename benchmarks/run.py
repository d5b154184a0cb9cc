"""One run: the ways that its works share, started when first asked for; rounds in turn; figures noted, failures named."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import haproxy, mail_servers
from benchmarks.bars import LOOKS
from benchmarks.lag import looks
from benchmarks.results import DIRECT, HAPROXY, HARAKA, POSTFIX, WORKERS, Results
from benchmarks.ways import Failed, Load, Used, Way, free_port, gateway, program, running, send, use, wait_for

SMALL_ROUTE = """
[[route]]
name = "small"
domains = ["small.test"]
servers = ["127.0.0.1:{small}"]
"""
WARM = Load(20, 4096, 200, kept=True)
DESCRIPTORS = 65_536


@dataclass
class Run:
    """What the works have in common. Everything that it starts ends with `stack`."""

    stack: contextlib.ExitStack
    folder: Path
    results: Results
    rounds: int
    quick: bool = False
    until: float = float("inf")
    """Of the monotonic clock: no round begins later."""
    turn: int = 0
    sink: int = 0
    small: int = 0
    """Another sink, for small mail beside large."""
    _ways: dict[str, Way | None] = field(default_factory=dict)
    """None: it could not be started, and that was told."""

    def scaled(self, count: int, least: int = 20) -> int:
        """Of a load: a fifth where the run is to be quick."""
        return max(least, count // 5) if self.quick else count

    def open_sinks(self, connections: int = 1000) -> None:
        """Where all mail ends."""
        user = ["-u", "nobody"] if os.getuid() == 0 else []
        self.sink, self.small = free_port(), free_port()
        for port in (self.sink, self.small):
            limits = ["-c", "-m", str(connections), "-T", "3600"]
            self.stack.enter_context(running([program("smtp-sink"), *user, *limits, f"127.0.0.1:{port}", "1000"]))
            wait_for(port)

    def ways(self, work: str, *names: str) -> Iterator[Way]:
        """Those of these ways that can be had, each round another one first."""
        turned = self.turn % len(names)
        for name in (*names[turned:], *names[:turned]):
            way = self.way(work, name, self._maker(name))
            if way is not None:
                yield way

    def way(self, work: str, name: str, make: Callable[[], Way], key: str = "") -> Way | None:
        """A way that is started when it is asked for first; what keeps it from starting is told once."""
        key = key or name
        if key not in self._ways:
            self._ways[key] = None
            with self.attempt(work, name):
                way = make()
                send(way, WARM)
                self._ways[key] = way
        return self._ways[key]

    def _maker(self, name: str) -> Callable[[], Way]:
        stack, folder, sink = self.stack, self.folder, self.sink
        more = SMALL_ROUTE.format(small=self.small)

        def make() -> Way:
            match name:
                case _ if name == DIRECT:
                    way = Way(name, sink, small_port=self.small)
                case _ if name == HAPROXY:
                    way = haproxy.tcp(stack, folder, sink, self.small, name=name)
                case _ if name == POSTFIX:
                    way = mail_servers.postfix_proxy(stack, folder, sink, name=name)
                    way.pace = 0.4
                case _ if name == HARAKA:
                    way = mail_servers.haraka(stack, folder, sink, name=name)
                    way.pace = 0.1
                case _:
                    way = gateway(stack, folder, sink, name=name, workers=WORKERS[name], more=more)
            return way

        return make

    @contextlib.contextmanager
    def attempt(self, work: str, way: str) -> Iterator[None]:
        """What fails inside is told with its round, and the run goes on."""
        try:
            yield
        except (Failed, OSError) as error:
            self.failed(work, f"{way}, round {self.turn + 1}: {error}")

    def failed(self, work: str, what: str) -> None:
        """Told at once and in the report."""
        self.results.failures.append(f"{work}: {what}")
        print(f"  failed: {work}: {what}", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def watched(self, work: str, way: Way) -> Iterator[None]:
        """How late the loops of a gateway are meanwhile, and how long held, is noted."""
        before = looks(way.state) if way.state else Counter[tuple[str, float]]()
        yield
        if way.state:
            time.sleep(0.3)  # they are written down four times a second
            found = looks(way.state)
            figures = {f"{LOOKS[kind]}{edge:g}": count - before[kind, edge] for (kind, edge), count in found.items()}
            self.results.note(work, way.name, **figures)

    def use(self, work: str, way: Way, load: Load, message: Path | None = None) -> Used | None:
        """A load, if it comes through."""
        used = None
        with self.attempt(work, way.name), self.watched(work, way):
            used = use(way, load, message)
        return used  # noqa: RET504 - None where the attempt failed


class Work(ABC):
    """A kind of work that is measured."""

    name: str
    apart = False
    """All of its rounds follow one another, and nothing else runs then."""

    @abstractmethod
    def round(self, run: Run) -> None:
        """Through each way once; with `apart`, all of it."""


def allow_descriptors() -> int:
    """As many open files as may be; how many that are."""
    wanted = max(DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most
