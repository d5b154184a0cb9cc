"""Changed files, noticed by looking at them now and then: configuration, rules, plugins. A change counts once it has rested."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from gateway.file_stamp import Stamp, stamp
from gateway.plugin_files import MAX_FILES, plugin_files
from gateway.server.facts import Facts

MAX_WATCHED = 5_000
"""Files looked at in one round."""

Look = dict[str, Stamp | None]


def watched_files(facts: Facts, also: Iterable[str] = ()) -> list[str]:
    """The files of a configuration as they are there now, and `also`, each once."""
    found: dict[str, None] = {}
    path = None if facts.name == "environment" else Path(facts.name)
    if path is not None and path.is_dir():
        found.update(dict.fromkeys(_in(path, "*.toml")))
    elif path is not None:
        found[str(path)] = None
    for name in facts.plugin_path:
        with suppress(OSError):  # the reload says what is wrong with it
            found.update((str(file.absolute()), None) for file in plugin_files(Path(name)))
    found.update(dict.fromkeys(facts.rule_files))
    found.update(dict.fromkeys(also))
    return list(found)[:MAX_WATCHED]


def _in(directory: Path, pattern: str) -> list[str]:
    try:
        return sorted(str(file) for file in directory.glob(pattern) if not file.name.startswith("."))[:MAX_FILES]
    except OSError:
        return []


class Watch:
    """Looks every `interval` seconds; two looks alike after a change are a rest."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        """0: never."""
        self._known: Look = {}
        self._changing: Look | None = None
        self._next = 0.0

    def settle(self, files: Iterable[str]) -> None:
        """What is there now is what is running."""
        self._known = _look(files)
        self._changing = None

    def add(self, files: Iterable[str]) -> None:
        """More files that are running as they are."""
        self._known |= _look(file for file in files if file not in self._known)

    def is_due(self, now: float) -> bool:
        """Time for another look."""
        if not self.interval or now < self._next:
            return False
        self._next = now + self.interval
        return True

    def changed(self, files: Iterable[str]) -> list[str]:
        """Files that were changed, made or removed, and have stayed so since the last look. Then they count as known."""
        found = _look(files)
        if found == self._known:
            self._changing = None
            return []
        if found != self._changing:
            self._changing = found
            return []
        names = sorted(name for name in {*found, *self._known} if found.get(name) != self._known.get(name))
        self._known, self._changing = found, None
        return names


def _look(files: Iterable[str]) -> Look:
    return {file: stamp(file) for file in files}
