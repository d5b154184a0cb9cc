"""All commands of `mailgateway`, as one Typer application."""

from __future__ import annotations

from gateway.cli import config, dkim, dmarc, journal, learn, plugins, quarantine
from gateway.cli.application import new_app
from gateway.cli.check import check
from gateway.cli.demo import demo
from gateway.cli.dev import dev
from gateway.cli.explain import explain
from gateway.cli.healthcheck import healthcheck
from gateway.cli.reload import reload
from gateway.cli.run import run
from gateway.cli.talk import talk

app = new_app()
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
