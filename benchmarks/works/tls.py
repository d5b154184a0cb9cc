"""TLS on both sides. smtp-source and smtp-sink have none, so haproxy wraps them: source, wrapper, way, wrapper, sink. Not counted for any way."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks import haproxy
from benchmarks.results import DIRECT, HAPROXY, ONE, ONE_WITH_CORE, TWO, TWO_WITH_CORE, WORKERS, if_built
from benchmarks.run import Run, Work
from benchmarks.ways import Load, Way, gateway, wait_for


class Tls(Work):
    """4 KB, kept connections, TLS from the first octet on either side of the way; without a way one TLS connection is left."""

    name = "tls"

    def __init__(self) -> None:
        self._pem: tuple[Path, Path] | None = None
        self._sink = 0

    def round(self, run: Run) -> None:
        """Through each way."""
        load = Load(20, 4096, run.scaled(8_000), kept=True)
        names = (DIRECT, HAPROXY, ONE, TWO, *if_built(ONE_WITH_CORE, TWO_WITH_CORE))
        turned = run.turn % len(names)
        for name in (*names[turned:], *names[:turned]):
            way = run.way(self.name, name, partial(self._start, run, name), key=f"{self.name}, {name}")
            used = run.use(self.name, way, load) if way else None
            if way is None or used is None:
                continue
            figures = {"rate": used.count / used.seconds}
            if way.process is not None:
                figures["cpu"] = 1000 * used.cpu / used.count
            run.results.note(self.name, name, **figures)

    def _start(self, run: Run, name: str) -> Way:
        if self._pem is None:
            self._pem = haproxy.certificate(run.folder)
            self._sink = haproxy.wrapped_sink(run.stack, run.folder, run.sink, self._pem[0])
        pem, key = self._pem
        if name == DIRECT:
            way = Way(name, self._sink)
        elif name == HAPROXY:
            way = haproxy.tls_proxy(run.stack, run.folder, self._sink, pem, name=name)
        else:
            listener = f'tls = {{ certificate = "{pem}", key = "{key}", implicit = true }}'
            start = partial(gateway, listener=listener, scheme="smtps://")
            way = start(run.stack, run.folder, self._sink, name=name, workers=WORKERS[name])
        found = haproxy.wrapped(run.stack, run.folder, way)
        wait_for(found.port)
        return found
