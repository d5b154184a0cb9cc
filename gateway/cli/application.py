"""A Typer application of ours, before it knows a command."""

from __future__ import annotations

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
