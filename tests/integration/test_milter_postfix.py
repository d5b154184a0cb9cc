"""A real Postfix with the milter server: the proxy's verdicts on the same mail, octets untouched, every answer understood. RFC 5321 4.2."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.testing.in_process import InProcessGateway
from tests.integration.conftest import need_root
from tests.integration.milter_sides import CORPUS, DOMAINS, HARD, both, crlf, held, rows, say
from tests.integration.postfix import MAILBOXES, RealPostfix

pytestmark = [pytest.mark.real, pytest.mark.slow]
SAYS = Path(__file__).parents[1] / "milter_says.py"
ON_TOP = [b"Return-Path", b"X-Original-To", b"Delivered-To", b"Received"]
DECIDED_BY_POSTFIX = {"unknown recipient", "relay attempt"}
"""docs/milter.md: recipients that the MTA refuses itself, and relaying."""


class PostfixWithMilter(RealPostfix):
    """Where it has no milter it is a next hop; at `door` strangers come in, past the milter that `asking` names."""

    def __init__(self, door: int) -> None:
        self.door = door
        mailboxes = ", ".join(f"{user}@{domain}={user}/" for user in MAILBOXES for domain in DOMAINS)
        service = (
            f"127.0.0.1:{door} inet n - n - 100 smtpd\n  -o smtpd_milters=$tests_milter\n"
            "  -o mynetworks=192.0.2.1\n  -o milter_default_action=tempfail\n"
        )
        settings = {
            "virtual_mailbox_domains": ", ".join(DOMAINS),
            "virtual_mailbox_maps": f"inline:{{{mailboxes}}}",
            "tests_milter": "inet:127.0.0.1:1",
        }
        super().__init__(settings=settings, services=service)

    @contextlib.asynccontextmanager
    async def asking(
        self, directory: Path, plugin: str = "", *, listener: dict[str, Any] | None = None, settings: dict[str, str] | None = None
    ) -> AsyncIterator[InProcessGateway]:
        """A gateway that it asks: with config.toml, or with this one plugin in the directory."""
        more: dict[str, Any] = {}
        if plugin:
            more = {"plugins": [plugin], "plugin_path": [str(directory)], "plugin": None, "rule": None}
        async with both(directory, self.address, listener=listener, **more) as gateway:
            with self.with_settings(tests_milter=f"inet:127.0.0.1:{gateway.port('milter')}", **(settings or {})):
                self.clear()
                yield gateway


@pytest.fixture(scope="module")
def server(require: Callable[[str], str]) -> Iterator[PostfixWithMilter]:
    require("postfix")
    need_root("Postfix")
    with socket.create_server(("127.0.0.1", 0)) as free:
        door = free.getsockname()[1]
    with PostfixWithMilter(door) as postfix:
        yield postfix


async def test_the_same_verdicts_as_the_proxy(server: PostfixWithMilter, tmp_path: Path) -> None:
    async with server.asking(tmp_path) as gateway:
        proxy = await rows(gateway, gateway.port("mx"))
        milter = await rows(gateway, server.door)
    differ = {mine.name for mine, theirs in zip(milter, proxy, strict=True) if mine != theirs}
    for mine, theirs in zip(milter, proxy, strict=True):
        if mine.name not in DECIDED_BY_POSTFIX:
            assert mine == theirs
    assert differ == DECIDED_BY_POSTFIX
    assert len(proxy) == len(CORPUS)


async def test_octets(server: PostfixWithMilter, tmp_path: Path) -> None:
    """What passes is what was sent; what is held is what was sent; what is edited differs by the edits only."""
    shutil.copy(SAYS, tmp_path / "says.py")
    server.clear()
    edited = HARD.replace(b"   spaces  kept", b" edit").replace(b"end without", b"edited without")
    async with server.asking(tmp_path, "says"):
        await asyncio.to_thread(say, server.door, "a@client.test", ["bob@example.test"], HARD)
        assert (await asyncio.to_thread(say, server.door, "a@client.test", ["bob@example.test"], edited))[-1].startswith("250")
        passed = crlf(await asyncio.to_thread(server.wait_for, "bob", b"end without more"))
        changed = crlf(await asyncio.to_thread(server.wait_for, "bob", b"edited without more"))
    assert passed.endswith(HARD), passed
    assert [line.partition(b":")[0] for line in passed[: -len(HARD)].split(b"\r\n") if line[:1].strip()] == ON_TOP
    tail = edited.replace(b"Subject: edit\r\n", b"Subject: [EXTERNAL] edit\r\n")
    assert changed.endswith(tail), changed
    front = changed[: -len(tail)]
    assert b"X-Second: two\r\n lines\r\nX-First: 1\r\n" in front


async def test_held_octets(server: PostfixWithMilter, tmp_path: Path) -> None:
    (tmp_path / "holds.py").write_text(
        "from gateway import Plugin, hook, quarantine\n\n\nclass Holds(Plugin):\n    @hook\n    async def judge(self):\n"
        "        return quarantine('all')\n"
    )
    server.clear()
    async with server.asking(tmp_path, "holds") as gateway:
        told = await asyncio.to_thread(say, server.door, "a@client.test", ["bob@example.test", "alice@example.test"], HARD)
        ((entry, octets),) = await held(gateway)
    assert told[-1].startswith("250")
    assert octets == HARD
    assert entry.reverse_path == b"<a@client.test>"
    assert [path for path, _, _ in entry.recipients] == [b"<bob@example.test>", b"<alice@example.test>"]
    assert [route for _, _, route in entry.recipients] == ["default", "default"]
    assert not server.messages("bob"), "the MTA was told to discard"


NAMES = ("bob", "alice", "reject", "defer", "discard", "rename", "more", "strict", "hold-x", "drop-x", "refuse-x", "new", "extra")
ALL_TO_BOB = {"virtual_mailbox_maps": f"inline:{{{', '.join(f'{name}@example.test=bob/' for name in NAMES)}}}"}


async def test_every_answer_is_understood(server: PostfixWithMilter, tmp_path: Path) -> None:
    shutil.copy(SAYS, tmp_path / "says.py")

    async def told(*names: str, sender: str = "a@client.test", content: bytes = HARD, helo: str = "client.test") -> list[str]:
        to = [f"{name}@example.test" for name in names]
        return await asyncio.to_thread(say, server.door, sender, to, content, helo=helo)

    async with server.asking(tmp_path, "says", settings=ALL_TO_BOB) as gateway:
        ok = "250 2.1.0 Ok"
        assert (await told("bob", helo="bad.test"))[0] == "550 5.7.1 Bad name, 100%"
        assert (await told("bob", sender="reject@client.test"))[0] == "550 5.7.1 No such sender"
        assert (await told("bob", sender="nodata@client.test"))[-1] == "550 5.7.1 No content from you"
        assert (await told("reject", "defer", "bob"))[:3] == [ok, "550 5.1.1 No such user", "451 4.7.1 Later, please"]
        assert (await told("bob", "strict"))[2] == "452 4.5.3 Send to this recipient in a transaction of its own"
        assert (await told("refuse-x"))[-1] == "550 5.7.1 Not this message"
        assert (await told("bob", "refuse-x"))[-1].startswith("451 4.5.3 Recipients of this message need different answers")
        two = HARD.replace(b"   spaces  kept", b" two lines")
        assert (await told("bob", content=two))[-1] == "554 5.7.1 First line 50%"
        other = HARD.replace(b"   spaces  kept", b" another body").replace(b"hard@client.test", b"body@client.test")
        assert (await told("bob", content=other))[-1].startswith("250")
        replaced = crlf(await asyncio.to_thread(server.wait_for, "bob", b"body@client.test"))
        assert replaced.partition(b"\r\n\r\n")[2] == b"other words\r\n" * 10_000
        server.clear()
        marked = HARD.replace(b"hard@client.test", b"some@client.test")
        assert (await told("bob", "hold-x", "drop-x", sender="b@client.test", content=marked))[-1].startswith("250")
        assert len(await held(gateway)) == 1
        envelope = HARD.replace(b"hard@client.test", b"envelope@client.test")
        assert (await told("rename", "more", sender="other@client.test", content=envelope))[-1].startswith("250")
        await asyncio.to_thread(_until, lambda: len(server.messages("bob")) >= 4, server)
        found = server.messages("bob")
    assert sum(b"some@client.test" in one for one in found) == 1, "those held and discarded were taken off"
    changed = [one for one in found if b"envelope@client.test" in one]
    assert sorted(_field(one, b"Delivered-To") for one in changed) == [
        b"extra@example.test",
        b"more@example.test",
        b"new@example.test",
    ]
    assert {_field(one, b"Return-Path") for one in changed} == {b"<changed@client.test>"}


def _field(message: bytes, name: bytes) -> bytes:
    return message.partition(name + b": ")[2].partition(b"\n")[0]


async def test_the_hold_queue(server: PostfixWithMilter, tmp_path: Path) -> None:
    (tmp_path / "holds.py").write_text(
        "from gateway import Plugin, add_header, hook, quarantine\n\n\nclass Holds(Plugin):\n    @hook\n    async def judge(self):\n"
        "        return quarantine('all')\n\n    @hook\n    async def rewrite(self):\n        return add_header('X-Held', 'yes')\n"
    )
    queue = server.config.parent / "queue" / "hold"
    async with server.asking(tmp_path, "holds", listener={"mta_quarantine": True}) as gateway:
        told = await asyncio.to_thread(say, server.door, "a@client.test", ["bob@example.test"], HARD)
        assert told[-1].startswith("250")
        assert await held(gateway) == []
        await gateway.quiet()
        assert [row["fate"] for row in gateway.records[-1]["recipients"]] == ["held"]
        assert gateway.records[-1]["queue_id"] in told[-1]
    (file,) = queue.iterdir()
    assert b"X-Held: yes" in file.read_bytes()
    assert not server.messages("bob")


async def test_without_the_gateway_mail_waits(server: PostfixWithMilter) -> None:
    told = await asyncio.to_thread(say, server.door, "a@client.test", ["bob@example.test"], HARD)
    assert told[0].startswith("451 4.7.1")


def _until(done: Callable[[], bool], server: RealPostfix) -> None:
    deadline = time.monotonic() + 15
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(server.log())
        with suppress(OSError):
            time.sleep(0.05)
