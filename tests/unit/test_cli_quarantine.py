"""`mailgateway quarantine`, `journal`, `explain`: against a real next hop on loopback, with hostile text."""

from __future__ import annotations

import asyncio
import socketserver
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway import add_header
from gateway.cli import terminal
from gateway.cli.commands import app
from gateway.cli.tree import edit_line
from gateway.content import Content
from gateway.core import NONE, STATUS
from gateway.journal import Journal
from gateway.quarantine import Copy, Entry, Quarantine

OCTETS = b"Subject: \x1b[31mred\r\nX-Old: \xe2\x80\xaeright\r\n\r\n.dot\r\n"


class NextHop(socketserver.StreamRequestHandler):
    """A next hop of twenty lines: knows alice only."""

    delivered: list[bytes]
    lines: list[bytes]

    def handle(self) -> None:
        self.wfile.write(b"220 next ESMTP\r\n")
        while line := self.rfile.readline():
            self.lines.append(line)
            verb = line[:4].upper()
            if verb == b"EHLO":
                self.wfile.write(b"250-next\r\n250-8BITMIME\r\n250 PIPELINING\r\n")
            elif verb == b"RCPT" and b"alice" not in line:
                self.wfile.write(b"550 5.1.1 \x1b[31mno such user\r\n")
            elif verb == b"DATA":
                self.wfile.write(b"354 go\r\n")
                octets = b""
                while not octets.endswith(b"\r\n.\r\n"):
                    octets += self.rfile.readline()
                self.delivered.append(octets[:-3].replace(b"\r\n..", b"\r\n."))
                self.wfile.write(b"250 2.0.0 queued as 4711\r\n")
            else:
                self.wfile.write(b"250 2.0.0 ok\r\n")


class Site:
    """A configuration, its state, and a next hop."""

    def __init__(self, directory: Path, port: int, kind: type[NextHop]) -> None:
        self.directory = directory
        self.next_hop = kind
        self.config = directory / "config.toml"
        self.config.write_text(
            f'[server]\nstate_directory = "{directory}/var"\n[[route]]\ndomains = ["inbox.test"]\nservers = ["127.0.0.1:{port}"]\n'
        )

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(app, [*words, "--config", str(self.config)])

    def hold(self, *recipients: bytes, **changes: Any) -> str:
        async def work() -> str:
            quarantine = await Quarantine.open(self.directory / "var" / "quarantine", retention=1e9, lease=60.0)
            values: dict[str, Any] = {
                "transaction_id": "t1",
                "content": Content(OCTETS),
                "edits": (add_header("X-New", "1"),),
                "reverse_path": b"<a@client.example>",
                "parameters": (b"BODY=8BITMIME",),
                "recipients": tuple((path, (), "default") for path in recipients),
                "plugin": "rules",
                "reason": "exe",
                "facts": {"client": "192.0.2.1", "helo": "client.example", "subject": "\x1b[31mred [bold]x"},
            }
            ticket = await quarantine.write_held(Copy(**values | changes))
            await quarantine.close()
            return ticket.id

        return asyncio.run(work())

    def entry(self, id_: str) -> Entry:
        async def work() -> Entry:
            quarantine = await Quarantine.open(self.directory / "var" / "quarantine", retention=1e9, lease=60.0)
            entry = await quarantine.get(id_)
            await quarantine.close()
            assert entry is not None
            return entry

        return asyncio.run(work())

    def note(self, **changes: Any) -> None:
        recipient = dict.fromkeys(
            ("forward_path", "sent_path", "route", "fate", "verdict", "plugin", "reason", "evidence", "reply"), ""
        )
        record: dict[str, Any] = {
            "id": "t1",
            "time": time.time(),
            "duration_ms": 1.0,
            "client": "192.0.2.1",
            "reverse_path": "<a@client.example>",
            "recipients": [recipient | {"forward_path": "<alice@inbox.test>\x1b[2J", "fate": "held"}],
            "parameters": [],
            "size": 5,
            "verdict": "held",
            "steps": [],
            "steps_dropped": 0,
        }
        names = (
            "session",
            "listener",
            "helo",
            "identity",
            "tls",
            "message_id",
            "subject",
            "plugin",
            "reason",
            "reply",
            "next_hop",
        )
        record |= dict.fromkeys((*names, "next_hop_reply", "queue_id", "generation"), "")

        async def work() -> None:
            journal = await Journal.open(self.directory / "var" / "journal.sqlite", retention=1e9, queue=10)
            await journal.commit(record | changes)  # type: ignore[arg-type]
            await journal.close()

        asyncio.run(work())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    kind = type("OneNextHop", (NextHop,), {"delivered": [], "lines": []})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), kind) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield Site(tmp_path, server.server_address[1], kind)
        server.shutdown()
        thread.join()


def test_list_and_show_are_harmless_to_a_terminal(site: Site) -> None:
    id_ = site.hold(b"<alice@inbox.test>", b"<b\x1b]0;title\x07@inbox.test>", evidence="line\nbreak")
    listed = site.run("quarantine", "list")
    shown = site.run("quarantine", "show", id_)
    assert (listed.exit_code, shown.exit_code) == (0, 0)
    for output in (listed.output, shown.output):
        assert id_ in output
        assert "\\x1b[31mred [bold]x" in output
        assert "\x1b" not in output
        assert "\x07" not in output
        assert "\u202e" not in output
    assert "BODY=8BITMIME" in shown.output
    assert "line\\nbreak" in shown.output
    assert "X-Old: \\u202eright" in shown.output
    assert site.run("quarantine", "list", "--search", "nobody").output == "nothing\n"
    assert site.run("quarantine", "list", "--state", "gone").exit_code == 2
    assert site.run("quarantine", "list", "--since", "yesterday").exit_code == 2


def test_show_raw_gives_the_octets(site: Site) -> None:
    id_ = site.hold(b"<alice@inbox.test>")
    assert site.run("quarantine", "show", "--raw", id_).stdout_bytes == OCTETS
    site.run("quarantine", "delete", id_)
    gone = site.run("quarantine", "show", "--raw", id_)
    assert gone.exit_code == 1
    assert "content is gone" in gone.output


def test_release_delivers_and_is_written_down(site: Site) -> None:
    id_ = site.hold(b"<alice@inbox.test>")
    result = site.run("quarantine", "release", id_)
    assert result.exit_code == 0, result.output
    assert "queued as 4711" in result.output
    (octets,) = site.next_hop.delivered
    trace, _, rest = octets.partition(b"X-New: 1\r\n")
    assert rest == OCTETS
    assert trace.startswith(b"Received: from client.example ([192.0.2.1])")
    assert b"MAIL FROM:<a@client.example> BODY=8BITMIME\r\n" in site.next_hop.lines
    again = site.run("quarantine", "release", id_)
    assert again.exit_code == 1
    assert "it is released, not held" in again.output
    assert len(site.next_hop.delivered) == 1
    found = site.run("journal", "search", "--to", "alice")
    assert "quarantine-released" in found.output
    assert f"t1.{id_}" in found.output


def test_a_refused_release_stays_held_and_shows_the_reply(site: Site) -> None:
    id_ = site.hold(b"<alice@inbox.test>", b"<bob@inbox.test>")
    result = site.run("quarantine", "release", id_)
    assert result.exit_code == 1
    assert "no such user" in result.output
    assert "\x1b" not in result.output
    entry = site.entry(id_)
    assert entry.state == "held"
    assert entry.released == {0}
    assert "no such user" in site.run("quarantine", "show", id_).output


def test_release_without_a_next_hop(site: Site) -> None:
    id_ = site.hold(b"<alice@inbox.test>", recipients=((b"<alice@inbox.test>", (), "no-such-route"),))
    result = site.run("quarantine", "release", id_)
    assert result.exit_code == 1
    assert site.entry(id_).state == "held"


def test_delete(site: Site) -> None:
    id_ = site.hold(b"<alice@inbox.test>")
    assert site.run("quarantine", "delete", id_).exit_code == 0
    result = site.run("quarantine", "delete", id_, "q0")
    assert result.exit_code == 1
    assert "q0" in result.output
    assert "quarantine-deleted" in site.run("journal", "search", "--verdict", "discarded").output


def test_journal_search(site: Site) -> None:
    site.note()
    site.note(id="t2", verdict="rejected", plugin="spf", reason="spf-fail", time=time.time() - 7200)
    everything = site.run("journal", "search")
    assert "t1" in everything.output
    assert "spf: spf-fail" in everything.output
    assert "\x1b" not in everything.output
    assert "t2" not in site.run("journal", "search", "--since", "1h").output
    assert "t1" not in site.run("journal", "search", "--verdict", "rejected").output
    assert site.run("journal", "search", "--client", "203.0.113.").output == "nothing\n"
    assert site.run("journal", "search", "--since", "soon").exit_code == 2
    misspelt = site.run("journal", "search", "--verdict", "refused")
    assert misspelt.exit_code == 2
    assert "delivered, held, rejected" in misspelt.output


def test_edits_are_shown_as_a_person_says_them() -> None:
    assert edit_line({"kind": "AddHeader", "name": "X-A", "value": "one;\r\n\ttwo"}) == "add X-A: one; two"
    assert edit_line({"kind": "ReplaceHeader", "name": "X-A", "value": "\x1b[31m", "occurrence": 0}) == "replace X-A: \\x1b[31m"
    assert edit_line({"kind": "RemoveHeader", "name": "X-A", "occurrence": None}) == "remove X-A"
    assert edit_line({"kind": "RemoveHeader", "name": "X-A", "occurrence": 1}) == "remove X-A (occurrence 1)"
    assert edit_line({"kind": "TagSubject", "tag": "[EXT]"}) == "tag the subject with [EXT]"
    assert edit_line({"kind": "Accept"}) == ""


def test_the_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    core = f" (compiled core: {STATUS})" if STATUS != NONE else ""
    assert (result.exit_code, result.output) == (0, f"mailgateway {version('mailgateway')}{core}\n")


def test_explain_finds_by_transaction_and_by_copy(site: Site) -> None:
    id_ = site.hold(b"<alice@inbox.test>")
    site.note()
    site.run("quarantine", "delete", id_)
    for wanted in ("t1", id_):
        result = site.run("explain", wanted)
        assert result.exit_code == 0, result.output
        assert "alice@inbox.test" in result.output
        assert "quarantine-deleted" in result.output
        assert "\x1b" not in result.output
    missing = site.run("explain", "t9")
    assert missing.exit_code == 1
    assert "no record of t9" in missing.output


@pytest.mark.parametrize("words", [("quarantine", "list"), ("journal", "search")])
def test_without_any_state(site: Site, words: tuple[str, ...]) -> None:
    result = site.run(*words)
    assert result.exit_code == 1
    assert "makes it when it first runs" in result.output
    assert not (site.directory / "var").exists()


def test_safe_bounds_and_escapes() -> None:
    assert terminal.safe("grün\x1b\u202e\ud800\n") == "grün\\x1b\\u202e\\ud800\\n"
    assert terminal.safe("x" * 500) == "x" * 500
    assert terminal.safe("x" * 501) == "x" * 500 + "…"
