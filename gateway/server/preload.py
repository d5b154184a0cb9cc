"""What the supervisor imports before it forks, so that its workers share the pages: what this configuration is going to use."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from gateway.discovery import entry_points

if TYPE_CHECKING:
    from gateway.config.models import Config

BUNDLED = "gateway.plugins."


def preload(config: Config) -> None:
    """Import it. What cannot be imported is left to the worker, which says why."""
    for module in _modules(config):
        with suppress(Exception):  # a plugin's dependencies may do anything while they are imported
            importlib.import_module(module)


def _modules(config: Config) -> Iterator[str]:
    yield "gateway.server.worker"
    if config.server.uvloop:
        yield "uvloop"
    if any(listener.tls is not None and listener.tls.client_certificates != "none" for listener in config.listener):
        yield "cryptography.x509"
    yield from plugin_modules(config)


def plugin_modules(config: Config) -> Iterator[str]:
    """Of the bundled plugins in use. Others may begin threads or open files when they are imported: they are the worker's own."""
    entries = [*config.plugins, *(entry for listener in config.listener for entry in listener.plugins or ())]
    used: set[str] = set()
    for entry in entries:
        table = entry if isinstance(entry, dict) else {"name": entry}
        name = str(table.get("name"))
        settings = {**config.plugin.get(name, {}), **table}
        if not settings.get("process"):  # its code is for its own process alone
            used.add(str(settings.get("use") or name))
    if used:
        for point in entry_points():
            if point.name in used and point.target.startswith(BUNDLED):
                module = point.target.partition(":")[0]
                yield module
                if module == f"{BUNDLED}rules":  # they ask for types of files
                    yield "gateway.library_types"
