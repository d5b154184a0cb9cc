"""What checking the sender costs: the gateway beside Postfix with its filters and Haraka, the same message and name server, in one interleaved run.

smtp-source → way → smtp-sink; a signed message of 5 KB whose SPF, DKIM and DMARC pass, sent again and again over 20 kept connections, the
answers of a local unbound. Before anything is measured one message goes through each way, and a way that has not written its results into it ends the
run. Printed are medians of the rounds: messages a second, CPU of all processes of the way for each message (without name
server, load and sink), ratios of it, and the latency of the final dot on one session. Then DKIM of 5 MB alone. Nothing here asserts a time.

    make bench-checks                           # some minutes; root on Debian, which it installs the peers on
    make bench-checks ARGS='--rounds 1 --quick'

Everything runs in network, mount and process name spaces of its own: the name server has port 53, the client an address that is not loopback, and
nothing leaves them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import BinaryIO, cast

from mail_servers import haraka, postfix, postfix_with_milters, postfix_with_rspamd
from signed import Records, Signer, as_local_data, in_base64, text
from ways import Load, Way, exchange, free_port, gateway, measure, program, running, send, shares, wait_for

HOST = "203.0.113.1"
"""Where mail is sent to, and so where it comes from (RFC 5737)."""
INSIDE = "MAILGATEWAY_BENCHMARK_INSIDE"
CHECKS = '"spf", "dkim", "dmarc", "authres"'
MILTERS, RSPAMD = "Postfix + opendkim + opendmarc + policyd-spf", "Postfix + rspamd"
UNBOUND = """
server:
  interface: 127.0.0.1
  port: 53
  chroot: ""
  username: ""
  use-syslog: no
  do-daemonize: no
  pidfile: ""
  module-config: "iterator"
  local-zone: "example." static
  local-data: "example. 3600 SOA ns.example. postmaster.ns.example. 1 3600 600 86400 3600"
  local-zone: "113.0.203.in-addr.arpa." static
  local-data-ptr: "203.0.113.1 3600 mail.source.example"
{data}
remote-control:
  control-enable: no
"""
RULES = "".join(
    f"[[rule]]\nname = \"rule {number}\"\nwhen = '{when}'\nthen = {{ score = 1.0 }}\n"
    for number, when in enumerate(
        [
            'auth.dmarc == "fail" && reverse_path.domain == "partner.example"',
            'auth.spf == "fail" || auth.spf == "softfail"',
            'auth.dkim != "pass" && has_header("List-Unsubscribe")',
            '!client.is_authenticated && reverse_path.domain == "sink.test"',
            'message.subject.contains("invoice") && auth.dmarc != "pass"',
            'message.subject.matches(r"(?i)urgent|wire transfer")',
            'in_network(client.address, "192.0.2.0/24")',
            'client.helo == "localhost"',
            "reverse_path.is_null && size(recipients) > 1",
            "size(recipients) > 50",
            "message.size > 20000000",
            'attachments.exists(a, a.extension in [".exe", ".js", ".scr"])',
            'attachments.exists(a, a.type == "application/x-dosexec")',
            '!(reverse_path.domain in message.author_domains) && auth.dmarc != "pass"',
            'has_header("X-Spam") || has_header("X-Virus")',
            '!has_header("Message-ID")',
            "!message.has_date",
            'reverse_path.local_part.startsWith("bounce")',
            'client.helo.endsWith(".invalid")',
            "score.total >= 6.0",
        ]
    )
)


def in_name_spaces() -> None:
    """Run this program again in name spaces of its own, where it has the network for itself."""
    command = [program("unshare"), "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]
    os.environ[INSIDE] = "yes"
    sys.exit(subprocess.run([*command, sys.executable, *sys.argv], check=False).returncode)


def prepare(folder: Path, records: Records, stack: contextlib.ExitStack) -> None:
    """Inside: addresses, the name server, and that everybody asks it."""
    subprocess.run([program("ip"), "link", "set", "lo", "up"], check=True)
    subprocess.run([program("ip"), "address", "add", f"{HOST}/32", "dev", "lo"], check=True)
    resolv = folder / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\n", encoding="utf-8")
    subprocess.run([program("mount"), "--bind", str(resolv), "/etc/resolv.conf"], check=True)
    config = folder / "unbound.conf"
    config.write_text(UNBOUND.format(data=as_local_data(records)), encoding="utf-8")
    stack.enter_context(running([program("unbound"), "-d", "-c", str(config)]))
    wait_for(53, greets=False)


def sink_command(port: int, *options: str) -> list[str]:
    """Where all mail ends."""
    return [program("smtp-sink"), "-u", "nobody", *options, f"127.0.0.1:{port}", "1000"]


def verify(ways: list[Way], arrived: Path, message: Path) -> None:
    """One message through each way: what arrives has to say that the checks were made."""
    for way in ways:
        send(way, Load("", 1, 0, 1, kept=False), message)
        files = list(arrived.iterdir())
        header = b"".join(file.read_bytes() for file in files).partition(b"\n\n")[0].replace(b"\n\t", b" ").replace(b"\n ", b" ")
        results = [line for line in header.splitlines() if line.lower().startswith(b"authentication-results")]
        missing = [promise for promise in way.promises if not any(promise.encode() in line for line in results)]
        if missing:
            sys.exit(f"{way.name} has not written {', '.join(missing)}:\n{header.decode('latin-1')}")
        for file in files:
            file.unlink()


def latency(way: Way, message: Path, count: int) -> tuple[float, float]:
    """From the final dot to its reply in ms, p50 and p99, one message after the other on one session."""
    content = message.read_bytes().replace(b"\n", b"\r\n") + b".\r\n"
    found = []
    with socket.create_connection((way.host, way.port), 30) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = cast("BinaryIO", sock.makefile("rwb"))
        stream.readline()
        exchange(stream, b"EHLO mail.source.example\r\n")
        for _ in range(count):
            exchange(stream, b"MAIL FROM:<a@source.example>\r\n")
            exchange(stream, b"RCPT TO:<b@sink.test>\r\n")
            exchange(stream, b"DATA\r\n")
            began = time.perf_counter()
            exchange(stream, content)
            found.append(1000 * (time.perf_counter() - began))
    way.drain()
    return shares(found)


def report(ways: list[Way], load: Load, latencies: dict[str, tuple[float, float]]) -> None:
    cpu = {way.name: statistics.median(way.cpu[load.name]) for way in ways}
    print(
        f"\n| {load.name} | msg/s | ms CPU a message | x {RSPAMD} | x {MILTERS} | dot p50 ms | p99 ms |\n|---|---|---|---|---|---|---|"
    )
    for way in ways:
        rate, used = statistics.median(way.results[load.name]), cpu[way.name]
        against = " | ".join(f"{used / cpu[peer]:.2f}" for peer in (RSPAMD, MILTERS))
        middle, late = latencies[way.name]
        print(f"| {way.name} | {rate:,.0f} | {used:.2f} | {against} | {middle:.1f} | {late:.1f} |")


def large(stack: contextlib.ExitStack, folder: Path, sink: int, signer: Signer, *, rounds: int, count: int) -> None:
    """CPU that checks add to a message of 5 MB: almost all of it is the hash of its canonical body."""
    bare = gateway(stack, folder, sink, name="5 MB, no plugins", workers=1, host=HOST, dns="")
    full = gateway(stack, folder, sink, name="5 MB, checks", workers=1, host=HOST, dns="", plugins=f"[{CHECKS}]")
    print("\n| 5 MB, relaxed/relaxed | ms CPU, no plugins | ms CPU, SPF DKIM DMARC | the checks alone |\n|---|---|---|---|")
    for name, body in (("text", text(5_000_000)), ("base64", in_base64(5_000_000))):
        message = signer.write(folder / f"{name}.eml", body, canonicalization=(b"relaxed", b"relaxed"))
        load = Load(name, 2, len(body), count, kept=True)
        measure([bare, full], [load], rounds, message)
        one, other = (statistics.median(way.cpu[name]) for way in (bare, full))
        print(f"| {name} | {one:.1f} | {other:.1f} | {other - one:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a fifth of the messages")
    parser.add_argument("--haraka", type=Path, default=Path("build/haraka/node_modules"), help="where npm has put it")
    options = parser.parse_args()
    if os.getuid() != 0:
        sys.exit("root is needed: the peers change users, and the run has a network of its own")
    if INSIDE not in os.environ:
        in_name_spaces()
    count = 400 if options.quick else 2_000
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        signer, sink = Signer(), free_port()
        prepare(folder, signer.records, stack)
        message = signer.write(folder / "signed.eml", text(4_400))
        arrived = folder / "arrived"
        arrived.mkdir()
        arrived.chmod(0o777)
        keeping = stack.enter_context(running(sink_command(sink, "-d", f"{arrived}/%M%S.")))
        wait_for(sink)
        ways = [
            postfix(stack, folder, sink, name="Postfix alone, no checks", host=HOST),
            postfix_with_milters(stack, folder, sink, name=MILTERS, host=HOST),
            postfix_with_rspamd(stack, folder, sink, name=RSPAMD, host=HOST, workers=2),
        ]
        for way in ways[1:]:
            way.promises = ("dkim=pass", "spf=pass", "dmarc=pass")
        if (options.haraka / "Haraka").is_dir():
            ways.append(haraka(stack, folder, sink, name="Haraka, DKIM only", host=HOST, modules=options.haraka.resolve()))
            ways[-1].promises = ("dkim=pass",)
        for name, workers, plugins, more in (
            ("gateway, 1 worker", 1, CHECKS, ""),
            ("gateway, 2 workers", 2, CHECKS, ""),
            ("gateway, 1 worker, 20 rules", 1, f'{CHECKS}, "rules"', RULES),
        ):
            way = gateway(stack, folder, sink, name=name, workers=workers, plugins=f"[{plugins}]", dns="", more=more, host=HOST)
            way.promises = ("dkim=pass", "spf=pass", "dmarc=pass")
            ways.append(way)
        verify(ways, arrived, message)
        keeping.terminate()
        keeping.wait()
        stack.enter_context(running(sink_command(sink)))
        wait_for(sink)
        load = Load("5 KB signed, 20 sessions, kept", 20, message.stat().st_size, count, kept=True)
        measure(ways, [load], options.rounds, message)
        report(ways, load, {way.name: latency(way, message, 40 if options.quick else 200) for way in ways})
        large(stack, folder, sink, signer, rounds=options.rounds, count=10 if options.quick else 30)


if __name__ == "__main__":
    main()
