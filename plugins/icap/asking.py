"""One question to an ICAP server on a connection of its own: preview, the rest where it wants it, its answer (RFC 3507 4.5, 4.6)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from gateway import Message
from gateway.plugins.icap.protocol import (
    CHUNK_LINE,
    MAX_HEAD,
    AnswerError,
    Encapsulated,
    Head,
    chunk_size,
    http_status,
    parse_encapsulated,
    parse_head,
)
from gateway.services import Wire

PIECE = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server said of a message."""

    head: Head
    blocked: str = ""
    """What it would have shown instead: `HTTP 403`."""
    is_modified: bool = False
    """Another body came back."""


async def ask(wire: Wire, front: bytes, message: Message, preview: int | None, says: Callable[[Head], bool]) -> Answer:
    """One message. `says(head)`: all is known, what comes behind the head need not be read. AnswerError, EOFError, OSError."""
    wire.writer.write(front)
    start = 0
    if preview is not None:
        start = min(preview, message.size)
        first = message.octets[:start]
        if first:
            wire.writer.write(b"%x\r\n%b\r\n" % (len(first), first))
        is_all = start == message.size
        wire.writer.write(b"0; ieof\r\n\r\n" if is_all else b"0\r\n\r\n")
        head = parse_head(await read_head(wire))
        if head.status != 100 or is_all:
            return await _answer(wire, message, head, says)
    sending = asyncio.get_running_loop().create_task(_send(wire, message, start), name="icap is sent")
    try:
        # it may answer before it has all of it, and send the begin of a body back while it reads the rest
        return await _answer(wire, message, parse_head(await read_head(wire)), says)
    finally:
        sending.cancel()
        await asyncio.wait({sending})


async def _answer(wire: Wire, message: Message, head: Head, says: Callable[[Head], bool]) -> Answer:
    if head.status == 204:
        return Answer(head=head)
    if head.status not in {200, 206}:
        raise AnswerError(f"{head.status} {head.reason[:100]}")
    return Answer(head=head) if says(head) else await _changed(wire, message, head)


async def read_head(wire: Wire) -> bytes:
    """To its blank line. EOFError, AnswerError."""
    head = b""
    while True:
        try:
            line = await wire.reader.readline()
        except ValueError:  # longer than what is read ahead
            raise AnswerError("an answer without an end of its line") from None
        if not line.endswith(b"\n"):
            raise EOFError("in its answer")
        head += line
        if len(head) > MAX_HEAD:
            raise AnswerError(f"an answer whose head has more than {MAX_HEAD} octets")
        if not line.strip():
            return head


async def _send(wire: Wire, message: Message, start: int) -> None:
    """It may stop reading when it has seen enough: what it says of that is in its answer."""
    with suppress(OSError):
        for piece in message.content.chunks(start):
            wire.writer.write(b"%x\r\n" % len(piece))
            wire.writer.write(piece)
            wire.writer.write(b"\r\n")
            await wire.writer.drain()
        wire.writer.write(b"0\r\n\r\n")
        await wire.writer.drain()


async def _changed(wire: Wire, message: Message, head: Head) -> Answer:
    """Of a 200 that says nothing of what was found: is it a page that refuses, another body, or the same?"""
    inside: Encapsulated = parse_encapsulated(head)
    headers = await wire.reader.readexactly(inside.header_size)
    status = http_status(headers) if inside.header == "res-hdr" else None
    if status is not None and status >= 400:
        return Answer(head=head, blocked=f"HTTP {status}")
    if not inside.has_body:
        return Answer(head=head, is_modified=message.size > 0)
    at = 0
    while size := chunk_size(await _line(wire)):
        while size:
            piece = await wire.reader.readexactly(min(size, PIECE))
            if message.octets[at : at + len(piece)] != piece:
                return Answer(head=head, is_modified=True)
            at, size = at + len(piece), size - len(piece)
        if (await _line(wire)).strip():
            raise AnswerError("a chunk that is longer than it says")
    return Answer(head=head, is_modified=at != message.size)


async def _line(wire: Wire) -> bytes:
    line = await wire.reader.readline()
    if not line.endswith(b"\n"):
        raise EOFError("in a chunk")
    if len(line) > CHUNK_LINE:
        raise AnswerError("a line of a chunk without an end")
    return line
