"""The envelope said to a next hop, and whose its replies are. RFC 5321 2.3.1, 3.3; design §1.4. No I/O.

Whose a reply is goes by the command, not by the code: replies to MAIL, RCPT, DATA and content are the client's, save those
that speak of our link (421, 503, 530) and those that make no sense.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from gateway.errors import LinkError
from gateway.smtp.replies import Reply

if TYPE_CHECKING:
    from gateway.relay.handover import Handover
    from gateway.relay.link import Link

Command = tuple[bytes, Sequence[bytes]]
"""A path as octets with its angle brackets, and its parameters."""


class Whose(Enum):
    """Whom a reply is for."""

    CLIENT = "client"
    LEAVING = "leaving"
    """421: this link ends, another one may do."""
    LINK = "link"
    """About how we talk to the next hop: no other link would do better."""


def whose(reply: Reply, *, to_data: bool = False, auth: bool = False) -> Whose:
    """Whom the reply to a MAIL or RCPT, or to DATA, is for. `auth`: the client is offered AUTH."""
    if reply.code == 421:
        return Whose.LEAVING
    if reply.first == 3 or reply.code == 503 or (reply.code == 530 and not auth):
        return Whose.LINK
    return Whose.LINK if to_data and reply.is_positive else Whose.CLIENT


def speaks_of_bdat(reply: Reply) -> bool:
    """A reply to BDAT that is about the command, which we chose, and not about the content."""
    return 500 <= reply.code <= 504 or reply.code == 530


class EnvelopeError(LinkError):
    """The next hop refused a path of an envelope that `prepare` gave it."""

    def __init__(self, next_hop: str, line: bytes, reply: Reply) -> None:
        shown = line.decode("utf-8", "replace")
        super().__init__(next_hop, f"{shown} answered with {reply}", enhanced="4.3.5")
        self.line = line
        """The command, without CRLF."""
        self.reply = reply


def line_of(front: bytes, command: Command) -> bytes:
    """The command as it goes out, without CRLF; `front` is `MAIL FROM:` or `RCPT TO:`."""
    path, parameters = command
    return b" ".join((front + path, *parameters)) if parameters else front + path


class Step:
    """A MAIL or RCPT of the envelope. Whoever gave the command awaits it, or is told by `on_answer`: a future for each costs more."""

    __slots__ = ("_waiters", "answer", "command", "is_refused", "line", "on_answer", "owner", "reply")

    def __init__(self, front: bytes, path: bytes, parameters: Sequence[bytes]) -> None:
        """`front` and the others as of `line_of`."""
        self.line = b" ".join((front + path, *parameters)) if parameters else front + path
        """Without CRLF."""
        self.command = path, parameters
        self.reply: Reply | None = None
        """The client's, on whichever link it was said last."""
        self.is_refused = False
        """That was not 2xx."""
        self.answer: Reply | LinkError | None = None
        """What whoever gave the command is told; it does not change any more."""
        self.on_answer: Callable[[bool], None] | None = None
        """Called once, when there is an answer. True: the link that brought it has nothing more to do, so that whatever follows may be done."""
        self.owner: Handover | None = None
        """Who said it, and is told what is heard."""
        self._waiters: list[asyncio.Future[None]] | None = None

    def heard(self, link: Link, answer: Reply | LinkError) -> None:
        """What came back for it on a link, or the end of that."""
        if self.owner is not None:
            self.owner.answered(self, link, answer)

    def replied(self, reply: Reply, alone: bool = False) -> None:
        """The next hop's reply, which is for the client. `alone` as for `on_answer`."""
        self.reply = reply
        self.is_refused = not reply.is_positive
        if self.answer is not None:
            return
        if self._waiters is None:
            self.answer = reply
            if self.on_answer is not None:
                self.on_answer(alone)
        else:
            self.settle(reply)

    def settle(self, answer: Reply | LinkError) -> None:
        """Give the answer, once."""
        if self.answer is not None:
            return
        self.answer = answer
        if self.on_answer is not None:
            self.on_answer(False)
        if self._waiters is not None:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def __await__(self) -> Generator[Any, None, Reply]:
        """The reply; raises LinkError."""
        while self.answer is None:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(waiter)
            yield from waiter
        if isinstance(self.answer, LinkError):
            raise self.answer
        return self.answer

    @property
    def verb(self) -> str:
        """MAIL or RCPT."""
        return self.line[:4].decode("ascii")


class Envelope:
    """One MAIL and its RCPTs, as they were given."""

    __slots__ = ("mail", "rcpts")

    def __init__(self, mail: Step, rcpts: list[Step]) -> None:
        self.mail = mail
        self.rcpts = rcpts

    @property
    def steps(self) -> list[Step]:
        """All of it."""
        return [self.mail, *self.rcpts]

    def is_exactly(self, mail: Command, recipients: Sequence[Command]) -> bool:
        """What stands of it is this MAIL and these RCPTs, in this order."""
        first = self.mail
        if first.is_refused or (first.command != mail and first.line != line_of(b"MAIL FROM:", mail)):
            return False
        at, count = 0, len(recipients)
        for step in self.rcpts:
            if not step.is_refused:
                if at == count or (step.command != recipients[at] and step.line != line_of(b"RCPT TO:", recipients[at])):
                    return False
                at += 1
        return at == count

    def is_accepted(self) -> bool:
        """Content may follow: MAIL and at least one RCPT stand."""
        if not self.mail.is_refused:
            for step in self.rcpts:
                if not step.is_refused:
                    return True
        return False

    @property
    def accepted(self) -> int:
        """How many recipients stand."""
        return sum(not step.is_refused for step in self.rcpts)

    @property
    def refusal(self) -> Step | None:
        """The first step that was refused."""
        return next((step for step in (self.mail, *self.rcpts) if step.is_refused), None)
