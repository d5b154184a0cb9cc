"""The addresses the gateway listens on: parsed, checked for use by others, reserved by the supervisor, opened by each worker.

A port that somebody else listens on is found by a bind without SO_REUSEPORT; after that the supervisor holds the address by a socket
that is bound and never listens, and each worker opens a listening socket of its own beside it (SO_REUSEPORT): the kernel shares the
connections out among them. A UNIX socket has no such option: the supervisor's own listens, and the workers inherit it.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from gateway.config.addresses import parse_bind, socket_path
from gateway.errors import GatewayError
from gateway.server.reserved import Reserved
from gateway.server.sockets import SocketError, identity, listen

if TYPE_CHECKING:
    from gateway.config.models import ListenerConfig

BACKLOG = 1024


class BindError(GatewayError):
    """An address cannot be listened on: one line with the address, what it is for and why."""

    def __init__(self, address: str, purpose: str, cause: OSError | SocketError) -> None:
        if isinstance(cause, SocketError):
            super().__init__(f"cannot listen on {address} ({purpose}): {cause}")
            return
        why = "another process listens there" if cause.errno == errno.EADDRINUSE else (cause.strerror or str(cause))
        if cause.errno == errno.EACCES:
            why = "a port below 1024 needs root or the capability CAP_NET_BIND_SERVICE"
        super().__init__(f"cannot listen on {address} ({purpose}): {why}")


def _bound(text: str, purpose: str, *, share: bool, port: int | None = None) -> socket.socket:
    host, configured = parse_bind(text)
    with ExitStack() as undo:
        try:
            found = socket.getaddrinfo(host, configured, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, kind, protocol, _, address = found[0]
            sock = undo.enter_context(socket.socket(family, kind, protocol))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if share:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address[0], configured if port is None else port, *address[2:]))
        except OSError as error:
            raise BindError(text, purpose, error) from error
        undo.pop_all()
    return sock


def open_listening(text: str, purpose: str) -> socket.socket:
    """A listening socket that is ours alone, for a process that inherits it. BindError."""
    sock = _bound(text, purpose, share=False)
    try:
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise BindError(text, purpose, error) from error
    return sock


def reserve(listeners: Iterable[ListenerConfig]) -> list[Reserved]:
    """Hold the address of each listener; a port 0 becomes a real one here. BindError for the first that cannot be had."""
    held: list[Reserved] = []
    with ExitStack() as undo:
        for listener in listeners:
            purpose = f"listener {listener.name!r}"
            if path := socket_path(listener.bind):
                held.append(_at_path(path, listener, purpose))
                undo.callback(held[-1].close)
                continue
            probe = _bound(listener.bind, purpose, share=False)
            try:
                probe.listen(1)
                port = probe.getsockname()[1]
            except OSError as error:
                raise BindError(listener.bind, purpose, error) from error
            finally:
                probe.close()
            sock = undo.enter_context(_bound(listener.bind, purpose, share=True, port=port))
            address = sock.getsockname()
            held.append(Reserved(name=listener.name, family=sock.family, address=(str(address[0]), int(address[1])), held=sock))
        undo.pop_all()
    return held


def _at_path(path: str, listener: ListenerConfig, purpose: str) -> Reserved:
    try:
        sock = listen(path, listener, BACKLOG)
    except SocketError as error:
        raise BindError(listener.bind, purpose, error) from error
    return Reserved(name=listener.name, family=sock.family, address=("", 0), held=sock, path=path, file=identity(path))


def listening_sockets(reserved: Iterable[Reserved]) -> Mapping[str, socket.socket]:
    """A worker's listening sockets by listener name, sharing the port, or the socket itself, with the other workers. OSError."""
    sockets: dict[str, socket.socket] = {}
    with ExitStack() as undo:
        for place in reserved:
            if place.path:
                sockets[place.name] = place.held
                place.held.setblocking(False)
                continue
            sock = undo.enter_context(socket.socket(place.family, socket.SOCK_STREAM))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if place.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setblocking(False)
            sock.bind(place.held.getsockname())
            sock.listen(BACKLOG)
            sockets[place.name] = sock
        undo.pop_all()
    return sockets


def cpu_count() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
