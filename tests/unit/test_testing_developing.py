"""A gateway that is developed against: what it records plays as it stands, and holds no secret; what changes is followed."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway import DnsAnswer, DnsError
from gateway.testing import FakeResolver, play_session, recorded_sessions
from gateway.testing.developing import Development, Settings
from gateway.testing.noted_dns import NotedResolver
from gateway.testing.recorded import Surroundings, dialogue_text
from gateway.testing.script import Script, parse_option
from gateway.testing.tape import PASSWORD, Tape
from gateway.testing.wire import Party, connect

CONFIG = """
plugins = ["spf", "by_subject", "authres"]
plugin_path = ["site"]

[[listener]]
name = "mx"
bind = "unix:/run/nobody/may/make/this"
auth_route = "default"
lenient_networks = []

[[route]]
domains = ["example.org"]
servers = ["192.0.2.25:25"]
tls = "required"
auth = { user = "us", password = "hidden" }

[server]
name = "mx.example.org"
"""
PLUGIN = """
from gateway import Message, Plugin, Verdict, hook, quarantine


class BySubject(Plugin):
    @hook
    async def judge(self, message: Message) -> Verdict | None:
        return quarantine("by-subject") if message.subject == "hold" else None
"""
ZONE = '$ORIGIN client.example.\n$TTL 300\n@ SOA ns hostmaster 1 2 3 4 5\n@ TXT "v=spf1 ip4:192.0.2.7 -all"\nwww CNAME client.example.\n'


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "by_subject.py").write_text(PLUGIN)
    (tmp_path / "client.zone").write_text(ZONE)
    (tmp_path / "state").mkdir()
    (tmp_path / "recorded").mkdir()
    return tmp_path


@asynccontextmanager
async def developed(place: Path, *rcpt: str, **settings: Any) -> AsyncIterator[tuple[Development, int, list[str]]]:
    """A gateway with its port, and what it says."""
    said: list[str] = []
    script = Script(tuple(parse_option(one) for one in rcpt))
    made = Settings(
        file=place / "config.toml",
        script=script,
        zones=(str(place / "client.zone"),),
        record=place / "recorded",
        print=lambda what: said.append(what if isinstance(what, str) else str(what.label)),
        **settings,
    )
    async with Development(made, place / "state") as gateway:
        server = await asyncio.get_running_loop().create_server(gateway.protocols("mx"), "127.0.0.1", 0)
        try:
            yield gateway, server.sockets[0].getsockname()[1], said
        finally:
            server.close()


async def hold(port: int, *said: str | bytes) -> str:
    """A session; everything that was answered."""
    party: Party = await connect(port)
    heard = []
    for one in ("", *said):
        if one:
            party.say(one if isinstance(one, bytes) else one.encode() + b"\r\n")
        while (line := await asyncio.wait_for(party.line(), 10)) is not None:
            heard.append(line)
            if line[3:4] != "-":
                break
    party.close()
    return "\n".join(heard)


async def until(said: list[str], word: str) -> str:
    """What was said with this word in it."""
    async with asyncio.timeout(20):
        while True:
            for one in said:
                if word in one:
                    return one
            await asyncio.sleep(0.01)


SECRETS = ("hunter2", base64.b64encode(b"hunter2").decode(), base64.b64encode(b"\0joe\0hunter2").decode(), "n,,n=joe")


async def test_a_session_with_auth_and_a_held_message_plays_and_has_no_secret(place: Path) -> None:
    content = b"Subject: hold\r\n\r\n..dot\r\n\xff\r\n\r\n.\r\n"
    login = base64.b64encode(b"joe").decode()
    async with developed(place, "AUTH PLAIN=535", "AUTH LOGIN=235", client="192.0.2.7", is_tls=True) as (_, port, said):
        heard = await hold(
            port,
            "EHLO client.example",
            f"auth plain {SECRETS[2]}",
            "AUTH SCRAM-SHA-256 " + base64.b64encode(b"n,,n=joe,r=hunter2").decode(),
            "AUTH LOGIN",
            login,
            SECRETS[1],
            "MAIL FROM:<joe@client.example>",
            "RCPT TO:<bob@elsewhere.example>",
            "DATA",
            content,
            "MAIL FROM:<joe@client.example>",
            "RCPT TO:<bob@example.org>",
            "DATA",
            content.replace(b"hold", b"pass"),
            "QUIT",
        )
        assert "535 5.7.8" in heard
        assert "and plays" in await until(said, "is recorded as")
        assert any("held by by_subject" in one for one in said)
    [file] = recorded_sessions(place / "recorded")
    text = file.read_text()
    assert not [secret for secret in SECRETS if secret in text]
    assert base64.b64encode(f"\0joe\0{PASSWORD}".encode()).decode() in text
    assert "hidden" not in text  # the configuration stays where it is
    assert "\nclient: 192.0.2.7\ntls: assumed\n" in text
    await play_session(file)
    file.write_text(text.replace("= fates delivered", "= fates rejected"))
    with pytest.raises(AssertionError, match="fates"):
        await play_session(file)


async def test_what_a_session_may_do_is_recorded_so_that_it_plays(place: Path) -> None:
    async with developed(place, "RCPT TO:<eve@example.org>=550 then 451", "CONTENT=drop", as_pytest=False) as (_, port, said):
        group = b"MAIL FROM:<a@x.example>\r\nRCPT TO:<eve@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n"
        heard = await hold(
            port, "EHLO client.example", group, "", "", "", b"Subject: x\r\n\r\nx\r\n.\r\n", "NOOP\t", "BLAH", b"RSET\nx\r\n"
        )
        assert "550 5.1.1" in heard
        assert "451 4.4.2" in heard
        first = await until(said, "is recorded as")
        assert "and plays" in first, first
        await hold(port, "EHLO x", "MAIL FROM:<>", "RCPT TO:<bob@example.org>", b"BDAT 3\r\nabc", b"BDAT 2 LAST\r\n\r\n")
        await asyncio.sleep(0.4)
    texts = [file.read_text() for file in recorded_sessions(place / "recorded")]
    assert len(texts) == 2
    assert all(text.count("\nC^\n") == 1 for text in texts)
    assert '"client.example" = { TXT = [["v=spf1 ip4:192.0.2.7 -all"]] }' in texts[0] + texts[1]


async def test_a_change_is_followed_and_a_mistake_changes_nothing(place: Path) -> None:
    message = ("EHLO x", "MAIL FROM:<>", "RCPT TO:<bob@example.org>", "DATA", b"Subject: hold\r\n\r\n.\r\n", "QUIT")
    plugin = place / "site" / "by_subject.py"
    async with developed(place) as (gateway, port, said):
        watching = asyncio.get_running_loop().create_task(gateway.watch())
        early = await connect(port)
        await early.line()
        plugin.write_text("nothing that is Python")
        assert "cannot be imported" in await until(said, "not reloaded")
        await hold(port, *message)
        assert "held by by_subject" in await until(said, "held")
        plugin.write_text(PLUGIN.replace('"hold"', '"other"') + "\n# another length\n")
        await until(said, "reloaded: 3 plugin(s)")
        said.clear()
        await hold(port, *message)
        assert "delivered" in await until(said, "delivered")
        early.say(b"NOOP\r\n")  # a session from before goes on
        assert await asyncio.wait_for(early.line(), 10) == "250 2.0.0 Ok"
        early.close()
        (place / "config.toml").write_text(CONFIG.replace('name = "mx"', 'name = "my"'))
        await until(said, "the listener 'mx' is gone, which needs a restart")
        watching.cancel()


async def test_a_plugin_of_a_package_is_followed_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = place / "lib" / "acme_followed"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "words.py").write_text('WORD = "first"\n')
    (package / "plug.py").write_text("from acme_followed.words import WORD\n" + PLUGIN.replace('"hold"', "WORD"))
    monkeypatch.syspath_prepend(str(place / "lib"))
    (place / "config.toml").write_text(CONFIG.replace('"by_subject"', '{ name = "acme", use = "acme_followed.plug:BySubject" }'))
    message = ("EHLO x", "MAIL FROM:<>", "RCPT TO:<bob@example.org>", "DATA", b"Subject: second\r\n\r\n.\r\n", "QUIT")
    async with developed(place) as (gateway, port, said):
        watching = asyncio.get_running_loop().create_task(gateway.watch())
        (package / "words.py").write_text('WORD = "second"\n')
        await until(said, "reloaded: 3 plugin(s)")
        await hold(port, *message)
        await until(said, "held by acme")
        watching.cancel()
    for name in [name for name in sys.modules if name.startswith("acme_followed")]:
        del sys.modules[name]


async def test_sessions_at_the_same_time_are_not_mixed_up(place: Path) -> None:
    async with developed(place) as (_, port, said):
        one = await connect(port)
        await one.line()
        await hold(port, "NOOP")
        one.close()
        assert "another session went on at the same time" in await until(said, "is not recorded")
    assert not recorded_sessions(place / "recorded")


def test_a_tape_that_is_too_long_is_no_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.testing.tape.MOST", 100)
    tape = Tape()
    tape.client(b"x" * 60 + b"\r\n")
    assert (tape.problem, len(tape.lines)) == ("", 1)
    tape.client(b"x" * 60 + b"\r\n")
    assert (tape.problem, len(tape.lines)) == ("more than 100 octets", 0)


def test_secrets_that_come_in_pieces_or_before_they_are_asked_for() -> None:
    tape = Tape()
    for octets in (b"NOOP\r\nauth ", b"LOGIN\r\nam9l\r\nc2Vj", b"cmV0\r\n"):  # all of it before the first reply
        tape.client(octets)
    tape.server(b"250 2.0.0 Ok\r\n334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n235 2.7.0 Ok\r\n")
    tape.client(b"AUTH XOAUTH2 " + base64.b64encode(b"user=joe") + b"\r\n *\r\nNOOP\r\n")
    text = dialogue_text(tape, Surroundings(title="x", config_file="c.toml"))
    assert "c2VjcmV0" not in text
    assert base64.b64encode(b"user=joe").decode() not in text
    assert "C: am9l\n" in text
    assert "C: NOOP\n" in text.partition("AUTH")[0] + "C: NOOP\n"


async def test_dns_is_noted_as_it_answered() -> None:
    class Failing(FakeResolver):
        async def query(self, name: str, kind: str) -> DnsAnswer:
            if name == "fails.example":
                raise DnsError(name, kind, "no")
            return await super().query(name, kind)

    zones: dict[str, Any] = {"a.example": {"A": ["192.0.2.1"], "MX": [[10, "mx.example"]]}, "w.example": {"CNAME": ["a.example"]}}
    noted = NotedResolver(Failing(zones))
    for name, kind in (("A.example", "A"), ("a.example", "MX"), ("w.example", "A"), ("none.example", "A"), ("a.example", "TXT")):
        await noted.query(name, kind)
    with pytest.raises(DnsError):
        await noted.query("fails.example", "A")
    found = noted.zones()
    assert found == {**zones, "fails.example": {"A": ["TEMPFAIL"]}}
    again = FakeResolver(found)
    assert (await again.query("w.example", "A")).canonical == "a.example"
    noted.forget()
    assert not noted.zones()


def test_the_command_and_the_test_that_it_writes(place: Path) -> None:
    import smtplib

    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
    main = [sys.executable, "-c", "from gateway.cli import main; main()", "dev"]
    options = [
        "--zone",
        "client.zone",
        "--rcpt",
        "eve@example.org=550",
        "--record",
        "tests",
        "--as",
        "pytest",
        "--log",
        "warning",
    ]
    process = subprocess.Popen(
        [*main, *options], cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        port = next(int(line.partition("127.0.0.1:")[2].partition(",")[0]) for line in lines if "listens on" in line)
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client.example") as client:
            refused = client.sendmail("a@client.example", ["bob@example.org", "eve@example.org"], "Subject: hold\r\n\r\nx\r\n")
        assert refused == {"eve@example.org": (550, b"5.1.1 No such user")}
        told = next(line for line in lines if "is recorded as" in line)
        assert "and plays" in told
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0, rest
    (place / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--basetemp", "temporary", "tests"]
    done = subprocess.run(run, cwd=place, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
