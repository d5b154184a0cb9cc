"""`/live`, `/ready`, `/services` and `/metrics` over HTTP (Starlette on uvicorn). Read only, bounded, on an address of its own."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gateway.admin.health import Health
from gateway.server.children import AdminTask
from gateway.server.slots import Counted

MAX_REQUESTS = 64
"""Requests at once; more get 503."""
_MAX_HEAD = 16_384


_RELOADS = {"done": Counted.RELOAD_DONE, "refused": Counted.RELOAD_REFUSED}
_ENDS = {"exited": Counted.EXITED, "killed": Counted.KILLED, "blocked": Counted.BLOCKED}


class _WorkerCollector(Collector):
    """What the slots tell, as metrics."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> list[Metric]:
        report = self._health.report()
        routes = GaugeMetricFamily("mailgateway_route_up", "1 when a next hop of the route answered lately.", labels=["route"])
        for route, up in report["routes"].items():
            routes.add_metric([route], float(up))
        return [
            GaugeMetricFamily("mailgateway_workers_up", "Workers whose loop turns.", value=report["workers_up"]),
            GaugeMetricFamily("mailgateway_workers", "Workers that are configured.", value=report["workers"]),
            GaugeMetricFamily(
                "mailgateway_generation", "Number of the configuration in force: 1 at the start.", value=report["generation"]
            ),
            GaugeMetricFamily("mailgateway_ready", "1 when /ready says so.", value=float(report["ready"])),
            routes,
            *self._counter("mailgateway_reloads", "Reloads: done, or refused, which changed nothing.", "result", _RELOADS),
            *self._counter("mailgateway_workers_ended", "Workers that ended unasked: exited, killed, blocked.", "reason", _ENDS),
        ]

    def _counter(self, name: str, text: str, label: str, values: Mapping[str, Counted]) -> list[CounterMetricFamily]:
        """What was never counted is not there."""
        counted = {value: self._health.slots.counted(what) for value, what in values.items()}
        if not any(counted.values()):
            return []
        family = CounterMetricFamily(name, text, labels=[label])
        for value, count in counted.items():
            if count:
                family.add_metric([value], count)
        return [family]


class ServiceRow(TypedDict):
    """A server that a plugin asks (a scanner, a milter, a policy server), in `/services`."""

    plugin: str
    server: str
    down: int
    """Workers to which it did not answer as it must, the last time that they asked."""
    resting: int
    """Workers that do not ask it for a while, because it failed several times in a row."""


def services_of(registry: CollectorRegistry) -> list[ServiceRow]:
    """By plugin and server."""
    found: dict[tuple[str, str], ServiceRow] = {}
    for family in registry.collect():
        for sample in family.samples:
            plugin, server = sample.labels.get("plugin", ""), sample.labels.get("server", "")
            row = ServiceRow(plugin=plugin, server=server, down=0, resting=0)
            if sample.name == "mailgateway_service_down":
                found.setdefault((plugin, server), row)["down"] = int(sample.value)
            elif sample.name == "mailgateway_service_resting":
                found.setdefault((plugin, server), row)["resting"] = int(sample.value)
    return [found[key] for key in sorted(found)]


def make_app(health: Health, metrics_directory: Path) -> Starlette:
    """The pages. The metrics are the sums over the files of all processes below `metrics_directory`."""

    async def live(_: Request) -> Response:
        return PlainTextResponse("alive\n") if health.live() else PlainTextResponse("not alive\n", status_code=503)

    async def ready(_: Request) -> Response:
        report = health.report()
        return JSONResponse(report, status_code=200 if report["ready"] else 503)

    def services(_: Request) -> Response:  # in a thread too
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(metrics_directory))  # type: ignore[no-untyped-call] # the library's own gap
        rows = services_of(registry)
        return JSONResponse({"services": rows}, status_code=200 if all(row["down"] == 0 for row in rows) else 503)

    def metrics(_: Request) -> Response:  # a plain function: Starlette runs it in a thread, it reads files
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(metrics_directory))  # type: ignore[no-untyped-call] # the library's own gap
        registry.register(_WorkerCollector(health))
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[
            Route("/live", live, methods=["GET"]),
            Route("/ready", ready, methods=["GET"]),
            Route("/services", services, methods=["GET"]),
            Route("/metrics", metrics, methods=["GET"]),
        ]
    )


def serve(task: AdminTask) -> int:
    """The life of the admin process; the supervisor ends it by a signal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    health = Health(slots=task.slots, supervisor=task.supervisor, state_warning=task.state_warning)
    settings = uvicorn.Config(
        make_app(health, task.metrics_directory),
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_REQUESTS,
        timeout_keep_alive=5,
        h11_max_incomplete_event_size=_MAX_HEAD,
    )
    uvicorn.Server(settings).run(sockets=[task.listening])
    return 0
