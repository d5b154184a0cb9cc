"""A TOML file of a plugin's own: read, checked as the configuration is, every mistake with its line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from gateway.config.lines import Key, LineIndex, index_lines
from gateway.config.problems import dotted, mistake_in_toml, problems_from_pydantic
from gateway.errors import ConfigError, ConfigProblem

M = TypeVar("M", bound=BaseModel)

LARGEST = 4_000_000
"""Octets of one file at most."""


class TomlFile(Generic[M]):
    """A file's tables as a model: `PluginOptions` or any other of pydantic.

    For constructors of plugins: the configuration is refused with all mistakes of the file, as if it were part of it. The file
    belongs into `files_read`, so that the gateway reloads when it changes.

    Examples:
        >>> import pathlib, tempfile
        >>> class Names(PluginOptions):
        ...     name: tuple[str, ...] = ()
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     file = pathlib.Path(directory, "names.toml")
        ...     _ = file.write_text('name = ["alice"]')
        ...     TomlFile(file, Names).value.name
        ('alice',)
    """

    def __init__(self, path: Path, kind: type[M], *, largest: int = LARGEST) -> None:
        """ConfigError with every mistake; a file of more than `largest` octets is one."""
        self.path = path
        text = self._read(largest)
        try:
            data = tomllib.loads(text)
            self._index: LineIndex = index_lines(text)
        except (ValueError, RecursionError) as error:  # a number of too many digits is a plain ValueError
            line, what, allowed = mistake_in_toml(error)
            raise self._refusal(line or text.rstrip("\n").count("\n") + 1, what, allowed) from error
        try:
            self.value: M = kind.model_validate(data)
        except ValidationError as error:
            raise ConfigError(problems_from_pydantic(error, prefix=(), locate=self._locate, models=kind)) from error

    def problem(self, key: Key, found: str, allowed: str, hint: str = "") -> ConfigProblem:
        """A mistake that its model cannot see, at a key of the file: `("rule", 3, "when")`."""
        file, line = self._locate(key)
        return ConfigProblem(file=file, line=line, key=dotted(key), found=found, allowed=allowed, hint=hint)

    def line(self, key: Key) -> int | None:
        """The line of a key, or of the nearest table around it."""
        return self._locate(key)[1]

    def _locate(self, key: Key) -> tuple[str, int | None]:
        lines = self._index.lines
        for length in range(len(key), 0, -1):
            if key[:length] in lines:
                return str(self.path), lines[key[:length]]
        return str(self.path), None

    def _read(self, largest: int) -> str:
        try:
            with self.path.open("rb") as opened:
                octets = opened.read(largest + 1)
        except OSError as error:
            raise self._refusal(None, f"a file that cannot be read ({error.strerror})", "a readable TOML file") from error
        if len(octets) > largest:
            raise self._refusal(None, f"more than {largest} octets", "a smaller file, or several")
        try:
            return octets.decode("utf-8").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            line = octets.count(b"\n", 0, error.start) + 1
            raise self._refusal(line, f"the octet 0x{octets[error.start]:02x}", "UTF-8 text") from error

    def _refusal(self, line: int | None, found: str, allowed: str) -> ConfigError:
        return ConfigError([ConfigProblem(file=str(self.path), line=line, key="file", found=found, allowed=allowed)])
