"""Recipients that differ, on the wire: clients that retry as Postfix does, elsewhere, reordered, redated, or never."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.faults.live import EXPECTED, Client, Gateway, NextHop, gateway
from tests.free_ports import free_port

NAMES = ("ok", "held", "void", "no")
SETS = [names for number in (1, 2, 3) for names in itertools.permutations(NAMES, number)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NextHop, list[Gateway], list[int]]]:
    """One next hop behind two gateways that share nothing."""
    ports = []
    with ExitStack() as stack:
        next_hop = stack.enter_context(NextHop())
        found = []
        for number in range(2):
            port = free_port()
            directory = tmp_path_factory.mktemp(f"gateway{number}") / "g"
            found.append(stack.enter_context(gateway(directory, port, next_hop.port, workers=2)))
            ports.append(port)
        yield next_hop, found, ports


CLIENTS: dict[str, Callable[[list[int]], Client]] = {
    "postfix": lambda ports: Client((ports[0],)),
    "elsewhere": lambda ports: Client(tuple(ports)),
    "reordered": lambda ports: Client((ports[0],), reorders=True),
    "date": lambda ports: Client((ports[0],), changes_date=True),
}


@pytest.mark.parametrize("kind", CLIENTS)
async def test_each_recipient_gets_its_own_answer_once(kind: str, site: tuple[NextHop, list[Gateway], list[int]]) -> None:
    next_hop, gateways, ports = site
    client = CLIENTS[kind](ports)
    messages = {f"{kind}{number}": names for number, names in enumerate(SETS)}
    for message, names in messages.items():
        client.send(message, names, 20)
    held = sum([(await each.quarantine())[0] for each in gateways], start=Counter[tuple[str, str]]())
    wrong = []
    for message, names in messages.items():
        for name in names:
            told = client.told[message, name]
            places = (next_hop.taken[message, f"{name}-{message}"], held[message, name])
            if told != EXPECTED[name] or places != {"ok": (1, 0), "held": (0, 1)}.get(name, (0, 0)):
                wrong.append(f"{names} {name}: told {told}xx, delivered and held {places}")
    assert not wrong, "\n".join(wrong)
    assert client.tries <= 3 * len(messages), "a class costs one retry, the split another"


async def test_a_client_that_never_retries_loses_and_doubles_nothing(
    site: tuple[NextHop, list[Gateway], list[int]],
) -> None:
    next_hop, gateways, ports = site
    client = Client((ports[0],))
    for number, names in enumerate(SETS):
        client.attempt(f"never{number}", list(names))
    held, _ = await gateways[0].quarantine()
    for number, names in enumerate(SETS):
        message = f"never{number}"
        for name in names:
            places = (next_hop.taken[message, f"{name}-{message}"], held[message, name])
            told = client.told.get((message, name))
            assert places == ({"ok": (1, 0), "held": (0, 1)}.get(name, (0, 0)) if told == 2 else (0, 0)), (names, name, told)
            assert (told is None) == ("no" in names and len(names) > 1), (names, name, told)
