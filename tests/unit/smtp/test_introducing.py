"""XCLIENT ends one session and begins another: hooks, seats, counters, and what a later EHLO does not change."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.config.models import Config
from gateway.testing.in_process import InProcessGateway

PLUGIN = '''
"""Writes down which sessions begin and end."""

from pathlib import Path

from gateway import Plugin, Session, hook


class Watcher(Plugin):
    def note(self, text: str) -> None:
        with Path("{file}").open("a") as file:
            file.write(text + "\\n")

    @hook
    async def connect(self, session: Session) -> None:
        through = session.proxy.address if session.proxy else "-"
        self.note(f"begin {{session.client_address}} {{session.client_name}} {{session.server_address}} through {{through}}")

    @hook
    async def helo(self, session: Session) -> None:
        self.note(f"helo {{session.helo}}")

    @hook
    async def disconnect(self, session: Session) -> None:
        self.note(f"end {{session.client_address}}")
'''


def settings(folder: Path, **limits: object) -> Config:
    (folder / "watcher.py").write_text(PLUGIN.format(file=folder / "seen"))
    return Config.model_validate(
        {
            "plugins": ["watcher"],
            "plugin_path": [str(folder)],
            "listener": [{"name": "mx", "bind": "127.0.0.1:0", "trusted_xclient": ["127.0.0.1"]}],
            "route": [{"domains": ["example.test"], "servers": ["127.0.0.1:1"]}],
            "limits": limits,
        }
    )


async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: str) -> str:
    """The last line of the reply."""
    if line:
        writer.write(line.encode() + b"\r\n")
    while True:
        got = (await reader.readline()).decode()
        if got[3:4] != "-":
            return got


async def test_each_client_has_a_session_of_its_own(tmp_path: Path) -> None:
    async with InProcessGateway(settings(tmp_path, errors=3, connections=1), directory=tmp_path / "state") as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port())
        assert (await say(reader, writer, "")).startswith("220 ")
        for number in range(4):  # one connection keeps to its one seat, and errors are each client's own
            told = f"XCLIENT NAME=c{number}.example ADDR=192.0.2.{number} HELO=c{number} DESTADDR=198.51.100.1"
            assert (await say(reader, writer, told)).startswith("220 ")
            assert (await say(reader, writer, "EHLO front.example")).startswith("250 ")
            for _ in range(2):
                assert (await say(reader, writer, "NONSENSE")).startswith("500 ")
        assert (await say(reader, writer, "XCLIENT ADDR=[UNAVAILABLE] NAME=[UNAVAILABLE] HELO=[UNAVAILABLE]")).startswith("220 ")
        assert (await say(reader, writer, "EHLO front.example")).startswith("250 ")
        assert (await say(reader, writer, "QUIT")).startswith("221 ")
        writer.close()
        await gateway.quiet()
    expected = ["begin 127.0.0.1  127.0.0.1 through -"]
    before = "127.0.0.1"
    for number in range(4):
        expected += [
            f"end {before}",
            f"begin 192.0.2.{number} c{number}.example 198.51.100.1 through 127.0.0.1",
            f"helo c{number}",
        ]
        before = f"192.0.2.{number}"
    expected += [f"end {before}", "begin   198.51.100.1 through 127.0.0.1", "helo front.example", "end "]
    assert (tmp_path / "seen").read_text().splitlines() == expected
