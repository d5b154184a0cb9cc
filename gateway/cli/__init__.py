"""The command `mailgateway`: one module a group of commands. Imports happen late so that it starts fast."""

from __future__ import annotations

import sys

from gateway import light


def main() -> None:
    """Entry point of the distribution. The gateway itself does not carry the other commands through its life."""
    if light.handed_over:
        from gateway.cli.running import go_on

        raise SystemExit(go_on(int(light.handed_over)))
    if sys.argv[1:2] == ["run"]:
        from gateway.cli.application import new_app
        from gateway.cli.run import run

        only = new_app()
        only.command()(run)
        only()
    else:
        from gateway.cli.commands import app

        app()
