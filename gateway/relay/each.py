"""LMTP's answers to the content: one for each recipient that was accepted, in the order of the RCPTs. RFC 2033 4.2."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from functools import partial

from gateway.errors import LinkError
from gateway.relay.link import Link, settle
from gateway.smtp.replies import Reply


class PartlyAnsweredError(LinkError):
    """The link was lost between the replies: those in `replies` came, for the others `unknown` says what may have happened."""

    def __init__(self, error: LinkError, replies: Sequence[Reply], *, unknown: bool) -> None:
        what = f"{len(replies)} recipients were answered for, then: {error.what}"
        super().__init__(error.next_hop, what, enhanced=error.enhanced, unknown=unknown)
        self.replies = tuple(replies)
        """Of the first recipients, in their order; at least one."""


async def send_each(
    link: Link,
    chunks: Iterable[bytes],
    count: int,
    *,
    block_limit: float,
    final_limit: float,
    due: float = math.inf,
    in_one_chunk: int | None = None,
) -> list[Reply]:
    """The content to `count` recipients, by BDAT `in_one_chunk`, and their replies (RFC 2033 4.3).

    `final_limit` in seconds is for all replies together, and `due` in loop time ends it earlier.
    PartlyAnsweredError when some came, else LinkError as of `Link.content`.
    """
    loop = asyncio.get_running_loop()
    others: list[asyncio.Future[Reply]] = [loop.create_future() for _ in range(count - 1)]
    more = [partial(settle, future) for future in others]
    first = await link.content(
        chunks, block_limit=block_limit, final_limit=final_limit, due=due, in_one_chunk=in_one_chunk, more=more
    )
    replies = [first]
    try:
        async with asyncio.timeout_at(link.final_due):
            for future in others:
                replies.append(await future)  # noqa: PERF401 - what came before a failure is needed
    except TimeoutError:
        link.is_hung = True
        error = LinkError(link.next_hop, "no answer in time", enhanced="4.4.1")
        link.fail(error)
        raise PartlyAnsweredError(error, replies, unknown=True) from None
    except LinkError as error:
        # A refusal before the final dot is for the first recipient only; that nobody has the message is certain then.
        raise PartlyAnsweredError(error, replies, unknown=not link.is_in_content) from error
    return replies
