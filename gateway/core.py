"""The compiled core: modules that mypyc has built are imported in the place of their source, where they were made of this very source.

They never lie beside the source, where the import system would take them unasked, but in a folder of their own with a manifest
that has the SHA-256 of each source. One that was edited since, or another interpreter, and all of it stays interpreted: parts of a
core know each other's layout. Imported by `gateway` before everything else; `make core` and setup.py build it (docs/performance.md).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = "_compiled"
"""In the package `gateway`; git does not know it."""
MANIFEST = "manifest.json"
NONE = "none"
"""What `STATUS` is where no core was built."""
SWITCH = "MAILGATEWAY_CORE"
"""Environment variable: `0` leaves the core alone, `1` makes a core that cannot be used an error."""


class CoreError(ImportError):
    """The core was asked for and cannot be used."""


class Core:
    """A core that can be used: finds its modules (a finder of `sys.meta_path`)."""

    def __init__(self, folder: Path, suffix: str, library: str, modules: Mapping[str, str]) -> None:
        self._folder = folder
        self._suffix = suffix
        self._names = {library, *modules}
        self.modules = tuple(modules)

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """For the import system."""
        del path, target
        if name not in self._names:
            return None
        file = str(self._folder / (name + self._suffix))
        return spec_from_file_location(name, file, loader=ExtensionFileLoader(name, file))


def source_of(module: str, top: Path) -> Path:
    """Where the source of a module lies, below the folder that has `gateway` in it. Packages are not compiled."""
    return top.joinpath(*module.split(".")).with_suffix(".py")


def digest(source: Path) -> str:
    """What the manifest says of a source."""
    return str(_sha256()(source.read_bytes()).hexdigest())


@cache
def _sha256() -> Any:
    """Python's own where it has one: hashlib brings OpenSSL, which is 3 MB that a supervisor has no other use for."""
    for name in ("_sha2", "_sha256"):
        with suppress(ImportError):
            return import_module(name).sha256
    return import_module("hashlib").sha256


def find(top: Path) -> tuple[Core | None, str]:
    """The core below this folder, and in words: what there is, or why it cannot be used."""
    folder = top / "gateway" / FOLDER
    try:
        said = json.loads((folder / MANIFEST).read_bytes())
        suffix, library, modules = said["suffix"], said["library"], dict(said["modules"])
    except FileNotFoundError:
        return None, NONE
    except (OSError, ValueError, KeyError, TypeError) as error:
        return None, f"unused: its manifest cannot be read ({error})"
    if suffix != EXTENSION_SUFFIXES[0]:
        return None, f"unused: it was built for {suffix}, this is {EXTENSION_SUFFIXES[0]}"
    changed = [name for name, sha256 in modules.items() if not _is_of(source_of(name, top), sha256)]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        return None, f"unused: the source of {changed[0]}{more} has changed since; make core"
    return Core(folder, suffix, library, modules), f"{len(modules)} modules"


def _is_of(source: Path, sha256: str) -> bool:
    try:
        return digest(source) == sha256
    except OSError:
        return False


def _install() -> str:
    wanted = os.environ.get(SWITCH, "")
    if wanted == "0":
        return f"off ({SWITCH}=0)"
    core, words = find(Path(__file__).parents[1])
    if core is not None:
        sys.meta_path.insert(0, core)
    elif wanted == "1":
        raise CoreError(f"{SWITCH}=1, and the compiled core is {words}")
    return words


STATUS = _install()
"""Of this process: `36 modules`, `none`, `off …`, or `unused: …` with the reason."""
