"""One transaction's way to one next hop: envelope live, replay until the content has begun, content, reply. RFC 5321 3.3.

The client's replies come back word for word (`envelope.whose`); everything about the link becomes LinkError. Until the
first octet of content is sent, a link that fails is replaced, by another server if need be, and the envelope said again; so
is one that was lent while the verdict was awaited (`lending`). Every recipient accepted before must be accepted again.
Afterwards nothing is repeated: the error says `unknown`.

Over 300 lines because it is one state machine, and a reader of a lost link needs all of it in one place.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final, Protocol

from gateway.begun import in_task
from gateway.config.models import RelayConfig
from gateway.content import Form
from gateway.errors import LinkError
from gateway.relay.chunks import BLOCK
from gateway.relay.each import PartlyAnsweredError, send_each
from gateway.relay.envelope import Command, Envelope, EnvelopeError, Step, Whose, speaks_of_bdat, whose
from gateway.relay.link import Answer, Link
from gateway.relay.sending import Sending
from gateway.smtp.replies import Reply

CHUNKS_NEED: Final = {Form.UNENDED: frozenset({"CHUNKING"}), Form.BINARY: frozenset({"CHUNKING", "BINARYMIME"})}
"""EHLO keywords for content of this form to go by BDAT."""
LENT: Final = "the envelope was said a second time, as its first link was lent"
AHEAD: Final = 16 * 1024
"""Octets of content that is made ready before 354 has come; more would be held twice while a slow next hop thinks about DATA."""
MAX_REPLAYS: Final = 3
"""New links in one transaction, after the first."""


_LINES: Final = Form.LINES
_NOTHING: Final[frozenset[str]] = frozenset()
_OVER: Final = LinkError("", "the transaction is over")
"""What a handover answers that has done its work."""


class Links(Protocol):
    """What a handover needs of its route."""

    settings: RelayConfig
    lends: bool
    """Others may have a link while its transaction waits for a verdict: it is nobody's own."""

    def reuse(self) -> Link | None:
        """An idle link, at once."""

    async def acquire(self, *, fresh: bool = False) -> Link:
        """A link, `fresh`: a new one. LinkError."""
        ...

    def release(self, link: Link) -> None:
        """Back, clean."""

    def discard(self, link: Link) -> None:
        """Not to be used again."""


class Handover:
    """One transaction towards one next hop. Made by `Relay.handover`; ended by `abandon`, in every case."""

    def __init__(self, links: Links, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.due = math.inf
        """Loop time at which the answer to the content must be there: the client waits for its own."""
        self._links = links
        self._loop = loop or asyncio.get_running_loop()
        self._limits = links.settings
        self._link: Link | None = None
        self._envelope: Envelope | None = None
        self._opening: asyncio.Task[None] | None = None
        self._outstanding = 0
        """Commands of the envelope that are out on the present link."""
        self._settled: asyncio.Future[None] | None = None
        self._replays = 0
        self._rests_since = 0.0
        """Loop time since when only a verdict is waited for; 0: it is not."""
        self._was_lent = False
        self._error: LinkError | None = None
        self._next_hop = ""
        self.client_may_authenticate = False
        """The listener offers AUTH, so that 530 tells the client something (design §1.4)."""
        self.note = ""
        """How the link was set up, for the trace; `` for a plain one."""
        self._needs: frozenset[str] = _NOTHING
        """EHLO keywords that the envelope's parameters belong to."""
        self.added_crlf = False
        """The content went by DATA and lacked a CRLF at its end."""

    @property
    def next_hop(self) -> str:
        """For logs: the server that was talked to last, or the route's first."""
        return self._next_hop or str(self._links)

    # ---- the envelope, live ---------------------------------------------------------------------------------------

    def mail(self, path: bytes, parameters: Sequence[bytes], needs: Iterable[str] = (), alone: bool = False) -> Step:
        """MAIL, on an idle link at once, else on a new one. Its reply, or LinkError.

        `needs`: EHLO keywords that the parameters belong to; a link without one of them is no link for this transaction.
        `alone`: no RCPT is there yet that could go out with it.
        """
        if self._envelope is not None:
            msg = "one handover is one transaction"
            raise RuntimeError(msg)
        step = Step(b"MAIL FROM:", path, parameters)
        self._envelope = Envelope(step, [])
        if needs:
            self._needs = self._needs.union(needs)
        if self._error is not None:
            step.settle(self._error)
            return step
        link = self._links.reuse()
        if link is None:
            self._open()
        else:
            self._begin(link, alone)
        return step

    def rcpt(self, path: bytes, parameters: Sequence[bytes], needs: Iterable[str] = (), alone: bool = False) -> Step:
        """RCPT, sent without waiting for other replies if the next hop offers PIPELINING. Its reply, or LinkError.

        When MAIL was refused, MAIL's reply. `needs` and `alone` as for `mail`.
        """
        envelope = self._envelope
        if envelope is None:
            msg = "rcpt() before mail()"
            raise RuntimeError(msg)
        step = Step(b"RCPT TO:", path, parameters)
        if self._error is not None:
            step.settle(self._error)
        elif envelope.mail.reply is not None and envelope.mail.is_refused:
            step.settle(envelope.mail.reply)
        else:
            envelope.rcpts.append(step)
            if needs:
                self._needs = self._needs.union(needs)
            self._rests_since = 0.0
            link = self._link
            if link is None:
                if self._opening is None:  # it was lent
                    self._open()
            elif link.error is not None:
                self._replace(link.error)
            elif not self._needs or self._suits(link):
                self._say(step, link, alone)
        return step

    def stands(self, mail: Command, recipients: Sequence[Command]) -> bool:
        """The link's envelope is exactly this one, and all of it was answered: there is nothing to `prepare`."""
        before = self._envelope
        if self._outstanding or self._opening is not None or self._error is not None or before is None:
            return False
        return before.is_exactly(mail, recipients)

    async def prepare(self, mail: Command, recipients: Sequence[Command]) -> None:
        """Make the link's envelope exactly this one; nothing is sent when it already is.

        A changed one is said anew after RSET. EnvelopeError when the next hop refuses a part of it, else LinkError.
        """
        self._rests_since = 0.0
        if self._outstanding or self._opening is not None or self._error is not None:
            await self._quiet()
        before = self._envelope
        if before is not None and before.is_exactly(mail, recipients):
            return
        wanted = Envelope(Step(b"MAIL FROM:", *mail), [Step(b"RCPT TO:", *recipient) for recipient in recipients])
        self._envelope = wanted
        link = self._link
        if link is not None and link.is_spent:  # RFC 9422 4.2: the changed envelope would be one MAIL too many
            self._forget_link()
            link = None
        if link is None:
            self._open()
        elif link.error is not None:
            self._replace(link.error)
        else:
            if before is not None:
                self._outstanding += 1
                link.transactions += 1
                link.command(b"RSET", self._limits.reply_timeout, partial(self._own_answered, b"RSET"))
            if link.before_mail:
                self._tell(link)
            for step in wanted.steps:
                self._say(step, link)
        await self._quiet()
        refused = wanted.refusal
        if refused is not None and refused.reply is not None:
            raise EnvelopeError(self.next_hop, refused.line, refused.reply)

    # ---- the verdict ----------------------------------------------------------------------------------------------

    def rest(self) -> None:
        """The envelope is complete and its content comes, or is looked at: until `prepare` or `send`, others may have the link."""
        self._rests_since = self._loop.time()

    def rests_since(self, link: Link) -> float:
        """For `lending`. Not before the whole envelope was answered: only what was accepted is said anew."""
        is_at_rest = self._rests_since and link is self._link and not self._outstanding
        if not is_at_rest or self._envelope is None or not self._envelope.is_accepted():
            return math.inf
        return self._rests_since

    def lend(self) -> None:
        """The link serves others; `send` takes another one in line, and replays the envelope."""
        link, self._link = self._link, None
        if link is not None:
            self._was_lent = True
            self._reset(link)

    # ---- the content ----------------------------------------------------------------------------------------------

    async def send(self, chunks: Iterable[bytes], *, size: int, form: Form = Form.LINES) -> list[Reply]:
        """DATA, the content, and the reply to it (or to DATA, if that was not 354). `size` in octets, before dot-stuffing.

        Content that DATA would change goes by BDAT where the link has it; see `form` and `added_crlf` (RFC 3030 2, 3).
        `chunks` is gone through once, after DATA went out. The link is given back. LinkError when there is no reply for the
        client; `unknown` is set when content was sent and the next hop may have taken it. Over LMTP one reply for each
        recipient; PartlyAnsweredError when not all of them came.
        """
        self._rests_since = 0.0
        final_limit = self._limits.final_reply_timeout + size / 1_000_000  # what lies in buffers still has to go out
        if form is not _LINES:
            for_chunks = await self._for_chunks(form)
            if for_chunks is not None:
                return await self._content(for_chunks, chunks, final_limit, by_bdat=size)
        while True:
            now = self._loop.time()
            link = self._at_hand(now)
            if link is None:
                link = await self._ready()
                now = self._loop.time()
            sending = self._say_data(link, chunks, size, final_limit, now)
            try:
                if size <= AHEAD:
                    chunks = sending.read_ahead() or chunks
                reply = await sending
            except LinkError as error:
                if sending.has_begun:
                    self._cut(link)
                    raise
                self._drop(error)
                continue
            except BaseException:
                self._cut(link)
                raise
            if sending.has_begun or reply.code == 354:
                self.added_crlf = form is not _LINES
                if sending.has_begun:
                    return self._content_answered(link, reply)
                return await self._content(link, chunks, final_limit)
            if self._is_refusal(link, reply):
                link.refusals += 1
                self._end(link)
                return [reply]

    def _say_data(self, link: Link, chunks: Iterable[bytes], size: int, final_limit: float, now: float) -> Sending:
        """DATA; behind its 354 all of the content, if that is one write and one reply."""
        is_small = size <= BLOCK and not (link.is_lmtp and self._recipients > 1)
        sending = Sending(link, chunks if is_small else None, self._loop, final_limit, self.due)
        limit = min(self._limits.data_timeout, self.due - now)
        link.command(b"DATA", limit, sending.data_answered, True)
        return sending

    def _is_refusal(self, link: Link, reply: Reply) -> bool:
        """This reply to DATA is the client's. Else another link is tried, or it is over: LinkError."""
        match whose(reply, to_data=True, auth=self.client_may_authenticate):
            case Whose.LEAVING:
                self._drop(LinkError(link.next_hop, f"DATA answered with {reply}"))
                return False
            case Whose.LINK:
                raise self._failed(LinkError(link.next_hop, f"DATA answered with {reply}", enhanced="4.3.5"))
            case Whose.CLIENT:
                return True

    async def _content(self, link: Link, chunks: Iterable[bytes], final_limit: float, by_bdat: int | None = None) -> list[Reply]:
        """Content that is not one write: large, or by BDAT, or answered for each recipient."""
        if link.is_lmtp and self._recipients > 1:
            return await self._send_each(link, chunks, self._recipients, final_limit, by_bdat)
        try:
            reply = await link.content(
                chunks,
                block_limit=self._limits.block_timeout,
                final_limit=final_limit,
                due=self.due,
                in_one_chunk=by_bdat,
            )
        except BaseException:
            self._cut(link)
            raise
        return self._content_answered(link, reply, by_bdat)

    def _content_answered(self, link: Link, reply: Reply, by_bdat: int | None = None) -> list[Reply]:
        """The reply to all of the content; the link goes back with it."""
        if reply.first == 3 or reply.code == 421:
            raise self._failed(LinkError(link.next_hop, f"content answered with {reply}", unknown=reply.first == 3))
        if by_bdat is not None and speaks_of_bdat(reply):
            raise self._failed(LinkError(link.next_hop, f"BDAT answered with {reply}", enhanced="4.3.5"))
        link.refusals = 0 if reply.is_positive else link.refusals + 1
        self._finish(link)
        return [reply]

    @property
    def _recipients(self) -> int:
        """How many were accepted."""
        return self._envelope.accepted if self._envelope is not None else 1

    async def _send_each(
        self, link: Link, chunks: Iterable[bytes], recipients: int, final_limit: float, by_bdat: int | None
    ) -> list[Reply]:
        """The content by LMTP: what is said of one recipient is not said of the others."""
        try:
            replies = await send_each(
                link,
                chunks,
                recipients,
                block_limit=self._limits.block_timeout,
                final_limit=final_limit,
                due=self.due,
                in_one_chunk=by_bdat,
            )
        except PartlyAnsweredError as error:
            self._cut(link)
            if by_bdat is None or not all(speaks_of_bdat(reply) for reply in error.replies):
                raise
            replies = list(error.replies)
        except BaseException:
            self._cut(link)
            raise
        if by_bdat is not None and all(speaks_of_bdat(reply) for reply in replies):
            raise self._failed(LinkError(link.next_hop, f"BDAT answered with {replies[0]}", enhanced="4.3.5"))
        link.refusals = 0 if any(reply.is_positive for reply in replies) else link.refusals + 1
        self._finish(link)
        return replies

    def abandon(self) -> None:
        """Nothing more will come: the envelope is reset and the link given back as soon as that is answered.

        Safe at any time, twice, and after `send`; waits for nothing.
        """
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self._link is not None:
            self._end(self._link)
        elif self._error is None:
            self._over(LinkError(self.next_hop, "the transaction was given up"))

    def give_up(self) -> None:
        """Whoever waits for a reply to MAIL or RCPT, or comes later, gets a LinkError now: the client waits no longer."""
        self._over(LinkError(self.next_hop, "no answer while the client waits", enhanced="4.4.1"))
        self.abandon()

    # ---- inside: commands and answers -----------------------------------------------------------------------------

    def _begin(self, link: Link, alone: bool = False) -> None:
        """An envelope starts on this link; everything of it that was not refused is said. `alone`: that is MAIL."""
        self._link = link
        self._next_hop = link.next_hop
        self.note = link.note
        if self._was_lent:
            self.note = f"{link.note}; {LENT}" if link.note else LENT
        self._outstanding = 0
        if self._links.lends:
            link.lender = self
        link.transactions += 1
        envelope = self._envelope
        if envelope is not None and (not self._needs or self._suits(link)):
            if link.before_mail:
                self._tell(link)
            if not envelope.mail.is_refused:
                self._say(envelope.mail, link, alone)
            for step in envelope.rcpts:
                if not step.is_refused:
                    self._say(step, link, alone)

    def _tell(self, link: Link) -> None:
        """What the next hop is told of the client before MAIL: XFORWARD, which RSET and the end of content take back."""
        for line in link.before_mail:
            self._outstanding += 1
            link.command(line, self._limits.reply_timeout, partial(self._own_answered, line))

    def _suits(self, link: Link) -> bool:
        """The link offers what the client was promised; else this is over: a lesser server's own refusal of a parameter would
        be a permanent one for what another server of the route takes.
        """
        lacks = self._needs.difference(link.capabilities.keywords)
        if lacks:
            missing = ", ".join(sorted(lacks))
            enhanced = "4.7.30" if "REQUIRETLS" in missing else "4.3.5"  # RFC 8689 4.2.1: never without
            self._failed(LinkError(link.next_hop, f"does not offer {missing}, which the message needs", enhanced=enhanced))
            return False
        return True

    def _say(self, step: Step, link: Link, alone: bool = False) -> None:
        self._outstanding += 1
        limits = self._limits
        is_mail = self._envelope is not None and step is self._envelope.mail
        limit = limits.mail_timeout if is_mail else limits.rcpt_timeout
        step.owner = self
        link.command(step.line, limit or limits.reply_timeout, step.heard, False, alone)

    def answered(self, step: Step, link: Link, answer: Answer) -> None:
        """A reply to MAIL or RCPT, or the end of the link they were said on."""
        envelope = self._envelope
        if (
            isinstance(answer, Reply)
            and answer.is_positive
            and link is self._link
            and envelope is not None
            and not envelope.mail.is_refused
        ):
            self._outstanding -= 1
            if self._settled is not None:
                self._settle()
            step.replied(answer, link.answers_alone)
        else:
            self._not_accepted(step, link, answer)

    def _not_accepted(self, step: Step, link: Link, answer: Answer) -> None:
        """Any answer but an acceptance on the present link."""
        if isinstance(answer, Reply) and not answer.is_positive:
            link.refusals += 1
        if link is not self._link or self._envelope is None:
            return  # of a link given up before
        if isinstance(answer, LinkError):
            self._replace(answer)
            return
        self._outstanding -= 1
        mail = self._envelope.mail
        if step is not mail and mail.reply is not None and mail.is_refused:
            answer = mail.reply  # RFC 2920 3.1: it was sent before MAIL's refusal was known, and means nothing by itself
        if not answer.is_positive:
            match whose(answer, auth=self.client_may_authenticate):
                case Whose.LEAVING:
                    self._replace(LinkError(link.next_hop, f"{step.verb} answered with {answer}"))
                    return
                case Whose.LINK:
                    self._failed(LinkError(link.next_hop, f"{step.verb} answered with {answer}", enhanced="4.3.5"))
                    return
                case Whose.CLIENT:
                    pass
            if step.reply is not None and step.reply.is_positive:
                self._failed(LinkError(link.next_hop, f"{step.verb} was accepted before, and now answered with {answer}"))
                return
        step.replied(answer)
        self._settle()

    def _own_answered(self, line: bytes, link: Link, answer: Answer) -> None:
        """The reply to a command of ours: RSET before a changed envelope, XFORWARD. Its refusal is about our link."""
        if link is not self._link:
            return
        if isinstance(answer, LinkError):
            self._replace(answer)
        elif not answer.is_positive:
            verb = line.partition(b" ")[0].decode("ascii")
            self._replace(LinkError(link.next_hop, f"{verb} answered with {answer}", enhanced="4.3.5"))
        else:
            self._outstanding -= 1
            self._settle()

    async def _for_chunks(self, form: Form) -> Link | None:
        """The link, if it takes chunks. LinkError when there is no other way (RFC 3030 3: binary content never goes by DATA)."""
        link = await self._ready()
        missing = CHUNKS_NEED[form].difference(link.capabilities.keywords)
        if not missing:
            return link
        if form is Form.UNENDED:
            return None
        what = f"does not offer {', '.join(sorted(missing))}, without which BODY=BINARYMIME cannot go on"
        raise self._failed(LinkError(link.next_hop, what, enhanced="4.3.5"))

    # ---- inside: links that fail ----------------------------------------------------------------------------------

    def _replace(self, error: LinkError) -> None:
        """The link failed with the envelope under way: say it again on another one, if that may still help."""
        self._drop(error)
        envelope = self._envelope
        if self._error is not None or envelope is None:
            return
        if envelope.mail.reply is not None and envelope.mail.is_refused:
            for step in envelope.rcpts:
                step.settle(envelope.mail.reply)
            self._settle()
        else:
            self._open()

    def _drop(self, error: LinkError) -> None:
        """The link failed; count it, and give up when that happened too often. After silence one more try is left."""
        is_hung = self._link is not None and self._link.is_hung
        self._forget_link()
        self._replays += MAX_REPLAYS if is_hung and not self._replays else 1
        if self._replays > MAX_REPLAYS:
            self._failed(error)

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
            self._failed(error)
            return
        except Exception as error:  # noqa: BLE001 - a border: whatever a library raises, nobody waits for ever
            self._opening = None
            self._failed(LinkError(self.next_hop, f"no link: {error!r}", enhanced="4.3.5"))
            return
        self._opening = None
        self._begin(link)

    def _failed(self, error: LinkError) -> LinkError:
        """This handover is over, and its link too."""
        self._forget_link()
        self._over(error)
        return error

    def _over(self, error: LinkError) -> None:
        """Whoever still waits, or comes later, gets this error."""
        if self._error is None:
            self._error = error
        if self._envelope is not None:
            for step in self._envelope.steps:
                step.settle(error)
        self._settle()

    def _settle(self) -> None:
        if self._settled is not None and not self._settled.done() and (not self._outstanding or self._error is not None):
            self._settled.set_result(None)

    async def _quiet(self) -> None:
        """Until every command of the envelope was answered. LinkError when the handover is over."""
        await in_task()
        while self._error is None and (self._outstanding or self._opening is not None):
            self._settled = self._loop.create_future()
            try:
                async with asyncio.timeout(self._left() if self.due < math.inf else None):
                    await self._settled
            except TimeoutError:
                raise self._too_late() from None
        if self._error is not None:
            raise self._error

    def _left(self) -> float:
        """Seconds until `due`, 0 when it is past."""
        return max(0.0, self.due - self._loop.time())

    def _too_late(self) -> LinkError:
        """The hooks, or the next hop's answers to the envelope, have used up the time: nothing of the content is sent."""
        self.abandon()
        return LinkError(self.next_hop, "no time is left for the next hop", enhanced="4.4.1")

    def _at_hand(self, now: float) -> Link | None:
        """What `_ready` would give at once."""
        link = self._link
        if link is None or link.error is not None or link.leaving or self._outstanding or self._error is not None:
            return None
        envelope = self._envelope
        return link if envelope is not None and envelope.is_accepted() and self.due > now else None

    async def _ready(self) -> Link:
        """A link on which the whole envelope was accepted, after a replay if need be."""
        while True:
            await self._quiet()
            if self._envelope is None or not self._envelope.is_accepted():
                msg = "send() without an accepted envelope"
                raise RuntimeError(msg)
            link = self._link
            if link is None:
                self._open()
            elif link.error is not None or link.leaving:
                self._drop(link.error or LinkError(link.next_hop, "the next hop is leaving"))
            elif not self._left():
                raise self._too_late()
            else:
                return link

    # ---- inside: the end ------------------------------------------------------------------------------------------

    def _cut(self, link: Link) -> None:
        """Given up in the middle of DATA or content: nothing on this link can be trusted any more."""
        error = link.error or LinkError(link.next_hop, "given up")
        link.fail(error)
        self._failed(error)

    def _finish(self, link: Link) -> None:
        """The content was answered; the link goes back clean. Every step has its answer, or the content would not have been sent."""
        self._link = None
        self._outstanding = 0
        self._error = _OVER
        self._links.release(link)

    def _end(self, link: Link) -> None:
        """The transaction is over before its content; the link goes back when it is reset, or is retired."""
        self._link = None
        self._outstanding = 0
        self._over(LinkError(link.next_hop, "the transaction was given up"))
        self._reset(link)

    def _reset(self, link: Link) -> None:
        if link.error is not None or link.leaving:
            self._links.discard(link)
        else:
            link.is_coming_back = self._links.lends
            link.command(b"RSET", self._limits.reply_timeout, partial(_after_reset, self._links))


def _after_reset(links: Links, link: Link, answer: Answer) -> None:
    """Only a clean RSET brings a link back."""
    link.is_coming_back = False
    if isinstance(answer, Reply) and answer.is_positive:
        links.release(link)
    else:
        links.discard(link)
