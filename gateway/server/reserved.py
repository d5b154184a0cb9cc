"""Addresses that the supervisor holds. `listeners` gets them."""

from __future__ import annotations

import socket
from typing import NamedTuple

from gateway.server.sockets import Identity, remove


def show_address(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Reserved(NamedTuple):
    """An address the supervisor holds for a listener."""

    name: str
    family: int
    address: tuple[str, int]
    held: socket.socket
    path: str = ""
    """Of a UNIX socket; then there is no address, and `held` listens."""
    file: Identity = (0, 0, 0)
    """Which file at `path` is ours."""

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else show_address(*self.address)

    def close(self) -> None:
        """The supervisor's end of it; the file of a UNIX socket goes."""
        self.held.close()
        if self.path:
            remove(self.path, self.file)
