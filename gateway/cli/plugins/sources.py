"""Where a plugin that a command names comes from: a name of the configuration's world, a file, or a package under way."""

from __future__ import annotations

import importlib
import inspect
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.discovery import GROUP, DiscoveryError, Found, Origin, choose, entry_points, load, site_files
from gateway.registration import nearest

if TYPE_CHECKING:
    from gateway.config.load import Loaded
    from gateway.plugin import Plugin

BUNDLED = "mailgateway"
"""The distribution whose plugins are ours."""
MAX_PROJECT = 1_000_000
"""Octets of a pyproject.toml."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """Something that keeps a plugin from being used, or that somebody should know."""

    where: str
    """`file:line`, `file` or ``."""
    found: str
    allowed: str
    hint: str = ""

    def __str__(self) -> str:
        front = f"{self.where}: " if self.where else ""
        return f"{front}found {self.found}; allowed: {self.allowed}" + (f" (did you mean {self.hint!r}?)" if self.hint else "")


class NotFoundError(Exception):
    """There is no such plugin, with what there is."""

    def __init__(self, mistake: Mistake) -> None:
        super().__init__(str(mistake))
        self.mistake = mistake


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A plugin at a path, not imported yet, and the tests that belong to it."""

    origin: Origin
    tests: tuple[Path, ...] = ()
    directory: Path = Path()
    """Where its tests are run."""


def source_of(origin: Origin) -> str:
    """`bundled`, `package NAME`, `file PATH`, or the dotted path."""
    if origin.is_file:
        return f"file {origin.target}"
    if origin.distribution == BUNDLED:
        return "bundled"
    return f"package {origin.distribution}" if origin.distribution else origin.target


def version_of(origin: Origin, kind: type[Plugin[Any]] | None = None) -> str:
    """Of the distribution, or the file's own `__version__`; `` when there is neither."""
    if origin.version or kind is None:
        return origin.version
    return str(getattr(sys.modules.get(kind.__module__), "__version__", ""))[:40]


def all_known(loaded: Loaded) -> tuple[list[Origin], list[str]]:
    """Every plugin that a configuration could name, and what is wrong with `plugin_path`."""
    known, wrong = entry_points(), []
    for directory in loaded.config.plugin_path:
        try:
            known += site_files([loaded.path(directory)])
        except DiscoveryError as error:
            wrong.append(f"plugin_path: {error.found}")
    return known, wrong


def by_name(name: str, loaded: Loaded) -> Found:
    """The plugin of this name, imported; a name of the configuration is followed to what it uses. NotFoundError otherwise."""
    known, _ = all_known(loaded)
    target = str(loaded.config.plugin.get(name, {}).get("use") or name)
    try:
        origin = choose(target, known)
        return Found(origin=origin, kind=load(origin))
    except DiscoveryError as error:
        names = {one.name for one in known}
        hint = "" if target in names else nearest(target, names)
        raise NotFoundError(Mistake(where="", found=error.found, allowed=error.allowed, hint=hint)) from error


def at_path(path: Path) -> list[Candidate]:
    """The plugin of a file, or those of a package's directory. NotFoundError when it is neither."""
    if path.is_dir():
        return _of_package(path)
    if not path.exists():
        near = nearest(path.name, (one.name for one in path.parent.iterdir())) if path.parent.is_dir() else ""
        raise _not_found(path, "nothing of this name", "a Python file, or the directory of a package", near)
    if not path.is_file() or path.suffix != ".py":
        raise _not_found(path, "no Python file", "a file NAME.py, or the directory of a package")
    origins = [one for one in site_files([path.absolute().parent]) if Path(one.target) == path.absolute()]
    if not origins:
        fit = path.stem.replace("-", "_").removeprefix("test_").lstrip("_0123456789")
        allowed = "a name that is a Python word, does not begin with _ or test_, and is not conftest"
        raise _not_found(path, f"the file name {path.name!r}", allowed, f"{fit}.py" if fit.isidentifier() else "")
    test = f"test_{path.stem}.py"
    places = [
        one for one in (path.parent / test, path.parent / "tests" / test, path.parent.parent / "tests" / test) if one.is_file()
    ]
    return [Candidate(origin=origins[0], tests=tuple(places[:1]), directory=path.parent)]


def _of_package(directory: Path) -> list[Candidate]:
    file = directory / "pyproject.toml"
    if not file.is_file():
        raise _not_found(directory, "a directory without pyproject.toml", "a Python file, or the directory of a package")
    try:
        if file.stat().st_size > MAX_PROJECT:
            raise _not_found(file, f"more than {MAX_PROJECT} octets", "a pyproject.toml")
        project = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise _not_found(file, f"no TOML: {error}", "a pyproject.toml") from error
    table = _table(_table(project, "project"), "entry-points")
    points = _table(table, GROUP)
    if not points:
        allowed = f'[project.entry-points."{GROUP}"] with NAME = "package.module:Class"'
        raise _not_found(file, "no entry point of a plugin", allowed, nearest(GROUP, table) and GROUP)
    source = directory / "src" if (directory / "src").is_dir() else directory
    sys.path.insert(0, str(source.absolute()))  # as if it were installed; nothing else runs in this process
    importlib.invalidate_caches()
    version = str(_table(project, "project").get("version", ""))
    name = str(_table(project, "project").get("name", ""))
    tests = (directory / "tests",) if (directory / "tests").is_dir() else ()
    return [
        Candidate(
            origin=Origin(name=str(key), target=str(target), distribution=name, version=version), tests=tests, directory=directory
        )
        for key, target in points.items()
    ]


def _table(inside: dict[str, Any], name: str) -> dict[str, Any]:
    found = inside.get(name)
    return found if isinstance(found, dict) else {}


def _not_found(path: Path, found: str, allowed: str, hint: str = "") -> NotFoundError:
    return NotFoundError(Mistake(where=str(path), found=found, allowed=allowed, hint=hint))


def place_of(kind: type, attribute: str = "") -> str:
    """`file:line` of a class, or of one of its methods as far as it is known."""
    target: Any = kind
    if attribute:
        target = inspect.unwrap(inspect.getattr_static(kind, attribute, kind))
    try:
        file, line = inspect.getsourcefile(target), inspect.getsourcelines(target)[1]
    except (OSError, TypeError):
        return ""
    try:
        return f"{Path(file or '').relative_to(Path.cwd())}:{line}"
    except ValueError:
        return f"{file}:{line}"
