"""The plugin `recipients_http`: the request, the answers, and a service that misbehaves. It talks to a real HTTP server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError

from gateway import Context, LookupFailedError, Reject
from gateway.plugins import recipients_http as module
from gateway.plugins.recipients_http import Options, RecipientsHttp
from gateway.testing import FakeContext, a_recipient, a_transaction, run_plugin

KNOWN = '{"known": true}'


class _Service:
    """Answers every request with what the test sets, and keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.status = "200 OK"
        self.body = KNOWN
        self.more = ""
        self.silent = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.requests.append(head.decode().split("\r\n"))
                if self.silent:
                    await asyncio.sleep(30)
                body = self.body.encode()
                writer.write(f"HTTP/1.1 {self.status}\r\nContent-Length: {len(body)}\r\n{self.more}\r\n".encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @property
    def paths(self) -> list[str]:
        return [lines[0].split()[1] for lines in self.requests]


@pytest.fixture
async def service() -> AsyncIterator[_Service]:
    service = _Service()
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    service.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined] # of the test only
    yield service
    server.close()


def options(service: Any, **more: Any) -> Options:
    url = more.pop("url", "/mailboxes/{address}")
    return Options.model_validate({"url": service.url + url, "domains": ["example.org"], **more})


async def ask(service: Any, mailbox: str, **more: Any) -> Any:
    plugin = RecipientsHttp(options(service, **more))
    return (await run_plugin(plugin, transaction=a_transaction(recipients=[mailbox]))).verdict


async def test_a_known_recipient_passes(service: _Service) -> None:
    assert await ask(service, "Alice@Example.org") is None
    assert service.paths == ["/mailboxes/alice%40example.org"]


@pytest.mark.parametrize(("status", "body"), [("404 Not Found", "nothing"), ("200 OK", '{"known": false, "more": [1]}')])
async def test_an_unknown_recipient_is_refused(service: _Service, status: str, body: str) -> None:
    service.status, service.body = status, body
    verdict = await ask(service, "bob@example.org")
    assert isinstance(verdict, Reject)
    assert (verdict.code, verdict.enhanced, verdict.reason) == (550, "5.1.1", "unknown-recipient")


async def test_a_subaddress_is_asked_about_as_written_and_then_without(service: _Service) -> None:
    service.status = "404 Not Found"
    await ask(service, "bob+x@example.org")
    assert service.paths == ["/mailboxes/bob%2Bx%40example.org", "/mailboxes/bob%40example.org"]


@pytest.mark.parametrize("mailbox", ["postmaster@example.org", "anybody@elsewhere.example"])
async def test_nobody_asks_about_postmaster_and_other_domains(service: _Service, mailbox: str) -> None:
    assert await ask(service, mailbox) is None
    assert service.requests == []


async def test_what_a_client_writes_stays_one_piece_of_the_path(service: _Service) -> None:
    await ask(service, '"../../admin?x=1#{domain}\\" "@example.org', url="/{domain}/{local_part}/known")
    assert service.paths == ["/example.org/..%2F..%2Fadmin%3Fx%3D1%23%7Bdomain%7D%22%20/known"]


async def test_the_token_goes_along(service: _Service, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0ken\n")
    await ask(service, "alice@example.org", token_file=str(tmp_path / "token"))
    assert "Authorization: Bearer t0ken" in service.requests[0]


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        ("500 Oops", KNOWN, "status 500"),
        ("301 Moved", KNOWN, "status 301"),
        ("200 OK", "", "no answer as agreed"),
        ("200 OK", '{"known": "yes"}', "no answer as agreed"),
        ("200 OK", "[]", "no answer as agreed"),
        ("200 OK", '{"known": true, "ttl": -1}', "no answer as agreed"),
        ("200 OK", KNOWN + " " * module.MAX_ANSWER, "more than 65536 octets"),
    ],
)
async def test_another_answer_is_a_fault(service: _Service, status: str, body: str, why: str) -> None:
    service.status, service.body, service.more = status, body, "Location: http://127.0.0.1:1/\r\n"
    plugin = RecipientsHttp(options(service))
    done = await run_plugin(plugin, transaction=a_transaction(recipients=["alice@example.org"]), on_error="defer")
    assert done.verdict is not None
    assert done.verdict.reason == "plugin-error"
    assert why in done.verdict.evidence


async def test_a_service_that_is_silent_or_away_is_left_alone_after_a_while(service: _Service) -> None:
    service.silent = True
    context = FakeContext()
    plugin = RecipientsHttp(options(service, query_limit="50ms", failures=2), context=cast("Context", context))
    await plugin.startup(cast("Context", context))
    for mailbox, why in [("a@example.org", "."), ("b@example.org", "."), ("c@example.org", "not asked again yet")]:
        with pytest.raises(LookupFailedError, match=why):
            await plugin.rcpt(a_recipient(mailbox))
    assert len(service.requests) == 2
    service.silent = False
    context.clock.move(11)
    assert await plugin.rcpt(a_recipient("c@example.org")) is None
    await plugin.shutdown()


async def test_the_service_says_how_long_its_answer_holds(service: _Service) -> None:
    context = FakeContext()
    plugin = RecipientsHttp(options(service), context=cast("Context", context))
    await plugin.startup(cast("Context", context))
    service.body = '{"known": true, "ttl": 5}'
    await plugin.rcpt(a_recipient("a@example.org"))
    context.clock.move(4)
    await plugin.rcpt(a_recipient("a@example.org"))
    assert len(service.requests) == 1
    context.clock.move(2)
    await plugin.rcpt(a_recipient("a@example.org"))
    assert len(service.requests) == 2
    await plugin.shutdown()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/{address}",
        "https://h/",
        "https:///{address}",
        "https://h/{addres}",
        "https://{domain}/{address}",
        "https://h/{address",
        "",
    ],
)
def test_a_url_that_cannot_serve_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        Options(url=url, domains=("example.org",))
