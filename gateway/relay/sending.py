"""DATA on one link, and small content right behind its 354: RFC 5321 4.1.1.4, 4.5.2.

354 is the next hop's word that content may come, so content that fits into one write goes out where 354 is read. Whoever sends it
is woken once, for the reply to the final dot. Large content, and what goes out while the transport takes no more, is `Link.content`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from gateway.errors import LinkError
from gateway.relay.protocol import in_one_piece
from gateway.smtp.replies import Reply

if TYPE_CHECKING:
    from gateway.relay.link import Link


class Sending:
    """One DATA. `answer` is the reply to it or, with `has_begun`, the one to the content."""

    __slots__ = ("_chunks", "_due", "_final_limit", "_link", "_loop", "_octets", "answer", "has_begun")

    def __init__(
        self, link: Link, chunks: Iterable[bytes] | None, loop: asyncio.AbstractEventLoop, final_limit: float, due: float
    ) -> None:
        """`chunks`: all of the content, if it is to go out at once; gone through after 354, once. Limits as of `Link.content`."""
        self.answer: asyncio.Future[Reply] = loop.create_future()
        """LinkError with `unknown` when content went out and no reply came; what `chunks` raises, and then the link is cut."""
        self.has_begun = False
        """Content went out."""
        self._link = link
        self._chunks = chunks
        self._octets: bytes | None = None
        """What goes out, where it was made before 354 came."""
        self._loop = loop
        self._final_limit = final_limit
        self._due = due

    def read_ahead(self) -> tuple[bytes] | None:
        """Make what goes out while the next hop thinks about DATA. The content itself, for another link; None: there is none to go out at once."""
        if self._chunks is None:
            return None
        content = b"".join(self._chunks)
        self._octets = in_one_piece(content)
        return (content,)

    def data_answered(self, answer: Reply | LinkError) -> None:
        """The reply to DATA, or the end of the link."""
        if self.answer.done():  # whoever sent it was cancelled, and is about to cut the link
            return
        if isinstance(answer, LinkError):
            self.answer.set_exception(answer)
        elif answer.code != 354 or self._chunks is None or not self._link.takes_content:
            self.answer.set_result(answer)
        else:
            octets = self._octets
            if octets is None:
                try:
                    octets = in_one_piece(b"".join(self._chunks))
                except Exception as error:  # noqa: BLE001 - whatever the content's file raises is for whoever sends it
                    self.answer.set_exception(error)
                    return
            self.has_begun = True
            limit = min(self._final_limit, self._due - self._loop.time())
            self._link.say_content(octets, limit, self._content_answered)

    def _content_answered(self, answer: Reply | LinkError) -> None:
        if self.answer.done():
            return
        if isinstance(answer, LinkError):
            self.answer.set_exception(self._link.lost_in_content(answer))
        else:
            self.answer.set_result(answer)
