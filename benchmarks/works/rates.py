"""Messages and octets a second, and the CPU that they cost: smtp-source through each way."""

from __future__ import annotations

from benchmarks.results import DIRECT, HAPROXY, HARAKA, ONE, ONE_WITH_CORE, POSTFIX, TWO, TWO_WITH_CORE, if_built
from benchmarks.run import Run, Work
from benchmarks.ways import Load

ALL = (DIRECT, HAPROXY, POSTFIX, HARAKA, ONE, TWO, *if_built(ONE_WITH_CORE, TWO_WITH_CORE))


class Rate(Work):
    """A load of smtp-source."""

    def __init__(self, name: str, load: Load, ways: tuple[str, ...] = ALL, *, in_octets: bool = False) -> None:
        self.name = name
        self._load = load
        self._ways = ways
        self._in_octets = in_octets

    def round(self, run: Run) -> None:
        """Each way at its own pace."""
        load = Load(self._load.sessions, self._load.size, run.scaled(self._load.count), self._load.kept)
        for way in run.ways(self.name, *self._ways):
            used = run.use(self.name, way, load)
            if used is None:
                continue
            rate = used.count * (load.size / 1e6 if self._in_octets else 1) / used.seconds
            figures = {"rate": rate}
            if way.process is not None:
                figures |= {"cpu": 1000 * used.cpu / used.count}
            if way.name in {TWO, TWO_WITH_CORE}:
                figures |= {"busiest": used.busiest}
            run.results.note(self.name, way.name, **figures)


RATES = (
    Rate("kept", Load(20, 4096, 10_000, kept=True)),
    Rate("new", Load(20, 4096, 5_000, kept=False)),
    Rate("new100", Load(100, 4096, 5_000, kept=False)),
    Rate("large", Load(4, 5_000_000, 100, kept=True), in_octets=True),
)
