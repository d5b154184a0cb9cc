"""What `mailgateway run` does, without what reads commands: it stays for the gateway's life."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.server.children import AdminTask, Place


def start(config: Path | None) -> int:
    """Run the gateway until SIGTERM or Ctrl-C; the exit status."""
    from gateway.config.load import find_file, load
    from gateway.errors import ConfigError

    try:
        loaded = load(find_file(config, os.environ), environ=os.environ, needs_route=True)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)

    from gateway.server import starting

    return starting.run(loaded, admin=_admin, announce=_announce, hands_over=True)


def go_on(descriptor: int) -> int:
    """The same, where another program in this process has started it (gateway/server/handing_over.py)."""
    from gateway.server import handing_over

    return handing_over.go_on(descriptor, admin=_admin, announce=_announce)


def _admin(task: AdminTask) -> int:
    from gateway.admin import app

    return app.serve(task)


def _announce(place: Place) -> None:
    from gateway.core import NONE, STATUS
    from gateway.server.mailboxes import DOMAIN, MAILBOXES

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
