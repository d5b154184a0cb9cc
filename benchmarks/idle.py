"""What the gateway takes while little happens, and what it takes at once: memory, start, connections that say nothing.

Everything on loopback. Nothing here asserts; the tables are those of docs/performance.md:
- the whole process tree after some seconds of rest, with one worker and with two, and the time from the start to the greeting;
- 10,000 connections that said EHLO and nothing more: memory of the tree for each, beside haproxy, and the rate of small mail at that
  time over the rate of a gateway that has none of them, in interleaved rounds;
- 20 x 5 MB at once on one worker: the highest memory above that of rest, pages of heaps apart from pages of files.

    make idle                                        # some minutes
    make idle ARGS='--connections 1000 --rounds 3'
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from memory import Memory, highest, tree
from throughput import HAPROXY
from ways import GATEWAY, Load, Way, free_port, program, running, send, wait_for

REST = 5.0
"""Seconds after the start, and after a load, before memory is looked at."""
SPARE = 200
"""Descriptors that a process needs for something else than connections."""


def greeted(port: int, began: float) -> float:
    """Seconds until the greeting comes."""
    while time.perf_counter() - began < 60:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 10) as sock:
            if sock.recv(200).startswith(b"220"):
                return time.perf_counter() - began
        time.sleep(0.005)
    sys.exit(f"nothing answers on port {port}")


@contextlib.contextmanager
def gateway(folder: Path, sink: int, *, workers: int, connections: int) -> Iterator[tuple[Way, float]]:
    """A gateway that lets so many in, and the seconds it needed to greet."""
    place, port = Path(tempfile.mkdtemp(dir=folder)), free_port()
    config = GATEWAY.format(
        plugins="[]", state=place / "var", workers=workers, port=port, sink=sink, host="127.0.0.1", dns="zones = {}", more=""
    )
    limits = f"[limits]\nconnections = {connections + SPARE}\nnetwork_connections = 0\n"
    (place / "config.toml").write_text(config.replace("[limits]\n", limits), encoding="utf-8")
    command = [str(Path(sys.executable).parent / "mailgateway"), "run", "--config", str(place / "config.toml")]
    began = time.perf_counter()
    with running(command, cwd=place) as process:
        yield Way("gateway", port, process), greeted(port, began)


@contextlib.contextmanager
def haproxy(folder: Path, sink: int, *, connections: int) -> Iterator[Way]:
    """A proxy in TCP mode that lets so many in."""
    port, file = free_port(), folder / "haproxy-idle.cfg"
    config = HAPROXY.format(port=port, sink=sink, small_port=free_port(), small=sink)
    file.write_text(config.replace("maxconn 4000", f"maxconn {connections + SPARE // 4}").replace("60s", "1h"), encoding="utf-8")
    with running([program("haproxy"), "-db", "-f", str(file)]) as process:
        wait_for(port)
        yield Way("haproxy", port, process)


def memory(way: Way) -> Memory:
    assert way.process is not None
    return tree(way.process.pid)


def report_rest(folder: Path, sink: int, rounds: int) -> None:
    print("\n| at rest | PSS MB | of it files | RSS MB | USS MB | start to greeting s | CPU s |\n|---|---|---|---|---|---|---|")
    for workers in (1, 2):
        starts, used = [], []
        for _ in range(rounds):
            with gateway(folder, sink, workers=workers, connections=1000) as (way, seconds):
                starts.append(seconds)
                used.append(way.cpu_seconds)
                if len(starts) == rounds:
                    time.sleep(REST)
                    found = memory(way)
        print(
            f"| gateway, {workers} worker{'s' * (workers > 1)} | {found.proportional:.1f} | {found.mapped:.1f} "
            f"| {found.resident:.1f} | {found.unshared:.1f} | {statistics.median(starts):.2f} | {statistics.median(used):.2f} |"
        )


def connect(port: int) -> socket.socket:
    """A client that has said EHLO."""
    sock = socket.create_connection(("127.0.0.1", port), 60)
    for said in (b"", b"EHLO idle.test\r\n"):
        sock.sendall(said)
        answer = b""
        while not answer.endswith(b"\n") or answer.splitlines()[-1][3:4] == b"-":
            received = sock.recv(4096)
            if not received:
                sys.exit(f"port {port} lets no more in: {answer!r}")
            answer += received
    return sock


def warm(way: Way) -> None:
    """Links are open, caches are full, and the heap has had its connections and messages."""
    for load in (Load("", 20, 4096, 500, kept=True), Load("", 50, 4096, 500, kept=False)):
        send(way, load)
    time.sleep(REST)


def each(way: Way, number: int, stack: contextlib.ExitStack) -> tuple[int, float, float]:
    """Idle connections from here on: how many, and KB of each, without and with pages of files."""
    warm(way)
    before = memory(way)
    for _ in range(number):
        stack.enter_context(connect(way.port))
    time.sleep(REST)
    after = memory(way)
    return (
        number,
        1024 * (after.anonymous - before.anonymous) / number,
        1024 * (after.proportional - before.proportional) / number,
    )


def report_connections(folder: Path, sink: int, number: int, rounds: int, messages: int) -> None:
    print(
        "\n| idle connections | number | KB each, heaps | KB each, PSS | small mail with them over without |\n|---|---|---|---|---|"
    )
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    load = Load("", 20, 4096, messages, kept=True)
    for workers in (1, 2):
        with contextlib.ExitStack() as stack:
            way, _ = stack.enter_context(gateway(folder, sink, workers=workers, connections=number))
            other, _ = stack.enter_context(gateway(folder, sink, workers=workers, connections=number))
            warm(other)
            count, heaps, all_of_it = each(way, min(number, most - SPARE), stack)
            rates: dict[int, list[float]] = {way.port: [], other.port: []}
            for turn in range(rounds):
                for one in (way, other) if turn % 2 else (other, way):
                    rates[one.port].append(messages / send(one, load))
            share = statistics.median(rates[way.port]) / statistics.median(rates[other.port])
        print(
            f"| gateway, {workers} worker{'s' * (workers > 1)} | {count:,} | {heaps:.1f} | {all_of_it:.1f} | {share:.2f} |",
            flush=True,
        )
    with contextlib.ExitStack() as stack:
        count = min(number, (most - SPARE) // 2)  # it has two descriptors for each
        way = stack.enter_context(haproxy(folder, sink, connections=count))
        count, heaps, all_of_it = each(way, count, stack)
    print(f"| haproxy | {count:,} | {heaps:.1f} | {all_of_it:.1f} | |")


def report_large(folder: Path, sink: int) -> None:
    print("\n| 20 x 5 MB at once, one worker | at rest MB | highest MB | above rest MB |\n|---|---|---|---|")
    with gateway(folder, sink, workers=1, connections=1000) as (way, _):
        warm(way)
        assert way.process is not None
        before = memory(way)
        with highest(way.process.pid) as seen:
            for _ in range(3):
                send(way, Load("", 20, 5_000_000, 20, kept=False))
        most = seen.memory
    for name, rest, top in (
        ("heaps", before.anonymous, most.anonymous),
        ("pages of files: code, spool", before.mapped, most.mapped),
        ("both", before.proportional, most.proportional),
    ):
        print(f"| {name} | {rest:.1f} | {top:.1f} | {top - rest:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=2000, help="for the rate, in each round")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sink = free_port()
        user = ["-u", "nobody"] if os.getuid() == 0 else []
        command = [
            program("smtp-sink"),
            *user,
            "-c",
            "-m",
            str(2 * options.connections),
            "-T",
            "3600",
            f"127.0.0.1:{sink}",
            "1000",
        ]
        stack.enter_context(running(command))
        wait_for(sink)
        report_rest(folder, sink, options.rounds)
        report_connections(folder, sink, options.connections, options.rounds, options.messages)
        report_large(folder, sink)


if __name__ == "__main__":
    main()
