"""YARA rules over messages and their parts, with yara-x. Rules are compiled at load; a mistake in one stops it, with file and line.

Compiling is done by a program of its own and scanning in the process pool: the library lets no other thread run meanwhile.
"""

from __future__ import annotations

import fnmatch
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Annotated, Literal, TypeAlias

from pydantic import Field, StringConstraints, field_validator

from gateway import (
    Context,
    Defer,
    Discard,
    Finding,
    Label,
    Message,
    PluginError,
    Quarantine,
    Reject,
    Score,
    Transaction,
    hook,
    library,
)
from gateway.consequences import ConsequenceOptions, Then, consequence, told
from gateway.files.values import FileBounds
from gateway.handed import hand_over
from gateway.plugins.yara.rule_files import compile_files
from gateway.plugins.yara.scanning import FACTS, Match, ScanError, Work, prepare, scan
from gateway.scanning import SHARE, Scanner, shown

Variable: TypeAlias = bool | int | float | str
_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


class Options(ConsequenceOptions):
    """Which rules, what they look at, and what follows."""

    rules: tuple[str, ...] = Field(min_length=1)
    """Files of rules, and directories: of these every `*.yar` and `*.yara`, however deep. Relative names start at the directory of the
    configuration."""
    scan: tuple[Literal["message", "parts", "files"], ...] = Field(default=("message", "parts", "files"), min_length=1)
    """`message`: the octets as they came; `parts`: each part, decoded; `files`: what is in attachments, opened to the limits of
    `[limits] files_…`."""
    verdicts: dict[str, Then] = Field(default={"*": "quarantine"})
    """What follows from a match: by the name of its rule, with `*` and `?`, or by a tag (`tag:malware`). Of one match the first entry that
    fits counts, of several matches the one whose entry stands first; `pass`: nothing but the findings."""
    score_meta: str = "score"
    """The entry of a rule's `meta` that is the weight of its score; rules without one give none."""
    score_factor: float = 1.0
    """The weight is multiplied by this: 0.1 where a rule's score goes up to 100."""
    shown_meta: tuple[str, ...] = ("description", "author", "reference")
    """Entries of `meta` that are shown in the trace."""
    variables: dict[_Name, Variable] = Field(default={})
    """Variables that rules use, beside `filename`, `filepath`, `extension` and `filetype`."""
    relaxed_syntax: bool = False
    """Take regular expressions that YARA takes and YARA-X does not: with `\\R` for R, or `{` and `}` as they are."""
    failures: int = Field(default=0, ge=0)
    """After so many scans in a row that did not end in time no message is scanned for `rest`; 0: each is, whatever became of others."""
    max_matches: int = Field(default=100, ge=1, le=1_000)
    """Rules that are told of; more that fit are not."""

    @field_validator("variables")
    @classmethod
    def _are_own(cls, value: dict[str, Variable]) -> dict[str, Variable]:
        for name in FACTS:
            if name in value:
                raise ValueError(f"found {name!r}, which the plugin sets; allowed: other names")
        return value


class Yara(Scanner[Options]):
    """The plugin."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """Compiles the rules. ConfigError with every mistake in them, OptionError without the library."""
        super().__init__(options, name=name, context=context)
        library("yara_x", extra="yara")
        chosen = self.options
        self._compiled = compile_files(
            chosen.rules,
            Path() if context is None else Path(context.base_directory),
            variables={**dict.fromkeys(FACTS, ""), **chosen.variables},
            relaxed=chosen.relaxed_syntax,
            key=f"plugin.{self.name}.rules",
        )
        self._file: IO[bytes] | None = None

    @property
    def files_read(self) -> Sequence[Path]:
        """Rule files, what they include, and directories of rules."""
        return self._compiled.read

    @hook
    async def startup(self, context: Context) -> None:
        """Put the compiled rules where processes of the pool find them."""
        if sys.platform == "linux":  # without a name, so that nothing is left of a worker that was killed
            self._file = tempfile.TemporaryFile(prefix="mailgateway-yara-")  # noqa: SIM115 - until `shutdown`
            self._path = f"/proc/{os.getpid()}/fd/{self._file.fileno()}"
        else:
            self._file = tempfile.NamedTemporaryFile(prefix="mailgateway-yara-")  # noqa: SIM115 - until `shutdown`
            self._path = self._file.name
        self._file.write(self._compiled.octets)
        self._file.flush()
        await context.run_in_process(
            prepare, self._path, self._compiled.digest
        )  # so that no mail waits for the start of the pool
        context.log.info("yara.loaded", rules=self._compiled.rules, warnings=self._compiled.warnings)

    @hook
    async def check(self, message: Message) -> list[Finding]:
        """Every rule that fits: a label, one for each tag, and a score where its `meta` has one; then what `verdicts` says."""
        if label := self.is_too_large(message):
            return [label]
        matches = await self.ask(lambda _: self._scan(message))
        for match in matches:
            self.context.metrics.count("matches", rule=match.rule)
        found: list[Finding] = []
        for match in matches:
            found += self._findings(match)
        if (decided := self._decided(matches)) is not None:
            then, match = decided
            found += told(self.name, then, f"rule {match.rule}: {_told(match, self.options.shown_meta)}")
        return found

    @hook(cheap=True)
    def judge(self, transaction: Transaction) -> Reject | Quarantine | Discard | Defer | None:
        """What `verdicts` says."""
        return consequence(self, transaction, reason="yara-match")

    @hook
    async def shutdown(self) -> None:
        """Take the compiled rules away."""
        if self._file is not None:
            self._file.close()
        await super().shutdown()

    async def _scan(self, message: Message) -> tuple[Match, ...]:
        """In the process pool."""
        chosen = self.options
        try:
            with hand_over(message) as handed:
                work = Work(
                    rules=self._path,
                    digest=self._compiled.digest,
                    message=handed,
                    whole="message" in chosen.scan,
                    parts="parts" in chosen.scan,
                    files=FileBounds.of(self.context.limits) if "files" in chosen.scan else None,
                    limit=SHARE * self.time_limit,  # so that what it says of its end is heard
                    max_matches=chosen.max_matches,
                )
                return await self.context.run_in_process(scan, work)
        except ScanError as error:
            raise PluginError(self.name, str(error)) from error

    def _findings(self, match: Match) -> Iterator[Finding]:
        told = _told(match, self.options.shown_meta)
        yield Label(name=f"{self.name}.{match.rule}", evidence=told)
        for tag in match.tags:
            yield Label(name=f"{self.name}.tag.{tag}", evidence=f"rule {match.rule}")
        for name, value in match.meta:
            if name == self.options.score_meta and (weight := _number(value)) is not None:
                yield Score(symbol=f"{self.name}.{match.rule}", weight=weight * self.options.score_factor, evidence=told)
                break

    def _decided(self, matches: Sequence[Match]) -> tuple[Then, Match] | None:
        order = list(self.options.verdicts.items())
        best: tuple[int, Match] | None = None
        for match in matches:
            place = next((number for number, (entry, _) in enumerate(order) if _fits(entry, match)), None)
            if place is not None and order[place][1] != "pass" and (best is None or place < best[0]):
                best = (place, match)
        return None if best is None else (order[best[0]][1], best[1])


def _fits(entry: str, match: Match) -> bool:
    if entry.startswith("tag:"):
        return any(fnmatch.fnmatchcase(tag, entry[4:]) for tag in match.tags)
    return fnmatch.fnmatchcase(match.rule, entry)


def _told(match: Match, names: Sequence[str]) -> str:
    """Where it fits and what its author says of it."""
    told = f"in {', '.join(shown(one, 100) for one in match.where)}"
    if match.patterns:
        told += f" ({', '.join(match.patterns)})"
    about = [f"{name}: {shown(str(value))}" for name, value in match.meta if name in names]
    return "; ".join([told, *about])


def _number(value: Variable) -> float | None:
    """The weight, where it is one."""
    try:
        weight = float(value)
    except ValueError:
        return None
    return weight if math.isfinite(weight) else None
