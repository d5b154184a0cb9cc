"""The command `mailgateway`: one module a group of commands. Imports happen late so that it starts fast."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli import config, dkim, dmarc, journal, learn, plugins, quarantine
from gateway.cli.check import check
from gateway.cli.demo import demo
from gateway.cli.dev import dev
from gateway.cli.explain import explain
from gateway.cli.healthcheck import healthcheck
from gateway.cli.reload import reload
from gateway.cli.run import run
from gateway.cli.talk import talk

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def version(*, version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    """An SMTP proxy with a plugin chain, in front of an existing mail server."""
    if version:
        from importlib.metadata import version as of

        from gateway.core import NONE, STATUS

        core = f" (compiled core: {STATUS})" if STATUS != NONE else ""
        typer.echo(f"mailgateway {of('mailgateway')}{core}")
        raise typer.Exit


app.add_typer(config.app, name="config")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(learn.app, name="learn")
app.add_typer(journal.app, name="journal")
app.add_typer(dmarc.app, name="dmarc")
app.add_typer(plugins.app, name="plugins")
app.add_typer(dkim.app, name="dkim")
app.command()(run)
app.command()(reload)
app.command()(check)
app.command()(talk)
app.command()(dev)
app.command()(healthcheck)
app.command()(explain)
app.command()(demo)


def main() -> None:
    """Entry point of the distribution."""
    app()
