"""`mailgateway dmarc`: aggregate reports to the owners of domains (RFC 9990)."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import terminal
from gateway.cli.config import ConfigOption, load_or_exit
from gateway.cli.next_hops import relay_of
from gateway.cli.terminal import safe
from gateway.errors import StorageError

if TYPE_CHECKING:
    from gateway.config.load import Loaded
    from gateway.dmarc_reports.sending import Reporter
    from gateway.journal.dmarc_reports import Due, ReportStore

app = typer.Typer(no_args_is_help=True, help="DMARC aggregate reports.")
MAX_LINK_FAILURES = 3
"""In a row; then the next hop is down, and the rest waits for the next run."""
FAILED = frozenset({"deferred", "refused", "unknown"})
"""Outcomes that are worth a look."""
Work = Callable[["ReportStore", "Reporter", "list[Due]"], Awaitable[bool]]


@app.callback()
def group() -> None:
    """DMARC aggregate reports."""


@app.command()
def report(
    *,
    config: ConfigOption = None,
    day: Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="Only this day, in UTC; default: all that are over.")] = "",
    domain: Annotated[str, typer.Option(help="Only this domain's report.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List reports and destinations; send and write nothing.")] = False,
    print_: Annotated[bool, typer.Option("--print", help="Print the XML of one report; send nothing.")] = False,
    to: Annotated[Path | None, typer.Option(metavar="DIRECTORY", help="Write the compressed reports here; send nothing.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Also to destinations that refused it or did not agree.")] = False,
) -> None:
    """Mail the aggregate reports that are due to those who ask for them, each once. 1 is returned when one could not be sent."""
    loaded = load_or_exit(config, needs_route=True)
    if not loaded.config.dmarc_reports.enabled:
        terminal.fail("nothing is collected or sent: [dmarc_reports] enabled is false")
    until = _last_day(time.time())
    if day:
        _check_day(day)
        if not (dry_run or print_ or to) and day > until:
            terminal.fail(f"{day} is not over: its report can be sent one hour after midnight UTC")
        until = day

    async def work(store: ReportStore, reporter: Reporter, due: list[Due]) -> bool:
        if print_:
            await _print(reporter, due)
        elif to is not None:
            await _write(reporter, due, to)
        elif dry_run:
            await _list(store, reporter, due)
        else:
            return await _send(reporter, due, retry=retry)
        return True

    which = {"until": until, "day": day, "domain": domain.lower()}
    if not _with_reports(loaded, work, which, sends=not (dry_run or print_ or to), retry=retry):
        raise typer.Exit(1)


async def _print(reporter: Reporter, due: list[Due]) -> None:
    if len(due) != 1:
        terminal.fail(f"{len(due)} reports; name one by --day and --domain")
    for piece in await reporter.pieces(due[0]):
        sys.stdout.buffer.write(piece)


async def _write(reporter: Reporter, due: list[Due], directory: Path) -> None:
    from gateway.dmarc_reports.mail import compress

    for one in due:
        file = directory / reporter.letter(one).file_name
        file.write_bytes(compress(await reporter.pieces(one)))
        typer.echo(str(file))


async def _list(store: ReportStore, reporter: Reporter, due: list[Due]) -> None:
    from gateway.dmarc_reports.destinations import Destination

    table = terminal.table("day", "domain", "messages", "rows", "left out", "destination", "state", "reply")
    for one in due:
        known = await store.outcomes(one)
        for place in await reporter.destinations(one):
            name, fault, why = (
                (place.mailbox, "due", "") if isinstance(place, Destination) else (place.name, place.fault, place.why)
            )
            state, reply = (known[name].state, known[name].reply) if name in known else (fault, why)
            counts = str(one.messages), str(one.rows), str(one.left_out)
            table.add_row(one.day, safe(one.policy_domain), *counts, safe(name, 200), state, safe(reply, 200))
    terminal.console().print(table if due else "nothing")


async def _send(reporter: Reporter, due: list[Due], *, retry: bool) -> bool:
    """A line for each attempt as it ends; True when nothing failed."""
    attempts = failures = in_a_row = 0
    for one in due:
        async for attempt in reporter.send(one, retry=retry):
            said = f"{attempt.state}  {safe(attempt.reply, 200)}"
            typer.echo(f"{one.day}  {safe(one.policy_domain)}  {one.messages}  {safe(attempt.destination, 200)}  {said}")
            attempts += 1
            failures += attempt.state in FAILED
            in_a_row = in_a_row + 1 if attempt.link_failed else 0
        if in_a_row >= MAX_LINK_FAILURES:
            typer.echo("the next hop is not reached: the rest is left for the next run", err=True)
            break
    if not attempts:
        typer.echo("nothing to send")
    return not failures


def _with_reports(loaded: Loaded, work: Work, which: dict[str, str], *, sends: bool, retry: bool) -> bool:
    """Open what reports are made of and the way out, work, close. Leaves with 1 when it cannot be read."""
    file = terminal.journal_file(loaded)
    if not file.is_file():
        terminal.fail(f"there is no journal at {file}: the gateway makes it when it first runs")

    async def run() -> bool:
        from gateway.dmarc_reports.sending import Reporter, again_of
        from gateway.journal.dmarc_reports import ReportStore
        from gateway.relay.identity import ClientFacts

        settings = loaded.config.dmarc_reports
        async with AsyncExitStack() as stack:
            relay, resolver = await stack.enter_async_context(relay_of(loaded))
            store = ReportStore(file)
            stack.push_async_callback(store.close)
            await store.open()
            route = settings.route or loaded.config.route[0].name
            client = ClientFacts(address="", helo=loaded.config.server.name, protocol="ESMTP")
            reporter = Reporter(
                settings,
                store,
                resolver,
                submitter=loaded.config.server.name,
                handover=lambda of: relay.handover(relay.way(route, of), client),
                clock=time.time,
            )
            due = await store.due(**which, again=again_of(retry=retry) if sends else None)
            return await work(store, reporter, due)

    try:
        return asyncio.run(run())
    except (StorageError, OSError) as error:
        terminal.fail(str(error))


def _last_day(now: float) -> str:
    """The last day that is over."""
    from gateway.dmarc_reports.mail import DAY
    from gateway.dmarc_reports.sending import GRACE

    return datetime.fromtimestamp(now - GRACE - DAY, UTC).strftime("%Y-%m-%d")


def _check_day(day: str) -> None:
    from gateway.dmarc_reports.mail import begin_of

    try:
        begin_of(day)
    except ValueError as error:
        raise typer.BadParameter(f"{day!r} is no day like 2026-11-25") from error
