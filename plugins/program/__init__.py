"""Any program that reads a message from its standard input and says with its exit code what it is.

Started directly, never through a shell, once for each message; `running` has its life, `envelope` its environment.
"""

from __future__ import annotations

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import re2
from pydantic import Field, StringConstraints, field_validator

from gateway import (
    Context,
    Defer,
    Discard,
    Fact,
    Finding,
    Label,
    Message,
    OptionError,
    OptionMistake,
    Quarantine,
    Reject,
    Score,
    Size,
    Transaction,
    hook,
)
from gateway.consequences import ConsequenceOptions, Then, consequence, told
from gateway.isolation.facts import LARGE, share
from gateway.plugins.program.envelope import FRONT, environment
from gateway.plugins.program.running import Ended, Run
from gateway.scanning import Scanner, shown
from gateway.services import BadAnswerError

Answer: TypeAlias = Literal["clean", "found", "reject", "quarantine", "discard", "defer"]
Meaning: TypeAlias = Answer | Literal["fault"]
_Code = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,2})$")]
_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
_MAX_SCORE = 1_000_000.0


class Options(ConsequenceOptions):
    """Which program, and what its exit codes mean."""

    command: tuple[str, ...] = Field(min_length=1, max_length=100)
    """The program, with its full path, and its arguments, as they are: no shell sees them, and nothing of a message gets into them."""
    environment: dict[_Name, str] = Field(default={})
    """Variables that it gets beside `PATH`, `LANG` and `MAILGATEWAY_…`."""
    directory: str = "/"
    """Where it runs; relative names start at the directory of the configuration."""
    exit_codes: dict[_Code, Meaning] = Field(default={"0": "clean", "1": "found", "75": "defer"})
    """What each exit code means."""
    other: Meaning = "fault"
    """What every other one means, and an end by a signal."""
    then: Then = "quarantine"
    """What follows from `found`."""
    found: str = ""
    """A regular expression (RE2) over its output; the first group that took part, or all of it, is the name of what was found."""
    score: str = ""
    """The same for a number, which becomes a score of the plugin's name; looked for with every exit code but that of a fault."""
    output: Size = 65_536
    """Octets of its output, and of its errors, that are looked at; what is more is read and dropped."""
    connections: int = Field(default=4, ge=1, le=1_000)
    """Of it at once, in each worker; more wait for as long as the plugin's `timeout` allows."""

    @field_validator("environment")
    @classmethod
    def _are_own(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if name.startswith(FRONT) or "\0" in text:
                raise ValueError(f"found {name!r}; allowed: names without {FRONT} in front, values without NUL")
        return value

    @field_validator("found", "score")
    @classmethod
    def _is_pattern(cls, value: str) -> str:
        if value:
            _pattern(value)
        return value


class Program(Scanner[Options]):
    """Runs it from `check`."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """OptionError for a program that is none."""
        super().__init__(options, name=name, context=context)
        chosen = self.options
        base = Path() if context is None else Path(context.base_directory)
        self._directory = str((base / chosen.directory).resolve())
        program = chosen.command[0]
        if not program.startswith("/") or not os.access(program, os.X_OK) or not Path(program).is_file():
            raise OptionError(
                OptionMistake(key=("command",), found=repr(program), allowed="the full path of a program that may be run")
            )
        if not Path(self._directory).is_dir():
            raise OptionError(OptionMistake(key=("directory",), found=repr(chosen.directory), allowed="a directory"))
        self._threads = ThreadPoolExecutor(chosen.connections, thread_name_prefix=f"mailgateway-{self.name}")
        self._found = _pattern(chosen.found) if chosen.found else None
        self._score = _pattern(chosen.score) if chosen.score else None

    @hook
    async def check(self, transaction: Transaction, message: Message) -> list[Finding]:
        """The exit code, what was found, and what follows."""
        if label := self.is_too_large(message):
            return [label]
        ended, meaning = await self.ask(lambda _: self._run(transaction, message))
        self.context.metrics.count("runs", meaning=meaning)
        findings: list[Finding] = [Fact(name=f"{self.name}.exit", value=ended.code)]
        if (weight := self._weight(ended)) is not None:
            findings.append(Score(symbol=self.name, weight=weight, evidence=_said(ended)))
        if meaning == "clean":
            return findings
        what = shown(_first(self._found, ended.output) or "", 100)
        evidence = f"exit code {ended.code}: {_said(ended)}"
        findings.append(Label(name=f"{self.name}.{meaning}", evidence=f"{what}; {evidence}" if what else evidence))
        then = self.options.then if meaning == "found" else meaning
        return [*findings, *told(self.name, then, f"{what}; {evidence}" if what else evidence)]

    @hook(cheap=True)
    def judge(self, transaction: Transaction) -> Reject | Quarantine | Discard | Defer | None:
        """What its exit code comes to."""
        return consequence(self, transaction, reason="program-found")

    @hook
    async def shutdown(self) -> None:
        """No thread is kept; programs under way end with the time of their messages."""
        self._threads.shutdown(wait=False)
        await super().shutdown()

    async def _run(self, transaction: Transaction, message: Message) -> tuple[Ended, Answer]:
        """One run. BadAnswerError for a fault of the program, OSError when it cannot be started."""
        chosen = self.options
        content = message.content
        is_slow = content.fileno() is None and message.size > LARGE
        file = await asyncio.to_thread(share, content) if is_slow else share(content)
        os.lseek(file, 0, os.SEEK_SET)
        run = Run(
            chosen.command,
            stdin=file,
            environment=environment(transaction, message, chosen.environment),
            directory=self._directory,
            keep=chosen.output,
        )
        try:
            ended = await asyncio.get_running_loop().run_in_executor(self._threads, run)
        except OSError as error:
            raise BadAnswerError(f"cannot be started: {error.strerror or error}") from error
        except BaseException:
            run.kill()
            raise
        meaning = chosen.exit_codes.get(str(ended.code), chosen.other)
        if meaning == "fault":
            how = f"exit code {ended.code}" if ended.code >= 0 else f"ended by {_signal(-ended.code)}"
            raise BadAnswerError(f"{how}: {_said(ended)}")
        return ended, meaning

    def _weight(self, ended: Ended) -> float | None:
        text = _first(self._score, ended.output)
        try:
            weight = float(text) if text else None
        except ValueError:
            return None
        return weight if weight is not None and abs(weight) <= _MAX_SCORE else None


def _pattern(text: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error as error:
        raise ValueError(f"found {text!r}, which is no regular expression of RE2: {error}; allowed: FOUND: (\\S+)") from error


def _first(pattern: Any, output: bytes) -> str:
    found = pattern.search(output.decode("utf-8", "replace")) if pattern is not None else None
    if found is None:
        return ""
    return str(next(filter(None, found.groups()), found.group(0)))


def _said(ended: Ended) -> str:
    """What it wrote, on one line."""
    words = b" ".join((ended.output[:1_000] or ended.errors[:1_000]).split())
    return shown(words, 300) if words else "it wrote nothing"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
