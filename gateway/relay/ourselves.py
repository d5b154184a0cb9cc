"""What is ourselves among mail exchangers: our name, and addresses that our listeners answer at. RFC 5321 5.1."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ourselves:
    """Our name and where we listen."""

    name: str = ""
    listens: Sequence[tuple[str, int]] = ()
    """Host and port of each listener."""

    def is_at(self, address: str, port: int) -> bool:
        """A connection to this address and port would come back to us."""
        for host, bound in self.listens:
            if bound != port:
                continue
            if host == "localhost":
                if ipaddress.ip_address(address).is_loopback:
                    return True
            elif ipaddress.ip_address(host) == ipaddress.ip_address(address) or (
                ipaddress.ip_address(host).is_unspecified and is_local(address)
            ):
                return True
        return False


def is_local(address: str) -> bool:
    """The address is this host's: the kernel would take it as the source of what goes there. Nothing is sent."""
    if ipaddress.ip_address(address).is_loopback:
        return True
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return str(probe.getsockname()[0]).partition("%")[0] == address
    except OSError:
        return False
