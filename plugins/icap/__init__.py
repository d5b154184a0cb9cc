"""Ask an ICAP server (RFC 3507), as web proxies do: antivirus and data loss products speak it, and c-icap.

A client of our own: no kept library has one with streams, time limits and previews. `protocol` is what is said, `asking` one question;
servers, time and failures are `gateway.scanning`. What a server changes of a message is not taken: it is asked only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from gateway import Context, Defer, Discard, Fact, Finding, Label, Message, Quarantine, Reject, Transaction, hook
from gateway.consequences import ConsequenceOptions, Then, consequence, told
from gateway.plugins.icap.asking import Answer, ask, read_head
from gateway.plugins.icap.protocol import (
    Abilities,
    AnswerError,
    Head,
    found,
    options_request,
    parse_abilities,
    parse_head,
    request,
)
from gateway.scanning import ServerNames, ServerOptions, ServerScanner, shown
from gateway.services import BadAnswerError, Service, ServiceAddress, ServiceError

MAX_PREVIEW = 65_536


class Options(ServerOptions, ConsequenceOptions):
    """Where the server is, what it is asked, and what follows."""

    server: ServerNames = ("127.0.0.1:1344",)
    """Where it listens: `host:port`, `[::1]:port` or `unix:/path`; a list of them is asked in order until one answers."""
    service: str = Field(default="avscan", pattern=r"^[!-~]{1,200}$")
    """The name of its service, as in `icap://host/avscan`; a query may follow."""
    method: Literal["RESPMOD", "REQMOD"] = "RESPMOD"
    """Whether the message is shown as a download or as an upload."""
    preview: int | None = Field(default=None, ge=0, le=MAX_PREVIEW)
    """Octets that it sees at most before it says whether it wants the rest; without a value as many as it asks for."""
    found_fields: tuple[str, ...] = ("X-Infection-Found", "X-Virus-ID", "X-Violations-Found", "X-Virus-Name")
    """Fields of its answer that say what was found."""
    then: Then = "reject"
    """What follows when something was found, or it would show a page that refuses."""
    modified: Then = "pass"
    """What follows when it sends another body back without a word on why. That body is not taken."""
    tell_client: bool = True
    """Tell it the client's address (`X-Client-IP`)."""


@dataclass(slots=True)
class _Known:
    """What a server said of itself."""

    abilities: Abilities
    until: float
    seats: asyncio.Semaphore | None


class Icap(ServerScanner[Options]):
    """Asks at `check`."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        super().__init__(options, name=name, context=context)
        self._known: dict[str, _Known] = {}

    @hook
    async def check(self, transaction: Transaction, message: Message) -> list[Finding]:
        """What it found, and what follows."""
        if label := self.is_too_large(message):
            return [label]
        client = transaction.session.client_address if self.options.tell_client else ""
        return self._findings(*await self.ask(lambda service: self._ask(service, message, client)))

    @hook(cheap=True)
    def judge(self, transaction: Transaction) -> Reject | Quarantine | Discard | Defer | None:
        """What its answer comes to."""
        return consequence(self, transaction, reason="icap-found")

    async def ping(self, service: Service) -> None:
        """OPTIONS, which says anew what it can."""
        self._known.pop(str(service.address), None)
        await self._abilities(service)

    def _findings(self, server: str, answer: Answer) -> list[Finding]:
        threats = [shown(one, 100) for one in found(answer.head, self.options.found_fields)]
        if threats or answer.blocked:
            why = f"{', '.join(threats) or shown(answer.blocked)} by {server}"
            facts = [Fact(name=f"{self.name}.threat", value=one) for one in threats]
            return [Label(name=f"{self.name}.found", evidence=why), *facts, *told(self.name, self.options.then, why)]
        if answer.is_modified:
            why = f"{server} sent another body back, which was not taken"
            return [Label(name=f"{self.name}.modified", evidence=why), *told(self.name, self.options.modified, why)]
        istag = shown(answer.head.field("istag").strip('"'), 100)
        return [Fact(name=f"{self.name}.clean", value=f"{server} {istag}".strip())]

    async def _ask(self, service: Service, message: Message, client: str) -> tuple[str, Answer]:
        """One message."""
        try:
            known = await self._abilities(service)
            async with self._seat(service, known):
                return str(service.address), await self._on_wire(service, message, known.abilities, client)
        except AnswerError as error:
            raise BadAnswerError(shown(str(error))) from error

    @asynccontextmanager
    async def _seat(self, service: Service, known: _Known) -> AsyncIterator[None]:
        """One of its Max-Connections. ServiceError when none is free in time: busy is not broken."""
        seats = known.seats
        if seats is None:
            yield
            return
        try:
            async with asyncio.timeout(min(self.options.connect_timeout, self.time_limit / 2)):
                await seats.acquire()
        except TimeoutError:
            raise ServiceError(f"{service.address}: its Max-Connections of {known.abilities.connections} are in use") from None
        try:
            yield
        finally:
            seats.release()

    async def _on_wire(self, service: Service, message: Message, abilities: Abilities, client: str) -> Answer:
        chosen = self.options
        preview = abilities.preview
        if preview is not None:
            preview = min(preview, message.size, MAX_PREVIEW if chosen.preview is None else chosen.preview)
        uri, host = self._place(service)
        front = request(
            chosen.method,
            uri,
            host,
            size=message.size,
            preview=preview,
            allows_204=abilities.allows_204,
            more=[("X-Client-IP", client)] if client else [],
        )

        def says(head: Head) -> bool:
            return bool(found(head, chosen.found_fields))

        async with service.connected() as wire:
            return await ask(wire, front, message, preview, says)

    async def _abilities(self, service: Service) -> _Known:
        """What the server can, asked for when that is not known any more. Whatever a question may raise."""
        key, loop = str(service.address), asyncio.get_running_loop()
        known = self._known.get(key)
        if known is not None and loop.time() < known.until:
            return known
        async with service.connected() as wire:
            wire.writer.write(options_request(*self._place(service)))
            try:
                abilities = parse_abilities(parse_head(await read_head(wire)), self.options.method)
            except AnswerError as error:
                raise BadAnswerError(shown(f"to OPTIONS: {error}")) from error
        seats = asyncio.Semaphore(abilities.connections) if abilities.connections else None
        if known is not None and known.abilities.connections == abilities.connections:
            seats = known.seats
        known = self._known[key] = _Known(abilities, loop.time() + abilities.ttl, seats)
        return known

    def _place(self, service: Service) -> tuple[str, str]:
        """URI and Host."""
        address = service.address
        host = "localhost" if isinstance(address, ServiceAddress) and address.path else str(address)
        return f"icap://{host}/{self.options.service}", host
