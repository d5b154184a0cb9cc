"""A changed configuration tried out in a process of its own: read, and its plugins loaded as a worker would. Nothing of it stays here.

The supervisor forks and has no threads, so the code of a site's plugins, which may start some, never runs in it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from gateway.config.load import Loaded, load
from gateway.config.restart import settle
from gateway.errors import ConfigError
from gateway.server.channel import read_configuration, write_configuration
from gateway.server.reloads import MAX_FILES, MAX_PROBLEMS, MAX_TEXT


@dataclass(kw_only=True)
class Checked:
    """What came of it."""

    problems: list[str] = field(default_factory=list)
    """Why it cannot be used; then there is nothing else."""
    restart: list[str] = field(default_factory=list)
    """Keys that keep their old values until a restart."""
    warnings: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    """Files of its plugins, to be watched."""


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
    return Checked(restart=keys, warnings=loaded.warnings, files=generation[:MAX_FILES]), loaded


async def _load(loaded: Loaded) -> list[str]:
    from gateway.generation import Generation

    generation = await Generation.load(loaded.config, locate=loaded.locate, directory=loaded.directory)
    return list(generation.files)


class Trial:
    """The process that checks, as the supervisor sees it."""

    def __init__(self) -> None:
        self._told: BinaryIO = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 - `close` does
        self._configuration: BinaryIO = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 - `close` does
        self.pid = 0
        self.began = 0.0

    def work(self, running: Loaded, room: int) -> int:
        """In the process: check, and write down what came of it."""
        checked, loaded = check(running, room)
        if loaded is not None:
            with write_configuration(loaded) as written:
                self._configuration.write(os.pread(written.fileno(), os.fstat(written.fileno()).st_size, 0))
            self._configuration.flush()
        self._told.write(json.dumps(dataclasses.asdict(checked)).encode())
        self._told.flush()
        return 0

    def result(self, how: str) -> tuple[Checked, Loaded | None]:
        """When the process has ended. `how`: its end, in words, for one that has told nothing."""
        size = os.fstat(self._told.fileno()).st_size
        if not size:
            return Checked(problems=[f"the process that tried it out ended by {how}: the log says more"]), None
        facts: dict[str, Any] = json.loads(os.pread(self._told.fileno(), size, 0))
        checked = Checked(**facts)
        return checked, None if checked.problems else read_configuration(self._configuration)

    def close(self) -> None:
        """Its files."""
        self._told.close()
        self._configuration.close()
