"""A plugin in a process of its own, in a test: the same code, run the other way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.context import Context
from gateway.discovery import Origin, choose, entry_points
from gateway.isolation.proxy import IsolatedPlugin, isolate
from gateway.isolation.start import Start
from gateway.testing.context import FakeContext


@asynccontextmanager
async def isolated(
    plugin: str | Path,
    options: Mapping[str, Any] | None = None,
    *,
    context: Context | None = None,
    name: str = "",
    memory: int = 500_000_000,
    timeout: float = 10.0,
) -> AsyncIterator[IsolatedPlugin]:
    """A bundled plugin by name, `package.module:Class`, or a file, to hand to `run_plugin` and `run_chain`; its process ends with the block.

    `options` as they would stand in the configuration. ConfigError for what is wrong with it.

    Examples:
        >>> async with isolated("recipients", {"known": {"example.org": ["alice"]}}) as recipients:
        ...     result = await run_plugin(recipients, transaction=a_transaction(recipients=["bob@example.org"]))
        >>> result.verdict.code
        550
    """
    surroundings = FakeContext() if context is None else context
    start = _start(plugin, dict(options or {}), surroundings, name=name, memory=memory, timeout=timeout)
    kind = await asyncio.to_thread(isolate, start, lambda key: (".".join(map(str, key)), None))
    made = kind(name=start.name, context=surroundings)
    made.hook_limit = timeout
    made.connect_to(start)
    try:
        yield made
    finally:
        await made.remote.close()


def _start(
    plugin: str | Path, options: dict[str, Any], surroundings: Context, *, name: str, memory: int, timeout: float
) -> Start:
    if isinstance(plugin, Path):
        origin = Origin(name=plugin.stem, target=str(plugin.absolute()), is_file=True)
    else:
        origin = choose(plugin, entry_points())
    return Start(
        name=name or origin.name.rpartition(":")[2].lower(),
        origin=origin,
        key=("plugin", origin.name),
        options=options,
        memory=memory,
        timeout=timeout,
        source=plugin.read_bytes() if isinstance(plugin, Path) else None,
        surroundings={
            "server_name": surroundings.server_name,
            "authserv_id": surroundings.authserv_id,
            "limits": dict(surroundings.limits),
            "base_directory": str(Path(surroundings.base_directory).absolute()),
            "state_directory": str(Path(surroundings.state_directory).absolute()),
        },
    )
