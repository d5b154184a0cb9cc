"""`mailgateway run`: start the gateway and say where it is and how to try it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.running import start


def run(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="File, or directory of *.toml files.")] = None,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C."""
    raise typer.Exit(start(config))
