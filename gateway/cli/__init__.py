"""The command `mailgateway`: one module a group of commands. Imports happen late so that it starts fast."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def new_app() -> typer.Typer:
    """An application that knows no command yet."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback(invoke_without_command=True)(version)
    return app


def version(*, version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    """An SMTP proxy with a plugin chain, in front of an existing mail server."""
    if version:
        from importlib.metadata import version as of

        from gateway.core import NONE, STATUS

        core = f" (compiled core: {STATUS})" if STATUS != NONE else ""
        typer.echo(f"mailgateway {of('mailgateway')}{core}")
        raise typer.Exit


def main() -> None:
    """Entry point of the distribution. The gateway itself does not carry the other commands through its life."""
    if sys.argv[1:2] == ["run"]:
        from gateway.cli.run import run

        only = new_app()
        only.command()(run)
        only()
    else:
        from gateway.cli.commands import app

        app()
