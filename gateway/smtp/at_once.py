"""Commands answered where their octets arrive, without the session's task: those that need neither a plugin nor a database.

While the task waits for input, `_go_on` takes what came, asks the verb, and, where the next hop owes an answer, goes on when
it is there. What has to be awaited is begun here and left to the task (`Later`), and so is everything out of the ordinary.
"""

from __future__ import annotations

import asyncio
from typing import Final

from typing_extensions import override

from gateway import metrics
from gateway.begun import Begun
from gateway.faults import WATCHED, reach
from gateway.native import mypyc_attr
from gateway.relay.handover import AHEAD
from gateway.relay.sending import Sending
from gateway.smtp.border import Border, Later
from gateway.smtp.chunks import Dropped
from gateway.smtp.conversation import Conversation, Pending
from gateway.smtp.discipline import ENDS_GROUP, IMPROPER_PIPELINING, note
from gateway.smtp.intake import Intake
from gateway.smtp.protocol import Command
from gateway.smtp.replies import Reply
from gateway.smtp.states import ALLOWED, State
from gateway.smtp.transactions import conclude, refuse_session
from gateway.smtp.verbs import AT_ONCE, HELLO, MAY_FOLLOW_PENDING, VERBS, WITH_ARGUMENT, Result
from gateway.smtp.verbs.data import finish_content

_ASKED: Final = ("check", "judge", "rewrite", "sign")
"""Stages between the content and its reply."""
TURN: Final = 64
"""Commands that one client has answered before the others get their turn."""
# By names of this module: compiled, it asks a dict for what a module that is not compiled says, at each use.
_VERBS: Final = VERBS
_MAIL: Final = State.MAIL  # a look into an Enum's class costs as much as a call in Python 3.11
_RCPT: Final = State.RCPT
_READY: Final = State.READY
_AT_ONCE: Final = AT_ONCE


@mypyc_attr(allow_interpreted_subclasses=True)
class AtOnce(Border):
    """A connection that answers at once what it can."""

    __slots__ = ()

    @override
    def _answer(self, command: Command) -> None:
        """As `_go_on`, for what most input is: one of the usual commands alone, and nothing is owed or out of the ordinary."""
        talk, verb = self._talk, command.verb
        after = ALLOWED[talk.state].get(verb) if talk is not None else None
        if (
            talk is None
            or after is None
            or self._owed
            or self._paused
            or self._reading_paused
            or self._door.draining
            or (verb not in _AT_ONCE and not self._is_hello(command))
            or self._commands >= self._limits.commands
        ):
            self._engine.put_back(command)
            self._go_on()
            return
        try:
            self._commands += 1
            self._verb = verb
            talk.alone = True
            talk.lf_lines = False  # a usual command ends in CRLF
            talk.owed = 0
            if not self._take_result(talk, verb, _VERBS[verb](talk, command), after) or talk.ended:
                if self._closing:
                    self._leave_at_once(talk)
                self._wake()
            elif self._out:
                self._flush()
        except Exception as error:  # noqa: BLE001 - see below
            self._fault = error
            self._wake()

    @override
    def _go_on(self) -> None:
        """Answer what can be answered at once, while the task waits for input; wake it for everything else."""
        self._going = False
        talk = self._talk
        if not self._parked or talk is None or self._receiving is not None:
            return
        try:
            if (
                self._paused
                or (self._owed and not self._settle_at_once(talk))
                or (self._engine.has_input and not self._take_commands(talk))
            ):
                if self._closing:
                    self._leave_at_once(talk)
                self._wake()
                return
            if self._out:
                self._flush()
            if self._reading_paused and not self._owed and self._receiving is None:
                self._reading_paused = False
                self.transport.resume_reading()  # type: ignore[union-attr] # the stubs know a base transport only
            if talk.ended or (self._door.draining and talk.transaction is None and not self._owed):
                self._wake()
        except Exception as error:  # noqa: BLE001 - protects the worker: the task tells the client and the log
            self._fault = error
            self._wake()

    @override
    def _finish(self, intake: Intake | Dropped) -> None:
        """On to the reply without the task, where nothing but the next hop is asked before it."""
        talk, stages = self._talk, self._door.chain.stages
        if (
            not self._parked
            or talk is None
            or type(intake) is not Intake  # a chunk is the task's
            or intake.size > AHEAD
            or self._owed
            or self._paused
            or (stages and not stages.isdisjoint(_ASKED))
            or asyncio.current_task(self.loop) is not None  # octets that a task hands us, which is another one
        ):
            self._wake()
            return
        self._receiving = None
        self._parked = False
        self._verb = "CONTENT"
        self._begun = begun = Begun(finish_content(talk, intake, self._is_lost), self._last)
        self._go_on_with(talk, begun)

    def _go_on_with(self, talk: Conversation, begun: Begun[Reply]) -> None:
        try:
            answer = begun.go_on()
            if answer is None:
                waits_for = begun.waits_for
                if isinstance(waits_for, Sending):
                    waits_for.on_answer = self._content_answered
                else:
                    self._wake()
                return
            self._begun = None
            waiter = self._waiter
            self._parked = self._handler_coroutine is None if waiter is None else not waiter.done()
            self._write(answer)
            self._has_answered(talk, begun.since)
            if self._paused or talk.ended or self._closing or (self._door.draining and talk.transaction is None):
                self._wake()
            elif self._engine.has_input or self._reading_paused:
                self._go_on()
        except Exception as error:  # noqa: BLE001 - protects the worker: the task tells the client and the log
            self._begun = None
            self._fault = error
            self._wake()

    def _content_answered(self, sending: Sending) -> None:
        """The next hop has answered. Everything but a plain acceptance is the task's."""
        talk, begun = self._talk, self._begun
        if talk is None or begun is None:
            return
        if sending.is_accepted() and asyncio.current_task(self.loop) is None:
            self._go_on_with(talk, begun)
        else:
            self._wake()

    def _is_lost(self) -> bool:
        return self._lost

    def _has_answered(self, talk: Conversation, began: float) -> None:
        """The reply to a content that was whole at `began` is written; the rest nobody waits for."""
        if self._out:
            self._flush()
        metrics.observe_transaction(self.loop.time() - began)
        conclude(talk)
        if WATCHED:
            reach("delivery.replied")

    def _take_commands(self, talk: Conversation) -> bool:
        """False: the task is needed."""
        engine = self._engine
        for _ in range(TURN):
            event = engine.next_event() if engine.has_input else None
            if event is None:
                return engine.dropped <= self._limits.text_line
            after = None
            if isinstance(event, Command):
                after = ALLOWED[talk.state].get(event.verb)
                if self._owed and not talk.session.esmtp:
                    note(talk, IMPROPER_PIPELINING, value=event.verb)
            if (
                not isinstance(event, Command)
                or after is None
                or (event.verb not in _AT_ONCE and not self._is_hello(event))
                or (event.argument and event.verb not in WITH_ARGUMENT)
                or (self._owed and event.verb not in MAY_FOLLOW_PENDING)
                or (event.bare_lf and not talk.lenient)
                or self._commands >= self._limits.commands
            ):
                engine.put_back(event)
                self._flush()
                return bool(self._owed)  # the next hop's answer brings us back
            talk.alone = False
            if not self._do_at_once(talk, event, after):
                return False
            if self._receiving is not None:
                self._flush()
                if not engine.has_input:
                    return True
                self._take_content(self._receiving)
                return not (self._content_ended or self._receiving.must_close)
        return False

    def _is_hello(self, command: Command) -> bool:
        """EHLO or its like, as the protocol of this door has it."""
        return command.verb in HELLO and command.verb in self._door.spoken and command.argument.isascii()

    def _do_at_once(self, talk: Conversation, command: Command, after: State) -> bool:
        """One command; False when what it leads to is the task's."""
        self._commands += 1
        verb = self._verb = command.verb
        talk.lf_lines = command.bare_lf
        talk.owed = len(self._owed) if self._owed else 0
        return self._take_result(talk, verb, _VERBS[verb](talk, command), after)

    def _take_result(self, talk: Conversation, verb: str, result: Result, after: State) -> bool:
        """What a verb has returned; False when that is the task's."""
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

    def _answered(self, alone: bool) -> None:
        """The next hop has answered. Replies that came together, and a link that failed, are gone on with in the next turn."""
        if self._going:
            return
        if alone:
            self._go_on()
        else:
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
            del owed[0]
            self._verb = verb
            result = pending.finish(answer)
            if not isinstance(result, Reply):
                self._later = Later(verb, result, None)
                return False
            self._write(result)
            if verb == "RCPT" and talk.session.unknown_recipients >= self._limits.unknown_recipients and self._after_rcpt(talk):
                owed.clear()  # nothing follows a 421
                return False
        self._verb = asked
        if not owed and talk.transaction is None:
            back_to_ready(talk)
        return not talk.ended

    # --- what a reply changes, at once or with the task

    def _after(self, talk: Conversation, verb: str, result: Reply, after: State) -> None:
        """What a reply changes."""
        if verb == "DATA" and result.code == 354:
            talk.state = after
            if self._engine.has_input:
                note(talk, IMPROPER_PIPELINING, value=verb)
            limits, lenient = self._limits, talk.lenient
            stream = self._engine.begin_content(talk.lf_lines and lenient, limits.text_line)
            door = self._door
            self._receiving = Intake(stream, limits, door.site.spool, lenient, door.chain.verifies)
            self._content_ended = False
            self._write(result)
            return
        if result.first in {2, 3} or verb == "RCPT":
            talk.state = after
        if result.code == 220:
            if verb == "STARTTLS":
                self._tls_due = True
                return
            if verb == "XCLIENT":
                self._anew_due = True
                return
        if self._engine.has_input and (verb in ENDS_GROUP or not talk.session.esmtp):
            note(talk, IMPROPER_PIPELINING, value=verb)
        if verb == "QUIT":
            self._closing = True
        if verb == "RCPT":
            self._write(result)
            self._after_rcpt(talk)
        elif result.first in {4, 5}:
            self._refuse(talk, result)
        else:
            self._write(result)
        if talk.transaction is None:
            back_to_ready(talk)

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


async def _told(result: Reply) -> Reply:
    """A reply that has to wait for those before it."""
    return result


def back_to_ready(talk: Conversation) -> None:
    """A transaction that has ended, for whatever reason, is no state of the session any more."""
    if talk.transaction is None and (talk.state is _MAIL or talk.state is _RCPT):
        talk.state = _READY
