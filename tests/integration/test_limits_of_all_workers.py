"""Limits of connections hold over all workers together, exactly, also after one of them was killed."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from tests.integration.gateway_process import Gateway, open_files
from tests.integration.peers import NextHopInThread

pytestmark = pytest.mark.slow

Start = Callable[..., Any]
LISTENER = 'lenient_networks = ["127.0.0.2/32"]'
LIMITS = "[limits]\nconnections = 12\nnetwork_connections = 9\nipv4_prefix = 32\n"
ALL = b"421 4.3.2 Too busy; try again later"
NETWORK = b"421 4.7.0 Too many connections from your network"


@pytest.fixture
def hop() -> Iterator[NextHopInThread]:
    with NextHopInThread() as hop:
        yield hop


class Clients:
    """Connections that were greeted and stay."""

    def __init__(self, port: int, undo: ExitStack) -> None:
        self.port = port
        self.undo = undo
        self.open: list[socket.socket] = []

    def come(self, address: str = "127.0.0.1") -> bytes:
        """The greeting of one more; it stays if it was 220."""
        client = self.undo.enter_context(
            socket.create_connection(("127.0.0.1", self.port), timeout=10, source_address=(address, 0))
        )
        greeting = client.recv(500)
        if greeting.startswith(b"220 "):
            self.open.append(client)
        return greeting

    def sort_out(self) -> int:
        """How many were cut; they are open no more."""
        gone = []
        for client in self.open:
            client.settimeout(0.05)
            with suppress(TimeoutError):
                if client.recv(1) == b"":
                    gone.append(client)
        self.open = [client for client in self.open if client not in gone]
        return len(gone)


def sessions(gateway: Gateway) -> int:
    return int(json.loads(gateway.get("/ready")[1])["sessions"])


def busiest(gateway: Gateway) -> int:
    """The worker with the most connections."""
    workers: list[int] = gateway.until(gateway.worker_pids)
    return max(workers, key=lambda pid: len(open_files(pid)))


def test_four_workers_take_exactly_as_many_as_may_be(start: Start, hop: NextHopInThread) -> None:
    with (
        start(workers=4, servers=[hop.scripted.address], listener=LISTENER, more=LIMITS) as gateway,
        ExitStack() as undo,
    ):
        gateway.until(lambda: gateway.workers_up() == 4)
        clients = Clients(gateway.smtp, undo)
        assert all(clients.come().startswith(b"220 ") for _ in range(9))
        assert clients.come().startswith(NETWORK)
        assert clients.come("127.0.0.3").startswith(b"220 "), "another network"
        assert all(clients.come("127.0.0.2").startswith(b"220 ") for _ in range(2)), "a lenient network has no limit of its own"
        assert all(clients.come(address).startswith(ALL) for address in ("127.0.0.2", "127.0.0.3", "127.0.0.4"))
        assert sessions(gateway) == 12
        killed = busiest(gateway)
        os.kill(killed, signal.SIGKILL)
        gateway.until(lambda: killed not in gateway.children())
        cut = clients.sort_out()
        assert cut > 0
        assert sessions(gateway) == 12 - cut
        gateway.until(lambda: gateway.workers_up() == 4)
        assert all(clients.come("127.0.0.2").startswith(b"220 ") for _ in range(cut)), "what the killed worker held is free"
        assert clients.come("127.0.0.4").startswith(ALL)
        clients.open.pop().close()
        gateway.until(lambda: clients.come("127.0.0.4").startswith(b"220 "))
        assert clients.come("127.0.0.4").startswith(ALL)
        while clients.open:
            clients.open.pop().close()
        gateway.until(lambda: sessions(gateway) == 0)
        with ThreadPoolExecutor(40) as threads:  # all at the same moment, for all workers
            greetings = list(threads.map(lambda _: clients.come("127.0.0.2")[:3], range(40)))
        assert sorted(greetings) == [b"220"] * 12 + [b"421"] * 28
