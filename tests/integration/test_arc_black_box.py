"""The ARC validation suite from outside: the message over SMTP, keys from a name server, Authentication-Results at the next hop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import dkim
import pytest

from tests.arc_chains import pem, sealed, zones
from tests.arc_suite import CASES, Case, cases, need_suite
from tests.integration.black_box import CONTENT, BlackBox, Mail

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


CONTENTS = [
    CONTENT,
    CONTENT.replace(b"Hello.", "Dot\r\n.\r\n..\r\nc\u00f3mo".encode()),
    CONTENT.replace(b"a case", "d\u00e9j\u00e0 vu".encode()),
    CONTENT.partition(b"\r\n\r\n")[0] + b"\r\n\r\n",
]


async def test_what_leaves_is_sealed_as_it_leaves(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """After Received, Authentication-Results and another plugin's edits: dkimpy verifies it at the next hop, and so does the next gateway."""
    (tmp_path / "arc.pem").write_bytes(pem())
    (tmp_path / "arc.pem").chmod(0o600)
    options = f'[plugin.arc_seal]\ndomain = "us.example"\nselector = "sel"\nfile = "{tmp_path / "arc.pem"}"\n'
    table = zones("us.example", "them.example")

    def ask(name: bytes, timeout: float = 5) -> bytes:
        return str(table[name.decode().rstrip(".")]["TXT"][0]).encode()

    chain = ("spf", "dkim", "arc", "dmarc", "authres", "arc_seal")
    async with BlackBox(tmp_path, free_port, chain=chain, options=options) as box:
        box.serve(table)
        for content in CONTENTS:
            first = (await box.send(Mail(content=content))).content
            assert first is not None
            second = (await box.send(Mail(content=sealed(first, "them.example")))).content
            assert second is not None
            for arrived in (first, second):
                assert dkim.arc_verify(arrived, dnsfunc=ask)[0] == b"pass"
            assert second.count(b"ARC-Seal:") == 3
            third = await box.send(Mail(content=second))
            assert [one.result for one in third.results("arc")] == ["pass"]
