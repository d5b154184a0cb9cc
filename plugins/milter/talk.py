"""A conversation with one milter on one connection: what is said, what is answered, and in what time. The codec knows the order."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace

from gateway.milter.codec import (
    Abort,
    Actions,
    Agreement,
    Answer,
    BadPacket,
    CodecError,
    Command,
    Edit,
    Macros,
    Negotiate,
    Packet,
    Progress,
    Quit,
    QuitNewConnection,
    Reader,
    SetMacros,
    State,
    Steps,
    after_answer,
    after_command,
    agree,
    is_last,
    offer,
    read_answers,
    write,
)
from gateway.services import Cause, Service, ServiceError, Wire

ACTIONS = Actions(0x1FF)
"""All: libmilter gives up where one that it wants is not offered. What cannot be carried out is a fault when it is asked for."""
STEPS = (
    *(Steps.NOCONNECT, Steps.NOHELO, Steps.NOMAIL, Steps.NORCPT, Steps.NOBODY, Steps.NOHDRS, Steps.NOEOH, Steps.NOUNKNOWN),
    *(Steps.NODATA, Steps.SKIP, Steps.HDR_LEADSPC, Steps.NR_HDR, Steps.NR_CONN, Steps.NR_HELO, Steps.NR_MAIL, Steps.NR_RCPT),
    *(Steps.NR_DATA, Steps.NR_UNKN, Steps.NR_EOH, Steps.NR_BODY),
)
MAX_EDITS = 10_000
"""Edits of one message."""
MAX_PROGRESS = 100_000
READ = 64 * 1024
TRANSACTION = frozenset({State.MAIL, State.RCPT, State.DATA, State.HEADER, State.BODY, State.SKIPPING})


class ClosedError(Exception):
    """The milter had closed a kept connection: another one may do."""


@dataclass(slots=True)
class _Known:
    """What is kept of a connection from one client to the next."""

    reader: Reader[Answer]
    agreed: Agreement


class Talk:
    """For one client; ServiceError says that the milter failed, and the connection is of no more use."""

    def __init__(self, service: Service, wire: Wire, limit: float) -> None:
        self._service = service
        self._wire = wire
        self._limit = limit
        self._answers: deque[Answer] = deque()
        self._is_open = True
        self.state = State.NEW
        self.agreed = Agreement()
        self._reader: Reader[Answer] = read_answers()

    @classmethod
    async def open(cls, service: Service, limit: float) -> Talk:
        """On a kept connection, or a new one with its negotiation. ServiceError."""
        talk = cls(service, await service.lend(), limit)
        known = talk._wire.known
        if isinstance(known, _Known):
            talk._reader, talk.agreed, talk.state = known.reader, known.agreed, State.NEGOTIATED
            return talk
        await talk._negotiate()
        return talk

    @property
    def is_in_transaction(self) -> bool:
        """MAIL was said, and its end not answered."""
        return self.state in TRANSACTION

    async def ask(
        self, command: Command, macros: Macros | None = None, *, total: float | None = None
    ) -> tuple[Answer | None, list[Edit]]:
        """What the milter answers, and the edits that stand in front; None where nothing is sent or answered.

        Each answer, and each sign of life, has the limit; `total`: all of them together.
        """
        kind = type(command)
        if not self.agreed.is_sent(kind):
            if macros is not None:
                await self._say(macros)
            return None, []
        try:
            self.state = after_command(self.state, kind, self.agreed)
            await self._say(*([macros] if macros is not None else []), command)
            if not self.agreed.is_answered(kind):
                return None, []
            limit = self._limit if total is None else total
            async with asyncio.timeout(limit):
                return await self._answer(kind)
        except TimeoutError:
            raise self._fail(
                f"no answer to {kind.__name__} within {self._limit if total is None else total:g} s", "timeout"
            ) from None
        except CodecError as error:
            raise self._fail(f"{kind.__name__}: {error}") from error

    async def end(self, *, reuse: bool) -> None:
        """The client is gone; with `reuse` the connection is kept, where the milter's version has a word for that."""
        if not self._is_open:
            return
        keeps = reuse and self.agreed.is_sent(QuitNewConnection) and self.state not in {State.NEW, State.CLOSED}
        try:
            parting: Packet = QuitNewConnection() if keeps else Quit()
            await self._say(*([Abort()] if self.is_in_transaction else []), parting)
        except ServiceError:
            return
        self._is_open = False
        self._wire.known = _Known(self._reader, self.agreed)
        self._service.take_back(self._wire, keep=keeps and not self._answers and not self._reader.waiting)

    async def abort(self) -> None:
        """The transaction came to nothing."""
        if self._is_open and self.is_in_transaction:
            self.state = after_command(self.state, Abort, self.agreed)
            await self._say(Abort())

    def cut(self) -> None:
        """Close the connection, whatever is under way."""
        if self._is_open:
            self._is_open = False
            self._service.take_back(self._wire, keep=False)

    async def _negotiate(self) -> None:
        steps = Steps(0)
        for step in STEPS:
            steps |= step
        offered = offer(ACTIONS, steps)
        try:
            self.state = after_command(self.state, Negotiate, self.agreed)
            await self._say(offered)
            named: list[SetMacros] = []
            async with asyncio.timeout(self._limit):
                while isinstance(answer := await self._next(), SetMacros):
                    named.append(answer)
            if not isinstance(answer, Negotiate):
                raise BadPacket(f"{type(answer).__name__} instead of a negotiation")
            agreed = agree(offered, answer)
            self.agreed = replace(agreed, symbols=(*agreed.symbols, *((one.stage, one.names) for one in named)))
        except TimeoutError:
            raise self._fail(f"no negotiation within {self._limit:g} s", "timeout") from None
        except CodecError as error:
            raise self._fail(str(error)) from error

    async def _answer(self, kind: type[Command]) -> tuple[Answer, list[Edit]]:
        clock = asyncio.get_running_loop().time
        asked = clock()
        edits: list[Edit] = []
        signs = 0
        while True:
            async with asyncio.timeout(self._limit):
                answer = await self._next()
            self.state = after_answer(self.state, kind, answer, self.agreed)
            if is_last(answer):
                self._service.succeeded(clock() - asked)
                return answer, edits
            if isinstance(answer, Progress):
                signs += 1
            elif not isinstance(answer, SetMacros | Negotiate):
                edits.append(answer)  # type: ignore[arg-type] # what is no verdict and no sign of life is an edit
            if len(edits) > MAX_EDITS or signs > MAX_PROGRESS:
                raise BadPacket(f"more than {MAX_EDITS} edits or {MAX_PROGRESS} signs of life")

    async def _next(self) -> Answer:
        while not self._answers:
            try:
                some = await self._wire.reader.read(READ)
            except OSError as error:
                raise self._lost() from error
            if not some:
                raise self._lost()
            self._answers.extend(self._reader.feed(some))
        return self._answers.popleft()

    async def _say(self, *packets: Packet) -> None:
        try:
            self._wire.writer.write(write(*packets))
            async with asyncio.timeout(self._limit):
                await self._wire.writer.drain()
        except TimeoutError:
            raise self._fail(f"takes nothing for {self._limit:g} s", "timeout") from None
        except OSError as error:
            raise self._lost() from error

    def _lost(self) -> Exception:
        if self._wire.uses and self.state is State.CONNECTED:
            self.cut()
            return ClosedError()
        return self._fail("the connection was closed", "closed")

    def _fail(self, problem: str, cause: Cause = "answer") -> ServiceError:
        self.cut()
        return self._service.failed(problem, cause)
