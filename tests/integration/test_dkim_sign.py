"""Signed mail through a real Postfix verifies at the other end, forwarded at once or released from quarantine."""

from __future__ import annotations

import re
import smtplib
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import dkim
import pytest

from gateway import AuthResult, Message
from gateway.content import Content
from gateway.mailauth import read_key_file
from gateway.plugins.dkim import Dkim
from gateway.testing import Clock, FakeContext, FakeResolver, run_plugin
from tests.integration.gateway_process import COMMAND, Gateway
from tests.integration.postfix import DOMAIN, RealPostfix

pytestmark = [pytest.mark.real, pytest.mark.slow]

PLUGIN = '''
"""Hold what bob gets, and mark everything."""

from gateway import Edit, Plugin, Transaction, Verdict, add_header, hook, quarantine, tag_subject


class Holds(Plugin):
    @hook
    async def judge(self, transaction: Transaction) -> Verdict | None:
        named = [r.mailbox for r in transaction.recipients if r.mailbox.startswith("bob")]
        return quarantine("bob is away").only(*named) if named else None

    @hook
    async def rewrite(self) -> list[Edit]:
        return [add_header("List-Id", "<all.client.test>"), tag_subject("[EXT]")]
'''
CHAIN = """plugins = ["holds", "dkim_sign"]
plugin_path = ["{site}"]
[plugin.dkim_sign]
expires_after = "2h"
[[plugin.dkim_sign.key]]
domain = "client.test"
selector = "r"
file = "{site}/r.pem"
[[plugin.dkim_sign.key]]
domain = "client.test"
selector = "e"
file = "{site}/e.pem"
"""
ALICE, BOB = f"alice@{DOMAIN}", f"bob@{DOMAIN}"


def content(marker: str, body: bytes) -> bytes:
    head = f'From: "A" <a@client.test>\r\nTo: {ALICE}\r\nMessage-ID: <{marker}@client.test>\r\nDate: Thu, 26 Nov 2026 10:00:00 +0000\r\n'
    return f"{head}Subject: odd   spaces\r\n\tfolded\r\nX-Fold: a\r\n\tb\r\n\r\n".encode() + body


def command(*words: str) -> str:
    done = subprocess.run([*COMMAND, *words], capture_output=True, timeout=60, check=False)
    output = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == 0, output
    return output


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The plugin, and keys made by the command itself."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "holds.py").write_text(PLUGIN)
    for selector, kind in (("r", "rsa"), ("e", "ed25519")):
        file = folder / f"{selector}.pem"
        command("dkim", "keygen", "--domain", "client.test", "--selector", selector, "--type", kind, "--out", str(file))
    return folder


@pytest.fixture
def gateway(start: Callable[..., AbstractContextManager[Gateway]], postfix: RealPostfix, site: Path) -> Iterator[Gateway]:
    chain = CHAIN.format(site=site)
    trusted = 'trusted_networks = ["127.0.0.0/8"]'
    with start(workers=1, chain=chain, listener=trusted, domains=[DOMAIN], servers=[postfix.address]) as gateway:
        yield gateway


async def verified(site: Path, received: bytes) -> list[str]:
    """Our results and dkimpy's, of mail as it lies in a Maildir."""
    octets = received.replace(b"\n", b"\r\n")
    records = {f"{one}._domainkey.client.test": read_key_file(site / f"{one}.pem").record for one in "re"}
    context = FakeContext(
        resolver=FakeResolver({name: {"TXT": [text]} for name, text in records.items()}), clock=Clock(time.time())
    )
    result = await run_plugin(Dkim(), message=Message(Content(octets)), context=context)
    found = [one.result for one in result.findings if isinstance(one, AuthResult)]
    for number in (0, 1):
        assert dkim.DKIM(octets).verify(number, dnsfunc=lambda name, timeout=5: records[name.decode().rstrip(".")].encode())
    return found


@pytest.mark.parametrize(
    "body",
    [b".one dot\r\n..two\r\n \r\n\xff\xfe 8-bit\r\nlast line\r\n\r\n", b"", b"a line of a large body  \r\n" * 15_000],
    ids=["odd", "none", "large"],
)
async def test_signed_mail_verifies_behind_postfix(gateway: Gateway, postfix: RealPostfix, site: Path, body: bytes) -> None:
    marker = f"signed-{len(body)}"
    with smtplib.SMTP("127.0.0.1", gateway.smtp, timeout=20) as client:
        client.sendmail("a@client.test", [ALICE, BOB], content(marker, body), ["BODY=8BITMIME"])
    forwarded = postfix.wait_for("alice", f"{marker}@".encode())
    # The fact of a hold is known before signing: x= would be over by the time of a late release.
    assert b" x=" not in forwarded
    assert await verified(site, forwarded) == ["pass", "pass"]
    [id_] = set(
        re.findall(r"\bq[0-9a-f]{14}\b", command("quarantine", "list", "--state", "held", "--config", str(gateway.config)))
    )
    command("quarantine", "release", id_, "--config", str(gateway.config))
    released = postfix.wait_for("bob", f"{marker}@".encode())
    assert await verified(site, released) == ["pass", "pass"]
    assert b"held in quarantine since" in released
    assert released.count(b"DKIM-Signature:") == 2


async def test_strangers_in_our_name_are_not_signed(
    start: Callable[..., AbstractContextManager[Gateway]], postfix: RealPostfix, site: Path
) -> None:
    with start(workers=1, chain=CHAIN.format(site=site), domains=[DOMAIN], servers=[postfix.address]) as gateway:
        with smtplib.SMTP("127.0.0.1", gateway.smtp, timeout=20) as client:
            client.sendmail("a@client.test", [ALICE], content("stranger", b"x\r\n"))
        assert b"DKIM-Signature" not in postfix.wait_for("alice", b"stranger@")
        [event] = gateway.until(lambda: gateway.events("transaction"))
        shown = gateway.until(lambda: command("explain", event["id"], "--config", str(gateway.config)))
        assert "dkim_sign.unsigned" in shown
        assert "the client is stranger" in shown
