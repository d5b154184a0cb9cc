"""Listeners at UNIX sockets of a real gateway, and LMTP clients that nobody here wrote: swaks and smtp-source."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from gateway.testing.next_hop import ScriptedNextHop
from tests.integration.gateway_process import Gateway
from tests.integration.peers import NextHopInThread

pytestmark = pytest.mark.slow

Start = Callable[..., AbstractContextManager[Gateway]]


def listeners(place: str, port: int) -> str:
    return f"""
[[listener]]
name = "socket"
bind = "unix:{place}"
socket_mode = "0666"
protocol = "lmtp"
[[listener]]
name = "lmtp"
bind = "127.0.0.1:{port}"
protocol = "lmtp"
"""


@pytest.fixture
def hop() -> Iterator[ScriptedNextHop]:
    """Speaks LMTP, and one mailbox of it is full."""
    with NextHopInThread(lmtp=True) as hop:
        hop.scripted.script("CONTENT <full@", "552 5.2.2 Mailbox is full")
        yield hop.scripted


def greeting(place: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(place))
        return client.recv(200)


def has_ended(gateway: Gateway, worker: int) -> bool:
    return worker not in gateway.worker_pids()


def test_all_workers_share_it_and_one_may_be_killed(
    start: Start, hop: ScriptedNextHop, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    place = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(place))  # as a killed gateway leaves it
    with start(workers=2, domains=["x.test"], servers=[hop.address], more=listeners(str(place), free_port())) as gateway:
        gateway.until(lambda: gateway.workers_up() == 2)
        assert stat.S_IMODE(place.lstat().st_mode) == 0o666
        assert f"unix:{place}" in gateway.out.read_text()
        for worker in gateway.worker_pids():
            assert greeting(place).startswith(b"220 localhost LMTP")
            os.kill(worker, signal.SIGKILL)
            gateway.until(partial(has_ended, gateway, worker))
            gateway.until(lambda: gateway.workers_up() == 2)
        assert greeting(place).startswith(b"220 ")
        with start(workers=1, domains=["x.test"], servers=[hop.address], more=listeners(str(place), 0), ready=False) as second:
            assert second.process.wait(20) == 2
            assert "another process listens there" in second.log.read_text()
        assert greeting(place).startswith(b"220 "), "the second start has taken nothing away"
    assert not place.exists()


@pytest.mark.real
def test_swaks_and_smtp_source_by_lmtp(
    start: Start,
    hop: ScriptedNextHop,
    tmp_path: Path,
    free_port: Callable[[], int],
    require: Callable[[str], str],
) -> None:
    place, port = tmp_path / "s", free_port()
    with start(workers=2, domains=["x.test"], servers=[hop.address], more=listeners(str(place), port)) as gateway:
        for where in (["--socket", str(place)], ["--server", f"127.0.0.1:{port}"]):
            words = ["--protocol", "LMTP", "--from", "a@client.test", "--to", "bob@x.test,full@x.test,carol@x.test"]
            done = subprocess.run([require("swaks"), *where, *words], capture_output=True, text=True, timeout=30, check=False)
            told = [line[4:7] for line in done.stdout.splitlines() if line.startswith(("<-  ", "<** "))]
            assert told[-4:] == ["250", "552", "250", "221"], done.stdout
            assert "LHLO" in done.stdout
        for target in (f"unix:{place}", f"inet:127.0.0.1:{port}"):
            words = ["-L", "-m", "20", "-s", "4", "-r", "3", "-f", "a@client.test", "-t", "bob@x.test", target]
            done = subprocess.run([require("smtp-source"), *words], capture_output=True, text=True, timeout=60, check=False)
            assert (done.returncode, done.stderr) == (0, ""), done.stderr
        events = gateway.until(lambda: len(found := gateway.events("transaction")) == 42 and found)
        assert {event["client"] for event in events} == {"unix", "127.0.0.1"}
    recipients = sum(len(one.delivered) for one in hop.transactions)
    assert recipients == 2 * 2 + 2 * 20 * 3, "each recipient of each message once"
