"""The plugin `rspamd` with a real rspamd whose rules go by words of the subject, over TCP and a UNIX socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway import Defer, Label, Quarantine, Reject, Score
from gateway.plugins.rspamd import Options, Rspamd
from gateway.testing import EndToEnd, Result, a_message, a_session, a_transaction, run_plugin
from tests.integration.scanners import RealRspamd

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def rspamd(require: Callable[[str], str]) -> Iterator[RealRspamd]:
    """One for all tests here."""
    require("rspamd")
    with RealRspamd() as running:
        yield running


async def scanned(rspamd: RealRspamd, subject: str, **options: Any) -> Result:
    chosen = {"server": rspamd.unix, "ping": 0, "client_names": False, **options}
    session = a_session(
        client_address="192.0.2.9", helo="mail.client.example", identity="alice", tls=True, client_name="mail.client.example"
    )
    transaction = a_transaction(session=session, recipients=["bob@example.org", "carol@example.org"])
    return await run_plugin(Rspamd(Options.model_validate(chosen)), message=a_message(subject=subject), transaction=transaction)


def action(result: Result) -> str:
    return next(one.name for one in result.findings if isinstance(one, Label))


@pytest.mark.parametrize("over", ["address", "unix"])
async def test_actions_and_symbols(rspamd: RealRspamd, over: str) -> None:
    for subject, name, kind in (
        ("hello", "no_action", type(None)),
        ("my friend", "no_action", type(None)),
        ("grey", "greylist", type(None)),
        ("an offer", "add_header", type(None)),
        ("urgent", "rewrite_subject", type(None)),
        ("pills", "reject", Reject),
        ("come later", "soft_reject", Defer),
        ("held", "reject", Quarantine),
        ("nothing", "reject", type(None)),
    ):
        result = await scanned(rspamd, subject, server=getattr(rspamd, over))
        assert (action(result), type(result.verdict)) == (f"rspamd.{name}", kind), subject
    scores = [
        (one.symbol, one.weight, one.evidence) for one in (await scanned(rspamd, "my friend")).findings if isinstance(one, Score)
    ]
    assert scores == [("TEST_FRIEND", -3.0, "friend")]


async def test_all_checks_run_on_demand_although_the_score_is_enough(rspamd: RealRspamd) -> None:
    for pass_all, kind in ((False, Reject), (True, Quarantine)):
        assert isinstance((await scanned(rspamd, "held pills", pass_all=pass_all)).verdict, kind)


async def test_its_words_reach_the_client(rspamd: RealRspamd) -> None:
    refused, deferred = (await scanned(rspamd, "why")).verdict, (await scanned(rspamd, "later")).verdict
    assert isinstance(refused, Reject)
    assert (refused.code, refused.text) == (554, "because of the pills")
    assert isinstance(deferred, Defer)
    assert (deferred.code, deferred.text) == (451, "come back in an hour")


async def test_it_knows_client_and_envelope(rspamd: RealRspamd) -> None:
    result = await scanned(rspamd, "told", settings="inbound", client_names=True)
    [told] = [one.evidence for one in result.findings if isinstance(one, Score) and one.symbol == "TEST_TOLD_ALL"]
    assert told.split() == [
        *("192.0.2.9", "mail.client.example", "mail.client.example", "alice", result.transaction.id),
        *("alice@client.example", "bob@example.org", "carol@example.org"),
        *("mx.example.org", "TLSv1.3", "TLS_AES_256_GCM_SHA384", "inbound", "-"),
    ]


async def test_its_edits_reach_the_next_hop(rspamd: RealRspamd) -> None:
    async with EndToEnd(plugins=["rspamd"], options={"rspamd": {"server": rspamd.unix, "client_names": False}}) as mail:
        old = [("X-Old", "1"), ("X-Some", "first"), ("X-Some", "second"), ("X-Spam", "No")]
        sent = await mail.send(a_message(subject="an urgent offer of fields", headers=old))
        assert sent.code == 554  # 15.6 points
        sent = await mail.send(a_message(subject="fields of an offer", headers=old))
        assert sent.code == 250
        marked = await mail.send(a_message(subject="marked", headers=[("X-Junk", "no")]))
        subject = await mail.send(a_message(subject="urgent"))
    head = sent.taken[0].content.partition(b"\r\n\r\n")[0].replace(b"\r\n\t", b"<fold>").split(b"\r\n")
    fields = [line for line in head if line.startswith(b"X-")]
    assert b"X-Some: first" in fields
    assert not [line for line in fields if line in {b"X-Old: 1", b"X-Some: second", b"X-Spam: No"}]
    assert {b"X-Spam: Yes", b"X-Top: on top", b"X-Second: behind one", b"X-Twice: one"} <= set(fields)
    assert set(head[-3:]) == {b"X-Plain: plain", b"X-Twice: two", b"X-Folded: a<fold>b"}
    assert b"\r\nX-Junk: very\r\n" in marked.taken[0].content
    assert b"X-Junk: no" not in marked.taken[0].content
    assert b"\r\nSubject: [SPAM] urgent\r\n" in subject.taken[0].content


async def test_a_large_message(rspamd: RealRspamd) -> None:
    plugin = Rspamd(Options.model_validate({"server": rspamd.address, "ping": 0, "client_names": False}))
    result = await run_plugin(plugin, message=a_message(subject="an offer", body=("x" * 70 + "\r\n") * 100_000))
    assert action(result) == "rspamd.add_header"


async def test_a_ping(rspamd: RealRspamd) -> None:
    plugin = Rspamd(Options.model_validate({"server": [rspamd.unix, rspamd.address]}))
    assert [await service.ping(plugin.ping, 5.0) for service in plugin.services] == [True, True]
    await plugin.shutdown()
