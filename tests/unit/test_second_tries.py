"""A test of real processes that fails gets a second try, and the first leaves nothing behind that fails another test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).parents[1] / "conftest.py"
ATTEMPTS = """
import gc
import socket

import pytest

HELD = []

@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found

def test_fails_once(listening):
    client = socket.create_connection(listening.getsockname())
    around = [client]
    around.append(around)
    try:
        around[2]
    except IndexError as error:
        if not HELD:
            HELD.append(1)
            raise ExceptionGroup("both", [LookupError("first"), ValueError("second")]) from error
    client.close()

def test_innocent():
    gc.collect()
"""


def test_a_first_try_is_told_and_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "faults").mkdir()
    (tmp_path / "faults" / "test_attempts.py").write_text(ATTEMPTS)
    shutil.copy(CONFTEST, tmp_path)
    options = ["-q", "-W", "error", "-rR", "--rerun-show-tracebacks", "-p", "no:cacheprovider"]
    plugins = ["-p", "pytest_rerunfailures", "-p", "pytest_timeout"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *plugins, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(CONFTEST.parents[1])},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert "2 passed, 1 rerun" in done.stdout, done.stdout
    assert "RERUN faults/test_attempts.py::test_fails_once" in done.stdout
    assert "LookupError: first" in done.stdout
