"""The plugin `notice`: what is told, in which form, how often, and that no mail waits for it. It talks to a real HTTP server on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError

from gateway import Context, Decision, Outcome, quarantine
from gateway.plugins.notice import Notice, Options
from gateway.testing import FakeContext, a_recipient, a_transaction


class _Chat:
    """An HTTP server that keeps what it is sent."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[tuple[str, dict[str, Any], bytes]] = asyncio.Queue()
        self.status = "200 OK"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(
                    next(line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
                )
                body = json.loads(await reader.readexactly(size))
                writer.write(f"HTTP/1.1 {self.status}\r\nContent-Length: 0\r\n\r\n".encode())
                await self.requests.put((" ".join(head.decode().split()[:2]), body, head))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def chat(tmp_path: Path) -> AsyncIterator[_Chat]:
    chat = _Chat()
    server = await asyncio.start_server(chat.serve, "127.0.0.1", 0)
    (tmp_path / "url").write_text(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook\n")
    (tmp_path / "token").write_text("t0ken\n")
    yield chat
    server.close()


class _Started:
    def __init__(self, directory: Path, **more: Any) -> None:
        self.context = FakeContext(base_directory=str(directory))
        options = Options.model_validate({"to": "webhook", "url_file": "url", "per_minute": 1_000, **more})
        self.plugin = Notice(options, name="notice", context=cast("Context", self.context))

    async def __aenter__(self) -> Notice:
        await self.plugin.startup(cast("Context", self.context))
        await asyncio.sleep(0)  # so that its background work has begun
        return self.plugin

    async def __aexit__(self, *_: object) -> None:
        for task in tuple(self.context._tasks):
            task.cancel()
        await asyncio.gather(*self.context._tasks, return_exceptions=True)
        await self.plugin.shutdown()


def end(
    plugin: Notice, fate: str = "held", *, evidence: str = "http://evil.example/\r\n<b>", mailbox: str = "bob@example.org"
) -> None:
    recipient = a_recipient(mailbox)
    verdict = quarantine("executable-attachment", evidence=evidence)
    recipient.decision = Decision(verdict=verdict, plugin="rules", hook="judge")
    transaction = a_transaction(recipients=[recipient], id="T1")
    plugin.done(transaction, Outcome(fates=((mailbox, fate),)))


async def test_a_webhook_gets_every_value_on_one_line(chat: _Chat, tmp_path: Path) -> None:
    async with _Started(tmp_path, token_file="token") as plugin:
        end(plugin)
        request, body, head = await chat.requests.get()
    assert request == "POST /hook"
    assert b"authorization: bearer t0ken" in head.lower()
    assert body == {
        "text": "held: mail from alice@client.example to bob@example.org (rules: executable-attachment), T1",
        "more": 0,
        "fate": "held",
        "sender": "alice@client.example",
        "recipients": "bob@example.org",
        "plugin": "rules",
        "reason": "executable-attachment",
        "evidence": "http[:]//evil.example/\ufffd\ufffd<b>",
        "client": "192.0.2.1",
        "id": "T1",
    }


async def test_slack_gets_no_markup(chat: _Chat, tmp_path: Path) -> None:
    async with _Started(tmp_path, to="slack", text="$evidence & $fate") as plugin:
        end(plugin, evidence="<!channel> *x*")
        _, body, _ = await chat.requests.get()
    assert body["text"] == "&lt;!channel&gt; *x* &amp; held"
    assert body["mrkdwn"] is False


async def test_matrix_gets_a_notice_in_its_room(chat: _Chat, tmp_path: Path) -> None:
    async with _Started(tmp_path, to="matrix", room="!a/b:example.org", token_file="token") as plugin:
        end(plugin)
        request, body, _ = await chat.requests.get()
    assert request == "PUT /hook/_matrix/client/v3/rooms/%21a%2Fb%3Aexample.org/send/m.room.message/T1.1"
    assert body["msgtype"] == "m.notice"


async def test_only_chosen_fates_and_reasons_are_told(chat: _Chat, tmp_path: Path) -> None:
    async with _Started(tmp_path, fates=["held"], reasons=["executable-attachment"]) as plugin:
        end(plugin, "delivered")
        end(plugin, mailbox="carol@example.org")
        _, body, _ = await chat.requests.get()
        assert body["recipients"] == "carol@example.org"
    async with _Started(tmp_path, reasons=["other"]) as plugin:
        end(plugin)
        assert not plugin._waiting


async def test_what_does_not_fit_is_counted_and_said_in_the_next(chat: _Chat, tmp_path: Path) -> None:
    async with _Started(tmp_path, queue=2) as plugin:
        for _ in range(5):
            end(plugin)  # nobody has sent yet: nothing was awaited
        first = (await chat.requests.get())[1]
        second = (await chat.requests.get())[1]
    assert (first["more"], second["more"]) == (3, 0)
    assert first["text"].endswith("T1 (and 3 more)")


async def test_a_failure_is_logged_without_the_address_and_counted_in_the_next(chat: _Chat, tmp_path: Path) -> None:
    started = _Started(tmp_path)
    async with started as plugin:
        chat.status = "500 No"
        end(plugin)
        await chat.requests.get()
        chat.status = "200 OK"
        end(plugin)
        assert (await chat.requests.get())[1]["more"] == 1
    assert started.context.log.lines == [("warning", "notice.failed", {"error": "status 500", "id": "T1"})]


async def test_recipients_that_are_many_are_counted(chat: _Chat, tmp_path: Path) -> None:
    async with _Started(tmp_path) as plugin:
        names = [f"u{n}@example.org" for n in range(8)]
        plugin.done(a_transaction(recipients=names), Outcome(fates=tuple((name, "rejected") for name in names)))
        _, body, _ = await chat.requests.get()
    assert body["recipients"] == "u0@example.org, u1@example.org, u2@example.org, u3@example.org, u4@example.org and 3 more"
    assert body["plugin"] == "next hop"


@pytest.mark.parametrize(
    "wrong", [{"text": "$subject"}, {"text": "100 $"}, {"to": "matrix"}, {"to": "mail"}, {"fates": ["lost"]}, {"per_minute": 0}]
)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate({"to": "slack", "url_file": "url", **wrong})


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "https://", "hooks.example.org"])
async def test_an_address_that_is_none_stops_the_start_and_is_not_shown(tmp_path: Path, url: str) -> None:
    (tmp_path / "url").write_text(url)
    started = _Started(tmp_path)
    with pytest.raises(ValueError, match="url: found no address"):
        await started.plugin.startup(cast("Context", started.context))
