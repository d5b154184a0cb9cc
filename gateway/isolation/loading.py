"""In a plugin's process: its class, its options, and what the worker has to know of it to put it into a chain."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.answers import ARGUMENTS
from gateway.discovery import DiscoveryError, Found, Origin, load, source_files
from gateway.errors import ConfigError, ConfigProblem
from gateway.plugin import Plugin, PluginOptions
from gateway.registration import hook_names, objections

Key = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedUse:
    """A plugin's class and its options, checked."""

    kind: type[Plugin[Any]]
    options: PluginOptions


@dataclass(slots=True, kw_only=True)
class Described:
    """A plugin, or why it cannot be used."""

    problems: list[dict[str, Any]] = field(default_factory=list)
    """As `ConfigProblem`; `file` is the key in JSON where only the worker knows the file."""
    hooks: dict[str, list[str]] = field(default_factory=dict)
    """Hook → the arguments it takes."""
    gives: list[str] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)
    passes_over: dict[str, str] = field(default_factory=dict)
    redirects_to: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    """Its source, and what it has read."""

    def facts(self) -> dict[str, Any]:
        """For the channel."""
        return asdict(self)


def locate(key: Key) -> tuple[str, int | None]:
    """The key itself, where a file is wanted: the worker knows in which file it stands."""
    return json.dumps(list(key)), None


def load_use(start: dict[str, Any]) -> LoadedUse:
    """Class and options of the start's plugin. ConfigError."""
    key: Key = tuple(start["key"])
    origin = Origin(**start["origin"])
    try:
        source = start["source"]
        kind = load(origin, source=None if source is None else source.encode("latin-1"))
    except DiscoveryError as error:
        raise ConfigError([_problem(key, error.found, error.allowed)]) from error
    if wrong := objections(kind):
        raise ConfigError([_problem(key, what, "hooks as in docs/plugins/hooks.md", hint) for what, hint in wrong])
    try:
        options = kind.options_type.model_validate(start["options"])
    except ValidationError as error:
        raise ConfigError(_refused(error, key, kind.options_type)) from error
    return LoadedUse(kind=kind, options=options)


def _refused(error: ValidationError, key: Key, options: type[PluginOptions]) -> list[ConfigProblem]:
    from gateway.config.models import PluginUse  # a quarter of the time that the process takes to begin, and seldom needed
    from gateway.config.problems import problems_from_pydantic

    return problems_from_pydantic(error, prefix=key, locate=locate, models=[options, PluginUse])


def _problem(key: Key, found: str, allowed: str, hint: str = "") -> ConfigProblem:
    return ConfigProblem(file=locate(key)[0], line=None, key="", found=found, allowed=allowed, hint=hint)


def describe(plugin: Plugin[Any]) -> Described:
    """What the worker has to know."""
    kind = type(plugin)
    hooks = {}
    for name in hook_names(kind):
        if name in plugin.unused_hooks:
            continue
        taken = list(inspect.signature(getattr(plugin, name)).parameters.values())
        hooks[name] = [one.name for one in taken if one.name in ARGUMENTS[name]]
    origin = Origin(
        name=plugin.name, target=str(inspect.getsourcefile(kind) or ""), is_file=kind.__module__.startswith("mailgateway_site")
    )
    files = [*source_files(Found(origin=origin, kind=kind)), *(str(Path(file)) for file in plugin.files_read)]
    return Described(
        hooks=hooks,
        gives=list(plugin.gives),
        needs=list(plugin.needs),
        passes_over=dict(plugin.passes_over),
        redirects_to=dict(plugin.redirects_to),
        files=files,
    )
