"""One generation in service in a worker: its chains, doors and background work, and what it shares with the ones before and after.

A session belongs to the door it came in by, and so to one generation, from its first octet to its last. DNS with its cache and the links
to next hops pass from one generation to the next where their settings are the same; the last user closes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from gateway.config.checks import state_is_durable
from gateway.delivery import Delivery
from gateway.dns import CachingResolver
from gateway.errors import ConfigError, ConfigProblem
from gateway.file_stamp import stamp
from gateway.generation import Generation
from gateway.plugin_context import PluginContexts
from gateway.relay.pool import Relay
from gateway.smtp.site import Door, Site

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.chain import Chain
    from gateway.config.load import Loaded
    from gateway.config.models import Config, ListenerConfig
    from gateway.journal import Journal
    from gateway.ledger import Ledger
    from gateway.quarantine import Quarantine
    from gateway.server.process import Runtime
    from gateway.smtp.connections import Connections
    from gateway.store import SqliteStore

LEARN_LIMIT = 5.0
"""Seconds that new links get to learn what their next hops offer, before clients ask."""
GRACE = 0.2
"""Seconds after the last session: a connection that was accepted just before a swap has entered by then."""

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Lasting:
    """What a worker keeps through all generations."""

    store: SqliteStore
    quarantine: Quarantine
    ledger: Ledger
    journal: Journal
    connections: Connections


class Shared(Generic[T]):
    """Something that several generations use: closed by the last of them."""

    def __init__(self, value: T, terms: object, close: Callable[[], Awaitable[None]]) -> None:
        self.value = value
        self.terms = terms
        """The settings it was made with."""
        self._close = close
        self._users = 0

    def taken(self) -> Shared[T]:
        """One more user."""
        self._users += 1
        return self

    async def give_back(self) -> None:
        """One user fewer."""
        self._users -= 1
        if not self._users:
            await self._close()


@dataclass(slots=True, kw_only=True)
class Served:
    """A generation and everything that ends with it."""

    number: int
    loaded: Loaded
    generation: Generation
    site: Site
    doors: list[Door]
    resolver: Shared[CachingResolver]
    relay: Shared[Relay]
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @classmethod
    async def open(cls, runtime: Runtime, lasting: Lasting, loaded: Loaded, number: int, before: Served | None) -> Served:
        """Found, validated, built and started beside what serves now. ConfigError, PluginError; nothing is left of it then."""
        async with AsyncExitStack() as stack:
            config = loaded.config
            resolver = _resolver(config, before)
            stack.push_async_callback(resolver.give_back)
            relay = _relay(runtime, loaded, resolver, before)
            stack.push_async_callback(relay.give_back)
            contexts = PluginContexts(config, directory=loaded.directory, resolver=resolver.value, store=lasting.store)
            stack.push_async_callback(contexts.close)
            generation = await Generation.load(config, locate=loaded.locate, directory=loaded.directory, context_factory=contexts)
            stack.callback(generation.forget)
            durable, why = state_is_durable(runtime.state_directory, config.server.state)
            site = Site(
                config=config,
                generation=generation.id,
                relay=relay.value,
                delivery=Delivery(
                    quarantine=lasting.quarantine,
                    journal=lasting.journal,
                    ledger=lasting.ledger,
                    max_classes=config.limits.max_classes,
                ),
                journal=lasting.journal,
                spool=runtime.state_directory / "spool",
                directory=loaded.directory,
                connections=lasting.connections,
                storage_problem="" if durable else why,
            )
            stack.callback(site.books.settle)
            doors = [_door(site, one, generation.chain(one.name), loaded.directory) for one in config.listener]
            if before is not None and relay is not before.relay:
                await _learn(site)
            runtime.name_modules({**(before.generation.modules if before is not None else {}), **generation.modules})
            await generation.startup()
            stack.push_async_callback(generation.shutdown)
            return cls(
                number=number,
                loaded=loaded,
                generation=generation,
                site=site,
                doors=doors,
                resolver=resolver,
                relay=relay,
                _stack=stack.pop_all(),
            )

    async def vacated(self) -> None:
        """Returns when the last session has ended that came in before the swap."""
        while True:
            for door in self.doors:
                await door.vacated()
            await asyncio.sleep(GRACE)
            if not any(door.sessions for door in self.doors):
                return

    async def drain(self) -> None:
        """The gateway ends, or too many generations are older: sessions end after their transaction."""
        await asyncio.gather(*(door.drain() for door in self.doors))

    async def close(self) -> None:
        """Stop its plugins, give back what is shared."""
        await self._stack.aclose()


def _resolver(config: Config, before: Served | None) -> Shared[CachingResolver]:
    if before is not None and before.resolver.terms == config.dns:
        return before.resolver.taken()
    resolver = CachingResolver(config.dns)
    return Shared(resolver, config.dns, resolver.close).taken()


def _relay(runtime: Runtime, loaded: Loaded, resolver: Shared[CachingResolver], before: Served | None) -> Shared[Relay]:
    config = loaded.config
    terms = (config.route, config.relay, config.server.name, config.listens, resolver, *_link_files(loaded))
    if before is not None and before.relay.terms == terms:
        return before.relay.taken()
    try:
        relay = Relay(
            config.route,
            config.relay,
            server_name=config.server.name,
            inbox_address=runtime.inbox_address,
            resolver=resolver.value,
            listens=config.listens,
            directory=loaded.directory,
        )
    except ValueError as error:
        if before is None:
            raise
        file, line = loaded.locate(("route",))
        problem = ConfigProblem(file=file, line=line, key="route", found=str(error), allowed="a restart")
        raise ConfigError([problem]) from error
    return Shared(relay, terms, relay.close).taken()


def _link_files(loaded: Loaded) -> list[Any]:
    """Files that the links of the routes are set up with, as they are now: renewed ones mean new links."""
    names: list[str] = []
    for route in loaded.config.route:
        secret = "" if route.auth is None else route.auth.password_file
        names += [route.tls_ca, route.tls_certificate, route.tls_key, secret]
    return [(name, stamp(str(loaded.path(name)))) for name in names if name]


async def _learn(site: Site) -> None:
    """What the next hops offer is known before the first client asks; those that do not answer in time are asked later."""
    try:
        async with asyncio.timeout(LEARN_LIMIT):
            await site.relay.probe()
    except TimeoutError:
        return


def _door(site: Site, listener: ListenerConfig, chain: Chain, directory: Path) -> Door:
    try:
        return Door.open(site, listener, chain, directory=directory)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        problem = ConfigProblem(
            file="",
            line=None,
            key=f"listener.{listener.name}.tls",
            found=str(error),
            allowed="a readable PEM certificate and its key",
        )
        raise ConfigError([problem]) from error
