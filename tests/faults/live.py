"""The real gateway as a process, a next hop that writes down what it took, and a client that is a queue with one message."""

from __future__ import annotations

import asyncio
import os
import re
import smtplib
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from gateway.quarantine import Quarantine, Query, State, rows

COMMAND = [sys.executable, "-c", "from gateway.cli import main; main()"]
CONFIG = """
plugins = ["sorter"]
plugin_path = ["plugins"]
[server]
state_directory = "var"
workers = {workers}
log_format = "json"
[[listener]]
bind = "127.0.0.1:{port}"
[[route]]
domains = ["x.test"]
servers = ["127.0.0.1:{next_hop}"]
[quarantine]
lease = "2s"
[admin]
bind = ""
"""
PLUGIN = '''
"""Verdicts by the recipient's name."""

from gateway import Plugin, Transaction, Verdict, discard, hook, quarantine, reject

VERDICTS = {"held": quarantine("odd"), "no": reject("not wanted"), "void": discard("noise")}


class Sorter(Plugin):
    @hook(cheap=True)
    def judge(self, transaction: Transaction) -> list[Verdict]:
        return [
            verdict.only(*named)
            for name, verdict in VERDICTS.items()
            if (named := [r.mailbox for r in transaction.recipients if r.mailbox.startswith(name)])
        ]
'''
EXPECTED = {"ok": 2, "held": 2, "void": 2, "no": 5}


class NextHop:
    """A real enough SMTP server that writes down what it took, at the moment it says so."""

    def __init__(self) -> None:
        self.taken: Counter[tuple[str, str]] = Counter()
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        recipients: list[str] = []
        try:
            writer.write(b"220 next ESMTP\r\n")
            while line := await reader.readline():
                verb = line[:4].upper()
                if verb == b"DATA":
                    writer.write(b"354 go\r\n")
                    content = await reader.readuntil(b"\r\n.\r\n")
                    found = re.search(rb"^Message-ID: <(\S+)@client", content, re.MULTILINE)
                    assert found is not None
                    for recipient in recipients:
                        self.taken[found[1].decode(), recipient] += 1
                    recipients = []
                    writer.write(b"250 2.0.0 taken\r\n")
                    continue
                if verb in {b"MAIL", b"RSET"}:
                    recipients = []
                if verb == b"RCPT":
                    recipients.append(line.partition(b"<")[2].partition(b"@")[0].decode())
                extensions = b"250-next\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
                writer.write(extensions if verb == b"EHLO" else b"221 2.0.0 bye\r\n" if verb == b"QUIT" else b"250 2.0.0 ok\r\n")
                if verb == b"QUIT":
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@dataclass
class Client:
    """A queue with one message: tries until every recipient has a final answer."""

    ports: tuple[int, ...]
    """Gateways, taken in turn."""
    reorders: bool = False
    changes_date: bool = False
    tries: int = 0
    told: dict[tuple[str, str], int] = field(default_factory=dict)

    def send(self, message: str, recipients: tuple[str, ...], limit: float) -> None:
        """Until each recipient has its final answer; AssertionError after so many seconds."""
        deadline = time.monotonic() + limit
        while waiting := [name for name in recipients if (message, name) not in self.told]:
            assert time.monotonic() < deadline, f"{message}: nobody answers for {waiting}"
            try:
                self.attempt(message, waiting)
            except (OSError, smtplib.SMTPException):
                time.sleep(0.05)

    def attempt(self, message: str, waiting: list[str]) -> None:
        """One transaction."""
        self.tries += 1
        if self.reorders:
            waiting = waiting[self.tries % len(waiting) :] + waiting[: self.tries % len(waiting)]
        second = self.tries % 60 if self.changes_date else 0
        date = f"Tue, 24 Nov 2026 10:00:{second:02} +0000"
        with smtplib.SMTP("127.0.0.1", self.ports[self.tries % len(self.ports)], timeout=20) as smtp:
            smtp.ehlo("client.test")
            smtp.mail("c@client.test")
            joined = []
            for name in waiting:
                code, _ = smtp.rcpt(f"{name}-{message}@x.test")
                if code // 100 == 2:
                    joined.append(name)
            if not joined:
                time.sleep(0.02)
                return
            code, text = smtp.docmd("DATA")
            if code != 354:
                raise smtplib.SMTPDataError(code, text)
            smtp.send(f"Date: {date}\r\nMessage-ID: <{message}@client.test>\r\n\r\nx\r\n.\r\n".encode())
            code, text = smtp.getreply()
            if code // 100 in {2, 5}:
                for name in joined:
                    self.told[message, name] = code // 100


@dataclass
class Gateway:
    process: subprocess.Popen[bytes]
    directory: Path

    def wait_ready(self, port: int) -> None:
        """Until somebody listens."""
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                assert time.monotonic() < deadline, (self.directory / "log").read_text()
                time.sleep(0.05)
            else:
                return

    async def quarantine(self) -> tuple[Counter[tuple[str, str]], Counter[str]]:
        """Held, by message and recipient; and how many copies there are in each state."""
        quarantine = await Quarantine.open(self.directory / "var" / "quarantine", retention=3600, lease=2)
        try:
            await quarantine.sweep()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(rows, "MAX_LIST", 1_000_000)
                everything = await quarantine.search(Query(limit=1_000_000))
            held = [entry for entry in everything if entry.state is State.HELD]
            states = Counter(entry.state.value for entry in everything)
        finally:
            await quarantine.close()
        return Counter(_names(path) for entry in held for path, _, _ in entry.recipients), states


def _names(path: bytes) -> tuple[str, str]:
    name, _, message = path.decode().strip("<>").partition("@")[0].partition("-")
    return message, name


@contextmanager
def gateway(directory: Path, port: int, next_hop: int, *, workers: int, fault: str = "") -> Iterator[Gateway]:
    """The command, running in this directory. `fault` is for MAILGATEWAY_FAULT."""
    (directory / "plugins").mkdir(parents=True)
    (directory / "plugins" / "sorter.py").write_text(PLUGIN)
    (directory / "config.toml").write_text(CONFIG.format(port=port, next_hop=next_hop, workers=workers))
    environment = os.environ | ({"MAILGATEWAY_FAULT": fault} if fault else {})
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, "run", "--config", "config.toml"], cwd=directory, env=environment, stdout=log, stderr=log
        )
        try:
            found = Gateway(process, directory)
            found.wait_ready(port)
            yield found
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
