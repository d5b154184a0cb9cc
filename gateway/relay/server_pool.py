"""The links to one server: opened, handed out, taken back, retired. RFC 5321 4.5.4.1.

`Slots` decides; this opens and closes. A link is one transaction's at a time, and comes back only clean.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Sequence
from typing import Final

import structlog

from gateway import metrics
from gateway.config.models import RelayConfig
from gateway.errors import LinkError
from gateway.native import WeaklyReferable
from gateway.relay.choosing import Standing
from gateway.relay.connect import NoConnectionError, Opening, open_link
from gateway.relay.health import Health
from gateway.relay.identity import ClientFacts
from gateway.relay.lending import Lending
from gateway.relay.link import Link
from gateway.relay.protocol import Capabilities
from gateway.relay.queueing import CongestedError, Waiter
from gateway.relay.routes import Server
from gateway.relay.setup import PLAIN, LinkSetup
from gateway.relay.slots import Slots

log: Final = structlog.get_logger("mailgateway.relay")

CAPABILITIES_AGE = 300.0
"""Seconds after which a server's EHLO is asked for again by `learn` and `probe`."""
HEALTH_AGE = 60.0
"""Seconds: a server that answered within them counts as healthy."""


class ServerPool(WeaklyReferable):
    """The links to one server, all set up alike. ConfigError when a file of the set-up cannot be used."""

    def __init__(self, server: Server, settings: RelayConfig, name: str, setup: LinkSetup = PLAIN) -> None:
        self.server = server
        self.settings = settings
        self.capabilities: Capabilities | None = None
        self.learnt = 0.0
        self.answered = 0.0
        """Loop time of the last greeting or reply to a probe; 0 when there was none."""
        self.probed = 0.0
        """Loop time of the round of probes that asked it last."""
        self.health = Health(settings.rest, settings.rest_limit)
        self.links: set[Link] = set()
        self._opening = Opening.to(server, name=name, settings=settings, setup=setup)
        self._is_once = setup.client_address == "proxy"
        """A link belongs to one client, and takes nobody else's transaction."""
        self._slots: Slots[Link, Waiter] = Slots(settings)
        self._lending = Lending(self.links, lambda: self.waiting)
        self._sweep: asyncio.TimerHandle | None = None
        self._next_probe: asyncio.TimerHandle | None = None
        self._rest_ended: weakref.finalize[[float], ServerPool] | None = None
        """Takes the rest out of the metrics, also when the pool is forgotten while it rests."""
        self._probing: asyncio.Task[None] | None = None
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """Looked up once: Python 3.11 asks the kernel for the process each time."""
        self._loop = loop = asyncio.get_running_loop()
        return loop

    def reuse(self) -> Link | None:
        """The link used last, if one is idle."""
        link, expired = self._slots.reuse((self._loop or self._running_loop()).time())
        if expired:
            self._retire(expired)
        return link

    def is_known(self, now: float) -> bool:
        """Its EHLO is known and not older than CAPABILITIES_AGE."""
        return self.capabilities is not None and now - self.learnt <= CAPABILITIES_AGE

    def is_healthy(self, now: float) -> bool:
        """It answered within HEALTH_AGE."""
        return bool(self.answered) and now - self.answered <= HEALTH_AGE

    @property
    def standing(self) -> Standing:
        """How it stands when a message asks for a server."""
        if self.health.is_resting:
            return Standing.RESTING
        return Standing.READY if self._slots.has_room else Standing.FULL

    @property
    def waiting(self) -> int:
        """How many stand in line for a link."""
        return len(self._slots.waiting)

    def limit_links(self, most: int) -> None:
        """No more links than that; the smallest limit that was given holds."""
        self._slots.max_links = min(self._slots.max_links, most)

    async def acquire(self, *, fresh: bool, client: ClientFacts | None = None) -> Link:
        """A link, idle or new; `fresh`: a new one. LinkError, also when all places are taken: `queueing` is for waiting."""
        if self._closed:
            raise LinkError(str(self.server), "the relay is closed", enhanced="4.3.0")
        if not fresh:
            link = self.reuse()
            if link is not None:
                return link
        elif not self._slots.has_free_slot:
            self._retire(self._slots.oldest_idle())
        if self._slots.reserve():
            return await self.open(client)
        raise CongestedError(str(self.server), f"all {self._slots.max_links} links are in use")

    def stand(self, waiter: Waiter) -> None:
        """Join the line: for the next link that comes back, or the next free place."""
        self._slots.wait(waiter)
        self._lending.somebody_waits()

    def step_out(self, waiter: Waiter) -> None:
        """Leave the line, wherever one is in it."""
        self._slots.unwait(waiter)

    def take_back(self, link: Link | None) -> None:
        """Who was handed a link, or with None a place, does not want it any more."""
        if link is None:
            self._vacate()
        else:
            self.release(link)

    def release(self, link: Link) -> None:
        """A link comes back clean: for the next transaction, or it has served enough."""
        if link not in self.links:
            return
        link.lender = None
        now = link.idle_since = self.answered = (self._loop or self._running_loop()).time()
        if link.transactions and self.health.strikes:
            self.health.served()
        if self._is_once or not link.is_usable or self._slots.has_served(link, now):
            self.discard(link)
            return
        while (waiter := self._slots.give_back(link)) is not None:
            if not waiter.done():
                waiter.set_result((self, link))
                return
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self.settings.idle_limit, self._close_expired)

    def discard(self, link: Link) -> None:
        """A link that is not used again: QUIT if that is possible, and its place is free."""
        self._forget(link)
        link.quit()

    def failed(self, link: Link) -> None:
        """A link ended by the server's doing: it rests if that says something about it.

        A link that lay idle is often closed by the other side, which means nothing (RFC 5321 4.5.3.2.7). Neither does what a
        client's many unknown recipients, its content or its being known there lead to: with them it could turn everybody's mail
        away from this server.
        """
        is_guiltless = link.refusals <= 1 and not link.has_begun_content and link.told is None
        if link.is_hung or (not link.idle_since and is_guiltless and (link.is_lost or link.leaving)):
            self.rest()

    def rest(self) -> None:
        """It failed: no message is given to it first until it has answered a probe."""
        if self.health.is_resting or self._closed:
            return
        seconds = self._rest()
        gauge = metrics.SERVERS_RESTING.labels(metrics.next_hop_label(str(self.server)))
        gauge.inc()
        self._rest_ended = weakref.finalize(self, gauge.dec)
        self._rest_ended.atexit = False
        log.warning("next_hop.rests", next_hop=str(self.server), seconds=seconds, failures=self.health.strikes)

    async def probe(self) -> None:
        """See whether the server answers: NOOP on an idle link, or a new link. LinkError."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        fresh = not self.is_known(now)
        if not fresh and self.answered and now - self.answered < HEALTH_AGE / 4:
            return
        link = await self.acquire(fresh=fresh)
        if link.idle_since:
            try:
                reply = await link.ask(b"NOOP", self.settings.connect_timeout, last=True)
            except LinkError:
                self.failed(link)
                raise
            if not reply.is_positive:
                self.discard(link)
                raise LinkError(str(self.server), f"NOOP answered with {reply}")
        self.release(link)

    def close(self) -> None:
        """Take leave on every link; those in use are cut, and no new one is opened."""
        self._closed = True
        for timer in (self._sweep, self._next_probe, self._probing):
            if timer is not None:
                timer.cancel()
        self._sweep = self._next_probe = None
        self._lending.stop()
        self._wake()
        for link in tuple(self.links):
            self.discard(link)

    async def open(self, client: ClientFacts | None = None) -> Link:
        """A new link on a reserved place; a failure lets the server rest."""
        loop = asyncio.get_running_loop()
        has_rested = self.health.is_resting
        try:
            link = await open_link(self._opening, on_lost=self._forget, client=client)
        except LinkError as error:
            metrics.count_link_error(str(self.server))
            self._vacate()
            if client is None or isinstance(error, NoConnectionError):  # else it may be this client that is not wanted
                self.rest()
            raise
        except BaseException:
            self._vacate()
            raise
        self.links.add(link)
        metrics.LINKS.inc()
        if has_rested:  # what was begun before it failed says nothing
            self._wake()
        if link.capabilities != self.capabilities:  # else the same object stays: what was made of it holds
            self.capabilities = link.capabilities
        self.answered = self.learnt = loop.time()
        return link

    def _rest(self) -> float:
        seconds = self.health.failed()
        loop = asyncio.get_running_loop()
        self._next_probe = loop.call_later(seconds, _probe_again, weakref.ref(self), loop)
        return seconds

    def _wake(self) -> None:
        """It answered, or nobody will ask any more."""
        if not self.health.is_resting:
            return
        self.health.answered()
        if self._next_probe is not None:
            self._next_probe.cancel()
            self._next_probe = None
        if self._rest_ended is not None:
            self._rest_ended()
        log.info("next_hop.answers", next_hop=str(self.server))

    async def probe_in_background(self) -> None:
        """The rest is over: a link is opened, and if that fails the next rest is longer. The link is for the next message."""
        if self._next_probe is not None:
            self._next_probe.cancel()
            self._next_probe = None
        if not self._slots.has_free_slot:
            self._retire(self._slots.oldest_idle())
        try:
            if self._slots.reserve():
                with contextlib.suppress(LinkError):
                    self.release(await self.open())
        finally:
            if self.health.is_resting and self._next_probe is None and not self._closed:
                self._rest()

    def begin_probe(self, loop: asyncio.AbstractEventLoop) -> None:
        """Probe now, in a task of its own."""
        self._probing = loop.create_task(self.probe_in_background(), name=f"probe {self.server}")

    def _forget(self, link: Link) -> None:
        """The link is over (or will be): it takes no place any more."""
        if link in self.links:
            self.links.discard(link)
            metrics.LINKS.dec()
            self._slots.lost(link)
            self._vacate()

    def _vacate(self) -> None:
        while (waiter := self._slots.vacate()) is not None:
            if not waiter.done():
                waiter.set_result((self, None))
                return

    def _retire(self, links: Sequence[Link]) -> None:
        for link in links:
            self.discard(link)

    def _close_expired(self) -> None:
        self._sweep = None
        loop = asyncio.get_running_loop()
        self._retire(self._slots.expired(loop.time()))
        if self._slots.idle:
            self._sweep = loop.call_later(self.settings.idle_limit, self._close_expired)


def _probe_again(ref: weakref.ref[ServerPool], loop: asyncio.AbstractEventLoop) -> None:
    """The timer keeps no pool alive that no route has any more."""
    pool = ref()
    if pool is not None:
        pool.begin_probe(loop)
