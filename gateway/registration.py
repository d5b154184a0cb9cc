"""Plugins made known to pluggy: misspelt and unmarked hooks found, with the nearest right name; steps for the chain."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import pluggy

from gateway import hookspecs
from gateway.answers import ARGUMENTS, SPECIFICATIONS
from gateway.plugin import PROJECT, Plugin
from gateway.steps import Step, make_step

_MARK = f"{PROJECT}_impl"
_SPEC = f"{PROJECT}_spec"


def new_manager() -> pluggy.PluginManager:
    """A PluginManager with our specifications: one for each generation."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def nearest(name: str, names: Iterable[str]) -> str:
    """The name most like this one, or ``."""
    from difflib import get_close_matches  # for mistakes

    found = get_close_matches(name, list(names), n=1, cutoff=0.6)
    return found[0] if found else ""


def hook_names(kind: type) -> tuple[str, ...]:
    """Hooks a plugin class has, in the order of a session."""
    return tuple(name for name in ARGUMENTS if hasattr(getattr(kind, name, None), _MARK))


def objections(kind: type) -> list[tuple[str, str]]:
    """What is wrong with the hooks of a plugin class: (what, nearest right name or ``)."""
    found: list[tuple[str, str]] = []
    for name in ARGUMENTS:
        method = getattr(kind, name, None)
        if callable(method) and not hasattr(method, _MARK):
            found.append((f"{kind.__name__}.{name} looks like a hook; add @hook", ""))
    for name in dir(kind):
        method = inspect.getattr_static(kind, name)
        if not hasattr(method, _MARK):
            continue
        if name not in ARGUMENTS:
            found.append((f"{kind.__name__}.{name} is marked @hook, and there is no hook of this name", nearest(name, ARGUMENTS)))
        else:
            found.extend(_object_to_arguments(kind, name, method))
    return found


def _object_to_arguments(kind: type, name: str, method: Any) -> list[tuple[str, str]]:
    found = []
    for parameter in list(inspect.signature(method).parameters.values())[1:]:
        what = f"{kind.__name__}.{name} takes {parameter.name!r}"
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.KEYWORD_ONLY}:
            found.append((f"{what}: a hook takes plain arguments that it names ({', '.join(ARGUMENTS[name]) or 'none'})", ""))
        elif parameter.default is parameter.empty and parameter.name not in ARGUMENTS[name]:
            allowed = ", ".join(ARGUMENTS[name]) or "none"
            found.append((f"{what}, and the arguments of this hook are: {allowed}", nearest(parameter.name, ARGUMENTS[name])))
    return found


def deprecations(kind: type) -> list[tuple[str, str]]:
    """What of a plugin class will go: (hook, what is to be done). The specifications say so (`warn_on_impl`, `warn_on_impl_args`)."""
    found: list[tuple[str, str]] = []
    for name in hook_names(kind):
        says: Any = getattr(SPECIFICATIONS[name], _SPEC, {})
        takes = inspect.signature(getattr(kind, name)).parameters
        arguments = says.get("warn_on_impl_args") or {}
        warnings = [says.get("warn_on_impl"), *(warning for argument, warning in arguments.items() if argument in takes)]
        found.extend((name, str(warning)) for warning in warnings if warning is not None)
    return found


def steps_of(manager: pluggy.PluginManager, plugin: Plugin[Any], **settings: Any) -> list[Step]:
    """Register a plugin under its name; its steps, in the order of a session. `settings` go into each step.

    ValueError or pluggy's PluginValidationError for what `objections` tells better.
    """
    manager.register(plugin, name=plugin.name)
    steps = []
    for name in ARGUMENTS:
        for implementation in getattr(manager.hook, name).get_hookimpls():
            if implementation.plugin is plugin:
                if name in plugin.unused_hooks:
                    continue
                is_check = name == "check"
                step = make_step(
                    plugin.name,
                    name,
                    implementation.function,
                    takes=implementation.argnames,
                    gives=plugin.gives if is_check else (),
                    needs=plugin.needs if is_check else (),
                    verifies=plugin.verifies if is_check else (),
                    **settings,
                )
                steps.append(step)
    return steps
