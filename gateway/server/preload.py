"""What this configuration is going to use, imported before anything is served: no message waits for an import.

The supervisor does so before it forks several workers, which then share the pages. A single worker does it for itself: what it writes to
would be in memory twice, once as it was in the supervisor.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from gateway.discovery import entry_points

if TYPE_CHECKING:
    from gateway.config.models import Config

BUNDLED = "gateway.plugins."
FOR_PLUGINS = (
    "gateway.hypertext",
    "gateway.files.openers",
    "gateway.files.opening",
    "concurrent.futures.process",
    "multiprocessing.popen_spawn_posix",
)
"""What only plugins ask for: the text of HTML, files in files, a pool of processes."""


def preload(config: Config) -> None:
    """Import it. What cannot be imported is left to the worker, which says why."""
    from gateway.server import logs  # noqa: F401 - first: with structlog as we want it

    for module in modules(config):
        with suppress(Exception):  # a plugin's dependencies may do anything while they are imported
            importlib.import_module(module)


def modules(config: Config) -> Iterator[str]:
    """Their names."""
    yield "gateway.server.worker"
    if config.server.uvloop:
        yield "uvloop"
    if any(listener.tls is not None and listener.tls.client_certificates != "none" for listener in config.listener):
        yield "cryptography.x509"
    if config.plugins or any(listener.plugins for listener in config.listener):
        yield from FOR_PLUGINS
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
