"""How a session ends when something of ours fails, and when a client does not take its last replies."""

from __future__ import annotations

import asyncio
import errno
from asyncio import selector_events
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from typing_extensions import override

from gateway.config.models import Config
from gateway.content import Content
from gateway.errors import StorageError
from gateway.smtp.looks import Looks
from gateway.testing.in_process import InProcessGateway, MemoryJournal
from gateway.testing.wire import Party, connect
from gateway.trace import Record

PLUGIN = '''
"""Nobody is asked."""

from gateway import Plugin, Transaction, Verdict, discard, hook


class Discards(Plugin):
    @hook
    async def mail(self, transaction: Transaction) -> Verdict:
        return discard("nobody wants it")
'''


def config(directory: Path) -> Config:
    (directory / "discards.py").write_text(PLUGIN)
    return Config.model_validate(
        {
            "route": [{"domains": ["example.test"], "servers": ["127.0.0.1:9"]}],
            "limits": {"spool_memory": 10},
            "plugin_path": [str(directory)],
            "plugins": ["discards"],
        }
    )


async def sent(gateway: InProcessGateway) -> tuple[Party, str]:
    """A client that has sent a message, and the reply to it."""
    client = await connect(gateway.port())
    await client.line()
    client.say(b"HELO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.test>\r\nDATA\r\n")
    for _ in range(4):
        assert str(await client.line())[:3] in {"250", "354"}
    client.say(b"Subject: a spooled message\r\n\r\n.\r\n")
    return client, str(await client.line())


async def test_a_spool_that_cannot_be_read_is_451_and_the_session_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> Content:
        raise OSError(errno.ENOMEM, "no memory to map it")

    monkeypatch.setattr(Content, "from_file", fails)
    async with InProcessGateway(config(tmp_path), directory=tmp_path) as gateway:
        client, answer = await sent(gateway)
        assert answer.startswith("451 4.3.0 Spool failed; try again later ")
        client.say(b"NOOP\r\n")
        assert await client.line() == "250 2.0.0 Ok"
        client.close()
        assert gateway.records[0]["verdict"] == "deferred"
        assert gateway.records[0]["id"] in answer


async def test_a_fault_of_ours_is_421_with_a_record_that_says_so(tmp_path: Path) -> None:
    class Defective(MemoryJournal):
        @override
        async def commit(self, record: Record) -> None:
            raise RuntimeError("a defect")

    async with InProcessGateway(config(tmp_path), directory=tmp_path, journal=Defective()) as gateway:
        client, answer = await sent(gateway)
        assert answer.startswith("421 4.3.0 Internal fault; try again later ")
        assert await client.line() is None
        client.close()
    assert [record["verdict"] for record in gateway.records] == ["deferred"]
    assert gateway.records[0]["id"] in answer
    assert gateway.records[0]["reply"] == answer


@pytest.mark.parametrize(
    ("full", "reply"),
    [(True, "452 4.3.1 Insufficient storage, try again later "), (False, "451 4.3.0 Try again later ")],
)
async def test_what_cannot_be_recorded_is_not_promised(tmp_path: Path, full: bool, reply: str) -> None:
    async def fails(_: object) -> None:
        raise StorageError("the discard's record", full=full)

    async with InProcessGateway(config(tmp_path), directory=tmp_path) as gateway:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gateway.journal, "commit", fails)
            client, answer = await sent(gateway)
        assert answer.startswith(reply)
        client.close()
        assert gateway.records[0]["verdict"] == "deferred"


async def test_a_network_that_comes_too_often(tmp_path: Path) -> None:
    wanted = config(tmp_path)
    limits = wanted.limits.model_copy(update={"network_rate": 1})
    listener = wanted.listener[0].model_copy(update={"lenient_networks": ()})
    wanted = wanted.model_copy(update={"limits": limits, "listener": (listener,)})
    async with InProcessGateway(wanted, directory=tmp_path) as gateway:
        first, second = await connect(gateway.port()), await connect(gateway.port())
        heard = sorted([str(await first.line())[:3], str(await second.line())])
        assert heard[0] == "220"
        assert heard[1].startswith("421 4.7.0 Connections from your network come too fast")
        first.close()
        second.close()


async def test_a_connection_whose_client_does_not_take_its_last_reply_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with InProcessGateway(config(tmp_path), directory=tmp_path) as gateway:
        gateway.door().last_looks = Looks(0.1, 0.125)
        client = await connect(gateway.port())
        await client.line()
        transport = selector_events._SelectorSocketTransport  # type: ignore[attr-defined] # the stubs know no private names
        write = transport.write

        def fills_up(self: Any, octets: bytes) -> None:
            write(self, octets)
            if octets.startswith(b"221 "):
                self._protocol.pause_writing()

        monkeypatch.setattr(transport, "write", fills_up)
        monkeypatch.setattr(transport, "close", lambda _: None)  # it waits until that is taken
        client.say(b"QUIT\r\n")
        assert str(await client.line()).startswith("221 ")
        async with asyncio.timeout(5):
            with suppress(ConnectionError):
                assert await client.line() is None
        monkeypatch.undo()
        client.close()


async def test_a_record_that_cannot_be_made_costs_itself_only(tmp_path: Path) -> None:
    class Defective(MemoryJournal):
        has_failed = False

        @override
        def record(self, record: Record) -> None:
            if not self.has_failed:
                self.has_failed = True
                raise RuntimeError("a defect")
            super().record(record)

    dropped = REGISTRY.get_sample_value("mailgateway_journal_dropped_total")
    async with InProcessGateway(config(tmp_path), directory=tmp_path, journal=Defective()) as gateway:
        client, answer = await sent(gateway)
        assert answer.startswith("250 ")
        client.say(b"MAIL FROM:<again@example.test>\r\nRCPT TO:<a@example.test>\r\nDATA\r\n\r\n.\r\n")
        assert [str(await client.line())[:3] for _ in range(4)] == ["250", "250", "354", "250"]
        client.close()
    assert [record["reverse_path"] for record in gateway.records] == ["<again@example.test>"]
    assert REGISTRY.get_sample_value("mailgateway_journal_dropped_total") == (dropped or 0) + 1


async def test_a_spool_file_is_closed_behind_the_reply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    close = Content.close

    def noted(content: Content) -> None:
        closed.append(content.fileno() is not None)
        close(content)

    monkeypatch.setattr(Content, "close", noted)
    async with InProcessGateway(config(tmp_path), directory=tmp_path) as gateway:
        client, answer = await sent(gateway)
        assert answer.startswith("250 ")
        client.close()
        assert [record["verdict"] for record in gateway.records] == ["discarded"]
    assert closed == [True]
