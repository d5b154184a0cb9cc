"""Memory: at rest, of connections that say nothing, and at its highest while large mail arrives all at once."""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import replace
from functools import partial

from benchmarks import haproxy, mail_servers
from benchmarks.memory import Memory, highest, tree
from benchmarks.results import HAPROXY, HARAKA, ONE, POSTFIX, TWO
from benchmarks.run import WARM, Run, Work, allow_descriptors
from benchmarks.ways import Failed, Load, Way, gateway, send

REST = 5.0
"""Seconds after a start, and after a load, before memory is looked at."""
SPARE = 500
"""Descriptors that a process needs for something else than connections."""
CONNECTIONS = 10_000
BURSTS = 3


def memory(way: Way) -> Memory:
    """Of all its processes."""
    found = [tree(pid) for pid in way.pids]
    return Memory(*(sum(figures) for figures in zip(*found, strict=True)))


def warm(way: Way) -> None:
    """Links are open, caches are full, and the heap has had its connections and messages."""
    for load in (Load(20, 4096, 500, kept=True), Load(50, 4096, 500, kept=False)):
        send(way, load)
    time.sleep(REST)


class Rest(Work):
    """A start and the rest after it, nothing else running."""

    name = "rest"
    apart = True

    def round(self, run: Run) -> None:
        """Everything starts anew in each round."""
        for turn in range(run.rounds):
            run.turn = turn
            for name in (HAPROXY, POSTFIX, HARAKA, ONE, TWO):
                with run.attempt(self.name, name), contextlib.ExitStack() as stack:
                    began = time.perf_counter()
                    way = _started(stack, run, name)
                    figures = {"start": time.perf_counter() - began, "start_cpu": way.cpu_seconds}
                    if run.turn == 0:
                        time.sleep(REST)
                        found = memory(way)
                        figures |= {"pss": found.proportional, "files": found.mapped}
                        figures |= {"rss": found.resident, "uss": found.unshared}
                    run.results.note(self.name, name, **figures)


def _started(stack: contextlib.ExitStack, run: Run, name: str, connections: int = 0) -> Way:
    limits = f"connections = {connections + SPARE}\nnetwork_connections = 0" if connections else ""
    if name == HAPROXY:
        return haproxy.tcp(stack, run.folder, run.sink, run.small, name=name, connections=max(4000, connections + SPARE // 4))
    if name == POSTFIX:
        return mail_servers.postfix_proxy(stack, run.folder, run.sink, name=name)
    if name == HARAKA:
        return mail_servers.haraka(stack, run.folder, run.sink, name=name)
    return gateway(stack, run.folder, run.sink, name=name, workers={ONE: 1, TWO: 2}[name], limits=limits)


class AtOnce(Work):
    """20 messages of 5 MB at once; memory above what the way has at rest after small mail, before its first large message."""

    name = "at-once"

    def __init__(self) -> None:
        self._rest: dict[str, Memory] = {}

    def round(self, run: Run) -> None:
        """Some bursts through each way, one after the other."""
        for name in (HAPROXY, HARAKA, ONE):
            way = run.way(self.name, name, partial(_started, run.stack, run, name), key=f"{self.name}, {name}")
            if way is None:
                continue
            with run.attempt(self.name, name), run.watched(self.name, way):
                if name not in self._rest:
                    warm(way)
                    self._rest[name] = memory(way)
                rest, bursts = self._rest[name], 1 if name == HARAKA else BURSTS
                assert way.process is not None
                with highest(way.process.pid) as seen:
                    seconds = sum(send(way, Load(20, 5_000_000, 20, kept=False)) for _ in range(bursts))
                most = seen.memory
                run.results.note(
                    self.name,
                    name,
                    rest=rest.proportional,
                    over=most.proportional - rest.proportional,
                    over_heaps=most.anonymous - rest.anonymous,
                    rate=100 * bursts / seconds,
                )


class Idle(Work):
    """Connections that said EHLO and nothing more: memory of each, and the rate of small mail beside them over that of a twin without."""

    name = "idle"
    apart = True

    def round(self, run: Run) -> None:
        """The rounds of small mail are taken in turn with and without."""
        room = allow_descriptors() - SPARE
        wanted = run.scaled(CONNECTIONS)
        for name, most in ((ONE, room), (TWO, room), (HAPROXY, room // 2), (HARAKA, 2_000)):  # haproxy: two descriptors for each
            number = min(wanted, most)
            with run.attempt(self.name, name), contextlib.ExitStack() as stack:
                way = _started(stack, run, name, number)
                warm(way)
                before = memory(way)
                for _ in range(number):
                    stack.enter_context(_connection(way.port))
                time.sleep(REST)
                after = memory(way)
                figures = {
                    "number": number,
                    "each": 1024 * (after.proportional - before.proportional) / number,
                    "each_heaps": 1024 * (after.anonymous - before.anonymous) / number,
                }
                if way.state:
                    figures["share"] = self._share(run, stack, way, number)
                run.results.note(self.name, name, **figures)

    def _share(self, run: Run, stack: contextlib.ExitStack, way: Way, number: int) -> float:
        twin = _started(stack, run, way.name, number)
        send(twin, WARM)
        load = replace(WARM, count=run.scaled(5_000))
        seconds = {way.port: 0.0, twin.port: 0.0}
        for turn in range(2 * run.rounds):
            for one in (way, twin) if turn % 2 else (twin, way):
                with run.watched(self.name, one):
                    seconds[one.port] += send(one, load)
        return seconds[twin.port] / seconds[way.port]


def _connection(port: int) -> socket.socket:
    """A client that has said EHLO."""
    sock = socket.create_connection(("127.0.0.1", port), 60)
    for said in (b"", b"EHLO idle.test\r\n"):
        sock.sendall(said)
        answer = b""
        while not answer.endswith(b"\n") or answer.splitlines()[-1][3:4] == b"-":
            received = sock.recv(4096)
            if not received:
                sock.close()
                raise Failed(f"no more connections are let in: {answer!r}")
            answer += received
    return sock
