"""Plugins that misbehave, in the real gateway: mail goes on, and everything says which plugin it was.

Raising, waiting for ever, answering nonsense and hanging in a thread end as `on_error` says; a blocked loop costs its worker.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import smtplib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.quarantine import Quarantine, Query
from tests.integration.gateway_process import COMMAND, Gateway, open_files

Start = Callable[..., AbstractContextManager[Gateway]]

PLUGIN = '''
"""Misbehave when the subject says so."""

import asyncio
import re
import time

from gateway import Message, Plugin, Transaction, hook, quarantine


class Site(Plugin):
    @hook
    {hook}
'''
HOOKS = {
    "raises": "async def judge(self, message: Message):\n        {when}: raise LookupError('of its own')",
    "sleeps": "async def judge(self, message: Message):\n        {when}: await asyncio.sleep(3600)",
    "stubborn": """async def judge(self, message: Message):
        while {is_meant}:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass""",
    "answers": "async def judge(self, message: Message):\n        {when}: return 'quarantine'",
    "hangs": "def judge(self, message: Message):\n        {when}: time.sleep(3600)",
    "checks": "async def check(self, message: Message):\n        {when}: raise KeyError('in a check')",
    "rewrites": "async def rewrite(self, message: Message):\n        {when}: return ['Subject: other']",
    "blocks": "async def judge(self, message: Message):\n        {when}: time.sleep(3600)",
    "backtracks": "async def judge(self, message: Message):\n        {when}: re.match('(a*)*b', 'a' * 200)",
    "holder": "async def judge(self, transaction: Transaction):\n        return quarantine('for bob').only("
    "*(r.mailbox for r in transaction.recipients if r.mailbox.startswith('bob')))",
}
FAULTS = {
    "raises": ("error", "LookupError: of its own at raises.py:"),
    "sleeps": ("timeout", "no answer after 0."),
    "stubborn": ("timeout", "no answer after 0."),
    "answers": ("error", "str"),
    "hangs": ("timeout", "no answer after 0."),
    "checks": ("error", "KeyError: 'in a check' at checks.py:"),
    "rewrites": ("error", "str"),
}
BLOCKING = {"blocks": "time.sleep", "backtracks": "re.match"}
NUMBERS = itertools.count(1)


def site_plugins(folder: Path, *names: str) -> str:
    """Files of site plugins, and the lines of the configuration that use them."""
    folder.mkdir()
    for name in names:
        is_meant = f"message.subject == {name!r}"
        hook = HOOKS[name].format(when=f"if {is_meant}", is_meant=is_meant)
        (folder / f"{name}.py").write_text(PLUGIN.format(hook=hook))
    return f'plugins = {list(names)}\nplugin_path = ["{folder}"]'


def settings(names: list[str], on_error: str) -> str:
    return "".join(f'[plugin.{name}]\ntimeout = "0.5s"\non_error = "{on_error}"\n' for name in names)


def say(client: smtplib.SMTP, subject: str, *recipients: str) -> tuple[int, bytes, str]:
    """One message: code and text of the reply behind the content, and the Message-ID."""
    message_id = f"<{next(NUMBERS)}@client.test>"
    client.mail("a@client.test")
    for recipient in recipients or ("alice@inbox.test",):
        assert client.rcpt(recipient)[0] == 250
    content = f"Message-ID: {message_id}\r\nSubject: {subject}\r\n\r\nhello\r\n"
    return *client.data(content.encode()), message_id


def connected(gateway: Gateway) -> smtplib.SMTP:
    client = smtplib.SMTP("127.0.0.1", gateway.smtp, timeout=20)
    try:
        client.ehlo("client.test")
    except BaseException:
        client.close()
        raise
    return client


def send(gateway: Gateway, subject: str) -> tuple[int, bytes, str]:
    with connected(gateway) as client:
        return say(client, subject)


def delivered(gateway: Gateway, mailbox: str = "alice") -> set[str]:
    """Message-IDs in a mailbox of the next hop."""
    found = set()
    for file in (gateway.state / "inbox" / mailbox / "new").iterdir():
        field = re.search(rb"^Message-ID: (\S+)", file.read_bytes(), re.MULTILINE)
        assert field is not None
        found.add(field[1].decode())
    return found


def told(gateway: Gateway, message_id: str) -> dict[str, Any]:
    """The log line of a message's transaction."""
    event: dict[str, Any] = gateway.until(
        lambda: next((one for one in gateway.events("transaction") if one["message_id"] == message_id), None)
    )
    return event


def command(gateway: Gateway, *words: str) -> str:
    done = subprocess.run(
        [*COMMAND, *words, "--config", str(gateway.config)], capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout


def explained(gateway: Gateway, id_: str) -> str:
    """Records are written in batches."""
    return str(gateway.until(lambda: command(gateway, "explain", id_)))


@pytest.fixture(params=["defer", "ignore"])
def faulty(request: pytest.FixtureRequest, start: Start, tmp_path: Path) -> Iterator[tuple[Gateway, str]]:
    """A gateway with all plugins that a deadline or a border stops, and its `on_error`."""
    chain = site_plugins(tmp_path / "site", *FAULTS)
    with start(workers=1, chain=chain, more=settings(list(FAULTS), request.param)) as gateway:
        yield gateway, request.param


@pytest.mark.slow
def test_each_fault_ends_as_on_error_says_and_mail_goes_on(faulty: tuple[Gateway, str]) -> None:
    gateway, on_error = faulty
    (worker,) = gateway.worker_pids()
    for name, (outcome, evidence) in FAULTS.items():
        began = time.monotonic()
        code, text, message_id = send(gateway, name)
        assert time.monotonic() - began < 10
        event = told(gateway, message_id)
        if on_error == "defer":
            assert (code, text[:6]) == (451, b"4.3.0 "), name
            assert event["id"].encode() in text
            assert event["plugin"] == name
            assert event["reason"] in {"plugin-error", "plugin-timeout"}
        else:
            assert code == 250, name
        assert (message_id in delivered(gateway)) == (on_error == "ignore")
        tree = explained(gateway, event["id"])
        assert re.search(rf"{name}  +{outcome}", tree), tree
        assert evidence in tree.replace("\n", " "), tree
        code, _, message_id = send(gateway, "an ordinary one")
        assert code == 250
        assert message_id in delivered(gateway)
    assert gateway.worker_pids() == [worker], "none of them costs the worker"


def test_a_plugin_whose_threads_all_hang_is_not_run_any_more(start: Start, tmp_path: Path) -> None:
    chain = site_plugins(tmp_path / "site", "hangs", "holder")
    with start(workers=1, chain=chain, more=settings(["hangs"], "defer") + "[limits]\nthreads = 2\n") as gateway:
        for _ in range(2):
            assert send(gateway, "hangs")[0] == 451
        code, _, message_id = send(gateway, "an ordinary one")
        assert code == 451
        tree = explained(gateway, told(gateway, message_id)["id"])
        assert re.search(r"hangs  +circuit", tree), tree
        assert not re.search(r"hangs  +timeout", tree), "nobody waits for it"
        assert "2 threads hang in it" in tree


async def held_copies(gateway: Gateway) -> set[str]:
    """Message-IDs in the quarantine."""
    quarantine = await Quarantine.open(gateway.state / "quarantine", retention=3600, lease=60)
    try:
        return {entry.fact("message_id") for entry in await quarantine.search(Query(state="held", limit=1000))}
    finally:
        await quarantine.close()


def owners(gateway: Gateway, clients: list[smtplib.SMTP]) -> list[int]:
    """The worker behind each connection, by its socket."""
    inodes = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].partition(":")[2], 16) == gateway.smtp and fields[3] == "01":
            inodes[int(fields[2].partition(":")[2], 16)] = f"socket:[{fields[9]}]"
    links = {name: pid for pid in gateway.worker_pids() for name in open_files(pid)}
    return [links[inodes[client.sock.getsockname()[1]]] for client in clients if client.sock is not None]


def one_for_each_worker(gateway: Gateway, undo: ExitStack) -> dict[int, smtplib.SMTP]:
    """A connection to each of the workers, closed at the end; which one takes a connection is the kernel's choice."""
    gateway.until(lambda: len(gateway.worker_pids()) == 2)
    found: dict[int, smtplib.SMTP] = {}
    for _ in range(50):
        client = connected(gateway)
        undo.callback(client.close)
        (worker,) = owners(gateway, [client])
        if worker in found:
            client.close()
        else:
            found[worker] = client
        if len(found) == 2:
            return found
    raise AssertionError("fifty connections at one worker")


@pytest.mark.slow
@pytest.mark.parametrize("name", BLOCKING)
def test_a_blocked_loop_costs_its_worker_only(name: str, start: Start, tmp_path: Path) -> None:
    chain = site_plugins(tmp_path / "site", "holder", name)
    with start(workers=2, chain=chain) as gateway, ExitStack() as undo:  # loop_limit is 2 s
        found = one_for_each_worker(gateway, undo)
        (victim, meant), (other, neighbour) = found.items()
        acknowledged, held = set(), set()
        for number in range(10):
            for client in (meant, neighbour):
                recipients = ("alice@inbox.test", "bob@inbox.test") if number % 2 else ("alice@inbox.test",)
                code, text, message_id = say(client, "before", *recipients)
                assert code == 250, text
                acknowledged.add(message_id)
                if number % 2:
                    held.add(message_id)
        answers: list[object] = []

        def block() -> None:
            try:
                answers.append(say(meant, name))
            except (OSError, smtplib.SMTPException) as error:
                answers.append(error)

        blocked = threading.Thread(target=block)
        began = time.monotonic()
        blocked.start()
        meanwhile = 0
        while not gateway.events("worker.blocked"):
            code, _, message_id = say(neighbour, "meanwhile")
            assert code == 250
            acknowledged.add(message_id)
            meanwhile += 1
            assert time.monotonic() - began < 20, gateway.log.read_text()
            time.sleep(0.02)
        assert time.monotonic() - began > 1.5, "the other worker was asked all the while"
        assert meanwhile > 3, "and answered"
        blocked.join(20)
        assert isinstance(answers[0], smtplib.SMTPServerDisconnected | ConnectionError), "no reply: the client keeps its mail"

        (event,) = gateway.events("worker.blocked")
        assert (event["pid"], event["plugin"]) == (victim, name)
        places = [
            one["place"] for one in (event, *gateway.events("loop.blocked"))
        ]  # the supervisor asks when the watchdog cannot
        assert any(f"{name}.py:" in place or "/re/" in place for place in places), places
        gateway.until(lambda: len(gateway.worker_pids()) == 2 and victim not in gateway.worker_pids())
        assert other in gateway.worker_pids()
        (ended,) = gateway.events("process.ended")
        assert (ended["pid"], ended["plugin"], ended["how"]) == (victim, name, "signal SIGKILL")
        assert 'mailgateway_workers_ended_total{reason="blocked"} 1.0' in gateway.get("/metrics")[1]

        for client in one_for_each_worker(gateway, undo).values():
            code, _, message_id = say(client, "after")
            assert code == 250
            acknowledged.add(message_id)
        assert delivered(gateway) == acknowledged, "nothing lost, nothing made up"
        assert delivered(gateway, "bob") == set(), "held"
        assert asyncio.run(held_copies(gateway)) == held
