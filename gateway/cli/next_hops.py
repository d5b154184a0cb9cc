"""The way to the next hops for commands that send: the relay of the configuration, outside of a worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.config.load import Loaded
    from gateway.dns import CachingResolver
    from gateway.relay.pool import Relay


@asynccontextmanager
async def relay_of(loaded: Loaded) -> AsyncIterator[tuple[Relay, CachingResolver]]:
    """Relay and resolver of a configuration, closed afterwards."""
    from gateway.dns import CachingResolver
    from gateway.relay.pool import Relay

    resolver = CachingResolver(loaded.config.dns)
    relay = Relay(
        loaded.config.route,
        loaded.config.relay,
        server_name=loaded.config.server.name,
        inbox_address=_inbox_address(loaded),
        resolver=resolver,
        listens=loaded.config.listens,
        directory=loaded.directory,
    )
    try:
        yield relay, resolver
    finally:
        await relay.close()
        await resolver.close()


def _inbox_address(loaded: Loaded) -> tuple[str, int] | None:
    """Where the embedded development server of the gateway that was started last listens; None when none runs."""
    from gateway.server.directory import INBOX_FILE

    try:
        newest = max((loaded.state_directory / "run").glob(f"*/{INBOX_FILE}"), key=lambda file: file.stat().st_mtime)
        host, _, port = newest.read_text().strip().rpartition(":")
        return host, int(port)
    except (OSError, ValueError):
        return None
