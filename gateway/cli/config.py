"""`mailgateway config`: check, show and describe the configuration."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from gateway.config.load import Loaded
    from gateway.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Check, show and describe the configuration.")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="A TOML file, or a directory of them; default: MAILGATEWAY_CONFIG, ./config.toml."
    ),
]


def load_or_exit(option: Path | None, *, needs_route: bool = False) -> Loaded:
    """The configuration a command works with; all problems on standard error and exit code 2 when it cannot be used."""
    from gateway.config.load import find_file, load
    from gateway.errors import ConfigError

    try:
        return load(find_file(option, os.environ), environ=os.environ, needs_route=needs_route)
    except ConfigError as error:
        exit_with(error)


def load_all(option: Path | None) -> Loaded:
    """The configuration with its plugins and rules tried as well. ConfigError with the mistakes of all of them at once."""
    from gateway.config.load import UnusableError, find_file, in_order, load
    from gateway.errors import ConfigError
    from gateway.generation import Generation

    problems = []
    loaded: Loaded | None = None
    whole: Loaded | None
    try:
        whole = loaded = load(find_file(option, os.environ), environ=os.environ, needs_route=True)
    except UnusableError as error:
        problems += error.problems
        whole = error.partial
    if whole is not None:
        try:
            asyncio.run(Generation.load(whole.config, locate=whole.locate, directory=whole.directory))
        except ConfigError as error:
            problems += error.problems
    if problems or loaded is None:
        raise ConfigError(in_order(problems))
    return loaded


def exit_with(error: ConfigError) -> NoReturn:
    """Print every problem, one after the other, and leave with 2."""
    for problem in error.problems:
        typer.echo(str(problem), err=True)
    count = len(error.problems)
    typer.echo(f"{count} mistake{'s' if count != 1 else ''} in the configuration", err=True)
    raise typer.Exit(2) from error


@app.command()
def check(
    config: ConfigOption = None,
    test: Annotated[bool, typer.Option("--test", help="Run the tests beside rules too; 1 when one fails.")] = False,
) -> None:
    """Read everything, plugins and rules too, and report every mistake with file and line."""
    from gateway.config.checks import state_is_durable
    from gateway.errors import ConfigError

    try:
        loaded = load_all(config)
    except ConfigError as error:
        exit_with(error)
    _, state = state_is_durable(loaded.state_directory, loaded.config.server.state)
    for warning in [*loaded.warnings, *([state] if state else [])]:
        typer.echo(f"warning: {warning}", err=True)
    found = loaded.config
    typer.echo(
        f"ok: {loaded.name}: {len(found.listener)} listener(s), {len(found.route)} route(s), {len(found.plugins)} plugin(s), "
        f"{len(found.rule)} rule(s)"
    )
    if test:
        from gateway.cli.trials import run_trials

        raise typer.Exit(run_trials(loaded))


@app.command()
def show(
    config: ConfigOption = None,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value came from.")] = False,
) -> None:
    """Print the effective configuration as TOML, secrets masked."""
    from gateway.config.show import toml_text

    loaded = load_or_exit(config)
    typer.echo(toml_text(loaded.config, origins=loaded.origins if origin else None), nl=False)


@app.command()
def schema() -> None:
    """Print a JSON Schema of the configuration, for editors."""
    from gateway.config.models import Config

    typer.echo(json.dumps(Config.model_json_schema(), indent=2))
