"""A held message on its way out: listed, shown, explained, and released to a real Postfix with its own octets, once."""

from __future__ import annotations

import asyncio
import re
import smtplib
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.integration.gateway_process import COMMAND, Gateway
from tests.integration.postfix import DOMAIN, RealPostfix

pytestmark = [pytest.mark.real, pytest.mark.slow]

PLUGIN = '''
"""Hold what bob gets, and mark everything."""

from gateway import Edit, Message, Plugin, Transaction, Verdict, add_header, hook, quarantine, tag_subject


class Holds(Plugin):
    @hook
    async def judge(self, transaction: Transaction) -> Verdict | None:
        named = [r.mailbox for r in transaction.recipients if r.mailbox.startswith("bob")]
        return quarantine("bob is away", box="away").only(*named) if named else None

    @hook
    async def rewrite(self, message: Message) -> list[Edit]:
        return [add_header("X-Site", "seen"), tag_subject("[EXT]")]
'''
BODY = b"\r\n.one dot\r\n..two\r\n \r\n\xff\xfe 8-bit\r\nlast line\r\n"
ALICE, BOB = f"alice@{DOMAIN}", f"bob@{DOMAIN}"


def original(marker: str) -> bytes:
    return (
        f"From: a@client.test\r\nMessage-ID: <{marker}@client.test>\r\nSubject: odd   spaces\r\nX-Fold: a\r\n\tb\r\n".encode()
        + BODY
    )


def edited(marker: str) -> bytes:
    return b"X-Site: seen\r\n" + original(marker).replace(b"Subject: odd", b"Subject: [EXT] odd")


@pytest.fixture
def gateway(start: Callable[..., AbstractContextManager[Gateway]], postfix: RealPostfix, tmp_path: Path) -> Iterator[Gateway]:
    """In front of Postfix, with the plugin."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "holds.py").write_text(PLUGIN)
    chain = f'plugins = ["holds"]\nplugin_path = ["{site}"]'
    with start(workers=1, chain=chain, domains=[DOMAIN], servers=[postfix.address]) as gateway:
        yield gateway


def send(gateway: Gateway, marker: str, *recipients: str) -> None:
    with smtplib.SMTP("127.0.0.1", gateway.smtp, timeout=20) as client:
        client.ehlo("client.test")
        assert client.mail("a@client.test", ["BODY=8BITMIME", "RET=HDRS", "ENVID=QQ314"])[0] == 250
        for recipient in recipients:
            assert client.rcpt(recipient, ["NOTIFY=FAILURE"])[0] == 250
        assert client.data(original(marker))[0] == 250


def command(gateway: Gateway, *words: str, status: int = 0) -> str:
    done = subprocess.run([*COMMAND, *words, "--config", str(gateway.config)], capture_output=True, timeout=30, check=False)
    output = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == status, output
    return output


def held(gateway: Gateway, *, count: int = 1) -> str:
    """The identifier of what is held, where that is one."""
    found = re.findall(r"\bq[0-9a-f]{14}\b", command(gateway, "quarantine", "list", "--state", "held"))
    assert len(found) == count
    return str(found[0]) if found else ""


def with_crlf(octets: bytes) -> bytes:
    """As it was before Postfix wrote it into a Maildir."""
    return octets.replace(b"\n", b"\r\n")


def test_one_held_and_one_forwarded_then_released(gateway: Gateway, postfix: RealPostfix) -> None:
    send(gateway, "two-fates", ALICE, BOB)
    assert with_crlf(postfix.wait_for("alice", b"two-fates@")).endswith(edited("two-fates"))
    assert postfix.messages("bob") == []

    listed = command(gateway, "quarantine", "list")
    id_ = held(gateway)
    for text in (id_, "held", "away", "<a@client.test>", f"<{BOB}>", "odd   spaces", "holds: bob-is-away"):
        assert text in listed, listed
    assert ALICE not in listed
    shown = command(gateway, "quarantine", "show", id_)
    for text in (
        "<a@client.test> BODY=8BITMIME RET=HDRS ENVID=QQ314",
        f"<{BOB}> NOTIFY=FAILURE",
        "X-Fold: a",
        "tag the subject with [EXT]",
    ):
        assert text in shown, shown
    raw = subprocess.run(
        [*COMMAND, "quarantine", "show", id_, "--raw", "--config", str(gateway.config)],
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert raw.stdout == original("two-fates")

    found = gateway.until(lambda: re.search(r"^ *(\S+) .*bob-is-away", command(gateway, "journal", "search"), re.MULTILINE))
    assert found[1] == gateway.events("transaction", at_least=1)[0]["id"]
    for known in (found[1], id_):
        tree = command(gateway, "explain", known)
        assert found[1] in tree
        assert re.search(rf"{BOB}\S* .*held", tree), tree
        assert "holds" in tree
        assert "bob-is-away" in tree
    assert command(gateway, "journal", "search", "--verdict", "rejected").strip() == "nothing"

    output = command(gateway, "quarantine", "release", id_)
    assert "queued as" in output
    delivered = with_crlf(postfix.wait_for("bob", b"two-fates@"))
    assert delivered.endswith(edited("two-fates"))
    above = delivered.removesuffix(edited("two-fates"))
    assert above.count(b"(mailgateway)") == 1
    assert b"(held in quarantine since " in above
    assert f"\tid {id_};".encode() in above
    assert re.search(r"from=<a@client.test>, .*nrcpt=1", postfix.log())

    output = command(gateway, "quarantine", "release", id_, status=1)
    assert "it is released, not held" in output
    assert "quarantine-released" in command(gateway, "explain", found[1])
    assert len(postfix.messages("bob")) == len(postfix.messages("alice")) == 1


def test_a_refused_release_stays_held_with_the_reply(gateway: Gateway, postfix: RealPostfix) -> None:
    send(gateway, "refused", BOB)
    id_ = held(gateway)
    with postfix.with_settings(smtpd_recipient_restrictions="reject"):
        output = command(gateway, "quarantine", "release", id_, status=1)
        assert "554 5.7.1" in output
        assert "Access denied" in output
    assert held(gateway) == id_
    shown = command(gateway, "quarantine", "show", id_)
    assert re.search(r"last release .*554 5\.7\.1", shown), shown
    postfix.stop()
    output = command(gateway, "quarantine", "release", id_, status=1)
    assert "451 4.4.1" in output, output
    postfix.start()
    assert held(gateway) == id_
    command(gateway, "quarantine", "release", id_)
    assert with_crlf(postfix.wait_for("bob", b"refused@")).endswith(edited("refused"))
    held(gateway, count=0)


async def test_eight_releases_at_once_deliver_once(gateway: Gateway, postfix: RealPostfix) -> None:
    await asyncio.to_thread(send, gateway, "at-once", BOB)
    id_ = await asyncio.to_thread(held, gateway)
    words = [*COMMAND, "quarantine", "release", id_, "--config", str(gateway.config)]
    processes = [
        await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
        for _ in range(8)
    ]
    outputs = [(await process.communicate())[0].decode() for process in processes]
    assert sorted(process.returncode or 0 for process in processes) == [0] + [1] * 7, outputs
    postfix.wait_for("bob", b"at-once@")
    assert sum("queued as" in output for output in outputs) == 1
    assert len(postfix.messages("bob")) == 1


def test_a_deleted_copy_is_gone_and_in_the_journal(gateway: Gateway, postfix: RealPostfix) -> None:
    send(gateway, "deleted", BOB)
    id_ = held(gateway)
    command(gateway, "quarantine", "delete", id_)
    held(gateway, count=0)
    command(gateway, "quarantine", "release", id_, status=1)
    assert "its content is gone" in command(gateway, "quarantine", "show", id_, "--raw", status=1)
    assert "quarantine-deleted" in command(gateway, "explain", id_)
    assert not [file for file in (gateway.state / "quarantine" / "blobs").rglob("*") if file.is_file()]
    assert postfix.messages("bob") == []
