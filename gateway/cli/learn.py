"""`mailgateway learn`: teach the plugin `learning` what is ham and what is spam, from files or by decisions about held mail."""

from __future__ import annotations

import asyncio
import mailbox
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gateway.cli import terminal
from gateway.cli.config import ConfigOption, load_or_exit
from gateway.cli.terminal import safe
from gateway.errors import StorageError

if TYPE_CHECKING:
    from gateway.config.load import Loaded
    from gateway.learning import Kind, Lesson, Memory, Status
    from gateway.quarantine import Entry, Quarantine

app = typer.Typer(no_args_is_help=True, help="What the plugin `learning` knows.")

T = TypeVar("T")
PLUGIN = "learning"
DEFAULT = "var/learning.sqlite"
MAX_MESSAGE = 50_000_000
Files = Annotated[
    list[Path], typer.Argument(metavar="FILE...", help="Messages, or mailboxes in the form mbox; - is standard input.")
]


@app.command()
def ham(files: Files, config: ConfigOption = None) -> None:
    """These are mail that people want."""
    _learn(files, "ham", load_or_exit(config))


@app.command()
def spam(files: Files, config: ConfigOption = None) -> None:
    """These are spam."""
    _learn(files, "spam", load_or_exit(config))


@app.command()
def status(config: ConfigOption = None) -> None:
    """How much was learnt."""
    file = _file_or_exit(load_or_exit(config))

    async def work(memory: Memory) -> Status:
        return await memory.status()

    found = _with_memory(file, work)
    table = terminal.table("", "")
    table.show_header = False
    for name, value in (("ham", found.ham), ("spam", found.spam), ("tokens", found.tokens), ("lessons", found.lessons)):
        table.add_row(name, f"{value:g}")
    terminal.console().print(table)


def memory_file(loaded: Loaded) -> Path | None:
    """The database of the plugin `learning` of this configuration; None where it is not in use."""
    for name, table in _uses(loaded):
        if (table.get("use") or name) == PLUGIN:
            return loaded.path(str(table.get("file") or DEFAULT))
    return None


def _uses(loaded: Loaded) -> Iterator[tuple[str, dict[str, Any]]]:
    """The plugins of all chains, each with its table."""
    chains = [loaded.config.plugins, *(one.plugins for one in loaded.config.listener if one.plugins is not None)]
    for entry in (entry for chain in chains for entry in chain):
        own = dict(entry) if isinstance(entry, dict) else {}
        name = str(own.pop("name", entry))
        yield name, {**loaded.config.plugin.get(name, {}), **own}


async def read_entry(loaded: Loaded, quarantine: Quarantine, entry: Entry) -> Lesson | None:
    """What a held message teaches; None where nothing learns. StorageError."""
    if memory_file(loaded) is None or not entry.blob:
        return None
    from gateway.learning import lesson_of, read_message
    from gateway.message import Message

    content = await quarantine.content(entry)
    try:
        return lesson_of(read_message(Message(content)))
    finally:
        content.close()


async def teach(loaded: Loaded, lesson: Lesson | None, kind: Kind) -> None:
    """A decision that was carried out. That it cannot be learnt is said, no more."""
    file = memory_file(loaded)
    if lesson is None or file is None:
        return
    from gateway.learning import Memory

    try:
        memory = await Memory.open(file)
        try:
            await memory.learn(lesson, kind)
        finally:
            await memory.close()
    except StorageError as error:
        typer.echo(f"warning: not learnt: {safe(str(error))}", err=True)


def _learn(files: list[Path], kind: Kind, loaded: Loaded) -> None:
    file = _file_or_exit(loaded)
    counts = {"learnt": 0, "changed": 0, "known": 0}

    async def work(memory: Memory) -> list[str]:
        from gateway.content import Content
        from gateway.learning import lesson_of, read_message
        from gateway.message import Message

        failed = []
        for one in files:
            try:
                for octets in _messages(one):
                    lesson = lesson_of(read_message(Message(Content(octets))))
                    counts[await memory.learn(lesson, kind)] += 1
            except (OSError, ValueError) as error:
                failed.append(f"{one}: {error}")
        return failed

    failed = _with_memory(file, work)
    typer.echo(f"{kind}: {counts['learnt']} learnt, {counts['changed']} changed, {counts['known']} known before")
    if failed:
        terminal.fail("; ".join(failed))


def _file_or_exit(loaded: Loaded) -> Path:
    file = memory_file(loaded)
    if file is None:
        terminal.fail("no plugin `learning` in any chain of the configuration")
    return file


def _with_memory(file: Path, work: Callable[[Memory], Awaitable[T]]) -> T:
    async def run() -> T:
        from gateway.learning import Memory

        memory = await Memory.open(file)
        try:
            return await work(memory)
        finally:
            await memory.close()

    try:
        return asyncio.run(run())
    except StorageError as error:
        terminal.fail(error)


def _messages(file: Path) -> Iterator[bytes]:
    """The messages of a file, with the line ends of mail. OSError; ValueError for one that is too large."""
    if str(file) == "-":
        yield _as_mail(sys.stdin.buffer.read(MAX_MESSAGE + 1))
        return
    with file.open("rb") as opened:
        is_mailbox = opened.read(5) == b"From "
    if not is_mailbox:
        with file.open("rb") as opened:
            yield _as_mail(opened.read(MAX_MESSAGE + 1))
        return
    box = mailbox.mbox(file, create=False)
    try:
        for key in box.iterkeys():
            yield _as_mail(box.get_bytes(key))
    finally:
        box.close()


def _as_mail(octets: bytes) -> bytes:
    if len(octets) > MAX_MESSAGE:
        raise ValueError(f"more than {MAX_MESSAGE} octets in one message")
    from gateway.smtp.dotstream import normalised

    return normalised(octets)
