"""Name spaces for a run: a network, mounts and processes of its own, with a name server on port 53 and an address that is not loopback. Root."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.signed import Records, as_local_data
from benchmarks.ways import Failed, program, running, wait_for

HOST = "203.0.113.1"
"""Where mail is sent to whose sender is checked, and so where it comes from (RFC 5737)."""
_INSIDE = "MAILGATEWAY_BENCHMARK_INSIDE"
_UNBOUND = """
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


def enter(module: str) -> None:
    """Run this program anew in name spaces, where everything ends with it. Where that cannot be: say so and stay outside."""
    if _INSIDE in os.environ:
        return
    command = [program("unshare"), "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        print(f"without name spaces, so some of it is left out: {tried.stderr.strip()}", file=sys.stderr)
        return
    inside = [*command, sys.executable, "-m", module, *sys.argv[1:]]
    os.execve(command[0], inside, {**os.environ, _INSIDE: "yes"})


def furnish() -> None:
    """Inside: the addresses."""
    if _INSIDE in os.environ:
        subprocess.run([program("ip"), "link", "set", "lo", "up"], check=True)
        subprocess.run([program("ip"), "address", "add", f"{HOST}/32", "dev", "lo"], check=True)


def name_server(stack: contextlib.ExitStack, folder: Path, records: Records) -> None:
    """Inside: an unbound with these records, which everybody asks."""
    if _INSIDE not in os.environ:
        raise Failed("root is needed: the peers change users, and the name server is on port 53 of a network of its own")
    resolv = folder / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\n", encoding="utf-8")
    subprocess.run([program("mount"), "--bind", str(resolv), "/etc/resolv.conf"], check=True)
    config = folder / "unbound.conf"
    config.write_text(_UNBOUND.format(data=as_local_data(records)), encoding="utf-8")
    stack.enter_context(running([program("unbound"), "-d", "-c", str(config)]))
    wait_for(53, greets=False)
