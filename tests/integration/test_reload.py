"""Reload of the running gateway: by command, by SIGHUP, by a changed file; sessions under way, mistakes, restarts."""

from __future__ import annotations

import json
import re
import signal
import smtplib
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway_process import COMMAND, Gateway

Start = Callable[..., AbstractContextManager[Gateway]]

PLUGIN = '''
"""Names its generation at every stage."""

from gateway import Context, Label, Message, Plugin, Session, Transaction, add_header, hook

VERSION = {version}


class Site(Plugin):
    seen = ()

    @hook
    async def startup(self, context: Context) -> None:
        {startup}

    @hook(cheap=True)
    def connect(self, session: Session) -> None:
        self.seen += (session.id,)

    @hook
    async def check(self, transaction: Transaction):
        stranger = "" if transaction.session.id in self.seen else "-mixed"
        return Label(name=f"v{{VERSION}}{{stranger}}")

    @hook(cheap=True)
    def rewrite(self):
        return add_header("X-Version", str(VERSION))
'''


def write_plugin(folder: Path, version: int, *, startup: str = "pass") -> None:
    folder.mkdir(exist_ok=True)
    written = folder / "site.new"
    written.write_text(PLUGIN.format(version=version, startup=startup))
    written.rename(folder / "stamped.py")


def reload(gateway: Gateway) -> tuple[int, str, str]:
    done = subprocess.run(
        [*COMMAND, "reload", "--config", str(gateway.config)], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


def versions(gateway: Gateway) -> list[str]:
    files = sorted((gateway.state / "inbox" / "alice" / "new").iterdir(), key=lambda file: file.stat().st_mtime_ns)
    found = []
    for file in files:
        match = re.search(rb"^X-Version: (\d+)", file.read_bytes(), re.MULTILINE)
        assert match
        found.append(match[1].decode())
    return found


def send(client: smtplib.SMTP) -> None:
    client.sendmail("me@sender.test", ["alice@inbox.test"], "Subject: a message\r\n\r\nHello.\r\n")


@contextmanager
def talking(gateway: Gateway) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP("127.0.0.1", gateway.smtp, timeout=20) as client:
        yield client


@pytest.fixture
def stamped(start: Start, tmp_path: Path) -> Iterator[Gateway]:
    write_plugin(tmp_path / "site", 1)
    chain = f'plugins = ["stamped"]\nplugin_path = ["{tmp_path / "site"}"]'
    with start(chain=chain, server='watch_files = "0s"') as gateway:
        gateway.until(lambda: gateway.workers_up() == 2)  # one that begins later would read what the test breaks
        yield gateway


WRONG: list[tuple[Callable[[Path, Path], Any], str]] = [
    (lambda folder, _: (folder / "stamped.py").write_text("import"), r"stamped\.py.*SyntaxError"),
    (
        lambda folder, _: write_plugin(folder, 3, startup="raise LookupError('no table')"),
        r"stamped: startup: LookupError: no table",
    ),
    (lambda _, config: config.write_text(config.read_text().replace("[admin]", "[admim]")), r"config\.toml:\d+: admim"),
]


def test_swapped_refused_and_rerouted(stamped: Gateway, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    with talking(stamped) as old:
        send(old)
        write_plugin(folder, 2)
        status, out, err = reload(stamped)
        assert (status, err) == (0, "")
        assert re.findall(r"^worker-\d: generation (\d+) \(\w+\)$", out, re.MULTILINE) == ["2", "2"]
        with talking(stamped) as new:
            send(new)
        send(old)
        assert versions(stamped) == ["1", "2", "1"]
    assert stamped.events("generation.ended", at_least=2)
    assert json.loads(stamped.get("/ready")[1])["generation"] == 2
    assert 'mailgateway_reloads_total{result="done"} 1.0' in stamped.get("/metrics")[1]

    for change, told in WRONG:
        refused_and_told(stamped, folder, change, told)
    assert reload(stamped)[0] == 0
    assert json.loads(stamped.get("/ready")[1])["warnings"] == []

    with talking(stamped) as old:
        send(old)
        needs_a_restart_in_part(stamped)
        moved(stamped)
        with talking(stamped) as new, pytest.raises(smtplib.SMTPRecipientsRefused):
            send(new)
        send(old)
    stamped.until(lambda: json.loads(stamped.get("/ready")[1])["routes"] == {"moved": True})


def refused_and_told(gateway: Gateway, folder: Path, change: Callable[[Path, Path], Any], told: str) -> None:
    """Nothing changes, and the reason is in the answer, the log and on the page."""
    config, before = gateway.config.read_text(), versions(gateway)
    change(folder, gateway.config)
    status, _, err = reload(gateway)
    assert status == 1
    assert re.search(told, err)
    assert "refused: generation 2 goes on" in err
    with talking(gateway) as client:
        send(client)
    assert versions(gateway) == [*before, "2"]
    (warning,) = json.loads(gateway.get("/ready")[1])["warnings"]
    assert re.search(told, warning)
    assert re.search(told, str(gateway.events("reload.refused", at_least=1)[-1]["problems"]))
    gateway.config.write_text(config)
    write_plugin(folder, 4)


def needs_a_restart_in_part(gateway: Gateway) -> None:
    """Named, and the rest applied."""
    text = gateway.config.read_text()
    text = text.replace(f"127.0.0.1:{gateway.smtp}", "127.0.0.1:1").replace("workers = 2", 'workers = 3\nname = "other.test"')
    gateway.config.write_text(text)
    status, out, _ = reload(gateway)
    assert status == 0
    assert "needs a restart: listener.mx.bind\n" in out
    assert "needs a restart: server.workers\n" in out
    assert b"220 other.test " in gateway.greeting()


def moved(gateway: Gateway) -> None:
    """Another route, for other domains."""
    text = (
        gateway.config.read_text().replace('["inbox.test"]', '["moved.test"]').replace("[[route]]", '[[route]]\nname = "moved"')
    )
    gateway.config.write_text(text)
    assert reload(gateway)[0] == 0


def test_code_that_ends_its_process_ends_one_worker(stamped: Gateway, tmp_path: Path) -> None:
    workers = set(stamped.worker_pids())
    write_plugin(tmp_path / "site", 3, startup="import os; os._exit(0)")
    status, _, err = reload(stamped)
    assert status == 1
    assert re.search(r"worker-\d ended while it prepared", err)
    assert len(workers & set(stamped.worker_pids())) == 1
    write_plugin(tmp_path / "site", 4)
    stamped.until(lambda: stamped.workers_up() == 2)
    assert reload(stamped)[0] == 0
    with talking(stamped) as client:
        send(client)
    assert versions(stamped) == ["4"]


def test_sighup_and_changed_files(start: Start, tmp_path: Path) -> None:
    write_plugin(tmp_path / "site", 1)
    chain = f'plugins = ["stamped"]\nplugin_path = ["{tmp_path / "site"}"]'
    with start(chain=chain, server='watch_files = "0.2s"') as gateway:
        gateway.process.send_signal(signal.SIGHUP)
        assert gateway.events("reload.done", at_least=1)[0]["why"] == "SIGHUP"
        write_plugin(tmp_path / "site", 2)
        assert gateway.events("reload.done", at_least=2)[1]["why"] == "changed files"
        with talking(gateway) as client:
            send(client)
        assert versions(gateway) == ["2"]
        assert len(gateway.events("reload.done")) == 2


def test_nobody_there(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    done = subprocess.run([*COMMAND, "reload", "--config", str(config)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert "no gateway runs" in done.stderr
