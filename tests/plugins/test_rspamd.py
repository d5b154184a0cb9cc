"""The plugin `rspamd`: what it asks, what each answer comes to. A real rspamd is asked in tests/integration/test_rspamd.py."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway import (
    AddHeader,
    Defer,
    Discard,
    Fact,
    InsertHeader,
    Label,
    OptionError,
    Proxy,
    Quarantine,
    Reject,
    RemoveHeader,
    ReplaceHeader,
    Score,
    Tls,
)
from gateway.content import CHUNK, Content
from gateway.message import Message
from gateway.plugins.rspamd import Options, Rspamd
from gateway.plugins.rspamd.answer import parse
from gateway.plugins.rspamd.edits import MAX_EDITS, read
from gateway.testing import EndToEnd, FakeContext, FakeScanner, Result, a_message, a_session, a_transaction, run_plugin

CLEAN = {"action": "no action", "score": 0.5, "required_score": 15.0, "symbols": {}, "is_skipped": False}


def asking(scanner: FakeScanner, **options: Any) -> Rspamd:
    chosen = {"server": scanner.address, "ping": 0, "client_names": False, **options}
    return Rspamd(Options.model_validate(chosen), name="rspamd")


async def after(
    answer: dict[str, Any] | bytes | str,
    *,
    status: int = 200,
    message: Message | None = None,
    on_error: str | None = None,
    **options: Any,
) -> Result:
    async with FakeScanner("http") as scanner:
        scanner.answers({**CLEAN, **answer} if isinstance(answer, dict) else answer, status=status)
        two = a_transaction(recipients=["bob@example.org", "carol@example.org"])
        return await run_plugin(asking(scanner, **options), transaction=two, message=message, on_error=on_error)


def fields_of(request: bytes) -> list[tuple[str, str]]:
    head = request.partition(b"\r\n\r\n")[0].decode()
    return [(name, value) for name, _, value in (line.partition(": ") for line in head.split("\r\n")[1:])]


TLS = Tls(version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384", bits=256, peer_issuer="CN=Our CA")


async def test_what_it_is_told() -> None:
    session = a_session(
        client_address="2001:db8::7", helo="mail.client.example", identity="alice", tls=TLS, client_name="mail.client.example"
    )
    transaction = a_transaction(session=session, recipients=["bob@example.org", "carol@example.org"])
    message = a_message()
    async with FakeScanner("http") as scanner:
        scanner.answers(CLEAN)
        result = await run_plugin(
            asking(scanner, settings="inbound", client_names=True), transaction=transaction, message=message
        )
        [request] = scanner.requests
    assert result.verdict is None
    head, _, body = request.partition(b"\r\n\r\n")
    assert body == bytes(message.octets)
    assert head.startswith(b"POST /checkv2 HTTP/1.1\r\n")
    told = fields_of(request)
    assert [one for one in told if one[0] not in {"Host", "Accept", "Connection", "User-Agent", "Accept-Encoding"}] == [
        ("Queue-Id", transaction.id),
        ("MTA-Name", "mx.example.org"),
        ("IP", "2001:db8::7"),
        ("Helo", "mail.client.example"),
        ("Hostname", "mail.client.example"),
        ("User", "alice"),
        ("From", "alice@client.example"),
        ("Rcpt", "bob@example.org"),
        ("Rcpt", "carol@example.org"),
        ("TLS-Version", "TLSv1.3"),
        ("TLS-Cipher", "TLS_AES_256_GCM_SHA384"),
        ("TLS-Cert-Issuer", "CN=Our CA"),
        ("Settings-ID", "inbound"),
        ("Content-Length", str(message.size)),
    ]


async def test_a_bounce_to_one_over_a_proxy_with_the_name_from_dns() -> None:
    session = a_session(helo="evil\r\nUser: root", proxy=Proxy(address="10.0.0.1", tls=TLS))
    transaction = a_transaction(session=session, reverse_path="", recipients=["bob@example.org"])
    zones = {"192.0.2.1": {"PTR": ["Mail.client.example."]}, "mail.client.example": {"A": ["192.0.2.1"]}}
    async with FakeScanner("http") as scanner:
        scanner.answers(CLEAN)
        plugin = asking(scanner, client_names=True)
        await run_plugin(plugin, transaction=transaction, context=FakeContext(zones=zones))
        told = dict(fields_of(scanner.requests[0]))
    assert (told["From"], told["Deliver-To"], told["Hostname"], told["TLS-Version"]) == (
        "<>",
        "bob@example.org",
        "mail.client.example",
        "TLSv1.3",
    )
    assert told["Helo"] == "evil??User: root"
    assert "User" not in told


async def test_the_password(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    (tmp_path / "password").chmod(0o600)
    async with FakeScanner("http") as scanner:
        scanner.answers(CLEAN)
        await run_plugin(asking(scanner, password_file="password"), context=FakeContext(base_directory=str(tmp_path)))
        assert ("Password", "s3cret") in fields_of(scanner.requests[0])


@pytest.mark.parametrize("size", [0, 1, CHUNK + 1, 3 * CHUNK])
async def test_a_spooled_message_goes_in_pieces(size: int) -> None:
    octets = bytes(n % 251 for n in range(size))
    with tempfile.TemporaryFile() as file:
        file.write(octets)
        content = Content.from_file(file)
        async with FakeScanner("http") as scanner:
            scanner.answers(CLEAN)
            await run_plugin(asking(scanner), message=Message(content))
            assert scanner.requests[0].partition(b"\r\n\r\n")[2] == octets
        content.close()


@pytest.mark.parametrize(
    ("action", "kind", "reason"),
    [
        ("reject", Reject, "rspamd-reject"),
        ("soft reject", Defer, "rspamd-defer"),
        ("quarantine", Quarantine, "rspamd-quarantine"),
        ("discard", Discard, "rspamd-discard"),
        ("greylist", None, ""),
        ("add header", None, ""),
        ("rewrite subject", None, ""),
        ("no action", None, ""),
        ("an action of the site", None, ""),
    ],
)
async def test_actions(action: str, kind: type | None, reason: str) -> None:
    result = await after({"action": action})
    assert isinstance(result.verdict, kind or type(None))
    assert result.verdict is None or result.verdict.reason == reason
    label = result.findings[0]
    assert isinstance(label, Label)
    assert label.name == "rspamd." + action.replace(" ", "_")


async def test_actions_may_come_to_something_else() -> None:
    actions = {"greylist": "defer", "reject": "quarantine", "an action of the site": "reject", "add header": "none"}
    found = [(await after({"action": action}, actions=actions, box="spam")).verdict for action in actions]
    assert [type(one) for one in found] == [Defer, Quarantine, Reject, type(None)]
    assert isinstance(found[1], Quarantine)
    assert found[1].box == "spam"


async def test_replies_are_its_own_and_safe() -> None:
    for action, code in (("reject", 554), ("soft reject", 451)):
        verdict = (await after({"action": action, "messages": {"smtp_message": "because\r\n250 of \x1b[31mthis"}})).verdict
        assert isinstance(verdict, Reject | Defer)
        assert (verdict.code, verdict.text) == (code, "because??250 of ?[31mthis")
    assert isinstance(usual := (await after({"action": "reject", "messages": []})).verdict, Reject)
    assert usual.text == "Rejected as spam"


async def test_symbols_are_scores() -> None:
    symbols = {
        "R_SPF_FAIL": {"name": "R_SPF_FAIL", "score": 1.5, "options": ["-all", "\u202ebad\n"]},
        "WHITE": {"score": -7},
        "SEEN": {"score": 0},
    }
    result = await after({"action": "add header", "score": 6.25, "symbols": symbols})
    label, fact, *scores = result.findings
    assert isinstance(label, Label)
    assert label.evidence.startswith("add header, 6.25/15 by 127.0.0.1:")
    assert label.evidence.endswith(": WHITE(-7), R_SPF_FAIL(1.5)")
    assert fact == Fact(name="rspamd.score", value=6.25)
    assert scores == [
        Score(symbol="R_SPF_FAIL", weight=1.5, evidence="-all, ?bad?"),
        Score(symbol="WHITE", weight=-7.0),
        Score(symbol="SEEN", weight=0.0),
    ]
    halved = await after({"symbols": symbols, "is_skipped": True}, weight=0.5)
    assert [one.weight for one in halved.findings if isinstance(one, Score)] == [0.75, -3.5, 0.0]
    assert "rspamd.skipped" in [one.name for one in halved.findings if isinstance(one, Label)]


async def test_marks_spam_and_takes_away_what_others_wrote() -> None:
    assert (await after({})).edits == (RemoveHeader(name="X-Spam"),)
    assert (await after({"action": "add header"})).edits == (RemoveHeader(name="X-Spam"), AddHeader(name="X-Spam", value="Yes"))
    named = await after({"action": "add header", "milter": {"spam_header": "very"}}, spam_header="X-Junk")
    assert named.edits == (RemoveHeader(name="X-Junk"), AddHeader(name="X-Junk", value="very"))
    several = await after({"action": "add header", "milter": {"spam_header": {"X-A": "1"}}}, spam_header="")
    assert several.edits == (RemoveHeader(name="X-A"), AddHeader(name="X-A", value="1"))
    assert (await after({"action": "add header"}, spam_header="")).edits == ()


async def test_rewrites_the_subject() -> None:
    edits = (await after({"action": "rewrite subject", "subject": "[SPAM]\r\n gr\u00fc\u00dfe"}, spam_header="")).edits
    assert edits == (ReplaceHeader(name="Subject", value="[SPAM] =?utf-8?B?Z3LDvMOfZQ==?="),)
    assert (await after({"action": "rewrite subject"}, spam_header="")).edits == ()


MILTER = {
    "add_headers": {
        "X-Plain": "plain",
        "X-Order": {"value": "top", "order": 1},
        "X-Index": {"value": "second", "index": 2},
        "X-Several": ["a", {"value": "b", "order": 0}],
        "X-Last": {"value": "last", "order": -1},
        "X-Before": {"value": "before the last", "order": -2},
        "X-Far": {"value": "far", "order": -100},
        "X-Folded": "a\nb\r\n\tc\r\n\r\n",
        "X-Foreign": "gr\u00fc\u00dfe",
    },
    "remove_headers": {"X-All": 0, "X-Some": [1, -1], "X-None": 3},
}


async def test_edits_of_the_header_section() -> None:
    message = a_message(headers=[("X-All", "1"), ("X-Some", "1"), ("X-Some", "2"), ("X-Some", "3"), ("X-None", "1")])
    count = len(message.fields)
    result = await after({"milter": MILTER}, message=message, spam_header="")
    assert result.edits == (
        RemoveHeader(name="X-All"),
        RemoveHeader(name="X-Some", occurrence=0),
        RemoveHeader(name="X-Some", occurrence=2),
        InsertHeader(name="X-Plain", value="plain", below=1_000_000),
        AddHeader(name="X-Order", value="top"),
        InsertHeader(name="X-Index", value="second", below=1),
        InsertHeader(name="X-Several", value="a", below=1_000_000),
        AddHeader(name="X-Several", value="b"),
        InsertHeader(name="X-Last", value="last", below=count),
        InsertHeader(name="X-Before", value="before the last", below=count - 1),
        AddHeader(name="X-Far", value="far"),
        InsertHeader(name="X-Folded", value="a\r\n\tb\r\n\tc", below=1_000_000),
        InsertHeader(name="X-Foreign", value="=?utf-8?B?Z3LDvMOfZQ==?=", below=1_000_000),
    )
    assert (await after({"milter": MILTER}, message=message, spam_header="", edits=False)).edits == ()


async def test_edits_reach_the_next_hop_and_the_rest_is_as_it_was() -> None:
    async with FakeScanner("http") as scanner:
        milter = {"add_headers": {"X-Plain": "plain", "X-Top": {"value": "top", "order": 1}}, "remove_headers": {"X-Old": 0}}
        scanner.answers({**CLEAN, "action": "add header", "milter": milter})
        options = {"rspamd": {"server": scanner.address, "ping": 0, "client_names": False}}
        async with EndToEnd(plugins=["rspamd"], options=options) as mail:
            message = b"From: a@client.example\r\nX-Old: 1\r\nX-Spam: No\r\nSubject:  odd   spaces\r\n\r\nbody\r\n"
            sent = await mail.send(message)
    lines = sent.taken[0].content.split(b"\r\n")
    end = lines.index(b"")
    assert lines[end - 3 :] == [b"From: a@client.example", b"Subject:  odd   spaces", b"X-Plain: plain", b"", b"body", b""]
    assert b"X-Spam: Yes" in lines[: end - 3]
    assert b"X-Top: top" in lines[: end - 3]
    assert not [line for line in lines if line.startswith((b"X-Old", b"X-Spam: No"))]


async def test_wishes_about_recipients_and_the_envelope() -> None:
    result = await after(
        {"milter": {"del_rcpt": ["carol@example.org", 7], "add_rcpt": ["eve@example.org"], "change_from": "x@example.org"}}
    )
    assert isinstance(result.decisions["carol@example.org"].verdict, Discard)  # type: ignore[union-attr] # it would not be None
    assert result.decisions["bob@example.org"] is None
    told = [one.value for one in result.findings if isinstance(one, Fact) and one.name == "rspamd.not_done"]
    assert [str(one).partition(":")[0] for one in told] == ["change_from", "add_rcpt"]


async def test_a_refusal_may_be_something_else_on_its_own_wish() -> None:
    for wish, kind in (("discard", Discard), ("quarantine", Quarantine), ("else", Reject), (["x"], Reject)):
        assert isinstance((await after({"action": "reject", "milter": {"reject": wish}})).verdict, kind)
    nothing = await after({"action": "reject", "milter": {"no_action": True}})
    assert nothing.verdict is None
    assert [one.name for one in nothing.findings if isinstance(one, Label)] == ["rspamd.reject"]


async def test_signatures_go_on_top() -> None:
    signature = "v=1; a=rsa-sha256; d=example.org;\r\n\ts=s; b=abc"
    result = await after({"dkim-signature": signature})
    assert result.signatures == (AddHeader(name="DKIM-Signature", value=signature),)
    assert len((await after({"dkim-signature": [signature, "v=1; b=d\nb"]})).signatures) == 2
    assert (await after({"dkim-signature": signature}, sign=False)).signatures == ()


async def test_what_cannot_be_written_is_told_and_the_rest_is_done() -> None:
    milter = {
        "add_headers": {
            "Bad Name": "x",
            "X-Long": "x" * 2000,
            "X-Number": 7,
            "X-Order": {"value": "x", "order": "first"},
            "X-Inf": {"value": "x", "order": True},
            "X-Good": "y",
        },
        "remove_headers": {"X-A": "all", "Bad:": 0},
    }
    result = await after({"milter": milter, "dkim-signature": "x" * 5000}, spam_header="")
    assert result.edits == (InsertHeader(name="X-Good", value="y", below=1_000_000),)
    told = [
        str(one.value).partition(":")[0] for one in result.findings if isinstance(one, Fact) and one.name == "rspamd.not_done"
    ]
    assert told == ["X-A", "Bad", "Bad Name", "X-Long", "X-Number", "X-Order", "X-Inf", "DKIM-Signature"]


def test_edits_are_bounded() -> None:
    answer = parse(json.dumps({**CLEAN, "milter": {"add_headers": {"X-A": ["x"] * 10_000}}}).encode())
    wishes = read(answer, a_message(), spam_header="")
    assert (len(wishes.edits), len(wishes.not_done)) == (MAX_EDITS, 20)


@pytest.mark.parametrize(
    ("answer", "status", "told"),
    [
        (b"\xff\x00 }{ not what you asked for\r\n\r\n", 200, "no HTTP"),
        ("}{", 200, "no JSON: '}{'"),
        ("[" * 100_000, 200, "no JSON"),
        ("[]", 200, "no object"),
        ("{}", 200, "no action and score"),
        ('{"action": "reject"}', 200, "no action and score"),
        ('{"action": "reject", "score": 1e999}', 200, "no action and score"),
        ('{"action": 5, "score": 1}', 200, "no action and score"),
        ('{"action": "reject", "score": 1, "symbols": {"A": 5}}', 200, "no score of the symbol A"),
        ('{"error": "no such file"}', 200, "an error: 'no such file'"),
        ('{"error": "Unauthorized"}', 403, "status 403"),
        (json.dumps({**CLEAN, "x": "y" * 1_100_000}), 200, "an answer of more than 1000000 octets"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", 200, "no answer within"),
    ],
)
async def test_what_is_no_answer_is_a_fault(answer: str | bytes, status: int, told: str) -> None:
    for on_error, has_verdict in (("defer", True), ("ignore", False)):
        async with FakeScanner("http") as scanner:
            scanner.answers(answer, status=status)
            result = await run_plugin(asking(scanner), on_error=on_error, timeout=10.0 if "within" not in told else 0.5)
        assert (result.verdict is not None) is has_verdict
        assert any(told in step["evidence"] for step in result.trace), [step["evidence"] for step in result.trace]
        assert result.edits == ()


async def test_servers_that_hang_drop_or_refuse() -> None:
    async with FakeScanner("http") as scanner:
        plugin = asking(scanner)
        scanner.hangs()
        result = await run_plugin(plugin, timeout=0.5, on_error="defer")
        assert "no answer within 0.45 s" in " ".join(step["evidence"] for step in result.trace)
        for after_octets in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{"):
            scanner.drops(after_octets)
            result = await run_plugin(plugin, on_error="defer")
            assert "the connection was closed before the answer" in " ".join(step["evidence"] for step in result.trace)
        await scanner.refuses()
        assert "cannot connect" in " ".join(step["evidence"] for step in (await run_plugin(plugin, on_error="defer")).trace)


async def test_a_session_outlives_a_question_that_the_chain_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The HTTP library cancels the task that it was called in, even where that has gone on to something else."""
    monkeypatch.setattr("gateway.scanning.SHARE", 1.5)
    async with FakeScanner("http") as scanner:
        scanner.hangs()
        options = {"server": scanner.address, "ping": 0, "client_names": False, "timeout": "50ms", "failures": 0}

        async def session() -> list[str]:
            async with mail.client() as client:
                await client.reply()
                lines = (
                    "EHLO c.example",
                    "MAIL FROM:<a@c.example>",
                    "RCPT TO:<bob@example.org>",
                    "DATA",
                    "Subject: x\r\n\r\nx\r\n.",
                    "NOOP",
                )
                return [(await client.ask(line))[:3] for line in lines]

        async with EndToEnd(plugins=["rspamd"], options={"rspamd": options}) as mail:
            for _ in range(3):
                found = await asyncio.gather(*(session() for _ in range(20)))
                assert found == [["250", "250", "250", "354", "451", "250"]] * 20


async def test_it_is_pinged() -> None:
    async with FakeScanner("http") as scanner:
        plugin = asking(scanner)
        [service] = plugin.services
        scanner.answers("pong\r\n")
        assert await service.ping(plugin.ping, 1.0)
        scanner.answers("pang")
        assert not await service.ping(plugin.ping, 1.0)
        assert service.breaker.problem == "to a ping: 'pang' instead of pong"
        assert scanner.requests[0].startswith(b"GET /ping HTTP/1.1\r\n")
        await plugin.shutdown()


async def test_a_message_too_large_is_not_sent() -> None:
    async with FakeScanner("http") as scanner:
        result = await run_plugin(asking(scanner, max_size=10, oversize="reject"))
        assert (scanner.requests, isinstance(result.verdict, Reject)) == ([], True)


async def test_nothing_is_kept_of_a_transaction_that_is_done() -> None:
    async with FakeScanner("http") as scanner:
        scanner.answers(CLEAN)
        plugin = asking(scanner)
        await run_plugin(plugin)
        assert plugin._told == {}


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(OptionError, match=r"mailgateway\[http\]"):
        Rspamd(Options())


@pytest.mark.parametrize(
    "wrong", [{"actions": {"reject": "burn"}}, {"spam_header": "X Spam"}, {"weight": -1}, {"settings": "a b"}]
)
def test_options_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(wrong)
