"""The plugin `spamassassin` with a real spamd: every question, over TCP and a UNIX socket, and what a message through the gateway gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway import AddHeader, Label, Quarantine, Reject, Score
from gateway.plugins.spamassassin import Options, SpamAssassin
from gateway.testing import FakeContext, Result, a_message, a_session, a_transaction, run_plugin
from tests.integration.spamd import RealSpamd

pytestmark = pytest.mark.real
SPAM: dict[str, Any] = {"subject": "Free things", "body": "these are unwanted words of the tests"}
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


@pytest.fixture(scope="module")
def spamd(require: Callable[[str], str]) -> Iterator[RealSpamd]:
    """One for all tests here."""
    require("spamd")
    with RealSpamd() as running:
        yield running


async def scanned(server: str, text: dict[str, Any], **options: Any) -> Result:
    plugin = SpamAssassin(Options.model_validate({"server": server, "ping": 0, **options}), name="spamassassin")
    return await run_plugin(plugin, message=a_message(**text))


def labels(result: Result) -> dict[str, str]:
    return {one.name: one.evidence for one in result.findings if isinstance(one, Label)}


@pytest.mark.parametrize("by", ["address", "unix"])
async def test_a_report(spamd: RealSpamd, by: str) -> None:
    result = await scanned(getattr(spamd, by), SPAM)
    assert labels(result) == {
        "spamassassin.OWN_SUBJECT": "2 points: Something is free",
        "spamassassin.OWN_WORD": "3.5 points: BODY: Words that nobody wants",
    }
    assert result.verdict == Quarantine(
        reason="spamassassin-spam", evidence="5.5 points, 5 are spam: OWN_WORD 3.5, OWN_SUBJECT 2"
    )


@pytest.mark.parametrize("ask", ["symbols", "headers"])
async def test_names_of_rules(spamd: RealSpamd, ask: str) -> None:
    result = await scanned(spamd.unix, SPAM, ask=ask)
    assert sorted(labels(result)) == ["spamassassin.OWN_SUBJECT", "spamassassin.OWN_WORD"]
    assert isinstance(result.verdict, Quarantine)


@pytest.mark.parametrize("ask", ["check", "symbols", "report", "headers"])
async def test_clean_mail_passes(spamd: RealSpamd, ask: str) -> None:
    result = await scanned(spamd.unix, {"subject": "Minutes", "body": "As agreed."}, ask=ask)
    assert (result.verdict, labels(result)) == (None, {})
    assert [one.weight for one in result.findings if isinstance(one, Score)] == [0.0]


async def test_the_score_alone(spamd: RealSpamd) -> None:
    result = await scanned(spamd.unix, {"body": GTUBE}, ask="check", then="pass", reject_from=100)
    assert isinstance(result.verdict, Reject)
    assert [one.weight for one in result.findings if isinstance(one, Score)] == [1000.0]


async def test_header_fields(spamd: RealSpamd) -> None:
    result = await scanned(spamd.unix, SPAM, ask="headers", then="pass")
    added = {one.name: one.value for one in result.edits if isinstance(one, AddHeader)}
    assert added["X-Spam-Flag"] == "YES"
    assert added["X-Spam-Status"].startswith("Yes, score=5.5 required=5.0 tests=OWN_SUBJECT,OWN_WORD")


async def test_its_rules_see_the_client(spamd: RealSpamd) -> None:
    zones = {"203.0.113.9": {"PTR": ["mail.client.example."]}, "mail.client.example": {"A": ["203.0.113.9"]}}
    session = a_session(client_address="203.0.113.9", helo="client.example")
    plugin = SpamAssassin(Options.model_validate({"server": spamd.unix, "ping": 0}), name="spamassassin")
    result = await run_plugin(plugin, transaction=a_transaction(session=session), context=FakeContext(zones=zones))
    assert list(labels(result)) == ["spamassassin.OWN_CLIENT"]


async def test_a_large_message(spamd: RealSpamd) -> None:
    result = await scanned(spamd.address, {"subject": "Free", "body": "0123456789 abcdef\r\n" * 50_000})
    assert list(labels(result)) == ["spamassassin.OWN_SUBJECT"]


async def test_a_ping(spamd: RealSpamd) -> None:
    plugin = SpamAssassin(Options.model_validate({"server": [spamd.unix, spamd.address], "ping": 0}), name="spamassassin")
    assert [await service.ping(plugin.ping, 5.0) for service in plugin.services] == [True, True]
    await plugin.shutdown()
