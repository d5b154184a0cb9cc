"""The command `mailgateway`: one module a group of commands. Imports happen late so that it starts fast."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """Entry point of the distribution."""
    app()
