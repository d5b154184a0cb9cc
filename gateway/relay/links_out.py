"""Which server of a route comes first, and whose the links are that are out: asked with every message. RFC 5321 5.1."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.native import mypyc_attr
from gateway.relay.choosing import Candidate, Standing, in_order
from gateway.relay.link import Link
from gateway.relay.queueing import Turns
from gateway.relay.server_pool import ServerPool


@mypyc_attr(allow_interpreted_subclasses=True)
class LinksOut:
    """Idle links of a route's servers, taken and given back. `gateway.relay.route` opens new ones."""

    def __init__(self, candidates: Sequence[Candidate[ServerPool]], *, draw: Callable[[], float], turns: Turns | None) -> None:
        self._candidates = tuple(candidates)
        self._draw = draw
        self._drawn: ServerPool | None = None
        """The server that `reuse` drew and that had no idle link: `acquire` goes on with it, so that weights hold."""
        self._owners: dict[Link, ServerPool] = {}
        self._turns = turns

    def reuse(self) -> Link | None:
        """At once, an idle link of the server that comes first now."""
        turns = self._turns
        if turns is not None and not turns.take():
            return None
        candidates = self._candidates
        is_only = len(candidates) == 1
        pool = candidates[0].server if is_only else self._take_drawn() or self._in_order(candidates)[0]
        link = pool.reuse()
        if link is not None:
            self._owners[link] = pool
            if turns is not None:
                turns.out.add(link)
            return link
        if not is_only:
            self._drawn = pool
        if turns is not None:
            turns.give()
        return None

    def release(self, link: Link) -> None:
        """Back to its pool, clean."""
        pool = self._owners.pop(link, None)
        if pool is not None:
            pool.release(link)
            if self._turns is not None:
                self._give_turn(link)

    def _own(self, link: Link, pool: ServerPool) -> None:
        self._owners[link] = pool
        if self._turns is not None:
            self._turns.out.add(link)

    def _give_turn(self, link: Link | None = None) -> None:
        if self._turns is not None:
            if link is not None:
                self._turns.out.discard(link)
            self._turns.give()

    def _in_order(self, candidates: Sequence[Candidate[ServerPool]]) -> list[ServerPool]:
        return in_order(candidates, _standing, self._draw)

    def _take_drawn(self) -> ServerPool | None:
        """What was drawn before, if it may still come first."""
        drawn, self._drawn = self._drawn, None
        return drawn if drawn is not None and drawn.standing is Standing.READY else None


def _standing(pool: ServerPool) -> Standing:
    return pool.standing
