"""The plugin `links`: attachments that are stored durably before a link stands in their place, and mail that is never touched."""

from __future__ import annotations

import asyncio
import base64
import email
import hashlib
import os
import re
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError

from gateway import Context, Edit, Fact, Message, OptionError, Outcome, ReplacePart, Session
from gateway.plugins.links import Links, Options
from gateway.testing import FakeContext, Result, a_message, a_session, a_signed_message, a_transaction, run_plugin

DATA = bytes(range(256)) * 20
BIG = ("Bericht für alle.pdf", DATA, "application/pdf")
SMALL = ("small.bin", b"1234", "application/octet-stream")
TAKEN = Outcome(fates=(("bob@example.org", "delivered"),))
REFUSED = Outcome(fates=(("bob@example.org", "rejected"),))
USER = a_session(identity="alice")


def made(base: Path, **more: Any) -> Links:
    place = {} if "url" in more else {"directory": str(base / "files")}
    values = {"prefix": "https://files.example.org/f/", "larger_than": 1_000, **place, **more}
    return Links(Options.model_validate(values), name="links", context=cast("Context", FakeContext()))


async def run(plugin: Links, message: Message, session: Session = USER) -> Result:
    return await run_plugin(plugin, message=message, session=session)


def files(directory: Path) -> list[Path]:
    return sorted((directory / "files").iterdir())


def kept(result: Result) -> str:
    return next((str(one.value) for one in result.findings if isinstance(one, Fact) and one.name == "links.kept"), "")


def edited(message: Message, edits: tuple[Edit, ...]) -> bytes:
    octets = bytes(message.octets)
    for edit in sorted((one for one in edits if isinstance(one, ReplacePart)), key=lambda one: -one.start):
        octets = octets[: edit.start] + edit.octets + octets[edit.end :]
    return octets


async def test_a_large_attachment_becomes_a_link(tmp_path: Path) -> None:
    message = a_message(body="Hello\r\n", attach=[BIG, SMALL])
    result = await run(made(tmp_path), message)
    [edit] = result.edits
    assert isinstance(edit, ReplacePart)
    [file] = files(tmp_path)
    assert file.read_bytes() == DATA
    assert re.fullmatch(r"[A-Za-z0-9_-]{32}\.pdf", file.name)
    hello, text, small = (one for one in email.message_from_bytes(edited(message, result.edits)).walk() if not one.is_multipart())
    assert cast("bytes", hello.get_payload(decode=True)).strip() == b"Hello"
    assert small.get_payload(decode=True) == b"1234"
    assert cast("bytes", text.get_payload(decode=True)).decode().splitlines()[2:] == [
        "Name:    Bericht für alle.pdf",
        f"Size:    {len(DATA)} octets",
        f"SHA-256: {hashlib.sha256(DATA).hexdigest()}",
        f"Link:    https://files.example.org/f/{file.name}",
        "Until:   2026-12-18",
    ]
    assert text.get_content_type() == "text/plain"
    assert edit.note.startswith(f"Bericht für alle.pdf, {len(DATA)} octets, sha256 {hashlib.sha256(DATA).hexdigest()}, stored as")
    assert file.name not in edit.note, "who reads the record cannot follow the link"
    assert kept(result) == ""


async def test_what_is_not_large_or_not_wanted_stays(tmp_path: Path) -> None:
    for plugin, message, session in (
        (made(tmp_path), a_message(attach=SMALL, body="long " * 400), USER),
        (made(tmp_path, types=("video/*",)), a_message(attach=BIG), USER),
        (made(tmp_path), a_message(attach=BIG), a_session()),
        (made(tmp_path, larger_than=len(DATA) + 1), a_message(attach=BIG), USER),
    ):
        result = await run(plugin, message, session)
        assert (result.edits, kept(result)) == ((), "")
    assert files(tmp_path) == []


async def test_the_threshold_is_of_decoded_octets(tmp_path: Path) -> None:
    assert len((await run(made(tmp_path, larger_than=len(DATA)), a_message(attach=BIG))).edits) == 1
    padded = a_message(attach=BIG).octets[:].replace(b"\r\n", b"\r\n\r\n")
    assert (await run(made(tmp_path, larger_than=len(DATA) + 1), a_message(bytes(padded)))).edits == ()


def wrapped(kind: str) -> Message:
    inner = b"Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(DATA)
    return a_message(
        f"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: {kind}; boundary=i\r\n\r\n--i\r\n".encode()
        + inner.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        + b"--i--\r\n--o\r\n"
        + inner.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        + b"--o--\r\n"
    )


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (wrapped("multipart/signed"), "a.pdf: the message has multipart/signed; a.pdf: the message has multipart/signed"),
        (wrapped("multipart/encrypted"), "multipart/encrypted"),
        (a_message(attach=[BIG, ("smime.p7m", b"x", "application/pkcs7-mime")]), "application/pkcs7-mime"),
        (a_message(b"Content-Type: application/pdf\r\n\r\n" + b"x" * 2_000), "the message itself is no part"),
        (a_signed_message(a_message(attach=BIG)), "signature that would not verify"),
        (a_message(attach=("m.eml", b"S: 1\r\n\r\n" + b"line\r\n" * 500, "message/rfc822")), "a message of its own"),
    ],
)
async def test_what_is_never_touched_and_why(tmp_path: Path, message: Message, why: str) -> None:
    result = await run(made(tmp_path), message)
    assert result.edits == ()
    assert why in kept(result)
    assert files(tmp_path) == []


async def test_a_dkim_signature_may_be_broken_where_that_is_wanted(tmp_path: Path) -> None:
    assert len((await run(made(tmp_path, signed="replace"), a_signed_message(a_message(attach=BIG)))).edits) == 1


@pytest.mark.parametrize(
    ("name", "ending"), [("a.HTML", ".bin"), ("a.svg", ".bin"), ("zip", ".bin"), ("../../x.ZIP", ".zip"), ("", ".bin")]
)
async def test_no_name_of_a_client_gets_into_a_path(tmp_path: Path, name: str, ending: str) -> None:
    await run(made(tmp_path), a_message(attach=(name, DATA, "application/octet-stream")))
    [file] = files(tmp_path)
    assert file.suffix == ending


async def test_what_nobody_took_is_removed(tmp_path: Path) -> None:
    context = FakeContext()
    for outcome, left in ((REFUSED, 0), (TAKEN, 1)):
        plugin = made(tmp_path)
        await plugin.startup(cast("Context", context))
        transaction = a_transaction(session=USER)
        assert len(await plugin.rewrite(transaction, a_message(attach=BIG))) == 1
        assert len(files(tmp_path)) == 1
        await plugin.done(transaction, outcome)
        assert len(files(tmp_path)) == left
        assert (plugin._stored, plugin._octets) == ({}, 0)


@pytest.mark.parametrize("call", ["os.fsync", "os.open", "os.link", "os.utime"])
async def test_a_disk_that_fails_defers_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    plugin = made(tmp_path)
    await plugin.startup(cast("Context", FakeContext()))
    transaction = a_transaction(session=USER)

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(call, fail)
        with pytest.raises(OSError, match="No space left"):
            await plugin.rewrite(transaction, a_message(attach=[BIG, BIG]))
    assert files(tmp_path) == []
    assert (plugin._stored, plugin._octets) == ({}, 0)


async def test_the_second_that_fails_takes_the_first_with_it(tmp_path: Path) -> None:
    plugin = made(tmp_path, total=len(DATA) + 10)
    result = await run_plugin(plugin, message=a_message(attach=[BIG, BIG]), session=USER, on_error="defer")
    assert result.verdict is not None
    assert result.verdict.reason == "plugin-error"
    assert files(tmp_path) == []


async def test_it_is_on_the_disk_before_it_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    for name in ("fsync", "link", "utime"):
        real = getattr(os, name)

        def noted(*args: Any, _real: Any = real, _name: str = name, **more: Any) -> Any:
            order.append(_name)
            return _real(*args, **more)

        monkeypatch.setattr(os, name, noted)
    await run(made(tmp_path), a_message(attach=BIG))
    assert order == ["utime", "fsync", "link", "fsync"]


async def test_octets_under_way_are_bounded(tmp_path: Path) -> None:
    plugin = made(tmp_path, memory=len(DATA))
    await plugin.startup(cast("Context", FakeContext()))
    with pytest.raises(BlockingIOError):
        await plugin.rewrite(a_transaction(session=USER), a_message(attach=BIG))


async def test_what_has_expired_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    await run(made(tmp_path), a_message(attach=BIG))
    [file] = files(tmp_path)
    now = file.stat().st_mtime
    old = ["A" * 32 + ".pdf", "B" * 32 + ".zip.new", "index.html", "short.pdf"]
    for name in old:
        (file.parent / name).write_bytes(b"x")
        os.utime(file.parent / name, (now - 31 * 86_400, now - 31 * 86_400))
    (file.parent / ("C" * 32 + ".pdf")).symlink_to(file)
    await made(tmp_path).startup(cast("Context", FakeContext()))
    for _ in range(200):
        if len(files(tmp_path)) == 4:
            break
        await asyncio.sleep(0.01)
    assert [one.name for one in files(tmp_path)] == sorted([file.name, "C" * 32 + ".pdf", "index.html", "short.pdf"])


async def test_an_object_store_has_it(tmp_path: Path) -> None:
    plugin = made(tmp_path, url="memory:///")
    await plugin.startup(cast("Context", FakeContext()))
    store = plugin._store
    assert store is not None
    for outcome in (TAKEN, REFUSED):
        transaction = a_transaction(session=USER)
        await plugin.rewrite(transaction, a_message(attach=('a"\u2028;b.zip', DATA, "application/zip")))
        await plugin.done(transaction, outcome)
    [name] = [one["path"] for batch in store.list() for one in batch]
    found = store.get(name)
    assert bytes(found.bytes()) == DATA
    assert found.attributes["Content-Type"] == "application/octet-stream"
    assert re.fullmatch(r'attachment; filename="[A-Za-z0-9._ -]+"', found.attributes["Content-Disposition"])


async def test_a_store_that_refuses_defers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    plugin = made(tmp_path, url="s3://bucket/files", endpoint="http://127.0.0.1:1")
    result = await run_plugin(plugin, message=a_message(attach=BIG), session=USER, on_error="defer")
    assert result.verdict is not None
    assert result.verdict.reason == "plugin-error"


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "memory:///", "directory": "a"},
        {"directory": ""},
        {"prefix": "ftp://x/"},
        {"prefix": "https://x"},
        {"expire": "1s"},
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        made(tmp_path, **wrong)


def test_a_store_that_cannot_be_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="Unable to recognise"):
        made(tmp_path, url="nope://bucket")


async def test_a_directory_that_cannot_be_written_to_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("a file")
    with pytest.raises(OSError, match="files"):
        await made(tmp_path).startup(cast("Context", FakeContext()))
