"""What commands print: tables for people, with text from the network made harmless to a terminal."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from gateway.errors import GatewayError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import NoReturn

    from rich.console import Console
    from rich.table import Table

    from gateway.config.load import Loaded

PIPED_WIDTH = 200
"""Columns where there is no terminal to ask."""


def safe(text: str, limit: int = 500) -> str:
    """Text from outside on one line: what is not printable (escapes, line ends, direction marks) is shown as an escape."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:limit])
    return shown + "…" if len(text) > limit else shown


def console() -> Console:
    """Standard output; no markup, no emoji, no guessing at numbers in what the network sent."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)


def table(*columns: str) -> Table:
    """A plain table."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def moment(seconds: float) -> str:
    """A time as people read it, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def since(text: str) -> float:
    """`2h` ago in seconds since the epoch; `` is 0. Bad parameter otherwise."""
    from gateway.units import parse_duration

    if not text:
        return 0.0
    try:
        return time.time() - parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not {error}") from error


def fail(problem: GatewayError | str) -> NoReturn:
    """Say what is wrong and leave with 1."""
    typer.echo(safe(str(problem), 2000), err=True)
    raise typer.Exit(1)


def quarantine_directory(loaded: Loaded) -> Path:
    """Where the quarantine is."""
    path = loaded.config.quarantine.path
    return loaded.path(path) if path else loaded.state_directory / "quarantine"


def journal_file(loaded: Loaded) -> Path:
    """Where the journal is."""
    path = loaded.config.journal.path
    return loaded.path(path) if path else loaded.state_directory / "journal.sqlite"
