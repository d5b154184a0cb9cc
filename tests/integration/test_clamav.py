"""The plugin `clamav` with a real clamd that knows one signature: what it finds in messages of every shape, over TCP and a UNIX socket."""

from __future__ import annotations

import base64
import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway import Label, Message, Quarantine, Reject, Score
from gateway.content import Content
from gateway.plugins.clamav import Clamav, Options
from gateway.testing import EndToEnd, Result, a_message, run_plugin
from tests.integration.milters import EICAR
from tests.integration.scanners import STREAM_LIMIT, RealClamd

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def clamd(require: Callable[[str], str]) -> Iterator[RealClamd]:
    """One for all tests here."""
    require("clamd")
    with RealClamd() as running:
        yield running


async def scanned(clamd: RealClamd, message: Message, **options: Any) -> Result:
    return await run_plugin(Clamav(Options.model_validate({"server": clamd.unix, "ping": 0, **options})), message=message)


def signatures(result: Result) -> list[str]:
    return [one.symbol for one in result.findings if isinstance(one, Score)]


def zipped(octets: bytes, name: str = "eicar.com") -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, octets)
    return archive.getvalue()


def locked(octets: bytes) -> bytes:
    """A zip whose only member says that it is encrypted."""
    archive = bytearray(zipped(octets))
    archive[6] |= 1
    archive[archive.index(b"PK\x01\x02") + 8] |= 1
    return bytes(archive)


def tnef(octets: bytes) -> bytes:
    """MS-OXTNEF 2.1: one attachment."""

    def attribute(level: int, kind: int, data: bytes) -> bytes:
        return struct.pack("<BII", level, kind, len(data)) + data + struct.pack("<H", sum(data) & 0xFFFF)

    return (
        struct.pack("<IH", 0x223E9F78, 1)
        + attribute(1, 0x00089006, struct.pack("<I", 0x00010000))
        + attribute(2, 0x00069002, bytes(14))
        + attribute(2, 0x00018010, b"eicar.com\0")
        + attribute(2, 0x0006800F, octets)
    )


def by_hand(body: bytes, encoding: str = "base64", *, boundary: str = "b") -> Message:
    """A message with one attachment, whose body is as it is written."""
    head = (
        f"From: a@client.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary={boundary}\r\n\r\n"
        f'--{boundary}\r\nContent-Type: application/octet-stream; name="x.com"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n'
    )
    return Message(Content(head.encode() + body + f"\r\n--{boundary}--\r\n".encode()))


ENCODED = base64.b64encode(EICAR)
CARRIERS = {
    "body": lambda: a_message(body=EICAR.decode()),
    "attachment": lambda: a_message(attach=("eicar.com", EICAR)),
    "zip": lambda: a_message(attach=("a.zip", zipped(EICAR))),
    "zip in zip": lambda: a_message(attach=("a.zip", zipped(zipped(EICAR), "b.zip"))),
    "zip in zip in zip": lambda: a_message(attach=("a.zip", zipped(zipped(zipped(EICAR), "b.zip"), "c.zip"))),
    "zip called txt": lambda: a_message(attach=("a.txt", zipped(EICAR))),
    "tnef": lambda: a_message(attach=("winmail.dat", tnef(EICAR))),
    "message in message": lambda: a_message(attach=("m.eml", bytes(a_message(attach=("eicar.com", EICAR)).octets))),
    "base64": lambda: by_hand(ENCODED),
    "base64 without padding": lambda: by_hand(ENCODED.rstrip(b"=")),
    "base64 in short lines": lambda: by_hand(b"\r\n".join(ENCODED[at : at + 3] for at in range(0, len(ENCODED), 3))),
    "base64 with spaces": lambda: by_hand(b" ".join(ENCODED[at : at + 4] for at in range(0, len(ENCODED), 4))),
    "base64 with other characters": lambda: by_hand(b"!".join(ENCODED[at : at + 8] for at in range(0, len(ENCODED), 8))),
    "base64 with an empty line in it": lambda: by_hand(ENCODED[:40] + b"\r\n\r\n" + ENCODED[40:]),
    "base64 written BASE64": lambda: by_hand(ENCODED, "BASE64"),
    "base64 and nothing behind it": lambda: Message(Content(bytes(by_hand(ENCODED).octets).removesuffix(b"\r\n--b--\r\n"))),
    "quoted-printable": lambda: by_hand(b"".join(b"=%02X" % octet for octet in EICAR), "quoted-printable"),
    "an encoding of no name": lambda: by_hand(EICAR, "x-unknown"),
}


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_eicar_is_found(clamd: RealClamd, carrier: str) -> None:
    result = await scanned(clamd, CARRIERS[carrier]())
    assert signatures(result) == ["Test.EICAR.UNOFFICIAL"]
    assert isinstance(result.verdict, Reject)
    assert (result.verdict.code, result.verdict.text) == (554, "Malware found: Test.EICAR.UNOFFICIAL")


async def test_what_is_clean_passes_over_both_sockets(clamd: RealClamd) -> None:
    for server in (clamd.address, clamd.unix):
        for message in (a_message(), a_message(attach=("a.zip", zipped(b"good")))):
            result = await scanned(clamd, message, server=server)
            assert (result.verdict, signatures(result)) == (None, [])
        assert signatures(await scanned(clamd, a_message(attach=("a.zip", zipped(EICAR))), server=server))


async def test_an_encrypted_archive_is_a_finding_and_held_on_demand(clamd: RealClamd) -> None:
    message = a_message(attach=("a.zip", locked(b"x" * 100)))
    result = await scanned(clamd, message)
    assert (result.verdict, signatures(result)) == (None, ["Heuristics.Encrypted.Zip"])
    rows = [{"name": "Heuristics.Encrypted.*", "then": "quarantine", "box": "locked"}]
    held = (await scanned(clamd, message, signature=rows)).verdict
    assert isinstance(held, Quarantine)
    assert held.box == "locked"


async def test_an_unwanted_program_has_a_score(clamd: RealClamd) -> None:
    rows = [{"name": "PUA.*", "then": "score", "score": 4}]
    result = await scanned(clamd, a_message(body="an unwanted program of the tests"), signature=rows)
    [score] = [one for one in result.findings if isinstance(one, Score)]
    assert (result.verdict, score.symbol, score.weight) == (None, "PUA.Test.Word.UNOFFICIAL", 4.0)


async def test_more_than_its_stream_max_length(clamd: RealClamd) -> None:
    large = a_message(body=("x" * 70 + "\r\n") * (STREAM_LIMIT // 72 + 1))
    for server in (clamd.address, clamd.unix):
        result = await scanned(clamd, large, server=server, oversize="reject")
        [label] = result.findings
        assert isinstance(label, Label)
        assert label.name == "clamav.too_large"
        assert isinstance(result.verdict, Reject)
        assert result.verdict.code == 552
        just_right = a_message(body="x" * (STREAM_LIMIT - 1000))
        assert (await scanned(clamd, just_right, server=server)).verdict is None


async def test_through_the_whole_gateway(clamd: RealClamd) -> None:
    async with EndToEnd(plugins=["clamav"], options={"clamav": {"server": clamd.unix}}) as mail:
        sent = await mail.send(a_message(attach=("a.zip", zipped(EICAR))))
        assert sent.replies[-1].startswith("554 5.7.1 Malware found: Test.EICAR.UNOFFICIAL")
        assert not sent.taken
        assert "Test.EICAR.UNOFFICIAL by unix:/" in sent.explain()
        assert (await mail.send(a_message(attach=("a.zip", zipped(b"good"))))).code == 250


async def test_a_ping(clamd: RealClamd) -> None:
    plugin = Clamav(Options.model_validate({"server": [clamd.unix, clamd.address]}))
    assert [await service.ping(plugin.ping, 5.0) for service in plugin.services] == [True, True]
