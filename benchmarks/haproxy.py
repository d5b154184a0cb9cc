"""haproxy as it is measured: passing octets on in TCP mode, or ending TLS and beginning it again; and as a wrapper that gives TLS to load and sink."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

from benchmarks.ways import Way, free_port, program, running, wait_for

_GLOBAL = """
global
  maxconn {connections}
  nbthread 2
  tune.ssl.default-dh-param 2048
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
"""
_LISTEN = """
listen {name}
  bind 127.0.0.1:{port} {bind}
  server to 127.0.0.1:{to} {server}
"""
_TO_TLS = "ssl verify none"


def _start(stack: contextlib.ExitStack, folder: Path, listens: str, *, connections: int = 4000) -> subprocess.Popen[bytes]:
    file = folder / f"haproxy-{free_port()}.cfg"
    file.write_text(_GLOBAL.format(connections=connections) + listens, encoding="utf-8")
    return stack.enter_context(running([program("haproxy"), "-db", "-f", str(file)]))


def tcp(stack: contextlib.ExitStack, folder: Path, sink: int, small: int, *, name: str, connections: int = 4000) -> Way:
    """TCP mode, with a port for the large and one for the small."""
    port, small_port = free_port(), free_port()
    listens = _LISTEN.format(name="smtp", port=port, bind="", to=sink, server="")
    listens += _LISTEN.format(name="small", port=small_port, bind="", to=small, server="")
    process = _start(stack, folder, listens, connections=connections)
    wait_for(port)
    return Way(name, port, process, small_port=small_port)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost and its key; the file of the certificate has the key too, as haproxy wants it."""
    pem, key = folder / "certificate.pem", folder / "key.pem"
    command = [program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(pem)], check=True, capture_output=True)
    pem.write_text(pem.read_text() + key.read_text())
    return pem, key


def tls_proxy(stack: contextlib.ExitStack, folder: Path, sink: int, pem: Path, *, name: str) -> Way:
    """Ends TLS, and begins it again to a sink that wants it."""
    port = free_port()
    listens = _LISTEN.format(name="smtps", port=port, bind=f"ssl crt {pem}", to=sink, server=_TO_TLS)
    process = _start(stack, folder, listens)
    wait_for(port, greets=False)
    return Way(name, port, process)


def wrapped_sink(stack: contextlib.ExitStack, folder: Path, sink: int, pem: Path) -> int:
    """A port that speaks TLS, in front of smtp-sink, which does not."""
    port = free_port()
    _start(stack, folder, _LISTEN.format(name="sink", port=port, bind=f"ssl crt {pem}", to=sink, server=""))
    wait_for(port, greets=False)
    return port


def wrapped(stack: contextlib.ExitStack, folder: Path, way: Way) -> Way:
    """The same way with a port for smtp-source, which does not speak TLS either. What the wrapper costs is not the way's."""
    port = free_port()
    _start(stack, folder, _LISTEN.format(name="source", port=port, bind="", to=way.port, server=_TO_TLS))
    wait_for(port)
    return Way(way.name, port, way.process, state=way.state)
