"""What plugins that scan share: options of one name, servers asked one after the other, time limits, pings, and messages too large.

`ScannerOptions` and `Scanner` are for everything that looks at whole messages (a program, a library), `ServerOptions` and `ServerScanner`
for what asks servers. What is said to a server, and what its answer comes to, is the plugin's. Faults are PluginError: `on_error` decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Annotated, Any, Generic, Literal, TypeAlias

from pydantic import BeforeValidator, Field
from typing_extensions import TypeVar

from gateway.context import Context
from gateway.errors import PluginError
from gateway.findings import Label
from gateway.message import Message
from gateway.plugin import Plugin, PluginOptions, hook
from gateway.services import Service, ServiceError, ServiceName, parse_service
from gateway.transaction import Transaction
from gateway.units import Duration, Size
from gateway.verdict import Quarantine, Reject, quarantine, reject

__all__ = [
    "Scanner",
    "ScannerOptions",
    "ServerNames",
    "ServerOptions",
    "ServerScanner",
    "shown",
]

T = TypeVar("T")
SHARE = 0.9
"""Of the time of a hook: what ends its own work before the chain does can say what it found."""
LONG_ENOUGH = 1.0
"""Seconds after which something without connections, that was cancelled, counts as one that did not answer."""
PING_WHILE_AWAY = 1.0
"""Seconds between two pings of a server that does not answer."""
TOO_LARGE = "too_large"
"""Behind the plugin's name: the label of a message that was not scanned because of its size."""
Question: TypeAlias = Callable[[Service], Coroutine[Any, Any, T]]


def shown(text: str | bytes, limit: int = 200) -> str:
    """Text of the other side for findings, logs and traces: printable ASCII, bounded."""
    if isinstance(text, bytes):
        text = text[: limit + 1].decode("latin-1")
    plain = text[: limit + 1]
    if not (plain.isascii() and plain.isprintable()):
        plain = "".join(c if " " <= c <= "~" else "?" for c in plain)
    return plain if len(plain) <= limit else plain[: limit - 3] + "..."


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


ServerNames = Annotated[tuple[ServiceName, ...], BeforeValidator(_several), Field(min_length=1)]
"""An option that names a server, or a list of them."""


class ScannerOptions(PluginOptions):
    """Options of every scanner."""

    connections: int = Field(default=20, ge=1, le=1000)
    """At once, in each worker, of each server; more wait for as long as the plugin's `timeout` allows."""
    failures: int = Field(default=5, ge=0)
    """So many failures in a row, and it is left alone for `rest`; 0: never."""
    rest: Duration = Field(default=10.0, gt=0)
    """Meanwhile each question is a fault at once; then one tries."""
    max_size: Size = 50_000_000
    """Larger messages are not scanned; they get the label `NAME.too_large`."""
    oversize: Literal["pass", "quarantine", "reject"] = "pass"
    """What else happens to them: nothing, held in `box`, or refused."""
    box: str = Field(default="default", pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    """Quarantine box for what is held."""


class ServerOptions(ScannerOptions):
    """Options of a scanner that asks servers."""

    server: ServerNames
    """Where it listens: `host:port`, `[::1]:port` or `unix:/path`; a list of them is asked in order until one answers."""
    spread: bool = False
    """With several servers: begin with another one each time. Else the later ones are asked only when those before cannot be."""
    connect_timeout: Duration = Field(default=3.0, gt=0)
    """For a connection, and for the answer to a ping."""
    ping: Duration = 30.0
    """How often each server is asked whether it is there, also while there is no mail; every second while it is not. 0: never."""


S = TypeVar("S", bound=ScannerOptions)
ServerS = TypeVar("ServerS", bound=ServerOptions)


class Scanner(Plugin[S], Generic[S]):
    """Base of a plugin that scans whole messages.

    A subclass calls `ask` from its `check`, after `is_too_large`; its `judge` begins with `judge_size`.
    """

    def __init__(self, options: S | None = None, *, name: str = "", context: Context | None = None) -> None:
        super().__init__(options, name=name, context=context)
        self.services = tuple(self.make_services())
        self._turn = 0

    def make_services(self) -> Sequence[Service]:
        """What is asked. A plugin without servers has one that is itself."""
        return (self.service(self.name),)

    def service(self, address: str) -> Service:
        """Something that is asked under this name, with the limits of the options."""
        chosen = self.options
        return Service(
            address,
            connections=chosen.connections,
            connect_timeout=LONG_ENOUGH,
            failures=chosen.failures,
            rest=chosen.rest,
            plugin=self.name,
        )

    @property
    def time_limit(self) -> float:
        """Seconds for a whole message: most of the plugin's `timeout`."""
        return SHARE * self.hook_limit

    async def ask(self, question: Question[T]) -> T:
        """The first answer. PluginError that says of each server why it gave none.

        Each server that may be asked has its share of what is left of the time, so that one that hangs leaves some for the next.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self.time_limit
        problems: list[str] = []
        order = self._in_order()
        for number, service in enumerate(order):
            able = 1 + sum(not later.is_resting for later in order[number + 1 :])
            try:
                return await service.turn(question, (end - loop.time()) / able)
            except ServiceError as error:
                problems.append(str(error))
        raise PluginError(self.name, "; ".join(problems))

    def is_too_large(self, message: Message) -> Label | None:
        """The label of a message that is not to be scanned."""
        if message.size <= self.options.max_size:
            return None
        return self.too_large(f"not scanned: {message.size} octets, max_size is {self.options.max_size}")

    def too_large(self, evidence: str) -> Label:
        """The same where the scanner itself found out."""
        return Label(name=f"{self.name}.{TOO_LARGE}", evidence=evidence)

    def judge_size(self, transaction: Transaction) -> Reject | Quarantine | None:
        """What `oversize` says of a message that got this plugin's label."""
        if self.options.oversize == "pass":
            return None
        for label in transaction.findings.by(self.name, Label):
            if label.name == f"{self.name}.{TOO_LARGE}":
                if self.options.oversize == "reject":
                    return reject(
                        "Message too large to be checked",
                        code=552,
                        enhanced="5.3.4",
                        reason="too-large-to-scan",
                        evidence=label.evidence,
                    )
                return quarantine("too-large-to-scan", box=self.options.box, evidence=label.evidence)
        return None

    def _in_order(self) -> list[Service]:
        """As they are asked: those with a free place first, those that rest last."""
        start = self._turn % len(self.services)
        if getattr(self.options, "spread", False):
            self._turn += 1
        around = [*self.services[start:], *self.services[:start]]
        return sorted(around, key=lambda service: (service.is_resting, not service.has_room))

    @hook
    async def shutdown(self) -> None:
        """Close what is kept."""
        for service in self.services:
            await service.close()


class ServerScanner(Scanner[ServerS], Generic[ServerS]):
    """Base of a scanner that asks servers, and of their pings."""

    def __init__(self, options: ServerS | None = None, *, name: str = "", context: Context | None = None) -> None:
        super().__init__(options, name=name, context=context)
        self._ends = asyncio.Event()

    def make_services(self) -> Sequence[Service]:
        """One for each address."""
        chosen = self.options
        return [
            Service(
                parse_service(one),
                connections=chosen.connections,
                connect_timeout=chosen.connect_timeout,
                failures=chosen.failures,
                rest=chosen.rest,
                plugin=self.name,
            )
            for one in chosen.server
        ]

    async def ping(self, service: Service) -> None:
        """Ask one server whether it is there. Raises what a question may raise."""
        async with service.connected():
            return

    @hook
    async def startup(self, context: Context) -> None:
        """Begin to look after the servers."""
        if self.options.ping:
            for service in self.services:
                context.spawn(self._look_after(service), name=f"ping {service.address}")

    @hook
    async def shutdown(self) -> None:
        """Look after them no more."""
        self._ends.set()
        await super().shutdown()

    async def _look_after(self, service: Service) -> None:
        """Until the plugin's end, which with a reload comes before the worker's."""
        is_there = True
        while not self._ends.is_set():
            was_there, is_there = is_there, await service.ping(self.ping, self.options.connect_timeout)
            if was_there and not is_there:
                self.context.log.warning("scanner.is_away", server=str(service.address), why=service.breaker.problem)
            elif is_there and not was_there:
                self.context.log.info("scanner.is_back", server=str(service.address))
            with suppress(TimeoutError):
                async with asyncio.timeout(self.options.ping if is_there else min(PING_WHILE_AWAY, self.options.ping)):
                    await self._ends.wait()
