"""`mailgateway quarantine`: list, show, release and delete held messages and kept copies."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gateway.cli import terminal
from gateway.cli.config import ConfigOption, load_or_exit
from gateway.cli.learn import read_entry, teach
from gateway.cli.next_hops import relay_of
from gateway.cli.terminal import safe
from gateway.errors import StorageError

if TYPE_CHECKING:
    from gateway.config.load import Loaded
    from gateway.quarantine import Entry, Quarantine
    from gateway.quarantine.release import ReleaseReport
    from gateway.relay.pool import Relay

app = typer.Typer(no_args_is_help=True, help="Held messages and kept copies.")
T = TypeVar("T")
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="As `list` shows them.")]
HEADER_SHOWN = 8_000
"""Octets of the header section that `show` prints."""


@app.command("list")
def list_(
    *,
    config: ConfigOption = None,
    state: Annotated[str, typer.Option(help="held, kept, pending, releasing, released, deleted, expired, dropped.")] = "",
    box: Annotated[str, typer.Option(help="Only this box.")] = "",
    search: Annotated[str, typer.Option(help="Part of a path, the client's address, the subject or the Message-ID.")] = "",
    since: Annotated[str, typer.Option(help="Not older than: 2h, 7d.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
) -> None:
    """Newest first; without --state what is held or kept."""
    from gateway.quarantine import Query, State

    if state and state not in set(State):
        raise typer.BadParameter(f"{state!r} is none of {', '.join(State)}")
    query = Query(state=state, box=box, search=search, since=terminal.since(since), limit=limit)

    async def work(quarantine: Quarantine) -> list[Entry]:
        return await quarantine.search(query)

    entries = _with_quarantine(load_or_exit(config), work)
    table = terminal.table("id", "time (UTC)", "state", "box", "from", "to", "subject", "plugin: reason")
    for entry in entries:
        table.add_row(
            entry.id,
            terminal.moment(entry.created),
            _state(entry),
            safe(entry.box),
            _octets(entry.reverse_path, 60),
            ", ".join(_octets(path, 60) for path, _, _ in entry.recipients[:3]) + (" …" if len(entry.recipients) > 3 else ""),
            safe(entry.fact("subject"), 60),
            f"{safe(entry.plugin)}: {safe(entry.reason)}",
        )
    terminal.console().print(table if entries else "nothing")


@app.command()
def show(
    id_: Annotated[str, typer.Argument(metavar="ID")],
    config: ConfigOption = None,
    raw: Annotated[bool, typer.Option("--raw", help="The original octets, and nothing else, to standard output.")] = False,
) -> None:
    """One copy: envelope, verdict, edits, header section."""

    async def work(quarantine: Quarantine) -> tuple[Entry | None, bytes]:
        entry = await quarantine.get(id_)
        if entry is None or not entry.blob:
            return entry, b""
        content = await quarantine.content(entry)
        try:
            if raw:
                for chunk in content.chunks():
                    sys.stdout.buffer.write(chunk)
            return entry, content.octets[:HEADER_SHOWN]
        finally:
            content.close()

    entry, beginning = _with_quarantine(load_or_exit(config), work)
    if entry is None:
        terminal.fail(f"no copy {id_}")
    if raw:
        if not entry.blob:
            terminal.fail(f"{entry.id} is {entry.state}, its content is gone")
        sys.stdout.flush()
        return
    table = terminal.table("", "")
    table.show_header = False
    for name, value in _facts(entry):
        table.add_row(name, value)
    console = terminal.console()
    console.print(table)
    for line in beginning.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        console.print("  " + _octets(line, 1000), soft_wrap=True)


def _facts(entry: Entry) -> list[tuple[str, str]]:
    from gateway.cli.tree import edit_line

    rows = [
        ("id", entry.id),
        ("transaction", f"{safe(entry.transaction_id)}   (mailgateway explain {safe(entry.transaction_id)})"),
        ("state", _state(entry)),
        ("time (UTC)", terminal.moment(entry.created)),
        ("box", safe(entry.box)),
        ("verdict", f"{safe(entry.plugin)}: {safe(entry.reason)}"),
        ("evidence", safe(entry.evidence)),
        ("reverse-path", " ".join([_octets(entry.reverse_path), *map(_octets, entry.parameters)])),
    ]
    for index, (path, parameters, route) in enumerate(entry.recipients):
        done = "   released" if index in entry.released else ""
        rows.append(("recipient", " ".join([_octets(path), *map(_octets, parameters)]) + f"   route {safe(route)}{done}"))
    rows += [(safe(name), safe(str(value))) for name, value in entry.facts.items() if name != "time"]
    rows += [("edit", edit_line({**asdict(edit), "kind": type(edit).__name__})) for edit in entry.edits]
    rows += [("size", str(entry.size)), ("sha256", entry.digest)]
    if entry.last_reply:
        rows.append(("last release", safe(entry.last_reply)))
    return rows


@app.command()
def release(
    ids: Ids,
    config: ConfigOption = None,
    learn: Annotated[bool, typer.Option(help="Teach the plugin `learning`, where it is in use, that this is no spam.")] = True,
) -> None:
    """Send held messages on to their own envelopes. What the next hop refuses stays held: 1 is returned then."""
    loaded = load_or_exit(config, needs_route=True)

    async def work(quarantine: Quarantine) -> list[tuple[str, ReleaseReport]]:
        async with relay_of(loaded) as (relay, _):
            return [(id_, await _release(loaded, quarantine, relay, id_, learn=learn)) for id_ in ids]

    reports = _with_quarantine(loaded, work)
    table = terminal.table("id", "recipient", "next hop", "reply")
    for id_, report in reports:
        if report.problem:
            table.add_row(safe(id_), "", "", f"not released: {safe(report.problem)}")
        for attempt in report.attempts:
            table.add_row(safe(id_), safe(attempt.recipient), safe(attempt.next_hop), safe(str(attempt.reply)))
    terminal.console().print(table)
    if not all(report.released for _, report in reports):
        terminal.fail("what was not released is held as before")


async def _release(loaded: Loaded, quarantine: Quarantine, relay: Relay, id_: str, *, learn: bool) -> ReleaseReport:
    from gateway.quarantine.release import release
    from gateway.relay.identity import ClientFacts

    entry = await quarantine.get(id_)

    def handover(route: str, held: Entry) -> Any:
        client = ClientFacts(
            address=held.fact("client"),
            helo=held.fact("helo"),
            name=held.fact("client_name"),
            protocol=held.fact("protocol") or "SMTP",
        )
        return relay.handover(route, client)

    lesson = await read_entry(loaded, quarantine, entry) if entry is not None and learn else None  # before its content is gone
    report = await release(quarantine, id_, handover, server_name=loaded.config.server.name)
    taken = [n for n, (path, _, _) in enumerate(entry.recipients) if _delivered(report, path)] if entry else []
    if entry is not None and taken:
        await teach(loaded, lesson, "ham")
        last = next(attempt for attempt in reversed(report.attempts) if attempt.delivered)
        await _record(
            loaded,
            entry,
            "delivered",
            "quarantine-released",
            only=frozenset(taken),
            reply=str(last.reply),
            next_hop=last.next_hop,
        )
    return report


def _delivered(report: ReleaseReport, path: bytes) -> bool:
    recipient = path.decode("utf-8", "replace")
    return any(attempt.delivered and attempt.recipient == recipient for attempt in report.attempts)


@app.command()
def delete(ids: Ids, config: ConfigOption = None) -> None:
    """Remove held messages and kept copies for good. Nobody is told."""
    _delete(ids, load_or_exit(config), "quarantine-deleted", is_spam=False)


@app.command()
def report(ids: Ids, config: ConfigOption = None) -> None:
    """The same, and teach the plugin `learning`, where it is in use, that this is spam."""
    _delete(ids, load_or_exit(config), "quarantine-reported", is_spam=True)


def _delete(ids: list[str], loaded: Loaded, reason: str, *, is_spam: bool) -> None:
    async def work(quarantine: Quarantine) -> list[str]:
        left = []
        for id_ in ids:
            entry = await quarantine.get(id_)
            lesson = await read_entry(loaded, quarantine, entry) if entry is not None and is_spam else None
            if entry is None or not await quarantine.delete(id_):
                left.append(id_)
                continue
            await _record(loaded, entry, "discarded", reason)
            await teach(loaded, lesson, "spam")
        return left

    left = _with_quarantine(loaded, work)
    if left:
        terminal.fail(f"neither held nor kept: {', '.join(left)}")


async def _record(loaded: Loaded, entry: Entry, fate: str, reason: str, **facts: Any) -> None:
    """An end in the journal. It has happened: a journal that cannot be written is said, no more."""
    from gateway.journal import Journal
    from gateway.quarantine.ends import record_of

    settings = loaded.config.journal
    journal = await Journal.open(terminal.journal_file(loaded), retention=settings.retention, queue=settings.queue)
    try:
        await journal.commit(record_of(entry, now=time.time(), fate=fate, reason=reason, **facts))
    except StorageError as error:
        typer.echo(f"warning: {safe(str(error))}", err=True)
    finally:
        await journal.close()


def _with_quarantine(loaded: Loaded, work: Callable[[Quarantine], Awaitable[T]]) -> T:
    async def run() -> T:
        async with _opened(loaded) as quarantine:
            return await work(quarantine)

    try:
        return asyncio.run(run())
    except StorageError as error:
        terminal.fail(error)


@asynccontextmanager
async def _opened(loaded: Loaded) -> AsyncIterator[Quarantine]:
    from gateway.quarantine import Quarantine

    directory = terminal.quarantine_directory(loaded)
    if not directory.is_dir():
        terminal.fail(f"there is no quarantine at {directory}: the gateway makes it when it first runs")
    settings = loaded.config.quarantine
    quarantine = await Quarantine.open(directory, retention=settings.retention, lease=settings.lease)
    try:
        yield quarantine
    finally:
        await quarantine.close()


def _state(entry: Entry) -> str:
    return entry.state if entry.confirmed else f"{entry.state} (unconfirmed)"


def _octets(octets: bytes, limit: int = 500) -> str:
    return safe(octets.decode("utf-8", "backslashreplace"), limit)
