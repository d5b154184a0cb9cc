"""The task of a session: greeting, commands that have to be awaited, content, TLS, and the end. RFC 5321 3.1, 3.8, 4.3.

`border` is what the transport calls; `at_once` answers most commands without waking this task. Replies are gathered and
written when no more input waits.
"""

from __future__ import annotations

import asyncio
from asyncio.streams import FlowControlMixin
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog
from aiosmtpd.smtp import TLSSetupException
from typing_extensions import override

from gateway import metrics
from gateway.errors import LinkError
from gateway.native import mypyc_attr
from gateway.smtp.at_once import TURN, AtOnce, back_to_ready
from gateway.smtp.border import PAUSE_AT, prototype
from gateway.smtp.certificates import facts, handshake_failed
from gateway.smtp.chunks import Dropped
from gateway.smtp.connections import Full, Seat, network_of
from gateway.smtp.conversation import NOT_OFFERED, Conversation, Pending
from gateway.smtp.discipline import IMPROPER_PIPELINING, note, octets_wait, turned_away
from gateway.smtp.each import named, to_all
from gateway.smtp.intake import Intake
from gateway.smtp.protocol import Chunk, Command, Event, LineTooLong, Response
from gateway.smtp.replies import Reply
from gateway.smtp.states import State, advance
from gateway.smtp.tls_layer import begin_tls, own_layer
from gateway.smtp.transactions import abandon, conclude, end, refuse_session, tell_observers
from gateway.smtp.verbs import MAY_FOLLOW_PENDING, VERBS
from gateway.smtp.verbs.bdat import bdat, end_of_chunk
from gateway.smtp.verbs.data import finish_content

__all__ = ["PAUSE_AT", "Server", "prototype"]

_drained: Final[Callable[[Any], Coroutine[Any, Any, None]]] = getattr(FlowControlMixin, "_drain_helper")  # noqa: B009 - the stubs do not know it

log: Final = structlog.get_logger("mailgateway.smtp")

READ_TURNS: Final = 5
"""Turns of the loop in which it reads what waits in a socket."""


class _Gone(Exception):  # noqa: N818 - not an error: the client left, or its time is up
    """The conversation is over; nothing more is read."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Server(AtOnce):
    """One connection of a client."""

    __slots__ = ()

    @override
    async def _converse(self, talk: Conversation) -> None:
        fault: Reply | None = None
        cancelled: BaseException | None = None
        try:
            if not self._ungreeted or await self._greet(talk):
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
        except BaseException as error:  # noqa: BLE001 - raised again: nothing may be awaited within `except` where this is compiled
            cancelled = error
        if self._talk is not None:  # else it has left at once
            await self._leave(talk, fault)
        if cancelled is not None:
            raise cancelled

    async def _leave(self, talk: Conversation, fault: Reply | None) -> None:
        self._hang_up(talk)
        try:
            if fault is not None:
                end(talk, fault)
            if talk.transaction is not None:
                abandon(talk, why=self._timed_out or "the client left")
            if talk.bound is not None:
                talk.unbind()
            if talk.ended:
                await tell_observers(talk)
            if "disconnect" in self._door.chain.stages:
                await self._door.chain.disconnect(talk.session)
        finally:
            self._forget(talk)

    @override
    def _leave_at_once(self, talk: Conversation) -> None:
        """As `_leave`, where it has nobody to wait for: most sessions, when they say QUIT."""
        if (
            talk.transaction is not None
            or talk.ending is not None
            or talk.ended
            or self._later is not None
            or self._begun is not None
            or self._fault is not None
            or self._receiving is not None
            or self._owed
            or "disconnect" in self._door.chain.stages
        ):
            return
        try:
            if self._out:
                self._flush()
            self._close()
            if talk.bound is not None:
                talk.unbind()
        except Exception:
            log.exception("session.failed", session=talk.id)
        finally:
            self._forget(talk)

    def _hang_up(self, talk: Conversation) -> None:
        """The last replies go out, and nothing more is read."""
        self._owed.clear()
        if self._out:
            self._flush()
        if self._receiving is not None:
            self._receiving.discard()
        if self._later is not None:
            self._later.work.close()
        if self._begun is not None:
            self._begun.give_up()
        if talk.ending is not None:
            conclude(talk)
        self._close()

    def _close(self) -> None:
        self._look_no_more()
        if self.transport is not None and not self._lost:
            self.transport.close()
            if self._paused or self._original_transport is not None or self._door.is_tls:
                # A client that takes its last replies never does not keep the socket for ever.
                self._group = self._door.last_looks.join(self, self.loop.time())

    def _forget(self, talk: Conversation) -> None:
        """The session is over: its seat is free, and its door may close."""
        self._talk = None  # it knows this connection: neither would go before the collector looks
        door = self._door
        door.site.relay.session_over(talk.session.id)
        if self._seat is not None:
            door.site.connections.leave(self._seat)
        door.leave(self)
        metrics.count_session_end()

    @override
    def _begin(self, talk: Conversation) -> None:
        """Greet at once, where nobody has to be asked; the session's task is made when it has something to do."""
        try:
            is_suspect = talk.is_suspect
            if self._admit(talk, is_suspect):
                door = self._door
                # a plugin, or the patience of a client that may talk too early
                if not (
                    "connect" in door.chain.stages
                    or (is_suspect and (door.greeting_delay > 0 or octets_wait(door, self.transport)))
                ):
                    self._write(door.greeting)
                    self._parked = True
                    return
                self._ungreeted = True
        except Exception as error:  # noqa: BLE001 - protects the worker: the task tells the client and the log
            self._fault = error
        self._wake()

    def _admit(self, talk: Conversation, is_suspect: bool) -> bool:
        """A seat for a client that begins; without one it is told so, and the connection ends."""
        door = self._door
        metrics.count_session()
        seat: Seat | Full | None = self._seat
        if seat is None:  # strangers' networks have a limit of their own
            seat = door.site.connections.take(network_of(talk.session.client_address, self._limits) if is_suspect else None)
        if isinstance(seat, Seat):
            self._seat = seat
            if not door.draining:
                return True
        if seat is Full.NETWORK:
            self._end_with(talk, "4.7.0", "Too many connections from your network")
        elif seat is Full.RATE:
            self._end_with(talk, "4.7.0", "Connections from your network come too fast")
        else:
            self._end_with(talk, "4.3.2", "Too busy; try again later")
        return False

    async def _greet(self, talk: Conversation, *, is_anew: bool = False) -> bool:
        """The greeting: 220, or 421 and 554 (RFC 5321 3.1). False: the connection ends. `is_anew`: after XCLIENT."""
        door = self._door
        may_talk = is_anew or not talk.is_suspect
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
        self._write(door.greeting)
        return True

    async def _early_talk(self, talk: Conversation) -> Reply | None:
        """What a client is told that talks before the greeting, if it is not greeted all the same."""
        delay = self._door.greeting_delay
        if delay:
            await self._hold_back(talk, delay)
        if not self._engine.has_input:
            if not octets_wait(self._door, self.transport):
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
            if self._later is not None or self._begun is not None:
                await self._do_later(talk)
                continue
            intake = self._receiving
            if isinstance(intake, Intake):
                if not self._content_ended:
                    await self._more_content(talk, intake)
                    continue
                self._receiving = None
                self._verb = "CONTENT"
                began = self.loop.time()
                self._write(await finish_content(talk, intake, self._is_lost))
                self._has_answered(talk, began)
                continue
            event = engine.next_event() if engine.has_input else None
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
                await self._replies_taken()

    async def _replies_taken(self) -> None:
        """The client reads its replies. _Gone when it left without."""
        try:
            await _drained(self)
        except ConnectionError:
            raise _Gone from None

    async def _more(self, talk: Conversation) -> None:
        """Write what is owed and wait for input. _Gone when there will be none."""
        if self._out:
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
        if self._later is not None or self._fault is not None or self._begun is not None:
            return
        if self._timed_out:
            self._say_goodbye(talk)
        if self._lost:
            raise _Gone

    @override
    async def ask_client(self, challenge: Reply) -> bytes | None:
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

    async def _do_later(self, talk: Conversation) -> None:
        """What was begun at once."""
        begun = self._begun
        if begun is not None:
            answer = await begun
            self._begun = None
            self._write(answer)
            self._has_answered(talk, begun.since)
            return
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
            back_to_ready(talk)
            return
        await self._conclude(talk, later.verb, await later.work, later.after)

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
        talk.owed, talk.alone = len(self._owed), False
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

    def _out_of_bounds(self, talk: Conversation, command: Command) -> Reply | None:
        if command.bare_lf and not talk.lenient:
            return talk.ours(500, "5.5.2", "Commands end in CRLF")  # RFC 5321 2.3.8
        if self._commands > self._limits.commands:
            return self._final(talk, "4.7.0", "Too many commands")
        if command.verb not in self._door.spoken and talk.state is not State.REFUSED:  # there, 503 to everything (RFC 5321 3.1)
            return talk.ours(500, "5.5.2", "Command not recognized")
        if not command.argument.isascii() and command.verb not in {"MAIL", "RCPT", "VRFY", "EXPN"}:
            return talk.ours(501, "5.5.2", "Octets outside ASCII")
        return None

    async def _settle(self, talk: Conversation) -> None:
        """Replies the next hop owes, in the order of the commands."""
        owed = self._owed
        asked = self._verb
        while owed:
            verb, pending = owed.pop(0)
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
        back_to_ready(talk)

    async def _more_content(self, talk: Conversation, intake: Intake) -> None:
        """Until the content is whole, or cannot become so."""
        self._take_content(intake)
        while not self._content_ended:
            if intake.must_close:
                answer = talk.ours(500, "5.5.2", "Line too long")
                self._write(to_all(answer, talk.ability(), named(talk)))
                self._closing = True
                end(talk, answer)
                return
            await self._more(talk)
            if self._eof and not self._content_ended:
                raise _Gone

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
        answer = await end_of_chunk(talk, answer, is_last=chunk.is_last, vanished=self._is_lost)
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
        self._has_answered(talk, began)

    async def _begin_anew(self, talk: Conversation) -> None:
        """XCLIENT: what follows is another client's session, so it has a greeting, a seat and limits of its own."""
        talk.lenient = self._door.is_lenient(talk.session)
        talk.offered = NOT_OFFERED
        talk.errors = 0
        if self._seat is not None:
            self._door.site.connections.leave(self._seat)
            self._seat = None
        before, talk.session_before = talk.session_before, None
        if before is not None and "disconnect" in self._door.chain.stages:
            await self._door.chain.disconnect(before)
        metrics.count_session_end()
        if not self._admit(talk, talk.is_suspect) or not await self._greet(talk, is_anew=True):
            self._closing = True

    async def _shake_hands(self) -> None:
        """STARTTLS as aiosmtpd does it, or the same with the loop's own layer. TLSSetupException."""
        context, transport = self.tls_context, self.transport
        if own_layer(self.loop) is None or context is None or transport is None:
            await self.smtp_STARTTLS("")
            return
        await self.push("220 Ready to start TLS")
        self._original_transport = transport
        try:
            await begin_tls(self.loop, transport, self, context, limit=self._limits.tls_handshake)
        except Exception as error:
            raise TLSSetupException from error

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
                await self._shake_hands()
        except TimeoutError as error:
            raise TLSSetupException from error
        session = talk.session
        session.tls = facts(self.transport.get_extra_info("ssl_object") if self.transport is not None else None)
        session.helo = ""  # RFC 3207 4.2: all that was learnt before is forgotten
        session.esmtp = False
        talk.offered = NOT_OFFERED
        talk.state = State.GREETING
