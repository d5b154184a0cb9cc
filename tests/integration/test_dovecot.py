"""A real Dovecot as next hop, by LMTP: its answers for one message differ, and each recipient gets it once all the same."""

from __future__ import annotations

import re
import secrets
import smtplib
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest

from tests.integration.dovecot import DOMAIN, RealDovecot
from tests.integration.gateway_process import COMMAND, Gateway
from tests.integration.postfix import DOMAIN as POSTFIX_DOMAIN
from tests.integration.postfix import RealPostfix

pytestmark = [pytest.mark.real, pytest.mark.slow]

Start = Callable[..., AbstractContextManager[Gateway]]
TOLD = {"alice": 250, "bob": 250, "carol": 250, "full": 552, "nobody": 550}


def mark() -> str:
    """Of one message: a test that is run again finds its own."""
    return secrets.token_hex(6)


def content(marker: str) -> bytes:
    return f"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{marker}@client.test>\r\nSubject: x\r\n\r\n.\r\nhello\r\n".encode()


def queue(port: int, marker: str, names: Sequence[str]) -> tuple[dict[str, int], int]:
    """As a queue sends one message: who was deferred is tried again, in the same order. The last codes, and how many tries it took."""
    told: dict[str, int] = {}
    for tries in range(1, 12):
        waiting = [name for name in names if told.get(name, 400) // 100 == 4]
        if not waiting:
            return told, tries - 1
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
            client.ehlo("client.test")
            client.mail(f"{marker}@client.test")
            told |= {name: client.rcpt(f"{name}@{DOMAIN}")[0] for name in waiting}
            joined = [name for name in waiting if told[name] == 250]
            if joined:
                told |= dict.fromkeys(joined, client.data(content(marker))[0])
    raise AssertionError(f"no end: {told}")


def ledger_entries(gateway: Gateway) -> int:
    with closing(sqlite3.connect(gateway.state / "ledger.sqlite")) as database:
        return int(database.execute("SELECT count(*) FROM entries").fetchone()[0])


@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_each_recipient_once_whatever_the_server_says_of_the_others(way: str, start: Start, dovecot: RealDovecot) -> None:
    """One is accepted, one refused at RCPT, one over quota after the dot: a client of SMTP has one reply for all of them."""
    address = dovecot.address if way == "tcp" else dovecot.socket_address
    orders = [("alice", "nobody", "full", "bob"), ("full", "alice", "bob"), ("nobody", "full"), ("carol", "alice")]
    first_marker = ""
    with start(workers=1, domains=[DOMAIN], servers=[address]) as gateway:
        for names in orders:
            marker = mark()
            first_marker = first_marker or marker
            told, tries = queue(gateway.smtp, marker, names)
            assert told == {name: TOLD[name] for name in names}
            assert dovecot.count(marker) == {name: 1 for name in names if TOLD[name] == 250}, dovecot.log()
            assert tries == (3 if "full" in names and len(names) > 2 else 1)
        assert ledger_entries(gateway) == 0, "each was consumed before its 250"
        assert "mailgateway_duplicates_total 0.0" in gateway.get("/metrics")[1]
        (first, *_) = gateway.events("transaction", at_least=1)
        explained = command(gateway, "explain", first["id"])
        assert "Quota exceeded" in explained
    saved = next(one for one in dovecot.messages("alice") if first_marker.encode() in one)
    assert saved.replace(b"\n", b"\r\n").endswith(content(first_marker)), "octet for octet below the fields on top"


def by_lmtp(where: Sequence[str], marker: str, require: Callable[[str], str], names: Sequence[str]) -> list[str]:
    """What swaks is told after the dot, without the server's own identifiers."""
    recipients = ",".join(f"{name}@{DOMAIN}" for name in names)
    words = [
        "--protocol",
        "LMTP",
        "--from",
        "a@client.test",
        "--to",
        recipients,
        "--header",
        f"Message-ID: <{marker}@client.test>",
    ]
    done = subprocess.run([require("swaks"), *where, *words], capture_output=True, text=True, timeout=30, check=False)
    _, _, after = done.stdout.partition("\n -> .\n")
    told = [line[4:] for line in after.splitlines() if line.startswith(("<-  ", "<** "))]
    assert told, done.stdout + done.stderr
    return [re.sub(r"> \S+ Saved", "> Saved", line) for line in told[:-1]]


def test_a_client_of_lmtp_hears_what_dovecot_says_of_each(
    start: Start, dovecot: RealDovecot, tmp_path: Path, require: Callable[[str], str]
) -> None:
    names, direct, through = ("alice", "full", "nobody", "bob", "alice"), mark(), mark()
    theirs = by_lmtp(["--server", f"127.0.0.1:{dovecot.port}"], direct, require, names)
    more = f'[[listener]]\nname = "lmtp"\nprotocol = "lmtp"\nbind = "unix:{tmp_path}/s"'
    with start(workers=1, domains=[DOMAIN], servers=[dovecot.socket_address], more=more):
        assert by_lmtp(["--socket", f"{tmp_path}/s"], through, require, names) == theirs
    assert [line[:3] for line in theirs] == ["250", "552", "250", "250"]
    assert dovecot.count(through) == dovecot.count(direct) == {"alice": 1, "bob": 1}, "who is named twice has one copy of it"


def test_a_real_postfix_in_front(start: Start, dovecot: RealDovecot, postfix: RealPostfix) -> None:
    """Its queue tries again by itself: one bounce for each recipient that is refused, no second copy for anybody."""
    names, marker = ("alice", "full", "nobody", "bob"), mark()
    with start(workers=2, domains=[DOMAIN], servers=[dovecot.socket_address]) as gateway:
        settings = {
            "default_transport": "smtp",
            "relayhost": f"[127.0.0.1]:{gateway.smtp}",
            "minimal_backoff_time": "2s",
            "maximal_backoff_time": "2s",
            "queue_run_delay": "1s",
        }
        with postfix.with_settings(**settings):
            with smtplib.SMTP(postfix.host, postfix.port, timeout=20) as client:
                recipients = [f"{name}@{DOMAIN}" for name in names]
                client.sendmail(f"alice@{POSTFIX_DOMAIN}", recipients, content(marker))

            def ends() -> Counter[tuple[str, str]]:
                return Counter(re.findall(rf"to=<(\w+)@{DOMAIN}>.* status=(sent|bounced)", postfix.log()))

            gateway.until(lambda: ends().total() >= len(names), 30)
            expected = {(name, "sent" if TOLD[name] == 250 else "bounced"): 1 for name in names}
            assert ends() == expected, postfix.log()
            gateway.until(lambda: sum(one.count(b"Final-Recipient") for one in postfix.messages("alice")) == 2)
    assert dovecot.count(marker) == {"alice": 1, "bob": 1}


def test_a_real_postfix_in_front_that_speaks_lmtp(
    start: Start, dovecot: RealDovecot, postfix: RealPostfix, free_port: Callable[[], int]
) -> None:
    """A reply for each recipient: nobody has to wait for a second try."""
    names, marker, port = ("alice", "full", "nobody", "bob"), mark(), free_port()
    more = f'[[listener]]\nname = "lmtp"\nprotocol = "lmtp"\nbind = "127.0.0.1:{port}"'
    with (
        start(workers=1, domains=[DOMAIN], servers=[dovecot.address], more=more) as gateway,
        postfix.with_settings(default_transport=f"lmtp:inet:127.0.0.1:{port}"),
    ):
        with smtplib.SMTP(postfix.host, postfix.port, timeout=20) as client:
            client.sendmail(f"alice@{POSTFIX_DOMAIN}", [f"{name}@{DOMAIN}" for name in names], content(marker))

        def ends() -> dict[str, str]:
            return dict(re.findall(rf"to=<(\w+)@{DOMAIN}>.* delay=.* status=(\w+)", postfix.log().rpartition(marker)[2]))

        gateway.until(lambda: len(ends()) == len(names))
        assert ends() == {name: "sent" if TOLD[name] == 250 else "bounced" for name in names}, postfix.log()
        (done,) = gateway.events("transaction", at_least=1)
        assert done["verdict"] == "rejected"
    assert dovecot.count(marker) == {"alice": 1, "bob": 1}


PLUGIN = '''
"""Hold everything."""

from gateway import Plugin, Verdict, hook, quarantine


class Holds(Plugin):
    @hook
    async def judge(self) -> Verdict | None:
        return quarantine("not yet")
'''


def command(gateway: Gateway, *words: str, status: int = 0) -> str:
    done = subprocess.run([*COMMAND, *words, "--config", str(gateway.config)], capture_output=True, timeout=30, check=False)
    output = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == status, output
    return output


def test_what_was_held_is_released_by_lmtp_to_each_recipient_once(start: Start, dovecot: RealDovecot, tmp_path: Path) -> None:
    names, marker = ("dave", "full", "bob"), mark()
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "holds.py").write_text(PLUGIN)
    chain = f'plugins = ["holds"]\nplugin_path = ["{tmp_path}/site"]'
    with start(workers=1, chain=chain, domains=[DOMAIN], servers=[dovecot.address]) as gateway:
        assert queue(gateway.smtp, marker, names) == (dict.fromkeys(names, 250), 1)
        assert dovecot.count(marker) == {}
        found = re.findall(r"\bq[0-9a-f]{14}\b", command(gateway, "quarantine", "list", "--state", "held"))
        output = command(gateway, "quarantine", "release", found[0], status=1)
        assert output.count("Saved") == 2
        assert "Quota exceeded" in output
        assert dovecot.count(marker) == {"dave": 1, "bob": 1}
        output = command(gateway, "quarantine", "release", found[0], status=1)
        assert "Saved" not in output, "only who has not got it is tried again"
        assert dovecot.count(marker) == {"dave": 1, "bob": 1}
