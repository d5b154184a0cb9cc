"""A worker: one process that serves the listeners. Its composition is here; what surrounds it is in `process`."""

from __future__ import annotations

import asyncio
from typing import cast

from gateway.server.process import Assignment, Runtime, run_worker


def main(assignment: Assignment) -> int:
    """Run a worker to its end; the exit status."""
    return run_worker(assignment, serve)


async def serve(runtime: Runtime) -> None:
    """Answer every client with 421 until the gateway drains."""
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(lambda: _Closed(runtime.config.server.name), sock=sock) for sock in runtime.sockets.values()
    ]
    for route in runtime.config.route:
        runtime.slot.note_health(route.name, True)
    runtime.ready()
    await runtime.draining.wait()
    for server in servers:
        server.close()


class _Closed(asyncio.Protocol):
    def __init__(self, name: str) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast("asyncio.Transport", transport)
        stream.write(f"421 4.3.2 {self._name} closed\r\n".encode())
        stream.close()
