"""A policy server: the listener that a Postfix asks by check_policy_service. Border: the connection, the clock and the task of it.

One request is answered after the other. What is no request ends the connection without an answer, and Postfix does what it does
without us (`smtpd_policy_service_default_action`, which defers). Who may ask: this host, and `trusted_xclient`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from gateway import metrics
from gateway.policy.asking import Client
from gateway.policy.codec import PolicyFault, Reader, render, shown
from gateway.policy.facts import Request, client_of
from gateway.smtp.connections import Full
from gateway.smtp.origin import endpoint
from gateway.smtp.relaying import contains

if TYPE_CHECKING:
    from gateway.smtp.site import Door

log = structlog.get_logger("mailgateway.policy")

ANSWER_LIMIT = 90.0
"""Seconds for an answer; Postfix waits 100 (`smtpd_policy_service_timeout`)."""
READ = 16 * 1024
TOO_LATE = "451 4.3.0 Try again later"


def policy_protocols(door: Door, loop: asyncio.AbstractEventLoop) -> Callable[[], asyncio.BaseProtocol]:
    """What a door makes for each connection."""

    def made() -> asyncio.BaseProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=READ, loop=loop), PolicyServer(door).serve, loop=loop)

    return made


class PolicyServer:
    """One connection of a Postfix."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._client: Client | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._is_idle = False

    def drain(self) -> None:
        """The worker is stopping: Postfix comes again, to another one."""
        if self._is_idle and self._writer is not None:
            self._writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests, until the other side has no more."""
        door, self._writer = self._door, writer
        peer = endpoint(writer.transport, "peername")[0]
        if not (door.is_socket or contains(door.loopback, peer) or contains(door.introducers, peer)):
            log.warning("policy.refused", listener=door.config.name, client=peer)
            writer.transport.abort()
            return
        seat = door.site.connections.take(None)
        if isinstance(seat, Full):
            log.warning("policy.full", listener=door.config.name)
            writer.transport.abort()
            return
        door.enter(self)
        metrics.count_session()
        try:
            await self._serve(reader, writer)
        except PolicyFault as fault:
            log.warning("policy.bad_request", listener=door.config.name, problem=shown(str(fault)))
        except (OSError, TimeoutError):  # it is gone, or has nothing to ask for long
            pass
        except Exception:
            # protects the worker: one connection's fault is that connection's
            log.exception("session.failed", listener=door.config.name)
        finally:
            await self._leave(writer)
            door.site.connections.leave(seat)
            door.leave(self)
            metrics.count_session_end()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests = Reader()
        while not self._door.draining:
            self._is_idle = True
            try:
                async with asyncio.timeout(self._door.site.limits.idle):
                    some = await reader.read(READ)
            finally:
                self._is_idle = False
            if not some:
                return
            for request in requests.feed(some):
                writer.write(render({"action": await self._answer(request)}))
            async with asyncio.timeout(self._door.site.limits.idle):
                await writer.drain()

    async def _answer(self, request: Request) -> str:
        if self._client is None or self._client.who != client_of(request):
            before, self._client = self._client, Client(self._door, request)
            if before is not None:
                await before.leave()
        try:
            async with asyncio.timeout(ANSWER_LIMIT):
                return await self._client.answer(request)
        except TimeoutError:
            return TOO_LATE

    async def _leave(self, writer: asyncio.StreamWriter) -> None:
        writer.close()
        client, self._client = self._client, None
        if client is not None:
            await client.leave()
