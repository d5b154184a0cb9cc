"""Reloads leave nothing behind: objects, modules, open files, threads and memory of a worker are flat. `make reloads`: 10,000 of them."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
import sys
import threading
import typing
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.config.load import load
from gateway.discovery import SITE
from gateway.server import served, worker
from gateway.server.process import Runtime
from gateway.server.slots import Slots
from gateway.server.watchdog import Watchdog

_LIBC = ctypes.CDLL(None)
RELOADS = int(os.environ.get("MAILGATEWAY_RELOADS", "120"))
WARMING = 30
POOL = 8
"""Threads that the loop's pool may have begun meanwhile: it grows to its size when two pieces of work happen to meet."""
CONFIG = """
plugins = ["dkim", "recipients", "rules", "site"]
plugin_path = ["plugins"]
rule_files = ["more.toml"]
[server]
state_directory = "var"
[[listener]]
name = "mx"
bind = "127.0.0.1:2525"
[[route]]
domains = ["example.org"]
servers = ["127.0.0.1:2526"]
[plugin.recipients]
known = { "example.org" = ["alice"] }
"""
PLUGIN = """
from gateway import Context, Label, Message, Plugin, PluginOptions, hook


class Options(PluginOptions):
    word: str = "%d"


class Site(Plugin[Options]):
    @hook
    async def startup(self, context: Context) -> None:
        context.spawn(self.wait(), name="wait")

    async def wait(self) -> None:
        import asyncio
        await asyncio.sleep(3600)

    @hook
    def check(self, message: Message) -> Label:
        return Label(name=self.options.word)
"""


def site_modules() -> set[str]:
    """Modules of a site's own plugins that are loaded."""
    return {name for name in sys.modules if name.startswith(f"{SITE}.site")}


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def rss() -> int:
    """Resident octets. What the C library keeps for later is given back first: reloads leave holes in it, which fill in time."""
    gc.collect()
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def census() -> Counter[str]:
    for forget in typing._cleanups:  # type: ignore[attr-defined] # it remembers the last 128 of what it was asked for
        forget()
    gc.collect()
    return Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())


@pytest.mark.timeout(max(300, RELOADS))
async def test_reloads_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "GRACE", 0.0)
    (tmp_path / "plugins").mkdir()
    site, rules = tmp_path / "plugins" / "site.py", tmp_path / "more.toml"
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)

    def write(number: int) -> None:
        site.write_text(PLUGIN % number)
        rules.write_text(f'[[rule]]\nname = "r{number % 7}"\nwhen = "message.size > {number}"\nthen = "accept"\n')

    others = site_modules()  # of tests that ran in this process before
    write(0)
    loaded = load(config, environ={}, needs_route=True)
    slots = Slots(1, ["default"])
    async with AsyncExitStack() as stack:
        state = loaded.state_directory
        state.mkdir()
        runtime = Runtime(
            loaded=loaded,
            config=loaded.config,
            slot=slots[0],
            sockets={},
            state_directory=state,
            inbox_address=None,
            seats=None,
            watchdog=Watchdog(slots[0]),
            modules_file=tmp_path / "modules.json",
        )
        one = await worker.Worker.open(runtime, stack)

        async def reload(number: int) -> None:
            write(number)
            before = one.served.generation.id
            one.swap(await one.prepare(load(config, environ={}, needs_route=True), number))
            assert one.served.generation.id != before
            async with asyncio.timeout(30):
                await asyncio.gather(*one._ends)

        for number in range(1, WARMING):
            await reload(number)
        before, files, threads = census(), open_files(), threading.active_count()
        for number in range(WARMING, WARMING + RELOADS // 2):
            await reload(number)
        memory = rss()
        for number in range(WARMING + RELOADS // 2, WARMING + RELOADS):
            await reload(number)
        grown_by = rss() - memory
        after = census()
        grown = {name: count for name, count in (after - before).items() if count > RELOADS // 2}  # caches fill slowly
        assert not grown
        assert open_files() <= files
        assert threading.active_count() <= threads + POOL
        each = grown_by / (RELOADS - RELOADS // 2)
        print(f"{RELOADS} reloads: {each:,.0f} octets of resident memory each in the second half")  # noqa: T201 - figures
        assert grown_by < 4_000_000 + 200 * RELOADS
        assert len(site_modules() - others) == 1
