"""Plugin code that may change while the gateway runs: modules loaded from their source each time, and told apart by generation.

A single-file plugin is a module object of its own in every generation. The modules of a site's package are loaded anew when one of
its files has changed since; what an older generation holds goes on working, and `sys.modules` has the newest.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import threading
import types
from collections.abc import Iterable, Sequence
from pathlib import Path

from gateway.file_stamp import Stamp, stamp

OURS = __name__.partition(".")[0]
"""The gateway's own package, bundled plugins and all: other code of it comes with a restart."""

_lock = threading.RLock()
_stamps: dict[str, dict[str, Stamp | None]] = {}
"""Top-level package → its files as they were when loaded."""


class SourceLoader(importlib.machinery.SourceFileLoader):
    """Compiles what is in the file now. Python's cache takes a file of the same second and size for the old one."""

    def __init__(self, fullname: str, path: str, source: bytes | None = None) -> None:
        super().__init__(fullname, path)
        self.source = source
        """What was read, where the file may be another by now."""

    def get_code(self, fullname: str) -> types.CodeType:
        """Compiled, nothing cached."""
        source = self.source if self.source is not None else Path(self.path).read_bytes()
        return self.source_to_code(source, self.get_filename(fullname))


class _FreshFinder(importlib.abc.MetaPathFinder):
    """Stands before the others while a package is loaded again."""

    def __init__(self, root: str) -> None:
        self._root = root

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """What the others find, with our loader where it is a file of source."""
        if not _belongs(fullname, self._root):
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            found = finder.find_spec(fullname, path, target)
            if found is not None:
                if isinstance(found.loader, importlib.machinery.SourceFileLoader) and found.origin:
                    found.loader = SourceLoader(fullname, found.origin)
                return found
        return None


def import_fresh(name: str) -> types.ModuleType:
    """Import a module; the whole package around it anew when one of its files has changed. What its code raises."""
    root = name.partition(".")[0]
    if root == OURS:
        return importlib.import_module(name)
    with _lock:
        known = _stamps.get(root)
        if known is not None and any(stamp(file) != before for file, before in known.items()):
            module = _again(name, root)
        else:
            importlib.invalidate_caches()
            finder = _FreshFinder(root)
            sys.meta_path.insert(0, finder)
            try:
                module = importlib.import_module(name)
            finally:
                sys.meta_path.remove(finder)
        _stamps[root] = {file: stamp(file) for file in files_of(root)}
    return module


def _again(name: str, root: str) -> types.ModuleType:
    before = {one: module for one, module in list(sys.modules.items()) if _belongs(one, root)}
    for one in before:
        del sys.modules[one]
    importlib.invalidate_caches()
    finder = _FreshFinder(root)
    sys.meta_path.insert(0, finder)
    try:
        return importlib.import_module(name)
    except BaseException:
        for one in [one for one in list(sys.modules) if _belongs(one, root)]:
            del sys.modules[one]
        sys.modules.update(before)
        raise
    finally:
        sys.meta_path.remove(finder)


def files_of(root: str) -> list[str]:
    """Files of the loaded modules of a package."""
    return [
        str(file)
        for one, module in list(sys.modules.items())
        if _belongs(one, root) and (file := getattr(module, "__file__", None)) and str(file).endswith(".py")
    ]


def forget(modules: Iterable[str]) -> None:
    """Names that no generation uses any more; the module objects go with their last user."""
    for name in modules:
        sys.modules.pop(name, None)


def _belongs(name: str, root: str) -> bool:
    return name == root or name.startswith(f"{root}.")
