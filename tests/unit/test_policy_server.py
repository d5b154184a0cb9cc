"""The policy listener: a Postfix's requests in, the chain's verdicts out, and what each session leaves in the journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.config.models import Config
from gateway.errors import StorageError
from gateway.policy.codec import PolicyFault, Reader, render
from gateway.policy.facts import address_of, client_of, number, path_of, state_of, tls_of
from gateway.testing.in_process import InProcessGateway

PLUGIN = '''
"""Answers by what it is shown."""

import asyncio

from gateway import (
    Plugin, accept, add_recipient, defer, discard, hook, redirect, reject, use_forward_path, use_reverse_path,
)


class Scripted(Plugin):
    seen = []

    @hook
    async def connect(self, session):
        self.seen.append(("connect", session.client_address, session.client_name, session.client_class.value))
        return reject("not you", enhanced="5.7.1") if session.client_address == "192.0.2.66" else None

    @hook
    async def helo(self, session):
        self.seen.append(("helo", session.helo, session.esmtp, session.tls.version if session.tls else ""))
        return defer("bad name") if session.helo == "bad.example" else None

    @hook
    async def authenticated(self, session):
        self.seen.append(("authenticated", session.identity))
        return reject("locked", code=535, enhanced="5.7.8") if session.identity == "mallory" else None

    @hook
    async def mail(self, transaction):
        sender = transaction.reverse_path.mailbox
        self.seen.append(("mail", sender, transaction.declared_size))
        match sender.partition("@")[0]:
            case "reject":
                return reject("no such sender", enhanced="5.1.8")
            case "discard":
                return discard("unwanted")
            case "srs":
                return use_reverse_path("other@example.org")
            case "raise":
                raise RuntimeError("secret")

    @hook
    async def rcpt(self, transaction, recipient):
        self.seen.append(("rcpt", recipient.mailbox, len(transaction.recipients)))
        match recipient.mailbox.partition("@")[0]:
            case "unknown":
                return reject("No such recipient here", enhanced="5.1.1", reason="unknown-recipient")
            case "later":
                return defer("greylisted", code=450, enhanced="4.2.0")
            case "accept":
                return accept("fine")
            case "discard":
                return discard("unwanted")
            case "elsewhere":
                return redirect("default")
            case "renamed":
                return use_forward_path("other@example.org")
            case "copied":
                return add_recipient("archive@example.org")

    @hook
    async def data(self, transaction):
        self.seen.append(("data", len(transaction.recipients)))
        return reject("too many", enhanced="5.5.3") if len(transaction.recipients) > 1 else None

    @hook
    async def judge(self, transaction):
        raise RuntimeError("there is no content")

    @hook
    async def done(self, transaction, outcome):
        self.seen.append(("done", outcome.fates))

    @hook
    async def disconnect(self, session):
        self.seen.append(("disconnect", session.client_address))
'''
REQUEST = {
    "request": "smtpd_access_policy",
    "protocol_state": "RCPT",
    "protocol_name": "ESMTP",
    "client_address": "192.0.2.1",
    "client_name": "mail.client.example",
    "client_port": "4711",
    "reverse_client_name": "mail.client.example",
    "server_address": "192.0.2.25",
    "server_port": "25",
    "helo_name": "client.example",
    "sender": "alice@client.example",
    "recipient": "bob@example.org",
    "recipient_count": "0",
    "queue_id": "",
    "instance": "1.2.3",
    "size": "1000",
    "sasl_username": "",
    "encryption_protocol": "TLSv1.3",
    "encryption_cipher": "TLS_AES_256_GCM_SHA384",
    "encryption_keysize": "256",
}


class Postfix:
    """The other side: asks one thing after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, **changes: str) -> str:
        return await self.send(render(REQUEST | changes))

    async def send(self, octets: bytes) -> str:
        self.writer.write(octets)
        answers = Reader()
        while True:
            some = await asyncio.wait_for(self.reader.read(8192), 5)
            if not some:
                raise EOFError
            for answer in answers.feed(some):
                [(name, action)] = answer.items()
                assert name == "action"
                return action


class Asked:
    def __init__(self, gateway: InProcessGateway, postfix: Postfix) -> None:
        self.gateway = gateway
        self.ask = postfix.ask
        self.postfix = postfix

    @property
    def seen(self) -> list[tuple[Any, ...]]:
        door, _ = self.gateway._doors["default"]
        [step] = door.chain.steps["connect"]
        found: list[tuple[Any, ...]] = step.call.__self__.seen  # type: ignore[attr-defined] # the plugin above
        return found

    async def end(self) -> None:
        self.postfix.writer.close()
        await self.gateway.quiet()


@asynccontextmanager
async def asking(tmp_path: Path, **settings: Any) -> AsyncIterator[Asked]:
    (tmp_path / "scripted.py").write_text(PLUGIN)
    config = Config.model_validate(
        {
            "plugins": ["scripted"],
            "plugin_path": [str(tmp_path)],
            "listener": [{"protocol": "policy", "bind": "127.0.0.1:0", "trusted_networks": ["192.0.2.128/25"]}],
            "route": [{"name": "default", "domains": ["example.org"], "servers": ["127.0.0.1:9"]}],
            **settings,
        }
    )
    async with InProcessGateway(config, directory=tmp_path) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port())
        try:
            asked = Asked(gateway, Postfix(reader, writer))
            asked.seen.clear()
            yield asked
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)


async def test_asked_at_rcpt_everything_before_is_done_first_and_once(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        assert await asked.ask() == "DUNNO"
        assert await asked.ask(recipient="accept@example.org") == "DUNNO"
        answer = await asked.ask(recipient="unknown@example.org")
        assert answer.startswith("550 5.1.1 No such recipient here (")
        assert await asked.ask(recipient="unknown@example.org") == answer  # another restriction asks again
        assert (await asked.ask(recipient="later@example.org")).startswith("450 4.2.0 greylisted (")
        assert await asked.ask(protocol_state="END-OF-MESSAGE", recipient="", recipient_count="2") == "DUNNO"
        await asked.end()
        assert asked.seen == [
            ("connect", "192.0.2.1", "mail.client.example", "stranger"),
            ("helo", "client.example", True, "TLSv1.3"),
            ("mail", "alice@client.example", 1000),
            ("rcpt", "bob@example.org", 0),
            ("rcpt", "accept@example.org", 1),
            ("rcpt", "unknown@example.org", 2),
            ("rcpt", "later@example.org", 2),
            ("done", (("bob@example.org", "passed"), ("accept@example.org", "passed"))),
            ("disconnect", "192.0.2.1"),
        ]
        [record] = asked.gateway.records
    assert record["verdict"] == "passed"
    assert [(row["forward_path"], row["fate"]) for row in record["recipients"]] == [
        ("<bob@example.org>", "passed"),
        ("<accept@example.org>", "passed"),
        ("<unknown@example.org>", "rejected"),
        ("<later@example.org>", "deferred"),
    ]
    assert any("instance 1.2.3" in step["evidence"] for step in record["steps"])


async def test_each_state_by_itself(tmp_path: Path) -> None:
    nothing = {"sender": "", "recipient": "", "instance": "1", "size": "0"}
    async with asking(tmp_path) as asked:
        assert await asked.ask(protocol_state="CONNECT", helo_name="", **nothing) == "DUNNO"
        assert await asked.ask(protocol_state="HELO", protocol_name="SMTP", **nothing) == "DUNNO"
        assert await asked.ask(protocol_state="VRFY", protocol_name="SMTP", **nothing) == "DUNNO"
        assert await asked.ask(protocol_state="MAIL", sender="", recipient="", size="0") == "DUNNO"
        assert await asked.ask(size="0", sender="") == "DUNNO"
        assert await asked.ask(protocol_state="DATA", size="0", sender="") == "DUNNO"
        assert await asked.ask(protocol_state="DATA", size="0", sender="") == "DUNNO"
        assert asked.seen == [
            ("connect", "192.0.2.1", "mail.client.example", "stranger"),
            ("helo", "client.example", False, "TLSv1.3"),
            ("mail", "", None),
            ("rcpt", "bob@example.org", 0),
            ("data", 1),
        ]


async def test_refusals_of_the_session_hold_for_all_of_it(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        first = await asked.ask(client_address="192.0.2.66")
        assert first.startswith("550 5.7.1 not you (")
        assert await asked.ask(client_address="192.0.2.66", instance="2") == first
        assert [step[0] for step in asked.seen] == ["connect"]
        assert (await asked.ask(helo_name="bad.example")).startswith("451 4.7.1 bad name (")
        assert await asked.ask() == "DUNNO"  # it said another name
        assert (await asked.ask(sasl_username="mallory")).startswith("535 5.7.8 locked (")
        await asked.end()
    assert [record["verdict"] for record in asked.gateway.records] == ["rejected", "deferred", "rejected", "passed"]


async def test_who_the_client_is(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        await asked.ask(client_address="192.0.2.200")
        await asked.ask(client_address="unknown", client_name="unknown", reverse_client_name="unknown", client_port="")
        await asked.ask(sasl_username="alice")
        classes = [step for step in asked.seen if step[0] in {"connect", "authenticated"}]
    assert classes == [
        ("connect", "192.0.2.200", "mail.client.example", "trusted"),
        ("connect", "", "", "stranger"),
        ("connect", "192.0.2.1", "mail.client.example", "stranger"),
        ("authenticated", "alice"),
    ]


async def test_refusals_of_mail(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        answer = await asked.ask(sender="reject@client.example")
        assert answer.startswith("550 5.1.8 no such sender (")
        assert await asked.ask(sender="reject@client.example", recipient="carol@example.org") == answer
        assert await asked.ask(protocol_state="MAIL", sender="reject@client.example", recipient="") == answer
        assert await asked.ask(protocol_state="DATA", sender="reject@client.example", recipient="") == answer
        assert (await asked.ask(sender="raise@client.example", instance="2")).startswith("451 4.3.0 Temporary failure")
        assert await asked.ask(instance="3") == "DUNNO"  # the session goes on
        await asked.end()
        rejected, deferred, passed = asked.gateway.records
    assert (rejected["verdict"], deferred["verdict"], passed["verdict"]) == ("rejected", "deferred", "passed")
    assert len(rejected["recipients"]) == 2
    assert "secret" not in str(deferred["reply"])


async def test_a_discard_is_committed_before_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(tmp_path) as asked:
        journal = asked.gateway.journal
        assert await asked.ask(protocol_state="MAIL", sender="discard@client.example", recipient="") == "DISCARD"
        assert not journal.discards
        assert await asked.ask(sender="discard@client.example") == "DISCARD"
        assert [row["fate"] for row in journal.discards[-1]["recipients"]] == ["discarded"]
        assert await asked.ask(sender="discard@client.example", recipient="carol@example.org") == "DISCARD"
        assert len(journal.discards[-1]["recipients"]) == 2

        async def fails(_: object) -> None:
            raise StorageError("disk full")

        monkeypatch.setattr(journal, "commit", fails)
        answer = await asked.ask(sender="discard@client.example", instance="2")
        assert answer.startswith("451 4.3.5 This cannot be carried out here")
        await asked.end()
        assert asked.gateway.records[0]["verdict"] == "discarded"


@pytest.mark.parametrize("recipient", ["discard", "elsewhere", "renamed", "copied"])
async def test_what_a_postfix_cannot_be_told_is_deferred_and_recorded(tmp_path: Path, recipient: str) -> None:
    async with asking(tmp_path) as asked:
        answer = await asked.ask(recipient=f"{recipient}@example.org")
        assert answer.startswith("451 4.3.5 This cannot be carried out here; try again later (")
        await asked.end()
        [record] = asked.gateway.records
    assert record["verdict"] == "deferred"
    assert any("a Postfix cannot be told so" in step["evidence"] for step in record["steps"])


async def test_another_reverse_path_cannot_be_told(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        assert (await asked.ask(sender="srs@client.example")).startswith("451 4.3.5")


async def test_a_refusal_at_data(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        await asked.ask()
        await asked.ask(recipient="carol@example.org")
        answer = await asked.ask(protocol_state="DATA", recipient="", recipient_count="2")
        assert answer.startswith("550 5.5.3 too many (")
        assert await asked.ask(protocol_state="DATA", recipient="", recipient_count="2") == answer
        await asked.end()
        [record] = asked.gateway.records
    assert record["verdict"] == "rejected"
    assert [row["fate"] for row in record["recipients"]] == ["rejected", "rejected"]


async def test_no_more_recipients_than_allowed(tmp_path: Path) -> None:
    async with asking(tmp_path, limits={"recipients": 100}) as asked:
        for number_ in range(100):
            assert await asked.ask(recipient=f"r{number_}@example.org") == "DUNNO"
        assert (await asked.ask(recipient="one@example.org")).startswith("452 4.5.3 Too many recipients")


@pytest.mark.parametrize(
    "octets",
    [b"\n", b"hello\n\n", b"request=other\nprotocol_state=RCPT\n\n", b"request=smtpd_access_policy\n\n", b"x=" + b"y" * 70_000],
)
async def test_what_is_no_request_ends_the_connection(tmp_path: Path, octets: bytes) -> None:
    async with asking(tmp_path) as asked:
        with pytest.raises((EOFError, ConnectionError)):
            await asked.postfix.send(octets)
        await asked.gateway.quiet()


async def test_a_hostile_request_stays_in_its_place(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        answer = await asked.ask(
            recipient="unknown\x07@example.org",
            sender="<<>>",
            helo_name="\x1b[31m" + "x" * 5000,
            size="9" * 30,
            client_port="70000",
        )
        assert answer == "DUNNO"
        assert await asked.ask(recipient="\x80" * 3000, instance="2") == "DUNNO"
        assert await asked.ask(recipient="", instance="3") == "DUNNO"
        await asked.end()
    assert len(asked.gateway.records) == 3


async def test_idle_connections_end(tmp_path: Path) -> None:
    async with asking(tmp_path, limits={"idle": "50ms"}) as asked:
        assert await asked.ask() == "DUNNO"
        assert await asyncio.wait_for(asked.postfix.reader.read(), 5) == b""


async def test_no_more_connections_than_there_are_seats(tmp_path: Path) -> None:
    async with asking(tmp_path, limits={"connections": 1}) as asked:
        assert await asked.ask() == "DUNNO"
        reader, writer = await asyncio.open_connection("127.0.0.1", asked.gateway.port())
        with pytest.raises((EOFError, ConnectionError)):
            await Postfix(reader, writer).ask()
        writer.transport.abort()


def test_facts() -> None:
    tls = tls_of(REQUEST | {"ccert_subject": "Client+20One,+20Ltd", "ccert_issuer": "CA", "ccert_fingerprint": "AB:CD"})
    assert tls is not None
    assert (tls.peer_subject, tls.peer_issuer, tls.peer_fingerprint, tls.bits) == ("CN=Client One\\, Ltd", "CN=CA", "abcd", 256)
    assert tls_of({"encryption_protocol": ""}) is None
    assert address_of("IPv6:2001:DB8::1") == "2001:db8::1"
    assert address_of("fe80::1%eth0") == address_of("unknown") == ""
    assert number("12") == 12
    assert number("-1") == number("") == number("1e3") == 0
    assert path_of("", is_reverse=True).is_null
    assert path_of("postmaster", is_reverse=False).mailbox == "postmaster"
    assert path_of("a b@c@example.org", is_reverse=False).domain == "example.org"
    before_3_0 = {"client_address": "192.0.2.1", "instance": "1"}
    assert client_of(before_3_0) != client_of(before_3_0 | {"instance": "2"})
    assert state_of({"request": "smtpd_access_policy", "protocol_state": "HELO"}) == "EHLO"
    with pytest.raises(PolicyFault):
        state_of({})
