"""Ports for servers that start later: no two alike, and none that the kernel may give to somebody else meanwhile."""

from __future__ import annotations

import itertools
import socket
from pathlib import Path

import pytest

from tests import free_ports
from tests.free_ports import free_port

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_no_port_is_given_away_twice_or_belongs_to_the_kernel() -> None:
    found = [free_port() for _ in range(500)]
    assert len(set(found)) == 500
    assert not RANGE.exists() or max(found) < int(RANGE.read_text().split()[0])


def test_a_port_in_use_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, free = free_port(), free_port()
    monkeypatch.setattr(free_ports, "_PORTS", itertools.cycle([taken, free]))
    with socket.create_server(("127.0.0.1", taken)):
        assert free_port() == free
