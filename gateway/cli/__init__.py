"""The command `mailgateway`: one module a group of commands. Imports happen late so that it starts fast."""

from __future__ import annotations

import sys
from typing import NoReturn

from gateway import light


def main() -> None:
    """Entry point of the distribution. The gateway itself does not carry the other commands through its life."""
    if light.handed_over:
        from gateway.cli.running import go_on

        raise SystemExit(go_on(int(light.handed_over)))
    match sys.argv[1:]:
        case ["run"]:
            _run(None)
        case ["run", "--config" | "-c", config] if config[:1] != "-":
            _run(config)
        case ["run", *_]:
            from gateway.cli.application import new_app
            from gateway.cli.run import run

            only = new_app()
            only.command()(run)
            only()
        case _:
            from gateway.cli.commands import app

            app()


def _run(config: str | None) -> NoReturn:
    """As the command does it, without what reads commands: 1 MB for the worker's life."""
    from pathlib import Path

    from gateway.cli.running import start

    try:
        status = start(None if config is None else Path(config))
    except KeyboardInterrupt:
        print("Aborted!", file=sys.stderr)
        status = 1
    raise SystemExit(status)
