"""Where plugins come from: entry points, dotted paths, and single files in `plugin_path`. Only names in use are loaded.

A single file `tickets.py` becomes the module `mailgateway_site.tickets`, and `mailgateway_site.tickets@2` where a generation before
still has that one: each has its own until its last session has ended (`freshness`). No folder of plugins is ever put on `sys.path`,
where a plugin `spf.py` would hide the library of that name.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import itertools
import sys
import traceback
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.freshness import OURS, SourceLoader, files_of, import_fresh
from gateway.plugin import Plugin
from gateway.plugin_files import plugin_files

GROUP = "mailgateway.plugins"
SITE = "mailgateway_site"


class DiscoveryError(Exception):
    """A plugin cannot be found or loaded; the text says what was found."""

    def __init__(self, found: str, *, allowed: str) -> None:
        super().__init__(found)
        self.found = found
        self.allowed = allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a plugin comes from."""

    name: str
    target: str
    """`package.module:Class`, or a file."""
    distribution: str = ""
    version: str = ""
    is_file: bool = False

    def __str__(self) -> str:
        if self.is_file:
            return f"file {self.target}"
        package = f" of {self.distribution} {self.version}" if self.distribution else ""
        return f"{self.target}{package}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A plugin class and where it comes from."""

    origin: Origin
    kind: type[Plugin[Any]]


def entry_points() -> list[Origin]:
    """Plugins that installed distributions declare."""
    found = []
    for point in importlib.metadata.entry_points(group=GROUP):
        package = point.dist
        found.append(
            Origin(
                name=point.name,
                target=point.value,
                distribution=package.name if package is not None else "",
                version=package.version if package is not None else "",
            )
        )
    return found


def site_files(directories: Iterable[Path]) -> list[Origin]:
    """Plugins that are single files. DiscoveryError for a directory that cannot be read."""
    found: list[Origin] = []
    for directory in directories:
        try:
            files = plugin_files(directory)
        except OSError as error:
            raise DiscoveryError(
                f"{directory}, which cannot be read ({error.strerror})", allowed="directories with single-file plugins"
            ) from error
        found += [Origin(name=file.stem, target=str(file.absolute()), is_file=True) for file in files]
    return found


def choose(name: str, known: Sequence[Origin]) -> Origin:
    """The one plugin of this name. DiscoveryError when there is none, or more than one."""
    if ":" in name:
        return Origin(name=name, target=name)
    found = list({(one.target, one.is_file): one for one in known if one.name == name}.values())
    if len(found) > 1:
        both = " and ".join(str(one) for one in found)
        raise DiscoveryError(f"the plugin {name!r} twice: {both}", allowed="each name once")
    if not found:
        names = sorted({one.name for one in known})
        raise DiscoveryError(
            f"the unknown plugin {name!r}",
            allowed=f"{', '.join(names) or 'no name, since none is installed'}, a file of `plugin_path`, or `package.module:Class`",
        )
    return found[0]


def load(origin: Origin, *, source: bytes | None = None) -> type[Plugin[Any]]:
    """Import a plugin's class; `source` is what a single file is to be taken to hold. DiscoveryError for whatever its module does."""
    try:
        if origin.is_file:
            return _class_in(_load_file(Path(origin.target), source), origin)
        module, _, attribute = origin.target.partition(":")
        kind: Any = import_fresh(module.strip())
        for part in attribute.split("[")[0].strip().split("."):
            kind = getattr(kind, part)
    except DiscoveryError:
        raise
    except (Exception, SystemExit) as error:  # a plugin's module may do anything while it is imported
        raise DiscoveryError(
            f"{origin}, which cannot be imported: {_describe(error)}", allowed="a module that imports"
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, Plugin)):
        raise DiscoveryError(f"{origin}, which is no plugin", allowed="a class derived from gateway.Plugin")
    return kind


def _describe(error: BaseException) -> str:
    """The error and the innermost line it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    return f"{type(error).__name__}: {str(error)[:300]}{place}"


def _load_file(file: Path, source: bytes | None) -> types.ModuleType:
    name = _free_name(f"{SITE}.{file.stem}")
    _site_package()
    loader = SourceLoader(name, str(file), file.read_bytes() if source is None else source)
    specification = importlib.util.spec_from_file_location(name, file, loader=loader)
    if specification is None:
        raise DiscoveryError(f"file {file}, which is no Python module", allowed="a Python file")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # annotations are resolved through it
    try:
        loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _free_name(name: str) -> str:
    """The name of a module, or the first one behind it that no other generation has."""
    return next(one for one in itertools.chain((name,), (f"{name}@{n}" for n in itertools.count(2))) if one not in sys.modules)


def is_of_site(module: str) -> bool:
    """A single file's module, which a generation has for itself."""
    return module.startswith(f"{SITE}.")


def source_files(found: Found) -> list[str]:
    """Files whose change means other code of this plugin; none for bundled ones, which change with the gateway."""
    if found.origin.is_file:
        return [found.origin.target]
    root = found.kind.__module__.partition(".")[0]
    return [] if root == OURS else files_of(root)


def _site_package() -> None:
    if SITE not in sys.modules:
        package = types.ModuleType(SITE, "Single-file plugins of this site.")
        package.__path__ = []
        sys.modules[SITE] = package


def _class_in(module: types.ModuleType, origin: Origin) -> type[Plugin[Any]]:
    """The one Plugin class a file defines, or the one it names as `plugin`."""
    named = getattr(module, "plugin", None)
    if isinstance(named, type) and issubclass(named, Plugin):
        return named
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Plugin) and value.__module__ == module.__name__
    ]
    if len(own) != 1:
        names = ", ".join(kind.__name__ for kind in own) or "none"
        raise DiscoveryError(
            f"{origin} with {len(own)} plugin classes ({names})",
            allowed="exactly one class derived from gateway.Plugin, or a line `plugin = TheClass`",
        )
    return own[0]


class SiteFinder(importlib.abc.MetaPathFinder):
    """Lets a worker's process pool import single-file plugins by their module name, without `sys.path`."""

    def __init__(self, files: Mapping[str, tuple[str, bytes]]) -> None:
        self._files = dict(files)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the interface
        target: types.ModuleType | None = None,  # noqa: ARG002 - the interface
    ) -> importlib.machinery.ModuleSpec | None:
        """The file of a site module."""
        found = self._files.get(fullname)
        if found is None:
            return None
        file, source = found
        return importlib.util.spec_from_file_location(fullname, file, loader=SourceLoader(fullname, file, source))


def install_site_modules(files: Mapping[str, tuple[str, bytes]]) -> None:
    """In a pool's process: module name → file and its source."""
    _site_package()
    sys.meta_path.insert(0, SiteFinder(files))


def loaded_site_files() -> dict[str, tuple[str, bytes]]:
    """Module name → file and source of the single-file plugins of this process."""
    return {
        name: (str(module.__file__), loader.source)
        for name, module in list(sys.modules.items())
        if is_of_site(name) and isinstance(loader := module.__loader__, SourceLoader) and loader.source is not None
    }
