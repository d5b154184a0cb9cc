"""A link: one connection to a next hop, on aiosmtplib's protocol class with an own reply queue and writer. RFC 5321 3.1, 4.5.3.2.

Of `aiosmtplib.protocol.SMTPProtocol` this keeps the flow-control state (`_loop`, `_paused`, `_connection_lost`) and the
transport; its one-reply-at-a-time reading and its content writer, which change octets, are replaced. Its command
methods refuse to work here because `connection_made` gives them no lock. Commands given in one turn of the loop go out
in one write; no task, lock or timer is made for a command.
"""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Final, cast

from aiosmtplib.protocol import SMTPProtocol
from typing_extensions import override

from gateway.errors import LinkError
from gateway.relay.chunks import BLOCK, counted
from gateway.relay.keyword_values import limits_of
from gateway.relay.lending import Lender
from gateway.relay.protocol import MAX_CHALLENGE_LINE, USUAL, Broken, Capabilities, DotStuffer, NextHopProtocol, usual_reply
from gateway.smtp.replies import Reply

Answer = Reply | LinkError
OnAnswer = Callable[["Link", Answer], None]
"""Told on which link, and what."""

GREETING_LIMIT: Final = 300.0
"""Seconds for the greeting where nobody says less (RFC 5321 4.5.3.2.1)."""
QUIT_LIMIT = 2.0
"""Seconds for the reply to QUIT."""


class TlsError(LinkError):
    """TLS was refused or its handshake failed; a link in the clear may do where TLS is opportunistic."""


@dataclass(frozen=True, slots=True)
class LinkTls:
    """Facts of a link's TLS."""

    version: str
    cipher: str
    is_verified: bool
    """The certificate is the server's: of an authority that we trust, for the name that was looked for."""

    def __str__(self) -> str:
        return f"{self.version} {self.cipher}, {'verified' if self.is_verified else 'not verified'}"


class Link(SMTPProtocol):
    """One connection. Made by `gateway.relay.connect.open_link`; ends once, for whatever reason, and tells `on_lost`."""

    _timer_due: float = math.inf
    """Loop time at which the timer goes off; never, when there is none."""

    def __init__(  # noqa: PLR0915 - one for each field
        self, loop: asyncio.AbstractEventLoop, next_hop: str, on_lost: Callable[[Link], None], *, is_lmtp: bool = False
    ) -> None:
        super().__init__(loop)
        self.next_hop = next_hop
        """For logs: `127.0.0.1:2526`."""
        self.is_lmtp = is_lmtp
        """It answers the content once for each recipient it accepted (RFC 2033 4.2)."""
        self.error: LinkError | None = None
        """Why it is over."""
        self.closed: asyncio.Future[None] = loop.create_future()
        self.capabilities = Capabilities()
        self.tls: LinkTls | None = None
        self.note = ""
        """How it was set up, for the trace, where that was not in the clear because it should be."""
        self.told: tuple[object, ...] | None = None
        """The client that the next hop takes us for, by PROXY or XCLIENT: `ClientFacts.introduction`. None: for ourselves."""
        self.before_mail: tuple[bytes, ...] = ()
        """Commands that this transaction's MAIL comes behind."""
        self.lender: Lender | None = None
        """The transaction that has it, where others may have the link while that waits for its verdict."""
        self.is_coming_back = False
        """Reset, and the answer is not there yet."""
        self.opened = loop.time()
        self.idle_since = 0.0
        self.transactions = 0
        self.refusals = 0
        """MAIL, RCPT and content refused since the last delivery."""
        self.leaving = False
        """The next hop said 421: no further transaction."""
        self.answers_alone = False
        """Whoever is told of a reply now may go on with whatever follows: no other reply came with it."""
        self.is_hung = False
        """It ended because an answer did not come in time."""
        self.has_begun_content = False
        """A message's content went out on it."""
        self.is_lost = False
        """It ended because the next hop closed or broke it."""
        self.final_due = 0.0
        """LMTP: loop time by which all replies to the content under way must be there."""
        self.max_transactions = 0
        """The next hop's limit (MAILMAX: RFC 9422 4.2); 0: it has none."""
        self.verified_tls = False
        """It is under TLS, and the next hop's certificate was verified."""
        self._engine: NextHopProtocol[tuple[OnAnswer, float]] = NextHopProtocol()
        self._on_lost = on_lost
        self._writer: asyncio.Transport | None = None
        self._flush_due = False
        self._deadline = 0.0
        """Loop time by which something must happen; 0: nothing is waited for."""
        self._timer: asyncio.TimerHandle | None = None
        self._drain: asyncio.Future[None] | None = None
        self._greeting: asyncio.Future[Reply] = loop.create_future()
        self._engine.expect((partial(settle, self._greeting), GREETING_LIMIT))

    # ---- commands -------------------------------------------------------------------------------------------------

    @property
    def is_usable(self) -> bool:
        """Open, and nothing is under way on it."""
        return self.error is None and not self.leaving and self._engine.is_quiet

    @property
    def is_spent(self) -> bool:
        """The next hop takes no further transaction on it."""
        return 0 < self.max_transactions <= self.transactions

    @property
    def is_private(self) -> bool:
        """Under TLS, or to a server on this host: credentials may go out on it."""
        if self._writer is None:
            return False
        peer, sock = self._writer.get_extra_info("peername"), self._writer.get_extra_info("socket")
        if self._writer.get_extra_info("ssl_object") is not None or (sock is not None and sock.family == socket.AF_UNIX):
            return True
        return isinstance(peer, tuple) and ip_address(str(peer[0]).partition("%")[0]).is_loopback

    @property
    def is_in_content(self) -> bool:
        """Content has begun, and its final dot never went out."""
        return self._engine.is_in_content

    def allow_long_lines(self) -> None:
        """Challenges of AUTH may come on it (RFC 4954 4)."""
        self._engine.reply_line_limit = MAX_CHALLENGE_LINE

    def command(self, line: bytes, limit: float, on_answer: OnAnswer, last: bool = False, alone: bool = False) -> None:
        """Send a command; `on_answer` is called once, later, with its reply or with why none will come.

        `limit` in seconds counts from when the command is the oldest one out. `last`: nothing follows it before its reply.
        `alone`: something may, but is not there yet.
        """
        if self.error is not None:
            self._loop.call_soon(on_answer, self, self.error)
            return
        if last or alone:  # nothing comes that could go out with it
            octets = self._engine.at_once(line, (on_answer, limit), last)
            if octets:
                self._say(octets)
            return
        self._engine.command(line, (on_answer, limit))
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def ask(self, line: bytes, limit: float, *, last: bool = False) -> asyncio.Future[Reply]:
        """The same as a future."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        self.command(line, limit, partial(settle, future), last=last)
        return future

    def greeting(self, limit: float) -> asyncio.Future[Reply]:
        """The greeting; it may have come already, before whoever opened the connection was told so."""
        if self.error is not None:
            settle(self._greeting, self, self.error)
        elif not self._greeting.done():
            self._watch(limit)
        return self._greeting

    def greeted(self, capabilities: Capabilities) -> None:
        """EHLO or HELO was accepted: these hold for as long as the link does."""
        self.capabilities = capabilities = self._kept(capabilities)
        self.max_transactions = limits_of(capabilities.parameters("LIMITS")).get("MAILMAX", 0)
        self._engine.pipelining = capabilities.offers("PIPELINING")

    @property
    def peer(self) -> tuple[str, int]:
        """Address and port of the next hop; nothing of a UNIX socket."""
        name = self._writer.get_extra_info("peername") if self._writer is not None else None
        return (str(name[0]), int(name[1])) if isinstance(name, tuple) else ("", 0)

    def say_first(self, octets: bytes) -> None:
        """Octets in front of everything else on a new connection: a PROXY header."""
        self._write(octets)

    async def encrypt(self, context: ssl.SSLContext, name: str, limit: float, *, proves: bool) -> None:
        """The TLS handshake, within `limit` seconds; `name` is the server's, for SNI and the check. LinkError.

        `proves`: a certificate that is checked says that it is the server which was meant.

        What the next hop said too early is not read: it is not from inside TLS (RFC 3207 4.2).
        """
        writer = self._writer
        if self.error is not None or writer is None:
            raise self.error or LinkError(self.next_hop, "link closed")
        if self._engine.is_ahead:
            raise LinkError(self.next_hop, "octets in the clear in front of the TLS handshake", enhanced="4.7.5")
        try:
            transport = await self._loop.start_tls(
                writer, self, context, server_hostname=name or None, ssl_handshake_timeout=limit
            )
        except (OSError, ValueError) as error:  # ValueError: a host name that no certificate can have
            raise TlsError(self.next_hop, f"TLS handshake: {_reason(error)}", enhanced="4.7.5") from error
        if transport is None:  # it was lost in the last step of the handshake
            raise TlsError(self.next_hop, "link lost in the TLS handshake", enhanced="4.7.5")
        self.transport = self._writer = transport
        self._engine.pipelining = False
        cipher = transport.get_extra_info("cipher")
        version = transport.get_extra_info("ssl_object").version() or "TLS"
        self.verified_tls = proves and context.verify_mode is ssl.CERT_REQUIRED
        self.tls = LinkTls(version, cipher[0] if cipher else "unknown", self.verified_tls)

    def takes_content(self) -> bool:
        """After 354: it can go out in one write now."""
        return self.error is None and not self._paused and self._engine.broken is None

    def say_content(self, octets: bytes, limit: float, now: float, on_answer: OnAnswer) -> None:
        """All of a content after 354, with the end of data, in one write; from `now`, loop time, `limit` seconds for the reply."""
        self.has_begun_content = True
        self._engine.expected.append((on_answer, limit))
        if self._writer is not None:
            self._writer.write(octets)
        self._watch_until(now + limit)

    def lost_in_content(self, error: LinkError) -> LinkError:
        """What that is for a message whose content went out."""
        return LinkError(self.next_hop, f"outcome unknown: {error.what}", enhanced=error.enhanced, unknown=True)

    async def content(
        self,
        chunks: Iterable[bytes],
        *,
        block_limit: float,
        final_limit: float,
        due: float = math.inf,
        in_one_chunk: int | None = None,
        more: Sequence[OnAnswer] = (),
    ) -> Reply:
        """Content after 354: dot-stuffed, ended, and the reply to it.

        `in_one_chunk`, a number of octets: instead by BDAT, as it is (RFC 3030 2). ValueError when there are not so many.

        Time limits in seconds: for each block to go out, and for the reply (RFC 5321 4.5.3.2.5-6); `due`, loop time, ends
        all of it. LinkError with `unknown` when no reply came. Cancelled, or when `chunks` raises: the link is cut before
        the final dot. `more`: LMTP's further replies, which may come after this returns.
        """
        answer: asyncio.Future[Reply] = self._loop.create_future()
        if self.error is not None:
            raise self.lost_in_content(self.error)
        self.has_begun_content = True
        self._engine.begin_content((partial(settle, answer), final_limit), *((one, final_limit) for one in more))
        try:
            for block, is_last in _blocks(chunks) if in_one_chunk is None else counted(chunks, in_one_chunk):
                self._write(block)
                if is_last:
                    self._engine.end_content()
                    self._watch(min(final_limit, due - self._loop.time()))
                    if more:
                        self.final_due = self._deadline
                    break
                await self._drained(min(block_limit, due - self._loop.time()))
                if answer.done():
                    break
            return await answer
        except LinkError as error:
            raise self.lost_in_content(error) from error
        except BaseException:
            self.fail(LinkError(self.next_hop, "given up while content was under way"))
            raise

    def quit(self) -> None:
        """Take leave: QUIT, then close, without anybody waiting (RFC 5321 4.1.1.10)."""
        if self.is_usable:
            self.command(b"QUIT", QUIT_LIMIT, lambda *_: self._close(), last=True)
        else:
            self._close()

    def fail(self, error: LinkError) -> None:
        """Cut the link: everything that waits on it gets this error. Nothing happens the second time."""
        if self.error is not None:
            return
        self.error = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._timer_due = math.inf
        if self._writer is not None:
            self._writer.abort()
        waiting = self._engine.abandon()
        self._on_lost(self)
        for on_answer, _ in waiting:
            on_answer(self, error)
        self._wake()

    # ---- what the transport calls ---------------------------------------------------------------------------------

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._writer = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is None:
            return
        if transport.get_extra_info("ssl_object") is None:
            # uvloop keeps what is written until the turn of the loop ends; DATA goes out before the trace field is made.
            self._writer.set_write_buffer_limits(high=0)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @override
    def data_received(self, data: bytes) -> None:
        engine = self._engine
        expected = engine.expected
        if len(expected) == 1 and len(data) <= USUAL and not (engine.queued or engine.is_in_content or engine.is_ahead):
            alone = usual_reply(data)
            if alone is not None:  # as below, for what nearly all is: one reply of one line, to the only command there is
                engine.is_group_over = False
                self._deadline = 0.0
                if alone.code == 421:
                    self.leaving = True
                self.answers_alone = True
                expected.popleft()[0](self, alone)
                self.answers_alone = False
                return
        if self.error is not None:
            return
        answered = engine.receive(data)
        if answered:
            self._deadline = 0.0  # a reply that comes octet by octet does not move it
            if engine.expected:
                self._watch(engine.expected[0][1])
        if engine.queued and not self._flush_due and engine.broken is None:
            self._flush()
        # Last, as whoever is told may go on with whatever follows.
        self.answers_alone = len(answered) == 1 and engine.broken is None
        for (on_answer, _), reply in answered:
            if reply.code == 421:
                self.leaving = True  # RFC 5321 3.8: it closes now
            on_answer(self, reply)
        self.answers_alone = False
        if engine.broken is not None:
            self.is_lost = True
            self.fail(self._error_of(engine.broken))

    @override
    def eof_received(self) -> bool:
        self.is_lost = self.error is None
        self.fail(LinkError(self.next_hop, "the next hop closed the link"))
        return False

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._connection_lost = True
        self.is_lost = self.is_lost or self.error is None
        self.fail(LinkError(self.next_hop, f"link lost: {exc}" if exc else "link closed"))
        self.transport = self._writer = None
        if not self.closed.done():
            self.closed.set_result(None)

    @override
    def pause_writing(self) -> None:
        self._paused = True

    @override
    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _kept(self, offered: Capabilities) -> Capabilities:
        """What was offered less what must not be used on a link of this kind."""
        unfit = set()
        if not self.verified_tls:
            unfit.add("REQUIRETLS")  # RFC 8689 4.2.1
        if not self.is_private:
            unfit.add("AUTH")
        if unfit.isdisjoint(offered.keywords):
            return offered
        return Capabilities({name: values for name, values in offered.keywords.items() if name not in unfit})

    def _flush(self) -> None:
        """The commands that may go out now."""
        self._flush_due = False
        octets = self._engine.octets_to_send()
        if octets and self.error is None:
            self._say(octets)

    def _say(self, octets: bytes) -> None:
        """Commands go out, and the limit of the oldest one begins."""
        if self._writer is not None:
            self._writer.write(octets)
            if not self._deadline:
                self._watch_until(self._loop.time() + self._engine.expected[0][1])

    def _write(self, octets: bytes) -> None:
        if self.error is None and self._writer is not None:
            self._writer.write(octets)

    async def _drained(self, limit: float) -> None:
        """Until the transport takes more; at least one turn of the loop."""
        if not self._paused or self.error is not None:
            await asyncio.sleep(0)
            return
        self._watch(limit)
        self._drain = self._loop.create_future()
        await self._drain
        self._deadline = 0.0

    def _wake(self) -> None:
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)

    def _watch(self, limit: float) -> None:
        """Something must happen within `limit` seconds."""
        if self.error is None:
            self._watch_until(self._loop.time() + limit)

    def _watch_until(self, deadline: float) -> None:
        """One timer a link, set again only when it went off or is too late."""
        self._deadline = deadline
        if self._timer_due > deadline + 0.001:
            self._set_timer(deadline)

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._look)
        self._timer_due = due

    def _look(self) -> None:
        """The timer went off: perhaps too early, since answers only move the deadline."""
        self._timer = None
        self._timer_due = math.inf
        if not self._deadline:
            return
        if self._loop.time() < self._deadline - 0.001:
            self._set_timer(self._deadline)
            return
        self.is_hung = True
        self.fail(LinkError(self.next_hop, "no answer in time", enhanced="4.4.1"))

    def _close(self) -> None:
        self.fail(LinkError(self.next_hop, "link closed by us"))

    def _error_of(self, broken: Broken) -> LinkError:
        asked = broken.reply is not None and broken.reply.code == 421
        return LinkError(self.next_hop, broken.what, enhanced="4.4.2" if asked else "4.3.5")


def settle(future: asyncio.Future[Reply], _link: Link, answer: Answer) -> None:
    """Give a future its answer, once; an error that nobody awaits is not reported."""
    if future.done():
        return
    if isinstance(answer, LinkError):
        future.set_exception(answer)
        future.exception()
    else:
        future.set_result(answer)


def _reason(error: Exception) -> str:
    """Why a handshake failed, without file and line of OpenSSL."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return error.reason or "failed"
    return str(error) or type(error).__name__


def _blocks(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The content, dot-stuffed, in pieces of about BLOCK octets; the last one, marked so, has the end of data."""
    stuffer = DotStuffer()
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        for start in range(0, len(chunk), BLOCK):
            piece = chunk if len(chunk) <= BLOCK else chunk[start : start + BLOCK]
            if size and size + len(piece) > BLOCK:
                yield b"".join(held), False
                held, size = [], 0
            held.append(stuffer.feed(piece))
            size += len(piece)
    held.append(stuffer.finish())
    yield b"".join(held), True
