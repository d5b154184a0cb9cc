"""Which parts of a message are files, how they are decoded, and that they are opened once, whoever asks."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Any

import pytest

from gateway import Fact, Message, Plugin, PluginError, hook
from gateway.content import Content
from gateway.files import FileBounds, Opened
from gateway.files.known import known_files, known_limits
from gateway.files.opening import open_files
from gateway.files.parts import Wanted, wanted
from gateway.testing import FakeContext, a_message, a_transaction, run_chain
from tests.archives import EICAR, EICAR_SHA256, a_zip


async def opened(message: Message, **limits: int) -> Opened:
    return await FakeContext(limits=limits).open_files(message)


def a_part(encoding: bytes, body: bytes, fields: bytes = b"") -> Message:
    """One attachment, with its transfer encoding as given."""
    return Message(
        Content(
            b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream; name=eicar.com\r\n"
            + fields
            + (b"Content-Transfer-Encoding: " + encoding + b"\r\n" if encoding else b"")
            + b"\r\n"
            + body
        )
    )


async def hashes(message: Message) -> set[str]:
    return {one.sha256 for one in (await opened(message)).files}


async def test_a_message_of_text_has_no_files() -> None:
    found = await opened(a_message(body="hello", html="<p>hello"))
    assert found == Opened()


async def test_an_attachment_is_a_file() -> None:
    message = a_message(attach=("eicar.com", EICAR, "text/plain"))
    [file] = (await opened(message)).files
    assert (file.name, file.path, file.sha256, file.declared_type) == ("eicar.com", "eicar.com", EICAR_SHA256, "text/plain")
    assert message.parts[file.part].filename == "eicar.com"


async def test_a_part_that_says_it_is_text_and_is_not_is_a_file() -> None:
    octets = base64.encodebytes(a_zip({"eicar.com": EICAR})).replace(b"\n", b"\r\n")
    message = Message(Content(b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n" + octets))
    assert EICAR_SHA256 in await hashes(message)


async def test_what_is_in_an_attached_message_has_its_path() -> None:
    inner = a_message(subject="Forwarded", attach=("a.zip", a_zip({"eicar.com": EICAR})))
    found = await opened(a_message(attach=inner))
    assert EICAR_SHA256 in {one.sha256 for one in found.files}
    eicar = next(one for one in found.files if one.sha256 == EICAR_SHA256)
    assert (eicar.path.endswith("/a.zip/eicar.com"), eicar.depth) == (True, 2)


BASE64 = base64.b64encode(EICAR)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"base64", BASE64),
        (b"BASE64", BASE64),
        (b" base64 ", BASE64),
        (b"base64 (as ever)", BASE64),
        (b"base64; x=y", BASE64),
        (b'"base64"', BASE64),
        (b"base-64", BASE64),
        (b"base64", b"\r\n".join(BASE64[n : n + 1] for n in range(len(BASE64)))),
        (b"base64", b" ".join(BASE64[n : n + 3] for n in range(0, len(BASE64), 3))),
        (b"base64", b"!" + BASE64[:10] + b"\x00\xff*" + BASE64[10:] + b"-"),
        (b"base64", BASE64.rstrip(b"=")),
        (b"base64", BASE64 + b"===="),
        (b"base64", BASE64 + b"\r\n\r\n-- \r\nsent from a list\r\n"),
        (b"base64", base64.b64encode(EICAR[:10]) + base64.b64encode(EICAR[10:])),
        (
            b"base64",
            base64.b64encode(EICAR[:10]) + b"\r\n" + base64.b64encode(EICAR[10:14]) + b"\r\n" + base64.b64encode(EICAR[14:]),
        ),
        (b"base64", b"This text is no base64, my friend\r\n" + BASE64),
        (b"base64", EICAR),
        (b"", BASE64),
        (b"7bit", BASE64),
        (b"8bit", base64.encodebytes(EICAR)),
        (b"x-unknown", BASE64),
        (b"quoted-printable", BASE64),
        (b"quoted-printable", binascii.b2a_qp(EICAR)),
        (b"quoted-printable", EICAR.replace(b"X5O", b"=58=35=4f=\r\n")),
        (b"x-uuencode", b"begin 644 eicar.com\r\n" + binascii.b2a_uu(EICAR[:45]) + binascii.b2a_uu(EICAR[45:]) + b"`\r\nend\r\n"),
        (b"uuencode", b"begin 644 x\r\n" + binascii.b2a_uu(EICAR[:45]) + binascii.b2a_uu(EICAR[45:])),
    ],
)
async def test_broken_encodings_are_read_in_every_way(encoding: bytes, body: bytes) -> None:
    assert EICAR_SHA256 in await hashes(a_part(encoding, body))


async def test_a_second_reading_says_that_it_is_one() -> None:
    body = base64.b64encode(EICAR[:10]) + base64.b64encode(EICAR[10:])
    found = await opened(a_part(b"base64", body))
    assert [one.signs for one in found.files if one.sha256 == EICAR_SHA256] == [("broken-encoding",)]
    assert {one.part for one in found.files} == {0}


async def test_well_formed_base64_has_one_reading() -> None:
    for octets in (EICAR, EICAR * 1_000, bytes(range(256)) * 20):
        assert len((await opened(a_part(b"base64", base64.encodebytes(octets)))).files) == 1


async def test_a_uuencoded_file_within_text_is_a_file() -> None:
    text = (
        b"Hello,\r\n\r\nbegin 644 eicar.com\r\n"
        + binascii.b2a_uu(EICAR[:45])
        + binascii.b2a_uu(EICAR[45:])
        + b"`\r\nend\r\nBye\r\n"
    )
    [file] = (await opened(Message(Content(b"Subject: x\r\n\r\n" + text)))).files
    assert (file.name, file.sha256) == ("eicar.com", EICAR_SHA256)
    assert await opened(Message(Content(b"Subject: x\r\n\r\nLet us begin 644 times\r\nbegin\r\n"))) == Opened()


async def test_names_are_on_one_line() -> None:
    found = await opened(a_message(attach=("a.zip", a_zip({"x\r\nBcc: y\x1b[2J.exe": EICAR}))))
    assert all(character.isprintable() for one in found.files for character in one.path)


async def test_the_limits_are_those_of_the_configuration() -> None:
    found = await opened(a_message(attach=[("a", EICAR), ("b", EICAR), ("c", EICAR)]), files_count=2)
    assert found.limits_hit == ("files-count",)
    assert [bool(one.sha256) for one in found.files] == [True, True, False]


def test_bounds_of_limits() -> None:
    assert FileBounds.of({}) == FileBounds()
    assert FileBounds.of({"files_depth": 3, "files_time": 0.5, "message_size": 1}) == FileBounds(depth=3, time=0.5)


class Elsewhere:
    """Counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[list[Wanted]] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()

    async def __call__(self, parts: list[Wanted]) -> Opened:
        self.asked.append(parts)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return Opened(limits_hit=("here",))


async def test_those_who_ask_at_once_share_one_opening() -> None:
    message, elsewhere = a_message(attach=("a.zip", a_zip({"x": b""}))), Elsewhere()
    tasks = [asyncio.get_running_loop().create_task(open_files(message, FileBounds(), elsewhere)) for _ in range(3)]
    await asyncio.sleep(0)
    assert known_files(message) is None
    tasks[0].cancel()
    await asyncio.sleep(0)
    elsewhere.gate.set()
    results: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [Opened(limits_hit=("here",))] * 2
    assert await open_files(message, FileBounds(), elsewhere) == known_files(message) == results[1]
    assert len(elsewhere.asked) == 1


async def test_after_a_fault_it_is_tried_again() -> None:
    message, elsewhere = a_message(attach=("a.zip", a_zip({"x": b""}))), Elsewhere()
    elsewhere.gate.set()
    elsewhere.error = PluginError("x", "no process")
    with pytest.raises(PluginError):
        await open_files(message, FileBounds(), elsewhere)
    elsewhere.error = None
    assert (await open_files(message, FileBounds(), elsewhere)).limits_hit == ("here",)


@pytest.mark.parametrize(
    "message",
    [
        a_message(),
        a_message(html="<b>x"),
        a_message(attach=("a.txt", b"hello")),
        a_message(attach=("a.png", b"\x89PNG\r\n\x1a\n" + b"x" * 1000)),
        a_message(attach=a_message()),
    ],
)
async def test_what_holds_nothing_goes_to_no_other_process(message: Message) -> None:
    elsewhere = Elsewhere()
    found = await open_files(message, FileBounds(), elsewhere)
    assert elsewhere.asked == []
    assert len(found.files) == len(wanted(message))


def test_opened_survives_json() -> None:
    import json

    from gateway.files.opening import open_here

    message = a_message(attach=("a.zip", a_zip({"eicar.com": EICAR}) + b"PK\x03\x04"))
    found = open_here(message.content, wanted(message), FileBounds())
    assert Opened.from_json(json.loads(json.dumps(found.to_json()))) == found
    for one in wanted(message):
        assert Wanted.from_json(json.loads(json.dumps(one.to_json()))) == one


class Opening(Plugin):
    """Asks, as a rule does."""

    @hook
    async def judge(self, message: Message) -> None:
        await self.context.open_files(message)


async def test_what_was_too_much_is_a_finding_with_its_path() -> None:
    transaction, message = (
        a_transaction(),
        a_message(attach=("a.zip", a_zip({"zeros": bytes(11_000_000), "b.zip": b"PK\x03\x04"}))),
    )
    assert known_limits(message) == ()
    await run_chain([Opening()], message=message, transaction=transaction)
    [found] = [fact for fact in transaction.findings.of(Fact) if fact.name == "message.limits"]
    assert found.value == "files-ratio (a.zip/zeros), files-malformed (a.zip/b.zip)"
    assert message.limits_hit == ()


async def test_no_more_than_twenty_are_told() -> None:
    message = a_message(attach=[(f"{n}.zip", b"PK\x03\x04") for n in range(50)])
    assert len((await opened(message)).unopened) == 50
    assert len(known_limits(message)) == 20
