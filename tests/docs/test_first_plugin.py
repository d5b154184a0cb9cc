"""The tutorial, done: its files written into an empty directory, its commands run in turn, what they print compared."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docs.blocks import TOP, of_page

PAGE = TOP / "docs" / "first-plugin.md"
PORT = 2525
"""As written on the page; the test takes a free one."""


class Terminal:
    """What somebody would have before them: a directory, and a gateway in a second terminal."""

    def __init__(self, directory: Path, port: int, admin: int) -> None:
        self.directory = directory
        self.port = port
        self._gateway: subprocess.Popen[str] | None = None
        gateway = {"MAILGATEWAY__SERVER__WORKERS": "1", "MAILGATEWAY__ADMIN__BIND": f"127.0.0.1:{admin}"}
        without = {name: value for name, value in os.environ.items() if not name.upper().startswith("MAILGATEWAY")}
        self._environment = {**without, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "160", **gateway}

    def run(self, line: str) -> str:
        """A command, with the interpreter of this test; standard error before standard output."""
        words = shlex.split(line)
        program = (
            [sys.executable, "-c", "from gateway.cli import main; main()"] if words[0] == "mailgateway" else [sys.executable]
        )
        assert words[0] in {"mailgateway", "python"}
        command = [*program, *words[1:]]
        if line == "mailgateway run":
            self._start(command)
            return ""
        done = subprocess.run(
            command, cwd=self.directory, env=self._environment, capture_output=True, text=True, timeout=50, check=False
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stderr + done.stdout

    def _start(self, command: list[str]) -> None:
        self.stop()
        log = (self.directory / "log").open("a")
        with log:
            self._gateway = subprocess.Popen(
                command, cwd=self.directory, env=self._environment, stdout=log, stderr=log, text=True
            )
        for _ in range(600):
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._gateway.poll() is None, (self.directory / "log").read_text()
            time.sleep(0.05)
        raise AssertionError((self.directory / "log").read_text())

    def stop(self) -> None:
        """Ctrl-C in the second terminal."""
        if self._gateway is not None:
            self._gateway.terminate()
            self._gateway.wait(15)


@contextmanager
def terminal(directory: Path, port: int, admin: int) -> Iterator[Terminal]:
    made = Terminal(directory, port, admin)
    try:
        yield made
    finally:
        made.stop()


def squeezed(text: str) -> str:
    """Without empty lines, and with single spaces: tables are as wide as what is in them."""
    lines = (re.sub(r"[ \t]+", " ", line).strip() for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if line)


def pattern(expected: str) -> re.Pattern[str]:
    """The output as printed on the page; `…` stands for anything within a line, alone for any lines."""
    lines = squeezed(expected).splitlines()
    return re.compile("".join(r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + r"\n" for line in lines))


def printed(shell: Terminal, line: str, wanted: re.Pattern[str]) -> str:
    """The output of a command; of the journal a few more times, for it is written a moment after the reply."""
    tries = 8 if line.startswith("mailgateway journal") else 1
    while True:
        output = squeezed(shell.run(line))
        tries -= 1
        if not tries or wanted.fullmatch(output):
            return output
        time.sleep(0.3)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_block_of_the_tutorial(tmp_path: Path, free_port: Callable[[], int]) -> None:
    commands = 0
    port = free_port()
    with terminal(tmp_path, port, free_port()) as shell:
        for block in of_page(PAGE):
            if block.name:
                file = tmp_path / block.name
                file.parent.mkdir(exist_ok=True)
                file.write_text(block.text.replace(str(PORT), str(port)), encoding="utf-8")
            elif block.not_run:
                continue
            else:
                assert block.language == "console", block.where
                for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                    line, _, expected = part.partition("\n")
                    wanted = pattern(expected)
                    output = printed(shell, line, wanted)
                    assert wanted.fullmatch(output), f"{block.where}: $ {line}\n{output}"
                    commands += 1
    assert commands == 12
    assert not list((tmp_path / "var" / "inbox").glob("bob/new/*"))
