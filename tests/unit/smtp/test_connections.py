"""Seats of connections: exact over processes, also when one of them is killed; networks; exemptions."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from gateway.config.models import LimitsConfig
from gateway.smtp.connections import Connections, Full, Seat, network_of, open_file

OTHER = """
import sys
from gateway.config.models import LimitsConfig
from gateway.smtp.connections import Connections, Seat
connections = Connections(LimitsConfig(connections={most}, network_connections={of_network}, network_rate={rate}), file={file})
seats = []
for line in sys.stdin:
    if line.startswith("take"):
        words = line.split()
        seat = connections.take(int(words[1]) if len(words) > 1 else None)
        if isinstance(seat, Seat):
            seats.append(seat)
        print("seat" if isinstance(seat, Seat) else seat.value, flush=True)
    else:
        connections.leave(seats.pop())
        print("left", flush=True)
"""


class Process:
    """Another worker."""

    def __init__(self, file: int, limits: LimitsConfig) -> None:
        numbers = {"most": limits.connections, "of_network": limits.network_connections, "rate": limits.network_rate}
        code = OTHER.format(file=file, **numbers)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], pass_fds=[file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def file() -> Iterator[int]:
    opened = open_file()
    yield opened
    os.close(opened)


def test_the_count_is_of_all_processes_and_a_killed_one_counts_no_more(file: int) -> None:
    limits = LimitsConfig(connections=7, network_connections=5)
    mine = Connections(limits, file=file)
    with ExitStack() as undo:
        one, two = Process(file, limits), Process(file, limits)
        undo.callback(one.kill)
        undo.callback(two.kill)
        assert [one.ask("take 9") for _ in range(3)] == ["seat"] * 3
        assert [two.ask("take 9") for _ in range(3)] == ["seat", "seat", "network"]
        assert mine.take(9) is Full.NETWORK
        seats = [mine.take(), mine.take(8)]
        assert all(isinstance(seat, Seat) for seat in seats)
        assert [one.ask("take"), two.ask("take 9"), mine.take(8)] == ["all", "all", Full.ALL]
        assert two.ask("leave") == "left"
        assert one.ask("take 9") == "seat"
        assert mine.take() is Full.ALL
        one.kill()  # SIGKILL: it cannot give anything back
        taken = [mine.take(9) for _ in range(4)]
        assert all(isinstance(seat, Seat) for seat in taken), "its four seats are free again"
        assert mine.take() is Full.ALL
        for seat in (*taken, seats[1]):
            assert isinstance(seat, Seat)
            mine.leave(seat)
        assert [two.ask("take 9") for _ in range(5)] == ["seat"] * 4 + ["network"]


@pytest.mark.parametrize("first", [0, 3, 6])
def test_seats_are_found_wherever_the_search_begins(first: int) -> None:
    connections = Connections(LimitsConfig(connections=7))
    connections._next = first
    seats = [connections.take() for _ in range(7)]
    assert len({seat.of_all for seat in seats if isinstance(seat, Seat)}) == 7
    assert connections.take() is Full.ALL
    assert isinstance(seats[2], Seat)
    connections.leave(seats[2])
    assert connections.take() == seats[2]


def test_the_number_of_connections_is_told() -> None:
    told: list[int] = []
    connections = Connections(LimitsConfig(connections=2, network_connections=1), tell=told.append)
    seats = [connections.take(5), connections.take(5), connections.take(6), connections.take()]
    assert [isinstance(seat, Seat) for seat in seats] == [True, False, True, False]
    for seat in seats:
        if isinstance(seat, Seat):
            connections.leave(seat)
    assert told == [1, 2, 1, 0]
    assert connections._held == {0: set()}


def test_no_limit_for_networks() -> None:
    connections = Connections(LimitsConfig(connections=300, network_connections=0))
    assert sum(isinstance(connections.take(5), Seat) for _ in range(400)) == 300


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.255", True),
        ("192.0.2.1", "::ffff:192.0.2.77", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8::1", "2001:db8::ffff:0:0:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("0.0.0.0", "::", False),
    ],
)
def test_networks(one: str, other: str, same: bool) -> None:
    limits = LimitsConfig()
    assert (network_of(one, limits) == network_of(other, limits)) is same


def test_prefixes_are_settings() -> None:
    limits = LimitsConfig(ipv4_prefix=20, ipv6_prefix=48)
    assert network_of("192.0.2.1", limits) == network_of("192.0.15.1", limits) != network_of("192.0.16.1", limits)
    assert network_of("2001:db8::1", limits) == network_of("2001:db8:0:1::1", limits)


@pytest.mark.parametrize("address", ["", "unix", "300.1.1.1"])
def test_what_is_no_address_has_no_network(address: str) -> None:
    assert network_of(address, LimitsConfig()) is None


async def test_connections_a_minute(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.smtp.connections.MINUTE", 0.3)
    limits = LimitsConfig(connections=50, network_connections=5, network_rate=3)
    connections = Connections(limits, file=file)
    seats = [connections.take(9) for _ in range(3)]
    for seat in seats:
        assert isinstance(seat, Seat)
        connections.leave(seat)  # a rate counts those that have left, too
    assert connections.take(9) is Full.RATE
    other = Process(file, LimitsConfig(connections=50, network_connections=5, network_rate=3))
    try:
        assert other.ask("take 9") == "rate", "of all processes"
        assert isinstance(connections.take(8), Seat)
        assert connections.count == 1
        await asyncio.sleep(0.5)
        assert isinstance(connections.take(9), Seat)
    finally:
        other.kill()


async def test_ranges_stay_inside_the_offsets_of_a_file(file: int) -> None:
    limits = LimitsConfig(network_connections=2, network_rate=1)
    connections = Connections(limits, file=file)
    for address in ("255.255.255.255", *(f"2001:db8:{n:x}::1" for n in range(200))):
        network = network_of(address, limits)
        assert network is not None
        assert 0 < network < 1 << 41
        assert isinstance(connections.take(network), Seat)
