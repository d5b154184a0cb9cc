"""The plugin `policy` with real postgrey and policyd-spf, and the policy listener asked by a real Postfix."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import AddHeader, Defer, Reject
from gateway.config.models import Config
from gateway.plugins.policy import Options, Policy
from gateway.testing import FakeContext, a_session, a_transaction, run_plugin
from gateway.testing.in_process import InProcessGateway
from tests.integration.conftest import need_root
from tests.integration.policy_servers import RealPostgrey, policyd_spf
from tests.integration.postfix import RealPostfix

pytestmark = pytest.mark.real
Answer = tuple[int, str]


def sends(port: int, recipients: list[str], marker: str, *, sender: str = "alice@client.test") -> list[Answer]:
    """Replies to each RCPT, and to the content where one was accepted."""
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.ehlo("client.test")
        answers = [client.mail(sender)]
        if answers[0][0] == 250:
            answers = [client.rcpt(recipient) for recipient in recipients]
            if any(code == 250 for code, _ in answers):
                try:
                    answers.append(client.data(f"From: alice@client.test\r\nSubject: {marker}\r\n\r\nHello\r\n"))
                except smtplib.SMTPDataError as refused:
                    answers.append((refused.smtp_code, str(refused.smtp_error).encode()))
        return [(code, text.decode()) for code, text in answers]


async def test_postgrey_greylists_and_lets_the_retry_in(
    require: Callable[[str], str], postfix: RealPostfix, tmp_path: Path
) -> None:
    require("postgrey")
    need_root("postgrey")
    with RealPostgrey(delay=1) as postgrey:
        config = Config.model_validate(
            {
                "plugins": ["policy"],
                "plugin": {"policy": {"server": postgrey.address}},
                "listener": [{"bind": "127.0.0.1:0"}],
                "route": [{"name": "default", "domains": ["example.test"], "servers": [postfix.address]}],
            }
        )
        async with InProcessGateway(config, directory=tmp_path) as gateway:
            port = gateway.port()
            everybody = ["bob@example.test", "alice@example.test"]
            first = await asyncio.to_thread(sends, port, everybody, "greylisted")
            assert [code for code, _ in first] == [450, 450]
            assert first[0][1].startswith("4.2.0 Greylisted, see ")
            for _ in range(100):
                answers = await asyncio.to_thread(sends, port, everybody, "greylisted")
                if [code for code, _ in answers] == [250, 250, 250]:
                    break
                await asyncio.sleep(0.1)
            octets = await asyncio.to_thread(postfix.wait_for, "bob", b"Subject: greylisted")
            # once, although both recipients waited: postgrey knows the transaction by `instance`
            assert octets.count(b"\nX-Greylist: delayed ") == 1
            assert gateway.records[0]["verdict"] == "deferred"
            assert "DEFER_IF_PERMIT" in gateway.records[0]["recipients"][0]["evidence"]


async def test_postgrey_knows_a_client_by_the_name_that_the_gateway_looked_up(require: Callable[[str], str]) -> None:
    require("postgrey")
    need_root("postgrey")
    zones = {"192.0.2.1": {"PTR": ["mail.known.example"]}, "mail.known.example": {"A": ["192.0.2.1"]}}
    with RealPostgrey(delay=3600) as postgrey:
        plugin = Policy(Options(server=postgrey.address))
        known = await run_plugin(plugin, context=FakeContext(zones=zones))
        assert known.verdict is None
        stranger = await run_plugin(Policy(Options(server=postgrey.address)))
    assert isinstance(stranger.verdict, Defer)
    assert (stranger.verdict.code, stranger.verdict.enhanced) == (450, "4.2.0")


async def test_policyd_spf_refuses_and_prepends(require: Callable[[str], str], tmp_path: Path) -> None:
    require("policyd-spf")
    zones = {"client.example": {"TXT": ["v=spf1 ip4:192.0.2.1 -all"]}}
    with policyd_spf(tmp_path, zones) as server:
        plugin = Policy(Options(server=server, reply_timeout=25.0))
        good = await run_plugin(plugin, timeout=30.0)
        assert good.verdict is None
        [field] = good.edits
        assert isinstance(field, AddHeader)
        assert field.name == "Received-SPF"
        assert field.value.startswith("Pass ")
        forged = a_transaction(session=a_session(client_address="198.51.100.1"))
        bad = await run_plugin(Policy(Options(server=server, reply_timeout=25.0)), transaction=forged, timeout=30.0)
    assert isinstance(bad.verdict, Reject)
    assert (bad.verdict.code, bad.verdict.enhanced) == (550, "5.7.23")
    assert "SPF fail" in bad.verdict.text


def test_a_postfix_asks_the_gateway(start: Callable[..., Any], postfix: RealPostfix) -> None:
    known = '[plugin.recipients]\nknown = { "example.test" = ["alice", "bob"] }'
    with start(workers=1, chain='plugins = ["recipients"]', listener='protocol = "policy"', more=known) as gateway:
        asks = {"smtpd_recipient_restrictions": f"check_policy_service inet:127.0.0.1:{gateway.smtp}"}
        with postfix.with_settings(**asks):
            answers = sends(postfix.port, ["bob@example.test", "postmaster@example.test", "nobody@example.test"], "asked")
            assert [code for code, _ in answers] == [250, 250, 550, 250]
            assert "5.1.1 <nobody@example.test>: Recipient address rejected: No such recipient here (" in answers[2][1]
            postfix.wait_for("bob", b"Subject: asked")
    assert "policy.bad_request" not in gateway.log.read_text()


def test_verdicts_of_all_stages_reach_a_postfix(start: Callable[..., Any], postfix: RealPostfix, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "scripted.py").write_text(
        '''
"""Refuses by name."""

from gateway import Plugin, defer, discard, hook, reject


class Scripted(Plugin):
    @hook
    async def helo(self, session):
        return reject("bad name", enhanced="5.7.9") if session.helo == "bad.test" else None

    @hook
    async def mail(self, transaction):
        local_part = transaction.reverse_path.local_part
        if local_part == "discard":
            return discard("unwanted")
        return reject("no such sender", code=553, enhanced="5.1.8") if local_part == "reject" else None

    @hook
    async def rcpt(self, transaction, recipient):
        return defer("later", code=450, enhanced="4.2.0") if recipient.mailbox.startswith("alice") else None

    @hook
    async def data(self, transaction):
        return reject("not now", enhanced="5.7.2") if transaction.reverse_path.local_part == "data" else None
'''
    )
    chain = f'plugins = ["scripted"]\nplugin_path = ["{plugins}"]'
    with start(workers=1, chain=chain, listener='protocol = "policy"') as gateway:
        asks = f"check_policy_service inet:127.0.0.1:{gateway.smtp}"
        with postfix.with_settings(smtpd_recipient_restrictions=asks, smtpd_data_restrictions=asks):
            [bob, alice, content] = sends(postfix.port, ["bob@example.test", "alice@example.test"], "passed")
            assert (bob[0], alice[0], content[0]) == (250, 450, 250)
            assert "4.2.0 <alice@example.test>: Recipient address rejected: later (" in alice[1]
            [refused] = sends(postfix.port, ["bob@example.test"], "refused", sender="reject@client.test")
            assert refused[0] == 553
            assert "no such sender (" in refused[1]
            gone = sends(postfix.port, ["bob@example.test"], "gone", sender="discard@client.test")
            assert [code for code, _ in gone] == [250, 250]
            told = sends(postfix.port, ["bob@example.test"], "late", sender="data@client.test")
            assert [code for code, _ in told] == [250, 550]
            with smtplib.SMTP(postfix.host, postfix.port, timeout=30) as client:
                client.ehlo("bad.test")
                client.mail("alice@client.test")
                code, text = client.rcpt("bob@example.test")
                assert (code, b"bad name" in text) == (550, True)
            postfix.wait_for("bob", b"Subject: passed")
            subjects = b"".join(postfix.messages("bob"))
            assert b"Subject: gone" not in subjects
            assert b"Subject: late" not in subjects
