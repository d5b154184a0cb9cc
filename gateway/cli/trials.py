"""`mailgateway config check --test`: the tests that stand beside rules, run, and what came of those that failed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from gateway.cli import terminal

if TYPE_CHECKING:
    from gateway.config.load import Loaded
    from gateway.trial import Trial


def run_trials(loaded: Loaded) -> int:
    """Run them all; the exit status."""
    count = failed = 0
    for place, trial in asyncio.run(_run(loaded)):
        count += 1
        if trial.passed:
            continue
        failed += 1
        typer.echo(f"{place}: {trial.name}: {terminal.safe(trial.problem)}", err=True)
        for line in trial.told.splitlines():
            typer.echo(f"    {terminal.safe(line)}", err=True)
    typer.echo(f"{count} test{'' if count == 1 else 's'}, {failed} failed")
    return 1 if failed else 0


async def _run(loaded: Loaded) -> list[tuple[str, Trial]]:
    from gateway.generation import Generation

    generation = await Generation.load(loaded.config, locate=loaded.locate, directory=loaded.directory)
    found: list[tuple[str, Trial]] = []
    for one in generation.plugins.values():
        trials = await one.plugin.trials()
        found += zip(_places(loaded, one.use.key, trials), trials, strict=True)
    return found


def _places(loaded: Loaded, key: tuple[str | int, ...], trials: Sequence[Trial]) -> Iterator[str]:
    from gateway.plugin_uses import as_written

    for trial in trials:
        file, line = (trial.file, trial.line) if trial.file else loaded.locate(as_written(loaded.config, (*key, *trial.key)))
        yield file if line is None else f"{file}:{line}"
