"""The plugin `milter` with real opendkim, opendmarc and clamav-milter: the same edits and replies as behind a real Postfix."""

from __future__ import annotations

import asyncio
import re
import smtplib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from gateway.config.models import Config
from gateway.content import Content
from gateway.message import Message
from gateway.testing.in_process import InProcessGateway
from tests.integration.conftest import need_root
from tests.integration.milters import EICAR, RealClamav, RealMilter, RealOpendkim, RealOpendmarc
from tests.integration.postfix import RealPostfix

pytestmark = pytest.mark.real
Fields = list[tuple[str, str]]

MAIL = b"""\
From: Alice <alice@client.test>\r
To: bob@example.test\r
Subject: %s\r
Date: Tue, 24 Nov 2026 09:00:00 +0000\r
Message-ID: <%s@client.test>\r
Authentication-Results: mx.test; dkim=pass header.d=forged.test\r
X-Folded: one\r
\ttwo\r
\r
Hello Bob,\r
.a line with a dot\r
\r
"""
_OWN = {"received", "return-path", "x-original-to", "delivered-to"}


def mail(marker: str, more: bytes = b"") -> bytes:
    return MAIL % (marker.encode(), marker.encode()) + more


def send(port: int, octets: bytes) -> tuple[int, str]:
    """The reply to the content, or an earlier refusal."""
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.ehlo("client.test")
        for code, text in (client.mail("alice@client.test", ["BODY=8BITMIME"]), client.rcpt("bob@example.test")):
            if code != 250:
                return code, text.decode()
        code, text = client.data(octets)
        return code, text.decode()


def fields(octets: bytes) -> tuple[Fields, bytes]:
    """The fields that no MTA put there, without what differs from one time to the next; and the body."""
    message = Message(Content(octets))
    found = []
    for one in message.fields:
        value = re.sub(r"\b(b|t|x)=[^;]*", r"\1=", one.raw.decode())
        if one.name.lower() not in _OWN:
            found.append((one.name, value))
    return found, octets[message.body_offset :]


@contextmanager
def behind(postfix: RealPostfix, milters: list[RealMilter]) -> Iterator[None]:
    """Postfix itself asks the milters."""
    named = ", ".join(f"inet:{one.address}" for one in milters)
    with postfix.with_settings(smtpd_milters=named, milter_default_action="tempfail"):
        yield


def config(postfix: RealPostfix, milters: list[RealMilter]) -> Config:
    names = [f"milter_{number}" for number, _ in enumerate(milters)]
    options = {"use": "milter", "timeout": "55s", "command_timeout": "25s"}
    return Config.model_validate(
        {
            "plugins": names,
            "plugin": {name: {**options, "server": one.address} for name, one in zip(names, milters, strict=True)},
            "listener": [{"bind": "127.0.0.1:0"}],
            "route": [{"name": "default", "domains": ["example.test"], "servers": [postfix.address]}],
        }
    )


async def both_ways(
    postfix: RealPostfix, milters: list[RealMilter], messages: list[bytes], tmp_path: Path
) -> list[tuple[tuple[int, str], tuple[int, str]]]:
    """Replies to each message through the gateway, then behind Postfix; what was delivered is compared here."""
    async with InProcessGateway(config(postfix, milters), directory=tmp_path) as gateway:
        ours = [await asyncio.to_thread(send, gateway.port(), one) for one in messages]
    delivered = [
        await asyncio.to_thread(arrived, postfix, one) for one, (code, _) in zip(messages, ours, strict=True) if code == 250
    ]
    postfix.clear()
    with behind(postfix, milters):
        theirs = [await asyncio.to_thread(send, postfix.port, one) for one in messages]
        wanted = [
            await asyncio.to_thread(arrived, postfix, one) for one, (code, _) in zip(messages, theirs, strict=True) if code == 250
        ]
    for found, other in zip(delivered, wanted, strict=True):
        assert fields(found) == fields(other)
    return list(zip(ours, theirs, strict=True))


def arrived(postfix: RealPostfix, octets: bytes) -> bytes:
    return postfix.wait_for("bob", Message(Content(octets)).message_id.encode())


async def test_opendkim_signs_and_verifies_as_behind_postfix(
    require: Callable[[str], str], postfix: RealPostfix, tmp_path: Path
) -> None:
    require("opendkim")
    need_root("opendkim")
    with RealOpendkim() as signer, RealOpendkim(verifies=True, key=signer.key) as verifier:
        messages = [mail("first"), mail("second", b"\xe4\xf6\xfc\r\n"), mail("large", b"0123456789abcdef\r\n" * 20_000)]
        replies = await both_ways(postfix, [signer, verifier], messages, tmp_path)
    assert [ours[0] for ours, _ in replies] == [250, 250, 250]
    found, body = fields(arrived(postfix, messages[0]))
    names = [name for name, _ in found]
    # the second milter saw the signature of the first, and took the forged results away
    assert names[:2] == ["Authentication-Results", "DKIM-Signature"]
    assert "dkim=pass" in found[0][1]
    assert "forged.test" not in str(found)
    assert body == messages[0].replace(b"\r\n", b"\n").partition(b"\n\n")[2]


async def test_opendmarc_says_the_same_as_behind_postfix(
    require: Callable[[str], str], postfix: RealPostfix, tmp_path: Path
) -> None:
    require("opendmarc")
    need_root("opendmarc")
    two = mail("two").replace(b"From: Alice <alice@client.test>", b"From: a@client.test, b@client.test")
    none = mail("none").replace(b"From: Alice <alice@client.test>\r\n", b"")
    with RealOpendmarc() as milter:
        replies = await both_ways(postfix, [milter], [mail("one"), two, none], tmp_path)
    assert [ours[0] for ours, _ in replies] == [theirs[0] for _, theirs in replies]
    assert replies[2][0][0] == 550
    (_, ours), (_, theirs) = replies[2]
    assert ours.partition(" (")[0] == theirs


async def test_clamav_refuses_and_marks_as_behind_postfix(
    require: Callable[[str], str], postfix: RealPostfix, tmp_path: Path
) -> None:
    require("clamav-milter")
    require("clamd")
    need_root("clamav-milter")
    with RealClamav() as milter:
        replies = await both_ways(postfix, [milter], [mail("clean"), mail("virus", EICAR + b"\r\n"), mail("again")], tmp_path)
    assert [ours[0] for ours, _ in replies] == [theirs[0] for _, theirs in replies] == [250, 550, 250]
    (_, ours), (_, theirs) = replies[1]
    assert ours.startswith("5.7.1 Infected by Test.EICAR")
    assert ours.partition(" (")[0] == theirs
    found, _ = fields(arrived(postfix, mail("clean")))
    assert [name for name, _ in found][-2:] == ["X-Virus-Scanned", "X-Virus-Status"]


async def test_all_of_them_in_a_row(require: Callable[[str], str], postfix: RealPostfix, tmp_path: Path) -> None:
    for program in ("opendkim", "opendmarc", "clamav-milter", "clamd"):
        require(program)
    need_root("opendkim")
    with ExitStack() as stack:
        milters: list[RealMilter] = [stack.enter_context(RealOpendkim()), stack.enter_context(RealClamav())]
        replies = await both_ways(postfix, milters, [mail("row")], tmp_path)
    assert replies[0][0][0] == 250
