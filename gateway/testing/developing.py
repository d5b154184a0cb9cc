"""A gateway that is developed against: it follows its files, tells of every decision, and writes sessions down. `mailgateway dev`.

A change of configuration, plugin, rules, zone or script makes a new gateway beside the one that runs; sessions under way end on theirs, and
a mistake changes nothing and is told.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gateway.config.load import Loaded, load
from gateway.config.models import Config, RouteConfig
from gateway.dns import CachingResolver
from gateway.dns.demo import ZONES as DEMO
from gateway.dns.zone_file import ZoneFileError, read_zone
from gateway.dns.zones import Zones
from gateway.errors import ConfigError, GatewayError, PluginError
from gateway.server.facts import facts_of
from gateway.server.watch import Watch, watched_files
from gateway.smtp.origin import Origin
from gateway.smtp.site import Door
from gateway.testing.in_process import InProcessGateway, MemoryJournal
from gateway.testing.noted_dns import NotedResolver
from gateway.testing.recorded import Surroundings, dialogue_text, pytest_text
from gateway.testing.rehearsal import ASSUMED_TLS, NextHops, PosedOrigin, without_sockets
from gateway.testing.script import Script, ScriptError, read_script
from gateway.testing.taped import Taped, Tapes, taped_protocol
from gateway.testing.zone import ZoneResolver
from gateway.trace import Record

LOOK_EVERY = 0.4
"""Seconds between two looks at the files."""
LAST_SESSIONS = 600.0
"""Seconds that sessions of a gateway before a change may take."""
END_LIMIT = 10.0
"""Seconds that recordings get to be written at the end."""
PLAY_LIMIT = 60.0
"""Seconds that playing a recorded session back may take."""
SETTLED = {"max_messages": 1, "idle_limit": 0.05}
"""Of `[relay]`: links are for one message, so that no session depends on the one before it."""
ROUTE = ("[[route]]", 'domains = ["example.test"]', 'servers = ["127.0.0.1:25"]')
"""What a configuration gets that has no route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `mailgateway dev` was told."""

    file: Path | None
    script: Script
    script_file: Path | None = None
    """Read again when it changes; its lines are among those of `script` at the start."""
    zones: tuple[str, ...] = ()
    client: str = ""
    is_tls: bool = False
    record: Path | None = None
    as_pytest: bool = False
    print: Callable[[Any], None] = print


class Development:
    """The gateway that runs, and those before it that still have sessions."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self._settings = settings
        self._directory = directory
        self._tapes = Tapes(began=self._began, finished=self._finished, pose=self._pose)
        self._stack = AsyncExitStack()
        self._number = 0
        self._gateway: InProcessGateway
        self._noted: NotedResolver
        self._loaded: Loaded
        self._keywords: tuple[str, ...] = ()
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch = Watch(LOOK_EVERY)
        self._is_due = False
        self._is_ending = False

    @property
    def domain(self) -> str:
        """One that strangers may write to."""
        domains = [one for route in self._gateway.config.route for one in route.domains if "*" not in one]
        return domains[0] if domains else "example.test"

    async def __aenter__(self) -> Self:
        self._stack.push_async_callback(self._end)
        self._gateway = await self._open()
        self._watch.settle(self._files())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def _end(self) -> None:
        self._is_ending = True
        self._tapes.finish_all()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=END_LIMIT)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._number and hasattr(self, "_gateway"):
            await self._gateway.__aexit__(None, None, None)

    def protocols(self, listener: str) -> Callable[[], asyncio.BaseProtocol]:
        """For a listening socket: each connection is for the gateway that runs then."""
        return lambda: taped_protocol(self._gateway.door(listener), self._tapes)

    def _pose(self, port: int) -> Origin | None:
        settings = self._settings
        if not settings.client and not settings.is_tls:
            return None
        return PosedOrigin(address=settings.client or "127.0.0.1", port=port, tls=ASSUMED_TLS if settings.is_tls else None)

    # --- one gateway

    async def _open(self) -> InProcessGateway:
        """The configuration as it is now. ConfigError and its like: nothing has changed."""
        settings = self._settings
        loaded = load(settings.file, environ=os.environ)
        config = without_sockets(with_route(loaded.config))
        config = config.model_copy(update={"relay": config.relay.model_copy(update=SETTLED)})
        script = (
            settings.script
            if settings.script_file is None or not self._number
            else read_script(settings.script_file) + settings.script
        )
        noted = NotedResolver(dns_of(config, settings.zones, tells=not self._number))
        directory = Path(tempfile.mkdtemp(dir=self._directory))
        stack = AsyncExitStack()
        try:
            stack.push_async_callback(noted.close)
            hops = await stack.enter_async_context(NextHops(config, script, overhear=self._tapes.overhear))
            gateway = InProcessGateway(
                config,
                directory=directory,
                base=loaded.directory,
                locate=loaded.locate,
                resolver=noted,
                relay=hops.relay,
                journal=MemoryJournal(self._decided, keep=False),
                accept=_no_socket,
                logs_transactions=False,
            )
            await gateway.__aenter__()
        except BaseException:
            await stack.aclose()
            raise
        gateway.closes_with(stack)
        self._number += 1
        self._noted, self._loaded, self._keywords = noted, loaded, hops.keywords
        return gateway

    async def reload(self) -> None:
        """A new gateway, or why there is none."""
        before = self._gateway
        try:
            after = await self._open()
            missing = {one.name for one in before.config.listener} - {one.name for one in after.config.listener}
            if missing:
                await after.__aexit__(None, None, None)
                self._say(f"not reloaded: the listener {min(missing)!r} is gone, which needs a restart")
                return
        except ConfigError as error:
            self._say("not reloaded, what ran before goes on:\n" + "\n".join(f"  {problem}" for problem in error.problems))
            return
        except (PluginError, ScriptError, ZoneFileError, OSError) as error:
            self._say(f"not reloaded, what ran before goes on: {error}")
            return
        self._gateway = after
        self._say(f"reloaded: {len(after.config.plugins)} plugin(s)")
        self._in_background(self._wind_down(before))

    async def _wind_down(self, gateway: InProcessGateway) -> None:
        """Its sessions end in their own time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SESSIONS):
                while gateway.has_sessions and not self._is_ending:  # noqa: ASYNC110 - see `InProcessGateway.quiet`
                    await asyncio.sleep(LOOK_EVERY)
        await gateway.__aexit__(None, None, None)

    def reload_soon(self) -> None:
        """As if a file had changed."""
        self._is_due = True

    async def watch(self) -> None:
        """Look at the files for ever, and follow them."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self._watch.changed(self._files()) or self._is_due:
                self._is_due = False
                await self.reload()
                self._watch.add(self._files())

    def _files(self) -> list[str]:
        settings = self._settings
        also = [*self._gateway.plugin_files, *(one.rpartition("=")[2] for one in settings.zones)]
        also += [str(settings.script_file)] if settings.script_file is not None else []
        return watched_files(facts_of(self._loaded), also)

    def _in_background(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- what is told

    def _say(self, text: str) -> None:
        self._settings.print(text)

    def _decided(self, record: Record) -> None:
        from gateway.cli.tree import render

        self._tapes.record(record)
        self._settings.print(render(record))

    def _began(self, is_alone: bool) -> None:
        if is_alone:
            self._noted.forget()

    def _finished(self, taped: Taped) -> None:
        settings = self._settings
        if settings.record is None or settings.file is None or taped.session is None:
            return
        if not any(line.who == "C" for line in taped.tape.lines) and not taped.tape.problem:
            return  # a probe that only connects
        if taped.tape.problem:
            self._say(f"session {taped.session.id} is not recorded: {taped.tape.problem}")
            return
        self._in_background(self._write(taped, settings.record, settings.file, taped.session.id))

    async def _write(self, taped: Taped, directory: Path, config_file: Path, name: str) -> None:
        """Write the session, and play it back to see that the file does as it says."""
        from gateway.testing.sessions import play_session

        settings = self._settings
        around = Surroundings(
            title=_title(taped, name),
            config_file=_relative(config_file, directory),
            more_config=() if self._loaded.config.route else ROUTE,
            client=settings.client,
            is_tls=settings.is_tls,
            listener=taped.listener,
            keywords=self._keywords,
            zones=self._noted.zones(),
            records=tuple(taped.records),
            is_hung_up=taped.is_hung_up,
        )
        text = dialogue_text(taped.tape, around)
        shown = name.lower()
        file = directory / (f"test_{shown}.py" if settings.as_pytest else f"{shown}.smtp")
        try:
            file.write_text(pytest_text(taped.tape, around, name=shown) if settings.as_pytest else text, encoding="utf-8")
        except OSError as error:
            self._say(f"session {name} is not recorded: {file}: {error.strerror}")
            return
        try:
            async with asyncio.timeout(PLAY_LIMIT):
                await play_session(file, text=text)
        except (AssertionError, GatewayError, OSError, TimeoutError) as error:
            self._say(f"session {name} is recorded as {file}, and does not play as it stands: {error}")
        else:
            self._say(f"session {name} is recorded as {file}, and plays")


def _relative(file: Path, folder: Path) -> str:
    return os.path.relpath(file.absolute(), folder.absolute())


def _title(taped: Taped, name: str) -> str:
    if not taped.records:
        return f"Session {name}"
    last = taped.records[-1]
    by = f" by {last['plugin']}" if last["plugin"] else ""
    return f"Session {name}: {last['verdict'] or 'no verdict'}{by}"


def with_route(config: Config) -> Config:
    """The configuration, with a route for example.test where it has none: nothing is delivered anyway."""
    if config.route:
        return config
    return config.model_copy(update={"route": (RouteConfig(domains=("example.test",), servers=("127.0.0.1:25",)),)})


def dns_of(config: Config, zones: tuple[str, ...], *, tells: bool = True) -> CachingResolver | ZoneResolver:
    """DNS as configured, or nothing but these zone files and `[dns.zones]`. ZoneFileError."""
    if not zones:
        return CachingResolver(config.dns)
    found = {**(DEMO if config.dns.demo else {}), **config.dns.zones}
    for one in zones:
        origin, _, name = one.rpartition("=")
        records, passed_over = read_zone(Path(name), origin)
        for skipped in passed_over[:5] if tells else ():
            print(f"{name}: {skipped} is passed over: the gateway never asks for that", file=sys.stderr)  # noqa: T201 - to the person at the terminal
        found |= records
    return ZoneResolver(Zones(found))


async def _no_socket(_: Door) -> None:
    """The sockets stay, whatever is reloaded."""
