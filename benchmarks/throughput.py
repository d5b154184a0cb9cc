"""Messages a second through the gateway, beside a direct connection and haproxy in TCP mode, in one interleaved run.

smtp-source → way → smtp-sink, everything on loopback, no queue anywhere. What is printed: medians of the rounds, ratios to
haproxy and to the direct way, CPU of the way's whole process tree for each message. Nothing here asserts a time; the tables
are those of docs/performance.md.

    make bench                          # 3 rounds
    make bench ARGS='--rounds 1 --quick'
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from signed import as_zones, signed_message
from ways import Load, Way, exchange, free_port, gateway, measure, program, running, send, shares, wait_for

HAPROXY = """
global
  maxconn 4000
  nbthread 2
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen smtp
  bind 127.0.0.1:{port}
  server sink 127.0.0.1:{sink}
listen small
  bind 127.0.0.1:{small_port}
  server sink 127.0.0.1:{small}
"""
SMALL_ROUTE = """
[[route]]
name = "small"
domains = ["small.test"]
servers = ["127.0.0.1:{small}"]
"""


def report(ways: list[Way], loads: list[Load]) -> None:
    for load in loads:
        unit = "MB/s" if load.octets else "msg/s"
        print(f"\n| {load.name} | {unit} | x direct | x haproxy | ms CPU a message |\n|---|---|---|---|---|")
        direct = statistics.median(ways[0].results[load.name])
        proxy = next((statistics.median(way.results[load.name]) for way in ways if way.name == "haproxy"), 0.0)
        for way in ways:
            rate = statistics.median(way.results[load.name])
            cpu = statistics.median(way.cpu[load.name])
            against = f"{rate / proxy:.2f}" if proxy else ""
            used = f"{cpu:.3f}" if way.process is not None else ""
            print(f"| {way.name} | {rate:,.0f} | {rate / direct:.2f} | {against} | {used} |")


def small_while_large(way: Way, count: int) -> None:
    """Latency of small messages on one kept session while `count` messages of 20 MB arrive, ten at a time.

    The small ones have a sink of their own: what is measured is the way, not how long smtp-sink makes them wait.
    """
    finished = threading.Event()

    def large() -> None:
        send(way, Load("", 10, 20_000_000, count, kept=False))
        finished.set()

    latencies = []
    with socket.create_connection(("127.0.0.1", way.small_port or way.port), 30) as sock:
        stream = cast("BinaryIO", sock.makefile("rwb"))
        stream.readline()
        exchange(stream, b"EHLO small.test\r\n")
        thread = threading.Thread(target=large)
        thread.start()
        while not finished.is_set():
            began = time.perf_counter()
            exchange(stream, b"MAIL FROM:<s@source.example>\r\n")
            exchange(stream, b"RCPT TO:<b@small.test>\r\n")
            exchange(stream, b"DATA\r\n")
            exchange(stream, b"Subject: small\r\n\r\n" + b"x" * 60 + b"\r\n.\r\n")
            latencies.append(1000 * (time.perf_counter() - began))
            time.sleep(0.002)
        thread.join()
    middle, late = shares(latencies)
    print(f"| {way.name} | {len(latencies)} | {middle:.1f} | {late:.1f} | {max(latencies):.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a fifth of the messages")
    options = parser.parse_args()
    scale: Callable[[int], int] = lambda count: max(20, count // 5) if options.quick else count  # noqa: E731
    kept = Load("4 KB, 20 sessions, kept connections", 20, 4096, scale(10_000), kept=True)
    new = Load("4 KB, 20 sessions, new connections", 20, 4096, scale(5_000), kept=False)
    large = Load("5 MB, 4 sessions", 4, 5_000_000, scale(100), kept=True, octets=True)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sink, small, proxy, small_proxy = (free_port() for _ in range(4))
        user = ["-u", "nobody"] if os.getuid() == 0 else []
        for one in (sink, small):
            stack.enter_context(running([program("smtp-sink"), *user, "-c", f"127.0.0.1:{one}", "1000"]))
        (folder / "haproxy.cfg").write_text(
            HAPROXY.format(port=proxy, sink=sink, small_port=small_proxy, small=small), encoding="utf-8"
        )
        haproxy = stack.enter_context(running([program("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]))
        wait_for(sink)
        wait_for(proxy)
        wait_for(small)
        bare = gateway(stack, folder, sink, name="gateway, no plugins", workers=options.workers)
        ways = [Way("direct", sink, small_port=small), Way("haproxy", proxy, haproxy, small_port=small_proxy), bare]
        measure(ways, [kept, new, large], options.rounds)
        report(ways, [kept, new, large])
        two = gateway(
            stack, folder, sink, name="gateway, two routes", workers=options.workers, more=SMALL_ROUTE.format(small=small)
        )
        print("\n| 10 x 20 MB at once, small mail beside | messages | p50 ms | p99 ms | max ms |\n|---|---|---|---|---|")
        for way in [*ways[:2], two]:
            small_while_large(way, 30 if options.quick else 100)
        message, records = signed_message(folder)
        checked = '["spf", "dkim", "dmarc", "authres"]'
        dns = f"zones = {as_zones(records)}"
        full = gateway(stack, folder, sink, name="gateway, SPF DKIM DMARC", workers=options.workers, plugins=checked, dns=dns)
        signed = Load("5 KB signed, 20 sessions, kept, SPF + DKIM + DMARC", 20, 5000, scale(5_000), kept=True)
        both = [Way("direct", sink), Way("haproxy", proxy, haproxy), full]
        measure(both, [signed], options.rounds, message)
        report(both, [signed])


if __name__ == "__main__":
    main()
