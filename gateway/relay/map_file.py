"""The route map of a worker: read again when its file changes; one with a mistake leaves the one before in force. RFC 5321 3.6."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

import structlog

from gateway.config.route_map import MapError, RouteMap, read_map

LOOK_AGAIN = 1.0
"""Seconds between two looks at the file's time of change."""

log = structlog.get_logger("mailgateway.relay")

Stamp = tuple[int, int, int]


class MapFile:
    """A map and the file it comes from."""

    def __init__(self, path: Path, routes: Collection[str]) -> None:
        """`routes`: names that may be targets. MapError when the file cannot be used."""
        self.path = path
        self._routes = frozenset(routes)
        self._stamp = self._changed()
        self._map: RouteMap = read_map(path, self._routes)
        self._looked = 0.0
        self.reading: asyncio.Task[None] | None = None
        """Under way while the file is read again."""

    def target(self, local_part: str, domain: str) -> str | None:
        """The route or server of a recipient, None when the map has none. Looks at the file now and then."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now - self._looked >= LOOK_AGAIN and self.reading is None:
            self._looked = now
            if self._changed() != self._stamp:
                self.reading = loop.create_task(self._read_again(), name=f"route map {self.path}")
        return self._map.target(local_part, domain)

    async def _read_again(self) -> None:
        """Off the loop; meanwhile the map before holds."""
        stamp = self._changed()
        try:
            self._map = await asyncio.to_thread(read_map, self.path, self._routes)
            log.info("route_map.reloaded", file=str(self.path), entries=len(self._map))
        except MapError as error:
            log.error("route_map.unusable", problem=str(error), kept="the map before")  # noqa: TRY400 - a mistake in a file
        finally:
            self._stamp = stamp  # as seen, so that one broken version is told of once
            self.reading = None

    def _changed(self) -> Stamp | None:
        try:
            facts = self.path.stat()
        except OSError:
            return None
        return facts.st_mtime_ns, facts.st_ino, facts.st_size
