"""`mailgateway learn`, and what the quarantine's decisions teach."""

from __future__ import annotations

import asyncio
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import learn
from gateway.cli.commands import app
from gateway.content import Content
from gateway.learning import Memory, Status, lesson_of, read_message
from gateway.message import Message
from gateway.quarantine import Copy, Quarantine

SPAM = b"From: shop@client.example\r\nSubject: Cheap pills\r\n\r\nBuy cheap pills now\r\n"
HAM = b"From: bob@client.example\nSubject: Lunch\n\nShall we have lunch tomorrow?\n"


class NextHop(socketserver.StreamRequestHandler):
    """Takes mail for alice."""

    def handle(self) -> None:
        self.wfile.write(b"220 next ESMTP\r\n")
        while line := self.rfile.readline():
            if line.startswith(b"DATA"):
                self.wfile.write(b"354 go\r\n")
                while self.rfile.readline() != b".\r\n":
                    pass
            self.wfile.write(b"550 5.1.1 no\r\n" if line.startswith(b"RCPT") and b"alice" not in line else b"250 2.0.0 ok\r\n")


class Site:
    """A configuration with the plugin, and its state."""

    def __init__(self, directory: Path, port: int = 9, plugins: str = '"learning"') -> None:
        self.directory = directory
        self.config = directory / "config.toml"
        self.config.write_text(
            f'plugins = [{plugins}]\n[server]\nstate_directory = "{directory}/var"\n'
            f'[[route]]\ndomains = ["inbox.test"]\nservers = ["127.0.0.1:{port}"]\n'
        )

    def run(self, *words: str, stdin: bytes = b"") -> Result:
        return CliRunner().invoke(app, [*words, "--config", str(self.config)], input=stdin)

    def status(self, file: str = "var/learning.sqlite") -> Status:
        async def work() -> Status:
            memory = await Memory.open(self.directory / file)
            found = await memory.status()
            await memory.close()
            return found

        return asyncio.run(work())

    def count(self, word: bytes) -> tuple[float, float]:
        """How often a word of a text was in ham and in spam."""
        (number,) = [
            number
            for number, text in lesson_of(read_message(Message(Content(b"\r\n" + word)))).words.items()
            if text == word.decode()
        ]

        async def work() -> tuple[float, float]:
            memory = await Memory.open(self.directory / "var/learning.sqlite")
            found = await memory.known([number])
            await memory.close()
            return found.tokens.get(number, (0.0, 0.0))

        return asyncio.run(work())

    def hold(self, recipient: bytes = b"<alice@inbox.test>") -> str:
        async def work() -> str:
            quarantine = await Quarantine.open(self.directory / "var" / "quarantine", retention=1e9, lease=60.0)
            copy = Copy(transaction_id="t1", content=Content(SPAM), recipients=((recipient, (), "default"),))
            ticket = await quarantine.write_held(copy)
            await quarantine.close()
            return ticket.id

        return asyncio.run(work())


@pytest.fixture
def next_hop() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), NextHop) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_files_mailboxes_and_standard_input(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (tmp_path / "one.eml").write_bytes(SPAM)
    (tmp_path / "box").write_bytes(
        b"From a Thu Nov 26 2026\n" + HAM + b"\nFrom b Thu Nov 26 2026\n" + HAM.replace(b"Lunch", b"Dinner")
    )
    result = site.run("learn", "spam", str(tmp_path / "one.eml"), "-", stdin=SPAM.replace(b"Cheap", b"Best"))
    assert (result.exit_code, result.output) == (0, "spam: 2 learnt, 0 changed, 0 known before\n")
    assert site.run("learn", "ham", str(tmp_path / "box")).output == "ham: 2 learnt, 0 changed, 0 known before\n"
    assert site.run("learn", "ham", str(tmp_path / "box")).output == "ham: 0 learnt, 0 changed, 2 known before\n"
    assert site.run("learn", "ham", str(tmp_path / "one.eml")).output == "ham: 0 learnt, 1 changed, 0 known before\n"
    status = site.status()
    assert (status.ham, status.spam, status.lessons) == (3, 1, 4)
    assert (site.count(b"lunch"), site.count(b"pills")) == ((2, 0), (1, 1))
    shown = site.run("learn", "status").output
    assert [line.split() for line in shown.splitlines() if line.strip()][:2] == [["ham", "3"], ["spam", "1"]]


def test_what_cannot_be_learnt_is_said_and_the_rest_is_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path)
    monkeypatch.setattr(learn, "MAX_MESSAGE", 100)
    (tmp_path / "small").write_bytes(b"Subject: a\n\nb\n")
    (tmp_path / "large").write_bytes(SPAM * 3)
    result = site.run("learn", "spam", str(tmp_path / "nowhere"), str(tmp_path / "large"), str(tmp_path / "small"))
    assert result.exit_code == 1
    assert "spam: 1 learnt" in result.output
    assert "nowhere" in result.output
    assert "more than 100 octets" in result.output


@pytest.mark.parametrize(
    ("plugins", "table", "file"),
    [
        ('"learning"', "", "var/learning.sqlite"),
        ('{ name = "words", use = "learning", file = "words.sqlite" }', "", "words.sqlite"),
        ('"words"', '[plugin.words]\nuse = "learning"\nfile = "words.sqlite"\n', "words.sqlite"),
        ('"spf"', "", ""),
        ('"spf"', '[plugin.learning]\nfile = "x.sqlite"\n', ""),
    ],
)
def test_which_database(tmp_path: Path, plugins: str, table: str, file: str) -> None:
    site = Site(tmp_path, plugins=plugins)
    site.config.write_text(site.config.read_text() + table)
    result = site.run("learn", "spam", "-", stdin=SPAM)
    if file:
        assert result.exit_code == 0
        assert site.status(file).spam == 1
    else:
        assert result.exit_code == 1
        assert "no plugin `learning` in any chain" in result.output


def test_a_release_teaches_ham_and_a_report_spam(tmp_path: Path, next_hop: int) -> None:
    site = Site(tmp_path, next_hop)
    assert site.run("quarantine", "release", site.hold()).exit_code == 0
    assert site.count(b"pills") == (1, 0)
    assert site.run("quarantine", "report", site.hold()).exit_code == 0
    assert site.count(b"pills") == (0, 1)  # the same message: minds change
    assert "quarantine-reported" in site.run("journal", "search", "--verdict", "discarded").output.replace("\n", "")


def test_what_was_not_released_or_not_wanted_teaches_nothing(tmp_path: Path, next_hop: int) -> None:
    site = Site(tmp_path, next_hop)
    assert site.run("quarantine", "release", site.hold(b"<bob@inbox.test>")).exit_code == 1
    assert site.run("quarantine", "release", "--no-learn", site.hold()).exit_code == 0
    assert site.run("quarantine", "delete", site.hold()).exit_code == 0
    assert site.run("quarantine", "report", "q00000000000000").exit_code == 1
    assert site.status().lessons == 0


def test_a_report_without_the_plugin_deletes(tmp_path: Path) -> None:
    site = Site(tmp_path, plugins="")
    assert site.run("quarantine", "report", site.hold()).exit_code == 0
    assert not (tmp_path / "var" / "learning.sqlite").exists()


def test_a_decision_stands_where_it_cannot_be_learnt(tmp_path: Path) -> None:
    site = Site(tmp_path)
    id_ = site.hold()
    (tmp_path / "var" / "learning.sqlite").mkdir()
    result = site.run("quarantine", "report", id_)
    assert result.exit_code == 0
    assert "warning: not learnt" in result.output
