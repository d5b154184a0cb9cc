"""A real Sendmail with the milter server: the proxy's verdicts on the same mail, octets untouched, every answer understood. RFC 5321 4.2."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.testing.next_hop import ScriptedNextHop
from tests.integration.conftest import _need_own_root
from tests.integration.milter_sides import CORPUS, DOMAINS, HARD, both, crlf, rows, say
from tests.integration.sendmail import PROGRAM, RealSendmail

pytestmark = [pytest.mark.real, pytest.mark.slow]
SAYS = Path(__file__).parents[1] / "milter_says.py"
ON_TOP = [b"Return-Path", b"Received"]
DECIDED_BY_SENDMAIL = {"unknown recipient", "relay attempt"}
"""docs/milter.md: recipients and relaying are the MTA's matter. To this one `nobody` is a user, and loopback may relay."""


class SendmailWithMilter(RealSendmail):
    """It asks the milter at this port."""

    domains = " ".join(DOMAINS)

    def __init__(self, port: int) -> None:
        self.more = f"INPUT_MAIL_FILTER(`mailgateway', `S=inet:{port}@127.0.0.1, F=T, T=S:30s;R:30s;E:2m')dnl"
        super().__init__()


@pytest.fixture(autouse=True)
def needed(require: Callable[[str], str]) -> None:
    require(str(PROGRAM))
    _need_own_root("Sendmail")


@contextlib.asynccontextmanager
async def asking(port: int) -> AsyncIterator[SendmailWithMilter]:
    """Started elsewhere than on the loop: its greeting is asked about already."""
    sendmail = SendmailWithMilter(port)
    try:
        await asyncio.to_thread(sendmail.__enter__)
        yield sendmail
    finally:
        await asyncio.to_thread(sendmail.__exit__, None, None, None)


async def test_the_same_verdicts_as_the_proxy(tmp_path: Path) -> None:
    async with ScriptedNextHop() as hop, both(tmp_path, hop.address) as gateway:
        hop.script("RCPT TO:<nobody@", "550 5.1.1 No such user")
        proxy = await rows(gateway, gateway.port("mx"))
        async with asking(gateway.port("milter")) as sendmail:
            milter = await rows(gateway, sendmail.port)
    for mine, theirs in zip(milter, proxy, strict=True):
        if mine.name not in DECIDED_BY_SENDMAIL:
            assert mine == theirs
    assert {mine.name for mine, theirs in zip(milter, proxy, strict=True) if mine != theirs} == DECIDED_BY_SENDMAIL
    assert len(proxy) == len(CORPUS)


async def test_octets_and_answers(tmp_path: Path) -> None:
    """What passes is what was sent, and so is what is held; what is edited differs by the edits only; every reply comes through."""
    shutil.copy(SAYS, tmp_path / "says.py")
    plugin: dict[str, Any] = {"plugins": ["says"], "plugin_path": [str(tmp_path)], "plugin": None, "rule": None}
    async with both(tmp_path, "127.0.0.1:1", **plugin) as gateway, asking(gateway.port("milter")) as sendmail:

        async def told(*names: str, sender: str = "a@client.test", content: bytes = HARD, helo: str = "client.test") -> list[str]:
            to = [f"{name}@example.test" for name in names]
            return await asyncio.to_thread(say, sendmail.port, sender, to, content, helo=helo)

        assert (await told("bob"))[-1].startswith("250 2.0.0")
        edited = HARD.replace(b"   spaces  kept", b" edit").replace(b"end without", b"edited without")
        assert (await told("bob", content=edited))[-1].startswith("250 2.0.0")
        passed = crlf(await _arrived(sendmail, "bob", b"end without more"))
        changed = crlf(await _arrived(sendmail, "bob", b"edited without more"))
        assert passed.endswith(HARD), passed
        assert [line.partition(b":")[0] for line in passed[: -len(HARD)].split(b"\r\n") if line[:1].strip()] == ON_TOP
        tail = edited.replace(b"Subject: edit\r\n", b"Subject: [EXTERNAL] edit\r\n")
        assert changed.endswith(tail), changed
        assert b"X-Second: two\r\n lines\r\nX-First: 1\r\n" in changed[: -len(tail)]

        assert (await told("bob", helo="bad.test"))[0] == "550 5.7.1 Bad name, 100%"
        assert (await told("bob", sender="reject@client.test"))[0] == "550 5.7.1 <reject@client.test>... No such sender"
        assert (await told("bob", sender="nodata@client.test"))[-1] == "550 5.7.1 No content from you"
        two = HARD.replace(b"   spaces  kept", b" two lines")
        assert (await told("bob", content=two))[-1] == "554 5.7.1 First line 50%"
        assert (await told("bob", sender="discard@client.test"))[-1].startswith("250 2.0.0")
        assert (await told("alice", sender="other@client.test"))[-1].startswith("250 2.0.0")
        arrived = await _arrived(sendmail, "alice", b"end without more")
        assert b"Return-Path: <changed@client.test>" in arrived


async def _arrived(sendmail: RealSendmail, user: str, marker: bytes) -> bytes:
    """The message with these octets, once it lies in the mailbox."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        for octets in sendmail.messages(user):
            if marker in octets:
                return octets
        await asyncio.sleep(0.05)
    raise TimeoutError(sendmail.log()[-5000:])
