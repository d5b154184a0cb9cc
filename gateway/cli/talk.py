"""`mailgateway talk`: an SMTP session on the terminal against the real configuration, as from any client; nothing is delivered."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import terminal
from gateway.cli.config import ConfigOption, exit_with, load_or_exit
from gateway.cli.rehearsing import (
    AnswerOption,
    ContentOption,
    LogLevel,
    LogOption,
    MailOption,
    RcptOption,
    ScriptOption,
    ZoneOption,
    log_to_terminal,
    resolver_of,
    script_of,
    tell_of_route,
)

if TYPE_CHECKING:
    from gateway.config.load import Loaded
    from gateway.config.models import Config
    from gateway.context import Resolver
    from gateway.testing.overheard import Visitor
    from gateway.testing.rehearsal import PosedOrigin
    from gateway.testing.script import Script
    from gateway.trace import Record, StepRecord

PIECE = 1 << 16
"""Octets read at once; a longer line goes on in pieces."""
MOST_RECORDS = 50
"""Trees that are printed at the end; of more transactions the last ones."""
MOST_LINKS = 1_000
"""Connections to the next hop that are told apart."""


def talk(
    *,
    ip: Annotated[str, typer.Option(help="Address of the client.")] = "192.0.2.1",
    tls: Annotated[bool, typer.Option("--tls", help="The session counts as TLS, without a handshake.")] = False,
    helo: Annotated[str, typer.Option(help="Say EHLO with this name first.")] = "",
    identity: Annotated[
        str, typer.Option(help="Then authenticate as this; any password is right at the scripted next hop.")
    ] = "",
    listener: Annotated[str, typer.Option(help="Which listener; default: the first.")] = "",
    rcpt: RcptOption = None,
    mail: MailOption = "",
    content: ContentOption = None,
    answer: AnswerOption = None,
    script: ScriptOption = None,
    zone: ZoneOption = None,
    log: LogOption = LogLevel.WARNING,
    config: ConfigOption = None,
) -> None:
    """Hold an SMTP session on the terminal, or from a pipe, and see what the chain does between the replies.

    The configuration is the real one; the next hop is a scripted one that accepts what it is not told to refuse, nothing is stored, and
    the journal is not written. At the end comes the decision on each transaction, as `check` prints it.
    """
    from gateway.errors import ConfigError, PluginError

    loaded = load_or_exit(config)
    said = script_of(rcpt=rcpt, mail=mail, content=content, answer=answer, script=script)
    origin = _origin(ip, is_tls=tls)
    names = [one.name for one in loaded.config.listener]
    if listener and listener not in names:
        raise typer.BadParameter(f"no listener {listener!r}; there are: {', '.join(names)}", param_hint="--listener")
    tell_of_route(loaded.config)
    log_to_terminal(loaded.config, log, "talk")
    first = _first_words(helo, identity)

    async def run() -> None:
        from gateway.testing.developing import with_route

        changed = with_route(loaded.config)
        resolver = resolver_of(changed, zone)
        try:
            await _Talk(said, origin, listener).run(loaded, changed, resolver, first)
        finally:
            close = getattr(resolver, "close", None)
            if close is not None:
                await close()

    try:
        asyncio.run(run())
    except ConfigError as error:
        exit_with(error)
    except PluginError as error:
        terminal.fail(error)


def _origin(address: str, *, is_tls: bool) -> PosedOrigin:
    from gateway.testing.rehearsal import ASSUMED_TLS, PosedOrigin

    try:
        client = ipaddress.ip_address(address)
    except ValueError as error:
        raise typer.BadParameter(f"{address!r} is not an IP address", param_hint="--ip") from error
    return PosedOrigin(address=str(client), port=49152, tls=ASSUMED_TLS if is_tls else None)


def _first_words(helo: str, identity: str) -> list[bytes]:
    """What is said before the person has a say."""
    import base64

    for name, option in ((helo, "--helo"), (identity, "--identity")):
        if any(ord(one) < 33 or ord(one) > 126 for one in name):
            raise typer.BadParameter(f"{name!r}: printable ASCII without spaces", param_hint=option)
    lines = [f"EHLO {helo or 'client.example'}\r\n".encode()] if helo or identity else []
    if identity:
        response = base64.b64encode(f"\0{identity}\0any password".encode()).decode()
        lines.append(f"AUTH PLAIN {response}\r\n".encode())
    return lines


class _Input:
    """Standard input in pieces, read by a thread that waits when nobody takes them. None: it has ended."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(2)
        self._rest = b""
        self._ended = False
        threading.Thread(target=self._read, name="input", daemon=True).start()

    def _read(self) -> None:
        """`os.read`, since a thread inside of `sys.stdin` would hold up the end of the process."""
        while True:
            try:
                piece = os.read(0, PIECE)
            except OSError:
                piece = b""
            try:
                asyncio.run_coroutine_threadsafe(self._pieces.put(piece or None), self._loop).result()
            except (RuntimeError, CancelledError):  # the loop has ended
                return
            if not piece:
                return

    def stop(self) -> None:
        """As if it had ended."""
        self._ended = True
        self._rest = b""
        if self._pieces.empty():
            self._pieces.put_nowait(None)

    async def line(self) -> bytes | None:
        """The next line with CRLF; a piece of it without, where it is longer than one."""
        while (end := self._rest.find(b"\n")) < 0 and len(self._rest) < PIECE and not self._ended:
            piece = await self._pieces.get()
            if piece is None:
                self._ended = True
            else:
                self._rest += piece
        if end >= 0:
            line, self._rest = self._rest[:end], self._rest[end + 1 :]
            return line.removesuffix(b"\r") + b"\r\n"
        if not self._rest:
            return None
        piece, self._rest = self._rest[:PIECE], self._rest[PIECE:]
        return piece + b"\r\n" if self._ended and not self._rest else piece


class _Talk:
    """One session and what is printed of it."""

    def __init__(self, script: Script, origin: PosedOrigin, listener: str) -> None:
        from gateway.testing.overheard import OverheardLink

        self._script = script
        self._origin = origin
        self._listener = listener
        self._console = terminal.console()
        self._is_terminal = sys.stdin.isatty()
        self._records: deque[Record] = deque(maxlen=MOST_RECORDS)
        self._count = 0
        self._links: dict[int, OverheardLink] = {}
        self._make_link: Callable[[Callable[[str, str], None]], OverheardLink] = OverheardLink
        self._replies = b""
        self._is_challenged = False
        self._visitor: Visitor | None = None

    async def run(self, loaded: Loaded, config: Config, resolver: Resolver, first: list[bytes]) -> None:
        from gateway.testing.in_process import InProcessGateway, MemoryJournal
        from gateway.testing.overheard import Visitor
        from gateway.testing.rehearsal import NextHops, SaidCopies

        with tempfile.TemporaryDirectory(prefix="mailgateway-talk-") as directory:
            async with NextHops(config, self._script, overhear=self._overhear) as hops:
                gateway = InProcessGateway(
                    config,
                    directory=Path(directory),
                    base=loaded.directory,
                    locate=loaded.locate,
                    resolver=resolver,
                    copies=SaidCopies(self._note),
                    relay=hops.relay,
                    journal=MemoryJournal(self._recorded, keep=False),
                    accept=_nobody,
                )
                async with gateway:
                    self._visitor = visitor = Visitor(gateway.door(self._listener), self._origin, self._said)
                    await self._converse(visitor, first)
                    if self._is_terminal:
                        self._console.print()
                    await visitor.leave()
                    self._show_steps()
                    self._show_replies()
        if self._count > len(self._records):
            self._print(f"({self._count - len(self._records)} transactions before these)", "dim")
        from gateway.cli.tree import render

        for record in self._records:
            self._console.print()
            self._console.print(render(record))

    async def _converse(self, visitor: Visitor, first: list[bytes]) -> None:
        server = visitor.server
        source = _Input()
        if self._is_terminal:
            whose = "with TLS" if self._origin.tls is not None else "without TLS"
            self._print(
                f"(you are a client at {self._origin.address}, {whose}; nothing is delivered; Ctrl-D or Ctrl-C hangs up)", "dim"
            )
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, source.stop)
        await self._settle(visitor)
        for word in first:
            self._print(f"C: {_masked(word)}", "bold")
            visitor.say(word)
            await self._settle(visitor)
        while not server.has_ended:
            line = await self._next_line(visitor, source)
            if line is None:
                return
            if line[:8].upper() == b"STARTTLS" and not server.takes_content:
                self._print("(a handshake cannot be typed: begin with --tls, and the session counts as TLS)", "dim")
                continue
            if server.takes_content:
                await self._content(visitor, source, line)
            else:
                self._echo(line)
                visitor.say(line)
            if line.endswith(b"\n"):
                await self._settle(visitor)

    async def _next_line(self, visitor: Visitor, source: _Input) -> bytes | None:
        """The next line of the person, or None when there is none, or the server has ended the session meanwhile."""
        self._prompt()
        asked = asyncio.get_running_loop().create_task(source.line())
        while not asked.done():
            await asyncio.wait([asked], timeout=0.2)
            if visitor.server.has_ended:
                asked.cancel()
                return None
        return asked.result()

    async def _content(self, visitor: Visitor, source: _Input, first: bytes) -> None:
        """Content as fast as it comes: up to the final dot, or one line of a chunk."""
        is_chunk = visitor.server.takes_chunk
        line: bytes | None = first
        begins, size = True, 0
        while line is not None:
            visitor.say(line)
            size += len(line)
            if is_chunk or (begins and line == b".\r\n") or visitor.server.has_ended:
                if not self._is_terminal:
                    self._print(f"C: ({size} octets of {'a chunk' if is_chunk else 'content'})", "bold")
                return
            begins = line.endswith(b"\n")
            await asyncio.sleep(0)  # the others' turn; content goes to a file as it comes
            self._prompt()
            line = await source.line()
        self._print("(the input ended within the content: the client is gone, and nothing was decided)", "dim")
        await visitor.leave()

    async def _settle(self, visitor: Visitor) -> None:
        await visitor.rest()
        self._show_steps()
        self._show_replies()

    # --- what is heard

    def _said(self, octets: bytes) -> None:
        self._replies += octets

    def _recorded(self, record: Record) -> None:
        self._count += 1
        self._records.append(record)
        if self._visitor is not None:
            self._steps(self._visitor.server.unseen(record))

    def _overhear(self, connection: int, who: str, octets: bytes) -> None:
        link = self._links.get(connection)
        if link is None:
            if len(self._links) >= MOST_LINKS:
                self._links.pop(next(iter(self._links)))
            link = self._links[connection] = self._make_link(self._link_line)
        if octets:
            link.hear(who, octets)

    def _link_line(self, who: str, text: str) -> None:
        self._show_steps()
        self._print(f"    {who}: {terminal.safe(text)}", "dim")

    # --- what is printed

    def _prompt(self) -> None:
        if self._is_terminal:
            self._console.print("C: ", end="")

    def _echo(self, line: bytes) -> None:
        """What came from a pipe; on a terminal it stands there already."""
        if not self._is_terminal:
            self._print("C: …" if self._is_challenged else f"C: {_masked(line)}", "bold")

    def _show_replies(self) -> None:
        lines = self._replies.split(b"\r\n")
        self._replies = lines.pop()
        for line in lines:
            style = {"2": "green", "3": "green", "4": "magenta", "5": "red"}.get(line[:1].decode("ascii", "replace"), "")
            self._print(f"S: {terminal.safe(line.decode('utf-8', 'backslashreplace'))}", style)
            self._is_challenged = line[:3] == b"334"

    def _show_steps(self) -> None:
        if self._visitor is not None:
            self._steps(self._visitor.server.new_steps())

    def _steps(self, steps: list[StepRecord]) -> None:
        from rich.segment import Segment, Segments

        from gateway.cli.tree import render_steps

        if not steps:
            return
        console = self._console
        options = console.options.update_width(max(20, console.width - 4))
        for line in console.render_lines(render_steps(steps), options, pad=False):
            console.print(Segments([Segment("    "), *line, Segment.line()]), end="")

    def _note(self, text: str) -> None:
        self._show_steps()
        self._print(f"    {terminal.safe(text)}", "yellow")

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(text, style=style, soft_wrap=True)


def _masked(line: bytes) -> str:
    from gateway.testing.overheard import shown

    return terminal.safe(shown(line.removesuffix(b"\r\n")))


async def _nobody(_: Any) -> None:
    """No socket is opened."""
