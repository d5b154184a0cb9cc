"""A changed configuration, read, and its plugins loaded as a worker would. Done in a process of its own (`trying`)."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from pathlib import Path

from gateway.config.load import Loaded, load
from gateway.config.restart import settle
from gateway.errors import ConfigError
from gateway.server.facts import facts_of
from gateway.server.reloads import MAX_FILES, MAX_PROBLEMS, MAX_TEXT
from gateway.server.trying import Checked


def check(running: Loaded, room: int) -> tuple[Checked, Loaded | None]:
    """Read the configuration again from where `running` came from. `room`: for so many routes."""
    path = None if running.name == "environment" else Path(running.name)
    try:
        wanted = load(path, environ=os.environ, needs_route=True)
        config, keys = settle(running.config, wanted.config)
        loaded = dataclasses.replace(wanted, config=config)
        generation = asyncio.run(_load(loaded))
    except ConfigError as error:
        return Checked(problems=[str(problem)[:MAX_TEXT] for problem in error.problems[:MAX_PROBLEMS]]), None
    if len(config.route) > room:
        return Checked(problems=[f"{len(config.route)} routes; a reload has room for {room}: restart"]), None
    return Checked(restart=keys, warnings=loaded.warnings, files=generation[:MAX_FILES], facts=facts_of(loaded)), loaded


async def _load(loaded: Loaded) -> list[str]:
    from gateway.generation import Generation

    generation = await Generation.load(loaded.config, locate=loaded.locate, directory=loaded.directory)
    return list(generation.files)
