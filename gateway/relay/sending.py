"""DATA on one link, and small content right behind its 354: RFC 5321 4.1.1.4, 4.5.2.

354 is the next hop's word that content may come, so content that fits into one write goes out where 354 is read. Whoever sends it
is woken once, for the reply to the final dot. Large content, and what goes out while the transport takes no more, is `Link.content`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any

from gateway.errors import LinkError
from gateway.relay.protocol import in_one_piece
from gateway.smtp.replies import Reply

if TYPE_CHECKING:
    from gateway.relay.link import Link


class Sending:
    """One DATA. Awaited it gives the reply to it or, with `has_begun`, the one to the content.

    Raises LinkError, with `unknown` when content went out and no reply came; and what `chunks` raises, after which the link is cut.
    """

    __slots__ = (
        "_chunks",
        "_due",
        "_error",
        "_final_limit",
        "_link",
        "_loop",
        "_octets",
        "_reply",
        "_waiter",
        "has_begun",
        "is_answered",
        "on_answer",
    )

    def __init__(
        self, link: Link, chunks: Iterable[bytes] | None, loop: asyncio.AbstractEventLoop, final_limit: float, due: float
    ) -> None:
        """`chunks`: all of the content, if it is to go out at once; gone through after 354, once. Limits as of `Link.content`."""
        self.has_begun = False
        """Content went out."""
        self.is_answered = False
        """There is nothing to wait for any more."""
        self.on_answer: Callable[[Sending], None] | None = None
        """Called once, when there is an answer and no task waits for it: see `__await__`."""
        self._reply: Reply | None = None
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._link = link
        self._chunks = chunks
        self._octets: bytes | None = None
        """What goes out, where it was made before 354 came."""
        self._loop = loop
        self._final_limit = final_limit
        self._due = due

    def __await__(self) -> Generator[Any, None, Reply]:
        """The reply. Outside of a task this is what the coroutine waits for, until it is gone on with (`gateway.begun`)."""
        if not self.is_answered:
            if asyncio.current_task(self._loop) is None:
                yield self
                self.on_answer = None
            if not self.is_answered:
                self._waiter = self._loop.create_future()
                yield from self._waiter
        if self._error is not None:
            raise self._error
        if self._reply is None:
            raise LinkError(self._link.next_hop, "gone on without an answer")
        return self._reply

    def is_accepted(self) -> bool:
        """The next hop took the content, and its reply brought nothing else: whatever follows may be done where it was read."""
        reply = self._reply
        return self.has_begun and reply is not None and reply.is_positive and self._link.answers_alone

    def read_ahead(self) -> tuple[bytes] | None:
        """Make what goes out while the next hop thinks about DATA. The content itself, for another link; None: there is none to go out at once."""
        if self._chunks is None:
            return None
        content = b"".join(self._chunks)
        self._octets = in_one_piece(content)
        return (content,)

    def data_answered(self, link: Link, answer: Reply | LinkError) -> None:
        """The reply to DATA, or the end of the link."""
        if self._waiter is not None and self._waiter.done():  # whoever sent it was cancelled, and is about to cut the link
            return
        if isinstance(answer, LinkError):
            self._end(None, answer)
        elif answer.code != 354 or self._chunks is None or not link.takes_content():
            self._end(answer, None)
        else:
            octets = self._octets
            if octets is None:
                try:
                    octets = in_one_piece(b"".join(self._chunks))
                except Exception as error:  # noqa: BLE001 - whatever the content's file raises is for whoever sends it
                    self._end(None, error)
                    return
            self.has_begun = True
            now = self._loop.time()
            link.say_content(octets, min(self._final_limit, self._due - now), now, self._content_answered)

    def _content_answered(self, link: Link, answer: Reply | LinkError) -> None:
        if isinstance(answer, LinkError):
            self._end(None, link.lost_in_content(answer))
        else:
            self._end(answer, None)

    def _end(self, reply: Reply | None, error: Exception | None) -> None:
        self._reply, self._error, self.is_answered = reply, error, True
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
        elif self.on_answer is not None:
            self.on_answer(self)
