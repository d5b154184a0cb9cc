"""What a reload cannot change: settings that belong to a process from its start. Pure: two configurations in, one and names out.

The rest of a changed configuration is applied; these keep the values they have, and each is named.
"""

from __future__ import annotations

from typing import Any

from gateway.config.models import Config, ListenerConfig, Model

_SERVER = ("workers", "state_directory", "state", "drain_limit", "uvloop", "log_format", "log_level")
_SECTIONS = ("quarantine", "journal", "dmarc_reports", "admin")
_LISTENER = ("bind", "socket_mode", "socket_owner")


def settle(running: Config, wanted: Config) -> tuple[Config, list[str]]:
    """The configuration that a reload can bring, and the keys of `wanted` that need a restart."""
    keys: list[str] = []
    changes: dict[str, Any] = {"server": _kept(running.server, wanted.server, _SERVER, "server", keys)}
    for name in _SECTIONS:
        before, after = getattr(running, name), getattr(wanted, name)
        keys += [f"{name}.{key}" for key in type(after).model_fields if getattr(before, key) != getattr(after, key)]
        changes[name] = before
    changes["listener"] = _listeners(running.listener, wanted.listener, keys)
    return wanted.model_copy(update=changes), keys


def _kept(before: Model, after: Model, names: tuple[str, ...], where: str, keys: list[str]) -> Model:
    kept = {name: getattr(before, name) for name in names if getattr(before, name) != getattr(after, name)}
    keys += [f"{where}.{name}" for name in kept]
    return after.model_copy(update=kept) if kept else after


def _listeners(
    running: tuple[ListenerConfig, ...], wanted: tuple[ListenerConfig, ...], keys: list[str]
) -> tuple[ListenerConfig, ...]:
    """The listeners that are open, each as it is wanted; one that is not wanted any more stays as it is, a new one is not opened."""
    by_name = {one.name: one for one in wanted}
    found: list[ListenerConfig] = []
    for before in running:
        after = by_name.pop(before.name, None)
        if after is None:
            keys.append(f"listener.{before.name} (it goes on as it was)")
            found.append(before)
            continue
        settled = _kept(before, after, _LISTENER, f"listener.{before.name}", keys)
        assert isinstance(settled, ListenerConfig)
        found.append(settled)
    keys += [f"listener.{name} (it is not opened)" for name in by_name]
    return tuple(found)
