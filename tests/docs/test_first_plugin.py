"""The tutorial, done: its files written into an empty directory, its commands run, their output compared."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "first-plugin.md"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(line: str, directory: Path) -> str:
    """A command of the page, with the interpreter of this test; standard error before standard output."""
    words = shlex.split(line)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "80"}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    program = {"python": [sys.executable], "mailgateway": [sys.executable, "-c", "from gateway.cli import main; main()"]}[
        words[0]
    ]
    done = subprocess.run(
        [*program, *words[1:]], cwd=directory, env=environment, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stderr + done.stdout


def pattern(expected: str) -> re.Pattern[str]:
    """The output as printed on the page; `…` stands for anything within a line."""
    lines = [re.escape(line.rstrip()).replace("…", ".*") for line in expected.strip("\n").splitlines()]
    return re.compile("\n".join(rf"{line}\s*?" for line in lines))


def test_every_block_of_the_tutorial(tmp_path: Path) -> None:
    commands = 0
    for language, name, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language == "console":
            line, _, expected = text.partition("\n")
            output = "\n".join(one.rstrip() for one in run(line.removeprefix("$ "), tmp_path).strip("\n").splitlines())
            assert pattern(expected).fullmatch(output), f"{line}\n{output}"
            commands += 1
        else:
            file = tmp_path / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
    assert commands == 3
    assert (tmp_path / "site" / "no_executables.py").exists()
