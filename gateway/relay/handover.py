"""One transaction's way to one next hop: envelope live, replay until the content has begun, content, reply. RFC 5321 3.3.

Whose a reply is goes by command (design §1.4): replies to MAIL, RCPT and content are the client's; 421, 503, 530, nonsense,
silence and a lost link are the link's and become LinkError. Until the first octet of content is sent, a link that fails
is replaced, by another server if need be, and the envelope said again; every recipient accepted before must be accepted
again. Afterwards nothing is repeated: the error says `unknown`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from gateway.config.models import RelayConfig
from gateway.errors import LinkError
from gateway.relay.link import Answer, Link, settle
from gateway.smtp.replies import Reply

MAX_REPLAYS = 3
"""New links in one transaction, after the first."""
Command = tuple[bytes, Sequence[bytes]]
"""A path as octets with its angle brackets, and its parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFacts:
    """Who the transaction is for: what the next hop may be told of the client."""

    address: str
    port: int = 0
    helo: str = ""
    name: str = ""
    identity: str = ""
    protocol: str = "SMTP"


class Links(Protocol):
    """What a handover needs of its route."""

    settings: RelayConfig

    def reuse(self) -> Link | None:
        """An idle link, at once."""

    async def acquire(self, *, fresh: bool = False) -> Link:
        """A link, `fresh`: a new one. LinkError."""
        ...

    def release(self, link: Link) -> None:
        """Back, clean."""

    def discard(self, link: Link) -> None:
        """Not to be used again."""


class EnvelopeError(LinkError):
    """The next hop refused a path of an envelope that `prepare` gave it."""

    def __init__(self, next_hop: str, line: bytes, reply: Reply) -> None:
        shown = line.decode("utf-8", "replace")
        super().__init__(next_hop, f"{shown} answered with {reply}", enhanced="4.3.5")
        self.line = line
        """The command, without CRLF."""
        self.reply = reply


class _Step:
    """A MAIL or RCPT of the envelope."""

    __slots__ = ("future", "line", "reply")

    def __init__(self, line: bytes, future: asyncio.Future[Reply]) -> None:
        self.line = line
        self.future = future
        self.reply: Reply | None = None

    @property
    def is_refused(self) -> bool:
        return self.reply is not None and not self.reply.is_positive


def _line(front: bytes, path: bytes, parameters: Sequence[bytes]) -> bytes:
    return b" ".join((front + path, *parameters)) if parameters else front + path


class Handover:
    """One transaction towards one next hop. Made by `Relay.handover`; ended by `abandon`, in every case."""

    def __init__(self, links: Links, client: ClientFacts) -> None:
        self.client = client
        self._links = links
        self._loop = asyncio.get_running_loop()
        self._limit = links.settings.reply_timeout
        self._link: Link | None = None
        self._mail: _Step | None = None
        self._rcpts: list[_Step] = []
        self._opening: asyncio.Task[None] | None = None
        self._outstanding = 0
        """Commands of the envelope that are out on the present link."""
        self._settled: asyncio.Future[None] | None = None
        self._replays = 0
        self._error: LinkError | None = None
        self._next_hop = ""

    @property
    def next_hop(self) -> str:
        """For logs: the server that was talked to last, or the route's first."""
        return self._next_hop or str(self._links)

    # ---- the envelope, live ---------------------------------------------------------------------------------------

    def mail(self, path: bytes, parameters: Sequence[bytes]) -> Awaitable[Reply]:
        """MAIL, on an idle link at once, else on a new one. Its reply, or LinkError."""
        if self._mail is not None:
            msg = "one handover is one transaction"
            raise RuntimeError(msg)
        self._mail = step = self._step(b"MAIL FROM:", path, parameters)
        if self._error is not None:
            settle(step.future, self._error)
            return step.future
        link = self._links.reuse()
        if link is None:
            self._open()
        else:
            self._begin(link)
        return step.future

    def rcpt(self, path: bytes, parameters: Sequence[bytes]) -> Awaitable[Reply]:
        """RCPT, sent without waiting for other replies if the next hop offers PIPELINING. Its reply, or LinkError.

        When MAIL was refused, MAIL's reply.
        """
        mail = self._mail
        if mail is None:
            msg = "rcpt() before mail()"
            raise RuntimeError(msg)
        step = self._step(b"RCPT TO:", path, parameters)
        if self._error is not None:
            settle(step.future, self._error)
        elif mail.reply is not None and mail.is_refused:
            settle(step.future, mail.reply)
        else:
            self._rcpts.append(step)
            link = self._link
            if link is not None and link.error is not None:
                self._replace(link.error)
            elif link is not None:
                self._send(step, link)
        return step.future

    async def prepare(self, mail: Command, recipients: Sequence[Command]) -> None:
        """Make the link's envelope exactly this one; nothing is sent when it already is.

        A changed one is said anew after RSET. EnvelopeError when the next hop refuses a part of it, else LinkError.
        """
        await self._quiet()
        first = _line(b"MAIL FROM:", *mail)
        others = [_line(b"RCPT TO:", *recipient) for recipient in recipients]
        is_begun = self._mail is not None
        said = [] if self._mail is None or self._mail.is_refused else [self._mail.line, *(step.line for step in self._accepted())]
        if said == [first, *others]:
            return
        self._mail = _Step(first, self._loop.create_future())
        self._rcpts = [_Step(line, self._loop.create_future()) for line in others]
        link = self._link
        if link is not None and link.error is not None:
            self._replace(link.error)
        elif link is None:
            self._open()
        else:
            if is_begun:
                self._outstanding += 1
                link.command(b"RSET", self._limit, partial(self._reset_answered, link))
            self._say_all(link)
        await self._quiet()
        for step in (self._mail, *self._rcpts):
            if step.reply is not None and step.is_refused:
                raise EnvelopeError(self.next_hop, step.line, step.reply)

    # ---- the content ----------------------------------------------------------------------------------------------

    async def send(self, chunks: Iterable[bytes], *, size: int) -> list[Reply]:
        """DATA, the content, and the reply to it (or to DATA, if that was not 354). `size` in octets, before dot-stuffing.

        `chunks` is gone through once, after 354. The link is given back. LinkError when there is no reply for the
        client; `unknown` is set when content was sent and the next hop may have taken it.
        """
        while True:
            link = await self._ready()
            try:
                reply = await link.ask(b"DATA", self._limit, last=True)
            except LinkError as error:
                self._drop(error)
                continue
            except BaseException:
                self._cut(link)
                raise
            if reply.code == 354:
                break
            if reply.code == 421:
                self._drop(LinkError(link.next_hop, f"DATA answered with {reply}"))
                continue
            self._check(link, reply)
            link.refusals += 1
            self._end(link, needs_reset=True)
            return [reply]
        settings = self._links.settings
        final_limit = settings.final_reply_timeout
        try:
            reply = await link.content(chunks, block_limit=settings.reply_timeout, final_limit=final_limit + size / 1_000_000)
        except BaseException:
            self._cut(link)
            raise
        self._check_final(link, reply)
        if reply.is_positive:
            link.refusals = 0
        else:
            link.refusals += 1
        self._end(link, needs_reset=False)
        return [reply]

    async def abandon(self) -> None:
        """Nothing more will come: the envelope is reset and the link given back as soon as that is answered.

        Safe at any time, twice, and after `send`; waits for nothing.
        """
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        link = self._link
        self._fail_waiting(LinkError(self.next_hop, "the transaction was given up"))
        if link is not None:
            self._end(link, needs_reset=True)

    # ---- inside: commands and answers -----------------------------------------------------------------------------

    def _step(self, front: bytes, path: bytes, parameters: Sequence[bytes]) -> _Step:
        return _Step(_line(front, path, parameters), self._loop.create_future())

    def _accepted(self) -> list[_Step]:
        return [step for step in self._rcpts if not step.is_refused]

    def _begin(self, link: Link) -> None:
        """An envelope starts on this link; everything of it that was not refused is said."""
        self._link = link
        self._next_hop = link.next_hop
        self._outstanding = 0
        link.transactions += 1
        self._say_all(link)

    def _say_all(self, link: Link) -> None:
        if self._mail is not None:
            self._send(self._mail, link)
        for step in self._accepted():
            self._send(step, link)

    def _send(self, step: _Step, link: Link) -> None:
        self._outstanding += 1
        link.command(step.line, self._limit, partial(self._answered, step, link))

    def _answered(self, step: _Step, link: Link, answer: Answer) -> None:
        """A reply to MAIL or RCPT, or the end of the link they were said on."""
        if isinstance(answer, Reply) and not answer.is_positive:
            link.refusals += 1
        if link is not self._link:
            return  # of a link given up before
        if isinstance(answer, LinkError):
            self._replace(answer)
            return
        self._outstanding -= 1
        mail = self._mail
        if step is not mail and mail is not None and mail.reply is not None and mail.is_refused:
            answer = mail.reply  # RFC 2920 3.1: sent before MAIL's refusal was known; there was nothing to answer to
        elif answer.code == 421:
            self._replace(LinkError(link.next_hop, f"{_verb(step)} answered with {answer}"))
            return
        elif answer.first == 3 or answer.code in (503, 530):
            self._fail(LinkError(link.next_hop, f"{_verb(step)} answered with {answer}", enhanced="4.3.5"))
            return
        if not answer.is_positive and step.reply is not None and step.reply.is_positive:
            self._fail(LinkError(link.next_hop, f"{_verb(step)} was accepted before, and now answered with {answer}"))
            return
        step.reply = answer
        if not step.future.done():
            step.future.set_result(answer)
        if not self._outstanding:
            self._settle()

    def _reset_answered(self, link: Link, answer: Answer) -> None:
        """The reply to our RSET before a changed envelope."""
        if link is not self._link:
            return
        if isinstance(answer, LinkError):
            self._replace(answer)
        elif not answer.is_positive:
            self._replace(LinkError(link.next_hop, f"RSET answered with {answer}", enhanced="4.3.5"))
        else:
            self._outstanding -= 1
            if not self._outstanding:
                self._settle()

    # ---- inside: links that fail ----------------------------------------------------------------------------------

    def _replace(self, error: LinkError) -> None:
        """The link failed with the envelope under way: say it again on another one, if that may still help."""
        self._drop(error)
        if self._error is not None:
            return
        if self._mail is not None and self._mail.reply is not None and self._mail.is_refused:
            for step in self._rcpts:
                settle(step.future, self._mail.reply)
            self._settle()
        else:
            self._open()

    def _drop(self, error: LinkError) -> None:
        """The link failed; count it, and give up when that happened too often. Silence counts so that one more try is left."""
        is_hung = self._link is not None and self._link.is_hung
        self._forget_link()
        self._replays += MAX_REPLAYS if is_hung and not self._replays else 1
        if self._replays > MAX_REPLAYS:
            self._fail(error)

    def _forget_link(self) -> None:
        link, self._link = self._link, None
        self._outstanding = 0
        if link is not None:
            self._links.discard(link)

    def _open(self) -> None:
        self._opening = self._loop.create_task(self._acquire())

    async def _acquire(self) -> None:
        """Get a link, idle or new, and say the envelope on it. After a failure only a new one will do."""
        try:
            link = await self._links.acquire(fresh=self._replays > 0)
        except LinkError as error:
            self._opening = None
            self._fail(error)
            return
        except Exception as error:  # noqa: BLE001 - a border: whatever a library raises, nobody waits for ever
            self._opening = None
            self._fail(LinkError(self.next_hop, f"no link: {error!r}", enhanced="4.3.5"))
            return
        self._opening = None
        self._begin(link)

    def _fail(self, error: LinkError) -> None:
        """This handover is over."""
        self._forget_link()
        self._fail_waiting(error)

    def _fail_waiting(self, error: LinkError) -> None:
        if self._error is None:
            self._error = error
        for step in (self._mail, *self._rcpts):
            if step is not None:
                settle(step.future, error)
        self._settle()

    def _settle(self) -> None:
        if self._settled is not None and not self._settled.done():
            self._settled.set_result(None)

    async def _quiet(self) -> None:
        """Until every command of the envelope was answered. LinkError when the handover is over."""
        while self._error is None and (self._outstanding or self._opening is not None):
            self._settled = self._loop.create_future()
            await self._settled
        if self._error is not None:
            raise self._error

    async def _ready(self) -> Link:
        """A link on which the whole envelope was accepted, after a replay if need be."""
        while True:
            await self._quiet()
            if self._mail is None or self._mail.is_refused or not self._accepted():
                msg = "send() without an accepted envelope"
                raise RuntimeError(msg)
            link = self._link
            if link is None:
                self._open()
            elif link.error is not None or link.leaving:
                self._drop(link.error or LinkError(link.next_hop, "the next hop is leaving"))
            else:
                return link

    # ---- inside: the end ------------------------------------------------------------------------------------------

    def _check(self, link: Link, reply: Reply) -> None:
        """DATA's reply is the client's only if it is a refusal, and not of our link."""
        if reply.first not in (4, 5) or reply.code in (503, 530):
            error = LinkError(link.next_hop, f"DATA answered with {reply}", enhanced="4.3.5")
            self._fail(error)
            raise error

    def _check_final(self, link: Link, reply: Reply) -> None:
        """The reply to the content is the client's, save 421 and nonsense."""
        if reply.code == 421 or reply.first == 3:
            error = LinkError(link.next_hop, f"content answered with {reply}", unknown=reply.first == 3)
            self._fail(error)
            raise error

    def _cut(self, link: Link) -> None:
        """Given up in the middle of DATA or content: nothing on this link can be trusted any more."""
        error = link.error or LinkError(link.next_hop, "given up")
        link.fail(error)
        self._fail(error)

    def _end(self, link: Link, *, needs_reset: bool) -> None:
        """The transaction is over; the link goes back clean, or is retired."""
        self._link = None
        self._outstanding = 0
        self._fail_waiting(LinkError(link.next_hop, "the transaction is over"))
        if not needs_reset:
            self._links.release(link)
        elif link.error is not None or link.leaving:
            self._links.discard(link)
        else:
            link.command(b"RSET", self._limit, partial(_after_reset, self._links, link))


def _after_reset(links: Links, link: Link, answer: Answer) -> None:
    """Only a clean RSET brings a link back."""
    if isinstance(answer, Reply) and answer.is_positive:
        links.release(link)
    else:
        links.discard(link)


def _verb(step: _Step) -> str:
    return step.line.partition(b" ")[0].decode("ascii")
