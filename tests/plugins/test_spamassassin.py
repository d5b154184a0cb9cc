"""The plugin `spamassassin`: what spamd is asked, what its answers come to, and answers that are none. Real ones: tests/integration."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import (
    Defer,
    Discard,
    Fact,
    Label,
    Message,
    PluginError,
    Quarantine,
    Reject,
    RemoveHeader,
    Score,
    Verdict,
    add_header,
    remove_header,
)
from gateway.plugins.spamassassin import Options, SpamAssassin
from gateway.plugins.spamassassin.protocol import AnswerError, Symbol, body_size, parse_answer, parse_head, parse_report
from gateway.testing import FakeContext, FakeScanner, Result, a_message, a_session, a_transaction, run_chain, run_plugin

REPORT = """Spam detection software, running on the system "mx",

Content preview:  buy now
---- ---------------------- --------------------------------------------------
 9.9 NOT_A_RULE             what the message says

Content analysis details:   (5.5 points, 5.0 required)

 pts rule name              description
---- ---------------------- --------------------------------------------------
 2.0 OWN_SUBJECT            Something is free
-0.5 OWN_WORD               BODY: Words that nobody
                            wants [3.0 SOME_THING of example.com]
1000 GTUBE                  BODY: Generic Test
                            [7.0 NO_RULE]

"""


def answer(body: str = "", *, spam: str = "True ; 5.5 / 5.0", head: str = "SPAMD/1.1 0 EX_OK") -> bytes:
    return f"{head}\r\nContent-length: {len(body)}\r\nSpam: {spam}\r\n\r\n{body}".encode()


def asking(*servers: FakeScanner, **options: Any) -> SpamAssassin:
    return SpamAssassin(Options(server=tuple(one.address for one in servers), **{"ping": 0.0, **options}), name="spamassassin")


async def asked(octets: bytes, **options: Any) -> tuple[Result, bytes]:
    async with FakeScanner("http") as spamd:
        spamd.answers(octets)
        result = await run_plugin(asking(spamd, **options), message=options.pop("message", None))
        return result, spamd.requests[0]


def labels(result: Result) -> dict[str, str]:
    return {one.name: one.evidence for one in result.findings if isinstance(one, Label)}


async def test_a_report_tells_points_and_descriptions() -> None:
    result, _ = await asked(answer(REPORT), score_factor=0.5)
    assert labels(result) == {
        "spamassassin.OWN_SUBJECT": "2 points: Something is free",
        "spamassassin.OWN_WORD": "-0.5 points: BODY: Words that nobody",
        "spamassassin.GTUBE": "1000 points: BODY: Generic Test",
    }
    why = "5.5 points, 5 are spam: GTUBE 1000, OWN_SUBJECT 2, OWN_WORD -0.5"
    assert [one for one in result.findings if isinstance(one, Score)] == [Score(symbol="spamassassin", weight=2.75, evidence=why)]
    assert Fact(name="spamassassin.is_spam", value=True) in result.findings
    assert result.verdict == Quarantine(reason="spamassassin-spam", evidence=why)


async def test_symbols_and_the_score_alone() -> None:
    result, request = await asked(answer("OWN_WORD,OWN_SUBJECT,bad name!\r\n"), ask="symbols")
    assert sorted(labels(result)) == ["spamassassin.OWN_SUBJECT", "spamassassin.OWN_WORD"]
    assert request.startswith(b"SYMBOLS SPAMC/1.5\r\nContent-length: ")
    result, request = await asked(b"SPAMD/1.1 0 EX_OK\r\nSpam: False ; 1.0 / 5.0\r\n\r\n", ask="check")
    assert request.startswith(b"CHECK SPAMC/1.5\r\n")
    assert (labels(result), result.verdict) == ({}, None)


async def test_header_fields_take_the_place_of_strangers() -> None:
    fields = (
        "Subject: x\r\nX-Spam-Flag: YES\r\nX-Spam-Status: Yes, score=5.5 required=5.0 tests=OWN_SUBJECT,\r\n\tOWN_WORD autolearn=no\r\n"
        f"X-Spam-Odd: {'x' * 2_000}\r\nX-Other: 1\r\n\r\nbody"
    )
    message = a_message(headers=[("X-Spam-Flag", "NO"), ("x-spam-level", ""), ("X-Spam-Flag", "NO")])
    async with FakeScanner("http") as spamd:
        spamd.answers(answer(fields))
        plugin = asking(spamd, ask="headers", then="pass")
        result = await run_plugin(plugin, message=message)
        assert sorted(labels(result)) == ["spamassassin.OWN_SUBJECT", "spamassassin.OWN_WORD"]
        assert result.edits == (
            remove_header("x-spam-flag"),
            remove_header("x-spam-level"),
            add_header("X-Spam-Status", "Yes, score=5.5 required=5.0 tests=OWN_SUBJECT,\r\n\tOWN_WORD autolearn=no"),
            add_header("X-Spam-Flag", "YES"),
        )
        assert not plugin._fields
        spamd.drops()  # with on_error = "ignore" nobody vouches for what came with the message
        result = await run_chain([asking(spamd, ask="headers")], message=message, on_error="ignore")
        assert all(isinstance(one, RemoveHeader) for one in result.edits)
        assert len(result.edits) == 2


@pytest.mark.parametrize(
    ("options", "spam", "expected"),
    [
        ({}, "False ; 4.9 / 5.0", None),
        ({}, "True ; 5.0 / 5.0", Quarantine),
        ({}, "yes ; 5.0 / 5.0", Quarantine),
        ({"then": "reject"}, "True ; 5.0 / 5.0", Reject),
        ({"then": "discard"}, "True ; 5.0 / 5.0", Discard),
        ({"then": "defer"}, "True ; 5.0 / 5.0", Defer),
        ({"then": "pass"}, "True ; 50.0 / 5.0", None),
        ({"then": "pass", "reject_from": 15}, "True ; 15.0 / 5.0", Reject),
        ({"reject_from": 15}, "True ; 14.9 / 5.0", Quarantine),
        ({"threshold": 7}, "True ; 6.9 / 5.0", None),
        ({"threshold": -1}, "False ; -1.0 / 5.0", Quarantine),
    ],
)
async def test_what_follows(options: dict[str, Any], spam: str, expected: type[Verdict] | None) -> None:
    result, _ = await asked(answer(spam=spam), **options)
    assert (None if result.verdict is None else type(result.verdict)) is expected


async def test_spamd_sees_the_client_and_the_message_as_it_came() -> None:
    message = a_message(body="x" * 1_000_000)
    zones = {"192.0.2.7": {"PTR": ["mail.client.example."]}, "mail.client.example": {"A": ["192.0.2.7"]}}
    session = a_session(client_address="192.0.2.7", helo="client.example\n", tls=True, identity="alice")
    transaction = a_transaction(session=session, reverse_path="alice@client.example")
    async with FakeScanner("http") as spamd:
        spamd.answers(answer())
        await run_plugin(asking(spamd, user="all"), message=message, transaction=transaction, context=FakeContext(zones=zones))
        head, _, content = spamd.requests[0].partition(b"\r\n\r\n")
        await run_plugin(asking(spamd, trace_field=False), message=message)
        assert spamd.requests[1].partition(b"\r\n\r\n")[2] == message.octets
    assert b"\r\nUser: all" in head
    received = (
        b"Received: from client.example? (mail.client.example [192.0.2.7])\r\n\tby mx.example.org (mailgateway) with ESMTPSA id "
    )
    assert content.startswith(received)
    front = content[: -message.size]
    assert content[-message.size :] == message.octets
    assert front.endswith(b"\r\nX-Envelope-From: <alice@client.example>\r\n")


@pytest.mark.parametrize(
    ("recipients", "user"),
    [(["bob@example.org"], "bob@example.org"), (["bob@example.org", "c@example.org"], "all"), (["b\u00fcb@example.org"], "all")],
)
async def test_preferences_of_the_only_recipient(recipients: list[str], user: str) -> None:
    async with FakeScanner("http") as spamd:
        spamd.answers(answer())
        await run_plugin(asking(spamd, user="all", per_recipient=True), transaction=a_transaction(recipients=recipients))
        assert f"\r\nUser: {user}\r\n".encode() in spamd.requests[0]


RUBBISH = [
    b"",
    b"\xff\x00 nonsense\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"SPAMD/1.1 0 EX_OK\r\n\r\n",
    b"SPAMD/1.1 75 EX_TEMPFAIL\r\n",
    b"SPAMD/1.0 76 Bad header line: \x1b[31m\r\n",
    b"SPAMD/1.1 0 EX_OK\r\nnonsense\r\n\r\n",
    b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; nan / 5.0\r\n\r\n",
    b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 1.1.1 / 5.0\r\n\r\n",
    b"SPAMD/1.1 0 EX_OK\r\nContent-length: 99999999\r\nSpam: True ; 1 / 5.0\r\n\r\n",
    b"SPAMD/1.1 0 EX_OK\r\nContent-length: -1\r\nSpam: True ; 1 / 5.0\r\n\r\n",
    b"SPAMD/1.1 0 EX_OK\r\nContent-length: 10\r\nSpam: True ; 1 / 5.0\r\n\r\nshort",
    b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 1 / 5.0",
    b"SPAMD/1.1 0 EX_OK\r\n" + b"X: y\r\n" * 10_000,
    b"SPAMD/1.1 0 EX_OK\r\nX: " + b"y" * 200_000,
    b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 1 / 5.0\r\n\r\n" + b"x" * 1_100_000,
]


@pytest.mark.parametrize("octets", RUBBISH, ids=range(len(RUBBISH)))
async def test_what_is_no_answer_is_a_fault(octets: bytes) -> None:
    async with FakeScanner("http") as spamd:
        spamd.drops(after=octets)
        with pytest.raises(PluginError) as caught:
            await run_plugin(asking(spamd))
    assert str(caught.value).partition("\n")[0].isprintable()


async def test_a_server_that_hangs_costs_its_share_of_the_time_and_the_next_answers() -> None:
    async with FakeScanner("http") as first, FakeScanner("http") as second:
        first.hangs()
        second.answers(answer())
        plugin = asking(first, second, failures=1, rest=60)
        assert isinstance((await run_plugin(plugin, timeout=0.5, start=False)).verdict, Quarantine)
        assert isinstance((await run_plugin(plugin, timeout=0.5, start=False)).verdict, Quarantine)
        assert len(first.requests) == 1  # it rests


async def test_a_ping_finds_that_it_is_back() -> None:
    async with FakeScanner("http") as spamd:
        plugin = asking(spamd)
        service = plugin.services[0]
        spamd.answers(b"SPAMD/1.5 0 PONG\r\n")
        assert await service.ping(plugin.ping, 1.0)
        for octets in (b"nonsense\r\n", b"SPAMD/1.5 76 no\r\n"):
            spamd.drops(after=octets)
            assert not await service.ping(plugin.ping, 1.0)
        await plugin.shutdown()


async def test_messages_too_large_are_not_scanned() -> None:
    result = await run_plugin(SpamAssassin(Options(max_size=10, ping=0.0), name="spamassassin"), message=a_message())
    assert list(labels(result)) == ["spamassassin.too_large"]


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.plugins.spamassassin.MAX_WAITING", 2)
    async with FakeScanner("http") as spamd:
        spamd.answers(answer("X-Spam-Flag: YES\r\n\r\n"))
        plugin = asking(spamd, ask="headers")
        plugin.context = FakeContext()
        await asyncio.gather(*(plugin.check(a_transaction(), message(number)) for number in range(4)))
        assert len(plugin._fields) <= 2


def message(number: int) -> Message:
    return a_message(subject=str(number))


@given(st.binary(max_size=300))
def test_any_octets_are_an_answer_or_a_fault(octets: bytes) -> None:
    try:
        headers = parse_head(octets)
        body_size(headers)
        parse_answer("HEADERS", headers, octets)
        parse_answer("REPORT", headers, octets)
    except AnswerError:
        pass


@given(st.text(alphabet=" -\n\t0123456789.ABC_x", max_size=300))
def test_any_text_is_a_report(text: str) -> None:
    ruler = "---- ---------------------- --------------------------------------------------\n"
    for one in parse_report(ruler + text):
        assert isinstance(one, Symbol)
