"""What the kill -9 tests stand on: a next hop that writes down what it took, queues that send until answered, a real gateway."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.integration.gateway_process import listening_inodes, open_files

COMMAND = [sys.executable, "-c", "from gateway.cli import main; main()"]
LEASE = 1.0
CONFIG = """
plugins = ["sorter"]
plugin_path = ["plugins"]
[server]
state_directory = "var"
workers = {workers}
restart_rest = "0.1s"
log_format = "json"
[[listener]]
bind = "127.0.0.1:{port}"
[[route]]
domains = ["x.test"]
servers = ["127.0.0.1:{next_hop}"]
[quarantine]
lease = "1s"
[admin]
bind = ""
"""
PLUGIN = '''
"""Verdicts by the recipient's name."""

from gateway import Plugin, Transaction, Verdict, discard, hook, quarantine, reject

VERDICTS = {"bob": quarantine("odd"), "no": reject("not wanted"), "void": discard("noise")}


class Sorter(Plugin):
    @hook(cheap=True)
    def judge(self, transaction: Transaction) -> list[Verdict]:
        return [
            verdict.only(*named)
            for name, verdict in VERDICTS.items()
            if (named := [r.mailbox for r in transaction.recipients if r.mailbox.startswith(name)])
        ]
'''
Key = tuple[str, str]
"""A message and a recipient's name: alice is forwarded, bob held, void discarded, no refused."""


def content_of(message: str) -> bytes:
    """The octets a client sends for this message, the same each time."""
    head = f"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{message}@client>\r\nSubject: {message}\r\n\r\n"
    return head.encode() + message.encode() * 40 + b"\r\n"


def key_of(path: bytes) -> Key:
    """From the path of a recipient."""
    name, _, message = path.decode().strip("<>").partition("@")[0].partition("-")
    return message, name


class NextHop:
    """A real enough SMTP server; what it takes is written down before it says so."""

    def __init__(self) -> None:
        self.taken: Counter[Key] = Counter()
        self.damaged: list[str] = []
        """Messages whose octets are not those that were sent."""
        self.port = 0

    async def __aenter__(self) -> Self:
        self._open: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        paths: list[bytes] = []
        with closing(writer), suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(b"220 next ESMTP\r\n")
            while line := await reader.readline():
                match line[:4].upper():
                    case b"DATA":
                        writer.write(b"354 go\r\n")
                        self._take(await reader.readuntil(b"\r\n.\r\n"), paths)
                        paths = []
                        writer.write(b"250 2.0.0 taken\r\n")
                    case b"EHLO":
                        writer.write(b"250-next\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
                    case b"RCPT":
                        paths.append(line.partition(b":")[2].split()[0])
                        writer.write(b"250 2.1.5 ok\r\n")
                    case b"QUIT":
                        writer.write(b"221 2.0.0 bye\r\n")
                        break
                    case _:
                        paths = []
                        writer.write(b"250 2.0.0 ok\r\n")

    def _take(self, octets: bytes, paths: list[bytes]) -> None:
        found = re.search(rb"^Message-ID: <(\S+)@client>", octets, re.MULTILINE)
        message = found[1].decode() if found else "?"
        if not octets[:-3].endswith(b"\r\n" + content_of(message)):
            self.damaged.append(message)
        self.taken.update(key_of(path) for path in paths)


@dataclass
class Clients:
    """Sending servers: each message is tried until every recipient has a final answer."""

    port: int
    sent: dict[str, tuple[str, ...]] = field(default_factory=dict)
    told: dict[Key, int] = field(default_factory=dict)
    """2 or 5, by the reply."""
    unsure: Counter[str] = field(default_factory=Counter)
    """Replies to the content that never came, by message: nothing else may cause a duplicate."""

    @property
    def acknowledged(self) -> int:
        """Recipients answered with 2xx behind the content."""
        return sum(code == 2 for code in self.told.values())

    async def session(self, messages: Iterator[tuple[str, tuple[str, ...]]]) -> None:
        """Send one after the other, on one connection as long as it lives."""
        link: Link | None = None
        for message, names in messages:
            self.sent[message] = names
            while waiting := [name for name in names if (message, name) not in self.told]:
                try:
                    link = link or await Link.open(self.port)
                    async with asyncio.timeout(20):
                        await self._try(link, message, waiting)
                except (ConnectionError, TimeoutError):
                    if link is not None:
                        await link.close()
                    link = None
                    await asyncio.sleep(0.03)
        if link is not None:
            await link.close()

    async def _try(self, link: Link, message: str, waiting: list[str]) -> None:
        await link.say(b"RSET")
        if await link.say(b"MAIL FROM:<c@client.test>") != 250:
            raise ConnectionError
        joined = [name for name in waiting if await link.say(f"RCPT TO:<{name}-{message}@x.test>".encode()) == 250]
        if not joined or await link.say(b"DATA") != 354:
            await asyncio.sleep(0.02)
            return
        try:
            code = await link.say(content_of(message) + b".")
        except (ConnectionError, asyncio.CancelledError):
            self.unsure[message] += 1
            raise
        if code // 100 in {2, 5}:
            self.told.update({(message, name): code // 100 for name in joined})


class Link:
    """A client's connection. A lost one is a ConnectionError."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        link = cls(*await asyncio.open_connection("127.0.0.1", port))
        try:
            await link.say(b"")
            await link.say(b"EHLO client.test")
        except ConnectionError:
            await link.close()
            raise
        return link

    async def say(self, line: bytes) -> int:
        """Say it, and the code of the reply; 421 is a connection lost."""
        if line:
            self._writer.write(line + b"\r\n")
        while (reply := await self._reader.readline())[3:4] == b"-":
            pass
        if not reply.endswith(b"\n") or reply.startswith(b"421"):
            raise ConnectionResetError
        return int(reply[:3])

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


@dataclass
class Gateway:
    """The process under test, and what it has left on the disk."""

    process: subprocess.Popen[bytes]
    directory: Path
    port: int

    def workers(self) -> list[int]:
        """Those that accept."""
        accepting = {f"socket:[{inode}]" for inode in listening_inodes(self.port)}
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if accepting & open_files(int(pid))]

    def deaths(self) -> int:
        """By SIGKILL, as the supervisor has seen them."""
        return self.log().count('"how": "signal SIGKILL"')

    def log(self) -> str:
        return (self.directory / "log").read_text()


@contextmanager
def gateway(directory: Path, port: int, next_hop: int, *, workers: int, fault: str = "") -> Iterator[Gateway]:
    """`mailgateway run`. `fault`: as MAILGATEWAY_FAULT, for every worker and for those that replace them."""
    (directory / "plugins").mkdir()
    (directory / "plugins" / "sorter.py").write_text(PLUGIN)
    (directory / "config.toml").write_text(CONFIG.format(port=port, next_hop=next_hop, workers=workers))
    environment = os.environ | ({"MAILGATEWAY_FAULT": fault} if fault else {})
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, "run", "--config", "config.toml"], cwd=directory, env=environment, stdout=log, stderr=log
        )
        try:
            yield Gateway(process, directory, port)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
