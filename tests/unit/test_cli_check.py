"""`mailgateway check` and `plugins list`, and the tree they share with `explain`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from gateway.cli.commands import app
from gateway.cli.tree import render
from gateway.trace import Record, Trace
from gateway.verdict import reject

CONFIG = """plugins = ["site_rules", { name = "watching", use = "site_rules", mode = "monitor" }]
plugin_path = ["site"]
[[route]]
domains = ["example.org"]
servers = ["127.0.0.1:2526"]
[[listener]]
name = "mx"
[[listener]]
name = "submission"
bind = "127.0.0.1:0"
trusted_networks = ["198.51.100.0/24"]
plugins = []
"""
PLUGIN = """from gateway import *


class SiteRules(Plugin):
    @hook
    async def connect(self, session: Session):
        return reject("not you", code=554) if session.client_address == "192.0.2.66" else None

    @hook
    async def rcpt(self, recipient: Recipient):
        return reject("no such", enhanced="5.1.1", reason="unknown") if recipient.mailbox == "nobody@example.org" else None

    @hook
    async def check(self):
        return Label(name="seen")

    @hook
    async def judge(self, transaction: Transaction, message: Message):
        return quarantine("odd subject", evidence=message.subject) if "odd" in message.subject else None

    @hook
    async def rewrite(self):
        return add_header("X-Seen", "yes")
"""
MESSAGE = b"From: Alice <alice@client.example>\r\nSubject: odd \x1b[31mred\r\n\r\nHello\r\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "site_rules.py").write_text(PLUGIN)
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "m.eml").write_bytes(MESSAGE)
    return tmp_path


def call(directory: Path, *words: str, octets: bytes | None = None) -> Result:
    return CliRunner().invoke(app, [*words, "--config", str(directory / "config.toml")], input=octets)


def check(directory: Path, *words: str, octets: bytes | None = None) -> str:
    name = "-" if octets is not None else str(directory / "m.eml")
    done = call(directory, "check", name, *words, octets=octets)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_decision_as_a_tree(directory: Path) -> None:
    shown = check(directory, "--from", "alice@client.example", "--to", "bob@example.org", "--to", "nobody@example.org")
    assert "check  held by site_rules: odd-subject" in shown  # the fate of what was accepted
    assert "MAIL <alice@client.example>" in shown
    assert "<bob@example.org>  held: quarantine by site_rules odd-subject  route default" in shown
    assert "<nobody@example.org>  rejected: reject by site_rules unknown" in shown
    assert "reply 550 5.1.1 no such" in shown
    assert "watching  would have" in shown
    assert "(monitor)" in shown
    assert "label name=seen" in shown
    assert "add X-Seen: yes" in shown
    assert "\x1b" not in shown
    assert "taken as line ends" not in shown


def test_the_route_map_is_asked(directory: Path) -> None:
    (directory / "routes.txt").write_text("Bob@example.org 192.0.2.9:25\n")
    config = directory / "config.toml"
    config.write_text(config.read_text() + '[relay]\nmap = "routes.txt"\n')
    shown = check(directory, "--to", "bob@example.org", "--to", "carol@example.org")
    assert "route 192.0.2.9:25" in shown
    assert "route default" in shown


def test_a_refused_connection(directory: Path) -> None:
    shown = check(directory, "--ip", "192.0.2.66", "--to", "bob@example.org")
    assert "check  rejected by site_rules: not-you" in shown
    assert "reply 554 5.7.1 not you" in shown
    assert "judge" not in shown


def test_bare_line_feeds_are_taken_as_line_ends_and_said_so(directory: Path) -> None:
    shown = check(directory, "--to", "bob@example.org", octets=b"Subject: Hello\n\nHi\n")
    assert "3 bare LF or CR in the file were taken as line ends" in shown
    assert "message of 22 octets: Hello" in shown
    assert "delivered" in shown


def test_another_listener(directory: Path) -> None:
    shown = check(directory, "--listener", "submission", "--to", "bob@example.org", "--ip", "198.51.100.7", "--identity", "alice")
    assert "listener submission" in shown
    assert "authenticated as alice" in shown
    assert "delivered" in shown


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--ip", "nonsense"], "is not an IP address"),
        (["--to", "two words"], "is not a mailbox"),
        (["--from", "a@b@c"], "is not a mailbox"),
        (["--listener", "mxx"], "no listener 'mxx'"),
    ],
)
def test_wrong_options(directory: Path, words: list[str], expected: str) -> None:
    done = call(directory, "check", str(directory / "m.eml"), *words)
    assert done.exit_code == 2
    assert expected in " ".join(done.output.replace("│", " ").split())


def test_what_cannot_be_read_or_loaded(directory: Path) -> None:
    done = call(directory, "check", str(directory / "absent.eml"))
    assert (done.exit_code, "No such file" in done.output) == (1, True)
    (directory / "config.toml").write_text(CONFIG + "[limits]\nmessage_size = 10\n")
    done = call(directory, "check", str(directory / "m.eml"))
    assert (done.exit_code, "larger than limits.message_size (10 octets)" in done.output) == (1, True)
    (directory / "config.toml").write_text(CONFIG.replace('"site_rules", {', '"site_rule", {'))
    done = call(directory, "check", str(directory / "m.eml"))
    assert (done.exit_code, "did you mean 'site_rules'" in done.output) == (2, True)


def test_a_plugin_that_cannot_start(directory: Path) -> None:
    with (directory / "site" / "site_rules.py").open("a") as file:
        file.write("\n    @hook\n    async def startup(self):\n        raise LookupError('no table')\n")
    done = call(directory, "check", str(directory / "m.eml"))
    assert (done.exit_code, "no table" in done.output) == (1, True)


def test_plugins_list(directory: Path) -> None:
    (directory / "site" / "broken.py").write_text("1 / 0\n")
    done = call(directory, "plugins", "list")
    assert done.exit_code == 0
    rows = {line.split()[0]: line for line in done.output.splitlines() if line.strip()}
    assert re.search(r"bundled +0\.1\.0", rows["spf"])
    assert "connect, rcpt, check, judge, rewrite" in rows["site_rules"]
    assert "site_rules, watching" in rows["site_rules"]
    assert "cannot be loaded" in rows["broken"]
    (directory / "config.toml").write_text('plugin_path = ["nowhere"]\n')
    assert "nowhere, which cannot be read" in call(directory, "plugins", "list").output


def printed(record: Record) -> str:
    console = Console(width=200, markup=False, emoji=False, highlight=False, force_terminal=False)
    with console.capture() as captured:
        console.print(render(record))
    return captured.get()


def test_text_from_outside_stays_text() -> None:
    trace = Trace()
    evil = "[bold]x\x1b]0;title\x07\r\n\u202egpj"
    trace.step(stage="judge", plugin=evil, outcome=evil, recipient=evil, verdict=reject("no", evidence=evil), evidence=evil)
    fields: dict[str, Any] = dict.fromkeys(Record.__annotations__, evil)
    fields |= {
        "time": 1.0,
        "duration_ms": 2.0,
        "size": 3,
        "parameters": [evil],
        "steps": trace.step_records(),
        "steps_dropped": 4,
    }
    row = dict.fromkeys(["forward_path", "sent_path", "route", "fate", "verdict", "plugin", "reason", "evidence", "reply"], evil)
    fields["recipients"] = [row]
    record: Record = fields  # type: ignore[assignment]
    shown = printed(record)
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(shown)
    assert "[bold]x" in shown
    assert "4 more steps were not kept" in shown
