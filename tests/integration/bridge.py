"""Another network: a namespace behind a veth pair, whose clients come to this host as those of a container come over its bridge."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import threading
from typing import Self

_CLONE_NEWNET = 0x40000000


class Bridge:
    """`with Bridge() as bridge:` listen at `bridge.host`, `bridge.connect(port)` comes from `bridge.client`.

    Where no namespace can be made both are loopback addresses, the client's is 127.0.0.2.
    """

    def __init__(self) -> None:
        self._name = f"mg{os.getpid()}"
        self._is_made = False
        self.host = "127.0.0.1"
        self.client = "127.0.0.2"

    def connect(self, port: int, limit: float = 20) -> socket.socket:
        """A connection to `host` from the other network."""
        if not self._is_made:
            return socket.create_connection((self.host, port), limit, source_address=(self.client, 0))
        sock = self._socket_of_namespace()
        sock.settimeout(limit)
        sock.connect((self.host, port))
        return sock

    def _socket_of_namespace(self) -> socket.socket:
        """A socket stays in the namespace of the thread that made it; the thread ends."""
        made: list[socket.socket] = []

        def make() -> None:
            with open(f"/run/netns/{self._name}") as namespace:  # noqa: PTH123 - its number is wanted, not its content
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) == 0:
                    made.append(socket.socket())

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]

    def __enter__(self) -> Self:
        if os.geteuid() == 0 and shutil.which("ip") is not None:
            number = os.getpid() % 250
            host, client = f"172.31.{number}.1", f"172.31.{number}.2"
            steps = (
                f"netns add {self._name}",
                f"link add {self._name}h type veth peer name {self._name}c netns {self._name}",
                f"address add {host}/30 dev {self._name}h",
                f"link set {self._name}h up",
                f"-n {self._name} address add {client}/30 dev {self._name}c",
                f"-n {self._name} link set {self._name}c up",
            )
            if all(self._ip(step) for step in steps):
                self._is_made, self.host, self.client = True, host, client
            else:
                self._remove()
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_made:
            self._remove()

    def _remove(self) -> None:
        self._ip(f"link delete {self._name}h")
        self._ip(f"netns delete {self._name}")

    @staticmethod
    def _ip(words: str) -> bool:
        return subprocess.run(["ip", *words.split()], capture_output=True, check=False).returncode == 0
