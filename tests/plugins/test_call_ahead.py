"""The plugin `call_ahead`: what it says to the server, what it makes of the answers, and what it remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from pydantic import ValidationError

from gateway import Context, Fact, LookupFailedError, Reject
from gateway.plugins.call_ahead import CallAhead, Options
from gateway.testing import FakeContext, a_message, a_recipient, a_transaction, run_plugin
from gateway.testing.next_hop import SILENCE, ScriptedNextHop


@pytest.fixture
async def server() -> AsyncIterator[ScriptedNextHop]:
    async with ScriptedNextHop() as hop:
        hop.script("RCPT TO:<nobody-", "550 5.1.1 Unknown")
        yield hop


class _Started:
    def __init__(self, server: ScriptedNextHop, *, context: FakeContext | None = None, **more: Any) -> None:
        self.context = FakeContext() if context is None else context
        options = Options.model_validate({"server": server.address, "domains": ["Example.org"], **more})
        self.plugin = CallAhead(options, name="call_ahead", context=cast("Context", self.context))
        self.plugin.startup(cast("Context", self.context))

    async def asks(self, mailbox: str) -> Reject | None:
        return await self.plugin.rcpt(a_recipient(mailbox))


def said(server: ScriptedNextHop) -> list[str]:
    return [line.decode() for line in server.commands if not line.startswith(b"EHLO")]


def questions_of(server: ScriptedNextHop) -> list[str]:
    """The beginning of each local part that was asked about."""
    return [line.partition("<")[2].partition("@")[0][:6] for line in said(server) if line.startswith("RCPT")]


async def test_asks_with_the_null_reverse_path_and_sends_nothing(server: ScriptedNextHop) -> None:
    started = _Started(server, catch_all=False)
    assert await started.asks("Alice@example.org") is None
    assert said(server)[:2] == ["MAIL FROM:<>", "RCPT TO:<Alice@example.org>"]
    assert server.transactions == []


@pytest.mark.parametrize("reply", ["550 5.1.1 No such user", "550 Unknown", "551 Moved", "553 5.1.3 Bad", "550 5.2.1 Disabled"])
async def test_an_unknown_recipient_is_refused_and_the_servers_words_stay_with_us(server: ScriptedNextHop, reply: str) -> None:
    server.script("RCPT TO:<bob@", reply)
    verdict = await _Started(server).asks("bob@example.org")
    assert isinstance(verdict, Reject)
    assert (verdict.code, verdict.enhanced, verdict.text) == (550, "5.1.1", "No such recipient here")
    assert verdict.evidence == f"{server.address}: {reply}"


@pytest.mark.parametrize(
    ("when", "reply"),
    [
        ("RCPT TO:<bob@", "450 4.2.0 Greylisted"),
        ("RCPT TO:<bob@", "554 5.7.1 Relay access denied"),
        ("RCPT TO:<bob@", "550 5.7.1 Your address is listed"),
        ("MAIL", "550 5.7.1 No bounces here"),
        ("GREETING", "554 No service"),
    ],
)
async def test_what_says_nothing_of_the_mailbox_is_left_to_on_error(server: ScriptedNextHop, when: str, reply: str) -> None:
    server.script(when, reply)
    with pytest.raises(LookupFailedError, match=reply[4:]):
        await _Started(server, catch_all=False).asks("bob@example.org")


async def test_a_server_that_is_silent_costs_its_limit(server: ScriptedNextHop) -> None:
    server.script("RCPT", SILENCE)
    with pytest.raises(LookupFailedError, match="no answer within"):
        await _Started(server, query_limit="50ms").asks("bob@example.org")


@pytest.mark.parametrize("mailbox", ["postmaster@example.org", "bob@elsewhere.example", "zoë@example.org"])
async def test_nobody_is_asked_about_postmaster_other_domains_and_what_needs_smtputf8(
    server: ScriptedNextHop, mailbox: str
) -> None:
    assert await _Started(server).asks(mailbox) is None
    assert server.commands == []


async def test_answers_are_shared_by_workers_and_kept_for_their_time(server: ScriptedNextHop) -> None:
    server.script("RCPT TO:<bob@", "550 5.1.1 No")
    server.script("RCPT TO:<carol@", "450 4.2.0 Later")
    first = _Started(server)
    second = _Started(server, context=first.context)

    async def questions(started: _Started) -> list[str]:
        before = len(questions_of(server))
        for name in ("alice", "bob", "carol"):
            try:
                await started.asks(f"{name}@example.org")
            except LookupFailedError:
                continue
        return questions_of(server)[before:]

    assert await questions(first) == ["nobody", "alice", "bob", "carol"]
    assert await questions(second) == []
    first.context.clock.move(121)
    assert await questions(second) == ["carol"]
    first.context.clock.move(1_800)
    assert await questions(first) == ["nobody", "bob", "carol"]
    first.context.clock.move(86_400)
    assert await questions(second) == ["nobody", "alice", "bob", "carol"]


async def test_a_domain_that_takes_everything_is_not_asked_about(server: ScriptedNextHop) -> None:
    server.script("RCPT TO:<nobody-", "250 2.1.5 Ok")
    server.script("RCPT TO:<bob@", "550 5.1.1 No")
    started = _Started(server)
    assert await started.asks("bob@example.org") is None
    assert questions_of(server) == ["nobody"]
    found = started.plugin.check(a_transaction(recipients=["bob@example.org", "x@elsewhere.example"]))
    assert found == [Fact(name="call_ahead.catch_all", value="example.org")]


async def test_those_who_ask_at_once_share_a_question_and_connections_are_few(server: ScriptedNextHop) -> None:
    started = _Started(server, at_once=2, catch_all=False)
    await asyncio.gather(*(started.asks(f"user{n % 5}@example.org") for n in range(50)))
    assert sorted(questions_of(server)) == [f"user{n}" for n in range(5)]


async def test_in_a_chain(server: ScriptedNextHop) -> None:
    server.script("RCPT TO:<bob@", "550 5.1.1 No")
    options = Options(server=server.address, domains=("example.org",))
    transaction = a_transaction(recipients=["alice@example.org", "bob@example.org"])
    done = await run_plugin(CallAhead(options), transaction=transaction, message=a_message())
    assert done.decisions["alice@example.org"] is None
    assert done.decisions["bob@example.org"] is not None


@pytest.mark.parametrize("server", ["mail.example.org", "mail.example.org:0", ":25", "mail.example.org:smtp", "h:99999"])
def test_a_server_that_is_none_is_refused(server: str) -> None:
    with pytest.raises(ValidationError, match="allowed: host:port"):
        Options(server=server, domains=("example.org",))
