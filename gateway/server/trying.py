"""A changed configuration tried out in a process of its own (`checking`). Nothing of it stays in the supervisor.

The supervisor forks and has no threads, so the code of a site's plugins, which may start some, never runs in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

from gateway.server.channel import nameless_file, read_configuration, read_whole, write_configuration
from gateway.server.facts import Facts
from gateway.server.lines import LogSettings


class Checked(NamedTuple):
    """What came of it."""

    problems: Sequence[str] = ()
    """Why it cannot be used; then there is nothing else."""
    restart: Sequence[str] = ()
    """Keys that keep their old values until a restart."""
    warnings: Sequence[str] = ()
    files: Sequence[str] = ()
    """Files of its plugins, to be watched."""
    facts: Facts | None = None


class Trial:
    """The process that checks, as the supervisor sees it."""

    def __init__(self) -> None:
        self._told = nameless_file()
        self.configuration = nameless_file()
        """As it is to be; not closed with the others."""
        self.pid = 0

    def work(self, running: BinaryIO, room: int, settings: LogSettings) -> int:
        """In the process: check, and write down what came of it. `running`: the configuration in force."""
        from gateway.server import logs
        from gateway.server.checking import check

        logs.configure(settings, process="supervisor", queued=False)
        checked, loaded = check(read_configuration(running), room)
        if loaded is not None:
            with write_configuration(loaded) as written:
                self.configuration.write(read_whole(written))
            self.configuration.flush()
        facts = None if checked.facts is None else checked.facts._asdict()
        self._told.write(json.dumps(checked._replace(facts=None)._asdict() | {"facts": facts}).encode())
        self._told.flush()
        return 0

    def result(self, how: str) -> Checked:
        """When the process has ended. `how`: its end, in words, for one that has told nothing."""
        said = read_whole(self._told)
        if not said:
            return Checked(problems=[f"the process that tried it out ended by {how}: the log says more"])
        told: dict[str, Any] = json.loads(said)
        facts = told.pop("facts")
        return Checked(**told, facts=None if facts is None else Facts(**facts))

    def close(self) -> None:
        """What it told."""
        self._told.close()
