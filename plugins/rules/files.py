"""Rules from files and directories: TOML with `[[rule]]` tables; every mistake with its file and line, all at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from gateway import ConfigError, ConfigProblem, PluginOptions, TomlFile
from gateway.plugins.rules.lists import ListOptions
from gateway.plugins.rules.rule import Rule

MAX_FILES = 1_000
"""Of one group."""
MAX_LISTS = 100
"""Of one file, or of the configuration."""
ListName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,50}$")]


class RuleFile(PluginOptions):
    """What a file of rules may hold."""

    rule: tuple[Rule, ...] = ()
    list: dict[ListName, ListOptions] = Field(default={}, max_length=MAX_LISTS)


@dataclass(slots=True)
class RuleFiles:
    """The files of a group."""

    files: list[TomlFile[RuleFile]] = field(default_factory=list)
    watched: list[Path] = field(default_factory=list)
    """Files and directories: the gateway reloads when one changes, comes or goes."""

    @property
    def rules(self) -> Iterator[Rule]:
        """All rules, in order."""
        for file in self.files:
            yield from file.value.rule


def read_files(names: Iterable[str], base: Path) -> RuleFiles:
    """Each file, and each directory's `*.toml` in the order of their names. ConfigError with every problem."""
    found = RuleFiles()
    problems: list[ConfigProblem] = []
    for name in names:
        path = base / name
        found.watched.append(path)
        for file in _files(path):
            if file != path:
                found.watched.append(file)
            try:
                found.files.append(TomlFile(file, RuleFile))
            except ConfigError as error:
                problems += error.problems
    if len(found.files) > MAX_FILES:
        what = f"{len(found.files)} files of rules in one group"
        problems.append(ConfigProblem(file=str(base), line=None, key="files", found=what, allowed=f"at most {MAX_FILES}"))
    if problems:
        raise ConfigError(problems)
    return found


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.glob("*.toml") if not file.name.startswith("."))[: MAX_FILES + 1]
