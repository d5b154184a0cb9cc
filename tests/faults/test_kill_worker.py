"""kill -9 of workers of the real gateway: acknowledgements, next hop and quarantine agree message by message.

With MAILGATEWAY_DEEP=1: 20 deaths at each of the five steps and 100 at random; else a few of each.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import smtplib
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from gateway.faults import POINTS
from gateway.quarantine import Quarantine, Query, State, rows

DEEP = bool(os.environ.get("MAILGATEWAY_DEEP"))
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
MIXES = (("ok",), ("held",), ("ok", "held"), ("ok", "no"), ("held", "no"), ("ok", "void"))
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

    port: int
    told: dict[tuple[str, str], int] = field(default_factory=dict)
    unsure: Counter[str] = field(default_factory=Counter)
    """Connections lost behind the content, by message: the only ones that may cause a duplicate."""

    def send(self, message: str, recipients: tuple[str, ...], limit: float) -> None:
        deadline = time.monotonic() + limit
        while waiting := [name for name in recipients if (message, name) not in self.told]:
            assert time.monotonic() < deadline, f"{message}: nobody answers for {waiting}"
            try:
                self._try(message, waiting)
            except (OSError, smtplib.SMTPException):
                time.sleep(0.05)

    def _try(self, message: str, waiting: list[str]) -> None:
        with smtplib.SMTP("127.0.0.1", self.port, timeout=20) as smtp:
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
            smtp.send(
                b"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <%b@client.test>\r\n\r\nx\r\n.\r\n" % message.encode()
            )
            try:
                code, text = smtp.getreply()
            except (OSError, smtplib.SMTPException):
                self.unsure[message] += 1
                raise
            if code // 100 in {2, 5}:
                for name in joined:
                    self.told[message, name] = code // 100


@dataclass
class Gateway:
    process: subprocess.Popen[bytes]
    directory: Path

    def workers(self) -> list[int]:
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in found.split()]

    def deaths(self) -> int:
        return (self.directory / "log").read_text().count('"how": "signal SIGKILL"')

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
    (directory / "plugins").mkdir()
    (directory / "plugins" / "sorter.py").write_text(PLUGIN)
    (directory / "config.toml").write_text(CONFIG.format(port=port, next_hop=next_hop, workers=workers))
    environment = os.environ | ({"MAILGATEWAY_FAULT": fault} if fault else {})
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, "run", "--config", "config.toml"], cwd=directory, env=environment, stdout=log, stderr=log
        )
        try:
            yield Gateway(process, directory)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def agree(client: Client, sent: dict[str, tuple[str, ...]], next_hop: NextHop, found: Gateway) -> str:
    """Nothing lost, nothing made up, duplicates only where a reply was lost; a line that sums it up."""
    held, states = await found.quarantine()
    taken = Counter({(message, name.partition("-")[0]): count for (message, name), count in next_hop.taken.items()})
    wrong = []
    doubles: Counter[str] = Counter()
    for message, names in sent.items():
        for name in names:
            key = (message, name)
            places = (taken[key], held[key])
            expected = {"ok": (1, 0), "held": (0, 1)}.get(name, (0, 0))
            if client.told.get(key) != EXPECTED[name]:
                wrong.append(f"{key}: told {client.told.get(key)}")
            if any(there < wanted for there, wanted in zip(places, expected, strict=True)):
                wrong.append(f"{key}: lost, {places}")
            extra = sum(places) - sum(expected)
            if any(there and not wanted for there, wanted in zip(places, expected, strict=True)):
                wrong.append(f"{key}: in a place it should not be, {places}")
            elif extra > 0:
                doubles[name] += extra
                if extra > client.unsure[message]:
                    wrong.append(f"{key}: {extra} duplicates, {client.unsure[message]} lost replies")
    wrong += [f"{key}: made up" for key in taken.keys() | held.keys() if key[1] not in sent.get(key[0], ())]
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:20])
    return f"{len(sent)} messages, {found.deaths()} deaths, {client.unsure.total()} lost replies, duplicates {dict(doubles)}, copies {dict(states)}"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_each_step(point: str, tmp_path: Path, free_port: Callable[[], int]) -> None:
    deaths = 20 if DEEP else 3
    with NextHop() as next_hop, gateway(tmp_path, port := free_port(), next_hop.port, workers=3, fault=f"{point}@2") as found:
        client = Client(port)
        sent: dict[str, tuple[str, ...]] = {}
        while found.deaths() < deaths:
            message = f"m{len(sent)}"
            sent[message] = MIXES[len(sent) % len(MIXES)]
            await asyncio.to_thread(client.send, message, sent[message], 60)
        print(point, await agree(client, sent, next_hop, found))  # noqa: T201 - pytest -s shows the figures


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_killed_at_random(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """Under 20 sessions. Workers are killed when they have lived five seconds, so that they are replaced at once."""
    kills = 100 if DEEP else 4
    chance = random.Random(1)
    with NextHop() as next_hop, gateway(tmp_path, port := free_port(), next_hop.port, workers=4 if DEEP else 2) as found:
        client = Client(port)
        sent: dict[str, tuple[str, ...]] = {}
        stop = threading.Event()

        def session(number: int) -> None:
            count = 0
            while not stop.is_set():
                message = f"s{number}n{count}"
                sent[message] = MIXES[(number + count) % len(MIXES)]
                client.send(message, sent[message], 120)
                count += 1
                stop.wait(0.5)

        with ThreadPoolExecutor(20) as threads:
            sessions = [threads.submit(session, number) for number in range(20)]
            try:
                seen: dict[int, float] = {}
                killed = 0
                while killed < kills:
                    await asyncio.sleep(chance.random() * 0.3)
                    now = time.monotonic()
                    for pid in found.workers():
                        seen.setdefault(pid, now)
                    old = [pid for pid in found.workers() if now - seen[pid] > 5.2]
                    if old:
                        os.kill(chance.choice(old), signal.SIGKILL)
                        killed += 1
            finally:
                stop.set()
            for each in sessions:
                await asyncio.wrap_future(each)
        print("random", await agree(client, sent, next_hop, found))  # noqa: T201 - pytest -s shows the figures
