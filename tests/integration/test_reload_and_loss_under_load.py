"""Under load: reloads without a failed session or a mixed generation, and a killed plugin's process without a lost message.

A few seconds in the suite; MAILGATEWAY_LOAD=60 for a minute each.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import smtplib
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.journal.records import record_of
from tests.integration.gateway_process import COMMAND, Gateway

Start = Callable[..., AbstractContextManager[Gateway]]

SECONDS = float(os.environ.get("MAILGATEWAY_LOAD", "3"))
CLIENTS = 4
RATE = 200.0
"""Messages a second, of all clients together, as far as the machine goes."""

STAMPED = """
from gateway import Label, Message, Plugin, Session, Transaction, add_header, hook

VERSION = "v{version}"


class Stamped(Plugin):
    @hook(cheap=True)
    def mail(self, transaction: Transaction) -> None:
        self.seen = getattr(self, "seen", {{}})
        self.seen[transaction.id] = VERSION

    @hook
    async def check(self, transaction: Transaction) -> Label:
        return Label(name=self.seen[transaction.id])

    @hook
    def judge(self, transaction: Transaction) -> None:
        assert [one.name for one in transaction.findings.of(Label)] == [VERSION]

    @hook(cheap=True)
    def rewrite(self):
        return add_header("X-Version", VERSION)

    @hook(cheap=True)
    def done(self, transaction: Transaction) -> None:
        del self.seen[transaction.id]
"""
KILLED = """
from gateway import Label, Message, Plugin, Transaction, add_header, hook


class Killed(Plugin):
    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.subjects = {}

    @hook
    async def check(self, transaction: Transaction, message: Message) -> Label:
        self.subjects[transaction.id] = message.subject
        return Label(name="seen")

    @hook
    async def rewrite(self, transaction: Transaction):
        return add_header("X-Seen", self.subjects.pop(transaction.id))
"""


class Load:
    """Clients that send, and what they were told."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._numbers = itertools.count()
        self._over = threading.Event()
        self.accepted: list[int] = []
        self.refused: list[str] = []
        self.failed: list[str] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Until the block ends."""
        clients = [threading.Thread(target=self._client) for _ in range(CLIENTS)]
        for one in clients:
            one.start()
        try:
            yield
        finally:
            self._over.set()
            for one in clients:
                one.join(60)

    def _client(self) -> None:
        """Sessions of ten messages; what is refused for now is sent again."""
        again: list[int] = []
        while not self._over.is_set() or again:
            try:
                with smtplib.SMTP("127.0.0.1", self._port, timeout=30) as client:
                    for _ in range(10):
                        if self._over.is_set() and not again:
                            break
                        number = again.pop() if again else next(self._numbers)
                        if not self._send(client, number):
                            again.append(number)
                        self._over.wait(CLIENTS / RATE)
            except (OSError, smtplib.SMTPException) as error:
                self.failed.append(repr(error))
                return

    def _send(self, client: smtplib.SMTP, number: int) -> bool:
        try:
            client.sendmail("me@sender.test", ["alice@inbox.test"], f"Subject: number-{number}\r\n\r\nHello.\r\n")
        except smtplib.SMTPResponseException as error:
            if not 400 <= error.smtp_code < 500:
                raise
            self.refused.append(str(error.smtp_error))
            return False
        self.accepted.append(number)
        return True


def delivered(gateway: Gateway) -> dict[int, str]:
    """Number of each message in the mailbox, and what the plugin wrote. Each is there once."""
    found: dict[int, str] = {}
    for file in (gateway.state / "inbox" / "alice" / "new").iterdir():
        text = file.read_text()
        number = re.search(r"^Subject: number-(\d+)", text, re.MULTILINE)
        stamp = re.search(r"^X-\w+: (.*)$", text, re.MULTILINE)
        assert number
        assert stamp
        assert int(number[1]) not in found
        found[int(number[1])] = stamp[1]
    return found


def records(gateway: Gateway) -> list[Any]:
    with sqlite3.connect(f"file:{gateway.state / 'journal.sqlite'}?mode=ro", uri=True) as journal:
        rows = journal.execute("select record from records").fetchall()
    journal.close()
    return [record_of(row[0]) for row in rows]


@pytest.mark.timeout(60 + 3 * SECONDS)
def test_reloads_under_load_fail_no_session_and_mix_no_generations(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()

    def write(version: int) -> None:
        (folder / "new").write_text(STAMPED.format(version=version))
        (folder / "new").rename(folder / "stamped.py")

    write(1)
    chain = f'plugins = ["stamped"]\nplugin_path = ["{folder}"]'
    with start(chain=chain, server='watch_files = "0s"') as gateway:
        gateway.until(lambda: gateway.workers_up() == 2)
        load = Load(gateway.smtp)
        reloads = 1
        with load.running():
            end = time.monotonic() + SECONDS
            while time.monotonic() < end or reloads < 3:
                reloads += 1
                write(reloads)
                subprocess.run([*COMMAND, "reload", "--config", str(gateway.config)], check=True, capture_output=True, timeout=60)
        assert load.failed == []
        assert load.refused == []
        found = delivered(gateway)
        assert sorted(found) == sorted(load.accepted)
        gateway.until(lambda: len(records(gateway)) == len(found))
        versions: dict[str, str] = {}
        for record in records(gateway):
            (label,) = [one["name"] for step in record["steps"] for one in step["findings"] if one["kind"] == "Label"]
            assert versions.setdefault(record["generation"], label) == label
        assert len(versions) > 1
        assert set(found.values()) == set(versions.values())
        print(f"{len(found)} messages, {reloads - 1} reloads, {len(versions)} generations seen, 0 failed, 0 mixed")  # noqa: T201 - figures


def plugin_processes(gateway: Gateway) -> list[int]:
    """Of all workers."""
    found = []
    for worker in gateway.children():
        with suppress(OSError):
            for pid in map(int, Path(f"/proc/{worker}/task/{worker}/children").read_text().split()):
                if b"gateway.isolation.child" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
    return found


@pytest.mark.timeout(60 + 3 * SECONDS)
def test_a_plugin_process_killed_every_second_loses_nothing_and_each_loss_is_named(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "killed.py").write_text(KILLED)
    chain = f'plugins = ["killed"]\nplugin_path = ["{folder}"]'
    with start(chain=chain, server='watch_files = "0s"', more="[plugin.killed]\nprocess = true\n") as gateway:
        gateway.until(lambda: gateway.workers_up() == 2 and len(plugin_processes(gateway)) == 2)
        workers = set(gateway.worker_pids())
        load = Load(gateway.smtp)
        kills = 0
        with load.running():
            end = time.monotonic() + SECONDS
            while time.monotonic() < end or kills < 4:
                time.sleep(1.0)
                for pid in plugin_processes(gateway):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        kills += 1
        assert load.failed == []
        found = delivered(gateway)
        assert sorted(found) == sorted(load.accepted)
        assert all(stamp == f"number-{number}" for number, stamp in found.items())
        losses = {event["transaction"]: event["error"] for event in gateway.events("plugin.fault")}
        named = {one: why for one, why in losses.items() if "its process ended" in why and "signal 9 (SIGKILL)" in why}
        assert losses == named
        assert len(load.refused) == len(losses)
        assert all(any(one in text for one in losses) for text in load.refused)
        gateway.until(lambda: set(losses) <= {record["id"] for record in records(gateway)})
        traces = {record["id"]: record for record in records(gateway)}
        for one, why in losses.items():
            assert any(why in step["evidence"] for step in traces[one]["steps"] if step["plugin"] == "killed")
        assert len(gateway.events("plugin.process_ended", at_least=1)) >= 1
        assert set(gateway.worker_pids()) == workers
        left = set(plugin_processes(gateway))
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        gateway.until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))  # they end with their worker
        print(f"{len(found)} messages, {kills} kills, {len(losses)} deferred by them and sent again, 0 lost")  # noqa: T201 - figures
