"""`mailgateway healthcheck`: ask a running gateway whether it is ready, for containers and monitoring."""

from __future__ import annotations

import json
import os
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Annotated

import typer

_MAX_ANSWER = 100_000
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to reach a bind to every address


def healthcheck(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The configuration of the running gateway.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.")] = 3.0,
) -> None:
    """Exit with 0 when the gateway is ready, with 1 when it is not or does not answer."""
    from gateway.config.addresses import parse_bind
    from gateway.config.load import find_file, load
    from gateway.errors import ConfigError

    try:
        bind = load(find_file(config, os.environ), environ=os.environ).config.admin.bind
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error
    if not bind:
        print("the admin pages are turned off: [admin] bind", file=sys.stderr)
        raise typer.Exit(1)
    host, port = parse_bind(bind)
    connection = HTTPConnection(_ANYWHERE.get(host, host), port, timeout=timeout)
    try:
        connection.request("GET", "/ready")
        answer = connection.getresponse()
        body = answer.read(_MAX_ANSWER)
        reasons = json.loads(body).get("reasons", [])
    except (OSError, HTTPException, ValueError, AttributeError) as error:
        print(f"{bind}: no answer: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    finally:
        connection.close()
    if answer.status != 200:
        print("not ready: " + "; ".join(str(reason)[:200] for reason in reasons), file=sys.stderr)
        raise typer.Exit(1)
    print("ready")
