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
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
ROOT = Path(__file__).resolve().parent.parent

GATEWAY = """
plugins = {plugins}
[server]
name = "bench.example"
state_directory = "{state}"
workers = {workers}
log_level = "warning"
[[listener]]
name = "mx"
bind = "127.0.0.1:{port}"
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
zones = {zones}
"""
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
    small_port: int = 0
    """Where small messages go in while large ones arrive, when that is another port."""
    results: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)


def program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    if found is None:
        sys.exit(f"{name} is not installed: tests/install-servers installs it (root on Debian)")
    return found


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as sock:
            if sock.recv(200).startswith(b"220"):
                return
        time.sleep(0.1)
    sys.exit(f"nothing answers on port {port}")


def tree_cpu(pid: int) -> float:
    """CPU seconds of a process and its descendants."""
    total = 0.0
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
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
        "a@source.test",
        "-t",
        "b@sink.test",
    ]
    command += ["-F", str(message)] if message is not None else ["-l", str(load.size)]
    if load.kept:
        command.append("-d")
    began = time.perf_counter()
    done = subprocess.run([*command, f"127.0.0.1:{way.port}"], capture_output=True, timeout=300, check=False)
    if done.returncode:
        sys.exit(f"{way.name}: {done.stderr.decode()}")
    return time.perf_counter() - began


def measure(ways: list[Way], loads: list[Load], rounds: int, message: Path | None = None) -> None:
    for way in ways:  # links are open and EHLO is known before anything is measured
        send(way, Load("", 20, 4096, 200, kept=True))
    for _ in range(rounds):
        for load in loads:
            for way in ways:
                before = tree_cpu(way.process.pid) if way.process is not None else 0.0
                seconds = send(way, load, message)
                used = tree_cpu(way.process.pid) - before if way.process is not None else 0.0
                rate = load.count * load.size / 1e6 / seconds if load.octets else load.count / seconds
                way.results.setdefault(load.name, []).append(rate)
                way.cpu.setdefault(load.name, []).append(1000 * used / load.count)


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
        stream = sock.makefile("rwb")

        def ask(octets: bytes) -> None:
            stream.write(octets)
            stream.flush()
            line = stream.readline()
            while line[3:4] == b"-":
                line = stream.readline()
            if line[:1] not in b"23":
                sys.exit(f"{way.name}: {line!r}")

        stream.readline()
        ask(b"EHLO small.test\r\n")
        thread = threading.Thread(target=large)
        thread.start()
        while not finished.is_set():
            began = time.perf_counter()
            ask(b"MAIL FROM:<s@source.test>\r\n")
            ask(b"RCPT TO:<b@small.test>\r\n")
            ask(b"DATA\r\n")
            ask(b"Subject: small\r\n\r\n" + b"x" * 60 + b"\r\n.\r\n")
            latencies.append(1000 * (time.perf_counter() - began))
            time.sleep(0.002)
        thread.join()
    latencies.sort()
    middle, late = (latencies[min(len(latencies) - 1, int(share * len(latencies)))] for share in (0.5, 0.99))
    print(f"| {way.name} | {len(latencies)} | {middle:.1f} | {late:.1f} | {latencies[-1]:.1f} |")


def signed_message(folder: Path) -> tuple[Path, str]:
    """A DKIM-signed message and the static zones that let SPF, DKIM and DMARC pass."""
    import base64

    import dkim
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = base64.b64encode(
        key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    ).decode()
    body = b"".join(b"line %05d of the message that is measured, not very long\r\n" % n for n in range(70))
    octets = (
        b"From: <a@source.test>\r\nTo: <b@sink.test>\r\nSubject: bench\r\nDate: Tue, 24 Nov 2026 00:00:00 +0000\r\n"
        b"Message-ID: <bench@source.test>\r\n\r\n" + body
    )
    signature = dkim.sign(octets, b"s", b"source.test", pem, include_headers=[b"from", b"to", b"subject", b"date"])
    file = folder / "signed.eml"
    file.write_bytes((signature + octets).replace(b"\r\n", b"\n"))
    zones = (
        '{ "source.test" = { TXT = ["v=spf1 ip4:127.0.0.0/8 -all"], A = ["127.0.0.1"] }, '
        f'"s._domainkey.source.test" = {{ TXT = ["v=DKIM1; k=rsa; p={public}"] }}, '
        '"_dmarc.source.test" = { TXT = ["v=DMARC1; p=reject"] } }'
    )
    return file, zones


def gateway(
    stack: contextlib.ExitStack,
    folder: Path,
    sink: int,
    *,
    name: str,
    workers: int,
    plugins: str = "[]",
    zones: str = "{}",
    more: str = "",
) -> Way:
    place = folder / name.replace(" ", "-").replace(",", "")
    place.mkdir()
    port = free_port()
    config = place / "config.toml"
    config.write_text(
        GATEWAY.format(plugins=plugins, state=place / "var", workers=workers, port=port, sink=sink, zones=zones, more=more),
        encoding="utf-8",
    )
    command = [str(Path(sys.executable).parent / "mailgateway"), "run", "--config", str(config)]
    process = stack.enter_context(running(command, cwd=place))
    wait_for(port)
    time.sleep(1)
    return Way(name, port, process)


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
        message, zones = signed_message(folder)
        checked = '["spf", "dkim", "dmarc", "authres"]'
        full = gateway(stack, folder, sink, name="gateway, SPF DKIM DMARC", workers=options.workers, plugins=checked, zones=zones)
        signed = Load("4.5 KB signed, 20 sessions, kept, SPF + DKIM + DMARC", 20, 4500, scale(5_000), kept=True)
        both = [Way("direct", sink), Way("haproxy", proxy, haproxy), full]
        measure(both, [signed], options.rounds, message)
        report(both, [signed])


if __name__ == "__main__":
    main()
