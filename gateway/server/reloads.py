"""A worker's side of a reload: it hears from the supervisor what to prepare, and swaps when all workers are ready. `worker` does the work."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from gateway.errors import ConfigError, PluginError
from gateway.server.channel import Channel, read_configuration

if TYPE_CHECKING:
    from gateway.config.load import Loaded
    from gateway.server.process import Runtime
    from gateway.server.served import Served

log = structlog.get_logger("mailgateway.worker")
MAX_PROBLEMS = 50
"""Mistakes told of one configuration."""
MAX_TEXT = 1_000
MAX_FILES = 1_000


class Swapping(Protocol):
    """A worker, as far as reloads know it."""

    served: Served

    async def prepare(self, loaded: Loaded, number: int) -> Served:
        """The next generation, beside this one."""
        ...

    def swap(self, served: Served) -> None:
        """From here on, new sessions get it."""
        ...


class Reloads:
    """Follows the supervisor's word for the life of a worker."""

    def __init__(self, runtime: Runtime, worker: Swapping) -> None:
        self._runtime = runtime
        self._worker = worker
        self._prepared: Served | None = None

    async def follow(self) -> None:
        """Until it is cancelled, or the supervisor is gone."""
        if self._runtime.channel is None:
            return
        channel = Channel(self._runtime.channel)
        loop = asyncio.get_running_loop()
        heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        def read() -> None:
            for line in channel.heard():
                heard.put_nowait(line)
            if channel.is_over:
                loop.remove_reader(channel.end)

        self._runtime.slot.generation = self._worker.served.number
        self._tell(channel, "serves", self._worker.served)
        loop.add_reader(channel.end, read)
        try:
            while True:
                await self._obey(channel, await heard.get())
        finally:
            loop.remove_reader(channel.end)
            await self._drop()

    async def _obey(self, channel: Channel, line: dict[str, Any]) -> None:
        number = int(line["number"])
        match line["what"]:
            case "prepare":
                await self._drop()
                await self._prepare(channel, number)
            case "commit":
                if self._prepared is not None and self._prepared.number == number:
                    served, self._prepared = self._prepared, None
                    self._runtime.slot.follow(line["routes"])
                    self._worker.swap(served)
                    self._tell(channel, "serves", served)
            case _:
                await self._drop()

    async def _prepare(self, channel: Channel, number: int) -> None:
        file = channel.take_file()
        if file is None:
            return
        with file:
            loaded = read_configuration(file)
        try:
            self._prepared = await self._worker.prepare(loaded, number)
        except ConfigError as error:
            problems = [str(problem)[:MAX_TEXT] for problem in error.problems[:MAX_PROBLEMS]]
            channel.say("failed", number=number, problems=problems)
        except PluginError as error:
            channel.say("failed", number=number, problems=[str(error)[:MAX_TEXT]])
        except Exception as error:  # a new generation must not cost the one that serves
            log.exception("reload.failed", number=number)
            channel.say("failed", number=number, problems=[repr(error)[:MAX_TEXT]])
        else:
            self._tell(channel, "prepared", self._prepared)

    def _tell(self, channel: Channel, what: str, served: Served) -> None:
        generation = served.generation
        channel.say(what, number=served.number, generation=generation.id, files=list(generation.files)[:MAX_FILES])

    async def _drop(self) -> None:
        """A generation that was prepared and is not wanted."""
        served, self._prepared = self._prepared, None
        if served is not None:
            await served.close()
