"""docs/testing_plugins.md, done, and the test of docs/trying.md: its files in one folder, its tests run, the failing one failing with the trace."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import TOP, of_page

PAGE = TOP / "docs" / "testing_plugins.md"


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "150"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--basetemp",
        "temporary",
        *arguments,
    ]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_every_block_of_the_page(tmp_path: Path) -> None:
    shown = ""
    for block in of_page(PAGE):
        if block.language == "console":
            shown = block.text.partition("\n")[2]
        else:
            assert block.name, block.where
            file = tmp_path / block.name
            file.parent.mkdir(exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
    [recorded] = [block for block in of_page(TOP / "docs" / "trying.md") if block.language == "python"]
    (tmp_path / "test_recorded.py").write_text(recorded.text)
    (tmp_path / "recorded").mkdir()
    (tmp_path / "recorded" / "noop.smtp").write_text("title: x\n---\nC: NOOP\nS: 250 2.0.0 Ok\n")
    status, output = run(tmp_path)
    assert status == 0, output
    assert re.search(r"^11 passed", output, re.MULTILINE), output
    status, output = run(tmp_path, "failing.py")
    assert status == 1, output
    wanted = "".join(".*\n?" if line == "…" else re.escape(line).replace("…", ".*") + "\n" for line in shown.splitlines())
    assert re.search(wanted, output, re.DOTALL), output
