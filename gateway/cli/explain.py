"""`mailgateway explain ID`: why a message went where it went, as a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import terminal
from gateway.cli.config import ConfigOption, load_or_exit
from gateway.cli.journal import with_journal

if TYPE_CHECKING:
    from gateway.journal import Journal
    from gateway.trace import Record


def explain(
    id_: Annotated[str, typer.Argument(metavar="ID", help="From a reply, a Received field, a log line, or of a held copy.")],
    config: ConfigOption = None,
) -> None:
    """Print the decision on one transaction with evidence and timings, and what became of its held copies."""
    from gateway.cli.tree import render

    loaded = load_or_exit(config)

    async def work(journal: Journal) -> list[Record]:
        wanted = id_
        directory = terminal.quarantine_directory(loaded)
        if id_.startswith("q") and directory.is_dir():
            from gateway.quarantine import Quarantine

            settings = loaded.config.quarantine
            quarantine = await Quarantine.open(directory, retention=settings.retention, lease=settings.lease)
            try:
                entry = await quarantine.get(id_)
            finally:
                await quarantine.close()
            wanted = entry.transaction_id if entry else id_
        first = await journal.get(wanted)
        return [*([first] if first else []), *await journal.later(wanted)]

    found = with_journal(loaded, work)
    if not found:
        terminal.fail(f"no record of {id_}: it may be older than the retention, or of another gateway")
    console = terminal.console()
    for record in found:
        console.print(render(record))
