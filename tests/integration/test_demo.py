"""`mailgateway demo` with the config.toml at the top: every line as documented."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.cli.demo import SAMPLES
from tests.integration.gateway_process import COMMAND, Gateway

pytestmark = pytest.mark.slow
TOP = Path(__file__).parents[2]
AN_ID = re.compile(r"\b[0-9A-Z]{14}-1\b")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of what a newcomer has."""
    shutil.copy(TOP / "config.toml", tmp_path)
    return tmp_path


@pytest.fixture
def gateway(folder: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """The gateway as `make run` starts it, on ports of its own."""
    smtp, admin = free_port(), free_port()
    monkeypatch.setenv("MAILGATEWAY__LISTENER__MX__BIND", f"127.0.0.1:{smtp}")
    monkeypatch.setenv("MAILGATEWAY__ADMIN__BIND", f"127.0.0.1:{admin}")
    monkeypatch.setenv("MAILGATEWAY__SERVER__WORKERS", "2")
    log, out = folder / "log", folder / "out"
    with log.open("w") as stderr, out.open("w") as stdout:
        process = subprocess.Popen([*COMMAND, "run"], cwd=folder, stdout=stdout, stderr=stderr, text=True)
    gateway = Gateway(process, folder / "config.toml", smtp, admin, log, out, folder / "var")
    try:
        gateway.until(gateway.is_ready)
        yield gateway
    finally:
        process.terminate()
        process.wait(15)


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of the newcomer, beside the running gateway."""
    return subprocess.run([*COMMAND, *words], cwd=folder, env=os.environ, capture_output=True, text=True, timeout=40, check=False)


def test_every_line_is_as_documented_and_can_be_explained(gateway: Gateway, folder: Path) -> None:
    done = command(folder, "demo", "--strict")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(SAMPLES)} of {len(SAMPLES)} lines as documented" in done.stdout
    rows = {name: next(line for line in done.stdout.splitlines() if line.startswith(f" {name} ")) for name in names()}
    for sample in SAMPLES:
        assert sample.reply in rows[sample.name]
        assert sample.verdict in rows[sample.name]
        assert sample.plugin in rows[sample.name]
    identifiers = [AN_ID.findall(row)[-1] for row in rows.values()]
    assert len(set(identifiers)) == len(SAMPLES)
    told = command(folder, "explain", identifiers[names().index("DMARC reject")])
    assert told.returncode == 0
    assert "550 5.7.26" in told.stdout
    mailboxes = {box: len(list((folder / "var" / "inbox" / box / "new").iterdir())) for box in ("alice", "bob", "postmaster")}
    assert mailboxes == {"alice": 6, "bob": 0, "postmaster": 1}
    held = command(folder, "quarantine", "list")
    assert held.stdout.count(" held ") == 3


def test_a_line_that_is_not_as_documented_is_marked(gateway: Gateway, folder: Path) -> None:
    config = folder / "config.toml"
    kept = config.read_text(encoding="utf-8")
    other = folder / "other.toml"
    other.write_text(kept.replace('state_directory = "var"', 'state_directory = "elsewhere"'), encoding="utf-8")
    done = command(folder, "demo", "--strict", "--config", "other.toml")  # its journal is not that of the gateway
    assert done.returncode == 1
    assert done.stdout.count("? (!)") == len(SAMPLES)
    assert f"0 of {len(SAMPLES)} lines as documented" in done.stdout


def test_without_a_gateway_it_says_what_to_do(
    folder: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAILGATEWAY__LISTENER__MX__BIND", f"127.0.0.1:{free_port()}")
    done = command(folder, "demo")
    assert done.returncode == 1
    assert "start it with `make run`" in done.stderr
    assert "Traceback" not in done.stderr


def names() -> list[str]:
    return [sample.name for sample in SAMPLES]
