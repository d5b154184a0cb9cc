"""Thousands of messages through the real process leave its memory where it was. `make soak` does it with 200,000."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

MESSAGES = 5_000
BOUND = 4_000_000
"""Octets that a worker may have more after MESSAGES: 800 a message kept would be seen."""


@contextmanager
def sink(binary: str, port: int) -> Iterator[None]:
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen([binary, *user, "-c", f"127.0.0.1:{port}", "100"], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def resident(pid: int) -> int:
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_memory_stays_where_it_was(
    start: Callable[..., Any], require: Callable[[str], str], free_port: Callable[[], int]
) -> None:
    source, port = require("smtp-source"), free_port()
    with (
        sink(require("smtp-sink"), port),
        start(workers=1, domains=["sink.test"], servers=[f"127.0.0.1:{port}"], server='log_level = "warning"') as gateway,
    ):
        (pid,) = gateway.until(gateway.worker_pids)

        def send(count: int) -> int:
            command = [source, "-s", "10", "-m", str(count), "-l", "2000", "-f", "a@source.test", "-t", "b@sink.test"]
            subprocess.run([*command, f"127.0.0.1:{gateway.smtp}"], check=True, capture_output=True, timeout=100)
            return resident(pid)

        send(1_000)  # caches are full, links are open
        before = send(500)
        after = send(MESSAGES)
        assert after - before < BOUND, f"{before} octets before, {after} after {MESSAGES} messages"
        assert gateway.until(gateway.worker_pids) == [pid]
