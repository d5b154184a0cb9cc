"""`mailgateway journal`: search the decision records."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from gateway.cli import terminal
from gateway.cli.config import ConfigOption, load_or_exit
from gateway.cli.terminal import safe
from gateway.errors import StorageError

if TYPE_CHECKING:
    from gateway.config.load import Loaded
    from gateway.journal import Journal
    from gateway.trace import Record

app = typer.Typer(no_args_is_help=True, help="The decision records of all transactions.")
T = TypeVar("T")
VERDICTS = ("delivered", "held", "rejected", "deferred", "discarded", "vanished", "passed")


@app.callback()
def group() -> None:
    """The decision records of all transactions."""


@app.command()
def search(
    *,
    config: ConfigOption = None,
    from_: Annotated[str, typer.Option("--from", help="Part of the reverse-path.")] = "",
    to: Annotated[str, typer.Option(help="Part of a forward-path.")] = "",
    client: Annotated[str, typer.Option(help="Beginning of the client's address.")] = "",
    since: Annotated[str, typer.Option(help="Not older than: 30m, 2h, 7d.")] = "",
    verdict: Annotated[str, typer.Option(help=f"{', '.join(VERDICTS)}.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
) -> None:
    """Newest first. `mailgateway explain ID` tells the whole of one."""
    if verdict and verdict not in VERDICTS:
        raise typer.BadParameter(f"{verdict!r} is none of {', '.join(VERDICTS)}")
    moment = terminal.since(since)

    async def work(journal: Journal) -> list[Record]:
        return await journal.search(from_=from_, to=to, client=client, since=moment, verdict=verdict, limit=limit)

    found = with_journal(load_or_exit(config), work)
    table = terminal.table("id", "time (UTC)", "client", "from", "to", "verdict", "plugin: reason", "reply", "queue id")
    for record in found:
        recipients = [safe(recipient["forward_path"], 60) for recipient in record["recipients"][:3]]
        author = f"{record['plugin']}: {record['reason']}" if record["plugin"] or record["reason"] else ""
        table.add_row(
            safe(record["id"]),
            terminal.moment(record["time"]),
            safe(record["client"]),
            safe(record["reverse_path"], 60),
            ", ".join(recipients) + (" …" if len(record["recipients"]) > 3 else ""),
            safe(record["verdict"]),
            safe(author, 80),
            safe(record["reply"] or record["next_hop_reply"], 80),
            safe(record["queue_id"]),
        )
    terminal.console().print(table if found else "nothing")


def with_journal(loaded: Loaded, work: Callable[[Journal], Awaitable[T]]) -> T:
    """Open the journal of this configuration, read from it, close it. Leaves with 1 when it cannot be read."""
    from gateway.journal import Journal

    file = terminal.journal_file(loaded)
    if not file.is_file():
        terminal.fail(f"there is no journal at {file}: the gateway makes it when it first runs")

    async def run() -> T:
        journal = await Journal.open(file, retention=loaded.config.journal.retention, queue=loaded.config.journal.queue)
        try:
            return await work(journal)
        finally:
            await journal.close()

    try:
        return asyncio.run(run())
    except StorageError as error:
        terminal.fail(error)
