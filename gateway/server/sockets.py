"""UNIX sockets to listen on: made by the supervisor with their owner and mode, shared by all workers, removed at the end. unix(7).

A socket file outlives its process when that was killed. It is removed only if it is a socket and nobody listens on it; anything
else in its place stops the start.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import stat
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.config.models import ListenerConfig

Identity = tuple[int, int, int]
"""Device, number and time of making of a file."""

PROBE_LIMIT = 2.0
"""Seconds that somebody who may listen there gets to take a connection."""


class SocketError(Exception):
    """The place cannot be used: why, in a few words."""


def listen(path: str, listener: ListenerConfig, backlog: int) -> socket.socket:
    """A listening socket at the path. SocketError; nothing is left behind then."""
    with ExitStack() as undo:
        try:
            _make_room(path)
            sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            before = os.umask(0o177)  # until owner and mode are right, nobody else gets in
            try:
                sock.bind(path)
            finally:
                os.umask(before)
            undo.callback(remove, path, _identity(path))
            os.chown(path, *_owner(listener.socket_owner))
            os.chmod(path, int(listener.socket_mode, 8))  # noqa: PTH101 - beside chown, which pathlib has not
            sock.listen(backlog)
        except OSError as error:
            raise SocketError(error.strerror or str(error)) from error
        undo.pop_all()
    return sock


def identity(path: str) -> Identity:
    """What tells our socket file from another one that may have taken its place; zeros when there is none."""
    try:
        return _identity(path)
    except OSError:
        return (0, 0, 0)


def remove(path: str, which: Identity) -> None:
    """Remove the socket file, if it is still this one."""
    with suppress(OSError):
        if _identity(path) == which:
            os.unlink(path)  # noqa: PTH108 - as above


def _identity(path: str) -> Identity:
    found = os.lstat(path)
    return found.st_dev, found.st_ino, found.st_mtime_ns  # the number alone goes to the next file at once


def _make_room(path: str) -> None:
    """Remove a socket that nobody listens on any more."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise SocketError("there is something that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_LIMIT)
        answer = probe.connect_ex(path)
    if answer == errno.ECONNREFUSED:
        remove(path, (found.st_dev, found.st_ino, found.st_mtime_ns))
    elif answer == errno.EPROTOTYPE:
        raise SocketError("there is a socket of another kind")
    elif answer != errno.ENOENT:
        busy = answer in {0, errno.EAGAIN, errno.EINPROGRESS, errno.ETIMEDOUT}
        raise SocketError("another process listens there" if busy else os.strerror(answer))


def _owner(text: str) -> tuple[int, int]:
    """User and group; -1 leaves one as it is."""
    user, _, group = text.partition(":")
    try:
        return (pwd.getpwnam(user).pw_uid if user else -1, grp.getgrnam(group).gr_gid if group else -1)
    except KeyError as error:
        raise SocketError(f"socket_owner: {str(error).strip(chr(34))}") from error
