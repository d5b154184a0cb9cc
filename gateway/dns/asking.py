"""One look-up on the wire: tries over all name servers, CNAMEs followed, no cache. RFC 1034 5.3.1, RFC 6840 5.7, RFC 6891 7.

It is a stub: it asks recursive name servers and follows a CNAME only where their answer leaves it open.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Literal, Protocol

import dns.flags
import dns.message
import dns.rcode

from gateway.dns.answers import KINDS, BadAnswerError, Reading, read
from gateway.dns.exchange import ExchangeError, ask
from gateway.dns.names import canonical, wire_name
from gateway.dns.servers import Server, Servers, is_loopback, shown
from gateway.metrics import count_name_server_failure

MAX_CHAIN = 8
"""CNAMEs followed by questions of our own."""
MAX_BURST = 128
"""Questions sent at once; more would only overflow the name server's socket."""
BURST_TIME = 1.0
"""Seconds after which a question is no part of a burst any more: the name server has read it, and waits for others itself."""
MAX_OPEN = 2_000
"""Questions waited for at once, each with a socket; a quarter of the files that the process may open, if that is less."""
_ROUNDS = (0.25, 0.75)
"""Shares of the time limit: a lost datagram is noticed early, a slow name server gets its time."""
_UDP_PAYLOAD = 1_232  # RFC 9715: fits every path without fragments

TrustAd = Literal["loopback", "always", "never"]


class Backend(Protocol):
    """How one question is put to one name server. The caller sets the time limit and cancels."""

    async def ask(self, server: Server, name: str, kind: str, *, want_ad: bool) -> Reading:
        """Raises BadAnswerError, ExchangeError."""
        ...

    async def close(self) -> None:
        """Nothing is asked any more."""
        ...


class DnspythonBackend:
    """dnspython reads and writes messages; sockets are our own (`exchange`)."""

    async def ask(self, server: Server, name: str, kind: str, *, want_ad: bool) -> Reading:
        """Over UDP, over TCP where that is cut short; without EDNS where the server does not know it."""
        query = dns.message.make_query(wire_name(name), KINDS[kind], use_edns=0, payload=_UDP_PAYLOAD)
        if want_ad:
            query.flags |= dns.flags.AD  # RFC 6840 5.7: we understand the bit in the answer
        answer = await ask(server, query)
        if answer.rcode() in {dns.rcode.FORMERR, dns.rcode.NOTIMP}:
            query = dns.message.make_query(wire_name(name), KINDS[kind], use_edns=False)  # RFC 6891 7: an old server
            answer = await ask(server, query)
        return read(answer, kind)

    async def close(self) -> None:
        """Nothing is kept open between questions."""


class Asker:
    """Puts questions to the name servers in turn."""

    def __init__(self, servers: Servers, backend: Backend, *, timeout: float, trust_ad: TrustAd = "loopback") -> None:
        self._servers = servers
        self._backend = backend
        self._timeout = timeout
        self._trust_ad = trust_ad
        self._burst = asyncio.Semaphore(MAX_BURST)
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._open = asyncio.Semaphore(max(16, min(MAX_OPEN, soft // 4)) if soft >= 0 else MAX_OPEN)

    async def look_up(self, name: str, kind: str) -> Reading:
        """The answer at the end of the CNAME chain. BadAnswerError or ExchangeError when no server gives one."""
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

    async def close(self) -> None:
        """Nothing is asked any more."""
        await self._backend.close()

    async def _try_servers(self, name: str, kind: str) -> Reading:
        """Each server in turn, twice; the time of a try is its share of the whole."""
        servers = self._servers.in_order()
        if not servers:
            raise BadAnswerError("no name server is known", "unreachable")
        trouble: Exception = BadAnswerError("no answer")
        for share in _ROUNDS:
            for server in servers:
                want_ad = self._trusts(server)
                try:
                    async with self._open, self._turn(), asyncio.timeout(self._timeout * share / len(servers)):
                        reading = await self._backend.ask(server, name, kind, want_ad=want_ad)
                except TimeoutError:
                    trouble = BadAnswerError(f"no answer from {server[0]}", "timeout")
                except (BadAnswerError, ExchangeError) as error:
                    trouble = error
                else:
                    return reading if want_ad else replace(reading, authenticated=False)
                self._servers.failed(server)
                count_name_server_failure(shown(server))
        raise trouble

    def _trusts(self, server: Server) -> bool:
        return self._trust_ad == "always" or (self._trust_ad == "loopback" and is_loopback(server))

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait until this question makes no burst; those that a name server is slow to answer do not count for long."""
        await self._burst.acquire()
        counts = True

        def end() -> None:
            nonlocal counts
            if counts:
                counts = False
                self._burst.release()

        timer = asyncio.get_running_loop().call_later(BURST_TIME, end)
        try:
            yield
        finally:
            timer.cancel()
            end()
