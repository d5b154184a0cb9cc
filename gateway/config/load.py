"""Reading the configuration: one TOML file or a directory of them, then the environment; every mistake at once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from gateway.config import checks, environment
from gateway.config.lines import Key, LineIndex, index_lines
from gateway.config.models import Config
from gateway.config.problems import dotted, mistake_in_toml, problems_from_pydantic
from gateway.errors import ConfigError, ConfigProblem

LARGEST = 4_000_000
"""Octets of one configuration file at most."""
DEFAULT_FILE = Path("config.toml")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a key was set: a file and line, or a variable."""

    file: str
    line: int | None = None
    whole: bool = False
    """Everything below the key was set there too (a variable with JSON)."""

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration with where each of its values came from."""

    config: Config
    origins: Mapping[Key, str]
    """Key path of each effective value to `file:line`, `environment NAME` or `default`."""
    warnings: list[str]
    """What is allowed and probably not meant."""
    directory: Path
    """Relative file names of the configuration start here."""
    data: Mapping[str, Any]
    """The configuration as written, before defaults."""
    sources: Mapping[Key, Source] = field(repr=False)
    name: str
    """The file or directory it was read from, or `environment`."""

    def locate(self, key: Key) -> tuple[str, int | None]:
        """File (or `environment NAME`) and line of a key, or of the nearest table around it."""
        return _locate(self.sources, key, self.name)

    def path(self, text: str) -> Path:
        """A file name of the configuration as a path."""
        return self.directory / text

    @property
    def state_directory(self) -> Path:
        """Everything that must survive a restart lies below it."""
        return self.path(self.config.server.state_directory)


class UnusableError(ConfigError):
    """A configuration with mistakes, and what is left of it without them: enough to look for the mistakes of plugins."""

    def __init__(self, problems: list[ConfigProblem], partial: Loaded | None) -> None:
        super().__init__(problems)
        self.partial = partial


@dataclass(slots=True)
class _Reading:
    data: dict[str, Any] = field(default_factory=dict)
    sources: dict[Key, Source] = field(default_factory=dict)
    problems: list[ConfigProblem] = field(default_factory=list)
    appended: set[Key] = field(default_factory=set)


def _locate(sources: Mapping[Key, Source], key: Key, name: str) -> tuple[str, int | None]:
    for length in range(len(key), 0, -1):
        found = sources.get(key[:length])
        if found is not None:
            return found.file, found.line
    return name, None


def find_file(option: Path | None, environ: Mapping[str, str], *, working_directory: Path | None = None) -> Path | None:
    """The option, else MAILGATEWAY_CONFIG, else `./config.toml` when it is there, else none: environment only."""
    if option is not None:
        return option
    if environ.get("MAILGATEWAY_CONFIG"):
        return Path(environ["MAILGATEWAY_CONFIG"])
    default = (working_directory or Path()) / DEFAULT_FILE
    return default if default.exists() else None


def load(path: Path | None, *, environ: Mapping[str, str], needs_route: bool = False) -> Loaded:
    """Read, override and validate. Raises UnusableError, a ConfigError, with every mistake that was found.

    `path` is a file, a directory of `*.toml`, or None for defaults and environment only. With `needs_route` a
    configuration without a route is a mistake: nothing could be forwarded.
    """
    reading = _Reading()
    name = "environment" if path is None else str(path)
    for file in _files(path, reading):
        _read_file(file, reading)
    unreadable = bool(reading.problems)
    overrides, refused = environment.apply(reading.data, environ)
    reading.problems += refused
    for override in overrides:
        _forget_below(reading.sources, override.key)
        reading.sources[override.key] = Source(f"environment {override.variable}", whole=True)

    def locate(key: Key) -> tuple[str, int | None]:
        return _locate(reading.sources, key, name)

    directory = Path.cwd() if path is None else (path if path.is_dir() else path.parent).absolute()
    config: Config | None = None
    try:
        config = Config.model_validate(reading.data)
    except ValidationError as error:
        reading.problems += problems_from_pydantic(error, prefix=(), locate=locate, models=Config)
        config = _without(reading.data, error)
    known = {problem.key for problem in reading.problems}
    if not unreadable:
        for mistake in checks.mistakes(reading.data, directory=directory, needs_route=needs_route):
            if dotted(mistake.key) not in known:
                reading.problems.append(mistake.problem(locate))
    loaded = None
    if config is not None:
        loaded = Loaded(
            config=config,
            origins=_origins(config, reading.sources),
            warnings=checks.warnings(config),
            directory=directory,
            data=reading.data,
            sources=reading.sources,
            name=name,
        )
    if reading.problems or loaded is None:
        raise UnusableError(in_order(reading.problems), None if unreadable else loaded)
    return loaded


def in_order(problems: list[ConfigProblem]) -> list[ConfigProblem]:
    """By file and line."""
    return sorted(problems, key=lambda problem: (problem.file, problem.line or 0))


def _without(data: dict[str, Any], error: ValidationError) -> Config | None:
    """What is valid once every section with a mistake is left out; chains and plugins must be whole."""
    wrong = {str(fault["loc"][0]) for fault in error.errors(include_url=False) if fault["loc"]}
    if wrong & {"plugins", "plugin_path", "plugin", "rule", "rule_files", "list"}:
        return None
    try:
        return Config.model_validate({name: value for name, value in data.items() if name not in wrong})
    except ValidationError:
        return None


def _problem(file: Path, line: int | None, found: str, allowed: str) -> ConfigProblem:
    return ConfigProblem(file=str(file), line=line, key="file", found=found, allowed=allowed)


def _files(path: Path | None, reading: _Reading) -> list[Path]:
    if path is None:
        return []
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.glob("*.toml") if not file.name.startswith("."))
    if not found:
        reading.problems.append(_problem(path, None, "a directory without *.toml", "at least one file in it"))
    return found


def _read_file(file: Path, reading: _Reading) -> None:
    try:
        with file.open("rb") as opened:
            octets = opened.read(LARGEST + 1)
        text = octets.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        reading.problems.append(_problem(file, line, f"the octet 0x{error.object[error.start]:02x}", "UTF-8 text"))
        return
    except OSError as error:
        reading.problems.append(_problem(file, None, f"a file that cannot be read ({error.strerror})", "a readable TOML file"))
        return
    if len(octets) > LARGEST:
        reading.problems.append(_problem(file, None, f"more than {LARGEST} octets", "a smaller file, or a directory of files"))
        return
    try:
        data = tomllib.loads(text)
        index = index_lines(text)
    except (ValueError, RecursionError) as error:  # a number of too many digits is a plain ValueError
        place, what, allowed = mistake_in_toml(error)
        reading.problems.append(_problem(file, place or text.rstrip("\n").count("\n") + 1, what, allowed))
        return
    _merge(reading, data, index, str(file), here=(), there=())
    reading.appended |= index.appended


def _merge(reading: _Reading, data: dict[str, Any], index: LineIndex, file: str, *, here: Key, there: Key) -> None:
    """Add a file's table at `here` to what was read at `there`; a key that is set twice is a mistake."""
    target: Any = reading.data
    for part in there:
        target = target[part]
    for name, value in data.items():
        key, place = (*here, name), (*there, name)
        if name not in target:
            target[name] = value
            _note_all(reading, index, file, here=key, there=place)
        elif isinstance(value, dict) and isinstance(target[name], dict):
            _merge(reading, value, index, file, here=key, there=place)
        elif key in index.appended and place in reading.appended:
            _note_all(reading, index, file, here=key, there=place, first=len(target[name]))
            target[name].extend(value)
        else:
            reading.problems.append(
                ConfigProblem(
                    file=file,
                    line=index.lines.get(key),
                    key=dotted(place),
                    found=f"a key that {reading.sources[place]} has set already",
                    allowed="each key once in all files of the directory",
                )
            )


def _note_all(reading: _Reading, index: LineIndex, file: str, *, here: Key, there: Key, first: int = 0) -> None:
    """Remember the lines of a key and of all below it; the elements of an array are counted from `first`."""
    for key, line in index.lines.items():
        if key[: len(here)] == here:
            below = key[len(here) :]
            if first and below and isinstance(below[0], int):
                below = (below[0] + first, *below[1:])
            reading.sources.setdefault((*there, *below), Source(file, line))


def _forget_below(sources: dict[Key, Source], key: Key) -> None:
    for below in [known for known in sources if known[: len(key)] == key]:
        del sources[below]


def _origins(config: Config, sources: Mapping[Key, Source]) -> dict[Key, str]:
    """Where each effective value came from."""

    def origin(key: Key) -> str:
        exact = sources.get(key)
        if exact is not None:
            return str(exact)
        for length in range(len(key) - 1, 0, -1):
            around = sources.get(key[:length])
            if around is not None and around.whole:
                return str(around)
        return "default"

    found: dict[Key, str] = {}

    def walk(value: Any, key: Key) -> None:
        if isinstance(value, BaseModel):
            for name in type(value).model_fields:
                walk(getattr(value, name), (*key, name))
        elif isinstance(value, dict) and value:
            for name, below in value.items():
                walk(below, (*key, name))
        elif isinstance(value, tuple) and value and isinstance(value[0], dict | BaseModel):
            for place, below in enumerate(value):
                walk(below, (*key, place))
        else:
            found[key] = origin(key)

    walk(config, ())
    return found
