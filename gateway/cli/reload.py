"""`mailgateway reload`: tell the running gateway to read its configuration again, and say what came of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

_LIMIT = 240.0
"""Seconds: longer than a reload may take, and one that is under way before it."""


def reload(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The configuration of the running gateway.")] = None,
    pid: Annotated[int, typer.Option(help="Which one, where several use the same state directory.")] = 0,
) -> None:
    """Exit with 0 when new sessions get the new configuration, with 1 when it was refused and nothing has changed, with 3 when no gateway answers."""
    from gateway.server.control import ControlError, command, running

    state = _state_directory(config)
    found = [(process, path) for process, path in running(state) if pid in {0, process}]
    if len(found) != 1:
        which = ", ".join(str(process) for process, _ in found)
        print(
            f"several gateways use {state}: --pid {which}" if found else f"no gateway runs with the state directory {state}",
            file=sys.stderr,
        )
        raise typer.Exit(3)
    try:
        result = command(found[0][1], "reload", limit=_LIMIT)
    except ControlError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(3) from error
    raise typer.Exit(_tell(result))


def _state_directory(config: Path | None) -> Path:
    """Also of a configuration that has a mistake: the gateway is what says which."""
    from gateway.config.load import UnusableError, find_file, load

    path = find_file(config, os.environ)
    try:
        return load(path, environ=os.environ).state_directory
    except UnusableError as error:
        if error.partial is not None:
            return error.partial.state_directory
    directory = Path() if path is None else (path if path.is_dir() else path.parent)
    return directory / os.environ.get("MAILGATEWAY__SERVER__STATE_DIRECTORY", "var").strip('"')


def _tell(result: dict[str, Any]) -> int:
    for problem in result.get("problems", []):
        print(problem, file=sys.stderr)
    for warning in result.get("warnings", []):
        print(f"warning: {warning}", file=sys.stderr)
    if not result.get("ok"):
        print(f"refused: generation {result.get('number')} goes on", file=sys.stderr)
        return 1
    for name, serving in result.get("workers", {}).items():
        if serving is None:
            print(f"{name}: starting")
        else:
            print(f"{name}: generation {serving['number']} ({serving['generation']})")
    for key in result.get("restart", []):
        print(f"needs a restart: {key}")
    print(f"reloaded in {result.get('seconds')} s")
    return 0
