"""kill -9 of workers of the real gateway: acknowledgements, next hop, quarantine and journal agree message by message.

20 deaths behind each step of a delivery (docs/promises.md), and 100 at random under 20 sessions. `pytest -s` shows the figures.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.faults import POINTS
from gateway.journal import Journal, writer
from gateway.quarantine import Quarantine, Query, State, rows
from tests.faults.kill9_scenario import LEASE, Clients, Gateway, Key, NextHop, content_of, gateway, key_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MIXES = (
    ("alice",),
    ("bob",),
    ("alice", "void"),
    ("alice", "bob"),
    ("alice", "no"),
    ("alice", "bob", "void"),
    ("alice",),
    ("bob", "no"),
)
"""Half of the mail is held or has two fates with a held one."""
TOLD = {"alice": 2, "bob": 2, "void": 2, "no": 5}
PLACES = {"alice": (1, 0), "bob": (0, 1), "void": (0, 0), "no": (0, 0)}
"""At the next hop and in the quarantine, once each."""
DEATHS = 20
RANDOM_KILLS = 100


@dataclass
class Found:
    """What storage says once everything has ended."""

    held: Counter[Key] = field(default_factory=Counter)
    discarded: set[Key] = field(default_factory=set)
    orphans: int = 0
    """Pending copies of dead workers, now kept and unconfirmed."""
    wrong: list[str] = field(default_factory=list)


async def look(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Found:
    """Sweep as a worker does, and read everything."""
    monkeypatch.setattr(rows, "MAX_LIST", 1_000_000)
    monkeypatch.setattr(writer, "MAX_FOUND", 1_000_000)
    found = Found()
    await asyncio.sleep(LEASE + 0.1)
    quarantine = await Quarantine.open(directory / "var" / "quarantine", retention=3600, lease=LEASE)
    try:
        swept = (await quarantine.sweep()).orphans
        for entry in await quarantine.search(Query(limit=1_000_000)):
            keys = [key_of(path) for path, _, _ in entry.recipients]
            if entry.state is State.HELD:
                found.held.update(keys)
            elif entry.state is State.KEPT and not entry.confirmed:
                found.orphans += 1
            else:
                found.wrong.append(f"{keys}: {entry.state} with nobody behind it")
            with closing(await quarantine.content(entry)) as content:
                if any(b"".join(content.chunks()) != content_of(message) for message, _ in keys):
                    found.wrong.append(f"{keys}: other octets in the quarantine")
        if swept > found.orphans:
            found.wrong.append(f"{swept} swept, {found.orphans} kept unconfirmed")
    finally:
        await quarantine.close()
    journal = await Journal.open(directory / "var" / "journal.sqlite", retention=3600, queue=10)
    try:
        for record in await journal.search(limit=1_000_000):
            for one in record["recipients"]:
                if one["fate"] == "discarded":
                    found.discarded.add(key_of(one["forward_path"].encode()))
    finally:
        await journal.close()
    return found


def compare(clients: Clients, next_hop: NextHop, found: Found) -> Counter[str]:
    """Every recipient of every message; the duplicates by name. AssertionError with what does not agree."""
    wrong = [*found.wrong, *(f"{message}: other octets at the next hop" for message in next_hop.damaged)]
    duplicates: Counter[str] = Counter()
    for message, names in clients.sent.items():
        for name in names:
            key = (message, name)
            there, wanted = (next_hop.taken[key], found.held[key]), PLACES[name]
            if clients.told.get(key) != TOLD[name]:
                wrong.append(f"{key}: told {clients.told.get(key)}")
            if name == "void" and key not in found.discarded:
                wrong.append(f"{key}: discarded without a record")
            if there[0] < wanted[0] or there[1] < wanted[1]:
                wrong.append(f"{key}: lost, {there}")
            if any(n and not w for n, w in zip(there, wanted, strict=True)):
                wrong.append(f"{key}: in a place where it should not be, {there}")
            extra = sum(there) - sum(wanted)
            if extra > clients.unsure[message]:
                wrong.append(f"{key}: {extra} duplicates, {clients.unsure[message]} replies lost")
            if extra > 0:
                duplicates["at the next hop" if wanted[0] else "held"] += extra
    everything = next_hop.taken.keys() | found.held.keys() | found.discarded
    wrong += [f"{key}: made up" for key in everything if key[1] not in clients.sent.get(key[0], ())]
    assert not wrong, f"{len(wrong)} do not agree:\n" + "\n".join(wrong[:20])
    return duplicates


async def report(
    what: str, clients: Clients, next_hop: NextHop, under_test: Gateway, monkeypatch: pytest.MonkeyPatch
) -> Counter[str]:
    """Compare and print one line of figures."""
    found = await look(under_test.directory, monkeypatch)
    duplicates = compare(clients, next_hop, found)
    print(  # noqa: T201 - pytest -s shows the figures
        f"\n{what}: {under_test.deaths()} kills, {len(clients.sent)} messages, {clients.acknowledged} recipients acknowledged,"
        f" 0 lost, 0 made up, {clients.unsure.total()} replies lost, duplicates: {dict(duplicates) or 'none'},"
        f" {found.orphans} orphans kept unconfirmed"
    )
    return duplicates


def until(enough: Callable[[], bool], numbers: Iterator[int], prefix: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Messages, one mix after the other."""
    while not enough():
        number = next(numbers)
        yield f"{prefix}{number}", MIXES[number % len(MIXES)]


@pytest.mark.parametrize("point", POINTS)
async def test_behind_each_step(
    point: str, tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every worker dies at the second message that passes the point, and so does the one that replaces it."""
    async with NextHop() as next_hop:
        with gateway(tmp_path, free_port(), next_hop.port, workers=3, fault=f"{point}@2") as under_test:
            clients, numbers = Clients(under_test.port), itertools.count()
            # one session, so that no other message is under way when a worker dies
            await clients.session(until(lambda: under_test.deaths() >= DEATHS, numbers, "m"))
        assert under_test.deaths() >= DEATHS
        duplicates = await report(point, clients, next_hop, under_test, monkeypatch)
    # before the next hop is asked nothing can be there twice; nothing is held twice before it is held
    possible = {"delivery.sent": {"at the next hop"}, "delivery.held": {"at the next hop", "held"}}
    assert set(duplicates) <= possible.get(point, set())
    assert bool(duplicates) == (point in possible)


async def test_at_random(tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Under 20 sessions."""
    chance = random.Random(9)
    killed: set[int] = set()
    async with NextHop() as next_hop:
        with gateway(tmp_path, free_port(), next_hop.port, workers=4) as under_test:
            clients, numbers = Clients(under_test.port), itertools.count()
            sessions = asyncio.gather(
                *(clients.session(until(lambda: len(killed) >= RANDOM_KILLS, numbers, "r")) for _ in range(20))
            )
            while len(killed) < RANDOM_KILLS:
                await asyncio.sleep(chance.uniform(0.05, 0.15))
                if accepting := [pid for pid in under_test.workers() if pid not in killed]:
                    victim = chance.choice(accepting)
                    os.kill(victim, signal.SIGKILL)
                    killed.add(victim)
            await sessions
            while under_test.deaths() < RANDOM_KILLS:  # noqa: ASYNC110 - the supervisor is another process
                await asyncio.sleep(0.05)
        assert under_test.deaths() == RANDOM_KILLS
        await report("at random", clients, next_hop, under_test, monkeypatch)
