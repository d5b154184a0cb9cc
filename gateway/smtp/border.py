"""The border of the server side: a subclass of aiosmtpd's `SMTP` that feeds the engine with whole buffers.

Kept of aiosmtpd: its transport life cycle and STARTTLS (on uvloop with the layer of that: `tls_layer`). Replaced: the stream reader, the command loop and all verbs
(one task switch and one write for each line is what made such proxies slow). Here is what the transport and the clock
call, and the way out; `at_once` answers what needs no waiting, `server` is the session's task.

The private names of aiosmtpd that this leans on (`_original_transport`, `_tls_protocol`, `_handler_coroutine`, and
FlowControlMixin's `_paused`, `_drain_helper`) are pinned by tests/unit/test_aiosmtpd_contract.py.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from asyncio.streams import FlowControlMixin
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from gateway import metrics
from gateway.begun import Begun
from gateway.native import mypyc_attr
from gateway.smtp.certificates import facts
from gateway.smtp.chunks import Dropped
from gateway.smtp.connections import Seat
from gateway.smtp.conversation import Conversation, Pending
from gateway.smtp.discipline import Pace
from gateway.smtp.intake import Intake
from gateway.smtp.looks import LookedAt
from gateway.smtp.origin import Origin, session_of
from gateway.smtp.protocol import Command, Content, EndOfContent, Engine
from gateway.smtp.replies import Reply, reply
from gateway.smtp.settled import Prototype, Settled
from gateway.smtp.site import Door
from gateway.smtp.states import State

if TYPE_CHECKING:
    from asyncio import BaseTransport

_NOBODY: Final[set[LookedAt]] = set()
"""The group of a connection before it has one; nobody is ever in it."""
PAUSE_AT: Final = 256 * 1024
"""Octets of unread commands at which the client has to wait."""
MUCH: Final = 200_000
"""Octets of a read behind which there are probably more: uvloop fills 256,000 and then reads the same connection again, up to 32 times in a row."""


@dataclass(slots=True)
class Later:
    """A command or an owed reply that was begun at once and has to be awaited."""

    verb: str
    work: Coroutine[Any, Any, Reply | Pending]
    after: State | None
    """The state after the command; None: it is the reply to an earlier one."""


def prototype(door: Door, loop: asyncio.AbstractEventLoop) -> Prototype:
    """The one of a worker: its doors share it."""
    return _prototype(door.site.server_name, loop)


@lru_cache(maxsize=1)
def _prototype(hostname: str, loop: asyncio.AbstractEventLoop) -> Prototype:
    return Prototype(hostname, loop)


@mypyc_attr(allow_interpreted_subclasses=True)
class Border(Settled):
    """One connection of a client, as its transport and the clock see it."""

    __slots__ = (
        "_arrived",
        "_began",
        "_begun",
        "_closing",
        "_commands",
        "_content_ended",
        "_door",
        "_engine",
        "_fault",
        "_going",
        "_group",
        "_handler_coroutine",
        "_last",
        "_later",
        "_limits",
        "_lost",
        "_origin",
        "_original_transport",
        "_out",
        "_owed",
        "_parked",
        "_paused",
        "_reading_paused",
        "_receiving",
        "_seat",
        "_talk",
        "_timer",
        "_verb",
        "_waiter",
        "loop",
        "transport",
    )
    loop: asyncio.AbstractEventLoop
    _paused: bool

    # What most connections never set is the class's until then.
    _connection_lost: bool = False
    _drain_waiters: Any = ()
    _pace: Pace | None = None
    _eof: bool = False
    _timed_out: str = ""
    _tls_due: bool = False
    _anew_due: bool = False
    _ungreeted: bool = False
    """Somebody has to be asked before the greeting."""

    def __init__(
        self,
        door: Door,
        shared: Prototype,
        origin: Origin | None = None,
        arrived: Callable[[], Seat | None] | None = None,
    ) -> None:
        self.loop = shared.loop
        self._paused = False
        self.transport: BaseTransport | None = None
        self._original_transport: BaseTransport | None = None
        self._handler_coroutine: asyncio.Task[None] | None = None
        self._door = door
        self._limits = door.limits
        self._origin = origin
        """What a trusted proxy said; None: the connection itself tells."""
        self._arrived = arrived
        """Ends what came before the session; the connection's seat, where it has the right one."""
        self._engine = Engine(door.command_line, door.auth_line)
        self._out: list[bytes] = []
        self._owed: list[tuple[str, Pending]] = []
        self._waiter: asyncio.Future[None] | None = None
        self._parked = False
        """The task waits for input, and nobody has woken it: `_go_on` may act."""
        self._going = False
        """A call of `_go_on` is due."""
        self._later: Later | None = None
        """What `_go_on` left for the task."""
        self._receiving: Intake | Dropped | None = None
        """Between 354 and the end of the content, and within a chunk."""
        self._fault: Exception | None = None
        self._begun: Begun[Reply] | None = None
        """What leads to the reply to a content, while that is gone on with without the task."""
        self._content_ended = False
        self._lost = False
        self._closing = False
        self._reading_paused = False
        self._last = self._began = self.loop.time()
        self._commands = 0
        self._verb = "CONNECT"
        """Whose reply is next; for the metrics."""
        self._timer: asyncio.TimerHandle | None = None
        self._group: set[LookedAt] = _NOBODY
        """With whom it is looked at next, where it has no timer of its own."""
        self._seat: Seat | None = None
        self._talk: Conversation | None = None

    def __del__(self) -> None:
        """What asyncio's stream protocol tidies up is not there, and to find that out costs an exception."""

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """For FlowControlMixin."""
        return self.loop

    def pause_writing(self) -> None:
        """The client does not read. Those who wait for it are in a list: FlowControlMixin's deque takes 0.7 KB, for every connection."""
        if not self._drain_waiters:
            self._drain_waiters = []
        FlowControlMixin.pause_writing(self)

    def connection_made(self, transport: BaseTransport) -> None:
        """A connection, or the same one again after the TLS handshake."""
        self.transport = transport
        if self._original_transport is not None:
            self._engine.forget()
            return
        door = self._door
        if self._arrived is not None:
            self._seat = self._arrived()
        is_tls = door.is_tls
        if not is_tls:
            # uvloop keeps what is written until the turn of the loop ends; a reply goes out before its record is made.
            transport.set_write_buffer_limits(0)  # type: ignore[attr-defined] # the stubs know a base transport only
        tls = facts(transport.get_extra_info("ssl_object")) if is_tls else None
        origin = self._origin
        session = session_of(transport, door, tls) if origin is None else origin.session(door, tls)
        talk = self._talk = Conversation(door, session, self.loop, door.is_lenient(session))
        talk.connection = self
        door.enter(self)
        self._group = door.looks.join(self, self._began)
        self._begin(talk)

    def client_address(self, peer: str) -> str:
        """The client's address before there is a session, for the log."""
        return self._origin.address if self._origin is not None else peer

    def data_received(self, data: bytes) -> None:
        """A command that comes alone is answered, content goes on to the intake; all else is the engine's, as whole buffers."""
        self._last = self.loop.time()
        engine = self._engine
        intake = self._receiving
        if intake is None:
            if self._parked:
                command = engine.usual_command(data)
                if command is not None:
                    self._answer(command)
                    return
            pending = engine.feed(data)
            if self._parked and (data.find(b"\n") >= 0 or pending > self._limits.command_line):
                self._go_on()
        elif self._content_ended:
            engine.feed(data)
        else:
            content = engine.feed_content(data)
            if content is None:
                engine.feed(data)
                self._take_content(intake)
            else:
                intake.take(content)
                self._content_ended = engine.stream is None
            if self._content_ended:
                self._finish(intake)
            elif intake.must_close:
                self._wake()
            elif len(data) > MUCH and not self._reading_paused:
                self.transport.pause_reading()  # type: ignore[union-attr] # the stubs know a base transport only
                self.loop.call_soon(self._read_on)
        if engine.has_input and engine.pending > PAUSE_AT and (self._owed or not self._parked) and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()  # type: ignore[union-attr] # the stubs know a base transport only

    def _read_on(self) -> None:
        """The others have had their turn."""
        transport = self.transport
        if not (self._reading_paused or self._lost or transport is None or transport.is_closing()):
            transport.resume_reading()  # type: ignore[attr-defined] # the stubs know a base transport only

    def eof_received(self) -> bool | None:
        """The client sends no more; what it sent is still answered."""
        self._eof = True
        self._wake()
        return self._talk is not None and self._talk.session.tls is None

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone. Nothing is cancelled: a message under way to the next hop ends as it ends."""
        self._lost = True
        self._look_no_more()
        if self._original_transport is not None:
            self._original_transport.close()
        FlowControlMixin.connection_lost(self, error)
        if self._talk is not None:
            self._wake()

    async def push(self, _status: str | bytes) -> None:
        """Called by aiosmtpd's STARTTLS for its 220: ours goes out instead, whatever it says."""
        self._write(reply(220, "2.0.0", "Ready to start TLS"))
        self._flush()

    def drain(self) -> None:
        """The worker is stopping: a session between transactions ends now, another after its transaction."""
        if self._talk is not None and self._talk.transaction is None and self._parked and not self._owed:
            self._timed_out = "Service is shutting down"
            self._wake()

    def end_session(self, why: str) -> None:
        """421 as soon as nothing is under way."""
        self._timed_out = why
        self._wake()

    def _wake(self) -> None:
        """On with the session's task, which is made when there is something to do for it."""
        self._parked = False
        waiter = self._waiter
        if waiter is not None:
            if not waiter.done():
                waiter.set_result(None)
        elif self._handler_coroutine is None and self._talk is not None:
            self._handler_coroutine = self.loop.create_task(self._converse(self._talk))

    def _look_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._group.discard(self)

    def look(self) -> None:
        """Idle, session and transaction limits, looked at lazily; and after the end, whether the client takes its last replies."""
        now = self.loop.time()
        if self._talk is None:
            self.transport.abort()  # type: ignore[union-attr] # the stubs know a base transport only
            return
        waiting = (self._parked or self._waiter is not None) and not self._owed and self._begun is None
        transaction = self._talk.transaction
        idle = self._limits.idle if self._receiving is None else self._limits.content_idle
        due = self._last + idle if waiting else now + idle
        if transaction is not None and transaction.deadline is not None:
            due = min(due, transaction.deadline)
        if self._owed and self._talk.handover is not None:
            if now >= self._last + self._limits.envelope_reply:
                self._talk.handover.give_up()
            else:
                due = min(due, self._last + self._limits.envelope_reply)
        if waiting and (now >= due or now >= self._began + self._limits.session_time):
            self._timed_out = "Idle for too long" if now >= self._last + idle else "Time limit exceeded"
            self._wake()
        if waiting and isinstance(self._receiving, Intake) and self._is_too_slow(self._receiving, now):
            self._timed_out = "Content comes too slowly"
            self._wake()
        if self._paused and now >= self._last + idle:  # it does not read its replies
            self.transport.abort()  # type: ignore[union-attr] # the stubs know a base transport only
            return
        due = min(due, self._began + self._limits.session_time)
        if due < now and not waiting:  # it is the next hop's turn, or a hook's: said when the client is waited for
            due = now + idle
        turn = self._door.turn  # at the latest then: content may begin, or end, meanwhile
        if due - now >= turn and self._receiving is None:
            self._timer = None
            self._group = self._door.looks.join(self, now)
        else:
            self._timer = self.loop.call_later(max(0.01, min(due - now, turn)), self.look)

    def _is_too_slow(self, intake: Intake, now: float) -> bool:
        if self._pace is None:
            self._pace = Pace(self._limits.minimum_rate, self._limits.rate_window)
        return self._pace.is_too_slow(intake, intake.size, now)

    def _take_content(self, intake: Intake | Dropped) -> None:
        engine = self._engine
        while not self._content_ended and (event := engine.next_event()) is not None:
            if isinstance(event, Content):
                intake.take(event.octets)
            elif isinstance(event, EndOfContent):
                self._content_ended = True

    def _write(self, answer: Reply) -> None:
        """At once where it is the only one; else it goes out with the others of its group, when no more input waits."""
        metrics.count_reply(self._verb, answer.code)
        octets = answer.render()
        if self._out or self._owed or self._engine.has_input:
            self._out.append(octets)
        else:
            self._say(octets)

    def _flush(self) -> None:
        if self._out:
            octets = b"".join(self._out)
            self._out = []
            self._say(octets)

    def _say(self, octets: bytes) -> None:
        """To the client: the one way out."""
        if self.transport is not None and not self._lost:
            try:  # noqa: SIM105 - with every reply: suppress() costs as much as a short write
                self.transport.write(octets)  # type: ignore[attr-defined] # the stubs know a base transport only
            except (OSError, RuntimeError):
                pass  # the connection is gone, which connection_lost says

    @abstractmethod
    def _answer(self, command: Command) -> None:
        """A usual command came alone, while the task waits."""

    @abstractmethod
    def _finish(self, intake: Intake | Dropped) -> None:
        """A content is whole."""

    @abstractmethod
    def _begin(self, talk: Conversation) -> None:
        """The client is here."""

    @abstractmethod
    def _leave_at_once(self, talk: Conversation) -> None:
        """The session ends now, if it has nobody to wait for."""

    @abstractmethod
    def _go_on(self) -> None:
        """Input came, or an answer, while the task waits."""

    @abstractmethod
    async def _converse(self, talk: Conversation) -> None:
        """The session."""

    @abstractmethod
    async def ask_client(self, challenge: Reply) -> bytes | None:
        """The client's line in answer to a challenge of AUTH."""
