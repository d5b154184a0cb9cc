"""Three loads that ended other proxies of this kind: large mail beside small, many sessions at once, and very many messages.

Everything on loopback, no queue anywhere. What is printed, for reading, nothing here asserts:
- small mail while 10 x 20 MB arrive: its latency, and the highest memory of all the gateway's processes together;
- 200 sessions at once: from MAIL to the reply to RCPT, one command at a time as most clients do, at 500 messages a second
  and as fast as they can (then each waits for the 199 others, on any way);
- 200,000 messages: memory of each worker at the beginning, on the way and at the end.

    make soak                                        # about ten minutes on two quiet cores
    make soak ARGS='--messages 20000 --sessions 50 --large 20'
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import tempfile
import time
from pathlib import Path

from benchmarks.memory import highest, tree
from benchmarks.run import SMALL_ROUTE
from benchmarks.ways import Load, Way, free_port, gateway, processes, program, running, send, wait_for
from benchmarks.works.latency import small_beside_large

SAMPLES = 10
"""How often memory is looked at on the way."""
CONTENT = (
    b"Subject: soak\r\nFrom: a@source.example\r\nTo: b@sink.test\r\n\r\n"
    + b"a line of the message that is measured\r\n" * 100
    + b".\r\n"
)


def memory(pid: int, *, kind: str = "VmRSS") -> float:
    """MB of one process."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{kind}:"):
                return int(line.split()[1]) / 1024
    return 0.0


def small_while_large(way: Way, count: int) -> None:
    found = small_beside_large(way, count)
    print(f"| {way.name} | {found['messages']:.0f} | {found['p50']:.1f} | {found['p99']:.1f} | {found['most']:.1f} |")


def report_large(ways: list[Way], count: int) -> None:
    print("\n| 10 x 20 MB at once, small mail beside | messages | p50 ms | p99 ms | max ms |\n|---|---|---|---|---|")
    for way in ways[:-1]:
        small_while_large(way, count)
    way = ways[-1]
    assert way.process is not None
    before = tree(way.process.pid)
    with highest(way.process.pid) as seen:
        small_while_large(way, count)
    most = seen.memory
    print(
        f"\nmemory of all processes of {way.name}: {before.proportional:.0f} MB before, {most.proportional:.0f} MB at its highest;"
    )
    print("without pages of files, which the kernel takes back when it needs them: ", end="")
    print(f"{before.anonymous:.0f} MB and {most.anonymous:.0f} MB")


async def session(port: int, messages: int, times: list[float], *, first: float, every: float) -> None:
    """Messages with `every` seconds between, not before the one before is through; milliseconds from MAIL to the reply to RCPT."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def said(octets: bytes) -> None:
        if octets:
            writer.write(octets)
        line = await reader.readline()
        while line[3:4] == b"-":
            line = await reader.readline()
        if line[:1] not in {b"2", b"3"}:
            raise SystemExit(f"port {port}: {line!r}")

    await said(b"")
    await said(b"EHLO soak.test\r\n")
    for number in range(messages):
        await asyncio.sleep(first + number * every - time.perf_counter())
        began = time.perf_counter()
        await said(b"MAIL FROM:<a@source.example>\r\n")
        await said(b"RCPT TO:<b@sink.test>\r\n")
        times.append(1000 * (time.perf_counter() - began))
        await said(b"DATA\r\n")
        await said(CONTENT)
    await said(b"QUIT\r\n")
    writer.close()


async def sessions(port: int, number: int, messages: int, rate: float) -> list[float]:
    times: list[float] = []
    every = number / rate if rate else 0.0
    begin = time.perf_counter() + 1
    all_of_them = [session(port, messages, times, first=begin + n * every / number, every=every) for n in range(number)]
    await asyncio.gather(*all_of_them)
    return sorted(times)


def report_sessions(ways: list[Way], number: int, messages: int, rate: float) -> None:
    how = f"{rate:g} messages a second in all" if rate else "as fast as they can"
    print(
        f"\n| {number} sessions at once, {how} | messages | MAIL to RCPT p50 ms | p99 ms | max ms | msg/s |\n|---|---|---|---|---|---|"
    )
    for way in ways:
        began = time.perf_counter()
        times = asyncio.run(sessions(way.port, number, messages, rate))
        rate = len(times) / (time.perf_counter() - began)
        middle, late = (times[min(len(times) - 1, int(share * len(times)))] for share in (0.5, 0.99))
        print(f"| {way.name} | {len(times)} | {middle:.1f} | {late:.1f} | {times[-1]:.1f} | {rate:,.0f} |")


def report_memory(way: Way, messages: int) -> None:
    assert way.process is not None
    send(way, Load(20, 4096, 2000, kept=True))  # links are open, caches are full
    workers = [pid for pid in processes(way.process.pid) if pid != way.process.pid]
    print("\n| messages | " + " | ".join(f"worker {n + 1} MB" for n in range(len(workers))) + " | msg/s |")
    print("|---|" + "---|" * (len(workers) + 1))
    print("| 0 | " + " | ".join(f"{memory(pid):.1f}" for pid in workers) + " | |")
    share = max(1, messages // SAMPLES)
    for sample in range(SAMPLES):
        seconds = send(way, Load(20, 4096, share, kept=True))
        row = " | ".join(f"{memory(pid):.1f}" for pid in workers)
        print(f"| {share * (sample + 1):,} | {row} | {share / seconds:,.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=200_000, help="for the memory of the workers")
    parser.add_argument("--sessions", type=int, default=200, help="at once")
    parser.add_argument("--rate", type=float, default=500, help="messages a second of all these sessions")
    parser.add_argument("--large", type=int, default=100, help="messages of 20 MB, ten at a time")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sink, small = free_port(), free_port()
        user = ["-u", "nobody"] if os.getuid() == 0 else []
        for port in (sink, small):
            stack.enter_context(running([program("smtp-sink"), *user, "-c", f"127.0.0.1:{port}", "1000"]))
            wait_for(port)
        more = SMALL_ROUTE.format(small=small)
        two = gateway(stack, folder, sink, name="gateway, two routes", workers=options.workers, more=more)
        one = gateway(stack, folder, sink, name="gateway", workers=options.workers)
        direct = Way("direct", sink, small_port=small)
        for way in (direct, two, one):
            send(way, Load(20, 4096, 200, kept=True))
        report_large([direct, two], options.large)
        report_sessions([direct, one], options.sessions, 25, options.rate)
        report_sessions([direct, one], options.sessions, 25, 0)
        report_memory(one, options.messages)


if __name__ == "__main__":
    main()
