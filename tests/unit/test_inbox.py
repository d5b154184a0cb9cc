"""The development next hop: gateway.server.inbox."""

from __future__ import annotations

import asyncio
import smtplib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.server import inbox
from gateway.server.inbox import mailbox_of

SIZE_LIMIT = 1_000_000


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = await inbox.start(listening, tmp_path / "inbox", size_limit=SIZE_LIMIT)
    yield int(listening.getsockname()[1])
    server.close()
    await server.wait_closed()


def delivered(tmp_path: Path, mailbox: str) -> list[bytes]:
    assert list((tmp_path / "inbox" / mailbox / "tmp").iterdir()) == []
    return [file.read_bytes() for file in sorted((tmp_path / "inbox" / mailbox / "new").iterdir())]


async def talk(port: int, octets: bytes, *, pieces: int = 0) -> list[bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    if pieces:
        for at in range(0, len(octets), pieces):
            writer.write(octets[at : at + pieces])
            await writer.drain()
            await asyncio.sleep(0)
    else:
        writer.write(octets)
    replies = (await asyncio.wait_for(reader.read(), 20)).split(b"\r\n")[:-1]
    writer.close()
    await writer.wait_closed()
    return replies


@pytest.mark.parametrize(
    ("path", "mailbox"),
    [
        (b"alice@inbox.test", "alice"),
        (b"ALICE@Inbox.Test", "alice"),
        (b"bob@inbox.test", "bob"),
        (b"postmaster@inbox.test", "postmaster"),
        (b"Postmaster", "postmaster"),
        (b"alice", None),
        (b"carol@inbox.test", None),
        (b"alice@example.org", None),
        (b"", None),
        (b"@inbox.test", None),
        (b"../alice@inbox.test", None),
        (b"\xff@inbox.test", None),
    ],
)
def test_known_mailboxes(path: bytes, mailbox: str | None) -> None:
    assert mailbox_of(path) == mailbox


async def test_smtplib_delivers(port: int, tmp_path: Path) -> None:
    def send() -> dict[str, tuple[int, bytes]]:
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.ehlo("client.example")
            assert {"pipelining", "8bitmime", "smtputf8", "dsn", "enhancedstatuscodes"} <= set(client.esmtp_features)
            assert client.esmtp_features["size"] == str(SIZE_LIMIT)
            return client.sendmail(
                "me@example.org",
                ["alice@inbox.test", "carol@inbox.test", "bob@inbox.test", "postmaster"],
                "Subject: hello\n\n.dot\nHello.\n",
                mail_options=["BODY=8BITMIME", "RET=HDRS", "ENVID=x"],
                rcpt_options=["NOTIFY=NEVER"],
            )

    refused = await asyncio.to_thread(send)
    assert refused == {"carol@inbox.test": (550, b"5.1.1 <carol@inbox.test>: no such mailbox at inbox.test")}
    for mailbox in ("alice", "bob", "postmaster"):
        assert delivered(tmp_path, mailbox) == [b"Subject: hello\r\n\r\n.dot\r\nHello.\r\n"]


@pytest.mark.parametrize("pieces", [0, 1, 7])
@pytest.mark.parametrize(
    "content",
    [b"", b"\r\n", b".\r\n..\r\n\r\n", b"8-bit \xff\x00\x80 and a lone \n.\n line\r\n", b"long " + b"x" * 20_000 + b"\r\n"],
)
async def test_octets_arrive_as_they_are(port: int, tmp_path: Path, content: bytes, pieces: int) -> None:
    if pieces and len(content) > 1000:
        pieces *= 1000
    stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
    commands = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<alice@inbox.test>\r\nDATA\r\n"
    replies = await talk(port, commands + stuffed + b".\r\nQUIT\r\n", pieces=pieces)
    assert replies[-2].startswith(b"250 2.0.0 Ok: delivered")
    assert delivered(tmp_path, "alice") == [content]


async def test_two_messages_in_a_session(port: int, tmp_path: Path) -> None:
    one = b"MAIL FROM:<a@b>\r\nRCPT TO:<bob@inbox.test>\r\nDATA\r\nS: 1\r\n\r\n.\r\n"
    replies = await talk(port, b"HELO x\r\n" + one + one.replace(b"1", b"2") + b"QUIT\r\n")
    assert [reply[:3] for reply in replies] == [b"220", b"250", *[b"250", b"250", b"354", b"250"] * 2, b"221"]
    assert delivered(tmp_path, "bob") == [b"S: 1\r\n\r\n", b"S: 2\r\n\r\n"]


@pytest.mark.parametrize(
    ("commands", "code"),
    [
        (b"FOO", b"500 5.5.2"),
        (b"EHLO", b"501 5.5.4"),
        (b"HELO", b"501 5.5.4"),
        (b"RCPT TO:<alice@inbox.test>", b"503 5.5.1"),
        (b"DATA", b"503 5.5.1"),
        (b"MAIL FROM:<a@b>\r\nDATA", b"554 5.5.1"),
        (b"MAIL FROM:<a@b>\r\nMAIL FROM:<a@b>", b"503 5.5.1"),
        (b"MAIL FROM:a@b", b"501 5.5.4"),
        (b"MAIL TO:<a@b>", b"501 5.5.4"),
        (b"MAIL FROM:<a@b> FOO=1", b"555 5.5.4"),
        (b"MAIL FROM:<a@b> SIZE=1000001", b"552 5.3.4"),
        (b"MAIL FROM:<a@b> SIZE=1000000", b"250 2.1.0"),
        (b'MAIL FROM:<"a> b"@b> SMTPUTF8', b"250 2.1.0"),
        (b"VRFY alice", b"252 2.0.0"),
        (b"NOOP", b"250 2.0.0"),
        (b"MAIL FROM:<a@b>\r\nRSET\r\nRCPT TO:<alice@inbox.test>", b"503 5.5.1"),
    ],
)
async def test_replies(port: int, commands: bytes, code: bytes) -> None:
    replies = await talk(port, commands + b"\r\nQUIT\r\n")
    assert replies[-2].startswith(code)
    assert replies[-1].startswith(b"221")


async def test_content_over_the_limit_is_refused_and_the_session_goes_on(port: int, tmp_path: Path) -> None:
    begin = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<alice@inbox.test>\r\nDATA\r\n"
    replies = await talk(port, begin + b"x" * (3 * SIZE_LIMIT) + b"\r\n.\r\nNOOP\r\nQUIT\r\n")
    assert [reply[:9] for reply in replies[-3:]] == [b"552 5.3.4", b"250 2.0.0", b"221 2.0.0"]
    assert delivered(tmp_path, "alice") == []


async def test_a_line_without_end_closes_the_session(port: int) -> None:
    replies = await talk(port, b"x" * 20_000)
    assert replies[-1].startswith(b"500 5.5.6")


async def test_a_maildir_that_cannot_be_written_is_452(port: int, tmp_path: Path) -> None:
    (tmp_path / "inbox" / "alice" / "tmp").rmdir()
    begin = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<alice@inbox.test>\r\nDATA\r\n"
    replies = await talk(port, begin + b"x\r\n.\r\nQUIT\r\n")
    assert replies[-2].startswith(b"452 4.3.1")
