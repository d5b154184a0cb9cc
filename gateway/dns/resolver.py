"""The shared resolver of a worker: static zones, cache, one look-up at a time for each question, budgets, stale answers.

Absence is an answer; everything that goes wrong is DnsError and nothing else. There is no search list: names are whole names.
What goes over the wire is `asking`'s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.context import DnsAnswer
from gateway.dns.answers import KINDS, BadAnswerError, Reading
from gateway.dns.asking import MAX_CHAIN, Asker, Backend, DnspythonBackend
from gateway.dns.cache import AnswerCache, Key
from gateway.dns.demo import ZONES as DEMO
from gateway.dns.exchange import ExchangeError
from gateway.dns.names import canonical
from gateway.dns.servers import Servers
from gateway.dns.zones import Zones
from gateway.dns_account import ACCOUNT, DnsAccount
from gateway.errors import DnsError
from gateway.metrics import count_dns_failure, count_dns_query, observe_dns

if TYPE_CHECKING:
    from gateway.config.models import DnsConfig

MAX_IN_FLIGHT = 2_000
"""Look-ups under way in a worker."""
LEAST_WAIT = 0.005
"""Seconds of a budget for which no look-up is begun any more: a timer may fire that early."""


class CachingResolver:
    """Implements `gateway.context.Resolver`. Made once for each worker; `close` ends what is under way."""

    def __init__(
        self, settings: DnsConfig, *, clock: Callable[[], float] = time.monotonic, servers: Servers | None = None
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._zones = Zones({**DEMO, **settings.zones} if settings.demo else settings.zones)
        self._asker = Asker(
            Servers(settings.nameservers, clock=clock) if servers is None else servers,
            _backend(settings.backend),
            timeout=settings.timeout,
            trust_ad=settings.trust_ad,
        )
        self._cache = AnswerCache(
            settings.cache_size, clock=clock, stale_limit=settings.stale_limit, failure_ttl=settings.failure_ttl
        )
        self._in_flight: dict[Key, asyncio.Task[DnsAnswer]] = {}
        self._closed = False

    async def query(self, name: str, kind: str) -> DnsAnswer:
        """Look up. A name that cannot exist (empty or overlong label) is answered as absent, without asking anybody.

        Raises DnsError for a temporary failure and for a spent budget; never anything else.
        """
        answer = self.known(name, kind)  # names are canonical more often than not
        if answer is not None:
            return answer
        try:
            answer, outcome = await self._query(name, kind.upper())
        except DnsError as error:
            count_dns_failure(error.cause)
            raise
        count_dns_query(outcome)
        return answer

    def known(self, name: str, kind: str) -> DnsAnswer | None:
        """The answer that is in the cache, for who would rather not wait for `query`. None: it has to be awaited."""
        answer = self._cache.fresh((name, kind))
        if answer is not None:
            count_dns_query("cached")
        return answer

    async def close(self) -> None:
        """End every look-up under way; later ones fail."""
        self._closed = True
        tasks = list(self._in_flight.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._asker.close()

    async def _query(self, name: str, kind: str) -> tuple[DnsAnswer, str]:
        """The answer, and where it is from."""
        if kind not in KINDS:
            raise DnsError(name[:1_000], kind[:100], f"not one of {', '.join(KINDS)}")
        known = canonical(name)
        if known is None:
            return DnsAnswer(name=name, kind=kind, exists=False), "static"
        if not self._zones.is_empty and (static := await self._from_zones(known, kind)) is not None:
            return static
        key = (known, kind)
        if (answer := self._cache.fresh(key)) is not None:
            return answer, "cached"
        entry, now = self._cache.entry(key), self._clock()
        stale = None if entry is None else entry.stale(now)
        if entry is not None and entry.error is not None and entry.quiet_until > now:
            if stale is None:
                raise DnsError(known, kind, f"{entry.error.what} (a moment ago)", cause=entry.error.cause)
            return stale, "stale"
        try:
            return await self._ask(key, None if stale is None else self._settings.stale_wait), "asked"
        except DnsError:
            if stale is None:
                raise
            return stale, "stale"

    async def _ask(self, key: Key, limit: float | None) -> DnsAnswer:
        """Join or begin a look-up, and wait for it as long as budget and limit allow."""
        account, loop = ACCOUNT.get(), asyncio.get_running_loop()
        if account is None:
            return await self._wait(key, limit, "no newer answer yet", "timeout")
        try:
            left = self._left(key, account, loop.time())
            account.begin(loop.time())
            try:
                if limit is not None and limit < left:
                    return await self._wait(key, limit, "no newer answer yet", "timeout")
                return await self._wait(key, left, self._spent, "budget")
            finally:
                account.end(loop.time())
        except DnsError as error:
            account.refused += error.cause == "budget"
            raise

    def _left(self, key: Key, account: DnsAccount, now: float) -> float:
        """Seconds that the account still has. DnsError when it has nothing."""
        left = self._settings.transaction_time - account.seconds(now)
        if left < LEAST_WAIT:
            raise DnsError(*key, self._spent, cause="budget")
        if account.look_ups >= self._settings.transaction_look_ups:
            what = f"the budget of {self._settings.transaction_look_ups} look-ups for one message is spent"
            raise DnsError(*key, what, cause="budget")
        return left

    @property
    def _spent(self) -> str:
        return f"the budget of {self._settings.transaction_time:g} s for one message is spent"

    async def _wait(self, key: Key, limit: float | None, what: str, cause: str) -> DnsAnswer:
        """One task for all who ask the same: whoever leaves does not take the answer from the others."""
        task = self._in_flight.get(key)
        if task is None:
            task = self._start(key)
        try:
            async with asyncio.timeout(limit):
                return await asyncio.shield(task)
        except TimeoutError:
            raise DnsError(*key, what, cause=cause) from None
        except asyncio.CancelledError:
            if task.cancelled() and self._closed:
                raise DnsError(*key, "the resolver is closed", cause="closed") from None
            raise

    def _start(self, key: Key) -> asyncio.Task[DnsAnswer]:
        if self._closed:
            raise DnsError(*key, "the resolver is closed", cause="closed")
        if len(self._in_flight) >= MAX_IN_FLIGHT:
            raise DnsError(*key, "too many look-ups under way", cause="overload")
        task = asyncio.get_running_loop().create_task(self._look_up(key), name=f"dns {key[1]} {key[0]}")
        self._in_flight[key] = task

        def ended(done: asyncio.Task[DnsAnswer]) -> None:
            self._in_flight.pop(key, None)
            if not done.cancelled():
                done.exception()  # seen, even when nobody waits for it any more

        task.add_done_callback(ended)
        return task

    async def _look_up(self, key: Key) -> DnsAnswer:
        name, kind = key
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._settings.timeout):
                reading = await self._asker.look_up(name, kind)
        except TimeoutError:
            error = DnsError(name, kind, f"no answer within {self._settings.timeout:g} s", cause="timeout")
        except (BadAnswerError, ExchangeError) as trouble:
            error = DnsError(name, kind, str(trouble), cause=trouble.cause)
        except Exception as trouble:  # noqa: BLE001 - the border to dnspython: nothing but DnsError may reach plugins
            error = DnsError(name, kind, f"{type(trouble).__name__}: {trouble}")
        else:
            answer = _answer(key, reading)
            self._cache.put(key, answer, self._time_to_live(reading))
            return answer
        finally:
            observe_dns(time.perf_counter() - began)
        self._cache.put_failure(key, error)
        raise error

    def _time_to_live(self, reading: Reading) -> float:
        settings = self._settings
        if reading.records:
            return min(max(reading.ttl, settings.min_ttl), settings.max_ttl)
        return min(max(reading.ttl, settings.min_negative_ttl), settings.max_negative_ttl)

    async def _from_zones(self, name: str, kind: str) -> tuple[DnsAnswer, str] | None:
        answer = self._zones.answer(name, kind)
        if answer is None or not answer.canonical:
            return None if answer is None else (answer, "static")
        target = answer.canonical
        for _ in range(MAX_CHAIN):
            known = canonical(target)
            if known is None:
                return DnsAnswer(name=name, kind=kind, exists=False, canonical=target), "static"
            found = self._zones.answer(known, kind)
            if found is None:
                beyond, outcome = await self._query(known, kind)
                return replace(beyond, name=name, canonical=beyond.canonical or target), outcome
            if not found.canonical:
                return replace(found, name=name, canonical=target), "static"
            target = found.canonical
        raise DnsError(name, kind, "CNAME chain too long", cause="answer")


def _answer(key: Key, reading: Reading) -> DnsAnswer:
    return DnsAnswer(
        name=key[0],
        kind=key[1],
        records=reading.records,
        exists=reading.exists,
        authenticated=reading.authenticated,
        canonical=reading.canonical,
    )


def _backend(name: str) -> Backend:
    if name == "dnspython":
        return DnspythonBackend()
    from gateway.dns.over_aiodns import AiodnsBackend  # an extra: not everybody has it

    return AiodnsBackend()
