"""The border of the server side: a subclass of aiosmtpd's `SMTP` that feeds the engine with whole buffers.

Kept of aiosmtpd: its transport life cycle and STARTTLS. Replaced: the stream reader, the command loop and all verbs
(one task switch and one write for each line is what made such proxies slow). One task a connection runs `_converse`. While
it waits for input, `_go_on` answers inside `data_received` every command that needs neither a plugin nor a database, and
takes the content, without waking it: the task is for what has to be awaited. Replies are gathered and written when no more
input waits.

Over 500 lines because the two share one state, and whoever reads of a connection's end needs both in one place.

The private names of aiosmtpd that this leans on (`_original_transport`, `_tls_protocol`, `_handler_coroutine`, and
FlowControlMixin's `_paused`, `_drain_helper`) are pinned by tests/unit/test_aiosmtpd_contract.py.
"""

from __future__ import annotations

import asyncio
from asyncio.streams import FlowControlMixin
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from aiosmtpd.smtp import SMTP, TLSSetupException

from gateway import metrics
from gateway.errors import LinkError
from gateway.faults import reach
from gateway.smtp.certificates import facts, handshake_failed
from gateway.smtp.chunks import Dropped
from gateway.smtp.connections import Full, Seat
from gateway.smtp.conversation import Conversation, Pending
from gateway.smtp.discipline import ENDS_GROUP, IMPROPER_PIPELINING, Pace, note, octets_wait, turned_away
from gateway.smtp.each import named, to_all
from gateway.smtp.intake import Intake
from gateway.smtp.origin import Origin
from gateway.smtp.protocol import Chunk, Command, Content, EndOfContent, Engine, Event, LineTooLong, Response
from gateway.smtp.replies import Reply, reply
from gateway.smtp.sasl import MAX_LINE as AUTH_LINE
from gateway.smtp.site import Door
from gateway.smtp.states import ALLOWED, SPOKEN, State, advance
from gateway.smtp.transactions import abandon, end, refuse_session, tell_observers
from gateway.smtp.verbs import AT_ONCE, MAY_FOLLOW_PENDING, VERBS
from gateway.smtp.verbs.bdat import bdat, end_of_chunk
from gateway.smtp.verbs.data import finish_content

if TYPE_CHECKING:
    from asyncio import BaseTransport

log = structlog.get_logger("mailgateway.smtp")

PAUSE_AT = 256 * 1024
"""Octets of unread commands at which the client has to wait."""

LINGER = 30.0
"""Seconds a client has to take its last replies before the connection is cut."""

READ_TURNS = 5
"""Turns of the loop in which it reads what waits in a socket."""

TURN = 64
"""Commands that one client has answered before the others get their turn."""


@dataclass(slots=True)
class Later:
    """A command or an owed reply that was begun at once and has to be awaited."""

    verb: str
    work: Coroutine[Any, Any, Reply | Pending]
    after: State | None
    """The state after the command; None: it is the reply to an earlier one."""


class _Gone(Exception):  # noqa: N818 - not an error: the client left, or its time is up
    """The conversation is over; nothing more is read."""


def prototype(door: Door, loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    """The settings that every connection of a door shares: aiosmtpd's constructor costs 0.2 ms, so it runs once."""
    made = SMTP(object(), hostname=door.site.config.server.name, loop=loop)
    return {
        name: value
        for name, value in made.__dict__.items()
        if name not in {"_stream_reader_wr", "_client_connected_cb", "_closed"}
    }


class Server(SMTP):
    """One connection of a client."""

    loop: asyncio.AbstractEventLoop
    _paused: bool
    _drain_helper: Any

    def __init__(  # aiosmtpd's own constructor: see prototype()
        self,
        door: Door,
        shared: dict[str, Any],
        origin: Origin | None = None,
        arrived: Callable[[], Seat | None] | None = None,
    ) -> None:
        self.__dict__.update(shared)
        FlowControlMixin.__init__(self, self.loop)
        limits = door.site.config.limits
        self._door = door
        self._limits = limits
        self._spoken = SPOKEN[door.config.protocol]
        self._origin = origin
        """What a trusted proxy said; None: the connection itself tells."""
        self._arrived = arrived
        """Ends what came before the session; the connection's seat, where it has the right one."""
        self._engine = Engine(command_line=limits.command_line, auth_line=AUTH_LINE if door.config.auth_route else 0)
        self._out: list[bytes] = []
        self._owed: deque[tuple[str, Pending]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._parked = False
        """The task waits for input, and nobody has woken it: `_go_on` may act."""
        self._going = False
        """A call of `_go_on` is due."""
        self._later: Later | None = None
        """What `_go_on` left for the task."""
        self._receiving: Intake | Dropped | None = None
        """Between 354 and the end of the content, and within a chunk."""
        self._tls_due = False
        self._anew_due = False
        self._fault: Exception | None = None
        self._content_ended = False
        self._lost = False
        self._eof = False
        self._closing = False
        self._reading_paused = False
        self._timed_out = ""
        self._last = self._began = self.loop.time()
        self._commands = 0
        self._verb = "CONNECT"
        """Whose reply is next; for the metrics."""
        self._timer: asyncio.TimerHandle | None = None
        self._seat: Seat | None = None
        self._pace: Pace | None = None
        self._talk: Conversation | None = None

    # --- the transport's side

    def connection_made(self, transport: BaseTransport) -> None:
        """A connection, or the same one again after the TLS handshake."""
        self.transport = transport
        if self._original_transport is not None:
            self._engine.forget()
            return
        door = self._door
        if self._arrived is not None:
            self._seat = self._arrived()
        is_tls = door.tls is not None and door.tls.config.implicit
        tls = facts(transport.get_extra_info("ssl_object")) if is_tls else None
        session = (self._origin or Origin.of(transport)).session(door, tls)
        self._talk = Conversation(door=door, session=session, loop=self.loop, lenient=door.is_lenient(session))
        self._talk.ask_client, self._talk.end_session = self._ask_client, self._end_session
        door.enter(self)
        self._timer = self.loop.call_later(self._turn, self._check_time)
        self._handler_coroutine = self.loop.create_task(self._converse(self._talk))

    def client_address(self, peer: str) -> str:
        """The client's address before there is a session, for the log."""
        return self._origin.address if self._origin is not None else peer

    def data_received(self, data: bytes) -> None:
        """Whole buffers to the engine; content goes on to the intake at once."""
        self._last = self.loop.time()
        self._engine.feed(data)
        intake = self._receiving
        if intake is not None and not self._content_ended:
            self._take_content(intake)
            if self._content_ended or intake.must_close:
                self._wake()
        elif self._parked and (b"\n" in data or self._engine.pending > self._limits.command_line):
            self._go_on()
        if self._engine.pending > PAUSE_AT and (self._owed or not self._parked) and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()  # type: ignore[union-attr] # the stubs know a base transport only

    def eof_received(self) -> bool | None:
        """The client sends no more; what it sent is still answered."""
        self._eof = True
        self._wake()
        return self._talk is not None and self._talk.session.tls is None

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone. Nothing is cancelled: a message under way to the next hop ends as it ends."""
        self._lost = True
        if self._timer is not None:
            self._timer.cancel()
        if self._original_transport is not None:
            self._original_transport.close()
        FlowControlMixin.connection_lost(self, error)
        self._wake()

    async def push(self, status: str | bytes) -> None:
        """Called by aiosmtpd's STARTTLS for its 220: ours goes out instead."""
        del status
        self._write(reply(220, "2.0.0", "Ready to start TLS"))
        self._flush()

    def drain(self) -> None:
        """The worker is stopping: a session between transactions ends now, another after its transaction."""
        if self._talk is not None and self._talk.transaction is None and self._parked and not self._owed:
            self._timed_out = "Service is shutting down"
            self._wake()

    def _end_session(self, why: str) -> None:
        """421 as soon as nothing is under way."""
        self._timed_out = why
        self._wake()

    def _wake(self) -> None:
        self._parked = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _check_time(self) -> None:
        """Idle, session and transaction limits, on one lazy timer."""
        now = self.loop.time()
        waiting = self._waiter is not None and not self._owed
        transaction = self._talk.transaction if self._talk is not None else None
        idle = self._limits.idle if self._receiving is None else self._limits.content_idle
        due = self._last + idle if waiting else now + idle
        if transaction is not None and transaction.deadline is not None:
            due = min(due, transaction.deadline)
        if self._owed and self._talk is not None and self._talk.handover is not None:
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
        self._timer = self.loop.call_later(max(0.01, min(due - now, self._turn)), self._check_time)

    @property
    def _turn(self) -> float:
        """Seconds after which the timer looks again at the latest: content may begin, or end, meanwhile."""
        limits = self._limits
        return min(limits.idle, limits.content_idle, limits.session_time, limits.rate_window, limits.envelope_reply)

    def _is_too_slow(self, intake: Intake, now: float) -> bool:
        if self._pace is None:
            self._pace = Pace(self._limits.minimum_rate, self._limits.rate_window)
        return self._pace.is_too_slow(intake, intake.size, now)

    # --- the conversation

    async def _converse(self, talk: Conversation) -> None:
        fault: Reply | None = None
        try:
            if await self._greet(talk):
                await self._serve(talk)
        except _Gone:
            pass
        except TLSSetupException as error:
            handshake_failed(talk.session.listener, talk.session.client_address, error.__cause__ or error)
        except Exception:
            # protects the worker: one session's fault is 421 for that session (RFC 5321 3.8)
            log.exception("session.failed", session=talk.id)
            fault = self._final(talk, "4.3.0", "Internal fault; try again later")
            self._write(fault)
        finally:
            await self._leave(talk, fault)

    async def _leave(self, talk: Conversation, fault: Reply | None) -> None:
        self._owed.clear()
        self._flush()
        if self._receiving is not None:
            self._receiving.discard()
        if self._later is not None:
            self._later.work.close()
        if self._timer is not None:
            self._timer.cancel()
        if self.transport is not None and not self._lost:
            self.transport.close()
            # A client that takes its last replies never does not keep the socket for ever.
            self._timer = self.loop.call_later(LINGER, self.transport.abort)  # type: ignore[attr-defined] # see above
        try:
            if fault is not None:
                end(talk, fault)
            abandon(talk, why=self._timed_out or "the client left")
            talk.unbind()
            await tell_observers(talk)
            if "disconnect" in self._door.chain.stages:
                await self._door.chain.disconnect(talk.session)
        finally:
            self._door.site.relay.session_over(talk.session.id)
            if self._seat is not None:
                self._door.site.connections.leave(self._seat)
            self._door.leave(self)
            metrics.count_session_end()

    async def _greet(self, talk: Conversation, *, is_anew: bool = False) -> bool:
        """The greeting: 220, or 421 and 554 (RFC 5321 3.1). False: the connection ends. `is_anew`: after XCLIENT."""
        door = self._door
        may_talk = is_anew or not talk.is_suspect
        metrics.count_session()
        seat = self._seat or door.admit(talk.session, is_suspect=talk.is_suspect)
        if isinstance(seat, Seat):
            self._seat = seat
        elif seat is Full.NETWORK:
            self._end_with(talk, "4.7.0", "Too many connections from your network")
            return False
        elif seat is Full.RATE:
            self._end_with(talk, "4.7.0", "Connections from your network come too fast")
            return False
        if door.draining or self._seat is None:
            self._end_with(talk, "4.3.2", "Too busy; try again later")
            return False
        if not may_talk and (answer := await self._early_talk(talk)) is not None:
            refuse_session(talk, None, answer, reason="early-talker")
            return self._turn_away(talk, answer)
        if "connect" in door.chain.stages:
            decision = await door.chain.connect(talk.session)
            if decision is not None:
                answer = talk.refused_by(decision)
                refuse_session(talk, decision, answer)
                return self._turn_away(talk, answer)
            if not may_talk and self._engine.has_input and (answer := turned_away(talk)) is not None:  # during the hooks
                refuse_session(talk, None, answer, reason="early-talker")
                return self._turn_away(talk, answer)
        spoken = "LMTP" if talk.session.protocol == "lmtp" else "ESMTP"
        self._write(Reply(220, (f"{door.site.config.server.name} {spoken} mailgateway".encode(),)))
        return True

    async def _early_talk(self, talk: Conversation) -> Reply | None:
        """What a client is told that talks before the greeting, if it is not greeted all the same."""
        delay = self._door.config.greeting_delay
        if delay:
            await self._hold_back(talk, delay)
        if not self._engine.has_input:
            if not octets_wait(self.transport):
                return None
            for _ in range(READ_TURNS):  # a socket closed with input in it takes our reply with it
                if not self._engine.has_input:
                    await asyncio.sleep(0)
        return turned_away(talk)

    async def _hold_back(self, talk: Conversation, delay: float) -> None:
        """Say nothing for a while; what comes meanwhile is left where it is. _Gone when the client leaves."""
        self._waiter = self.loop.create_future()
        timer = self.loop.call_later(delay, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            timer.cancel()
        if self._door.draining:
            self._timed_out = "Service is shutting down"
        if self._timed_out:
            self._say_goodbye(talk)
        if self._lost:
            raise _Gone

    def _turn_away(self, talk: Conversation, answer: Reply) -> bool:
        """Refused in the greeting: 421 ends the connection, after 554 it waits for QUIT (RFC 5321 3.1)."""
        if answer.first == 4:
            self._write(Reply(421, answer.lines))
            return False
        talk.state = State.REFUSED
        self._write(Reply(554, answer.lines))
        return True

    async def _serve(self, talk: Conversation) -> None:
        engine = self._engine
        while not self._closing:
            if self._fault is not None:
                raise self._fault
            if self._later is not None:
                await self._do_later(talk)
                continue
            if isinstance(self._receiving, Intake):
                await self._content(talk, self._receiving)
                continue
            event = engine.next_event()
            if event is None:
                if self._owed:
                    await self._settle(talk)
                    continue
                if engine.dropped > self._limits.text_line:  # a line without end
                    self._write(talk.ours(500, "5.5.2", "Line too long"))
                    return
                await self._more(talk)
            elif isinstance(event, Command):
                await self._command(talk, event)
                if self._commands % TURN == 0:
                    await asyncio.sleep(0)
            else:
                await self._no_plain_command(talk, event)
            if self._paused:
                try:
                    await self._drain_helper()
                except ConnectionError:  # it left without reading its replies
                    raise _Gone from None

    async def _more(self, talk: Conversation) -> None:
        """Write what is owed and wait for input. _Gone when there will be none."""
        self._flush()
        if talk.ended:
            await tell_observers(talk)
            return  # input may have come meanwhile
        if self._lost or self._eof:
            raise _Gone
        if self._timed_out:
            self._say_goodbye(talk)
        if self._reading_paused:
            self._reading_paused = False
            self.transport.resume_reading()  # type: ignore[union-attr] # the stubs know a base transport only
        if self._door.draining and talk.transaction is None:
            self._timed_out = "Service is shutting down"
            self._say_goodbye(talk)
        self._waiter = self.loop.create_future()
        self._parked = True
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._parked = False
        if self._later is not None or self._fault is not None:
            return
        if self._timed_out:
            self._say_goodbye(talk)
        if self._lost:
            raise _Gone

    async def _ask_client(self, challenge: Reply) -> bytes | None:
        """The client's line in answer to a challenge of AUTH; None: it is too long (RFC 4954 4)."""
        talk, engine = self._talk, self._engine
        self._write(challenge)
        engine.expect_response()
        while talk is not None:
            event = engine.next_event()
            if isinstance(event, Response):
                return event.octets.removesuffix(b"\n") if talk.lenient else event.octets
            if isinstance(event, LineTooLong):
                return None
            if engine.dropped > self._limits.text_line:  # a line without end
                self._write(talk.ours(500, "5.5.2", "Line too long"))
                break
            await self._more(talk)
        raise _Gone

    def _say_goodbye(self, talk: Conversation) -> None:
        enhanced = "4.3.2" if "shutting" in self._timed_out else "4.4.2"
        self._write(talk.ours(421, enhanced, self._timed_out))
        raise _Gone

    # --- at once, without the task

    def _go_on(self) -> None:
        """Answer what can be answered at once, while the task waits for input; wake it for everything else."""
        self._going = False
        if not self._parked or self._talk is None or self._receiving is not None:
            return
        try:
            if self._paused or not self._at_once(self._talk):
                self._wake()
        except Exception as error:  # noqa: BLE001 - protects the worker: the task tells the client and the log
            self._fault = error
            self._wake()

    def _at_once(self, talk: Conversation) -> bool:
        """False: the task is needed."""
        if self._owed and not self._settle_at_once(talk):
            return False
        engine = self._engine
        for _ in range(TURN):
            event = engine.next_event()
            if event is None:
                self._flush()
                if self._reading_paused and not self._owed:
                    self._reading_paused = False
                    self.transport.resume_reading()  # type: ignore[union-attr] # the stubs know a base transport only
                return engine.dropped <= self._limits.text_line and not talk.ended
            after = None
            if isinstance(event, Command):
                after = ALLOWED[talk.state].get(event.verb)
                if self._owed and not talk.session.esmtp:
                    note(talk, IMPROPER_PIPELINING, value=event.verb)
            if (
                not isinstance(event, Command)
                or after is None
                or event.verb not in AT_ONCE
                or (event.argument and event.verb not in {"MAIL", "RCPT"})
                or (self._owed and event.verb not in MAY_FOLLOW_PENDING)
                or (event.bare_lf and not talk.lenient)
                or self._commands >= self._limits.commands
            ):
                engine.put_back(event)
                self._flush()
                return bool(self._owed)  # the next hop's answer brings us back
            if not self._do_at_once(talk, event, after):
                return False
            if self._receiving is not None:
                self._flush()
                self._take_content(self._receiving)
                return not (self._content_ended or self._receiving.must_close)
        return False

    def _do_at_once(self, talk: Conversation, command: Command, after: State) -> bool:
        """One command; False when what it leads to is the task's."""
        self._commands += 1
        verb = self._verb = command.verb
        talk.lf_lines = command.bare_lf
        talk.owed = len(self._owed)
        result = VERBS[verb](talk, command)
        if isinstance(result, Pending):
            self._owed.append((verb, result))
            talk.state = after
            result.theirs.on_answer = self._answered
            if result.theirs.answer is not None:
                return self._settle_at_once(talk)
            return True
        if not isinstance(result, Reply):
            self._later = Later(verb, result, after)
            return False
        if self._owed:
            self._later = Later(verb, _told(result), after)
            return False
        self._after(talk, verb, result, after)
        return not (self._closing or talk.ended)

    def _answered(self) -> None:
        """The next hop has answered; not from within its link, which has more to do with what it read."""
        if not self._going:
            self._going = True
            self.loop.call_soon(self._go_on)

    def _settle_at_once(self, talk: Conversation) -> bool:
        """Replies to which the next hop has answered, in the order of the commands. False: the task is needed."""
        owed = self._owed
        asked = self._verb
        while owed:
            verb, pending = owed[0]
            answer = pending.theirs.answer
            if answer is None:
                self._flush()
                break
            owed.popleft()
            self._verb = verb
            result = pending.finish(answer)
            if not isinstance(result, Reply):
                self._later = Later(verb, result, None)
                return False
            self._write(result)
            if verb == "RCPT" and self._after_rcpt(talk):
                owed.clear()  # nothing follows a 421
                return False
        self._verb = asked
        if not owed:
            _back_to_ready(talk)
        return not talk.ended

    async def _do_later(self, talk: Conversation) -> None:
        """What `_go_on` began."""
        later, self._later = self._later, None
        if later is None:
            return
        if later.after is None:  # a reply that was owed; those behind it follow
            result = await later.work
            if isinstance(result, Reply):
                self._verb = later.verb
                self._write(result)
                if later.verb == "RCPT" and self._after_rcpt(talk):
                    self._owed.clear()
            if self._owed:
                await self._settle(talk)
            _back_to_ready(talk)
            return
        await self._conclude(talk, later.verb, await later.work, later.after)

    # --- with the task

    async def _command(self, talk: Conversation, command: Command) -> None:
        self._commands += 1
        verb = self._verb = command.verb
        if self._owed and not talk.session.esmtp:
            note(talk, IMPROPER_PIPELINING, value=verb)
        if self._owed and verb not in MAY_FOLLOW_PENDING:
            await self._settle(talk)
            if self._closing:  # 421 was said: what follows it is not done
                return
        talk.lf_lines = command.bare_lf
        refusal = self._out_of_bounds(talk, command)
        if refusal is not None:
            await self._settle(talk)
            self._refuse(talk, refusal)
            return
        after = advance(talk.state, verb)
        if isinstance(after, Reply):
            await self._settle(talk)
            self._refuse(talk, talk.with_id(after))
            return
        talk.owed = len(self._owed)
        result = VERBS[verb](talk, command)
        await self._conclude(talk, verb, result if isinstance(result, Reply | Pending) else await result, after)

    async def _conclude(self, talk: Conversation, verb: str, result: Reply | Pending, after: State) -> None:
        if isinstance(result, Pending):
            self._owed.append((verb, result))
            talk.state = after
            return
        if self._owed:
            await self._settle(talk)
            if self._closing:
                return
        self._after(talk, verb, result, after)
        if self._tls_due:
            self._tls_due = False
            await self._start_tls(talk)
        if self._anew_due:
            self._anew_due = False
            await self._begin_anew(talk)

    def _after(self, talk: Conversation, verb: str, result: Reply, after: State) -> None:
        """What a reply changes."""
        if result.first in {2, 3} or verb == "RCPT":
            talk.state = after
        if verb == "DATA" and result.code == 354:
            if self._engine.has_input:
                note(talk, IMPROPER_PIPELINING, value=verb)
            self._write(result)
            self._begin_content(talk)
            return
        if verb == "STARTTLS" and result.code == 220:
            self._tls_due = True
            return
        if verb == "XCLIENT" and result.code == 220:
            self._anew_due = True
            return
        if self._engine.has_input and (verb in ENDS_GROUP or not talk.session.esmtp):
            note(talk, IMPROPER_PIPELINING, value=verb)
        if verb == "QUIT":
            self._closing = True
        if result.first in {4, 5} and verb != "RCPT":
            self._refuse(talk, result)
        else:
            self._write(result)
        self._after_rcpt(talk)
        _back_to_ready(talk)

    def _out_of_bounds(self, talk: Conversation, command: Command) -> Reply | None:
        if command.bare_lf and not talk.lenient:
            return talk.ours(500, "5.5.2", "Commands end in CRLF")  # RFC 5321 2.3.8
        if self._commands > self._limits.commands:
            return self._final(talk, "4.7.0", "Too many commands")
        if command.verb not in self._spoken and talk.state is not State.REFUSED:  # there, 503 to everything (RFC 5321 3.1)
            return talk.ours(500, "5.5.2", "Command not recognized")
        if not command.argument.isascii() and command.verb not in {"MAIL", "RCPT", "VRFY", "EXPN"}:
            return talk.ours(501, "5.5.2", "Octets outside ASCII")
        return None

    def _refuse(self, talk: Conversation, answer: Reply) -> None:
        """Write a refusal and count it; too many end the session."""
        talk.errors += 1
        self._closing = self._closing or answer.code == 421
        self._write(answer)
        if talk.errors >= self._limits.errors and not self._closing:
            self._end_with(talk, "4.7.0", "Too many errors")

    def _after_rcpt(self, talk: Conversation) -> bool:
        """True: too many were unknown, and the session ends."""
        if talk.session.unknown_recipients < self._limits.unknown_recipients or self._closing:
            return False
        self._end_with(talk, "4.7.0", "Too many unknown recipients")
        return True

    def _end_with(self, talk: Conversation, enhanced: str, text: str) -> None:
        self._write(self._final(talk, enhanced, text))

    def _final(self, talk: Conversation, enhanced: str, text: str) -> Reply:
        """The 421 after which the session ends, with a record behind its identifier."""
        self._closing = True
        answer = talk.ours(421, enhanced, text)
        if talk.transaction is None:  # the record of a transaction under way is written when the session is left
            refuse_session(talk, None, answer, reason=text.partition(";")[0].lower().replace(" ", "-"))
        return answer

    async def _settle(self, talk: Conversation) -> None:
        """Replies the next hop owes, in the order of the commands."""
        owed = self._owed
        asked = self._verb
        while owed:
            verb, pending = owed.popleft()
            self._verb = verb
            pending.theirs.on_answer = None
            if pending.theirs.answer is None:
                self._flush()  # a slow next hop: what it has answered already does not wait for the rest of the group
            answer: Reply | LinkError
            try:
                answer = await pending.theirs
            except LinkError as error:
                answer = error
            finished = pending.finish(answer)
            result = finished if isinstance(finished, Reply) else await finished
            self._write(result)
            if verb == "RCPT" and self._after_rcpt(talk):
                owed.clear()  # nothing follows a 421
        self._verb = asked
        _back_to_ready(talk)

    # --- content, TLS, output

    def _begin_content(self, talk: Conversation) -> None:
        """354 was said: what comes is content."""
        site = self._door.site
        stream = self._engine.begin_content(lines_end_in_lf=talk.lf_lines and talk.lenient, line_limit=self._limits.text_line)
        self._receiving = Intake(stream, self._limits, directory=site.spool, lenient=talk.lenient)
        self._content_ended = False

    async def _content(self, talk: Conversation, intake: Intake) -> None:
        self._take_content(intake)
        while not self._content_ended:
            if intake.must_close:
                answer = talk.ours(500, "5.5.2", "Line too long")
                self._write(to_all(answer, talk.ability, named(talk)))
                self._closing = True
                end(talk, answer)
                return
            await self._more(talk)
            if self._eof and not self._content_ended:
                raise _Gone
        self._receiving = None
        self._verb = "CONTENT"
        began = self.loop.time()
        self._write(await finish_content(talk, intake, vanished=lambda: self._lost))
        metrics.observe_transaction(self.loop.time() - began)
        self._flush()
        reach("delivery.replied")

    async def _no_plain_command(self, talk: Conversation, event: Event) -> None:
        if isinstance(event, Chunk):
            await self._chunk(talk, event)
        elif isinstance(event, LineTooLong):
            await self._settle(talk)
            self._refuse(talk, talk.ours(500, "5.5.2", "Line too long"))

    async def _chunk(self, talk: Conversation, chunk: Chunk) -> None:
        """BDAT: its octets are read, whatever becomes of them, then comes the reply (RFC 3030 2)."""
        self._commands += 1
        self._verb = "BDAT"
        await self._settle(talk)
        if self._closing:
            return
        # RFC 3030 2: it may have been in the pipeline, so it is no error of its own.
        is_behind_refused = talk.state is State.BDAT and talk.chunks is None
        answer = self._out_of_bounds(talk, chunk.command)
        if answer is None:
            after = advance(talk.state, "BDAT")
            answer = talk.with_id(after) if isinstance(after, Reply) else await bdat(talk, chunk.command)
        is_taken = answer.is_positive
        if chunk.size is None or self._closing:  # what follows cannot be told from commands
            self._refuse(talk, answer)
            self._closing = True
            return
        self._content_ended = False
        self._receiving = intake = talk.chunks if is_taken and talk.chunks is not None else Dropped()
        self._take_content(intake)
        while not self._content_ended:
            await self._more(talk)
            if self._eof and not self._content_ended:
                raise _Gone
        self._receiving = None
        if chunk.is_last:
            self._flush()  # what is owed for the chunks before does not wait for the next hop
        began = self.loop.time()
        answer = await end_of_chunk(talk, answer, is_last=chunk.is_last, vanished=lambda: self._lost)
        if not is_taken and not is_behind_refused:
            self._refuse(talk, answer)
            return
        if not is_taken or not chunk.is_last:
            self._write(answer)
            if self._commands % TURN == 0:
                await asyncio.sleep(0)
            return
        self._verb = "CONTENT"
        self._write(answer)
        metrics.observe_transaction(self.loop.time() - began)
        self._flush()
        reach("delivery.replied")

    def _take_content(self, intake: Intake | Dropped) -> None:
        engine = self._engine
        while not self._content_ended and (event := engine.next_event()) is not None:
            if isinstance(event, Content):
                intake.take(event.octets)
            elif isinstance(event, EndOfContent):
                self._content_ended = True

    async def _begin_anew(self, talk: Conversation) -> None:
        """XCLIENT: what follows is another client's session, so it has a greeting, a seat and limits of its own."""
        talk.lenient = self._door.is_lenient(talk.session)
        talk.offered = {}
        talk.errors = 0
        if self._seat is not None:
            self._door.site.connections.leave(self._seat)
            self._seat = None
        before, talk.session_before = talk.session_before, None
        if before is not None and "disconnect" in self._door.chain.stages:
            await self._door.chain.disconnect(before)
        metrics.count_session_end()
        if not await self._greet(talk, is_anew=True):
            self._closing = True

    async def _start_tls(self, talk: Conversation) -> None:
        if self._engine.has_input:  # RFC 3207 4.2: nothing may stand behind STARTTLS
            self._write(talk.ours(554, "5.5.0", "Input behind STARTTLS"))
            raise _Gone
        abandon(talk, why="starttls")
        talk.unbind()
        tls = self._door.tls
        self.tls_context = tls.context if tls is not None else None
        try:
            async with asyncio.timeout(self._limits.tls_handshake):
                await self.smtp_STARTTLS("")
        except TimeoutError as error:
            raise TLSSetupException from error
        session = talk.session
        session.tls = facts(self.transport.get_extra_info("ssl_object") if self.transport is not None else None)
        session.helo = ""  # RFC 3207 4.2: all that was learnt before is forgotten
        session.esmtp = False
        talk.offered = {}
        talk.state = State.GREETING

    def _write(self, answer: Reply) -> None:
        metrics.count_reply(self._verb, answer.code)
        self._out.append(answer.render())

    def _flush(self) -> None:
        out = self._out
        if not out:
            return
        if self.transport is not None and not self._lost:
            try:  # noqa: SIM105 - with every reply: suppress() costs as much as a short write
                self.transport.write(out[0] if len(out) == 1 else b"".join(out))  # type: ignore[attr-defined] # see above
            except (OSError, RuntimeError):
                pass  # the connection is gone, which connection_lost says
        out.clear()


async def _told(result: Reply) -> Reply:
    """A reply that has to wait for those before it."""
    return result


def _back_to_ready(talk: Conversation) -> None:
    """A transaction that has ended, for whatever reason, is no state of the session any more."""
    if talk.transaction is None and (talk.state is State.MAIL or talk.state is State.RCPT):
        talk.state = State.READY
