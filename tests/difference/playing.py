"""One session against one server, and many of them at once. RFC 5321 4.2."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tests.difference.sessions import Session, Step

PATIENCE = 60.0
"""Seconds for a whole session."""
_ENHANCED = re.compile(rb"\d{3}[ -]([245]\.\d{1,3}\.\d{1,3}) ")


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply, all its lines; no octets where the connection had ended."""

    octets: bytes = b""

    @property
    def code(self) -> int:
        """0: the connection had ended."""
        return int(self.octets[:3]) if self.octets else 0

    @property
    def enhanced(self) -> str:
        """The enhanced status code, `` without one."""
        found = _ENHANCED.match(self.octets)
        return found[1].decode() if found is not None else ""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A step and what it got: a reply, and another one for the content where that was asked for."""

    step: Step
    answer: Answer
    content: Answer | None = None


def has_hung_up(exchanges: Sequence[Exchange]) -> bool:
    """The connection ended, and no reply had said so."""
    at = next((number for number, one in enumerate(exchanges) if not one.answer.octets), 0)
    return at > 0 and (exchanges[at - 1].content or exchanges[at - 1].answer).code not in {221, 421, 521}


async def play(port: int, session: Session) -> list[Exchange]:
    """Say it to 127.0.0.1:port. TimeoutError names the step that got no reply."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        try:
            return await _say(reader, writer, session)
        finally:
            writer.close()


async def _say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, session: Session) -> list[Exchange]:
    greeting = await _reply(reader)
    assert greeting.code == 220, greeting
    exchanges: list[Exchange] = []
    at = 0
    while at < len(session):
        end = at + 1
        while end < len(session) and session[end].joined:
            end += 1
        group = session[at:end]
        if exchanges and not exchanges[-1].answer.octets:  # it has hung up
            exchanges += [Exchange(step, Answer()) for step in group]
            at = end
            continue
        writer.write(b"".join(step.octets for step in group))
        for step in group:
            answer, content = await _reply(reader), None
            if answer.code == 354:
                writer.write(step.content or b".\r\n")
                content = await _reply(reader)
            exchanges.append(Exchange(step, answer, content))
        at = end
    return exchanges


async def _reply(reader: asyncio.StreamReader) -> Answer:
    lines = []
    while True:
        try:
            line = await reader.readline()
        except ConnectionError:
            return Answer()
        if not line:
            return Answer()
        lines.append(line)
        if line[3:4] != b"-":
            return Answer(b"".join(lines))


async def play_all(port: int, sessions: Sequence[Session], *, at_once: int) -> list[list[Exchange]]:
    """All sessions, some of them at the same time; the results in their order."""
    results: list[list[Exchange]] = [[] for _ in sessions]
    numbers = iter(range(len(sessions)))

    async def work() -> None:
        for number in numbers:
            results[number] = await play(port, sessions[number])

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return results
