"""A milter: the listener that an MTA connects to for each of its clients. Border: the transport, the clock, and the task of a connection.

Packets are read as they come and done one after the other; headers and bodies are not answered one by one, where the MTA can do
without. What is no milter protocol, or comes when it may not, ends the connection, and the MTA does what it is set to do without us.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog
from typing_extensions import override

from gateway import metrics
from gateway.milter import codec
from gateway.milter.codec import Actions, Steps
from gateway.milter.content import MilterIntake
from gateway.milter.ending import finish
from gateway.milter.facts import WANTED, Macros
from gateway.milter.talking import MtaTalk, begin, connected, data, greeted, mail, rcpt
from gateway.smtp.connections import Seat
from gateway.smtp.origin import endpoint
from gateway.smtp.relaying import contains
from gateway.smtp.transactions import abandon, tell_observers

if TYPE_CHECKING:
    from gateway.smtp.site import Door

log = structlog.get_logger("mailgateway.milter")

PAUSE_AT = 4 * 1024 * 1024
"""Octets of packets that wait; then the MTA has to."""
TURN = 200
"""Packets in a row; then others have their turn."""
PROGRESS_EVERY = 10.0
"""Seconds between signs of life while the end of a message is decided. Before that Sendmail and libmilter know none."""
IDLE_ROUNDS = 2
"""So many times `[limits] idle` may pass between two packets outside of a transaction: the MTA waits as long for its client."""
_VERBS: dict[type[codec.Command], str] = {
    codec.Connect: "CONNECT",
    codec.Helo: "HELO",
    codec.Mail: "MAIL",
    codec.Rcpt: "RCPT",
    codec.Data: "DATA",
    codec.EndOfBody: "DATA",
}
_ACTIONS = (
    *(Actions.ADDHDRS, Actions.CHGHDRS, Actions.CHGBODY, Actions.ADDRCPT, Actions.ADDRCPT_PAR),
    *(Actions.DELRCPT, Actions.CHGFROM, Actions.QUARANTINE),
)


class _Over(Exception):  # noqa: N818 - not an error: nothing more is read
    """The connection ends."""


def milter_protocols(door: Door, loop: asyncio.AbstractEventLoop) -> Callable[[], asyncio.BaseProtocol]:
    """What a door makes for each connection."""
    return lambda: MilterServer(door, loop)


class MilterServer(asyncio.Protocol):
    """One connection of an MTA."""

    def __init__(self, door: Door, loop: asyncio.AbstractEventLoop) -> None:
        self._door = door
        self._loop = loop
        self._delivery = door.site.delivery.behind_mta()
        self._reader = codec.read_commands()
        self._commands: deque[tuple[codec.Command, int]] = deque()
        self._waiting = 0
        """Octets of them."""
        self._fault: codec.BadPacket | None = None
        self._transport: asyncio.Transport | None = None
        self._wake = asyncio.Event()
        self._is_idle = False
        self._lost = False
        self._reading_paused = False
        self._task: asyncio.Task[None] | None = None
        self._seat: Seat | None = None
        self._peer = ""
        self._state = codec.State.NEW
        self._agreed = codec.Agreement()
        self._macros = Macros()
        self._mta: MtaTalk | None = None
        self._ends_at = loop.time() + door.site.limits.session_time

    # --- the transport's side

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # what a listening socket makes
        self._transport = transport
        self._peer = endpoint(transport, "peername")[0]
        door = self._door
        door.enter(self)
        metrics.count_session()
        self._task = self._loop.create_task(self._converse())

    @override
    def data_received(self, data: bytes) -> None:
        if self._fault is not None:
            return
        try:
            for command in self._reader.feed(data):
                size = len(command.chunk) if isinstance(command, codec.Body | codec.EndOfBody) else 100
                self._commands.append((command, size))
                self._waiting += size
            if data:
                self._reader.feed(b"")  # a fault behind good packets, now
        except codec.BadPacket as fault:
            self._fault = fault
        if self._waiting > PAUSE_AT and not self._reading_paused and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()
        self._wake.set()

    @override
    def eof_received(self) -> bool:
        self._lost = True
        self._wake.set()
        return False

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._wake.set()

    def drain(self) -> None:
        """The worker is stopping: a connection between transactions ends now, another after its transaction."""
        if self._is_idle and not self._is_in_transaction:
            self._wake.set()

    # --- the task

    @property
    def _is_in_transaction(self) -> bool:
        return self._mta is not None and self._mta.talk.transaction is not None

    async def _converse(self) -> None:
        try:
            self._admit()
            while True:
                await self._command(await self._next())
        except _Over:
            pass
        except codec.CodecError as error:
            log.warning("milter.bad_packet", listener=self._door.config.name, mta=self._peer or "unix", problem=str(error))
        except Exception:
            # protects the worker: one connection's fault ends that connection, and its MTA does without a milter
            log.exception("milter.failed", listener=self._door.config.name, mta=self._peer or "unix")
        finally:
            await self._leave()

    def _admit(self) -> None:
        """Whoever connects says who the clients are; so only hosts that are believed may."""
        door = self._door
        if self._peer and not contains(door.loopback, self._peer) and not contains(door.introducers, self._peer):
            log.warning("milter.stranger", listener=door.config.name, mta=self._peer, problem="not in trusted_xclient")
            raise _Over
        seat = door.site.connections.take(None)
        if not isinstance(seat, Seat) or door.draining:
            log.warning("milter.full", listener=door.config.name, mta=self._peer or "unix")
            raise _Over
        self._seat = seat

    async def _next(self) -> codec.Command:
        """The next packet. _Over when none comes; CodecError for one that is none."""
        while not self._commands:
            if self._fault is not None:
                raise self._fault
            if self._lost:
                if self._reader.waiting:
                    raise codec.BadPacket("the connection ended within a packet")
                raise _Over
            if self._reading_paused and self._transport is not None:
                self._reading_paused = False
                self._transport.resume_reading()
            if self._door.draining and not self._is_in_transaction:
                raise _Over
            self._wake.clear()
            self._is_idle = True
            try:
                async with asyncio.timeout_at(self._due):
                    await self._wake.wait()
            except TimeoutError:
                log.info("milter.idle", listener=self._door.config.name, mta=self._peer or "unix")
                if self._is_in_transaction and self._mta is not None:
                    abandon(self._mta.talk, why="Time limit exceeded")
                raise _Over from None
            finally:
                self._is_idle = False
        command, size = self._commands.popleft()
        self._waiting -= size
        return command

    @property
    def _due(self) -> float:
        """When the next packet must be there. Within a transaction the MTA may wait for a slow client's content."""
        transaction = self._mta.talk.transaction if self._mta is not None else None
        if transaction is not None and transaction.deadline is not None:
            return transaction.deadline
        return min(self._loop.time() + IDLE_ROUNDS * self._door.site.limits.idle, self._ends_at)

    async def _command(self, command: codec.Command) -> None:
        """One packet, and its answer where there is one."""
        kind = type(command)
        self._state = codec.after_command(self._state, kind, self._agreed)
        answers = await self._do(command)
        if isinstance(command, codec.Quit):
            raise _Over
        if not answers and self._agreed.is_answered(kind):
            answers = [codec.Continue()]
        for answer in answers:
            self._state = codec.after_answer(self._state, kind, answer, self._agreed)
        if answers:
            self._write(*answers)
            verdict = answers[-1]
            metrics.count_reply(_VERBS.get(kind, "OTHER"), verdict.code if isinstance(verdict, codec.ReplyCode) else 250)
        if self._mta is not None and self._mta.talk.ended:
            await tell_observers(self._mta.talk)

    async def _do(self, command: codec.Command) -> list[codec.Answer]:
        mta = self._mta
        match command:
            case codec.Negotiate():
                return [self._negotiate(command)]
            case codec.Macros():
                self._macros.take(command)
                return []
            case codec.Connect():
                return await self._connect(command)
            case codec.Abort():
                self._abandon("the MTA gave it up")
                return []
            case codec.Quit() | codec.QuitNewConnection():
                await self._end_session()
                return []
            case codec.Unknown():
                return []
            case _ if mta is None:
                raise codec.BadPacket(f"{type(command).__name__} without Connect")
            case codec.Header() | codec.EndOfHeader() | codec.Body():
                await self._content(mta, command)
                return []
            case codec.EndOfBody():
                return await self._end_of_body(mta, command)
            case _:
                verdict = await self._envelope(mta, command)
                return [] if verdict is None else [verdict]

    def _negotiate(self, offered: codec.Negotiate) -> codec.Negotiate:
        """Everything that a verdict may need; no answer where no plugin has one to give."""
        stages = self._door.chain.stages
        steps = Steps.NR_HDR | Steps.NR_EOH | Steps.NR_BODY | Steps.NR_UNKN | Steps.NOUNKNOWN | Steps.HDR_LEADSPC | Steps.MDS_1M
        for stage, step in (("helo", Steps.NR_HELO), ("data", Steps.NR_DATA)):
            if stage not in stages:
                steps |= step
        actions = Actions(0)
        for action in _ACTIONS:
            actions |= action
        taken = codec.take(offered, actions, steps, WANTED)
        self._agreed = codec.agree(offered, taken)
        return taken

    async def _connect(self, command: codec.Connect) -> list[codec.Answer]:
        if self._mta is not None:
            await self._end_session()
        self._mta = begin(self._door, self._agreed, self._delivery, self._macros, command)
        verdict = await connected(self._mta)
        return [] if verdict is None else [verdict]

    async def _envelope(self, mta: MtaTalk, command: codec.Command) -> codec.Verdict | None:
        match command:
            case codec.Helo():
                return await greeted(mta, command)
            case codec.Mail():
                if mta.intake is not None:  # a transaction that was given up without a word
                    self._abandon("another MAIL")
                return await mail(mta, command)
            case codec.Rcpt():
                return await rcpt(mta, command)
            case _:
                return await data(mta)

    async def _content(self, mta: MtaTalk, command: codec.Header | codec.EndOfHeader | codec.Body) -> None:
        intake = mta.intake
        if intake is None:
            limits = self._door.site.limits
            intake = mta.intake = MilterIntake(
                limits,
                directory=self._door.site.spool,
                lenient=mta.talk.lenient,
                with_space=bool(self._agreed.steps & Steps.HDR_LEADSPC),
                verifies=self._door.chain.verifies,
            )
        match command:
            case codec.Header():
                intake.field(command.name, command.value)
            case codec.EndOfHeader():
                intake.end_of_header()
            case codec.Body():
                intake.end_of_header()
                intake.take(command.chunk)
        if len(intake.places) % TURN == 0:
            await asyncio.sleep(0)

    async def _end_of_body(self, mta: MtaTalk, command: codec.EndOfBody) -> list[codec.Answer]:
        await self._content(mta, codec.Body(command.chunk))
        self._timer = self._loop.call_later(PROGRESS_EVERY, self._progress)
        try:
            return await finish(mta, vanished=lambda: self._lost)
        finally:
            self._timer.cancel()
            self._macros.forget_transaction()

    def _progress(self) -> None:
        """A sign of life: the MTA's time limit begins anew."""
        self._write(codec.Progress())
        self._timer = self._loop.call_later(PROGRESS_EVERY, self._progress)

    def _abandon(self, why: str) -> None:
        mta = self._mta
        if mta is None:
            return
        if mta.intake is not None:
            mta.intake.discard()
            mta.intake = None
        mta.said = []
        abandon(mta.talk, why=why)
        self._macros.forget_transaction()

    async def _end_session(self) -> None:
        """The MTA's client is gone."""
        self._abandon("the client left")
        mta, self._mta = self._mta, None
        self._macros = Macros()
        if mta is None:
            return
        await tell_observers(mta.talk)
        if "disconnect" in self._door.chain.stages:
            await self._door.chain.disconnect(mta.talk.session)

    def _write(self, *answers: codec.Packet) -> None:
        if self._transport is not None and not self._lost:
            self._transport.write(codec.write(*answers))

    async def _leave(self) -> None:
        if self._transport is not None:
            self._transport.close()
        try:
            await self._end_session()
        finally:
            if self._seat is not None:
                self._door.site.connections.leave(self._seat)
            self._door.leave(self)
            metrics.count_session_end()
