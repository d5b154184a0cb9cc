"""The ARC validation suite from outside: the message over SMTP, keys from a name server, Authentication-Results at the next hop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import pytest

from tests.arc_suite import CASES, Case, cases, need_suite
from tests.integration.black_box import BlackBox, Mail

pytestmark = pytest.mark.slow
CLIENTS = ("192.0.2.17", "2001:db8::17")


def by_zones() -> Iterator[list[Case]]:
    """The cases in groups that have the same zones."""
    for _, group in groupby(cases(), key=lambda case: case.zones):
        yield list(group)


async def miss(box: BlackBox, case: Case, client: str) -> str | None:
    """What differs from the suite, or None."""
    arrived = await box.send(Mail(client=client, content=case.content))
    if arrived.content is None:
        return f"refused: {arrived.reply}"
    found = arrived.results("arc")
    if [one.result for one in found] != [case.status]:
        return f"{found}, not {case.status}"
    [one] = found
    if one.properties.get("smtp.remote-ip") != client:
        return f"{one}, not of {client}"
    if ("header.oldest-pass" in one.properties) != (case.status == "pass"):
        return f"{one}: header.oldest-pass belongs to a chain that passes"
    return None


async def test_every_case(tmp_path: Path, free_port: Callable[[], int]) -> None:
    need_suite()
    misses: dict[str, str] = {}
    number = 0
    async with BlackBox(tmp_path, free_port) as box:
        for group in by_zones():
            box.serve(group[0].zones)
            answers = await asyncio.gather(*(miss(box, case, CLIENTS[place % 2]) for place, case in enumerate(group)))
            number += len(answers)
            misses |= {case.name: what for case, what in zip(group, answers, strict=True) if what is not None}
    assert misses == {}
    assert number == CASES
