"""The shared resolver of a worker: static zones, cache, one look-up at a time for each question, tries over all name servers.

Absence is an answer; everything that goes wrong is DnsError and nothing else. There is no search list: names are whole names.
It is a stub: it asks recursive name servers (RFC 1034 5.3.1) and follows a CNAME only where their answer leaves it open.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import dns.exception
import dns.flags
import dns.message
import dns.rcode

from gateway.context import DnsAnswer
from gateway.dns.answers import KINDS, BadAnswerError, Reading, read
from gateway.dns.cache import AnswerCache
from gateway.dns.demo import ZONES as DEMO
from gateway.dns.exchange import ExchangeError, ask
from gateway.dns.names import canonical, wire_name
from gateway.dns.servers import Servers
from gateway.dns.zones import Zones
from gateway.errors import DnsError

if TYPE_CHECKING:
    from gateway.config.models import DnsConfig

MAX_TTL = 3_600.0
"""Seconds an answer is kept at most: a mistake in a zone is repaired within the hour."""
MAX_NEGATIVE_TTL = 900.0
FAILURE_TTL = 1.0
"""Seconds a failure is remembered (RFC 9520 3.2: at least one)."""
MAX_CHAIN = 8
"""CNAMEs followed by questions of our own."""
MAX_IN_FLIGHT = 2_000
"""Look-ups under way in a worker."""
MAX_QUESTIONS = 256
"""Questions on the wire at once; a burst beyond it would only overflow the name server's socket."""
_ROUNDS = (0.25, 0.75)
"""Shares of the time limit: a lost datagram is noticed early, a slow name server gets its time."""
_UDP_PAYLOAD = 1_232  # RFC 9715: fits every path without fragments


class CachingResolver:
    """Implements `gateway.context.Resolver`. Made once for each worker; `close` ends what is under way."""

    def __init__(
        self, settings: DnsConfig, *, clock: Callable[[], float] = time.monotonic, servers: Servers | None = None
    ) -> None:
        self._timeout = settings.timeout
        self._zones = Zones({**DEMO, **settings.zones} if settings.demo else settings.zones)
        self._servers = Servers(settings.nameservers, clock=clock) if servers is None else servers
        self._cache = AnswerCache(settings.cache_size, clock=clock)
        self._slots = asyncio.Semaphore(MAX_QUESTIONS)
        self._in_flight: dict[tuple[str, str], asyncio.Task[DnsAnswer]] = {}
        self._closed = False

    async def query(self, name: str, kind: str) -> DnsAnswer:
        """Look up. A name that cannot exist (empty or overlong label) is answered as absent, without asking anybody.

        Raises DnsError for a temporary failure; never anything else.
        """
        kind = kind.upper()
        if kind not in KINDS:
            raise DnsError(name, kind, f"not one of {', '.join(KINDS)}")
        known = canonical(name)
        if known is None:
            return DnsAnswer(name=name, kind=kind, exists=False)
        if (static := await self._from_zones(known, kind)) is not None:
            return static
        key = (known, kind)
        kept = self._cache.get(key)
        if isinstance(kept, DnsError):
            raise DnsError(kept.name, kept.kind, f"{kept.what} (a moment ago)")
        if kept is not None:
            return replace(kept, cached=True)
        task = self._in_flight.get(key)
        if task is None:
            task = self._start(key)
        return await self._wait(task, key)

    async def close(self) -> None:
        """End every look-up under way; later ones fail."""
        self._closed = True
        tasks = list(self._in_flight.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _from_zones(self, name: str, kind: str) -> DnsAnswer | None:
        answer = self._zones.answer(name, kind)
        if answer is None or not answer.canonical:
            return answer
        target = answer.canonical
        for _ in range(MAX_CHAIN):
            known = canonical(target)
            if known is None:
                return DnsAnswer(name=name, kind=kind, exists=False, canonical=target)
            found = self._zones.answer(known, kind)
            if found is None:
                return replace(await self.query(known, kind), name=name, canonical=target)
            if not found.canonical:
                return replace(found, name=name, canonical=target)
            target = found.canonical
        raise DnsError(name, kind, "CNAME chain too long")

    def _start(self, key: tuple[str, str]) -> asyncio.Task[DnsAnswer]:
        """One task for all who ask the same: whoever leaves does not take the answer from the others."""
        if self._closed or len(self._in_flight) >= MAX_IN_FLIGHT:
            raise DnsError(*key, "the resolver is closed" if self._closed else "too many look-ups under way")
        task = asyncio.get_running_loop().create_task(self._look_up(key), name=f"dns {key[1]} {key[0]}")
        self._in_flight[key] = task

        def ended(done: asyncio.Task[DnsAnswer]) -> None:
            self._in_flight.pop(key, None)
            if not done.cancelled():
                done.exception()  # seen, even when nobody waits for it any more

        task.add_done_callback(ended)
        return task

    async def _wait(self, task: asyncio.Task[DnsAnswer], key: tuple[str, str]) -> DnsAnswer:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and self._closed:
                raise DnsError(*key, "the resolver is closed") from None
            raise

    async def _look_up(self, key: tuple[str, str]) -> DnsAnswer:
        name, kind = key
        try:
            async with asyncio.timeout(self._timeout):
                reading = await self._follow(name, kind)
        except TimeoutError:
            error = DnsError(name, kind, f"no answer within {self._timeout:g} s")
        except (BadAnswerError, ExchangeError) as trouble:
            error = DnsError(name, kind, str(trouble))
        except Exception as trouble:  # noqa: BLE001 - the border to dnspython: nothing but DnsError may reach plugins
            error = DnsError(name, kind, f"{type(trouble).__name__}: {trouble}")
        else:
            answer = DnsAnswer(
                name=name,
                kind=kind,
                records=reading.records,
                exists=reading.exists,
                authenticated=reading.authenticated,
                canonical=reading.canonical,
            )
            limit = MAX_TTL if reading.records else MAX_NEGATIVE_TTL
            self._cache.put(key, answer, min(reading.ttl, limit))
            return answer
        self._cache.put(key, error, FAILURE_TTL)
        raise error

    async def _follow(self, name: str, kind: str) -> Reading:
        reading = await self._try_servers(name, kind)
        ttl, authenticated, target = reading.ttl, reading.authenticated, reading.canonical
        for _ in range(MAX_CHAIN):
            if not reading.unfinished:
                return replace(reading, ttl=ttl, authenticated=authenticated, canonical=target)
            known = canonical(target)
            if known is None:
                return replace(reading, exists=False, ttl=ttl, canonical=target, unfinished=False)
            reading = await self._try_servers(known, kind)
            ttl = min(ttl, reading.ttl)
            authenticated = authenticated and reading.authenticated
            target = reading.canonical or target
        raise BadAnswerError("CNAME chain too long")

    async def _try_servers(self, name: str, kind: str) -> Reading:
        """Each server in turn, twice; the time of a try is its share of the whole."""
        servers = self._servers.in_order()
        if not servers:
            raise BadAnswerError("no name server is known")
        trouble: Exception = BadAnswerError("no answer")
        for share in _ROUNDS:
            for server in servers:
                try:
                    async with self._slots, asyncio.timeout(self._timeout * share / len(servers)):
                        return await self._ask(server, name, kind)
                except TimeoutError:
                    trouble = BadAnswerError(f"no answer from {server[0]}")
                except (BadAnswerError, ExchangeError) as error:
                    trouble = error
                self._servers.failed(server)
        raise trouble

    async def _ask(self, server: tuple[str, int], name: str, kind: str) -> Reading:
        query = dns.message.make_query(wire_name(name), KINDS[kind], use_edns=0, payload=_UDP_PAYLOAD)
        query.flags |= dns.flags.AD  # RFC 6840 5.7: we understand the bit in the answer
        answer = await ask(server, query)
        if answer.rcode() in {dns.rcode.FORMERR, dns.rcode.NOTIMP}:
            query = dns.message.make_query(wire_name(name), KINDS[kind], use_edns=False)  # RFC 6891 7: an old server
            answer = await ask(server, query)
        return read(answer, kind)
