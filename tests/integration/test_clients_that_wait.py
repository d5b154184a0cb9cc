"""Real clients wait for a delayed greeting, however they pipeline afterwards; netcat with its input ready does not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway_process import Gateway

pytestmark = [pytest.mark.slow, pytest.mark.real]

LISTENER = 'lenient_networks = []\ngreeting_delay = "300ms"\nearly_talkers = "reject"'


@pytest.fixture(scope="module")
def message(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("clients") / "message.eml"
    file.write_bytes(b"From: a@client.test\r\nTo: alice@inbox.test\r\nSubject: patience\r\n\r\nhello\r\n")
    return file


@pytest.fixture
def gateway(start: Callable[..., Any]) -> Iterator[Gateway]:
    with start(workers=1, listener=LISTENER) as started:
        yield started


def run(*command: str, input_: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, input=input_, capture_output=True, timeout=30, check=False)


def test_clients(gateway: Gateway, message: Path, require: Callable[[str], str]) -> None:
    where = f"127.0.0.1:{gateway.smtp}"
    envelope = ["-f", "a@client.test", "-t", "alice@inbox.test"]
    commands = [
        [require("smtp-source"), "-s", "3", "-m", "6", *envelope, where],
        [
            require("curl"),
            "-sS",
            "--url",
            f"smtp://{where}/client.test",
            "--mail-from",
            "a@client.test",
            "--mail-rcpt",
            "alice@inbox.test",
            "--upload-file",
            str(message),
        ],
        [require("swaks"), "--server", where, "--from", "a@client.test", "--to", "alice@inbox.test", "--pipeline", "-n"],
    ]
    for command in commands:
        done = run(*command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    said = run(require("nc"), "-q", "2", "127.0.0.1", str(gateway.smtp), input_=b"EHLO client.test\r\nQUIT\r\n").stdout
    assert said.startswith(b"554 5.7.0 You talked before the greeting"), said
    events = gateway.until(lambda: len(found := gateway.events("transaction")) >= 9 and found)
    assert [event["verdict"] for event in events] == ["delivered"] * 8 + ["rejected"]
