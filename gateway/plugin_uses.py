"""Plugin uses: what `plugins`, `[[listener]] plugins` and `[plugin.NAME]` say, read into one use for each name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from gateway.config.models import PluginUse
from gateway.config.problems import dotted, problems_from_pydantic
from gateway.context import Context
from gateway.discovery import DiscoveryError, Found, Origin, choose, entry_points, load, site_files
from gateway.errors import ConfigError, ConfigProblem, OptionError
from gateway.plugin import Plugin, PluginOptions
from gateway.registration import nearest, objections
from gateway.session import ClientClass

if TYPE_CHECKING:
    from gateway.config.models import Config
    from gateway.isolation.start import Start

Key = tuple[str | int, ...]
Locate = Callable[[Key], tuple[str, int | None]]
"""Key path to (file or `environment NAME`, line or None)."""

RULES = "rules"
"""The use that the top-level `[[rule]]` and `rule_files` belong to."""
_CLASSES = frozenset(one.value for one in ClientClass)
_SETTINGS = frozenset(PluginUse.model_fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One name in a chain, read."""

    name: str
    key: Key
    """Where its settings stand."""
    found: Found
    settings: PluginUse
    options: PluginOptions
    start: Start | None = None
    """How its process begins, where it has one."""


@dataclass(slots=True)
class Reading:
    """Reads all uses of a configuration, and collects what is wrong."""

    config: Config
    locate: Locate
    directory: Path
    problems: list[ConfigProblem] = field(default_factory=list)
    uses: dict[str, Use] = field(default_factory=dict)
    chains: dict[str, list[str]] = field(default_factory=dict)
    """Listener → names, in order."""
    _known: list[Origin] = field(default_factory=list)
    _tables: dict[str, tuple[Key, dict[str, Any]]] = field(default_factory=dict)
    """Name → where its settings stand, and the settings."""
    _classes: dict[Origin, type[Plugin[Any]]] = field(default_factory=dict)

    def read(self) -> None:
        """Everything; look at `problems` afterwards."""
        self._known = entry_points()
        try:
            self._known += site_files(self.directory / path for path in self.config.plugin_path)
        except DiscoveryError as error:
            self.object_to(("plugin_path",), error.found, error.allowed)
        names = self._chain(("plugins",), self.config.plugins)
        for number, listener in enumerate(self.config.listener):
            own = listener.plugins
            self.chains[listener.name] = names if own is None else self._chain(("listener", number, "plugins"), own)
        self._refuse_unknown_tables()
        if (self.config.rule or self.config.rule_files) and RULES not in self._tables:
            key: Key = ("rule",) if self.config.rule else ("rule_files",)
            self.object_to(key, "rules, and no plugin `rules` in any chain", '`plugins = [ …, "rules" ]`')
        for name, (key, table) in self._tables.items():
            use = self._use(name, key, table)
            if use is not None:
                self.uses[name] = use

    @property
    def kinds(self) -> tuple[type[Plugin[Any]], ...]:
        """The classes that were loaded."""
        return tuple(self._classes.values())

    def make(self, use: Use, contexts: Callable[[str], Context]) -> Plugin[Any] | None:
        """The plugin itself; None when its own constructor refuses."""
        try:
            plugin = use.found.kind(use.options, name=use.name, context=contexts(use.name))
            if use.start is not None:
                from gateway.isolation.proxy import IsolatedPlugin

                if isinstance(plugin, IsolatedPlugin):
                    plugin.connect_to(use.start)
        except ConfigError as error:
            self.problems += error.problems
        except OptionError as error:
            for mistake in error.mistakes:
                self.object_to(as_written(self.config, (*use.key, *mistake.key)), mistake.found, mistake.allowed)
        except Exception as error:  # noqa: BLE001 - a plugin's constructor may do anything
            self.object_to(
                use.key, f"options the plugin {use.name!r} refuses: {type(error).__name__}: {error}", "options it can begin with"
            )
        else:
            return plugin
        return None

    def object_to(self, key: Key, found: str, allowed: str, hint: str = "") -> None:
        """Note a problem at a key."""
        file, line = self.locate(key)
        problem = ConfigProblem(file=file, line=line, key=dotted(key), found=found, allowed=allowed, hint=hint)
        if problem not in self.problems:  # what several groups share is told once
            self.problems.append(problem)

    def _chain(self, key: Key, entries: tuple[Any, ...]) -> list[str]:
        """The names of one chain; tables in it are noted."""
        names: list[str] = []
        for number, entry in enumerate(entries):
            place = (*key, number)
            table = dict(entry) if isinstance(entry, dict) else {}
            name = str(table.pop("name", entry))
            if name in names:
                self.object_to(place, f"the plugin {name!r} twice in one chain", 'another name: { name = "…", use = "…" }')
                continue
            names.append(name)
            self._note(name, place, table)
        return names

    def _note(self, name: str, place: Key, table: dict[str, Any]) -> None:
        own = self.config.plugin.get(name)
        key: Key = place if own is None else ("plugin", name)
        before = self._tables.get(name)
        if before is not None and table and table.items() - before[1].items():
            self.object_to(place, f"other settings for {name!r} than before", "settings for each name in one place")
            return
        if own is not None and (twice := sorted(own.keys() & table.keys())):
            self.object_to(place, f"{twice[0]!r}, which [plugin.{name}] sets too", "each key once")
        if before is None:
            self._tables[name] = (key, {**(own or {}), **table})

    def _refuse_unknown_tables(self) -> None:
        """`[plugin.NAME]` for a plugin that is known and not used is fine; for an unknown one it is misspelt."""
        known = {one.name for one in self._known} | set(self._tables)
        for name, table in self.config.plugin.items():
            if name not in known and not table.get("use"):
                self.object_to(
                    ("plugin", name), f"a table for the unknown plugin {name!r}", "names of plugins", nearest(name, known)
                )

    def _use(self, name: str, key: Key, table: dict[str, Any]) -> Use | None:
        settings = self._settings(key, {one: value for one, value in table.items() if one in _SETTINGS})
        target = str(table.get("use") or name)
        if settings is not None and settings.process:
            return self._isolated(name, target, key, table, settings)
        found = self._find(name, target, key)
        if found is None:
            return None
        own = {one: value for one, value in table.items() if one not in _SETTINGS}
        if target == RULES:
            own = self._with_rules(own, is_top=name == RULES)
        try:
            options = found.kind.options_type.model_validate(own)
        except ValidationError as error:
            models: list[type[BaseModel]] = [found.kind.options_type, PluginUse]
            self._add(problems_from_pydantic(error, prefix=key, locate=self._locate_option, models=models), key, name, target)
            return None
        if settings is None:
            return None
        return Use(name=name, key=key, found=found, settings=settings, options=options)

    def _isolated(self, name: str, target: str, key: Key, table: dict[str, Any], settings: PluginUse) -> Use | None:
        """Loaded and checked in a process of its own, and never here."""
        own = {one: value for one, value in table.items() if one not in _SETTINGS}
        place = self._place_of(name, key)
        try:
            origin = choose(target, self._known)
            source = Path(origin.target).read_bytes() if origin.is_file else None
        except DiscoveryError as error:
            names = {one.name for one in self._known}
            self.object_to(place, error.found, error.allowed, "" if target in names else nearest(target, names))
            return None
        except OSError as error:
            self.object_to(place, str(error), "a file that can be read")
            return None
        from gateway.isolation.proxy import isolate  # where a plugin has a process of its own: most have none
        from gateway.isolation.start import Start

        start = Start(
            name=name,
            origin=origin,
            key=key,
            options=self._with_rules(own, is_top=name == RULES) if target == RULES else own,
            memory=settings.memory,
            timeout=settings.timeout,
            threads=self.config.limits.threads,
            source=source,
            surroundings=surroundings(self.config, self.directory),
        )
        try:
            kind = isolate(start, self._locate_option if target == RULES else self.locate)
        except OSError as error:
            self.object_to(place, str(error), "a process that can be started")
            return None
        except ConfigError as error:
            self._add(error.problems, key, name, target)
            return None
        found = Found(origin=origin, kind=kind)
        return Use(name=name, key=key, found=found, settings=settings, options=PluginOptions(), start=start)

    def _find(self, name: str, target: str, key: Key) -> Found | None:
        try:
            origin = choose(target, self._known)
            kind = self._classes.get(origin)
            if kind is None:
                kind = self._classes[origin] = load(origin)
        except DiscoveryError as error:
            place = (*key, "use") if target != name and key[0] == "plugin" else self._place_of(name, key)
            names = {one.name for one in self._known}
            self.object_to(place, error.found, error.allowed, "" if target in names else nearest(target, names))
            return None
        wrong = objections(kind)
        for what, hint in wrong:
            self.object_to(self._place_of(name, key), what, "hooks as in docs/plugins/hooks.md", hint)
        return None if wrong else Found(origin=origin, kind=kind)

    def _place_of(self, name: str, key: Key) -> Key:
        """Where the name stands in a chain."""
        for number, entry in enumerate(self.config.plugins):
            if name == (entry.get("name") if isinstance(entry, dict) else entry):
                return ("plugins", number)
        return key

    def _settings(self, key: Key, table: dict[str, Any]) -> PluginUse | None:
        try:
            settings = PluginUse.model_validate(table)
        except ValidationError as error:
            self.problems += problems_from_pydantic(error, prefix=key, locate=self.locate, models=PluginUse)
            return None
        classes = set(settings.skip) | set(settings.on_error if isinstance(settings.on_error, dict) else ())
        for unknown in sorted(classes - _CLASSES):
            place = "skip" if unknown in settings.skip else "on_error"
            self.object_to((*key, place), repr(unknown), ", ".join(sorted(_CLASSES)), nearest(unknown, _CLASSES))
        return settings

    def _with_rules(self, own: dict[str, Any], *, is_top: bool) -> dict[str, Any]:
        """The top-level rules are those of the use `rules`, before the ones its own table names; the lists are for all groups."""
        lists = {"list": {**self.config.list, **own.get("list", {})}} if self.config.list else {}
        if not is_top:
            return {**own, **lists}
        return {
            **own,
            **lists,
            "rule": (*self.config.rule, *own.get("rule", ())),
            "files": (*self.config.rule_files, *own.get("files", ())),
        }

    def _add(self, problems: list[ConfigProblem], key: Key, name: str, target: str) -> None:
        """Problems of options, with the keys of rules and lists as they stand in the file; those of a list once for all groups."""
        for problem in problems:
            fronts = [*(["rule["] if name == RULES else []), *(f"list.{one}" for one in self.config.list)]
            moved = _at_top(problem, key, fronts) if target == RULES else problem
            if moved not in self.problems:
                self.problems.append(moved)

    def _locate_option(self, key: Key) -> tuple[str, int | None]:
        return self.locate(as_written(self.config, key))


def as_written(config: Config, key: Key) -> Key:
    """The key of an option of a group of rules as it stands in the configuration: lists, and the rules of the use `rules`, are at the top."""
    match key:
        case ("plugin", "rules", "rule", *rest) if config.rule:
            return ("rule", *rest)
        case ("plugins", int(place), "rule", *rest) if config.rule and _name_at(config, place) == RULES:
            return ("rule", *rest)
        case ("plugin", name, "list", str(one), *rest) if one in config.list and one not in config.plugin.get(str(name), {}).get(
            "list", {}
        ):
            return ("list", one, *rest)
        case ("plugins", int(), "list", str(one), *rest) if one in config.list:
            return ("list", one, *rest)
        case _:
            return key


def surroundings(config: Config, directory: Path) -> dict[str, Any]:
    """What a plugin's context says without being asked twice."""
    return {
        "server_name": config.server.name,
        "authserv_id": config.server.authserv_id or config.server.name,
        "limits": {name: int(value) for name, value in config.limits.model_dump().items()},
        "base_directory": str(directory.absolute()),
        "state_directory": str((directory / config.server.state_directory).absolute()),
    }


def _name_at(config: Config, place: int) -> str:
    entry = config.plugins[place] if place < len(config.plugins) else ""
    return str(entry.get("name", "")) if isinstance(entry, dict) else str(entry)


def _at_top(problem: ConfigProblem, key: Key, fronts: list[str]) -> ConfigProblem:
    """The key of a rule or list as it stands in the file: `rule[0].when`, `list.vip.kind`."""
    for front in fronts:
        if problem.key.startswith(f"{dotted(key)}.{front}"):
            return dataclasses.replace(problem, key=front + problem.key.removeprefix(f"{dotted(key)}.{front}"))
    return problem
