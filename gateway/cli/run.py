"""`mailgateway run`: start the gateway and say where it is and how to try it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gateway.server.children import Place


def run(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="File, or directory of *.toml files.")] = None,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C."""
    from gateway.config.load import find_file, load
    from gateway.errors import ConfigError

    try:
        loaded = load(find_file(config, os.environ), environ=os.environ, needs_route=True)
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)

    from gateway.server.lean import without

    with without("rich"):  # structlog takes it for colours that our logs do not have: 4 MB and a seventh of the start
        from gateway.server import supervisor

    raise typer.Exit(supervisor.run(loaded, admin=_admin, announce=_announce))


def _admin(task: object) -> int:
    from gateway.admin import app
    from gateway.server.children import AdminTask

    assert isinstance(task, AdminTask)
    return app.serve(task)


def _announce(place: Place) -> None:
    from gateway.core import NONE, STATUS
    from gateway.server.inbox import DOMAIN, MAILBOXES

    core = f", compiled core: {STATUS}" if STATUS != NONE else ""
    out = [f"mailgateway listens on {', '.join(str(listener) for listener in place.listeners)} ({place.workers} workers{core})"]
    if place.admin:
        out.append(f"health and metrics:    http://{place.admin}/ready  http://{place.admin}/metrics")
    if place.state_warning:
        out.append(f"state is ephemeral:    {place.state_warning}")
    by_tcp = [listener.address for listener in place.listeners if not listener.path]
    if place.inbox is not None and by_tcp:
        host, port = by_tcp[0]
        known = ", ".join(MAILBOXES)
        you = "you@good.demo.test"  # a real domain may have an SPF record that refuses loopback
        script = (
            rf"EHLO me\nMAIL FROM:<{you}>\nRCPT TO:<alice@{DOMAIN}>\nDATA\n"
            rf"From: {you}\nSubject: hello\n\nHello.\n.\nQUIT\n"
        )
        out += [
            f"accepted mail appears: {place.state_directory / 'inbox'}/<mailbox>/new   ({known} @{DOMAIN})",
            "try it:",
            f"  printf '{script}' | nc {host} {port}",
            f"  swaks --server {host}:{port} --from {you} --to alice@{DOMAIN}",
        ]
    print("\n".join(out), flush=True)
