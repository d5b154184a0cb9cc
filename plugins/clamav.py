"""Ask clamd whether a message carries malware: INSTREAM over TCP or a UNIX socket (clamd(8)), straight from the spool, in chunks.

What a signature leads to is a matter of its name: some are malware, others heuristics, unwanted programs, or only say that an archive is
encrypted. Servers, limits and what happens to large messages are `gateway.scanning`.
"""

from __future__ import annotations

import asyncio
import calendar
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import Field, model_validator

from gateway import (
    Context,
    Duration,
    Fact,
    Finding,
    Label,
    Message,
    PluginOptions,
    Score,
    Size,
    Transaction,
    Verdict,
    hook,
    quarantine,
    reject,
)
from gateway.scanning import ServerNames, ServerOptions, ServerScanner, shown
from gateway.services import BadAnswerError, Service, Wire

Then = Literal["reject", "quarantine", "score", "finding"]
LOOK_AGAIN = 3600.0
"""Seconds between two looks at the age of a server's signatures."""
SIZE = 4
"""Octets that say how long a chunk is."""
_TOO_LONG = "INSTREAM size limit exceeded"


class Signature(PluginOptions):
    """What a found signature does: one row of `[[plugin.clamav.signature]]`."""

    name: str = Field(min_length=1, max_length=200)
    """A pattern with `*` and `?`: `PUA.*`."""
    then: Then
    """`reject`, `quarantine`, `score`, or `finding`: nothing but a finding, for rules to read."""
    score: float = Field(default=0.0, ge=-1000, le=1000)
    """With `score`."""
    box: str = Field(default="", pattern=r"^([a-z0-9][a-z0-9_-]{0,31})?$")
    """With `quarantine`; empty: the plugin's own `box`."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Signature:
        if (self.then == "score") != bool(self.score):
            raise ValueError(f'found then = "{self.then}" and score = {self.score:g}; allowed: a score, where then = "score"')
        return self


LATER = (
    Signature(name="Heuristics.Encrypted.*", then="finding"),
    Signature(name="Heuristics.Limits.*", then="finding"),
    Signature(name="PUA.*", then="finding"),
)
"""Behind the rows of the configuration: what clamd says of things that are no malware."""


class Options(ServerOptions):
    """`[plugin.clamav]`."""

    server: ServerNames = ("unix:/run/clamav/clamd.ctl",)
    """Where clamd listens: `host:port`, `[::1]:port` or `unix:/path`; a list of them is asked in order until one answers."""
    max_size: Size = 26_214_400
    """Larger messages are not scanned; they get the label `NAME.too_large`. No more than clamd's StreamMaxLength."""
    found: Literal["reject", "quarantine", "finding"] = "reject"
    """What a signature does that no row of `signature` names."""
    signature: tuple[Signature, ...] = Field(default=(), max_length=1000)
    """What others do; the first row whose pattern is the name's holds."""
    max_age: Duration = 3 * 86_400.0
    """A warning in the log when clamd's official signatures are older, looked at once an hour by a ping; 0: never."""
    keep: bool = False
    """A copy of what is refused is kept for the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What clamd said of a message."""

    server: str
    signature: str = ""
    """What it found; `` for nothing."""
    is_too_long: bool = False
    """It did not look: the message is longer than its StreamMaxLength."""


class Clamav(ServerScanner[Options]):
    """The plugin."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        super().__init__(options, name=name, context=context)
        self._look_again: dict[Service, float] = {}

    @hook
    async def check(self, message: Message) -> list[Finding]:
        """Ask, and give what was found."""
        if label := self.is_too_large(message):
            return [label]
        said = await self.ask(lambda service: _scan(service, message))
        if said.is_too_long:
            return [self.too_large(f"not scanned: {message.size} octets are more than StreamMaxLength of {said.server}")]
        if not said.signature:
            return [Fact(name=f"{self.name}.clean", value=said.server)]
        row = self._row(said.signature)
        score = row.score if row is not None else 0.0
        return [
            Label(name=f"{self.name}.found", evidence=f"{said.signature} by {said.server}"),
            Score(symbol=said.signature, weight=score, evidence=said.server),
        ]

    @hook(cheap=True)
    def judge(self, transaction: Transaction) -> Verdict | None:
        """What the signature leads to, or the size."""
        for found in transaction.findings.by(self.name, Score):
            row = self._row(found.symbol)
            then: Then = self.options.found if row is None else row.then
            evidence = f"{found.symbol} by {found.evidence}"
            if then == "reject":
                return reject(
                    f"Malware found: {found.symbol}",
                    code=554,
                    enhanced="5.7.1",
                    reason="malware",
                    keep=self.options.keep,
                    evidence=evidence,
                )
            if then == "quarantine":
                box = row.box if row is not None and row.box else self.options.box
                return quarantine("malware", box=box, evidence=evidence)
        return self.judge_size(transaction)

    async def ping(self, service: Service) -> None:
        """PING, PONG; once an hour also how old its signatures are."""
        if (answer := await _say(service, b"PING")) != b"PONG":
            raise BadAnswerError(f"{shown(answer, 80)!r} instead of PONG")
        now = asyncio.get_running_loop().time()
        if self.options.max_age and now >= self._look_again.get(service, 0.0):
            self._look_again[service] = now + LOOK_AGAIN
            version = shown(await _say(service, b"VERSION"), 100)
            made = made_at(version)
            if made is not None and self.context.clock() - made > self.options.max_age:
                self.context.log.warning("clamav.old_signatures", server=str(service.address), version=version)

    def _row(self, signature: str) -> Signature | None:
        """The row of the configuration, or the built-in one, that a name belongs to."""
        for row in (*self.options.signature, *LATER):
            if fnmatchcase(signature, row.name):
                return row
        return None


def made_at(version: str) -> float | None:
    """When the official signatures were made, in seconds since the epoch: `ClamAV 1.4.6/27500/Thu Nov 26 09:00:00 2026`."""
    date = version.rpartition("/")[2]
    try:
        return calendar.timegm(time.strptime(date, "%a %b %d %H:%M:%S %Y"))
    except (ValueError, OverflowError):
        return None


async def _say(service: Service, command: bytes) -> bytes:
    """A command without content, and its answer."""
    async with service.connected() as wire:
        wire.writer.write(b"z" + command + b"\0")
        return await _read(wire)


async def _scan(service: Service, message: Message) -> Said:
    """One message on a connection of its own. BadAnswerError for an answer that says nothing about the message."""
    server = str(service.address)
    async with service.connected() as wire:
        with socket.socket(fileno=os.dup(wire.writer.get_extra_info("socket").fileno())) as same:
            answering = asyncio.get_running_loop().create_task(_read(wire), name="clamd answers")
            try:
                with suppress(OSError):  # it stops reading when it has seen enough: what it says of that is in its answer
                    await _send(wire, message, answering)
                answer = await answering
            except OSError:
                answer = _unread(same)
            finally:
                answering.cancel()
    return parse(answer, server)


def _unread(same: socket.socket) -> bytes:
    """The answer that lies in the system's buffer, where the transport was closed because more could not be sent. OSError, EOFError."""
    same.setblocking(False)
    octets = same.recv(4096)
    if not octets.endswith(b"\0"):
        raise EOFError
    return octets[:-1]


async def _send(wire: Wire, message: Message, answering: asyncio.Task[bytes]) -> None:
    """The content, for as long as no answer came: each chunk behind its size, and a size of 0 at the end."""
    writer = wire.writer
    writer.write(b"zINSTREAM\0")
    for chunk in message.content.chunks():
        if answering.done():
            return
        writer.write(len(chunk).to_bytes(SIZE))
        writer.write(chunk)
        await writer.drain()
    writer.write(bytes(SIZE))
    await writer.drain()


async def _read(wire: Wire) -> bytes:
    """An answer without its NUL. EOFError where it ends before, BadAnswerError where it does not end."""
    try:
        return (await wire.reader.readuntil(b"\0"))[:-1]
    except asyncio.LimitOverrunError:
        raise BadAnswerError("an answer without end") from None


def parse(answer: bytes, server: str) -> Said:
    """`stream: OK`, `stream: NAME FOUND`, or why there was no scan. BadAnswerError."""
    text = shown(answer, 300)
    if text.startswith(_TOO_LONG):
        return Said(server=server, is_too_long=True)
    name, _, said = text.partition(": ")
    if name == "stream" and said == "OK":
        return Said(server=server)
    # with ExtendedDetectionInfo the digest and size of the file follow: Eicar-Signature(44d88612fea8a8f36de82e1278abb02f:68)
    signature = said.removesuffix(" FOUND").partition("(")[0].strip()
    if name == "stream" and said.endswith(" FOUND") and signature:
        return Said(server=server, signature=signature.replace(" ", "_")[:200])
    raise BadAnswerError(f"said {text[:200]!r}")
