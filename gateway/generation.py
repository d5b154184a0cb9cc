"""A generation: one configuration loaded, with its plugins found, validated and ordered into chains.

A reload makes a new generation beside the old one; sessions under way end on theirs. All mistakes are told at once.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pluggy
import structlog

from gateway.chain import Chain
from gateway.context import Context
from gateway.discovery import Found, is_of_site, source_files
from gateway.errors import ConfigError, PluginError
from gateway.freshness import forget
from gateway.plugin import Plugin
from gateway.plugin_context import PluginContexts
from gateway.plugin_uses import Locate, Reading, Use
from gateway.registration import deprecations, hook_names, nearest, new_manager, steps_of
from gateway.runner import Run, Runner
from gateway.session import ClientClass
from gateway.steps import Step
from gateway.threads import Circuit, Threads

if TYPE_CHECKING:
    from gateway.config.models import Config

log = structlog.get_logger("gateway.generation")

STARTUP_LIMIT = 60.0
"""Seconds for `startup` and `shutdown` of one plugin; its own timeout where that is longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """One plugin in use."""

    name: str
    plugin: Plugin[Any]
    found: Found
    use: Use
    steps: tuple[Step, ...]

    @property
    def hooks(self) -> tuple[str, ...]:
        """Hooks it has, in the order of a session."""
        return hook_names(type(self.plugin))


class Generation:
    """The chains of one configuration."""

    def __init__(self, id_: str, plugins: Mapping[str, Loaded], chains: Mapping[str, Chain], runner: Runner) -> None:
        self.id = id_
        """Short hash of the configuration, of the code of plugins that are not bundled, and of files that plugins have read."""
        self.plugins = plugins
        """By name, in the order of the configuration."""
        self._chains = chains
        self._runner = runner
        self._started: list[Loaded] = []

    @classmethod
    async def load(
        cls,
        config: Config,
        *,
        locate: Locate | None = None,
        directory: Path | None = None,
        context_factory: Callable[[str], Context] | None = None,
    ) -> Self:
        """Find, validate, order. ConfigError with every problem; nothing is started.

        `locate` gives file and line of a key, `directory` is where relative paths begin; without `context_factory` the
        plugins are made with contexts that reach nothing. Runs in a thread, since plugins' modules take their time to import.
        """
        base = Path.cwd() if directory is None else directory
        contexts = PluginContexts(config, directory=base) if context_factory is None else context_factory
        return await asyncio.to_thread(cls._load, config, locate or _nowhere, base, contexts)

    @classmethod
    def _load(cls, config: Config, locate: Locate, directory: Path, contexts: Callable[[str], Context]) -> Self:
        reading = Reading(config, locate, directory)
        reading.read()
        runner = Runner(Threads(config.limits.threads))
        manager = new_manager()
        plugins: dict[str, Loaded] = {}
        for name, use in reading.uses.items():
            plugin = reading.make(use, contexts)
            if plugin is None:
                continue
            plugin.hook_limit = use.settings.timeout
            try:
                steps = steps_of(manager, plugin, circuit=Circuit(config.limits.threads), **_settings(use))
            except (pluggy.PluginValidationError, ValueError) as error:
                reading.object_to(use.key, f"the plugin {name!r}: {error}", "hooks as in docs/plugins/hooks.md")
                continue
            for hook, what in deprecations(use.found.kind):
                log.warning("plugin.deprecated", plugin=name, hook=hook, what=what)
            plugins[name] = Loaded(name=name, plugin=plugin, found=use.found, use=use, steps=tuple(steps))
        for loaded in plugins.values():
            _check_skips(loaded, reading)
            _check_redirects(loaded, reading, [route.name for route in config.route])
        chains = {}
        for listener, names in reading.chains.items():
            chosen = [step for name in names if name in plugins for step in plugins[name].steps]
            try:
                chains[listener] = _chain(chosen, runner, config)
            except ValueError as error:
                reading.object_to(("plugins",), str(error), "findings that do not need each other in a circle")
        if reading.problems:
            forget(one for kind in reading.kinds if is_of_site(one := kind.__module__))
            raise ConfigError(reading.problems)
        return cls(_identify(config, plugins), plugins, chains, runner)

    def chain(self, listener: str) -> Chain:
        """The chain of a listener. KeyError for a name that is no listener's."""
        return self._chains[listener]

    @property
    def modules(self) -> dict[str, str]:
        """Module of a plugin's class → name of the plugin, for the watchdog."""
        return {type(loaded.plugin).__module__: name for name, loaded in self.plugins.items()}

    @property
    def files(self) -> tuple[str, ...]:
        """Files whose change calls for a reload: source of plugins that are not bundled, and what plugins say they have read."""
        found: dict[str, None] = {}
        for loaded in self.plugins.values():
            found.update(dict.fromkeys([*source_files(loaded.found), *map(str, loaded.plugin.files_read)]))
        return tuple(found)

    def forget(self) -> None:
        """No session uses it any more: modules that are its own leave `sys.modules`."""
        forget(name for name in self.modules if is_of_site(name))

    @property
    def lost_threads(self) -> int:
        """Threads that hang in a `def` hook."""
        return self._runner.threads.lost

    async def startup(self) -> None:
        """Call every `startup`, in order. PluginError for the first that fails; those before it are shut down again."""
        for loaded in self.plugins.values():
            self._started.append(loaded)
            fault = await self._run_all(loaded, "startup", (loaded.plugin.context,))
            if fault is not None:
                self._started.pop()
                await self.shutdown()
                raise PluginError(loaded.name, f"startup: {fault.evidence}")

    async def shutdown(self) -> None:
        """Call `shutdown` of every plugin that was started, in reverse order; faults are logged."""
        while self._started:
            loaded = self._started.pop()
            fault = await self._run_all(loaded, "shutdown", ())
            if fault is not None:
                log.warning("plugin.fault", kind=fault.fault, plugin=loaded.name, hook="shutdown", error=fault.evidence)
        self._runner.threads.close()

    async def _run_all(self, loaded: Loaded, hook: str, facts: tuple[Any, ...]) -> Run | None:
        """Run this hook of one plugin; the run when it failed."""
        for step in loaded.steps:
            if step.hook == hook:
                end = asyncio.get_running_loop().time() + max(STARTUP_LIMIT, step.timeout)
                run = await self._runner.run(step, facts, end)
                if run.fault:
                    return run
        return None


def _check_skips(loaded: Loaded, reading: Reading) -> None:
    """What a plugin passes over must stand behind it in a chain, else it is misspelt or misplaced."""
    behind: set[str] = set()
    for names in reading.chains.values():
        if loaded.name in names:
            behind.update(names[names.index(loaded.name) + 1 :])
    for name, who in loaded.plugin.passes_over.items():
        if name not in behind:
            what = f"skip of {name!r} by {who}, which is not behind {loaded.name!r} in a chain"
            reading.object_to(loaded.use.key, what, ", ".join(sorted(behind)) or "plugins behind it", nearest(name, behind))


def _check_redirects(loaded: Loaded, reading: Reading, routes: list[str]) -> None:
    for name, who in loaded.plugin.redirects_to.items():
        if name not in routes:
            what = f"redirect to the route {name!r} by {who}, which is not configured"
            reading.object_to(loaded.use.key, what, ", ".join(sorted(routes)) or "a [[route]]", nearest(name, routes))


def _nowhere(_: tuple[str | int, ...]) -> tuple[str, int | None]:
    return "configuration", None


def _settings(use: Use) -> dict[str, Any]:
    chosen = use.settings
    on_error = chosen.on_error
    return {
        "timeout": chosen.timeout,
        "is_monitor": chosen.mode == "monitor",
        "on_error": on_error if isinstance(on_error, dict) else dict.fromkeys((one.value for one in ClientClass), on_error),
        "skip": frozenset(chosen.skip),
    }


def _chain(steps: list[Step], runner: Runner, config: Config) -> Chain:
    from gateway import metrics

    for step in steps:
        step.quiet = metrics.quiet_runs(step.plugin, step.hook)
    return Chain(
        steps,
        runner,
        envelope_budget=config.limits.envelope_budget,
        check_budget=config.limits.check_budget,
        routes=frozenset(route.name for route in config.route),
        observe=metrics.observe_run,
    )


def _identify(config: Config, plugins: Mapping[str, Loaded]) -> str:
    digest = hashlib.sha256(config.model_dump_json().encode())
    for name, loaded in plugins.items():
        digest.update(f"\0{name}\0{loaded.found.origin}".encode())
        for file in sorted({*source_files(loaded.found), *map(str, loaded.plugin.files_read)}):
            with suppress(OSError):  # it went since it was read
                digest.update(Path(file).read_bytes())
    return digest.hexdigest()[:10]
