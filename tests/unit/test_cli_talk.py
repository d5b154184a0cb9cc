"""`mailgateway talk`: a session from a pipe; what it says, what it does not do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = """
plugins = ["spf", "by_subject"]
plugin_path = ["site"]

[plugin.spf]
fail = "reject"

[[listener]]
name = "mx"
bind = "unix:/run/nobody/may/make/this"
auth_route = "default"

[[route]]
domains = ["example.org"]
servers = ["192.0.2.25:25"]
tls = "required"
auth = { user = "us", password = "hidden" }

[[route]]
name = "other"
domains = ["other.example"]
servers = ["mx:"]

[dns.zones]
"example.org" = { MX = [[10, "mail.example.org"]] }
"mail.example.org" = { A = ["192.0.2.30"] }

[server]
name = "mx.example.org"
state_directory = "state"
"""
PLUGIN = """
from gateway import Message, Plugin, Recipient, Redirect, Verdict, discard, hook, quarantine, redirect


class BySubject(Plugin):
    @hook
    async def rcpt(self, recipient: Recipient) -> Redirect | None:
        return redirect("other") if recipient.mailbox.startswith("away") else None

    @hook
    async def judge(self, message: Message) -> Verdict | None:
        self.context.log.info("seen", subject=message.subject)
        if message.subject == "hold":
            return quarantine("by-subject")
        return discard("by-subject") if message.subject == "discard" else None
"""
ZONE = """$ORIGIN example.test.
$TTL 300
@ SOA ns hostmaster 1 2 3 4 5
@ TXT "v=spf1 ip4:192.0.2.7 -all"
@ CAA 0 issue "ca.example"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "by_subject.py").write_text(PLUGIN)
    (tmp_path / "example.zone").write_text(ZONE)
    return tmp_path


def talk(place: Path, said: bytes, *options: str, status: int = 0) -> str:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
    environment.pop("MAILGATEWAY_CONFIG", None)
    command = [sys.executable, "-c", "from gateway.cli import main; main()", "talk", *options]
    done = subprocess.run(command, cwd=place, env=environment, input=said, capture_output=True, timeout=50, check=False)
    assert done.returncode == status, done.stderr.decode()
    return (done.stderr + done.stdout).decode()


SESSION = b"""EHLO client.example
AUTH PLAIN AGFsaWNlAHNlY3JldA==
MAIL FROM:<a@example.test>
RCPT TO:<bob@example.org>
RCPT TO:<eve@example.org>
DATA
Subject: hold

..a line that begins with a dot
.
MAIL FROM:<a@example.test>
RCPT TO:<away@example.org>
BDAT 18 LAST
Subject: discard
QUIT
"""


def test_a_session_that_is_held_then_one_that_is_discarded(place: Path) -> None:
    files = sorted(place.rglob("*"))
    output = talk(
        place, SESSION, "--ip", "192.0.2.7", "--tls", "--zone", "example.zone", "--rcpt", "eve@example.org=550", "--log", "info"
    )
    lines = output.splitlines()
    told = [line for line in lines if line[:2] in {"S:", "C:"} or line.lstrip()[:2] in {"G:", "N:"}]
    at = told.index("C: RCPT TO:<eve@example.org>")
    assert told[at : at + 4] == [
        "C: RCPT TO:<eve@example.org>",
        "    G: RCPT TO:<eve@example.org>",
        "    N: 550 5.1.1 No such user",
        "S: 550 5.1.1 No such user",
    ]
    assert "S: 235 2.7.0 Authentication succeeded" in told
    assert "C: AUTH PLAIN …" in told
    assert "secret" not in output
    assert "AGFsaWNl" not in output
    assert any(re.search(r"rcpt\s*$", line) for line in lines)
    assert any("by_subject  verdict redirect next_hop=other for away@example.org" in line for line in lines)
    assert any(
        re.fullmatch(r" +└── by_subject {2}verdict quarantine reason=by-subject box=default {2}[\d.]+ ms", line) for line in lines
    )
    assert "    quarantine (not written): held in the box default for <bob@example.org> by by_subject: by-subject" in lines
    assert "C: (53 octets of content)" in lines
    assert re.search(r"^\S+-1 {2}held by by_subject: by-subject", output, re.MULTILINE)
    assert re.search(r"^\S+-2 {2}discarded by by_subject: by-subject", output, re.MULTILINE)
    assert "192.0.2.7, HELO client.example, authenticated as alice, TLSv1.3" in output
    assert "example.test CAA is passed over" in output
    assert "seen" in output  # what a plugin logs
    assert sorted(place.rglob("*")) == files  # no state, no journal, no quarantine, no socket


def test_spf_of_the_address_and_a_line_without_end(place: Path) -> None:
    message = b"MAIL FROM:<a@example.test>\nRCPT TO:<bob@example.org>\nDATA\nSubject: x\n\n.\n"
    output = talk(
        place, message + b"z" * 3_000_000 + b"\nNOOP\n", "--ip", "192.0.2.8", "--helo", "client.example", "--zone", "example.zone"
    )
    assert re.search(r"spf {2}verdict reject .*reason=spf-fail", output)
    assert "S: 550 5.7.23" in output
    assert "S: 500 5.5.2 Line too long" in output


def test_a_script_large_content_and_content_without_an_end(place: Path) -> None:
    (place / "hop.toml").write_text(
        'keywords = ["8BITMIME"]\n[[answer]]\nwhen = "content"\nreply = ["451 4.3.0 Later", "250 2.0.0 Now"]\n'
    )
    begin = b"MAIL FROM:<>\nRCPT TO:<bob@example.org>\nDATA\n"
    large = begin + b"Subject: x\n\n" + (b"y" * 900 + b"\n") * 1_200 + b".\n"
    output = talk(place, large * 2 + begin + b"Subject: x\n", "--helo", "me", "--zone", "example.zone", "--script", "hop.toml")
    assert [line[3:] for line in output.splitlines() if re.match(r"S: (451|250) .*(Later|Now)", line)] == [
        "451 4.3.0 Later",
        "250 2.0.0 Now",
    ]
    assert len(re.findall(r"G: \. \(10\d{5} octets\)", output)) == 2
    assert "the input ended within the content" in output
    for number, fate in enumerate(("deferred", "delivered", "vanished"), 1):
        assert re.search(rf"^\S+-{number} {{2}}{fate}", output, re.MULTILINE)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--ip", "192.0.2"], "'192.0.2' is not an IP address"),
        (["--helo", "a b"], "'a b': printable ASCII without spaces"),
        (["--listener", "no"], "no listener 'no'; there are: mx"),
        (["--rcpt", "bob"], "MAILBOX=ANSWER is wanted"),
        (["--content", "250 after soon"], "'soon' is not a duration"),
        (["--zone", "none.zone"], "none.zone: No such file or directory"),
        (["--zone", "config.toml"], "config.toml: no $ORIGIN in it"),
        (["--script", "config.toml"], "is not known; there are: answer, keywords"),
        (["--config", "none.toml"], "none.toml"),
    ],
)
def test_what_is_wrong_is_said(place: Path, options: list[str], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from gateway.cli.commands import app

    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "300")
    done = CliRunner().invoke(app, ["talk", *options])
    assert done.exit_code == 2
    assert told in " ".join(done.output.replace("│", " ").split())
